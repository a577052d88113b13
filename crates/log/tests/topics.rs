//! Topics, readers, retention, limits and the lock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pinmill_log::sim::{PowerLoss, SimDisk};
use pinmill_log::{
    Clock, Disk, Durability, Error, Health, Log, LogConfig, OffsetRange, ReaderPosition, Record, verify_on,
};
use support::*;

#[test]
fn a_second_owner_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
    let refused = Log::open(dir.path(), LogConfig::default()).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, Error::Locked { .. }), "{text}");
    assert!(
        text.contains(&std::process::id().to_string()) && text.contains(dir.path().to_str().unwrap()),
        "{text}"
    );
    assert!(matches!(pinmill_log::verify(dir.path()), Err(Error::Locked { .. })));
    log.close().unwrap();
    Log::open(dir.path(), LogConfig::default()).unwrap();
}

#[test]
fn names_follow_kafkas_rule() {
    let (log, _) = open(&SimDisk::new(), &small(1_000)).unwrap();
    let long = "n".repeat(249);
    for good in ["a", "124df56aef51.pin", ".hidden", "..x", "A-b_c.9", &long] {
        log.create_topic(good, 1).unwrap();
    }
    for bad in ["", ".", "..", "a/b", "a b", "ä", "~new-x", "../up", "a\0", &"n".repeat(250)] {
        let refused = log.create_topic(bad, 1);
        assert!(matches!(refused, Err(Error::InvalidTopic { .. })), "{bad:?}: {refused:?}");
    }
    assert!(matches!(log.create_topic("a", 1), Err(Error::TopicExists(_))));
    assert!(matches!(log.create_topic("b", 0), Err(Error::InvalidTopic { .. })));
    assert_eq!(log.topics().len(), 6);
}

#[test]
fn limits_are_kept() {
    let config = LogConfig {
        max_topics: 1,
        max_partitions: 2,
        max_record_bytes: 100,
        max_batch_bytes: 1_000,
        ..small(10_000)
    };
    let (log, _) = open(&SimDisk::new(), &config).unwrap();
    assert!(matches!(log.create_topic(TOPIC, 3), Err(Error::InvalidTopic { .. })));
    log.create_topic(TOPIC, 1).unwrap();
    assert!(matches!(log.create_topic("other", 1), Err(Error::TooManyTopics { limit: 1 })));
    append(&log, &["x".repeat(100)]).unwrap();
    let refused = append(&log, &["x".repeat(101)]);
    assert!(matches!(refused, Err(Error::RecordTooLarge { bytes: 101, limit: 100 })), "{refused:?}");
    let refused = append(&log, &vec!["x".repeat(100); 10]);
    assert!(matches!(refused, Err(Error::BatchTooLarge { limit: 1_000, .. })), "{refused:?}");
    assert!(matches!(wait(log.append("none", 0, vec![record("x")])), Err(Error::UnknownTopic(_))));
    let refused = wait(log.append(TOPIC, 1, vec![record("x")]));
    assert!(matches!(refused, Err(Error::UnknownPartition { partition: 1, .. })));
    assert_eq!(log.offsets(TOPIC, 0).unwrap().end, 1);
}

#[test]
fn a_topic_made_anew_has_another_generation_and_no_old_positions() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &small(1_000)).unwrap();
    let first = log.create_topic(TOPIC, 1).unwrap();
    append(&log, &["old".to_owned()]).unwrap();
    wait(log.commit_position("archive", TOPIC, 0, 1)).unwrap();
    log.delete_topic(TOPIC).unwrap();
    assert!(matches!(append(&log, &["x".to_owned()]), Err(Error::UnknownTopic(_))));
    assert!(log.positions().is_empty());
    let second = log.create_topic(TOPIC, 2).unwrap();
    assert_ne!(first.generation, second.generation);
    assert_eq!(log.position("archive", TOPIC, 0).unwrap(), None);
    assert_eq!(append(&log, &["new".to_owned()]).unwrap(), 0);
    drop(log);
    let (log, report) = open(&disk.after_kill(), &small(1_000)).unwrap();
    assert!(report.skipped.is_empty());
    assert_eq!(log.topic(TOPIC).unwrap(), second);
    assert_eq!(log.position("archive", TOPIC, 0).unwrap(), None);
    assert_eq!(read_all(&log).unwrap()[&0], "new");
}

