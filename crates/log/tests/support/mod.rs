//! What the tests of the log share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pinmill_log::sim::SimDisk;
use pinmill_log::{Clock, Disk, Error, Log, LogConfig, Record, RecoveryReport};

/// The folder of a log on a simulated disk.
pub(crate) const DIR: &str = "/data/log";
pub(crate) const TOPIC: &str = "124df56aef51.pin";

/// Small segments, one committer, retention only when asked for, a clock that stands still.
pub(crate) fn small(segment_bytes: u64) -> LogConfig {
    LogConfig {
        segment_bytes,
        index_interval_bytes: 512,
        retention_interval: None,
        committers: 1,
        clock: Clock::new(|| 1_600_000_000_000),
        ..LogConfig::default()
    }
}

pub(crate) fn open(disk: &SimDisk, config: &LogConfig) -> Result<(Log, RecoveryReport), Error> {
    Log::open_on(Arc::new(disk.clone()), DIR, config.clone())
}

pub(crate) fn record(value: &str) -> Record {
    Record { value: Some(value.to_owned().into()), ..Record::default() }
}

/// Drives a future of the log, which needs no runtime of its own.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

pub(crate) fn append(log: &Log, values: &[String]) -> Result<u64, Error> {
    let records = values.iter().map(|value| record(value)).collect();
    wait(log.append(TOPIC, 0, records)).map(|appended| appended.base_offset)
}

/// All records of the topic's partition from its beginning on, by offset.
pub(crate) fn read_all(log: &Log) -> Result<BTreeMap<u64, String>, Error> {
    read_topic(log, TOPIC, 0)
}

pub(crate) fn read_topic(log: &Log, topic: &str, partition: u32) -> Result<BTreeMap<u64, String>, Error> {
    let mut found = BTreeMap::new();
    let mut next = log.offsets(topic, partition)?.beginning;
    loop {
        let records = log.read(topic, partition, next, 1 << 20)?;
        let Some(last) = records.last() else { return Ok(found) };
        next = last.offset + 1;
        for record in records {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            assert!(found.insert(record.offset, value).is_none(), "offset twice");
        }
    }
}

/// The folder of the topic's partition.
pub(crate) fn partition_dir() -> PathBuf {
    Path::new(DIR).join("topics").join(TOPIC).join("0")
}

/// The segment files of the topic's partition, ascending.
pub(crate) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let dir = partition_dir();
    let entries = disk.list(&dir).unwrap();
    entries.iter().filter(|e| e.name.ends_with(".seg")).map(|e| dir.join(&e.name)).collect()
}

/// A log of one topic with these appends, closed in good order or killed.
pub(crate) fn filled(config: &LogConfig, appends: &[Vec<String>], close: bool) -> SimDisk {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for values in appends {
        append(&log, values).unwrap();
    }
    if close {
        log.close().unwrap();
    }
    drop(log);
    disk.after_kill()
}

/// Where the last batch of [`filled`] ends; after a kill there is room behind it.
pub(crate) fn end_of_batches(config: &LogConfig, appends: &[Vec<String>]) -> usize {
    let closed = filled(config, appends, true);
    let last = segments(&closed).pop().unwrap();
    closed.bytes(&last).unwrap().len()
}

/// `count` appends of one to three records, each different.
pub(crate) fn appends(count: usize) -> Vec<Vec<String>> {
    let value = |n: usize, i: usize| format!("append {n} record {i} {}", "x".repeat((n * 7 + i * 13) % 90));
    (0..count).map(|n| (0..=n % 3).map(|i| value(n, i)).collect()).collect()
}

/// What reading all of these appends gives.
pub(crate) fn expected(appends: &[Vec<String>]) -> BTreeMap<u64, String> {
    (0..).zip(appends.iter().flatten().cloned()).collect()
}

/// What a call logs as errors on this thread, and its result.
pub(crate) fn errors_of<T>(call: impl FnOnce() -> T) -> (T, Vec<String>) {
    let said = Arc::<Mutex<Vec<String>>>::default();
    let result = tracing::subscriber::with_default(Errors(Arc::clone(&said)), call);
    let said = said.lock().unwrap().clone();
    (result, said)
}

/// Takes note of errors alone.
struct Errors(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Vec::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            fields.push(format!("{field}={value:?}"));
        });
        self.0.lock().unwrap().push(fields.join(" "));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Asserts that a damaged log was refused in words that help: the file, and the way out.
pub(crate) fn assert_says_what_to_do(error: &Error) {
    let text = error.to_string();
    assert!(matches!(error, Error::Corrupt { .. }), "{text}");
    assert!(text.contains(DIR) && text.contains("pinmill log repair"), "{text}");
}
