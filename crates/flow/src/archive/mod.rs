//! From the log to the archive: every accepted record into exactly one object.
//!
//! The archiver reads each partition as the log's reader `archive`, gathers records into an object, puts the object
//! with its manifest, and only then commits its position in the log.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the object or its manifest is durable | see [`pinmill_lake::archive`]: the replay writes or adopts it |
//! | after that, before the position is committed | the replay reads the same records again, starts an object at the same offset, finds it there and adopts it, wherever it would have rolled this time |
//! | after the position is committed | nothing is read again |
//!
//! A topic that was deleted and made again is archived as another life of its name: its objects have other names, and its
//! position in the log is one of its own (see the module `lineage`).
//!
//! What is gathered lives in memory only; the log is its durable form. Memory is bounded by
//! [`ArchiveConfig::max_buffered`] over all partitions: when it is reached, the largest object is put early.
//!
//! A partition that fails rests for a while, longer each time, and is read again from its position. The others do not
//! wait for it.

mod rest;
mod roll;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::pending;
use pinmill_broker::{EventLog, OffsetRange, ReadLimit, TopicDescription};
use pinmill_lake::archive::{Archive, Compression, ObjectBuilder, Put};
use pinmill_lake::lineage::Lineages;
use pinmill_lake::{LateLake, TopicPartition};
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use self::rest::Rests;
pub use self::roll::RollPolicy;
use self::roll::{Now, Waiting, relieve};
use crate::crash::crash_point;
use crate::shrunk::behind_gap;
use crate::supervise::{Part, Parts, supervise};
use crate::{Backoff, Error, Half, Result, lineage};

/// The name under which the archiver's positions stand in the log.
pub const ARCHIVE_READER: &str = "archive";

/// How much is read from one partition before the next one has its turn.
const FETCH_BYTES: usize = 1 << 20;

/// How records become archive objects.
#[derive(Debug, Clone)]
pub struct ArchiveConfig {
    /// Most records in one object.
    pub max_records: u64,
    /// An object is finished by the record that brings it to this many bytes, before compression.
    pub max_bytes: usize,
    /// A record waits no longer than this for its object.
    pub max_age: Duration,
    /// How objects are compressed.
    pub compression: Compression,
    /// Directory of the topics within the lake (`topics`).
    pub prefix: String,
    /// Most bytes gathered in memory over all partitions.
    pub max_buffered: usize,
    /// Pauses after errors, of one partition or of the log as a whole.
    pub retry: Backoff,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            max_records: 100_000,
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(60),
            compression: Compression::None,
            prefix: "topics".to_owned(),
            max_buffered: 256 << 20,
            retry: Backoff::default(),
        }
    }
}

impl ArchiveConfig {
    fn policy(&self) -> RollPolicy {
        RollPolicy { max_records: self.max_records.max(1), max_bytes: self.max_bytes, max_age: self.max_age }
    }
}

/// What an archiver did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArchiveReport {
    /// Objects written.
    pub objects: u64,
    /// Records in them.
    pub records: u64,
    /// Objects that an earlier attempt had left and that were taken over.
    pub adopted: u64,
    /// Records that the log had dropped before they were archived: the partition, first and last offset.
    pub lost: Vec<(TopicPartition, u64, u64)>,
}

impl ArchiveReport {
    fn join(&mut self, other: Self) {
        self.objects += other.objects;
        self.records += other.records;
        self.adopted += other.adopted;
        self.lost.extend(other.lost);
    }
}

/// Moves records from the log into the archive.
#[derive(Debug)]
pub struct Archiver {
    log: Arc<dyn EventLog>,
    lake: LateLake,
    opened: OnceCell<Opened>,
    part: Part,
    config: ArchiveConfig,
    started: Instant,
    /// Topics that were already reported because their names are too long for the archive.
    without_room: std::sync::Mutex<BTreeSet<String>>,
    /// One at a time gathers and puts, so that [`Archiver::run_once`] may be called beside [`Archiver::run`].
    slots: Mutex<Slots>,
    /// The latest [`Archiver::run_once`] could not archive everything.
    flush_failed: AtomicBool,
}

/// What of the lake is needed, once it could be opened.
#[derive(Debug)]
struct Opened {
    archive: Archive,
    lineages: Lineages,
}

