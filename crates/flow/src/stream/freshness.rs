//! How long records took from being accepted to being in their table.
//!
//! Every commit says which offsets it covers and when it was made, and every row says when the log took it; so this can be
//! asked of any table at any time, for as long as its commits are kept.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use pinmill_engine::Engine;
use pinmill_lake::Lake;
use pinmill_lake::table::{HistoryEntry, Table};
use pinmill_pipeline::Pipeline;
use serde::Serialize;

use crate::{Half, Result, register_tables};

/// How long rows took from being accepted to being committed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Freshness {
    /// Rows that were looked at.
    pub rows: u64,
    /// Half of them took no longer, in seconds.
    pub p50_seconds: f64,
    /// 99 of 100 took no longer, in seconds.
    pub p99_seconds: f64,
    /// None took longer, in seconds.
    pub max_seconds: f64,
}

/// When offsets of a partition were committed: for each range its last offset, its first, and the time in milliseconds.
/// Several topics may feed a table, so an offset may be in several.
type Commits = BTreeMap<u32, Vec<(u64, u64, i64)>>;

/// The freshness of rows that were accepted at `since_ms` (milliseconds since the Unix epoch) or later; `None` where there
/// are none.
///
/// # Errors
/// What cannot be read.
pub async fn freshness(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    since_ms: i64,
) -> Result<Option<Freshness>> {
    register_tables(pipeline, engine, lake, Half::Stream).await?;
    let mut took_ms = Vec::new();
    for dataset in &pipeline.datasets {
        let Some(table) = Table::open(lake, &Half::Stream.table(&dataset.name)).await? else { continue };
        let commits = commits(&table.history_since(since_ms).await?);
        let query = format!("SELECT _partition, _offset, _ingested_at FROM `{}`", dataset.all_view());
        let mut batches = engine.query(&query).await?.batches;
        while let Some(batch) = batches.try_next().await? {
            let (partitions, offsets, times) = (
                batch.column(0).as_primitive::<Int32Type>(),
                batch.column(1).as_primitive::<Int64Type>(),
                batch.column(2).as_primitive::<TimestampMicrosecondType>(),
            );
            let rows = partitions.values().iter().zip(offsets.values()).zip(times.values());
            for ((partition, offset), accepted_us) in rows {
                let accepted_ms = accepted_us / 1000;
                if accepted_ms >= since_ms {
                    took_ms.extend(took(&commits, *partition, *offset, accepted_ms));
                }
            }
        }
    }
    Ok(summary(took_ms))
}

fn commits(history: &[HistoryEntry]) -> Commits {
    let mut commits = Commits::new();
    for entry in history {
        let Some(at_ms) = entry.timestamp_ms else { continue };
        for range in &entry.ranges {
            commits.entry(range.place.partition).or_default().push((range.sum.last, range.sum.first, at_ms));
        }
    }
    commits.values_mut().for_each(|ranges| ranges.sort_unstable());
    commits
}

/// How long one row took: to the first commit of its offset after it was accepted.
fn took(commits: &Commits, partition: i32, offset: i64, accepted_ms: i64) -> Option<i64> {
    let ranges = commits.get(&u32::try_from(partition).ok()?)?;
    let offset = u64::try_from(offset).ok()?;
    let from = ranges.partition_point(|(last, ..)| *last < offset);
    let after = ranges.iter().skip(from).take_while(|(_, first, _)| *first <= offset);
    after.map(|(.., at_ms)| at_ms - accepted_ms).filter(|took| *took >= 0).min()
}

fn summary(mut took_ms: Vec<i64>) -> Option<Freshness> {
    took_ms.sort_unstable();
    let rows = took_ms.len();
    let at = |share: f64| took_ms.get(((rows as f64 * share) as usize).min(rows.saturating_sub(1)));
    let seconds = |ms: &i64| *ms as f64 / 1000.0;
    Some(Freshness {
        rows: rows as u64,
        p50_seconds: at(0.5).map(seconds)?,
        p99_seconds: at(0.99).map(seconds)?,
        max_seconds: took_ms.last().map(seconds)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_took_as_long_as_to_the_first_commit_that_covers_it() {
        let commits = Commits::from([(0, vec![(9, 0, 1000), (19, 10, 2000)])]);
        assert_eq!(took(&commits, 0, 9, 400), Some(600));
        assert_eq!(took(&commits, 0, 10, 400), Some(1600));
        assert_eq!(took(&commits, 0, 20, 400), None, "not committed, or its commit is not known any more");
        assert_eq!(took(&commits, 1, 0, 400), None);
        let summed = summary((1..=100).collect()).unwrap();
        assert_eq!((summed.p50_seconds, summed.p99_seconds, summed.max_seconds), (0.051, 0.1, 0.1));
        assert_eq!(summary(Vec::new()), None);
    }
}
