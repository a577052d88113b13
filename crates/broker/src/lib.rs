//! One trait for an event log, and its adapters.
//!
//! The rest of pinmill speaks of topics, partitions and offsets only through [`EventLog`]; what stands behind
//! it (the embedded log, and later Kafka or Kinesis) is chosen by URL where the process is wired. Every adapter
//! must pass the same public suite, [`conformance`].
//!
//! | adapter | keeps records | use |
//! | --- | --- | --- |
//! | [`EmbeddedLog`] | on this machine's disk | the default: nothing else is needed |
//! | [`MemoryLog`] | until the process ends | tests: it can be told to refuse, poison or limit writes |

pub mod conformance;
mod embedded;
mod memory;
mod name;
mod plane;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

pub use embedded::EmbeddedLog;
pub use memory::MemoryLog;
pub use name::check_topic_name;
pub use plane::Plane;
// The words of the embedded log serve for every log. Offsets grow by at least one from record to record: others leave gaps.
pub use pinmill_log::{Health, MAX_TOPIC_NAME, OffsetRange, Record, StoredRecord};

/// What one read may return and how long it may wait for it.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Stop after about this many payload bytes; one record is always returned where there is one.
    pub max_bytes: usize,
    /// How long to wait for a first record at the end of the partition; zero returns at once.
    pub max_wait: Duration,
}

/// A topic and where its partitions live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// The topic's name.
    pub name: String,
    /// Changes when a topic is deleted and made again, so that old positions are never taken for new ones. No other topic
    /// of any log has it: the embedded log draws a UUID, which a copy of its folder keeps.
    pub generation: String,
    /// Settings as the log reports them.
    pub configs: BTreeMap<String, String>,
    /// Its partitions, ascending by id.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The partition's number, from 0.
    pub partition: u32,
    /// Broker id of the leader, -1 when there is none.
    pub leader: i32,
    /// Broker ids of the replicas, and whether each is in sync.
    pub replicas: Vec<(i32, bool)>,
    /// Partitions whose records come before this one's: the shards that a shard was split or merged from. Empty in
    /// logs whose partitions are never divided.
    pub parents: Vec<u32>,
    /// The offset after its last record, where it takes no more of them: a closed shard.
    pub closed_at: Option<u64>,
}

impl PartitionDescription {
    /// A partition that stands by itself and takes records.
    pub fn open(partition: u32, leader: i32, replicas: Vec<(i32, bool)>) -> Self {
        Self { partition, leader, replicas, parents: Vec::new(), closed_at: None }
    }
}

/// What can go wrong between a caller and a log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topic does not exist.
    #[error("topic `{0}` does not exist")]
    UnknownTopic(String),
    /// The topic exists, the partition does not.
    #[error("topic `{topic}` has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
    },
    /// A topic of this name exists already.
    #[error("topic `{0}` exists already")]
    TopicExists(String),
    /// The name is not one a topic may have.
    #[error("`{name}` cannot name a topic: {reason}")]
    InvalidTopic {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The offset lies outside what the partition holds.
    #[error("{topic}/{partition} holds offsets {beginning} to {end} (exclusive), not {offset}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// First offset held.
        beginning: u64,
        /// Offset after the last one held.
        end: u64,
    },
    /// The record is larger than the log takes.
    #[error("a record of {bytes} bytes is over the limit of {limit}")]
    RecordTooLarge {
        /// Size of the record.
        bytes: usize,
        /// The log's limit.
        limit: usize,
    },
    /// Writes are refused for now and nothing was stored; trying again later is right.
    #[error("the log refuses writes for now: {0}")]
    Unavailable(String),
    /// Anything else; whether the records were stored is unknown.
    #[error("the log failed: {0}")]
    Failed(String),
}

impl Error {
    /// True where the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An event log: topics of partitions, each an ordered sequence of records.
///
/// Promises every adapter makes: an append that returned `Ok` is durable as its settings say; records of one
/// append to one partition keep their order and get ascending offsets; a read returns records in offset order
/// and never one whose append has not been made durable.
#[async_trait]
pub trait EventLog: Send + Sync + Debug {
    /// Makes a topic. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::TopicExists`], [`Error::InvalidTopic`].
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<()>;

