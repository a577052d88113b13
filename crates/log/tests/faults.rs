//! A disk that is going bad: reads, writes, cuts, syncs, opens and renames that fail or do half of what they should, at random.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use pinmill_log::sim::{Faults, PowerLoss, SimDisk};
use pinmill_log::{Error, Health, Log, LogConfig, verify_on};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::*;

fn config() -> LogConfig {
    LogConfig { retention_bytes: Some(3_000), ..small(1_500) }
}

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    /// Acknowledged values by offset.
    values: BTreeMap<u64, String>,
    /// Values of appends of which it is unknown whether they were stored.
    unknown: Vec<String>,
    position: u64,
    number: usize,
}

/// A disk that fails in a way of its own.
fn faults(dice: &mut StdRng) -> Faults {
    let mut rate = |most: u16| if dice.random_range(0..3) == 0 { 0 } else { dice.random_range(0..=most) };
    Faults {
        short: rate(300),
        reads: rate(20),
        writes: rate(30),
        full: rate(30),
        syncs: rate(10),
        names: rate(20),
        seed: dice.random(),
    }
}

/// Opens the log, however often the disk has to be asked; without faults it must open.
fn open_in_the_end(disk: &SimDisk, faults: Faults) -> Log {
    disk.set_faults(Some(faults));
    for _ in 0..3 {
        match open(disk, &config()) {
            Ok((log, _)) => return log,
            Err(Error::Corrupt { file, position, what }) => {
                panic!("a fault was taken for damage: {} at {position}: {what}", file.display())
            }
            Err(_) => {}
        }
    }
    disk.set_faults(None);
    let (log, _) = open(disk, &config()).unwrap();
    disk.set_faults(Some(faults));
    log
}

/// Appends, reads, commits positions and retains, until the log takes nothing more.
fn live(log: &Log, told: &mut Told, dice: &mut StdRng) {
    for _ in 0..dice.random_range(1..60) {
        match dice.random_range(0..10) {
            0 => read_some(log, told, dice),
            1 => {
                let next = log.offsets(TOPIC, 0).unwrap().end;
                if wait(log.commit_position("archive", TOPIC, 0, next)).is_ok() {
                    told.position = next;
                }
            }
            2 => drop(log.apply_retention()),
            _ => append_some(log, told, dice),
        }
        if matches!(log.health(), Health::Poisoned { .. }) {
            let refused = append(log, &["after a failed sync".to_owned()]);
            assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
            return;
        }
    }
}

fn append_some(log: &Log, told: &mut Told, dice: &mut StdRng) {
    let count = dice.random_range(1..4);
    let values: Vec<String> = (0..count)
        .map(|n| format!("{}/{n} {}", told.number, "x".repeat(dice.random_range(0..200))))
        .collect();
    told.number += 1;
    match append(log, &values) {
        Ok(base) => {
            for (offset, value) in (base..).zip(values) {
                assert_eq!(told.values.insert(offset, value), None, "offset {offset} was given twice");
            }
        }
        // Nothing was stored, it says.
        Err(error) if error.is_retriable() => {}
        Err(_) => told.unknown.extend(values),
    }
}

fn read_some(log: &Log, told: &Told, dice: &mut StdRng) {
    let range = log.offsets(TOPIC, 0).unwrap();
    let from = dice.random_range(range.beginning..=range.end);
    // A fault is an error. It is never another record.
    let Ok(records) = log.read(TOPIC, 0, from, 2_000) else { return };
    for record in records {
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        match told.values.get(&record.offset) {
            Some(acknowledged) => assert_eq!(*acknowledged, value, "offset {}", record.offset),
            None => assert!(told.unknown.contains(&value), "{value} was refused"),
        }
    }
}

