//! Do both halves hold the same rows? Where every post goes to both, each dataset's two tables have equal rows, bit for
//! bit, though in another order and from other places in other logs.

use std::collections::BTreeMap;

use pinmill_broker::{EventLog, Plane};
use pinmill_lake::Lake;
use pinmill_lake::table::{RowsSum, Table};
use pinmill_pipeline::Pipeline;
use serde::Serialize;

use super::{Logs, Problem};
use crate::stream::dataset_of;
use crate::{Error, Half, Result};

/// One dataset's rows in both halves, without the columns that say where a row came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HalvesAudit {
    /// The dataset.
    pub dataset: String,
    /// Number and hash of the batch half's rows.
    pub batch: RowsSum,
    /// Number and hash of the streaming half's rows.
    pub stream: RowsSum,
    /// Whether they are the same rows.
    pub same: bool,
}

impl HalvesAudit {
    /// That they differ, where they should not.
    pub(super) fn problem(&self) -> Problem {
        let what = format!(
            "the halves hold different rows: {} in batch, {} in stream",
            self.batch.rows, self.stream.rows
        );
        Problem::of(&self.dataset, what)
    }
}

/// Whether topics and streams were given equally many records of every dataset. Where not, there are posts that only one
/// half got, and their rows cannot be the same ones.
///
/// # Errors
/// What cannot be read of a log.
pub async fn given_alike(pipeline: &Pipeline, logs: Logs<'_>) -> Result<bool> {
    let topics = given(pipeline, logs.topics, Plane::Topics).await?;
    let streams = given(pipeline, logs.streams, Plane::Streams).await?;
    Ok(topics == streams)
}

/// Records that a log was ever given, by dataset; none of those without any.
async fn given<'p>(
    pipeline: &'p Pipeline,
    log: Option<&dyn EventLog>,
    plane: Plane,
) -> Result<BTreeMap<&'p str, u64>> {
    let mut given = BTreeMap::new();
    let Some(log) = log else { return Ok(given) };
    for topic in log.topics().await? {
        let Some(dataset) = dataset_of(plane, pipeline, &topic) else { continue };
        for partition in log.describe(&topic).await?.partitions {
            let number = partition.partition;
            let held = log.offsets(&topic, number).await;
            let failed = |source| Error::Log { topic: topic.clone(), partition: number, source };
            *given.entry(dataset.name.as_str()).or_default() += held.map_err(failed)?.end;
        }
    }
    given.retain(|_, records| *records > 0);
    Ok(given)
}

/// Compares the tables of every dataset that has rows in both halves.
pub(super) async fn compare(pipeline: &Pipeline, lake: &Lake) -> Result<Vec<HalvesAudit>> {
    let mut all = Vec::new();
    for dataset in &pipeline.datasets {
        let batch = Table::open(lake, &Half::Batch.table(&dataset.name)).await?;
        let stream = Table::open(lake, &Half::Stream.table(&dataset.name)).await?;
        let (Some(batch), Some(stream)) = (batch, stream) else { continue };
        if batch.files()?.is_empty() || stream.files()?.is_empty() {
            continue;
        }
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !name.starts_with('_')).collect();
        let (batch, stream) = (batch.sum_of(&columns).await?, stream.sum_of(&columns).await?);
        let (dataset, same) = (dataset.name.clone(), batch == stream);
        all.push(HalvesAudit { dataset, batch, stream, same });
    }
    Ok(all)
}
