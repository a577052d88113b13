//! Gathering what each stage holds. No judgement here, except over whole tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;
use pinmill_broker::{EventLog, OffsetRange, ReadLimit};
use pinmill_engine::Engine;
use pinmill_lake::archive::Archive;
use pinmill_lake::table::{Table, Totals};
use pinmill_lake::{Lake, RangeSum};
use pinmill_pipeline::{Dataset, Pipeline};

use super::archived::archived;
use super::balance::{Facts, LogCut, Problem, TableFacts, Tally};
use crate::answer::register_rows;
use crate::{Error, Half, Result};

/// How much is read from the log at a time.
const FETCH_BYTES: usize = 4 << 20;
/// How many repeated rows of a table are named.
const NAMED: usize = 10;

/// What the tables and the quarantine hold.
#[derive(Debug)]
pub(super) struct Tables {
    /// Totals by dataset.
    totals: BTreeMap<String, Totals>,
    /// Offsets of every topic partition that stand in quarantine.
    quarantined: BTreeMap<(String, u32), Vec<u64>>,
    /// What is off with a table as a whole.
    pub(super) problems: Vec<Problem>,
}

impl Tables {
    /// The dataset whose table has taken records of a topic.
    pub(super) fn dataset_of(&self, topic: &str) -> Option<String> {
        let took = |totals: &Totals| totals.keys().any(|(name, _)| name == topic);
        self.totals.iter().find(|(_, totals)| took(totals)).map(|(dataset, _)| dataset.clone())
    }

    /// What a dataset's table has covered; `None` where there is no table.
    pub(super) fn totals_of(&self, dataset: &str) -> Option<&Totals> {
        self.totals.get(dataset)
    }

    /// What a dataset's table and the quarantine say they hold of a partition.
    pub(super) fn facts(&self, dataset: &str, key: &(String, u32)) -> TableFacts {
        let Some(totals) = self.totals.get(dataset).and_then(|totals| totals.get(key)) else {
            return TableFacts::default();
        };
        let next = if totals.sum.is_empty() { 0 } else { totals.sum.last + 1 };
        let here = self.quarantined.get(key).map_or(&[][..], Vec::as_slice);
        TableFacts {
            first: totals.sum.first,
            next,
            clean: totals.clean,
            quarantined: totals.quarantined,
            hash: totals.sum.hash,
            quarantine_rows: here.partition_point(|&offset| offset < next) as u64,
        }
    }
}

/// Reads the tables' totals, counts their rows, and looks for rows that are there twice.
pub(super) async fn tables(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    half: Half,
) -> Result<Tables> {
    let (mut totals, mut problems) = (BTreeMap::new(), Vec::new());
    for dataset in &pipeline.datasets {
        let Some(mut table) = Table::open(lake, &half.table(&dataset.name)).await? else { continue };
        // Rows and totals of one version: commits may come in between.
        register_rows(dataset, engine, lake, &table).await?;
        let of_table = table.totals().await?;
        problems.extend(miscounted(engine, dataset, &of_table).await?);
        problems.extend(repeated(engine, dataset, &of_table).await?);
        totals.insert(dataset.name.clone(), of_table);
    }
    let mut quarantined: BTreeMap<(String, u32), Vec<u64>> = BTreeMap::new();
    if let Some(quarantine) = crate::quarantine::open(lake, half).await? {
        let moved = crate::quarantine::moved(pipeline, lake, half).await?;
        for file in quarantine.files().await? {
            let ids = quarantine.read(&file).await?.into_iter().map(|record| record.id);
            for id in ids.filter(|id| !moved.contains(id)) {
                quarantined.entry((id.topic, id.partition)).or_default().push(id.offset);
            }
        }
    }
    for ((topic, partition), offsets) in &mut quarantined {
        offsets.sort_unstable();
        let twice: Vec<u64> =
            offsets.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        problems.extend(twice.into_iter().take(NAMED).map(|offset| Problem {
            topic: topic.clone(),
            partition: Some(*partition),
            first: Some(offset),
            last: Some(offset),
            what: "it stands in quarantine twice".to_owned(),
        }));
    }
    Ok(Tables { totals, quarantined, problems })
}

