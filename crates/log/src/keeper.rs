//! The log's housekeeper: one thread that applies retention, tidies positions and looks whether a full disk has room.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::{Open, write_all_at};
use crate::error::{Error, IoContext, Result};
use crate::health::{Health, lock};
use crate::inner::Inner;
use crate::partition::Partition;
use crate::positions::to_record;
use crate::retention::{Candidate, Rule, removable};

/// What must fit on a disk that was full before writes are taken again.
const PROBE_BYTES: usize = 64 << 10;
/// Positions written with one append when they are tidied.
const TIDY_AT_ONCE: usize = 1_000;

pub(crate) fn start(inner: Arc<Inner>) -> Result<JoinHandle<()>> {
    let name = "log-keeper";
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || run(&inner))
        .during("start thread", name.as_ref())
}

fn run(inner: &Inner) {
    let config = &inner.shared.config;
    let mut retained = Instant::now();
    // Looked at before each wait, as a ring may have been heard by another one.
    while !inner.closed.load(Ordering::Acquire) {
        let until_retention = config.retention_interval.map(|every| every.saturating_sub(retained.elapsed()));
        let wait = match until_retention {
            _ if inner.shared.health.is_read_only() => Some(config.full_disk_probe),
            other => other,
        };
        inner.shared.bell.wait(wait);
        if inner.closed.load(Ordering::Acquire) {
            return;
        }
        let full = inner.shared.health.is_read_only();
        let due = config.retention_interval.is_some_and(|every| retained.elapsed() >= every);
        if full || due {
            // What failed was said, and is tried again.
            let _ = apply_retention(inner);
            retained = Instant::now();
        }
        if full {
            probe(inner);
        } else if inner.positions.wants_tidying()
            && let Err(error) = tidy_positions(inner)
        {
            tracing::warn!(%error, "positions not tidied, it is tried again");
            inner.shared.bell.wait(Some(Duration::from_secs(1)));
        }
    }
}

/// Takes writes again where a small file fits.
fn probe(inner: &Inner) {
    let shared = &*inner.shared;
    let path = shared.dir.join("~probe");
    let written = shared.disk.open(&path, Open::Create).and_then(|file| {
        write_all_at(&*file, 0, &mut [IoSlice::new(&[0; PROBE_BYTES])])?;
        file.sync_data()
    });
    let removed = shared.disk.remove_file(&path);
    if written.and(removed).is_ok() && shared.health.set(Health::Writable) {
        tracing::info!(dir = %shared.dir.display(), "the disk has room again, writes are taken");
    }
}

/// Applies retention to every partition, whatever becomes of the others; returns how many segments went, or what failed
/// first.
pub(crate) fn apply_retention(inner: &Inner) -> Result<u64> {
    let config = &inner.shared.config;
    if config.retention_bytes.is_none() && config.retention_age.is_none() {
        return Ok(0);
    }
    retain_all(inner, &inner.partitions())
}

