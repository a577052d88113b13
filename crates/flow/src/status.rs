//! How each table stands: how far behind its source, how fresh, how busy.

use std::collections::BTreeMap;
use std::time::Duration;

use pinmill_broker::{EventLog, Plane};
use pinmill_lake::Lake;
use pinmill_lake::table::{PartitionTotals, Table, Totals};
use pinmill_pipeline::Pipeline;
use serde::Serialize;

use crate::audit::Logs;
use crate::shrunk::{self, LogGap};
use crate::{ARCHIVE_READER, Half, Result, STREAM_READER};

/// Over how long the commit rate is taken.
const RATE_OVER: Duration = Duration::from_secs(60);

/// How one table stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableStatus {
    /// Which half it is of.
    pub half: Half,
    /// Its dataset.
    pub dataset: String,
    /// Its Delta version.
    pub version: u64,
    /// Rows in it.
    pub rows: u64,
    /// Records in quarantine instead.
    pub quarantined: u64,
    /// Records that retention took before they were loaded.
    pub lost: u64,
    /// Records accepted that it does not cover yet; `None` where the log is not there.
    pub lag: Option<u64>,
    /// When the newest row was accepted, in milliseconds since the Unix epoch.
    pub newest_ms: Option<i64>,
    /// Now less that, in seconds.
    pub freshness_seconds: Option<f64>,
    /// Commits of rows in the last minute.
    pub commits_last_minute: u64,
    /// Data files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How one topic or stream of a log stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicStatus {
    /// The dataset that takes it.
    pub dataset: Option<String>,
    /// Partitions or shards, closed ones included.
    pub partitions: u64,
    /// Records that the log holds.
    pub held: u64,
    /// Records accepted that its reader (the archiver, or the streaming half) has not said that it is done with. The
    /// streaming half says so every few seconds only; how far its tables are is in [`TableStatus::lag`].
    pub unread: u64,
    /// Records that the log lost after they were read.
    pub gaps: Vec<LogGap>,
}

/// All topics of a log, by name. `half` is the one that reads it.
///
/// # Errors
/// What cannot be read.
pub async fn topics(
    pipeline: &Pipeline,
    half: Half,
    log: &dyn EventLog,
) -> Result<BTreeMap<String, TopicStatus>> {
    let (reader, plane) = match half {
        Half::Batch => (ARCHIVE_READER, Plane::Topics),
        Half::Stream => (STREAM_READER, Plane::Streams),
    };
    let mut gaps = shrunk::gaps(plane, log).await?;
    let mut all = BTreeMap::new();
    for topic in log.topics().await? {
        let dataset = takes(pipeline, half, &topic).map(str::to_owned);
        let (own, others) = gaps.into_iter().partition(|gap| gap.topic == topic);
        gaps = others;
        let mut status = TopicStatus { dataset, partitions: 0, held: 0, unread: 0, gaps: own };
        for partition in log.describe(&topic).await?.partitions {
            let held = log.offsets(&topic, partition.partition).await?;
            let read = log.position(reader, &topic, partition.partition).await?.unwrap_or(held.beginning);
            let lost = |from: u64| -> u64 {
                let here = status.gaps.iter().filter(|gap| gap.partition == partition.partition);
                here.map(|gap| (gap.last + 1).saturating_sub(gap.first.max(from))).sum()
            };
            let unread_from = read.max(held.beginning);
            let unread = held.end.saturating_sub(unread_from).saturating_sub(lost(unread_from));
            let holds = (held.end - held.beginning).saturating_sub(lost(held.beginning));
            status.partitions += 1;
            status.held += holds;
            status.unread += unread;
        }
        all.insert(topic, status);
    }
    Ok(all)
}

/// The dataset that takes a topic (or a stream) in a half.
fn takes<'p>(pipeline: &'p Pipeline, half: Half, topic: &str) -> Option<&'p str> {
    let dataset = match half {
        Half::Batch => pipeline.dataset_for_topic(topic),
        Half::Stream => pipeline.dataset_for_stream(topic),
    };
    dataset.map(|dataset| dataset.name.as_str())
}

/// All tables of both halves that there are. `now_ms` is the time, in milliseconds since the Unix epoch.
///
/// # Errors
/// What cannot be read.
pub async fn status(
    pipeline: &Pipeline,
    logs: Logs<'_>,
    lake: &Lake,
    now_ms: i64,
) -> Result<Vec<TableStatus>> {
    let mut all = Vec::new();
    for half in Half::ALL {
        let log = match half {
            Half::Batch => logs.topics,
            Half::Stream => logs.streams,
        };
        for dataset in &pipeline.datasets {
            let Some(mut table) = Table::open(lake, &half.table(&dataset.name)).await? else { continue };
            let (totals, folded) = (table.totals().await?.clone(), table.folded().await?);
            let lag = match log {
                Some(log) => Some(lag(pipeline, half, &dataset.name, log, &totals).await?),
                None => None,
            };
            let newest_ms = table.newest_ms()?;
            let since = now_ms - RATE_OVER.as_millis() as i64;
            let recent = table.history_since(since).await?;
            let files = table.files()?;
            all.push(TableStatus {
                half,
                dataset: dataset.name.clone(),
                version: table.version(),
                rows: totals.values().map(|totals| totals.clean).sum::<u64>() + folded.clean,
                quarantined: totals.values().map(|totals| totals.quarantined).sum::<u64>()
                    + folded.quarantined,
                lost: totals.values().map(|totals| totals.lost).sum(),
                lag,
                newest_ms,
                freshness_seconds: newest_ms.map(|newest| (now_ms - newest).max(0) as f64 / 1000.0),
                commits_last_minute: recent.iter().filter(|entry| !entry.ranges.is_empty()).count() as u64,
                files: files.len() as u64,
                bytes: files.iter().map(|file| file.size).sum(),
            });
        }
    }
    Ok(all)
}

/// Records of the log that a table does not cover yet.
async fn lag(
    pipeline: &Pipeline,
    half: Half,
    dataset: &str,
    log: &dyn EventLog,
    totals: &Totals,
) -> Result<u64> {
    // Of the life of each name that a generation is; 0.1 has not noted every one.
    type Life<'a> = (&'a str, Option<&'a str>, u32);
    let next = |of: &PartitionTotals| of.sum.last.saturating_add(1);
    let covered: BTreeMap<Life<'_>, u64> = totals
        .values()
        .map(|of| ((of.place.topic.as_str(), of.generation.as_deref(), of.place.partition), next(of)))
        .collect();
    let mut lag = 0;
    for topic in log.topics().await? {
        if takes(pipeline, half, &topic) != Some(dataset) {
            continue;
        }
        let described = log.describe(&topic).await?;
        for partition in described.partitions {
            let held = log.offsets(&topic, partition.partition).await?;
            let covers =
                |generation| covered.get(&(topic.as_str(), generation, partition.partition)).copied();
            let next = covers(Some(&described.generation)).or_else(|| covers(None)).unwrap_or_default();
            lag += held.end.saturating_sub(next.max(held.beginning));
        }
    }
    Ok(lag)
}
