//! A log in memory, for tests of what stands on a log: it forgets everything when it is dropped, and it can be told to
//! fail the way a real one does.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::{
    Error, EventLog, Health, OffsetRange, PartitionDescription, ReadLimit, Record, Result, StoredRecord,
    TopicDescription, check_topic_name,
};

/// Largest record a new [`MemoryLog`] takes: key, value and headers together, in bytes.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// An [`EventLog`] that lives in memory.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
    appended: Notify,
    /// True while appends wait.
    held: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    topics: BTreeMap<String, Topic>,
    positions: HashMap<(String, String, u32), u64>,
    health: Health,
    max_record_bytes: usize,
    generations: u64,
}

#[derive(Debug)]
struct Topic {
    generation: u64,
    partitions: Vec<Vec<StoredRecord>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log that takes writes.
    pub fn new() -> Self {
        let state = State {
            topics: BTreeMap::new(),
            positions: HashMap::new(),
            health: Health::Writable,
            max_record_bytes: MAX_RECORD_BYTES,
            generations: 0,
        };
        Self { state: Mutex::new(state), appended: Notify::new(), held: watch::Sender::new(false) }
    }

    /// Sets what [`EventLog::health`] says; anything but writable refuses appends with [`Error::Unavailable`].
    pub fn set_health(&self, health: Health) {
        self.lock().health = health;
    }

    /// Sets the size in bytes (key, value and headers) over which a record is refused with [`Error::RecordTooLarge`].
    pub fn set_max_record_bytes(&self, bytes: usize) {
        self.lock().max_record_bytes = bytes;
    }

    /// Makes appends wait, until it is called with `false`: as if the disk were slow.
    pub fn hold_appends(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// How many appends wait.
    pub fn waiting_appends(&self) -> usize {
        self.held.receiver_count()
    }

    /// All records of a topic, by partition; empty where there is no such topic.
    pub fn records(&self, topic: &str) -> Vec<Vec<StoredRecord>> {
        self.lock().topics.get(topic).map(|topic| topic.partitions.clone()).unwrap_or_default()
    }

    /// The state is whole between any two statements that could panic, so a poisoned mutex is taken over.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_now(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>> {
        let state = self.lock();
        let records = state.partition(topic, partition)?;
        let end = records.len() as u64;
        let held = usize::try_from(offset).ok().and_then(|first| records.get(first..));
        let Some(held) = held else {
            return Err(Error::OffsetOutOfRange {
                topic: topic.to_owned(),
                partition,
                offset,
                beginning: 0,
                end,
            });
        };
        let mut found = Vec::new();
        let mut bytes = 0;
        for record in held {
            bytes += payload_bytes(record.key.as_deref(), record.value.as_deref(), &record.headers);
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(record.clone());
        }
        Ok(found)
    }
}

impl State {
    fn topic(&self, topic: &str) -> Result<&Topic> {
        self.topics.get(topic).ok_or_else(|| Error::UnknownTopic(topic.to_owned()))
    }

    fn partition(&self, topic: &str, partition: u32) -> Result<&Vec<StoredRecord>> {
        let unknown = || Error::UnknownPartition { topic: topic.to_owned(), partition };
        self.topic(topic)?.partitions.get(partition as usize).ok_or_else(unknown)
    }
}

