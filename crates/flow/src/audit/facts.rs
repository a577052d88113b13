//! Gathering what each stage holds. No judgement here, except over whole tables.

use std::collections::BTreeMap;
use std::time::Duration;

use pinmill_broker::{EventLog, OffsetRange, PartitionDescription, ReadLimit};
use pinmill_engine::Engine;
use pinmill_lake::archive::Archive;
use pinmill_lake::lineage::{Lineages, SourceId};
use pinmill_lake::table::{PartitionTotals, Table, Totals};
use pinmill_lake::{Lake, RangeSum, TopicPartition};
use pinmill_pipeline::Pipeline;

use super::archived::archived;
use super::balance::{Archived, Facts, LogCut, Problem, TableFacts, Tally};
use super::{hashes, rows};
use crate::answer::register_rows;
use crate::clean::Feeds;
use crate::lineage::{Sources, noted_as};
use crate::{Error, Half, Result};

/// How much is read from the log at a time.
const FETCH_BYTES: usize = 4 << 20;
/// How many records that stand somewhere twice are named.
pub(super) const NAMED: usize = 10;

/// What the tables and the quarantine hold.
#[derive(Debug)]
pub(super) struct Tables {
    /// Totals by dataset.
    totals: BTreeMap<String, Totals>,
    /// Offsets of every topic partition that stand in quarantine.
    quarantined: BTreeMap<TopicPartition, Vec<u64>>,
    /// What is off with a table as a whole.
    pub(super) problems: Vec<Problem>,
    lineages: Lineages,
    /// Ranges whose rows could be counted, and not compared.
    pub(super) counted_only: Vec<String>,
}

impl Tables {
    /// All partitions that the tables have covered records of.
    pub(super) fn partitions(&self) -> BTreeMap<TopicPartition, Holders> {
        self.totals.values().flat_map(Totals::keys).map(|place| (place.clone(), Holders::default())).collect()
    }

    /// Whether the tables have a partition from objects that say no generation.
    fn is_of_an_archive(&self, place: &TopicPartition) -> bool {
        let noted = self.totals.values().find_map(|totals| totals.get(place)?.generation.as_deref());
        noted.is_some_and(|noted| matches!(SourceId::from_noted(noted), SourceId::Archive { .. }))
    }

    /// The lineage that a source has in the tables, or that it will have.
    pub(super) async fn lineage(&self, topic: &str, source: &SourceId) -> Result<u32> {
        if let Some(lineage) = self.totals.values().find_map(|totals| noted_as(totals, topic, source)) {
            return Ok(lineage);
        }
        if let Some(lineage) = self.lineages.find(topic, source).await? {
            return Ok(lineage);
        }
        let noted = self.totals.values().flat_map(Totals::values);
        // 0.1 noted nothing where its own archive had no manifests.
        let unnoted = |of: &&PartitionTotals| of.place.topic == topic && of.generation.is_none();
        if let Some(of) = noted.clone().find(unnoted) {
            return Ok(of.place.lineage);
        }
        let of_topic = noted.filter(|of| of.place.topic == topic).map(|of| of.place.lineage);
        let taken = of_topic.chain(self.lineages.numbers(topic).await?).max();
        Ok(taken.map_or(0, |last| last + 1))
    }

    /// The dataset whose table has taken records of a topic.
    pub(super) fn dataset_of(&self, topic: &str) -> Option<String> {
        let took = |totals: &Totals| totals.keys().any(|place| place.topic == topic);
        self.totals.iter().find(|(_, totals)| took(totals)).map(|(dataset, _)| dataset.clone())
    }

    /// What a dataset's table has covered; `None` where there is no table.
    pub(super) fn totals_of(&self, dataset: &str) -> Option<&Totals> {
        self.totals.get(dataset)
    }