#[test]
fn positions_survive_and_can_be_forgotten() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &small(1_000)).unwrap();
    log.create_topic(TOPIC, 2).unwrap();
    append(&log, &["a".to_owned(), "b".to_owned()]).unwrap();
    for (reader, next) in [("archive", 1), ("live", 2), ("archive", 2)] {
        wait(log.commit_position(reader, TOPIC, 0, next)).unwrap();
    }
    let beyond = wait(log.commit_position("archive", TOPIC, 0, 3));
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { offset: 3, end: 2, .. })));
    assert!(matches!(wait(log.commit_position("", TOPIC, 0, 0)), Err(Error::InvalidReader { .. })));
    wait(log.forget_reader("live")).unwrap();
    drop(log);
    let (log, _) = open(&disk.after_kill(), &small(1_000)).unwrap();
    let archive = ReaderPosition { reader: "archive".into(), topic: TOPIC.into(), partition: 0, next: 2 };
    assert_eq!(log.positions(), [archive]);
    assert_eq!(log.position("live", TOPIC, 0).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_positions_committed_at_once_the_one_on_disk_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    log.append(TOPIC, 0, vec![record("x"); 16]).await.unwrap();
    let log = Arc::new(log);
    let readers = 100;
    let mut tasks = tokio::task::JoinSet::new();
    for reader in 0..readers {
        for next in 0..16 {
            let log = Arc::clone(&log);
            tasks.spawn(async move {
                log.commit_position(&format!("reader {reader}"), TOPIC, 0, next).await.unwrap();
            });
        }
    }
    tasks.join_all().await;
    let said = log.positions();
    assert_eq!(said.len(), readers);
    drop(log);
    let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
    for (found, said) in log.positions().into_iter().zip(said) {
        assert_eq!(found, said);
    }
}

#[test]
fn outdated_positions_are_tidied_away() {
    let config = LogConfig { retention_interval: Some(Duration::from_millis(5)), ..small(1_000) };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    append(&log, &vec!["x".to_owned(); 100]).unwrap();
    let folder = Path::new(DIR).join("positions");
    let first = folder.join("00000000000000000000.seg");
    let mut next = 0;
    while disk.bytes(&first).is_ok() {
        next = (next + 1) % 101;
        wait(log.commit_position("archive", TOPIC, 0, next)).unwrap();
    }
    drop(log);
    let (log, _) = open(&disk.after_kill(), &config).unwrap();
    assert_eq!(log.position("archive", TOPIC, 0).unwrap(), Some(next));
}

#[test]
fn retention_by_size_waits_for_the_slowest_reader() {
    let config = LogConfig { retention_bytes: Some(2_000), ..small(1_000) };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for values in appends(60) {
        append(&log, &values).unwrap();
    }
    let all = read_all(&log).unwrap();
    wait(log.commit_position("fast", TOPIC, 0, all.len() as u64)).unwrap();
    wait(log.commit_position("slow", TOPIC, 0, 20)).unwrap();
    log.apply_retention().unwrap();
    let beginning = log.offsets(TOPIC, 0).unwrap().beginning;
    assert!((1..=20).contains(&beginning), "{beginning}");
    assert!(matches!(log.read(TOPIC, 0, beginning - 1, 1), Err(Error::OffsetOutOfRange { .. })));
    wait(log.forget_reader("slow")).unwrap();
    log.apply_retention().unwrap();
    let left = log.topic_bytes(TOPIC).unwrap();
    assert!((2_000..4_000).contains(&left), "{left}");
    let beginning = log.offsets(TOPIC, 0).unwrap().beginning;
    assert_eq!(log.offset_at(TOPIC, 0, i64::MIN).unwrap(), Some(beginning));
    drop(log);
    let (log, _) = open(&disk.after_kill(), &config).unwrap();
    assert!(read_all(&log).unwrap().into_iter().eq(all.into_iter().skip(beginning as usize)));
}

#[test]
fn what_is_to_be_forgotten_goes_without_settings_and_waits_for_readers() {
    let (disk, config) = (SimDisk::new(), small(1 << 20));
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for _ in 0..3 {
        for values in appends(20) {
            append(&log, &values).unwrap();
        }
        let end = log.offsets(TOPIC, 0).unwrap().end;
        // What is being written can go once it was ended, which is what the first call does.
        assert_eq!(log.forget_before(TOPIC, 0, end).unwrap(), 1);
        assert_eq!(log.offsets(TOPIC, 0).unwrap().beginning, end);
        assert_eq!(log.forget_before(TOPIC, 0, end).unwrap(), 0, "there is nothing more");
    }
    let beginning = log.offsets(TOPIC, 0).unwrap().beginning;
    append(&log, &vec!["x".to_owned(); 10]).unwrap();
    wait(log.commit_position("slow", TOPIC, 0, beginning + 5)).unwrap();
    for before in [beginning + 3, beginning + 8, beginning + 10] {
        log.forget_before(TOPIC, 0, before).unwrap();
        assert_eq!(log.read(TOPIC, 0, beginning + 5, 1).unwrap()[0].offset, beginning + 5);
    }
    assert!(matches!(log.forget_before("none", 0, 1), Err(Error::UnknownTopic(_))));
    drop(log);
    let (log, _) = open(&disk.after_kill(), &config).unwrap();
    assert_eq!(log.offsets(TOPIC, 0).unwrap().end, beginning + 10);
    assert_eq!(log.read(TOPIC, 0, beginning + 5, 1).unwrap()[0].offset, beginning + 5);
}