fn payload_bytes(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(String, Option<bytes::Bytes>)],
) -> usize {
    let headers: usize =
        headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, |v| v.len())).sum();
    key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        check_topic_name(topic)?;
        if partitions == 0 {
            let reason = "it needs at least one partition".to_owned();
            return Err(Error::InvalidTopic { name: topic.to_owned(), reason });
        }
        let mut state = self.lock();
        if state.topics.contains_key(topic) {
            return Err(Error::TopicExists(topic.to_owned()));
        }
        state.generations += 1;
        let generation = state.generations;
        let partitions = (0..partitions).map(|_| Vec::new()).collect();
        state.topics.insert(topic.to_owned(), Topic { generation, partitions });
        Ok(())
    }

    async fn add_partitions(&self, topic: &str, total: u32) -> Result<()> {
        let mut state = self.lock();
        let unknown = || Error::UnknownTopic(topic.to_owned());
        let found = state.topics.get_mut(topic).ok_or_else(unknown)?;
        let total = found.partitions.len().max(total as usize);
        found.partitions.resize_with(total, Vec::new);
        Ok(())
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        let mut state = self.lock();
        state.topics.remove(topic).ok_or_else(|| Error::UnknownTopic(topic.to_owned()))?;
        state.positions.retain(|(_, name, _), _| name != topic);
        drop(state);
        // A read that waits on the topic must learn that it is gone.
        self.appended.notify_waiters();
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<String>> {
        Ok(self.lock().topics.keys().cloned().collect())
    }

    async fn describe(&self, topic: &str) -> Result<TopicDescription> {
        let state = self.lock();
        let found = state.topic(topic)?;
        let partitions = (0..).zip(&found.partitions);
        let partitions =
            partitions.map(|(partition, _)| PartitionDescription::open(partition, 0, vec![(0, true)]));
        Ok(TopicDescription {
            name: topic.to_owned(),
            generation: found.generation.to_string(),
            configs: BTreeMap::new(),
            partitions: partitions.collect(),
        })
    }

    async fn append(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Vec<u64>> {
        // It fails only when the sender is gone, and `self` holds that.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        let mut state = self.lock();
        match &state.health {
            Health::Writable => {}
            Health::ReadOnly { reason } | Health::Poisoned { reason } => {
                return Err(Error::Unavailable(reason.clone()));
            }
        }
        state.partition(topic, partition)?;
        let limit = state.max_record_bytes;
        for record in &records {
            let bytes = payload_bytes(record.key.as_deref(), record.value.as_deref(), &record.headers);
            if bytes > limit {
                return Err(Error::RecordTooLarge { bytes, limit });
            }
        }
        let held = state.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(partition as usize));
        let Some(held) = held else {
            return Err(Error::UnknownPartition { topic: topic.to_owned(), partition });
        };
        let mut offsets = Vec::with_capacity(records.len());
        for record in records {
            let Record { key, value, headers, timestamp_ms } = record;
            let offset = held.len() as u64;
            // Time stamps of a partition never go backwards, so that `offset_at` can search them.
            let previous = held.last().map_or(i64::MIN, |record| record.timestamp_ms);
            let timestamp_ms = timestamp_ms.unwrap_or_else(now_ms).max(previous);
            held.push(StoredRecord { offset, timestamp_ms, key, value, headers });
            offsets.push(offset);
        }
        drop(state);
        self.appended.notify_waiters();
        Ok(offsets)
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>> {
        let deadline = Instant::now() + limit.max_wait;
        loop {
            // Registered before looking, so that an append between the look and the wait wakes it.
            let appended = self.appended.notified();
            let found = self.read_now(topic, partition, offset, limit.max_bytes)?;
            let time_is_up = limit.max_wait.is_zero() || Instant::now() >= deadline;
            if !found.is_empty() || time_is_up {
                return Ok(found);
            }
            // A time-out only ends the wait; the loop looks once more and then returns.
            let _ = tokio::time::timeout_at(deadline, appended).await;
        }
    }

    async fn offsets(&self, topic: &str, partition: u32) -> Result<OffsetRange> {
        let state = self.lock();
        let end = state.partition(topic, partition)?.len() as u64;
        Ok(OffsetRange { beginning: 0, end })
    }

    async fn offset_at(&self, topic: &str, partition: u32, timestamp_ms: i64) -> Result<Option<u64>> {
        let state = self.lock();
        let records = state.partition(topic, partition)?;
        Ok(records.iter().find(|record| record.timestamp_ms >= timestamp_ms).map(|record| record.offset))
    }

    async fn position(&self, reader: &str, topic: &str, partition: u32) -> Result<Option<u64>> {
        let state = self.lock();
        state.partition(topic, partition)?;
        Ok(state.positions.get(&(reader.to_owned(), topic.to_owned(), partition)).copied())
    }

    async fn commit_position(
        &self,
        reader: &str,
        topic: &str,
        partition: u32,
        next_offset: u64,
    ) -> Result<()> {
        let mut state = self.lock();
        let end = state.partition(topic, partition)?.len() as u64;
        if next_offset > end {
            return Err(Error::OffsetOutOfRange {
                topic: topic.to_owned(),
                partition,
                offset: next_offset,
                beginning: 0,
                end,
            });
        }
        state.positions.insert((reader.to_owned(), topic.to_owned(), partition), next_offset);
        Ok(())
    }

    fn max_record_bytes(&self) -> usize {
        self.lock().max_record_bytes
    }

    fn health(&self) -> Health {
        self.lock().health.clone()
    }
}
