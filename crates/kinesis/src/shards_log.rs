//! The streams as an event log, for whoever reads them without the API: a flow into tables, an audit, a person.
//!
//! A topic is a stream and a partition a shard, closed ones included; [`PartitionDescription`] tells a shard's parents and
//! where it ends. A stream that is being deleted is gone. Records go in through the API only, which alone knows the rules of
//! shards: this log refuses whatever would change one.

use std::sync::Arc;

use async_trait::async_trait;
use pinmill_broker::{
    Error, EventLog, Health, OffsetRange, PartitionDescription, ReadLimit, Record, Result, StoredRecord,
    TopicDescription,
};

use crate::catalog::Catalog;
use crate::error::OpenError;
use crate::model::{Shard, StreamState};

/// Reads the streams of one [`Kinesis`](crate::Kinesis), and keeps their readers' positions.
#[derive(Debug, Clone)]
pub struct ShardsLog {
    catalog: Arc<Catalog>,
}

impl ShardsLog {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    /// The streams of a log that was opened as a read-only view, as they are now.
    ///
    /// # Errors
    /// [`OpenError`] where the catalog cannot be read.
    pub async fn view(log: Arc<dyn EventLog>) -> Result<Self, OpenError> {
        Ok(Self::new(Catalog::view(log).await?))
    }

    fn stream(&self, name: &str) -> Result<Arc<StreamState>> {
        let state = self.catalog.get(name).map(|live| live.state());
        state.filter(|state| !state.is_deleting).ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    fn log(&self) -> &dyn EventLog {
        self.catalog.log().as_ref()
    }
}

fn refused<T>(what: &str) -> Result<T> {
    Err(Error::Unavailable(format!("{what} goes through the Kinesis API")))
}

fn describe_shard(
    index: u32,
    shard: &Shard,
    leader: i32,
    replicas: Vec<(i32, bool)>,
) -> PartitionDescription {
    PartitionDescription {
        parents: shard.parent.into_iter().chain(shard.adjacent_parent).collect(),
        closed_at: shard.closed.map(|closed| closed.end_offset),
        ..PartitionDescription::open(index, leader, replicas)
    }
}

#[async_trait]
impl EventLog for ShardsLog {
    async fn create_topic(&self, _: &str, _: u32) -> Result<()> {
        refused("making a stream")
    }

    async fn add_partitions(&self, _: &str, _: u32) -> Result<()> {
        refused("a change of shards")
    }

    async fn delete_topic(&self, _: &str) -> Result<()> {
        refused("deleting a stream")
    }

    async fn append(&self, _: &str, _: u32, _: Vec<Record>) -> Result<Vec<u64>> {
        refused("putting records")
    }

    async fn topics(&self) -> Result<Vec<String>> {
        let streams = self.catalog.all();
        Ok(streams.iter().filter(|state| !state.is_deleting).map(|state| state.name.clone()).collect())
    }

    async fn describe(&self, topic: &str) -> Result<TopicDescription> {
        let state = self.stream(topic)?;
        let below = self.log().describe(topic).await?;
        // The log may have partitions beyond the shards: spare ones of a change that was cut short.
        let partitions = (0..).zip(&state.shards).zip(below.partitions).map(|((index, shard), partition)| {
            describe_shard(index, shard, partition.leader, partition.replicas)
        });
        Ok(TopicDescription { partitions: partitions.collect(), ..below })
    }

    async fn generation(&self, topic: &str) -> Result<String> {
        self.stream(topic)?;
        self.log().generation(topic).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>> {
        self.log().read(topic, partition, offset, limit).await
    }

    async fn offsets(&self, topic: &str, partition: u32) -> Result<OffsetRange> {
        self.log().offsets(topic, partition).await
    }

    async fn offset_at(&self, topic: &str, partition: u32, timestamp_ms: i64) -> Result<Option<u64>> {
        self.log().offset_at(topic, partition, timestamp_ms).await
    }

    async fn position(&self, reader: &str, topic: &str, partition: u32) -> Result<Option<u64>> {
        self.log().position(reader, topic, partition).await
    }

    async fn commit_position(
        &self,
        reader: &str,
        topic: &str,
        partition: u32,
        next_offset: u64,
    ) -> Result<()> {
        self.log().commit_position(reader, topic, partition, next_offset).await
    }

    async fn skip_to(
        &self,
        topic: &str,
        generation: &str,
        partition: u32,
        next: u64,
    ) -> Result<Option<OffsetRange>> {
        self.log().skip_to(topic, generation, partition, next).await
    }

    async fn gaps(&self, topic: &str, partition: u32) -> Result<Vec<OffsetRange>> {
        self.log().gaps(topic, partition).await
    }

    fn max_record_bytes(&self) -> usize {
        self.log().max_record_bytes()
    }

    async fn brokers(&self) -> Result<Vec<i32>> {
        self.log().brokers().await
    }

    fn health(&self) -> Health {
        self.log().health()
    }
}
