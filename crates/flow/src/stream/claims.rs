//! Which topics of the logs feed a dataset, and how the logs keep their records for it while nobody loads them.

use std::collections::BTreeSet;
use std::time::Duration;

use pinmill_broker::{EventLog, Plane, TopicDescription};
use pinmill_pipeline::{Dataset, Pipeline};

use super::feed::register;
use super::{StreamSource, dataset_of};
use crate::{Error, Result};

/// How long new streams and shards may stay unseen while there is nothing to read.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A topic that feeds a dataset, and where it is.
pub(super) struct Claim<'a> {
    pub(super) source: &'a StreamSource,
    pub(super) topic: TopicDescription,
}

/// Topics that must not be loaded: they are told of once in a process and left alone.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeSet<(Plane, String, String)>);

impl Refused {
    pub(super) fn has(&self, claim: &Claim<'_>) -> bool {
        self.0.contains(&Self::key(claim))
    }

    pub(super) fn add(&mut self, claim: &Claim<'_>) {
        self.0.insert(Self::key(claim));
    }

    /// A topic that is made anew is another one.
    fn key(claim: &Claim<'_>) -> (Plane, String, String) {
        (claim.source.plane, claim.topic.name.clone(), claim.topic.generation.clone())
    }
}

/// The topics that feed a dataset now, log by log, ascending by name.
pub(super) async fn claims<'a>(
    pipeline: &Pipeline,
    sources: &'a [StreamSource],
    dataset: &Dataset,
) -> Result<Vec<Claim<'a>>> {
    let mut claims = Vec::new();
    for source in sources {
        for name in source.log.topics().await? {
            let taker = dataset_of(source.plane, pipeline, &name);
            if taker.is_none_or(|taker| taker.name != dataset.name) {
                continue;
            }
            match source.log.describe(&name).await {
                Ok(topic) => claims.push(Claim { source, topic }),
                // Deleted in between.
                Err(pinmill_broker::Error::UnknownTopic(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(claims)
}

/// Registers the reader with every partition that feeds a dataset, new ones too, so that retention keeps what is not
/// loaded. For as long as nobody loads it: never returns.
pub(super) async fn keep(
    pipeline: &Pipeline,
    sources: &[StreamSource],
    dataset: &Dataset,
    refused: &Refused,
) {
    let mut told = false;
    loop {
        let kept = keep_now(pipeline, sources, dataset, refused).await;
        if let Err(error) = &kept
            && !told
        {
            let why = error.chain();
            tracing::warn!(dataset = dataset.name, error = %why, "new shards may lose records to retention");
        }
        told = kept.is_err();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a topic has never had a record. Its life is no lineage yet: whoever makes and deletes topics leaves nothing
/// behind.
pub(super) async fn is_empty(claim: &Claim<'_>) -> Result<bool> {
    let (log, topic) = (&claim.source.log, &claim.topic.name);
    for partition in &claim.topic.partitions {
        match log.offsets(topic, partition.partition).await {
            Ok(held) if held.end > 0 => return Ok(false),
            // Deleted in between.
            Ok(_)
            | Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {
            }
            Err(source) => {
                return Err(Error::Log { topic: topic.clone(), partition: partition.partition, source });
            }
        }
    }
    Ok(true)
}

/// Registers the reader with every partition of a topic.
pub(super) async fn keep_topic(claim: &Claim<'_>) -> Result<()> {
    for partition in &claim.topic.partitions {
        keep_partition(&*claim.source.log, &claim.topic.name, partition.partition).await?;
    }
    Ok(())
}

async fn keep_now(
    pipeline: &Pipeline,
    sources: &[StreamSource],
    dataset: &Dataset,
    refused: &Refused,
) -> Result<()> {
    for claim in claims(pipeline, sources, dataset).await? {
        if refused.has(&claim) {
            continue;
        }
        keep_topic(&claim).await?;
    }
    Ok(())
}

async fn keep_partition(log: &dyn EventLog, topic: &str, partition: u32) -> Result<()> {
    let registered = match log.offsets(topic, partition).await {
        // How far the table has come is not known here. It is no less than that.
        Ok(held) => register(log, topic, partition, held.beginning).await.map(drop),
        Err(error) => Err(error),
    };
    match registered {
        // Deleted in between: nobody needs its position.
        Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {
            Ok(())
        }
        registered => registered.map_err(|source| Error::Log { topic: topic.to_owned(), partition, source }),
    }
}