    /// What a dataset's table and the quarantine say they hold of a partition.
    pub(super) fn facts(&self, dataset: &str, key: &TopicPartition) -> TableFacts {
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
            quarantine_rows: (here.partition_point(|&offset| offset < next)
                - here.partition_point(|&offset| offset < totals.sum.first))
                as u64,
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
    let (mut totals, mut problems, mut counted_only) = (BTreeMap::new(), Vec::new(), Vec::new());
    for dataset in &pipeline.datasets {
        let Some(mut table) = Table::open(lake, &half.table(&dataset.name)).await? else { continue };
        // Rows and totals of one version: commits may come in between.
        register_rows(dataset, engine, lake, &table).await?;
        let of_table = table.totals().await?.clone();
        problems.extend(rows::problems(engine, dataset, &mut table, &of_table).await?);
        let (differing, without_hash) = hashes::compare(&dataset.name, &table, &of_table).await?;
        problems.extend(differing);
        counted_only.extend(without_hash);
        totals.insert(dataset.name.clone(), of_table);
    }
    let mut quarantined: BTreeMap<TopicPartition, Vec<u64>> = BTreeMap::new();
    if let Some(quarantine) = crate::quarantine::open(lake, half).await? {
        let moved = crate::quarantine::moved(pipeline, lake, half).await?;
        for file in quarantine.files().await? {
            let ids = quarantine.read(&file).await?.into_iter().map(|record| record.id);
            for id in ids.filter(|id| !moved.contains(id)) {
                quarantined.entry(id.place).or_default().push(id.offset);
            }
        }
    }
    for (place, offsets) in &mut quarantined {
        offsets.sort_unstable();
        let twice: Vec<u64> =
            offsets.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        let problem =
            |offset| Problem::at(place, (offset, offset), "it stands in quarantine twice".to_owned());
        problems.extend(twice.into_iter().take(NAMED).map(problem));
    }
    Ok(Tables { totals, quarantined, problems, counted_only, lineages: Lineages::new(lake, half.name()) })
}

/// The offset after the last one that the archive holds of each topic partition; the greatest where it cannot be told, as
/// no object has a manifest.
pub(super) async fn archive_ends(archives: &[Archive], lake: &Lake) -> Result<BTreeMap<Archiving, u64>> {
    let mut ends = BTreeMap::new();
    for (number, archive) in archives.iter().enumerate() {
        ends_of(archive, lake, number, &mut ends).await?;
    }
    Ok(ends)
}

async fn ends_of(
    archive: &Archive,
    lake: &Lake,
    number: usize,
    ends: &mut BTreeMap<Archiving, u64>,
) -> Result<()> {
    for place in Sources::new(archive, lake).partitions().await? {
        let newest = archive.manifests(&place, 0).await?.last().copied();
        let end = match newest {
            None => u64::MAX,
            Some(first) => {
                // One that cannot be read is a problem of its partition, and found there.
                let manifest = archive.manifest_at(&place, first).await.ok().flatten();
                manifest.map_or(u64::MAX, |manifest| manifest.sum.last.saturating_add(1))
            }
        };
        ends.insert((number, place), end);
    }
    Ok(())
}

/// An archive, and what there is to be read of it.
pub(super) struct Looked<'a> {
    pub(super) archive: &'a Archive,
    pub(super) sources: Sources<'a>,
    pub(super) feeds: Feeds,
}

/// Where the records of a partition are besides tables and quarantine.
#[derive(Debug, Clone, Default)]
pub(super) struct Holders {
    /// The archive that has it, and how that calls it: its names may count lineages in another way.
    pub(super) archived: Option<Archiving>,
    /// A log has this life of the topic.
    pub(super) living: bool,
    /// Its archive is one that is not looked at here.
    pub(super) elsewhere: bool,
}

/// A partition of one of the archives that are audited, by the archive's number.
pub(super) type Archiving = (usize, TopicPartition);