    /// Grows a topic to `total` partitions; the new ones are empty. Durable when it returns. Nothing changes where it
    /// has as many already, so that the call can be repeated after a crash.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    async fn add_partitions(&self, topic: &str, total: u32) -> Result<()>;

    /// Deletes a topic with its records and its readers' positions. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    async fn delete_topic(&self, topic: &str) -> Result<()>;

    /// Names of all topics, ascending.
    async fn topics(&self) -> Result<Vec<String>>;

    /// A topic's partitions and settings.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    async fn describe(&self, topic: &str) -> Result<TopicDescription>;

    /// [`TopicDescription::generation`] alone. It is asked often, so an adapter that need not look at every partition for
    /// it has its own.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    async fn generation(&self, topic: &str) -> Result<String> {
        Ok(self.describe(topic).await?.generation)
    }

    /// Appends records to one partition, all or none, and returns the offset of each, in order.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::RecordTooLarge`], [`Error::Unavailable`],
    /// [`Error::Failed`].
    async fn append(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Vec<u64>>;

    /// Reads records from `offset` on, in order. Empty when there is none yet after the allowed wait.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] when `offset` was removed by retention or lies after the end.
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>>;

    /// The offsets a partition holds.
    async fn offsets(&self, topic: &str, partition: u32) -> Result<OffsetRange>;

    /// The first offset whose record is not older than `timestamp_ms`; `None` when all are older.
    async fn offset_at(&self, topic: &str, partition: u32, timestamp_ms: i64) -> Result<Option<u64>>;

    /// The next offset that `reader` will read, where it has committed one.
    async fn position(&self, reader: &str, topic: &str, partition: u32) -> Result<Option<u64>>;

    /// Remembers durably that `reader` goes on at `next_offset`. Retention keeps what no registered reader has passed.
    async fn commit_position(
        &self,
        reader: &str,
        topic: &str,
        partition: u32,
        next_offset: u64,
    ) -> Result<()>;

    /// Lets the records before `offset` go, as far as the log can: it may keep some of them for now. What a registered
    /// reader has yet to read stays.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::Unavailable`], [`Error::Failed`].
    async fn forget_before(&self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        let _ = offset;
        self.offsets(topic, partition).await.map(|_| ())
    }

    /// Gives no offset below `next` to a record of a partition from now on: something outside of the log holds records
    /// under them. Durable when it returns; gives the offsets that are left out now, if any. A partition that the topic
    /// lacks is made, if it would have to leave offsets out. Nothing is done where the topic is not of this generation.
    ///
    /// The default is for a log that cannot leave offsets out. It fails where there are some to leave out, and changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`]; [`Error::Failed`] where the log cannot leave offsets out.
    async fn skip_to(
        &self,
        topic: &str,
        generation: &str,
        partition: u32,
        next: u64,
    ) -> Result<Option<OffsetRange>> {
        if self.generation(topic).await? != generation {
            return Ok(None);
        }
        let end = match self.offsets(topic, partition).await {
            Ok(held) => held.end,
            Err(Error::UnknownPartition { .. }) => 0,
            Err(error) => return Err(error),
        };
        if next <= end {
            return Ok(None);
        }
        Err(Error::Failed(format!("{topic}/{partition} ends at offset {end} and cannot go on at {next}")))
    }

    /// Offsets within what a partition holds that were given once and have no records any more, ascending.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`].
    async fn gaps(&self, topic: &str, partition: u32) -> Result<Vec<OffsetRange>> {
        self.offsets(topic, partition).await.map(|_| Vec::new())
    }

    /// Largest record the log takes, in bytes of key, value and headers together.
    fn max_record_bytes(&self) -> usize {
        usize::MAX
    }

    /// Ids of the brokers behind the log, ascending. A log of one process is broker 0.
    async fn brokers(&self) -> Result<Vec<i32>> {
        Ok(vec![0])
    }

    /// Whether writes are taken now. Cheap: it is asked by readiness checks.
    fn health(&self) -> Health;
}
