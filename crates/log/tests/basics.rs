//! What every caller relies on, on a real disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use pinmill_log::{Clock, Error, Health, Log, LogConfig, Record};

fn record(value: &str) -> Record {
    Record { value: Some(value.to_owned().into()), ..Record::default() }
}

fn values(log: &Log, topic: &str, from: u64) -> Vec<String> {
    let (mut next, mut values) = (from, Vec::new());
    loop {
        let records = log.read(topic, 0, next, 1 << 20).unwrap();
        let Some(last) = records.last() else { return values };
        next = last.offset + 1;
        values.extend(records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()));
    }
}

#[tokio::test]
async fn what_was_appended_is_read_back_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let full = Record {
        key: Some("key".into()),
        value: None,
        headers: vec![("a".into(), Some("1".into())), ("a".into(), None)],
        timestamp_ms: Some(1_000),
    };
    {
        let (log, report) = Log::open(dir.path(), LogConfig::default()).unwrap();
        assert!(report.cuts.is_empty() && !report.clean);
        log.create_topic("t", 1).unwrap();
        let first = log.append("t", 0, vec![full.clone()]).await.unwrap();
        let second = log.append("t", 0, vec![record("b"), record("c")]).await.unwrap();
        assert_eq!((first.base_offset, second.base_offset, second.count), (0, 1, 2));
        assert_eq!(*log.subscribe("t", 0).unwrap().borrow(), 3);
        assert_eq!(log.health(), Health::Writable);
        log.close().unwrap();
        assert!(matches!(log.append("t", 0, vec![record("d")]).await, Err(Error::Closed)));
    }
    let (log, report) = Log::open(dir.path(), LogConfig::default()).unwrap();
    assert!(report.clean);
    let records = log.read("t", 0, 0, 1 << 20).unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!((records[0].offset, records[0].timestamp_ms), (0, 1_000));
    assert_eq!(
        (&records[0].key, &records[0].value, &records[0].headers),
        (&full.key, &full.value, &full.headers)
    );
    assert_eq!(values(&log, "t", 1), ["b", "c"]);
    assert!(matches!(log.read("t", 0, 4, 1), Err(Error::OffsetOutOfRange { beginning: 0, end: 3, .. })));
}

#[tokio::test]
async fn segments_roll_by_size_and_reads_cross_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1_000, index_interval_bytes: 200, ..LogConfig::default() };
    let (log, _) = Log::open(dir.path(), config.clone()).unwrap();
    log.create_topic("t", 1).unwrap();
    let wanted: Vec<_> = (0..200).map(|n| format!("value {n}")).collect();
    for value in &wanted {
        log.append("t", 0, vec![record(value)]).await.unwrap();
    }
    assert_eq!(values(&log, "t", 0), wanted);
    assert_eq!(values(&log, "t", 137), wanted[137..]);
    drop(log);
    let (log, _) = Log::open(dir.path(), config).unwrap();
    assert_eq!(values(&log, "t", 0), wanted);
    let segments = std::fs::read_dir(dir.path().join("topics/t/0")).unwrap().count();
    assert!(segments > 20, "{segments} files");
}

#[tokio::test]
async fn time_never_goes_backwards_and_finds_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(10_000));
    let clock = std::sync::Arc::clone(&now);
    let config = LogConfig {
        segment_bytes: 400,
        segment_age: Duration::from_secs(3600),
        clock: Clock::new(move || clock.load(std::sync::atomic::Ordering::Relaxed)),
        ..LogConfig::default()
    };
    let (log, _) = Log::open(dir.path(), config).unwrap();
    log.create_topic("t", 1).unwrap();
    let stamped = |timestamp_ms| Record { timestamp_ms: Some(timestamp_ms), ..record("x") };
    log.append("t", 0, vec![stamped(5_000), stamped(4_000), stamped(99_000)]).await.unwrap();
    now.store(9_000, std::sync::atomic::Ordering::Relaxed);
    log.append("t", 0, vec![record("clock went back"), stamped(7_000)]).await.unwrap();
    for n in 0..20 {
        now.store(20_000 + n * 1_000, std::sync::atomic::Ordering::Relaxed);
        log.append("t", 0, vec![record("x")]).await.unwrap();
    }
    let mut stamps = Vec::new();
    while let Some(record) = log.read("t", 0, stamps.len() as u64, 1).unwrap().first() {
        stamps.push(record.timestamp_ms);
    }
    assert_eq!(stamps[..5], [5_000, 5_000, 10_000, 10_000, 10_000]);
    assert!(stamps.is_sorted());
    for wanted in [i64::MIN, 4_999, 5_000, 5_001, 10_000, 10_001, 20_000, 25_500, 39_000, 39_001] {
        let expected = stamps.iter().position(|stamp| *stamp >= wanted).map(|place| place as u64);
        assert_eq!(log.offset_at("t", 0, wanted).unwrap(), expected, "{wanted}");
    }
}
