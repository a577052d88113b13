//! Opening a log again, and looking at one beside its owner: little is read, and nothing is given twice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use pinmill_log::sim::{PowerLoss, SimDisk};
use pinmill_log::{Disk, Error, Health, Log, LogConfig, OffsetRange, verify_on};
use support::*;

/// A config under which the last segment grows large.
fn large() -> LogConfig {
    small(64 << 20)
}

/// Appends of 60 KB until the segment has `bytes`.
fn fill(log: &Log, bytes: usize) {
    for n in 0..bytes.div_ceil(60_000) {
        append(log, &[format!("{n} {}", "y".repeat(60_000))]).unwrap();
    }
}

fn view(disk: &SimDisk) -> Log {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::view_on(&disk, DIR).unwrap()
}

fn files(disk: &SimDisk, dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            found.extend(files(disk, &path));
        } else {
            found.push((path.clone(), disk.bytes(&path).unwrap()));
        }
    }
    found
}

#[test]
fn a_log_that_was_closed_is_opened_without_reading_its_last_segments() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &large()).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    fill(&log, 6 << 20);
    let wanted = read_all(&log).unwrap();
    log.close().unwrap();
    drop(log);

    let disk = disk.restart(PowerLoss::LoseAll);
    let (log, report) = open(&disk, &large()).unwrap();
    assert!(report.clean);
    // The index was never flushed: the power took it, and with it the short way.
    assert!(disk.bytes_read() > 6 << 20);
    assert_eq!(read_all(&log).unwrap(), wanted);
    log.close().unwrap();
    drop(log);

    for _ in 0..2 {
        let after = disk.after_kill();
        let (log, report) = open(&after, &large()).unwrap();
        assert!(report.clean);
        assert!(after.bytes_read() < 200_000, "{} bytes were read", after.bytes_read());
        assert_eq!(read_all(&log).unwrap(), wanted);
        let next = append(&log, &["after".to_owned()]).unwrap();
        assert_eq!(next, wanted.len() as u64);
        let stamps = log.read(TOPIC, 0, next, 1).unwrap()[0].timestamp_ms;
        assert_eq!(stamps, 1_600_000_000_000);
    }
}

#[test]
fn an_index_is_trusted_only_where_it_is_that_of_the_closed_segment() {
    let whole = SimDisk::new();
    let (log, _) = open(&whole, &small(1 << 20)).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for values in appends(60) {
        append(&log, &values).unwrap();
    }
    let wanted = read_all(&log).unwrap();
    log.close().unwrap();
    drop(log);
    let segment = segments(&whole).pop().unwrap();
    let index = segment.with_extension("idx");
    let right = whole.bytes(&index).unwrap();
    // As version 0.1 left it, damaged, empty, and of another length.
    let damages: [&dyn Fn(&SimDisk); 4] = [
        &|disk| disk.remove_file(&index).unwrap(),
        &|disk| disk.set_bytes(&index, right.iter().map(|byte| byte ^ 1).collect()).unwrap(),
        &|disk| disk.set_bytes(&index, Vec::new()).unwrap(),
        &|disk| disk.set_bytes(&index, right[..right.len() - 24].to_vec()).unwrap(),
    ];
    for damage in damages {
        let disk = whole.after_kill();
        damage(&disk);
        assert!(verify_on(&disk, DIR).unwrap().is_sound());
        assert_eq!(read_all(&view(&disk)).unwrap(), wanted);
        let (log, report) = open(&disk, &small(1 << 20)).unwrap();
        assert!(report.clean && report.cuts.is_empty());
        assert_eq!(read_all(&log).unwrap(), wanted);
    }
    // What was added or is gone since the close is damage, index or not.
    for len in [whole.bytes(&segment).unwrap().len() - 1, 70] {
        let disk = whole.after_kill();
        let bytes = disk.bytes(&segment).unwrap();
        disk.set_bytes(&segment, bytes[..len].to_vec()).unwrap();
        assert_says_what_to_do(&open(&disk, &small(1 << 20)).unwrap_err());
    }
}

#[test]
fn an_index_of_bytes_that_recovery_cut_is_thrown_away() {
    let config = LogConfig { durability: pinmill_log::Durability::Os, ..large() };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    fill(&log, 5 << 20);
    drop(log);
    let index = segments(&disk)[0].with_extension("idx");
    assert!(disk.bytes(&index).is_ok(), "it is written while the segment grows");
    let bytes = disk.bytes(&segments(&disk)[0]).unwrap();
    let disk = disk.after_kill();
    disk.set_bytes(&segments(&disk)[0], bytes[..1 << 20].to_vec()).unwrap();
    let (log, _) = open(&disk, &config).unwrap();
    assert!(disk.bytes(&index).is_err());
    append(&log, &["short".to_owned()]).unwrap();
    fill(&log, 2 << 20);
    assert_eq!(read_all(&view(&disk)).unwrap(), read_all(&log).unwrap());
}