/// On a disk that works again.
fn check(disk: &SimDisk, told: &Told, what: &str) {
    let (log, _) = open(disk, &config()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = read_all(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
    let beginning = log.offsets(TOPIC, 0).unwrap().beginning;
    assert!(beginning <= told.position.max(log.position("archive", TOPIC, 0).unwrap().unwrap_or_default()));
    for (offset, value) in told.values.range(beginning..) {
        assert_eq!(found.get(offset), Some(value), "{what}: acknowledged offset {offset}");
    }
    for (offset, value) in found.iter().filter(|(offset, _)| !told.values.contains_key(offset)) {
        assert!(told.unknown.contains(value), "{what}: offset {offset} holds {value}, which was refused");
    }
    log.close().unwrap();
    drop(log);
    let report = verify_on(disk, DIR).unwrap();
    assert!(report.problems.is_empty(), "{what}: {:?}", report.problems);
}

#[test]
fn a_disk_that_fails_at_random_loses_nothing_that_was_acknowledged() {
    let mut dice = StdRng::seed_from_u64(pinmill_testkit::seed());
    let disks = pinmill_testkit::count("PINMILL_FAULTS", 60);
    let mut met = 0;
    for number in 0..disks {
        let mut disk = SimDisk::new();
        let (log, _) = open(&disk, &config()).unwrap();
        log.create_topic(TOPIC, 1).unwrap();
        wait(log.commit_position("archive", TOPIC, 0, 0)).unwrap();
        log.close().unwrap();
        drop(log);
        let mut told = Told::default();
        for life in 0..8 {
            let faults = faults(&mut dice);
            let log = open_in_the_end(&disk, faults);
            live(&log, &mut told, &mut dice);
            let close = dice.random_range(0..3) == 0;
            let _ = if close { log.close() } else { Ok(()) };
            drop(log);
            met += disk.faults_met();
            disk = match dice.random_range(0..2) {
                0 => disk.after_kill(),
                _ => disk.restart(PowerLoss::Random(dice.random())),
            };
            // What was unknown is settled now; what is acknowledged from here on stands behind it.
            let what = format!("disk {number}, life {life}, {faults:?}");
            check(&disk, &told, &what);
            disk = disk.after_kill();
            settle(&disk, &mut told);
        }
    }
    assert!(met > 0, "no fault was met");
}

#[test]
fn a_roll_that_fails_anywhere_leaves_a_log_that_opens() {
    let mut dice = StdRng::seed_from_u64(pinmill_testkit::seed());
    let mut met = 0;
    for number in 0..pinmill_testkit::count("PINMILL_ROLLS", 3_000) {
        let disk = SimDisk::new();
        let (log, _) = open(&disk, &config()).unwrap();
        log.create_topic(TOPIC, 1).unwrap();
        let mut told = Told::default();
        for _ in 0..6 {
            append_some(&log, &mut told, &mut dice);
        }
        // The next one does not fit.
        let faults = Faults { writes: 500, full: 100, names: 250, seed: dice.random(), ..Faults::default() };
        disk.set_faults(Some(faults));
        let large = "x".repeat(1_400);
        match append(&log, std::slice::from_ref(&large)) {
            Ok(_) => {}
            // Nothing was stored, it says.
            Err(error) if error.is_retriable() => {}
            Err(Error::Poisoned { .. }) => told.unknown.push(large),
            Err(error) => panic!("log {number}, {faults:?}: {error}"),
        }
        met += disk.faults_met();
        disk.set_faults(None);
        // What is small fits, and moves the place of the next roll.
        told.values.extend(read_all(&log).unwrap());
        for _ in 0..dice.random_range(0..3) * 3 {
            append_some(&log, &mut told, &mut dice);
        }
        // A log that is poisoned does not close in good order.
        let _ = if dice.random() { log.close() } else { Ok(()) };
        drop(log);
        let disk = match dice.random_range(0..2) {
            0 => disk.after_kill(),
            _ => disk.restart(PowerLoss::Random(dice.random())),
        };
        check(&disk, &told, &format!("log {number}, {faults:?}"));
    }
    assert!(met > 0, "no fault was met");
}

#[test]
fn a_write_that_failed_does_not_come_back_behind_a_clean_close() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config()).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    let mut told = Told::default();
    told.values.insert(append(&log, &["kept".to_owned()]).unwrap(), "kept".to_owned());
    // Some writes fail, and leave nothing, a part, or all.
    disk.set_faults(Some(Faults { writes: 500, short: 500, seed: 7, ..Faults::default() }));
    let refused =
        (0..50).any(|_| append(&log, &["refused".to_owned()]).is_err_and(|error| error.is_retriable()));
    disk.set_faults(None);
    assert!(refused);
    told.values.extend(read_all(&log).unwrap());
    log.close().unwrap();
    drop(log);
    check(&disk.restart(PowerLoss::UndoCuts), &told, "cuts undone");
}

/// Takes note of what an append has stored that did not say so.
fn settle(disk: &SimDisk, told: &mut Told) {
    let (log, _) = open(&disk.after_kill(), &config()).unwrap();
    for (offset, value) in read_all(&log).unwrap() {
        told.values.entry(offset).or_insert(value);
    }
    told.unknown.clear();
}
