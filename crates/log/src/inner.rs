//! What the log and its keeper thread share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::{Semaphore, oneshot};

use crate::clean::{self, End};
use crate::committer::Committers;
use crate::disk::LockGuard;
use crate::error::{Error, Result};
use crate::folder::{Opened, Topic, place_of};
use crate::format::encode;
use crate::health::{Health, lock};
use crate::partition::{Job, Partition};
use crate::positions::{Key, Positions, Value, to_record};
use crate::record::{Appended, Record};
use crate::recovery::{RecoveryReport, Skipped, open_partition};
use crate::shared::Shared;
use crate::topics::TopicMeta;

/// What the log and its keeper thread share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) topics: RwLock<BTreeMap<String, Topic>>,
    pub(crate) positions: Positions,
    pub(crate) closed: AtomicBool,
    pub(crate) committers: Committers,
    pub(crate) queue: Arc<Semaphore>,
    /// Held by whoever makes, changes or deletes a topic.
    pub(crate) admin: Mutex<()>,
    /// The folder's lock; a view has none.
    pub(crate) guard: Mutex<Option<Box<dyn LockGuard>>>,
}

impl Inner {
    /// A log of what was opened; `guard` is the folder's lock.
    pub(crate) fn new(
        shared: Arc<Shared>,
        opened: Opened,
        committers: Committers,
        guard: Option<Box<dyn LockGuard>>,
    ) -> Result<Self> {
        let queue_bytes = shared.config.queue_bytes.clamp(1, u32::MAX as usize >> 1);
        Ok(Self {
            positions: Positions::load(opened.positions)?,
            topics: RwLock::new(opened.topics),
            closed: AtomicBool::new(false),
            committers,
            queue: Arc::new(Semaphore::new(queue_bytes)),
            admin: Mutex::default(),
            guard: Mutex::new(guard),
            shared,
        })
    }

    pub(crate) fn topics(&self) -> RwLockReadGuard<'_, BTreeMap<String, Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn topics_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Topic>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All partitions of all topics.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics().values().flat_map(|topic| topic.partitions.iter().cloned()).collect()
    }

    /// True where the topic exists and is still the one that positions of that generation mean.
    pub(crate) fn has_generation(&self, topic: &str, generation: &str) -> bool {
        self.topics().get(topic).is_some_and(|topic| topic.meta.generation == generation)
    }

    pub(crate) fn partition(&self, topic: &str, partition: u32) -> Result<Arc<Partition>> {
        let topics = self.topics();
        let found = topics.get(topic).ok_or_else(|| Error::UnknownTopic(topic.to_owned()))?;
        let place = usize::try_from(partition).ok().and_then(|place| found.partitions.get(place));
        place.cloned().ok_or_else(|| Error::UnknownPartition { topic: topic.to_owned(), partition })
    }

    pub(crate) async fn append(&self, partition: Arc<Partition>, records: Vec<Record>) -> Result<Appended> {
        if records.is_empty() {
            return Ok(Appended { base_offset: partition.end(), count: 0 });
        }
        partition.check_writable()?;
        let config = &self.shared.config;
        let encoded = encode(&records, config.max_record_bytes, config.max_batch_bytes)?;
        // The wait may be long, and there may be many who wait.
        drop(records);
        let all = config.queue_bytes.clamp(1, u32::MAX as usize >> 1);
        let permits = u32::try_from(encoded.bytes.len().min(all)).unwrap_or(u32::MAX);
        let queue = Arc::clone(&self.queue);
        let permit = queue.acquire_many_owned(permits).await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.committers.push(Job { partition, encoded, answer, permit });
        answered.await.map_err(|_| Error::Closed)?.result
    }

    pub(crate) async fn set_position(&self, key: Key, value: Option<Value>) -> Result<()> {
        let sharing = self.positions.tidying.read().await;
        let record = to_record(&key, value.as_ref());
        let appended = self.append(Arc::clone(&self.positions.partition), vec![record]).await?;
        self.positions.apply(key, value, appended.base_offset);
        drop(sharing);
        if self.positions.wants_tidying() {
            self.shared.bell.ring();
        }
        Ok(())
    }

    pub(crate) fn check_partitions(&self, name: &str, partitions: u32) -> Result<()> {
        let most = self.shared.config.max_partitions;
        if (1..=most).contains(&partitions) {
            return Ok(());
        }
        let reason = format!("it may have 1 to {most} partitions, not {partitions}");
        Err(Error::InvalidTopic { name: name.to_owned(), reason })
    }

    pub(crate) fn begin_admin(&self) -> Result<std::sync::MutexGuard<'_, ()>> {
        self.shared.check_owner()?;
        let guard = lock(&self.admin);
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if let Health::Poisoned { reason } = self.shared.health.get() {
            return Err(Error::Poisoned { reason });
        }
        Ok(guard)
    }

    /// Keeps topics from being made and deleted while it is held.
    pub(crate) fn admin(&self) -> std::sync::MutexGuard<'_, ()> {
        lock(&self.admin)
    }

    /// Opens the partitions of a topic from number `first` on, which were just made.
    pub(crate) fn open_new(&self, meta: &TopicMeta, first: u32) -> Result<Vec<Arc<Partition>>> {
        let mut cuts = Vec::new();
        (first..meta.partitions)
            .map(|id| open_partition(&self.shared, place_of(&self.shared, meta, id), None, &mut cuts))
            .collect()
    }

    /// A reader's position beyond a partition's end proves that the disk lost what it had confirmed. Those offsets are
    /// never given again, or the reader would pass over new records.
    pub(crate) fn skip_what_readers_passed(&self, report: &mut RecoveryReport) -> Result<()> {
        for (key, value) in self.positions.all() {
            let partition = {
                let topics = self.topics();
                let topic = topics.get(&key.topic).filter(|t| t.meta.generation == value.generation);
                topic.and_then(|topic| topic.partitions.get(key.partition as usize).cloned())
            };
            let Some(partition) = partition else { continue };
            let Some(skipped) = self.skip_to(&partition, value.next)? else { continue };
            let Skipped { topic, partition, from, to } = &skipped;
            tracing::error!(
                topic,
                partition,
                first = from,
                last = to - 1,
                "records that were acknowledged are gone: the log ends before the offset at which a reader goes on"
            );
            report.skipped.push(skipped);
        }
        Ok(())
    }

    /// Has a partition go on at offset `next`, where it ends before that; returns what it leaves out. The caller keeps the
    /// topic from being deleted.
    pub(crate) fn skip_to(&self, partition: &Partition, next: u64) -> Result<Option<Skipped>> {
        let mut writer = lock(&partition.writer);
        if next <= writer.next {
            return Ok(None);
        }
        self.shared.check_writable()?;
        let topic = partition.topic.to_string();
        let skipped = Skipped { topic, partition: partition.id, from: writer.next, to: next };
        partition.roll(&mut writer, next)?;
        Ok(Some(skipped))
    }

    pub(crate) fn mark_clean(&self) -> Result<()> {
        if let Health::Poisoned { reason } = self.shared.health.get() {
            return Err(Error::Poisoned { reason });
        }
        let mut partitions = self.partitions();
        partitions.push(Arc::clone(&self.positions.partition));
        let mut ends = clean::Ends::new();
        for partition in partitions {
            let mut writer = lock(&partition.writer);
            partition.sync(&mut writer)?;
            partition.give_back_room(&mut writer)?;
            partition.note_index(&mut writer);
            ends.insert(clean::name_of(&partition), End { next: writer.next, bytes: writer.len });
        }
        clean::write(&*self.shared.disk, &self.shared.dir, ends)
    }
}