type Slots = BTreeMap<TopicPartition, Slot>;

/// What is being gathered of one partition.
#[derive(Debug)]
struct Slot {
    generation: String,
    /// The archiver had never seen the partition before.
    is_new: bool,
    /// Which life of the topic's name it is: asked for when there is something to be archived.
    lineage: Option<u32>,
    object: ObjectBuilder,
    /// The offset to be read next.
    next: u64,
    /// When the first record of the object was seen.
    seen: Duration,
    /// An object of this many records is there already from an earlier attempt.
    there: Option<u64>,
}

impl Archiver {
    /// An archiver from `log` into the archive of `lake`. Nothing is read yet.
    pub fn new(log: Arc<dyn EventLog>, lake: impl Into<LateLake>, config: ArchiveConfig) -> Self {
        let (lake, part) = (lake.into(), Part::unwatched("archive"));
        let (opened, slots, flush_failed) = (OnceCell::new(), Mutex::default(), AtomicBool::new(false));
        let (without_room, started) = (std::sync::Mutex::default(), Instant::now());
        Self { log, lake, opened, part, config, started, without_room, slots, flush_failed }
    }

    /// Shows how it is as the part `archive`.
    #[must_use]
    pub fn with_parts(self, parts: &Parts) -> Self {
        Self { part: parts.add("archive"), ..self }
    }

    async fn opened(&self) -> Result<&Opened> {
        let open = || async {
            let layout = pinmill_lake::archive::ArchiveConfig {
                topics_dir: self.config.prefix.clone(),
                compression: self.config.compression,
            };
            let lake = self.lake.open().await?;
            let lineages = Lineages::new(&lake, Half::Batch.name());
            Ok(Opened { archive: Archive::new(&lake, layout), lineages })
        };
        self.opened.get_or_try_init(open).await
    }

    async fn archive(&self) -> Result<&Archive> {
        Ok(&self.opened().await?.archive)
    }

    /// [`Archiver::run`], begun again after errors of the log or the lake as a whole, and after panics.
    ///
    /// # Errors
    /// Those of the last round, after `stop`.
    pub async fn supervised(self: &Arc<Self>, stop: CancellationToken) -> Result<ArchiveReport> {
        let attempt = || {
            let (archiver, stop) = (Arc::clone(self), stop.clone());
            async move { archiver.run(stop).await }
        };
        supervise(&self.part, &stop, self.config.retry, |_| pending().boxed(), attempt).await
    }

    /// Archives everything that the log holds now, whatever the bounds say, and returns when it is durable.
    ///
    /// # Errors
    /// The first error; the other partitions are archived all the same.
    pub async fn run_once(&self) -> Result<ArchiveReport> {
        self.archive().await?;
        let mut slots = self.slots.lock().await;
        let mut report = ArchiveReport::default();
        let mut failure = None;
        for (topic, place) in self.partitions(&mut slots).await? {
            let flushed = self.flush(&mut slots, &topic, &place, &mut report).await;
            if let Err(error) = flushed {
                slots.remove(&place);
                let why = error.chain();
                tracing::error!(topic = place.topic, partition = place.partition, error = %why, "archiving failed");
                self.part.failed(&why);
                failure.get_or_insert(error);
            }
        }
        self.flush_failed.store(failure.is_some(), Ordering::Relaxed);
        failure.map_or(Ok(report), Err)
    }