/// All partitions that any stage knows, ascending, in the lineages of the tables.
pub(super) async fn partitions(
    log: Option<&dyn EventLog>,
    looked: &[Looked<'_>],
    tables: &Tables,
) -> Result<BTreeMap<TopicPartition, Holders>> {
    let mut all: BTreeMap<TopicPartition, Holders> = tables.partitions();
    for (place, holders) in &mut all {
        holders.elsewhere = tables.is_of_an_archive(place);
    }
    for (number, Looked { sources, feeds, .. }) in looked.iter().enumerate() {
        for place in feeds.directories.keys() {
            all.entry(place.clone()).or_default().archived.get_or_insert((number, place.clone()));
        }
        for archived in sources.partitions().await? {
            let lineage = match sources.source(&archived).await {
                Ok(source) => tables.lineage(&archived.topic, &source).await?,
                // A manifest that cannot be read is a problem of its partition, and found there.
                Err(_) => archived.lineage,
            };
            let holders = all.entry(archived.clone().in_lineage(lineage)).or_default();
            holders.archived.get_or_insert((number, archived));
        }
    }
    if let Some(log) = log {
        for place in partitions_of(log, tables).await? {
            all.entry(place).or_default().living = true;
        }
    }
    Ok(all)
}

/// All partitions of a log, in the lineages of the tables.
pub(super) async fn partitions_of(log: &dyn EventLog, tables: &Tables) -> Result<Vec<TopicPartition>> {
    let mut all = Vec::new();
    for name in log.topics().await? {
        let topic = match log.describe(&name).await {
            Ok(topic) => topic,
            // Deleted in between.
            Err(pinmill_broker::Error::UnknownTopic(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let lineage = tables.lineage(&name, &SourceId::log(&topic.generation)).await?;
        let place = |partition: &PartitionDescription| {
            TopicPartition::new(&name, partition.partition).in_lineage(lineage)
        };
        all.extend(topic.partitions.iter().map(place));
    }
    Ok(all)
}

/// What a log holds of a partition; `None` where it does not know it.
pub(super) async fn held(log: &dyn EventLog, place: &TopicPartition) -> Result<Option<OffsetRange>> {
    match log.offsets(&place.topic, place.partition).await {
        Ok(held) => Ok(Some(held)),
        Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {
            Ok(None)
        }
        Err(source) => Err(log_error(place, source)),
    }
}

fn log_error(place: &TopicPartition, source: pinmill_broker::Error) -> Error {
    Error::Log { topic: place.topic.clone(), partition: place.partition, source }
}

/// Everything that is known of one topic partition. Of the archive, what lies before `until` or has been cleaned.
pub(super) async fn partition(
    log: Option<&dyn EventLog>,
    looked: &[Looked<'_>],
    tables: &Tables,
    dataset: Option<&str>,
    (place, holders): (&TopicPartition, &Holders),
    (until, deep): (u64, bool),
) -> Result<Facts> {
    let table = dataset.map(|dataset| tables.facts(dataset, place));
    let until = table.map_or(until, |table| until.max(table.next));
    let held = match log.filter(|_| holders.living) {
        None => None,
        Some(log) => held(log, place).await?,
    };
    let generation = match (log, held) {
        (Some(log), Some(_)) => Some(log.generation(&place.topic).await?),
        _ => None,
    };
    let log_beginning = held.map(|held| held.beginning);
    let gaps = match (log, held) {
        (Some(log), Some(_)) => gaps(log, &place.topic, place.partition).await?,
        _ => Vec::new(),
    };
    let mut cuts = vec![log_beginning.unwrap_or(0), table.map_or(0, |table| table.next)];
    cuts.extend(gaps.iter().flat_map(|gap| [gap.beginning, gap.end]));
    let archive = holders.archived.as_ref().and_then(|(number, place)| Some((looked.get(*number)?, place)));
    let archived = match archive {
        Some((Looked { archive, feeds, .. }, place)) => {
            archived((archive, feeds), place, generation.as_deref(), cuts, (until, deep)).await?
        }
        None => Archived { elsewhere: holders.elsewhere, ..Archived::default() },
    };
    let log = match (log, held) {
        (Some(log), Some(held)) => read_log(log, place, held, &archived.ranges).await?,
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
    place: &TopicPartition,
    held: OffsetRange,
    archived: &[RangeSum],
) -> Result<LogCut> {
    let mut tally = Tally::new(archived);
    let mut next = held.beginning;
    let limit = ReadLimit { max_bytes: FETCH_BYTES, max_wait: Duration::ZERO };
    while next < held.end {
        let records = log.read(&place.topic, place.partition, next, limit).await;
        let records = records.map_err(|source| log_error(place, source))?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        for record in records.iter().filter(|record| record.offset < held.end) {
            tally.add(record.offset, record.value.as_deref());
        }
    }
    Ok(tally.finish())
}
