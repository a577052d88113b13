//! The embedded log behind the trait.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pinmill_log::{Error as LogError, Log};
use tokio::time::{Instant, timeout_at};

use crate::{
    Error, EventLog, Health, OffsetRange, PartitionDescription, ReadLimit, Record, Result, StoredRecord,
    TopicDescription,
};

/// The one broker there is.
const BROKER: i32 = 0;

/// An [`EventLog`] on this machine's disk.
///
/// What blocks on the disk runs on tokio's blocking threads; an append waits for the log's own.
#[derive(Debug, Clone)]
pub struct EmbeddedLog {
    log: Arc<Log>,
}

impl EmbeddedLog {
    /// The trait over an open log.
    pub fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    /// The log underneath, for what only it can do.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Log) -> pinmill_log::Result<T> + Send + 'static,
    ) -> Result<T> {
        let log = Arc::clone(&self.log);
        let ended = tokio::task::spawn_blocking(move || call(&log)).await;
        Ok(ended.map_err(|died| Error::Failed(format!("a call of the log died: {died}")))??)
    }

    async fn read_now(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<StoredRecord>> {
        // At the end there is nothing to read from the disk.
        if self.log.offsets(topic, partition)?.end == offset {
            return Ok(Vec::new());
        }
        let topic = topic.to_owned();
        self.blocking(move |log| log.read(&topic, partition, offset, bytes)).await
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        let name = topic.to_owned();
        let made = self.blocking(move |log| Ok(log.create_topic(&name, partitions))).await?;
        match made {
            Err(full @ LogError::TooManyTopics { .. }) => {
                Err(Error::InvalidTopic { name: topic.to_owned(), reason: full.to_string() })
            }
            made => Ok(made.map(drop)?),
        }
    }

    async fn add_partitions(&self, topic: &str, total: u32) -> Result<()> {
        if self.log.topic(topic)?.partitions >= total {
            return Ok(());
        }
        let topic = topic.to_owned();
        self.blocking(move |log| log.add_partitions(&topic, total)).await.map(drop)
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        let topic = topic.to_owned();
        self.blocking(move |log| log.delete_topic(&topic)).await
    }

    async fn topics(&self) -> Result<Vec<String>> {
        Ok(self.log.topics().into_iter().map(|topic| topic.name).collect())
    }

    async fn describe(&self, topic: &str) -> Result<TopicDescription> {
        let meta = self.log.topic(topic)?;
        let partition = |partition| PartitionDescription::open(partition, BROKER, vec![(BROKER, true)]);
        Ok(TopicDescription {
            name: meta.name,
            generation: meta.generation,
            configs: BTreeMap::from([("cleanup.policy".to_owned(), "delete".to_owned())]),
            partitions: (0..meta.partitions).map(partition).collect(),
        })
    }

    async fn generation(&self, topic: &str) -> Result<String> {
        Ok(self.log.topic(topic)?.generation)
    }

    async fn append(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Vec<u64>> {
        if records.is_empty() {
            // Nothing to make durable, but a partition that does not exist is still an error.
            self.log.offsets(topic, partition)?;
            return Ok(Vec::new());
        }
        let appended = self.log.append(topic, partition, records).await?;
        Ok((appended.base_offset..).take(appended.count as usize).collect())
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>> {
        let found = self.read_now(topic, partition, offset, limit.max_bytes).await?;
        if !found.is_empty() || limit.max_wait.is_zero() {
            return Ok(found);
        }
        let deadline = Instant::now() + limit.max_wait;
        let mut end = self.log.subscribe(topic, partition)?;
        // When the wait ends for another reason (time is up, the topic is gone), the last look says what there is.
        let _ = timeout_at(deadline, end.wait_for(|end| *end > offset)).await;
        self.read_now(topic, partition, offset, limit.max_bytes).await
    }

    async fn offsets(&self, topic: &str, partition: u32) -> Result<OffsetRange> {
        Ok(self.log.offsets(topic, partition)?)
    }

    async fn offset_at(&self, topic: &str, partition: u32, timestamp_ms: i64) -> Result<Option<u64>> {
        let topic = topic.to_owned();
        self.blocking(move |log| log.offset_at(&topic, partition, timestamp_ms)).await
    }

    async fn position(&self, reader: &str, topic: &str, partition: u32) -> Result<Option<u64>> {
        Ok(self.log.position(reader, topic, partition)?)
    }

    async fn commit_position(
        &self,
        reader: &str,
        topic: &str,
        partition: u32,
        next_offset: u64,
    ) -> Result<()> {
        Ok(self.log.commit_position(reader, topic, partition, next_offset).await?)
    }

    async fn forget_before(&self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        let topic = topic.to_owned();
        self.blocking(move |log| log.forget_before(&topic, partition, offset).map(|_| ())).await
    }

    async fn skip_to(
        &self,
        topic: &str,
        generation: &str,
        partition: u32,
        next: u64,
    ) -> Result<Option<OffsetRange>> {
        let (topic, generation) = (topic.to_owned(), generation.to_owned());
        let skipped = self.blocking(move |log| log.skip_to(&topic, &generation, partition, next)).await?;
        Ok(skipped.map(|skipped| OffsetRange { beginning: skipped.from, end: skipped.to }))
    }

    async fn gaps(&self, topic: &str, partition: u32) -> Result<Vec<OffsetRange>> {
        Ok(self.log.gaps(topic, partition)?)
    }

    fn max_record_bytes(&self) -> usize {
        self.log.max_record_bytes()
    }

    fn health(&self) -> Health {
        self.log.health()
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::UnknownTopic(topic) => Self::UnknownTopic(topic),
            LogError::UnknownPartition { topic, partition } => Self::UnknownPartition { topic, partition },
            LogError::TopicExists(topic) => Self::TopicExists(topic),
            LogError::InvalidTopic { name, reason } => Self::InvalidTopic { name, reason },
            LogError::OffsetOutOfRange { topic, partition, offset, beginning, end } => {
                Self::OffsetOutOfRange { topic, partition, offset, beginning, end }
            }
            LogError::RecordTooLarge { bytes, limit } | LogError::BatchTooLarge { bytes, limit } => {
                Self::RecordTooLarge { bytes, limit }
            }
            LogError::DiskFull { .. } | LogError::WriteFailed { .. } => Self::Unavailable(error.to_string()),
            // For a poisoned or closed log it is unknown whether the append got through.
            other => Self::Failed(other.to_string()),
        }
    }
}