    /// Archives until `stop` is cancelled, then everything that is left, and returns.
    ///
    /// An error of one partition is told in the log and tried again later; the other partitions go on.
    ///
    /// # Errors
    /// Those of the log or the lake as a whole, and those of the last round, after `stop`.
    pub async fn run(&self, stop: CancellationToken) -> Result<ArchiveReport> {
        let (mut report, mut rests) = (ArchiveReport::default(), Rests::default());
        let archive = self.archive().await?;
        if let Err(error) = archive.lake().sweep().await {
            // The first put does it again.
            tracing::warn!(error = %Error::from(error).chain(), "leftovers of killed processes were not removed");
        }
        // What an earlier attempt gathered before it ended is read again.
        self.slots.lock().await.clear();
        while !stop.is_cancelled() {
            let put_before = report.objects + report.adopted;
            let more = self.round(self.now(), &mut rests, &mut report).await?;
            let any_put = report.objects + report.adopted > put_before;
            if rests.is_empty() && self.has_recovered(any_put).await {
                self.part.works_on();
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.poll()) => {}
            }
        }
        report.join(self.run_once().await?);
        Ok(report)
    }

    /// Whether a flush that failed is made up for. That records can be read does not say that they can be put.
    async fn has_recovered(&self, any_put: bool) -> bool {
        if !self.flush_failed.load(Ordering::Relaxed) {
            return true;
        }
        let recovered = any_put || self.slots.lock().await.values().all(|slot| slot.object.is_empty());
        self.flush_failed.store(!recovered, Ordering::Relaxed);
        recovered
    }

    /// Time between two looks at a log that had nothing new.
    fn poll(&self) -> Duration {
        (self.config.max_age / 10).clamp(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// Reads once from every partition that does not rest, and puts what is finished. True when there is more to read
    /// right away.
    ///
    /// # Errors
    /// Those of the log as a whole. A partition that fails is told of here, and rests.
    async fn round(&self, now: Now, rests: &mut Rests, report: &mut ArchiveReport) -> Result<bool> {
        let mut slots = self.slots.lock().await;
        let partitions = self.partitions(&mut slots).await?;
        rests.retain(|place| partitions.iter().any(|(_, known)| known == place));
        let mut more = false;
        for (topic, place) in partitions {
            if rests.holds(&place, self.started.elapsed()) {
                continue;
            }
            if rests.begins_again(&place) {
                self.part.begins_again();
            }
            let put_before = report.objects + report.adopted;
            match self.advance(&mut slots, &topic, &place, now, report).await {
                Ok(any) => {
                    more |= any;
                    // That it can be read does not say that it can be put.
                    let nothing_waits = slots.get(&place).is_none_or(|slot| slot.object.is_empty());
                    if nothing_waits || report.objects + report.adopted > put_before {
                        rests.recovered(&place);
                    }
                }
                Err(error) => self.give_rest(&mut slots, rests, &place, &error),
            }
        }
        self.put_when_short_of_memory(&mut slots, rests, report).await;
        Ok(more)
    }

    /// Reads once from a partition and puts what is finished or has waited long enough. True when anything was read.
    async fn advance(
        &self,
        slots: &mut Slots,
        topic: &TopicDescription,
        place: &TopicPartition,
        now: Now,
        report: &mut ArchiveReport,
    ) -> Result<bool> {
        let any = self.gather(slots, topic, place, now, report).await?;
        self.put_when_old(slots, place, now, report).await?;
        Ok(any)
    }

    /// Tells a partition's error and leaves the partition alone for a while. What was gathered of it is read again: the
    /// log has it.
    fn give_rest(&self, slots: &mut Slots, rests: &mut Rests, key: &TopicPartition, error: &Error) {
        slots.remove(key);
        let pause = rests.failed(key, self.started.elapsed(), self.config.retry);
        let (topic, partition, hint, why) = (key.topic.as_str(), key.partition, error.hint(), error.chain());
        tracing::error!(topic, partition, error = %why, hint, "archiving failed, retrying in {pause:?}");
        self.part.failed(&why);
    }

    /// All partitions of the log. Slots of topics that are gone are dropped.
    async fn partitions(&self, slots: &mut Slots) -> Result<Vec<(Arc<TopicDescription>, TopicPartition)>> {
        let archive = self.archive().await?;
        let mut all = Vec::new();
        for name in self.log.topics().await? {
            let topic = match self.log.describe(&name).await {
                Ok(topic) => Arc::new(topic),
                // Deleted in between.
                Err(pinmill_broker::Error::UnknownTopic(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let partitions = topic.partitions.iter().map(|p| TopicPartition::new(&topic.name, p.partition));
            // Made by a version that took every name. The log keeps its records, and an audit names them.
            let (fit, without_room): (Vec<_>, Vec<_>) = partitions.partition(|place| archive.can_hold(place));
            if !without_room.is_empty() {
                self.tell_of_no_room(&topic.name);
            }
            all.extend(fit.into_iter().map(|place| (Arc::clone(&topic), place)));
        }
        slots.retain(|key, slot| {
            all.iter().any(|(topic, _)| topic.name == key.topic && topic.generation == slot.generation)
        });
        Ok(all)
    }

    /// Once in the life of an archiver.
    fn tell_of_no_room(&self, topic: &str) {
        let mut told = self.without_room.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(topic.to_owned()) {
            let (length, most) = (topic.len(), pinmill_lake::archive::max_topic_name());
            tracing::error!(
                topic,
                length,
                most,
                "the topic's name is too long for the archive's files: its records stay in the log"
            );
        }
    }

    /// Where this partition goes on: its slot, made from the committed position where there is none.
    async fn slot<'a>(
        &self,
        slots: &'a mut Slots,
        topic: &TopicDescription,
        place: &TopicPartition,
        held: OffsetRange,
        report: &mut ArchiveReport,
    ) -> Result<&'a mut Slot> {
        use std::collections::btree_map::Entry;
        let entry = match slots.entry(place.clone()) {
            Entry::Occupied(slot) => return Ok(slot.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        let (name, partition) = (&topic.name, place.partition);
        let failed = |source| log_error(place, source);
        let position = self.log.position(ARCHIVE_READER, name, partition).await.map_err(failed)?;
        let next = match position {
            // From now on retention keeps what is not archived.
            None => {
                let first = held.beginning;
                self.log.commit_position(ARCHIVE_READER, name, partition, first).await.map_err(failed)?;
                first
            }
            Some(position) if position > held.end => {
                return Err(Error::LogShrank { place: place.clone(), position, end: held.end });
            }
            Some(position) if position < held.beginning => {
                let last = held.beginning - 1;
                tracing::error!(topic = %name, partition, first = position, last, "records were removed from the log before they were archived");
                report.lost.push((place.clone(), position, last));
                held.beginning
            }
            Some(position) => position,
        };
        let object = ObjectBuilder::new(place, Some(&topic.generation));
        let (generation, is_new) = (topic.generation.clone(), position.is_none());
        let seen = Duration::ZERO;
        Ok(entry.insert(Slot { generation, is_new, lineage: None, object, next, seen, there: None }))
    }

    /// Reads once from a partition; puts each object that is finished. True when anything was read.
    async fn gather(
        &self,
        slots: &mut Slots,
        topic: &TopicDescription,
        place: &TopicPartition,
        now: Now,
        report: &mut ArchiveReport,
    ) -> Result<bool> {
        let (name, partition) = (&topic.name, place.partition);
        let failed = |source| log_error(place, source);
        let held = self.log.offsets(name, partition).await.map_err(failed)?;
        let slot = self.slot(slots, topic, place, held, report).await?;
        if slot.next >= held.end {
            return Ok(false);
        }
        let limit = ReadLimit { max_bytes: FETCH_BYTES, max_wait: Duration::ZERO };
        let records = self.log.read(name, partition, slot.next, limit).await.map_err(failed)?;
        let any = !records.is_empty();
        if !any
            && slot.object.is_empty()
            && let Some(next) = behind_gap(&*self.log, name, partition, slot.next).await.map_err(failed)?
        {
            let (first, last) = (slot.next, next - 1);
            tracing::error!(topic = %name, partition, first, last, "the log lost records before they were archived");
            report.lost.push((place.clone(), first, last));
            self.log.commit_position(ARCHIVE_READER, name, partition, next).await.map_err(failed)?;
            slot.next = next;
        }
        for record in records {
            // After a put that covered less than what was gathered, the rest is read again.
            if record.offset < slot.next {
                continue;
            }
            if slot.object.is_empty() {
                slot.seen = now.uptime;
                self.begin(topic, place, slot).await?;
            }
            slot.object.push(record.offset, record.timestamp_ms, record.value.as_deref())?;
            slot.next = record.offset + 1;
            let gathered = slot.object.sum().count;
            let full = match slot.there {
                Some(count) => gathered >= count,
                None => self.config.policy().full(gathered, slot.object.bytes()),
            };
            if full {
                self.put(place, slot, report).await?;
                if slot.next <= record.offset {
                    break;
                }
            }
        }
        Ok(any)
    }

    /// Begins an object, in the lineage that the topic has.
    async fn begin(&self, topic: &TopicDescription, place: &TopicPartition, slot: &mut Slot) -> Result<()> {
        let lineage = match slot.lineage {
            Some(lineage) => lineage,
            None => {
                let Opened { archive, lineages } = self.opened().await?;
                lineage::of_archived(archive, lineages, topic, slot.is_new).await?
            }
        };
        slot.lineage = Some(lineage);
        slot.object = ObjectBuilder::new(&place.clone().in_lineage(lineage), Some(&slot.generation));
        Ok(())
    }

    /// Archives a partition to its present end.
    async fn flush(
        &self,
        slots: &mut Slots,
        topic: &TopicDescription,
        place: &TopicPartition,
        report: &mut ArchiveReport,
    ) -> Result<()> {
        let (name, partition) = (&topic.name, place.partition);
        let failed = |source| log_error(place, source);
        let end = self.log.offsets(name, partition).await.map_err(failed)?.end;
        loop {
            while self.gather(slots, topic, place, self.now(), report).await?
                && slots.get(place).is_some_and(|slot| slot.next < end)
            {}
            let Some(slot) = slots.get_mut(place).filter(|slot| !slot.object.is_empty()) else {
                return Ok(());
            };
            self.put(place, slot, report).await?;
            if let Some(count) = slot.there {
                let position = slot.object.sum().first + count;
                let end = self.log.offsets(name, partition).await.map_err(failed)?.end;
                if slot.next >= end {
                    return Err(Error::LogShrank { place: place.clone(), position, end });
                }
            }
        }
    }

    /// Puts the slot's object and commits the position, or learns that a longer one is there.
    async fn put(&self, place: &TopicPartition, slot: &mut Slot, report: &mut ArchiveReport) -> Result<()> {
        let stored = match self.archive().await?.put(&slot.object).await? {
            Put::Longer { count } => {
                slot.there = Some(count);
                return Ok(());
            }
            Put::Written(stored) => {
                report.objects += 1;
                report.records += stored.sum.count;
                tracing::debug!(path = stored.path, records = stored.sum.count, "archived");
                stored
            }
            Put::Adopted(stored) => {
                report.adopted += 1;
                tracing::info!(path = stored.path, records = stored.sum.count, "was archived before");
                stored
            }
        };
        crash_point("flow::archive::before_position")?;
        // invariant I2
        let next = stored.sum.last + 1;
        let committed = self.log.commit_position(ARCHIVE_READER, &place.topic, place.partition, next).await;
        committed.map_err(|source| log_error(place, source))?;
        crash_point("flow::archive::after_position")?;
        slot.next = next;
        slot.there = None;
        slot.object = ObjectBuilder::new(place, Some(&slot.generation));
        Ok(())
    }

    async fn put_when_old(
        &self,
        slots: &mut Slots,
        key: &TopicPartition,
        now: Now,
        report: &mut ArchiveReport,
    ) -> Result<()> {
        let Some(slot) = slots.get_mut(key) else { return Ok(()) };
        let Some(stamped_ms) = slot.object.first_timestamp_ms() else { return Ok(()) };
        let waiting = Waiting { stamped_ms, seen: slot.seen };
        if slot.there.is_none() && self.config.policy().old(waiting, now) {
            self.put(key, slot, report).await?;
        }
        Ok(())
    }

    async fn put_when_short_of_memory(
        &self,
        slots: &mut Slots,
        rests: &mut Rests,
        report: &mut ArchiveReport,
    ) {
        let sizes: Vec<usize> = slots.values().map(|slot| slot.object.bytes()).collect();
        let keys: Vec<TopicPartition> = slots.keys().cloned().collect();
        for index in relieve(&sizes, self.config.max_buffered) {
            let key = &keys[index];
            let Some(slot) = slots.get_mut(key) else { continue };
            let put = self.put(key, slot, report).await;
            if let Err(error) = put {
                self.give_rest(slots, rests, key, &error);
            }
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX), uptime: self.started.elapsed() }
    }
}

fn log_error(place: &TopicPartition, source: pinmill_broker::Error) -> Error {
    Error::Log { topic: place.topic.clone(), partition: place.partition, source }
}

#[cfg(test)]
mod tests;
