//! The log as its callers see it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;
use uuid::Uuid;

use crate::committer::Committers;
use crate::config::LogConfig;
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, IoContext, Result};
use crate::folder::{self, Topic};
use crate::health::{Health, Stats, lock};
use crate::inner::Inner;
use crate::keeper;
use crate::positions::{Key, ReaderPosition, Value, check_reader};
use crate::record::{Appended, OffsetRange, Record, StoredRecord};
use crate::recovery::{RecoveryReport, Skipped};
use crate::shared::Shared;
use crate::topics::{self, TOPICS, TopicMeta};

/// A durable log: topics of partitions, each an ordered sequence of records.
///
/// All methods may be called from any number of threads and tasks. Those that are not `async` do blocking I/O: call
/// them where blocking is allowed. A log that is dropped without [`Log::close`] loses nothing that was acknowledged.
#[derive(Debug)]
pub struct Log {
    pub(crate) inner: Arc<Inner>,
    pub(crate) keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in folder `dir`, making an empty one where there is none, and recovers what a crash left.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Corrupt`], [`Error::FormatTooNew`], [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>, config: LogConfig) -> Result<(Self, RecoveryReport)> {
        Self::open_on(Arc::new(RealDisk), dir, config)
    }

    /// [`Log::open`] on another disk than the operating system's.
    ///
    /// # Errors
    /// Those of [`Log::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: impl AsRef<Path>,
        config: LogConfig,
    ) -> Result<(Self, RecoveryReport)> {
        let dir = dir.as_ref();
        disk.create_dir_all(dir).during("create", dir)?;
        let guard = folder::lock(&*disk, dir)?;
        folder::initialise(&*disk, dir)?;
        let shared = Arc::new(Shared::new(disk, dir, config));
        let mut opened = folder::open(&shared)?;
        let mut report = std::mem::take(&mut opened.report);
        let committers = Committers::start(&shared)?;
        let inner = Arc::new(Inner::new(shared, opened, committers, Some(guard))?);
        inner.skip_what_readers_passed(&mut report)?;
        let keeper = keeper::start(Arc::clone(&inner))?;
        Ok((Self { inner, keeper: Mutex::new(Some(keeper)) }, report))
    }

    /// Makes a topic. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::TopicExists`], [`Error::InvalidTopic`], [`Error::TooManyTopics`], [`Error::DiskFull`], [`Error::Io`].
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<TopicMeta> {
        let inner = &*self.inner;
        topics::check_name(name)?;
        inner.check_partitions(name, partitions)?;
        let _admin = inner.begin_admin()?;
        inner.shared.check_writable()?;
        let count = {
            let topics = inner.topics();
            if topics.contains_key(name) {
                return Err(Error::TopicExists(name.to_owned()));
            }
            topics.len()
        };
        let shared = &inner.shared;
        if count >= shared.config.max_topics {
            return Err(Error::TooManyTopics { limit: shared.config.max_topics });
        }
        let meta = TopicMeta {
            name: name.to_owned(),
            partitions,
            generation: Uuid::new_v4().to_string(),
            created_ms: shared.config.clock.now_ms(),
        };
        let folder = shared.dir.join(TOPICS);
        topics::create(&*shared.disk, &folder, &meta)
            .map_err(|error| inner.shared.refused_or_poisoned(error))?;
        let partitions = inner.open_new(&meta, 0).map_err(|error| {
            // Nobody is told of the topic, so its name has to be free again.
            let _ = topics::delete(&*shared.disk, &folder, name);
            shared.nothing_stored(error)
        })?;
        inner.topics_mut().insert(meta.name.clone(), Topic { meta: meta.clone(), partitions });
        tracing::info!(topic = name, partitions = meta.partitions, "topic created");
        Ok(meta)
    }

    /// Raises the number of a topic's partitions to `total`; fewer than there are is refused.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::InvalidTopic`], [`Error::DiskFull`], [`Error::Io`].
    pub fn add_partitions(&self, name: &str, total: u32) -> Result<TopicMeta> {
        let _admin = self.inner.begin_admin()?;
        self.grow(&self.topic(name)?, total)
    }

    /// [`Log::add_partitions`] of a topic that the caller keeps from being changed.
    fn grow(&self, meta: &TopicMeta, total: u32) -> Result<TopicMeta> {
        let (inner, name) = (&*self.inner, meta.name.as_str());
        inner.check_partitions(name, total)?;
        inner.shared.check_writable()?;
        if total < meta.partitions {
            let reason = format!("it has {} partitions already, they cannot become {total}", meta.partitions);
            return Err(Error::InvalidTopic { name: name.to_owned(), reason });
        }
        let shared = &inner.shared;
        let dir = shared.dir.join(TOPICS).join(name);
        let grown = TopicMeta { partitions: total, ..meta.clone() };
        // Counted last: whatever fails before that has made nothing that anybody sees.
        topics::make_partitions(&*shared.disk, &dir, meta, total)
            .map_err(|error| shared.refused_or_poisoned(error))?;
        let added = inner.open_new(&grown, meta.partitions).map_err(|error| shared.nothing_stored(error))?;
        if let Err(error) = topics::write_meta(&*shared.disk, &dir, &grown) {
            // It may be there all the same, and must not be when the log is opened next.
            let is_untouched = topics::read_meta(&*shared.disk, &dir, name).is_ok_and(|found| found == *meta);
            let restored = if is_untouched { Ok(()) } else { topics::write_meta(&*shared.disk, &dir, meta) };
            return Err(match restored {
                Ok(()) => shared.refused_or_poisoned(error),
                Err(worse) => shared.poisoned_by("take back a failed change of", &dir, &worse),
            });
        }
        if let Some(topic) = inner.topics_mut().get_mut(name) {
            topic.meta = grown.clone();
            topic.partitions.extend(added);
        }
        Ok(grown)
    }

    /// Removes a topic with all its records; positions in it are forgotten.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::Io`].
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let inner = &*self.inner;
        let _admin = inner.begin_admin()?;
        let topic = inner.topics().get(name).cloned().ok_or_else(|| Error::UnknownTopic(name.to_owned()))?;
        for partition in &topic.partitions {
            // Under the writer's lock: what is being written is finished, what comes later is refused.
            let _writer = lock(&partition.writer);
            partition.deleted.store(true, Ordering::Release);
        }
        inner.topics_mut().remove(name);
        for partition in &topic.partitions {
            let held = partition.held.read().unwrap_or_else(PoisonError::into_inner);
            held.segments.iter().for_each(|segment| inner.shared.files.forget(segment.id));
        }
        topics::delete(&*inner.shared.disk, &inner.shared.dir.join(TOPICS), name)
            .map_err(|error| inner.shared.refused_or_poisoned(error))?;
        tracing::info!(topic = name, "topic deleted");
        Ok(())
    }

    /// All topics, ascending by name.
    pub fn topics(&self) -> Vec<TopicMeta> {
        self.inner.topics().values().map(|topic| topic.meta.clone()).collect()
    }

    /// One topic.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub fn topic(&self, name: &str) -> Result<TopicMeta> {
        let topics = self.inner.topics();
        topics.get(name).map(|topic| topic.meta.clone()).ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    /// Appends records to one partition, all or none, in their order; answers when they are as durable as
    /// [`LogConfig::durability`] says. Waits while too much waits to be written.
    ///
    /// Dropping the future once it waits for the disk does not take the append back.
    ///
    /// # Errors
    /// Nothing was stored: [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::RecordTooLarge`],
    /// [`Error::BatchTooLarge`], [`Error::DiskFull`], [`Error::WriteFailed`]. Unknown whether it was stored:
    /// [`Error::Poisoned`], [`Error::Closed`].
    pub async fn append(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Appended> {
        let partition = self.inner.partition(topic, partition)?;
        self.inner.append(partition, records).await
    }

    /// Records from `offset` on, in order: about `max_bytes` of payload, at least one record where there is one, none at
    /// the end of the partition. One call stays within one segment.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`], [`Error::Corrupt`], [`Error::UnknownTopic`], [`Error::UnknownPartition`],
    /// [`Error::Io`].
    pub fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>> {
        self.inner.partition(topic, partition)?.read(offset, max_bytes)
    }

    /// The offsets a partition holds.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`].
    pub fn offsets(&self, topic: &str, partition: u32) -> Result<OffsetRange> {
        Ok(self.inner.partition(topic, partition)?.offsets())
    }

    /// The first offset whose record is not older than `timestamp_ms`; `None` when all are older.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::Io`].
    pub fn offset_at(&self, topic: &str, partition: u32, timestamp_ms: i64) -> Result<Option<u64>> {
        let partition = self.inner.partition(topic, partition)?;
        let beginning = partition.offsets().beginning;
        Ok(partition.offset_at(timestamp_ms)?.map(|offset| offset.max(beginning)))
    }

    /// A partition's end, as it moves: the offset after the last durable record.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`].
    pub fn subscribe(&self, topic: &str, partition: u32) -> Result<watch::Receiver<u64>> {
        Ok(self.inner.partition(topic, partition)?.end.subscribe())
    }

    /// Gives no offset below `next` to a record: somebody outside of the log (a table, an archive) holds records under
    /// them, and would take new ones for those. A log that was restored from an older copy, or lost what the system had not
    /// flushed yet, ends before such an offset. A partition that the topic lacks is made. Durable when it returns; gives
    /// the offsets that are left out now, if any. Nothing is done where the topic is not of this generation.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::InvalidTopic`], [`Error::DiskFull`], [`Error::Poisoned`], [`Error::Closed`],
    /// [`Error::Io`]; [`Error::ViewOnly`] where a view would have to leave offsets out.
    pub fn skip_to(
        &self,
        topic: &str,
        generation: &str,
        partition: u32,
        next: u64,
    ) -> Result<Option<Skipped>> {
        let inner = &*self.inner;
        let is_another = self.topic(topic)?.generation != generation;
        let ends_behind = || self.offsets(topic, partition).is_ok_and(|held| held.end >= next);
        if is_another || next == 0 || ends_behind() {
            return Ok(None);
        }
        let _admin = inner.begin_admin()?;
        // It may have been deleted, and made again, since it was looked at.
        let meta = self.topic(topic)?;
        if meta.generation != generation {
            return Ok(None);
        }
        if partition >= meta.partitions {
            self.grow(&meta, partition.saturating_add(1))?;
        }
        inner.skip_to(&*inner.partition(topic, partition)?, next)
    }

    /// Offsets within a partition that were given once and have no records any more, ascending: see [`Log::skip_to`],
    /// [`RecoveryReport::skipped`] and [`crate::repair()`]. Known for as long as retention keeps what lies around them.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`].
    pub fn gaps(&self, topic: &str, partition: u32) -> Result<Vec<OffsetRange>> {
        Ok(self.inner.partition(topic, partition)?.gaps())
    }

    /// Remembers durably that `reader` goes on at offset `next`. From then on retention keeps what it has not passed.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] beyond the end, [`Error::InvalidReader`], and those of [`Log::append`].
    pub async fn commit_position(&self, reader: &str, topic: &str, partition: u32, next: u64) -> Result<()> {
        check_reader(reader)?;
        let (meta, range) = (self.topic(topic)?, self.offsets(topic, partition)?);
        if next > range.end {
            let OffsetRange { beginning, end } = range;
            let topic = topic.to_owned();
            return Err(Error::OffsetOutOfRange { topic, partition, offset: next, beginning, end });
        }
        let key = Key { reader: reader.to_owned(), topic: topic.to_owned(), partition };
        self.inner.set_position(key, Some(Value { generation: meta.generation, next })).await
    }

    /// The next offset that `reader` will read, where it has committed one.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`].
    pub fn position(&self, reader: &str, topic: &str, partition: u32) -> Result<Option<u64>> {
        let generation = self.topic(topic)?.generation;
        self.inner.partition(topic, partition)?;
        let key = Key { reader: reader.to_owned(), topic: topic.to_owned(), partition };
        let known = self.inner.positions.get(&key);
        Ok(known.filter(|value| value.generation == generation).map(|value| value.next))
    }

    /// All readers' positions in topics that exist, by reader, topic and partition.
    pub fn positions(&self) -> Vec<ReaderPosition> {
        let inner = &*self.inner;
        let all = inner.positions.all().into_iter();
        all.filter(|(key, value)| inner.has_generation(&key.topic, &value.generation))
            .map(|(Key { reader, topic, partition }, Value { next, .. })| ReaderPosition {
                reader,
                topic,
                partition,
                next,
            })
            .collect()
    }

    /// Forgets a reader and all its positions, so that retention no longer waits for it.
    ///
    /// # Errors
    /// Those of [`Log::append`].
    pub async fn forget_reader(&self, reader: &str) -> Result<()> {
        for (key, _) in self.inner.positions.all() {
            if key.reader == reader {
                self.inner.set_position(key, None).await?;
            }
        }
        Ok(())
    }

    /// Lets go what the settings allow and every registered reader has passed; returns how many segments went.
    ///
    /// # Errors
    /// The first one where partitions failed; the others were gone through all the same. [`Error::Io`], and
    /// [`Error::DiskFull`] where a segment that is too old cannot be completed.
    pub fn apply_retention(&self) -> Result<u64> {
        keeper::apply_retention(&self.inner)
    }

    /// Removes the segments whose records all lie before `offset` and were passed by every registered reader; returns how
    /// many it removed. Completes the segment being written if it holds such records, so that a later call can remove it.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::Io`], [`Error::DiskFull`], [`Error::Poisoned`],
    /// [`Error::Closed`], [`Error::ViewOnly`].
    pub fn forget_before(&self, topic: &str, partition: u32, offset: u64) -> Result<u64> {
        let partition = self.inner.partition(topic, partition)?;
        let _admin = self.inner.begin_admin()?;
        keeper::forget_before(&self.inner, &partition, offset)
    }

    /// Largest record that is taken: key, value and headers together, in bytes.
    pub fn max_record_bytes(&self) -> usize {
        self.inner.shared.config.max_record_bytes
    }

    /// Whether writes are taken now. Cheap.
    pub fn health(&self) -> Health {
        self.inner.shared.health.get()
    }

    /// The health as it changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.inner.shared.health.subscribe()
    }

    /// What the log has done since it was opened.
    pub fn stats(&self) -> Stats {
        let all = self.inner.shared.config.queue_bytes.clamp(1, u32::MAX as usize >> 1);
        let waiting = all.saturating_sub(self.inner.queue.available_permits());
        self.inner.shared.counters.snapshot(waiting as u64)
    }

    /// Bytes of the segments of a topic, over all its partitions.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub fn topic_bytes(&self, name: &str) -> Result<u64> {
        let topics = self.inner.topics();
        let topic = topics.get(name).ok_or_else(|| Error::UnknownTopic(name.to_owned()))?;
        Ok(topic.partitions.iter().map(|partition| partition.bytes()).sum())
    }

    /// Writes what waits, refuses what comes later, notes that all is in good order and gives the folder free.
    /// A second call does nothing.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Io`]: what was acknowledged is safe, the next open has to recover.
    pub fn close(&self) -> Result<()> {
        if !self.stop() {
            return Ok(());
        }
        if self.inner.shared.is_view {
            return Ok(());
        }
        let result = {
            // A topic that is being deleted is gone before it is written down what there is.
            let _admin = lock(&self.inner.admin);
            self.inner.mark_clean()
        };
        lock(&self.inner.guard).take();
        result
    }

    /// Ends all threads; false where that was done before.
    fn stop(&self) -> bool {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.inner.committers.stop();
        self.inner.shared.bell.ring();
        if lock(&self.keeper).take().is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!("the keeper thread panicked");
        }
        true
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
        lock(&self.inner.guard).take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_topic_deleted_while_offsets_are_left_out_is_unknown_or_deleted_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
        for round in 0..20 {
            let generation = log.create_topic("t", 1).unwrap().generation;
            let partition = log.inner.partition("t", 0).unwrap();
            let begin = Barrier::new(3);
            std::thread::scope(|scope| {
                let writer = lock(&partition.writer);
                let skipping = scope.spawn(|| {
                    begin.wait();
                    log.skip_to("t", &generation, 0, 9)
                });
                let deleting = scope.spawn(|| {
                    begin.wait();
                    log.delete_topic("t")
                });
                begin.wait();
                // Both come to the writer, or to what the other one holds meanwhile.
                (0..100).for_each(|_| std::thread::yield_now());
                drop(writer);
                let skipped = skipping.join().unwrap();
                assert!(matches!(skipped, Ok(Some(_)) | Err(Error::UnknownTopic(_))), "{round}: {skipped:?}");
                deleting.join().unwrap().unwrap();
            });
            assert_eq!(log.health(), Health::Writable, "{round}");
        }
        log.create_topic("t", 1).unwrap();
        assert_eq!(log.offsets("t", 0).unwrap(), OffsetRange { beginning: 0, end: 0 });
    }
}
