//! A log that ends before what was read of it: it was restored from an older copy, or lost with the power what the system
//! had not flushed (`durability = "os"`).
//!
//! New records would get offsets that tables and archive have passed already, and would never be read. So before a log
//! takes records, it is compared with everything that has consumed it, and goes on behind the furthest position
//! ([`EventLog::skip_to`]). Only positions in the same life of a topic count (`generation`).
//!
//! | consumed by | as far as |
//! | --- | --- |
//! | a table of either half | the position that its commits say |
//! | the archive | its newest object: its manifest, or its lines, where a crash left it without one |
//! | the Kinesis API | the end of a closed shard |
//!
//! The archive holds what the archiver would read again and no longer finds in the log, so the archiver's position
//! follows its newest object. Dying at any point leaves what the next start does again. What is left out stays
//! visible in the log for as long as retention keeps what lies around it: see [`gaps`].

use std::collections::BTreeMap;
use std::fmt;

use pinmill_broker::{EventLog, OffsetRange, Plane, TopicDescription};
use pinmill_lake::archive::{Archive, ReadOptions};
use pinmill_lake::lineage::{Lineages, SourceId};
use pinmill_lake::table::{PartitionTotals, Table};
use pinmill_lake::{Lake, TopicPartition};
use pinmill_pipeline::Pipeline;
use serde::Serialize;

use crate::stream::StreamSource;
use crate::{ARCHIVE_READER, Error, Half, Result};

/// Offsets that were given once, and whose records the log no longer has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogGap {
    /// The half whose log it is: `batch` for topics, `stream` for streams.
    pub half: Half,
    /// The topic or stream.
    pub topic: String,
    /// The partition or shard.
    pub partition: u32,
    /// First offset without a record.
    pub first: u64,
    /// Last offset without a record.
    pub last: u64,
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, first, last, .. } = self;
        write!(
            f,
            "{topic}/{partition} offsets {first} to {last}: the log lost these records after they were read (a power \
             cut, or an older copy that was restored); new records follow behind them"
        )
    }
}

/// How far each partition of a topic was consumed: the offset after the last one.
type Consumed = BTreeMap<u32, u64>;

/// Has every log go on behind what tables, archive and shards have consumed of it. To be called before the logs take
/// records; gives what is left out from now on.
///
/// # Errors
/// What cannot be read of the lake, or written to a log. The logs before it are done.
pub async fn go_on_behind_readers(
    pipeline: &Pipeline,
    sources: &[StreamSource],
    archive: &Archive,
) -> Result<Vec<LogGap>> {
    let tables = totals(pipeline, archive.lake()).await?;
    let directories = archive.partitions().await?;
    let mut gaps = Vec::new();
    for source in sources {
        for name in source.log.topics().await? {
            let topic = source.log.describe(&name).await?;
            let mut archived = Consumed::new();
            let directories = directories.iter().filter(|place| place.topic == name);
            for place in directories.filter(|_| source.plane == Plane::Topics) {
                let next = archived_to(&*source.log, archive, &topic, place.partition).await?;
                archived.extend(next.map(|next| (place.partition, next)));
            }
            let mut consumed = archived.clone();
            let closed = topic.partitions.iter().filter_map(|p| Some((p.partition, p.closed_at?)));
            for (partition, next) in closed.chain(covered(&tables, source.plane, &topic)) {
                let furthest = consumed.entry(partition).or_default();
                *furthest = next.max(*furthest);
            }
            for (partition, next) in consumed {
                gaps.extend(go_on(source, &topic, partition, next).await?);
            }
            for (partition, next) in archived {
                note(&*source.log, &name, partition, next).await?;
            }
        }
    }
    Ok(gaps)
}

/// What the tables of both halves say that they cover.
async fn totals(pipeline: &Pipeline, lake: &Lake) -> Result<Vec<(Half, PartitionTotals)>> {
    let mut all = Vec::new();
    for half in Half::ALL {
        for dataset in &pipeline.datasets {
            if let Some(mut table) = Table::open(lake, &half.table(&dataset.name)).await? {
                all.extend(table.totals().await?.values().map(|totals| (half, totals.clone())));
            }
        }
    }
    Ok(all)
}

/// How far the tables have come in a topic. Where a table does not say of which of two it is, the batch half read topics,
/// and the streaming half streams.
fn covered(
    tables: &[(Half, PartitionTotals)],
    plane: Plane,
    topic: &TopicDescription,
) -> impl Iterator<Item = (u32, u64)> {
    let own = Half::of(plane);
    let of_topic = move |(half, totals): &&(Half, PartitionTotals)| {
        let same = totals.generation.as_ref().map_or(*half == own, |found| *found == topic.generation);
        totals.place.topic == topic.name && same && !totals.sum.is_empty()
    };
    tables
        .iter()
        .filter(of_topic)
        .map(|(_, totals)| (totals.place.partition, totals.sum.last.saturating_add(1)))
}