#[test]
fn what_is_forgotten_up_to_beyond_the_end_leaves_the_partition_whole() {
    let config = small(1 << 20);
    for count in [0, 5] {
        let disk = SimDisk::new();
        let (log, _) = open(&disk, &config).unwrap();
        log.create_topic(TOPIC, 1).unwrap();
        for n in 0..count {
            append(&log, &[format!("before {n}")]).unwrap();
        }
        for beyond in [count + 1, count + 1, u64::MAX] {
            log.forget_before(TOPIC, 0, beyond).unwrap();
            assert_eq!(log.offsets(TOPIC, 0).unwrap(), OffsetRange { beginning: count, end: count });
        }
        let wanted = BTreeMap::from([(count, "after".to_owned())]);
        append(&log, &["after".to_owned()]).unwrap();
        assert_eq!(read_all(&log).unwrap(), wanted);
        drop(log);
        for disk in [disk.after_kill(), disk.restart(PowerLoss::LoseAll)] {
            let (log, _) = open(&disk, &config).unwrap();
            assert_eq!(read_all(&log).unwrap(), wanted);
            log.close().unwrap();
            assert!(verify_on(&disk, DIR).unwrap().problems.is_empty());
        }
    }
}

#[test]
fn retention_by_age_lets_idle_topics_go_too() {
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let config = LogConfig {
        retention_age: Some(Duration::from_secs(10)),
        segment_age: Duration::from_secs(5),
        clock: Clock::new(move || clock.load(Ordering::Relaxed)),
        ..small(1 << 20)
    };
    let (log, _) = open(&SimDisk::new(), &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    append(&log, &["a".to_owned()]).unwrap();
    now.store(6_000, Ordering::Relaxed);
    append(&log, &["b".to_owned()]).unwrap();
    log.apply_retention().unwrap();
    assert_eq!(read_all(&log).unwrap().len(), 2);
    now.store(10_001, Ordering::Relaxed);
    log.apply_retention().unwrap();
    assert_eq!(read_all(&log).unwrap().into_keys().collect::<Vec<_>>(), [1]);
    now.store(60_000, Ordering::Relaxed);
    log.apply_retention().unwrap();
    assert!(read_all(&log).unwrap().is_empty());
    assert_eq!(append(&log, &["c".to_owned()]).unwrap(), 2);
}

#[test]
fn a_full_disk_is_given_room_by_retention_once_readers_say_how_far_they_are() {
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let config = LogConfig {
        retention_age: Some(Duration::from_secs(10)),
        segment_age: Duration::from_secs(5),
        clock: Clock::new(move || clock.load(Ordering::Relaxed)),
        full_disk_probe: Duration::from_secs(3600),
        ..small(1_000)
    };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    // Its open segment is old, and there is no room to complete it.
    log.create_topic("a", 1).unwrap();
    wait(log.append("a", 0, vec![record("old")])).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    wait(log.commit_position("archive", TOPIC, 0, 0)).unwrap();
    for values in appends(60) {
        append(&log, &values).unwrap();
    }
    now.store(60_000, Ordering::Relaxed);
    disk.set_quota(Some(0));
    while append(&log, &["more".to_owned()]).is_ok() {}
    assert!(matches!(log.health(), Health::ReadOnly { .. }));

    assert_eq!(log.apply_retention().unwrap(), 0, "the reader has not passed anything");
    let end = log.offsets(TOPIC, 0).unwrap().end;
    wait(log.commit_position("archive", TOPIC, 0, end)).unwrap();
    assert!(log.apply_retention().unwrap() > 3);
    assert!(matches!(append(&log, &["more".to_owned()]), Err(Error::DiskFull { .. })));
    drop(log);
    disk.set_quota(None);
    let (log, _) = open(&disk.after_kill(), &config).unwrap();
    assert_eq!(log.position("archive", TOPIC, 0).unwrap(), Some(end));
}

#[test]
fn a_want_of_descriptors_refuses_a_call_and_the_next_one_succeeds() {
    let config = LogConfig { retention_bytes: Some(600), ..small(600) };
    let mut refusals = 0;
    for nth in 1.. {
        let disk = SimDisk::new();
        let (log, _) = open(&disk, &config).unwrap();
        let before = disk.opens();
        disk.fail_open(nth);
        let mut again = |call: &dyn Fn() -> Result<(), Error>| {
            let Err(refused) = call() else { return };
            assert!(refused.is_retriable(), "open {nth}: {refused}");
            refusals += 1;
            call().unwrap_or_else(|error| panic!("open {nth}, once more: {error}"));
        };
        again(&|| log.create_topic(TOPIC, 1).map(drop));
        for values in appends(30) {
            again(&|| append(&log, &values).map(drop));
        }
        again(&|| log.create_topic("other", 1).map(drop));
        again(&|| log.add_partitions("other", 3).map(drop));
        again(&|| wait(log.commit_position("archive", TOPIC, 0, 30)));
        again(&|| log.apply_retention().map(drop));
        again(&|| match log.delete_topic("other") {
            Err(Error::UnknownTopic(_)) => Ok(()),
            deleted => deleted,
        });
        again(&|| log.create_topic("other", 2).map(drop));
        if disk.opens() - before < nth {
            break;
        }
        assert_eq!(log.health(), Health::Writable, "open {nth}");
        let beginning = log.offsets(TOPIC, 0).unwrap().beginning;
        assert!((1..=30).contains(&beginning), "open {nth}: {beginning}");
        let wanted: BTreeMap<_, _> = expected(&appends(30)).split_off(&beginning);
        assert_eq!(read_all(&log).unwrap(), wanted, "open {nth}");
        drop(log);
        let (log, _) = open(&disk.after_kill(), &config).unwrap();
        assert_eq!(read_all(&log).unwrap(), wanted, "open {nth}, after a kill");
        assert_eq!(log.topic("other").unwrap().partitions, 2);
    }
    assert!(refusals > 20, "{refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_keep_each_callers_order_and_share_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    let log = Arc::new(log);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let mut last = None;
            for n in 0..20 {
                let appended = log.append(TOPIC, 0, vec![record(&format!("{writer} {n}"))]).await.unwrap();
                assert!(last < Some(appended.base_offset));
                last = Some(appended.base_offset);
            }
        });
    }
    tasks.join_all().await;
    let found = read_all(&log).unwrap();
    assert_eq!(found.values().collect::<BTreeSet<_>>().len(), 64 * 20);
    let stats = log.stats();
    assert_eq!((stats.appends, stats.records, stats.queued_bytes), (1_280, 1_280, 0));
    assert!(stats.fsyncs < stats.appends, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_queue_and_few_open_files_only_slow_down() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { queue_bytes: 1_000, max_open_files: 8, segment_bytes: 4_000, ..LogConfig::default() };
    let (log, _) = Log::open(dir.path(), config.clone()).unwrap();
    let log = Arc::new(log);
    let mut tasks = tokio::task::JoinSet::new();
    for topic in 0..20 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let name = format!("topic-{topic}");
            log.create_topic(&name, 1).unwrap();
            for n in 0..10 {
                // Larger than the whole queue: it goes alone.
                log.append(&name, 0, vec![record(&format!("{topic} {n} {}", "v".repeat(1_500)))])
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    drop(log);
    let (log, _) = Log::open(dir.path(), config).unwrap();
    for topic in 0..20 {
        let found = read_topic(&log, &format!("topic-{topic}"), 0).unwrap();
        assert!(found.iter().all(|(offset, value)| value.starts_with(&format!("{topic} {offset} "))));
        assert_eq!(found.len(), 10);
    }
}

#[test]
fn the_weaker_durability_survives_a_kill_and_flushes_when_closed() {
    let config = LogConfig { durability: Durability::Os, ..small(1_000) };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for values in appends(30) {
        append(&log, &values).unwrap();
    }
    assert_eq!(log.stats().fsyncs, 0);
    let (killed, _) = open(&disk.after_kill(), &config).unwrap();
    assert_eq!(read_all(&killed).unwrap(), expected(&appends(30)));
    log.close().unwrap();
    let (closed, _) = open(&disk.restart(pinmill_log::sim::PowerLoss::LoseAll), &config).unwrap();
    assert_eq!(read_all(&closed).unwrap(), expected(&appends(30)));
}

#[test]
fn an_empty_append_stores_nothing() {
    let (log, _) = open(&SimDisk::new(), &small(1_000)).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    append(&log, &["a".to_owned()]).unwrap();
    let nothing = wait(log.append(TOPIC, 0, Vec::<Record>::new())).unwrap();
    assert_eq!((nothing.base_offset, nothing.count), (1, 0));
    assert_eq!(log.offsets(TOPIC, 0).unwrap().end, 1);
}

#[test]
fn leftovers_of_unfinished_work_are_cleared_away() {
    let disk = filled(&small(1_000), &appends(5), false);
    let topics = Path::new(DIR).join("topics");
    for name in ["~new-1", "~gone-2"] {
        disk.create_dir_all(&topics.join(name).join("0")).unwrap();
    }
    let (log, report) = open(&disk, &small(1_000)).unwrap();
    assert_eq!(report.topics, 1);
    assert_eq!(disk.list(&topics).unwrap().len(), 1);
    assert_eq!(read_all(&log).unwrap(), expected(&appends(5)));
}
