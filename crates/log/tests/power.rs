//! Power losses, kills and failing flushes at every step, on a simulated disk: what was acknowledged is always there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use pinmill_log::sim::{PowerLoss, SimDisk};
use pinmill_log::{Error, Health, Log, LogConfig, OffsetRange};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::*;

/// What callers were told, and may therefore rely on.
#[derive(Debug, Default)]
struct Told {
    topic: bool,
    partitions: u32,
    values: BTreeMap<u64, String>,
    /// Values that were given to an append that did not answer `Ok`.
    unknown: Vec<Vec<String>>,
    position: Option<u64>,
    /// The beginning that retention was told to have reached, at most.
    retained: bool,
}

fn config() -> LogConfig {
    LogConfig { retention_bytes: Some(600), ..small(700) }
}

/// Opens the log, makes topics, appends over several segments, commits positions, retains, closes; stops at the first
/// error, which is returned.
fn life(disk: &SimDisk, told: &mut Told) -> Result<(), Error> {
    let (log, _) = open(disk, &config())?;
    match log.create_topic(TOPIC, 1) {
        Err(Error::TopicExists(_)) => {}
        created => drop(created?),
    }
    (told.topic, told.partitions) = (true, told.partitions.max(1));
    append_all(&log, told, 14)?;
    log.add_partitions(TOPIC, 2)?;
    told.partitions = 2;
    let end = log.offsets(TOPIC, 0)?.end;
    wait(log.commit_position("archive", TOPIC, 0, end / 2))?;
    told.position = Some(end / 2);
    told.retained = true;
    log.apply_retention()?;
    append_all(&log, told, 6)?;
    log.close()
}

fn append_all(log: &Log, told: &mut Told, count: usize) -> Result<(), Error> {
    for values in appends(count) {
        told.unknown.push(values.clone());
        let base = append(log, &values)?;
        told.unknown.pop();
        told.values.extend((base..).zip(values));
    }
    Ok(())
}