/// The offset after the last one that the archive holds of each topic partition; the greatest where it cannot be told, as
/// no object has a manifest.
pub(super) async fn archive_ends(archive: &Archive) -> Result<BTreeMap<(String, u32), u64>> {
    let mut ends = BTreeMap::new();
    for (topic, partition) in archive.partitions().await? {
        let newest = archive.manifests(&topic, partition, 0).await?.last().copied();
        let end = match newest {
            None => u64::MAX,
            Some(first) => {
                let manifest = archive.manifest_at(&topic, partition, first).await?;
                manifest.map_or(u64::MAX, |manifest| manifest.sum.last.saturating_add(1))
            }
        };
        ends.insert((topic, partition), end);
    }
    Ok(ends)
}

/// All topic partitions that any stage knows, ascending.
pub(super) async fn partitions(
    log: Option<&dyn EventLog>,
    archive: &Archive,
    tables: &Tables,
) -> Result<BTreeSet<(String, u32)>> {
    let mut all: BTreeSet<(String, u32)> = archive.partitions().await?.into_iter().collect();
    all.extend(tables.totals.values().flat_map(|totals| totals.keys().cloned()));
    if let Some(log) = log {
        all.extend(partitions_of(log).await?);
    }
    Ok(all)
}

/// All partitions that the streaming half knows, ascending.
pub(super) async fn stream_partitions(
    log: Option<&dyn EventLog>,
    tables: &Tables,
) -> Result<BTreeSet<(String, u32)>> {
    let mut all: BTreeSet<(String, u32)> =
        tables.totals.values().flat_map(|totals| totals.keys().cloned()).collect();
    if let Some(log) = log {
        all.extend(partitions_of(log).await?);
    }
    Ok(all)
}

async fn partitions_of(log: &dyn EventLog) -> Result<Vec<(String, u32)>> {
    let mut all = Vec::new();
    for topic in log.topics().await? {
        let partitions = log.describe(&topic).await?.partitions;
        all.extend(partitions.iter().map(|partition| (topic.clone(), partition.partition)));
    }
    Ok(all)
}

/// What a log holds of a partition; `None` where it does not know it.
pub(super) async fn held(log: &dyn EventLog, topic: &str, partition: u32) -> Result<Option<OffsetRange>> {
    match log.offsets(topic, partition).await {
        Ok(held) => Ok(Some(held)),
        Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {
            Ok(None)
        }
        Err(source) => Err(Error::Log { topic: topic.to_owned(), partition, source }),
    }
}

/// Everything that is known of one topic partition. Of the archive, what lies before `until` or has been cleaned.
pub(super) async fn partition(
    log: Option<&dyn EventLog>,
    archive: &Archive,
    tables: &Tables,
    dataset: Option<&str>,
    (topic, partition): (&str, u32),
    (until, deep): (u64, bool),
) -> Result<Facts> {
    let key = (topic.to_owned(), partition);
    let table = dataset.map(|dataset| tables.facts(dataset, &key));
    let until = table.map_or(until, |table| until.max(table.next));
    let held = match log {
        None => None,
        Some(log) => held(log, topic, partition).await?,
    };
    let generation = match (log, held) {
        (Some(log), Some(_)) => Some(log.generation(topic).await?),
        _ => None,
    };
    let log_beginning = held.map(|held| held.beginning);
    let gaps = match (log, held) {
        (Some(log), Some(_)) => gaps(log, topic, partition).await?,
        _ => Vec::new(),
    };
    let mut cuts = vec![log_beginning.unwrap_or(0), table.map_or(0, |table| table.next)];
    cuts.extend(gaps.iter().flat_map(|gap| [gap.beginning, gap.end]));
    let archived = archived(archive, (topic, partition), generation.as_deref(), cuts, (until, deep)).await?;
    let log = match (log, held) {
        (Some(log), Some(held)) => read_log(log, topic, partition, held, &archived.ranges).await?,
        _ => LogCut::default(),
    };
    Ok(Facts { log_beginning, gaps, log, archived, table })
}

/// Offsets that a log lost.
pub(super) async fn gaps(log: &dyn EventLog, topic: &str, partition: u32) -> Result<Vec<OffsetRange>> {
    let gaps = log.gaps(topic, partition).await;
    gaps.map_err(|source| Error::Log { topic: topic.to_owned(), partition, source })
}