#[test]
fn a_view_beside_the_owner_reads_little_and_changes_nothing() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &large()).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    fill(&log, 24 << 20);
    let before = (disk.bytes_read(), files(&disk, Path::new(DIR)));
    let view = view(&disk);
    let read = disk.bytes_read() - before.0;
    assert!(read < 6 << 20, "{read} bytes were read");
    assert_eq!(view.offsets(TOPIC, 0).unwrap(), log.offsets(TOPIC, 0).unwrap());
    assert!(matches!(append(&view, &["no".to_owned()]), Err(Error::ViewOnly)));
    assert!(matches!(view.create_topic("no", 1), Err(Error::ViewOnly)));
    assert!(matches!(view.delete_topic(TOPIC), Err(Error::ViewOnly)));
    let (generation, end) = (log.topic(TOPIC).unwrap().generation, log.offsets(TOPIC, 0).unwrap().end);
    assert_eq!(view.skip_to(TOPIC, &generation, 0, end).unwrap(), None, "nothing is to be left out");
    for partition in [0, 1] {
        assert!(matches!(view.skip_to(TOPIC, &generation, partition, end + 1), Err(Error::ViewOnly)));
    }
    assert!(matches!(view.health(), Health::ReadOnly { .. }));
    view.close().unwrap();
    drop(view);
    assert!(files(&disk, Path::new(DIR)) == before.1);
}

#[test]
fn a_view_follows_its_owner_and_reads_only_what_is_new() {
    let config = LogConfig { retention_bytes: Some(4_000), ..small(3_000) };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    let early = view(&disk);
    assert!(matches!(early.refresh(TOPIC), Err(Error::UnknownTopic(_))));
    log.create_topic(TOPIC, 1).unwrap();
    assert!(early.refresh(TOPIC).unwrap());
    assert!(!early.refresh(TOPIC).unwrap());
    for values in appends(80) {
        append(&log, &values).unwrap();
        assert!(early.refresh(TOPIC).unwrap());
        let end = log.offsets(TOPIC, 0).unwrap().end;
        assert_eq!(early.offsets(TOPIC, 0).unwrap().end, end);
        assert_eq!(early.read(TOPIC, 0, end - 1, 1).unwrap(), log.read(TOPIC, 0, end - 1, 1).unwrap());
    }
    assert!(segments(&disk).len() > 3);
    assert_eq!(read_all(&early).unwrap(), read_all(&log).unwrap());
    let before = disk.bytes_read();
    append(&log, &["new".to_owned()]).unwrap();
    assert!(early.refresh(TOPIC).unwrap());
    assert!(disk.bytes_read() - before < 3_000);
    // What retention removes, partitions that are added, offsets that are left out, a topic that is made anew.
    assert!(log.apply_retention().unwrap() > 0);
    log.add_partitions(TOPIC, 2).unwrap();
    let generation = log.topic(TOPIC).unwrap().generation;
    let end = log.offsets(TOPIC, 0).unwrap().end;
    log.skip_to(TOPIC, &generation, 0, end + 7).unwrap();
    append(&log, &["behind".to_owned()]).unwrap();
    assert!(early.refresh(TOPIC).unwrap());
    assert_eq!(early.topic(TOPIC).unwrap().partitions, 2);
    assert_eq!(early.offsets(TOPIC, 0).unwrap(), log.offsets(TOPIC, 0).unwrap());
    assert_eq!(early.gaps(TOPIC, 0).unwrap(), [OffsetRange { beginning: end, end: end + 7 }]);
    assert_eq!(read_all(&early).unwrap(), read_all(&log).unwrap());
    log.delete_topic(TOPIC).unwrap();
    assert!(matches!(early.refresh(TOPIC), Err(Error::UnknownTopic(_))));
    log.create_topic(TOPIC, 1).unwrap();
    append(&log, &["another life".to_owned()]).unwrap();
    assert!(early.refresh(TOPIC).unwrap());
    assert_eq!(read_all(&early).unwrap().into_values().collect::<Vec<_>>(), ["another life"]);
}