/// How far the archive has come in a topic partition; `None` where that is not behind the archiver's own position.
async fn archived_to(
    log: &dyn EventLog,
    archive: &Archive,
    topic: &TopicDescription,
    partition: u32,
) -> Result<Option<u64>> {
    let name = topic.name.as_str();
    let known = topic.partitions.iter().any(|known| known.partition == partition);
    let (noted, end) = match known {
        true => {
            let failed = |source| log_error(name, partition, source);
            let noted = log.position(ARCHIVE_READER, name, partition).await.map_err(failed)?;
            (noted, log.offsets(name, partition).await.map_err(failed)?.end)
        }
        false => (None, 0),
    };
    let from = noted.unwrap_or_default();
    // Objects of a topic that no registry knows are 0.1's: their manifests say which life they are of.
    let lineages = Lineages::new(archive.lake(), Half::Batch.name());
    let lineage = lineages.find(name, &SourceId::log(&topic.generation)).await?.unwrap_or_default();
    let place = &TopicPartition::new(name, partition).in_lineage(lineage);
    let mut next = None;
    if let Some(first) = archive.manifests(place, from).await?.last()
        && let Some(manifest) = archive.manifest_at(place, *first).await?
    {
        if manifest.generation.as_ref().is_some_and(|found| *found != topic.generation) {
            return Ok(None);
        }
        next = Some(manifest.sum.last.saturating_add(1));
    }
    // The archiver takes over an object without a manifest itself, as long as the log has all of its records.
    let objects = archive.objects(place, from).await?;
    let newest = objects.last().map(|object| object.first_offset);
    if let Some(first) = newest.filter(|first| noted.is_some() && *first >= next.unwrap_or(from)) {
        let read = lines_to(archive, place, first).await?;
        next = read.filter(|read| *read > end).or(next);
    }
    Ok(next)
}

/// The offset after the last line of the archive's objects from this one on.
async fn lines_to(archive: &Archive, place: &TopicPartition, first: u64) -> Result<Option<u64>> {
    let mut reader = archive.read(place, first, ReadOptions::default()).await?;
    let mut last = None;
    while let Some(chunk) = reader.next().await? {
        last = chunk.records.last().map(|record| record.offset).or(last);
    }
    Ok(last.map(|last| last.saturating_add(1)))
}

/// Leaves out what lies before `next`.
async fn go_on(
    source: &StreamSource,
    topic: &TopicDescription,
    partition: u32,
    next: u64,
) -> Result<Option<LogGap>> {
    let skipped = source.log.skip_to(&topic.name, &topic.generation, partition, next).await;
    let Some(skipped) = skipped.map_err(|source| log_error(&topic.name, partition, source))? else {
        return Ok(None);
    };
    let gap = gap(source.plane, &topic.name, partition, skipped);
    tracing::warn!("{gap}");
    Ok(Some(gap))
}

/// Moves the archiver's position on to where the archive ends.
async fn note(log: &dyn EventLog, topic: &str, partition: u32, next: u64) -> Result<()> {
    let failed = |source| log_error(topic, partition, source);
    if log.position(ARCHIVE_READER, topic, partition).await.map_err(failed)?.is_none_or(|noted| noted < next)
    {
        log.commit_position(ARCHIVE_READER, topic, partition, next).await.map_err(failed)?;
    }
    Ok(())
}

/// Where a partition goes on behind the gap that this offset lies in; `None` where it lies in none.
pub(crate) async fn behind_gap(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    offset: u64,
) -> pinmill_broker::Result<Option<u64>> {
    let gaps = log.gaps(topic, partition).await?;
    let around = gaps.into_iter().find(|gap| (gap.beginning..gap.end).contains(&offset));
    Ok(around.map(|gap| gap.end))
}

/// What a log has left out, by topic and partition.
///
/// # Errors
/// What cannot be read of the log.
pub(crate) async fn gaps(plane: Plane, log: &dyn EventLog) -> Result<Vec<LogGap>> {
    let mut all = Vec::new();
    for name in log.topics().await? {
        for partition in log.describe(&name).await?.partitions {
            let partition = partition.partition;
            let found = log.gaps(&name, partition).await;
            let found = found.map_err(|source| log_error(&name, partition, source))?;
            all.extend(found.into_iter().map(|range| gap(plane, &name, partition, range)));
        }
    }
    Ok(all)
}

fn gap(plane: Plane, topic: &str, partition: u32, range: OffsetRange) -> LogGap {
    let half = Half::of(plane);
    let topic = topic.to_owned();
    LogGap { half, topic, partition, first: range.beginning, last: range.end.saturating_sub(1) }
}

fn log_error(topic: &str, partition: u32, source: pinmill_broker::Error) -> Error {
    Error::Log { topic: topic.to_owned(), partition, source }
}