pub(super) async fn read_log(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    held: OffsetRange,
    archived: &[RangeSum],
) -> Result<LogCut> {
    let mut tally = Tally::new(archived);
    let mut next = held.beginning;
    let limit = ReadLimit { max_bytes: FETCH_BYTES, max_wait: Duration::ZERO };
    while next < held.end {
        let records = log.read(topic, partition, next, limit).await;
        let records = records.map_err(|source| Error::Log { topic: topic.to_owned(), partition, source })?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        for record in records.iter().filter(|record| record.offset < held.end) {
            tally.add(record.offset, record.value.as_deref());
        }
    }
    Ok(tally.finish())
}

/// Rows of the table by partition, against what its commits say.
async fn miscounted(engine: &dyn Engine, dataset: &Dataset, totals: &Totals) -> Result<Vec<Problem>> {
    let query = format!("SELECT _partition, count(*) AS n FROM `{}` GROUP BY _partition", dataset.all_view());
    let mut rows: BTreeMap<i64, i64> = BTreeMap::new();
    for (partition, _, count) in numbers(engine, &query).await? {
        rows.insert(partition, count);
    }
    let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
    for total in totals.values() {
        *expected.entry(i64::from(total.partition)).or_default() +=
            i64::try_from(total.clean).unwrap_or(i64::MAX);
    }
    let partitions: BTreeSet<i64> = rows.keys().chain(expected.keys()).copied().collect();
    let problem = |partition: i64| {
        let (is, should) = (rows.get(&partition).unwrap_or(&0), expected.get(&partition).unwrap_or(&0));
        (is != should).then(|| Problem {
            topic: topics_of(totals),
            partition: u32::try_from(partition).ok(),
            first: None,
            last: None,
            what: format!(
                "table {} holds {is} rows of the partition, its commits count {should}",
                dataset.name
            ),
        })
    };
    Ok(partitions.into_iter().filter_map(problem).collect())
}

/// Rows that are there more often than there are topics that hold their offset.
async fn repeated(engine: &dyn Engine, dataset: &Dataset, totals: &Totals) -> Result<Vec<Problem>> {
    let query = format!(
        "SELECT _partition, _offset, count(*) AS n FROM `{}` GROUP BY _partition, _offset HAVING count(*) > 1",
        dataset.all_view()
    );
    let mut problems = Vec::new();
    for (partition, offset, count) in numbers(engine, &query).await? {
        let offset = u64::try_from(offset).unwrap_or_default();
        let holds = |total: &&pinmill_lake::table::PartitionTotals| {
            i64::from(total.partition) == partition && (total.sum.first..=total.sum.last).contains(&offset)
        };
        let allowed = totals.values().filter(holds).count();
        if usize::try_from(count).unwrap_or_default() > allowed && problems.len() < NAMED {
            problems.push(Problem {
                topic: topics_of(totals),
                partition: u32::try_from(partition).ok(),
                first: Some(offset),
                last: Some(offset),
                what: format!("table {} holds {count} rows of it", dataset.name),
            });
        }
    }
    Ok(problems)
}

/// Rows of two or three whole numbers: (first, second or 0, last).
async fn numbers(engine: &dyn Engine, query: &str) -> Result<Vec<(i64, i64, i64)>> {
    let mut batches = engine.query(query).await?.batches;
    let mut all = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let column = |index: usize, row: usize| {
            let column = batch.column(index);
            let int = column.as_primitive_opt::<Int32Type>().map(|c| i64::from(c.value(row)));
            int.or_else(|| column.as_primitive_opt::<Int64Type>().map(|c| c.value(row))).unwrap_or_default()
        };
        let last = batch.num_columns() - 1;
        let middle = |row| if last == 2 { column(1, row) } else { 0 };
        all.extend((0..batch.num_rows()).map(|row| (column(0, row), middle(row), column(last, row))));
    }
    Ok(all)
}

/// The tables do not know topics, only partitions: name all that it may be.
fn topics_of(totals: &Totals) -> String {
    let topics: BTreeSet<&str> = totals.keys().map(|(topic, _)| topic.as_str()).collect();
    topics.into_iter().collect::<Vec<_>>().join(", ")
}