#[test]
fn offsets_that_others_have_consumed_are_never_given_again() {
    let config = small(3_000);
    let disk = filled(&config, &appends(20), false);
    let (log, _) = open(&disk, &config).unwrap();
    let end = log.offsets(TOPIC, 0).unwrap().end;
    let generation = log.topic(TOPIC).unwrap().generation;
    let skip = |log: &Log, partition, next| log.skip_to(TOPIC, &generation, partition, next).unwrap();
    assert_eq!(skip(&log, 0, end), None);
    assert_eq!(log.skip_to(TOPIC, "of another life", 0, end + 5).unwrap(), None);
    let skipped = skip(&log, 0, end + 5).unwrap();
    assert_eq!((skipped.from, skipped.to), (end, end + 5));
    assert_eq!(skip(&log, 0, end + 5), None, "once is enough");
    // A partition that an older description does not count.
    assert_eq!(skip(&log, 2, 9).map(|skipped| (skipped.from, skipped.to)), Some((0, 9)));
    drop(log);

    for disk in [disk.after_kill(), disk.restart(PowerLoss::LoseAll)] {
        let (log, _) = open(&disk, &config).unwrap();
        assert_eq!(log.gaps(TOPIC, 0).unwrap(), [OffsetRange { beginning: end, end: end + 5 }]);
        assert_eq!(log.gaps(TOPIC, 2).unwrap(), [OffsetRange { beginning: 0, end: 9 }]);
        assert!(log.gaps(TOPIC, 1).unwrap().is_empty());
        assert_eq!(append(&log, &["new".to_owned()]).unwrap(), end + 5);
        assert_eq!(wait(log.append(TOPIC, 2, vec![record("new")])).unwrap().base_offset, 9);
        let found = read_all(&log).unwrap();
        assert_eq!((found.len() as u64, found[&(end + 5)].as_str()), (end + 1, "new"));
        assert!(log.read(TOPIC, 0, end + 2, 1).unwrap()[0].offset == end + 5);
        log.close().unwrap();
        assert!(verify_on(&disk, DIR).unwrap().problems.is_empty());
    }
}

#[test]
fn a_log_that_is_closed_leaves_no_offsets_out() {
    let config = small(3_000);
    let disk = filled(&config, &appends(20), true);
    let (log, _) = open(&disk, &config).unwrap();
    let (generation, end) = (log.topic(TOPIC).unwrap().generation, log.offsets(TOPIC, 0).unwrap().end);
    log.close().unwrap();
    let before = files(&disk, Path::new(DIR));
    for partition in [0, 1] {
        let skipped = log.skip_to(TOPIC, &generation, partition, end + 5);
        assert!(matches!(skipped, Err(Error::Closed)), "{skipped:?}");
    }
    assert!(files(&disk, Path::new(DIR)) == before);
    drop(log);
    let (log, report) = open(&disk, &config).unwrap();
    assert!(report.clean);
    assert_eq!(read_all(&log).unwrap(), expected(&appends(20)));
}

#[test]
fn partitions_whose_making_failed_are_not_there_after_a_restart() {
    let config = small(3_000);
    let whole = filled(&config, &appends(3), true);
    let count = |change: &dyn Fn(&SimDisk)| {
        let disk = whole.after_kill();
        let (log, _) = open(&disk, &config).unwrap();
        change(&disk);
        (log.add_partitions(TOPIC, 3), log, disk)
    };
    let mut failed = 0;
    for kind in ["open", "sync"] {
        for n in 1.. {
            let (added, log, disk) = count(&|disk| match kind {
                "open" => disk.fail_open(n),
                _ => disk.fail_sync(n),
            });
            let told = log.topic(TOPIC).unwrap().partitions;
            assert_eq!(told, if added.is_ok() { 3 } else { 1 }, "{kind} {n}");
            drop(log);
            for disk in
                [disk.after_kill(), disk.restart(PowerLoss::LoseAll), disk.restart(PowerLoss::Random(n))]
            {
                let (log, _) = open(&disk, &config).unwrap();
                let partitions = log.topic(TOPIC).unwrap().partitions;
                match &added {
                    Ok(_) => assert_eq!(partitions, 3, "{kind} {n}"),
                    Err(Error::Poisoned { .. }) => assert!([1, 3].contains(&partitions), "{kind} {n}"),
                    Err(error) => assert_eq!(partitions, 1, "{kind} {n}: {error}"),
                }
                assert_eq!(read_all(&log).unwrap(), expected(&appends(3)));
            }
            if added.is_ok() {
                break;
            }
            failed += 1;
        }
    }
    assert!(failed > 6, "only {failed} calls could fail");
}