fn retain_all(inner: &Inner, partitions: &[Arc<Partition>]) -> Result<u64> {
    let mut passed: BTreeMap<(String, u32, String), u64> = BTreeMap::new();
    for (key, value) in inner.positions.all() {
        let least = passed.entry((key.topic, key.partition, value.generation)).or_insert(value.next);
        *least = value.next.min(*least);
    }
    let (mut removed, mut failed) = (0, None);
    for partition in partitions {
        let generation = uuid::Uuid::from_bytes(partition.identity.generation).to_string();
        let passed = passed.get(&(partition.topic.to_string(), partition.id, generation)).copied();
        // A topic that is deleted and made anew has the same paths.
        let _admin = inner.admin();
        if partition.deleted.load(Ordering::Acquire) {
            continue;
        }
        match retain(partition, passed) {
            Ok(count) => removed += count,
            Err(error) => {
                let (topic, id) = (&partition.topic, partition.id);
                tracing::warn!(%topic, partition = id, %error, "retention not applied, it is tried again");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(removed), Err)
}

fn retain(partition: &Partition, passed: Option<u64>) -> Result<u64> {
    let config = &partition.shared.config;
    let age = config.retention_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let rolled = if age.is_some() { partition.roll_if_old() } else { Ok(()) };
    let rule = Rule {
        keep_bytes: config.retention_bytes,
        keep_from_ms: age.map(|age| config.clock.now_ms().saturating_sub(age)),
        passed,
    };
    let count = {
        let held = partition.held.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = held.segments.iter().zip(held.segments.iter().skip(1));
        let complete: Vec<_> = pairs
            .map(|(segment, next)| Candidate {
                end: next.base,
                bytes: segment.len(),
                newest_ms: next.floor_ms,
            })
            .collect();
        let newest_bytes = held.segments.last().map_or(0, |segment| segment.len());
        removable(&complete, newest_bytes, &rule)
    };
    if count > 0 {
        tracing::info!(topic = %partition.topic, partition = partition.id, segments = count, "retention lets segments go");
    }
    let removed = partition.remove_first(count)?;
    rolled.map(|()| removed)
}

/// Lets go the segments that end at or before an offset. Completes the segment being written if it holds older records, so
/// that it can go as soon as all of it lies before `offset`. The caller keeps the topic from being deleted.
pub(crate) fn forget_before(inner: &Inner, partition: &Partition, offset: u64) -> Result<u64> {
    if partition.deleted.load(Ordering::Acquire) {
        return Err(Error::UnknownTopic(partition.topic.to_string()));
    }
    let generation = uuid::Uuid::from_bytes(partition.identity.generation).to_string();
    let of_readers = inner.positions.all().into_iter().filter(|(key, value)| {
        *key.topic == *partition.topic && key.partition == partition.id && value.generation == generation
    });
    let before = of_readers.map(|(_, value)| value.next).fold(offset, u64::min);
    let before = {
        let mut writer = lock(&partition.writer);
        inner.shared.check_writable()?;
        let next = writer.next;
        let before = before.min(next);
        if writer.segment.base < before {
            partition.roll(&mut writer, next)?;
        }
        before
    };
    let count = {
        let held = partition.held.read().unwrap_or_else(PoisonError::into_inner);
        held.segments.iter().skip(1).take_while(|next| next.base <= before).count()
    };
    partition.remove_first(count)
}

/// Appends all positions once more, in a new segment, and lets the segments before it go.
fn tidy_positions(inner: &Inner) -> Result<()> {
    let positions = &inner.positions;
    let _alone = positions.tidying.blocking_write();
    let partition = &positions.partition;
    {
        let mut writer = lock(&partition.writer);
        inner.shared.check_writable()?;
        let next = writer.next;
        partition.roll(&mut writer, next)?;
    }
    let before = partition.held.read().unwrap_or_else(PoisonError::into_inner).segments.len() - 1;
    let (live, dead): (Vec<_>, Vec<_>) = positions
        .all()
        .into_iter()
        .partition(|(key, value)| inner.has_generation(&key.topic, &value.generation));
    for (key, _) in dead {
        positions.apply(key, None, u64::MAX);
    }
    let name = Path::new("log-keeper");
    let runtime = tokio::runtime::Builder::new_current_thread().build().during("start", name)?;
    for some in live.chunks(TIDY_AT_ONCE) {
        let records = some.iter().map(|(key, value)| to_record(key, Some(value))).collect();
        let appended = runtime.block_on(inner.append(Arc::clone(partition), records))?;
        for ((key, value), offset) in some.iter().zip(appended.base_offset..) {
            positions.apply(key.clone(), Some(value.clone()), offset);
        }
    }
    partition.remove_first(before).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, LogConfig, Record};

    /// A topic of several segments.
    fn fill(log: &Log, topic: &str) {
        log.create_topic(topic, 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..20 {
            let record = Record { value: Some(vec![b'x'; 100].into()), ..Record::default() };
            runtime.block_on(log.append(topic, 0, vec![record])).unwrap();
        }
    }

    #[test]
    fn retention_that_began_before_a_topic_was_made_anew_leaves_the_new_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            segment_bytes: 500,
            retention_bytes: Some(0),
            retention_age: Some(Duration::ZERO),
            segment_age: Duration::ZERO,
            retention_interval: None,
            ..LogConfig::default()
        };
        let (log, _) = Log::open(dir.path(), config.clone()).unwrap();
        fill(&log, "t");
        let old = log.inner.partitions();
        log.delete_topic("t").unwrap();
        fill(&log, "t");
        assert_eq!(retain_all(&log.inner, &old).unwrap(), 0);
        assert_eq!(log.health(), Health::Writable);
        let offsets = log.offsets("t", 0).unwrap();
        assert_eq!((offsets.beginning, offsets.end), (0, 20));
        drop(log);
        let (log, _) = Log::open(dir.path(), config).unwrap();
        assert_eq!(log.read("t", 0, 0, 1).unwrap().len(), 1);
        assert!(
            retain_all(&log.inner, &log.inner.partitions()).unwrap() > 5,
            "the new one's own segments go"
        );
    }
    #[test]
    fn a_roll_of_a_segment_without_records_leaves_it_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
        fill(&log, "t");
        let roll = |log: &Log| {
            let partition = log.inner.partition("t", 0).unwrap();
            let mut writer = lock(&partition.writer);
            let next = writer.next;
            partition.roll(&mut writer, next).unwrap();
            partition.held.read().unwrap().segments.len()
        };
        assert_eq!([roll(&log), roll(&log), roll(&log)], [2; 3]);
        drop(log);
        let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
        assert_eq!(roll(&log), 2);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let appended = runtime.block_on(log.append("t", 0, vec![Record::default()])).unwrap();
        assert_eq!(appended.base_offset, 20);
        drop(log);
        let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
        let counts = [0, 20].map(|offset| log.read("t", 0, offset, 1 << 20).unwrap().len());
        assert_eq!(counts, [20, 1]);
    }

    #[test]
    fn positions_that_are_tidied_twice_with_none_in_between_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
        tidy_positions(&log.inner).unwrap();
        tidy_positions(&log.inner).unwrap();
        fill(&log, "t");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(log.commit_position("archive", "t", 0, 7)).unwrap();
        tidy_positions(&log.inner).unwrap();
        drop(log);
        let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
        assert_eq!(log.position("archive", "t", 0).unwrap(), Some(7));
    }
}