/// Opens the log again and compares it with what callers were told.
fn check(disk: &SimDisk, told: &Told, what: &str) -> Log {
    let (log, _) = open(disk, &config()).unwrap_or_else(|error| panic!("{what}: {error}"));
    if !told.topic {
        return log;
    }
    assert!(log.topic(TOPIC).unwrap().partitions >= told.partitions, "{what}");
    let OffsetRange { beginning, .. } = log.offsets(TOPIC, 0).unwrap();
    assert!(
        beginning == 0 || told.retained && beginning <= told.position.unwrap(),
        "{what}: from {beginning}"
    );
    let found = read_all(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (offset, value) in told.values.range(beginning..) {
        assert_eq!(found.get(offset), Some(value), "{what}: acknowledged offset {offset}");
    }
    let extra: Vec<_> = found.iter().filter(|(offset, _)| !told.values.contains_key(offset)).collect();
    let may_be_there =
        told.unknown.iter().any(|unknown| unknown.iter().eq(extra.iter().map(|(_, value)| *value)));
    assert!(extra.is_empty() || may_be_there, "{what}: {extra:?} was never appended");
    let position = log.position("archive", TOPIC, 0).unwrap();
    if told.position.is_some() {
        assert_eq!(position, told.position, "{what}");
    }
    log
}

/// Steps of one whole life.
fn steps() -> u64 {
    let mut n = 100;
    loop {
        let disk = SimDisk::new();
        disk.switch_off_at(n);
        if life(&disk, &mut Told::default()).is_ok() && !disk.is_off() {
            return n;
        }
        n += 50;
    }
}

#[test]
fn no_power_loss_at_any_step_loses_what_was_acknowledged() {
    let seed = pinmill_testkit::seed();
    for step in 1..=steps() {
        let disk = SimDisk::new();
        disk.switch_off_at(step);
        let mut told = Told::default();
        let _ = life(&disk, &mut told);
        let losses =
            [PowerLoss::LoseAll, PowerLoss::Random(seed ^ step), PowerLoss::Random(seed ^ (step << 20))];
        for loss in losses {
            check(&disk.restart(loss), &told, &format!("step {step}, {loss:?}"));
        }
        check(&disk.after_kill(), &told, &format!("step {step}, killed"));
    }
}

#[test]
fn a_log_that_dies_again_and_again_while_it_recovers_comes_back() {
    let seed = pinmill_testkit::seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let steps = steps();
    let mut nested = 0;
    while nested < 200 {
        let mut disk = SimDisk::new();
        disk.switch_off_at(dice.random_range(1..=steps));
        let mut told = Told::default();
        let _ = life(&disk, &mut told);
        let die = |disk: &SimDisk, dice: &mut StdRng| match dice.random_range(0..3) {
            0 => disk.after_kill(),
            1 => disk.restart(PowerLoss::LoseAll),
            _ => disk.restart(PowerLoss::Random(dice.random())),
        };
        disk = die(&disk, &mut dice);
        // Die at each step of the recovery in turn, until one comes to its end.
        for step in 1.. {
            disk.switch_off_at(step);
            let opened = open(&disk, &config());
            let died = disk.is_off();
            drop(opened);
            disk = die(&disk, &mut dice);
            if !died {
                break;
            }
            nested += 1;
        }
        let log = check(&disk, &told, &format!("seed {seed}, nested {nested}"));
        drop(log);
    }
}

#[test]
fn a_failed_flush_at_any_place_stops_all_writes_until_a_restart() {
    let syncs = {
        let disk = SimDisk::new();
        life(&disk, &mut Told::default()).unwrap();
        disk.syncs()
    };
    let mut poisoned = 0;
    for n in 1..=syncs {
        let disk = SimDisk::new();
        disk.fail_sync(n);
        let mut told = Told::default();
        match life(&disk, &mut told) {
            Err(Error::Poisoned { reason }) => {
                assert!(reason.contains(DIR), "{reason}");
                poisoned += 1;
            }
            // Opening and the note of a clean shutdown fail as such: nothing is acknowledged there.
            Err(Error::Io { .. }) => {}
            other => panic!("sync {n} failed and the log said {other:?}"),
        }
        check(&disk.after_kill(), &told, &format!("sync {n}, killed"));
        check(&disk.restart(PowerLoss::LoseAll), &told, &format!("sync {n}, power lost"));
    }
    assert!(poisoned > syncs / 2, "{poisoned} of {syncs}");
}

#[test]
fn a_poisoned_log_acknowledges_nothing_and_still_reads() {
    let disk = filled(&config(), &appends(3), false);
    let (log, _) = open(&disk, &config()).unwrap();
    disk.fail_sync(1);
    for _ in 0..3 {
        assert!(matches!(append(&log, &["x".to_owned()]), Err(Error::Poisoned { .. })));
        assert!(matches!(log.create_topic("other", 1), Err(Error::Poisoned { .. })));
    }
    assert!(matches!(log.health(), Health::Poisoned { .. }));
    assert_eq!(read_all(&log).unwrap(), expected(&appends(3)));
    assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
    drop(log);
    let (log, _) = open(&disk.after_kill(), &config()).unwrap();
    append(&log, &["again".to_owned()]).unwrap();
}

#[test]
fn pages_that_a_failed_flush_dropped_are_written_again_by_recovery() {
    let disk = filled(&config(), &appends(3), false);
    let (log, _) = open(&disk, &config()).unwrap();
    disk.fail_sync(1);
    assert!(append(&log, &["seen by nobody".to_owned()]).is_err());
    drop(log);
    // The process restarts on the same machine: the bytes are visible, and the system believes them clean.
    let disk = disk.after_kill();
    let (log, _) = open(&disk, &config()).unwrap();
    let seen = read_all(&log).unwrap();
    append(&log, &["acknowledged".to_owned()]).unwrap();
    drop(log);
    let (log, _) = open(&disk.restart(PowerLoss::LoseAll), &config()).unwrap();
    let found = read_all(&log).unwrap();
    assert_eq!(found.len(), seen.len() + 1);
    assert!(seen.iter().all(|(offset, value)| found.get(offset) == Some(value)));
}

#[test]
fn short_writes_are_carried_on() {
    let disk = SimDisk::new();
    disk.write_short(pinmill_testkit::seed());
    let mut told = Told::default();
    life(&disk, &mut told).unwrap();
    check(&disk.restart(PowerLoss::LoseAll), &told, "short writes");
}

#[test]
fn offsets_that_a_reader_passed_are_never_given_again() {
    let config = small(1 << 20);
    let appends = appends(20);
    let disk = filled(&config, &appends, false);
    let end = expected(&appends).len() as u64;
    let (log, _) = open(&disk, &config).unwrap();
    wait(log.commit_position("archive", TOPIC, 0, end)).unwrap();
    drop(log);
    let disk = disk.after_kill();
    // The disk loses what it had confirmed.
    let segment = segments(&disk).pop().unwrap();
    let bytes = disk.bytes(&segment).unwrap();
    disk.set_bytes(&segment, bytes[..bytes.len() / 2].to_vec()).unwrap();
    let ((log, report), said) = errors_of(|| open(&disk, &config).unwrap());
    let kept = read_all(&log).unwrap();
    assert_eq!((report.skipped[0].from, report.skipped[0].to), (kept.len() as u64, end));
    let (first, last) = (kept.len(), end - 1);
    let place = format!("topic={TOPIC:?} partition=0 first={first} last={last}");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("records that were acknowledged are gone") && said[0].contains(&place),
        "{said:?}"
    );
    assert_eq!(append(&log, &["after".to_owned()]).unwrap(), end);
    drop(log);
    let ((log, report), said) = errors_of(|| open(&disk.after_kill(), &config).unwrap());
    assert!(report.skipped.is_empty() && said.is_empty(), "{said:?}");
    let found = read_all(&log).unwrap();
    assert_eq!(found.len(), kept.len() + 1);
    assert_eq!(log.read(TOPIC, 0, kept.len() as u64, 1).unwrap()[0].offset, end);
}

#[test]
fn a_start_that_was_never_flushed_lets_nothing_go_that_it_would_be_missed_for() {
    let config = LogConfig { retention_bytes: Some(0), ..small(700) };
    let disk = filled(&config, &appends(40), false);
    let (log, _) = open(&disk, &config).unwrap();
    let end = log.offsets(TOPIC, 0).unwrap().end;
    wait(log.commit_position("archive", TOPIC, 0, end)).unwrap();
    disk.fail_sync(1);
    assert!(matches!(log.apply_retention(), Err(Error::Poisoned { .. })));
    drop(log);
    // The next process sees what the system still has in memory, and takes it for what is on the disk.
    let disk = disk.after_kill();
    let (log, _) = open(&disk, &config).unwrap();
    let beginning = log.offsets(TOPIC, 0).unwrap().beginning;
    assert!(beginning > 0, "retention had written the new start");
    drop(log);
    let (log, _) = open(&disk.restart(PowerLoss::LoseAll), &config).unwrap();
    assert_eq!(log.offsets(TOPIC, 0).unwrap(), OffsetRange { beginning, end });
}
