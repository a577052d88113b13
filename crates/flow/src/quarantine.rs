//! Records that could not be cleaned: looking at them, and cleaning them again.
//!
//! A record belongs to the dataset that takes its topic now, whichever rejected it.
//!
//! # Replay
//!
//! A replay cleans quarantined records with the present SQL. Those that pass move to their table, file by file of the
//! quarantine and dataset by dataset:
//!
//! 1. The table is opened, and what an earlier replay left half done is finished: the records on its list
//!    ([`Table::replayed`]) are taken out of quarantine.
//! 2. The records are read, cleaned, and their rows written to data files. Those that the table has rows of already
//!    are taken out of quarantine instead: of two cleans at once with different SQL, one found them clean.
//! 3. One commit adds the files to the table, moves the records from `quarantined` to `clean` in its totals, and
//!    puts their ids on the list. It is refused when the table is not at the version of step 1, so that no other
//!    replay can have moved the same records.
//! 4. The records are taken out of quarantine, and a commit of the table says so.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the commit of 3 | nothing happened; the files are orphans |
//! | between 3 and 4 | the records are in the table, and still in quarantine under ids that stand on the table's list. Whoever reads the quarantine here leaves them out; the next replay takes them out for good, and so does the next commit of a clean or of a server beside it |
//! | after 4 | done |

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pinmill_engine::{Cleaner, Decoder, Engine, Position, RawValue, clean_parts};
use pinmill_lake::quarantine::Quarantine;
pub use pinmill_lake::quarantine::{Filter, QuarantinedRecord};
use pinmill_lake::table::{CommitPlan, DataFile, Table, WriterOptions, WrittenFile, row_hashes};
use pinmill_lake::{Lake, RecordId};
use pinmill_pipeline::{Dataset, Pipeline};
use serde::Serialize;

use crate::crash::crash_point;
use crate::{Error, Half, Result, run_id};

/// How often a replay starts anew because a clean or another replay committed meanwhile.
const ATTEMPTS: u32 = 5;
/// Most records in one commit of a replay: their ids are kept in the table's log for a while.
const MAX_IDS: usize = 10_000;

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Name of the run.
    pub run: String,
    /// Records that are in their table now.
    pub moved: u64,
    /// Records that stay, by the reason they have now.
    pub remaining: BTreeMap<String, u64>,
    /// Records of datasets that the pipeline does not have any longer: left alone, by dataset.
    pub unknown: BTreeMap<String, u64>,
}

/// Up to `limit` quarantined records, oldest first, without those that a replay has moved already.
///
/// # Errors
/// [`Error::Lake`].
pub async fn list(
    pipeline: &Pipeline,
    lake: &Lake,
    half: Half,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<QuarantinedRecord>> {
    let Some(quarantine) = open(lake, half).await? else { return Ok(Vec::new()) };
    let moved = moved(pipeline, lake, half).await?;
    let take = |record: QuarantinedRecord| {
        let record = followed(pipeline, half, record);
        (filter.takes(&record) && !moved.contains(&record.id)).then_some(record)
    };
    Ok(quarantine.records_by(take, limit).await?)
}

/// One quarantined record, by its place in the log.
///
/// # Errors
/// [`Error::Lake`].
pub async fn show(
    pipeline: &Pipeline,
    lake: &Lake,
    half: Half,
    id: &RecordId,
) -> Result<Option<QuarantinedRecord>> {
    let filter = Filter {
        topic: Some(id.place.topic.clone()),
        lineage: Some(id.place.lineage),
        partition: Some(id.place.partition),
        offset: Some(id.offset),
        ..Filter::default()
    };
    Ok(list(pipeline, lake, half, &filter, 1).await?.pop())
}

/// A record with the dataset that takes its topic now: the topic may have moved to another one since it was rejected.
fn followed(pipeline: &Pipeline, half: Half, record: QuarantinedRecord) -> QuarantinedRecord {
    let topic = &record.id.place.topic;
    let taker = match half {
        Half::Batch => pipeline.dataset_for_topic(topic),
        // A streaming half may read topics too.
        Half::Stream => pipeline.dataset_for_stream(topic).or_else(|| pipeline.dataset_for_topic(topic)),
    };
    match taker {
        Some(dataset) => QuarantinedRecord { dataset: dataset.name.clone(), ..record },
        None => record,
    }
}

/// Cleans the records that `filter` takes once more, and moves those that pass to their tables.
///
/// # Errors
/// [`Error::Engine`], also where a rule says stop; [`Error::Lake`]. What was moved before the error stays moved.
pub async fn replay(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    half: Half,
    filter: &Filter,
) -> Result<ReplayReport> {
    let mut report = ReplayReport { run: run_id(), ..ReplayReport::default() };
    let Some(quarantine) = open(lake, half).await? else { return Ok(report) };
    let mut known = BTreeSet::new();
    for dataset in &pipeline.datasets {
        known.insert(dataset.name.as_str());
        if filter.dataset.as_ref().is_some_and(|wanted| *wanted != dataset.name) {
            continue;
        }
        let run = report.run.clone();
        let place = (pipeline, lake, half);
        Replay::new(place, engine, &quarantine, dataset, &run).await?.run(filter, &mut report).await?;
    }
    for file in quarantine.files().await? {
        let records = quarantine.read(&file).await?.into_iter();
        let records = records.map(|record| followed(pipeline, half, record));
        let is_stray = |record: &QuarantinedRecord| !known.contains(record.dataset.as_str());
        for record in records.filter(|record| filter.takes(record) && is_stray(record)) {
            *report.unknown.entry(record.dataset).or_default() += 1;
        }
    }
    Ok(report)
}

/// Takes out of quarantine what the table's latest replay has moved, and gives the list of it.
pub(crate) async fn finish(table: &mut Table, quarantine: &Quarantine) -> Result<Vec<RecordId>> {
    let moved = table.replayed().await?;
    quarantine.remove(&moved).await?;
    Ok(moved)
}

/// Ids that stand in quarantine and in a table, because a replay died before its last step.
pub(crate) async fn moved(pipeline: &Pipeline, lake: &Lake, half: Half) -> Result<HashSet<RecordId>> {
    let mut moved = HashSet::new();
    for dataset in &pipeline.datasets {
        if let Some(mut table) = Table::open(lake, &half.table(&dataset.name)).await? {
            moved.extend(table.replayed().await?);
        }
    }
    Ok(moved)
}

/// The quarantine, unless nothing was ever cleaned: looking at it shall not make it.
pub(crate) async fn open(lake: &Lake, half: Half) -> Result<Option<Quarantine>> {
    match Table::open(lake, &half.quarantine()).await? {
        Some(_) => Ok(Some(Quarantine::open(lake, half.name()).await?)),
        None => Ok(None),
    }
}

/// The replay of one dataset.
struct Replay<'a> {
    pipeline: &'a Pipeline,
    half: Half,
    quarantine: &'a Quarantine,
    dataset: &'a Dataset,
    run: &'a str,
    table: Table,
    decoder: Decoder,
    cleaner: Box<dyn Cleaner>,
}

/// What cleaning made of some records.
struct Tried {
    files: Vec<WrittenFile>,
    passed: Vec<RecordId>,
    /// The hash of the row of each of these.
    rows: Vec<u64>,
    failed: Vec<String>,
}

impl<'a> Replay<'a> {
    async fn new(
        (pipeline, lake, half): (&'a Pipeline, &Lake, Half),
        engine: &dyn Engine,
        quarantine: &'a Quarantine,
        dataset: &'a Dataset,
        run: &'a str,
    ) -> Result<Self> {
        let cleaner = engine.cleaner(dataset).await?;
        let table = Table::open_or_create(lake, &half.table(&dataset.name), &cleaner.schema()).await?;
        let decoder = Decoder::new(dataset);
        Ok(Self { pipeline, half, quarantine, dataset, run, table, decoder, cleaner })
    }

    /// Tries all records of the dataset, from the start again where somebody else committed meanwhile.
    async fn run(&mut self, filter: &Filter, report: &mut ReplayReport) -> Result<()> {
        let mut attempt = 1;
        loop {
            let mut failed = BTreeMap::new();
            match self.pass(filter, &mut report.moved, &mut failed).await {
                Ok(()) => {
                    for (reason, count) in failed {
                        *report.remaining.entry(reason).or_default() += count;
                    }
                    return Ok(());
                }
                Err(Error::Lake(pinmill_lake::Error::Fenced { .. } | pinmill_lake::Error::Stale { .. }))
                    if attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One pass over the quarantine. The table's version is taken before the records are read, so that the commits
    /// can tell whether another replay may have moved them.
    async fn pass(
        &mut self,
        filter: &Filter,
        moved: &mut u64,
        failed: &mut BTreeMap<String, u64>,
    ) -> Result<()> {
        self.table.refresh().await?;
        let moved_before = finish(&mut self.table, self.quarantine).await?;
        self.table.settle(moved_before).await?;
        for file in self.quarantine.files().await? {
            let records = self.worth_a_try(&file, filter).await?;
            for part in records.chunks(MAX_IDS) {
                let tried = self.clean(part).await?;
                for reason in &tried.failed {
                    *failed.entry(reason.clone()).or_default() += 1;
                }
                *moved += self.commit(tried).await?;
            }
        }
        Ok(())
    }

    /// The records of a file of the quarantine that may be moved.
    async fn worth_a_try(&mut self, file: &DataFile, filter: &Filter) -> Result<Vec<QuarantinedRecord>> {
        let records = self.quarantine.read(file).await?.into_iter();
        let mut records: Vec<_> = records.map(|record| followed(self.pipeline, self.half, record)).collect();
        records.retain(|record| record.dataset == self.dataset.name && filter.takes(record));
        let mut covered = Vec::with_capacity(records.len());
        for record in records {
            // What lies behind the table's position was left by a clean that died: the next one settles it.
            let position = self.table.position(&record.id.place).await?;
            if position.is_some_and(|position| record.id.offset <= position) {
                covered.push(record);
            }
        }
        let ids: Vec<RecordId> = covered.iter().map(|record| record.id.clone()).collect();
        let present = self.table.present(&ids).await?;
        self.quarantine.remove(&present).await?;
        let present: HashSet<RecordId> = present.into_iter().collect();
        covered.retain(|record| !present.contains(&record.id));
        Ok(covered)
    }

    /// Moves the records that passed, exactly once.
    async fn commit(&mut self, tried: Tried) -> Result<u64> {
        if tried.passed.is_empty() {
            return Ok(0);
        }
        crash_point("flow::replay::files_written")?;
        let plan = CommitPlan {
            files: tried.files,
            replayed: tried.passed,
            replayed_rows: tried.rows,
            run: Some(self.run.to_owned()),
            at_version: Some(self.table.version()),
            ..CommitPlan::default()
        };
        self.table.commit(&plan).await?;
        crash_point("flow::replay::table_committed")?;
        self.quarantine.remove(&plan.replayed).await?;
        crash_point("flow::replay::quarantine_committed")?;
        self.table.settle(plan.replayed.clone()).await?;
        Ok(plan.replayed.len() as u64)
    }

    async fn clean(&mut self, records: &[QuarantinedRecord]) -> Result<Tried> {
        let mut tried = Tried { files: Vec::new(), passed: Vec::new(), rows: Vec::new(), failed: Vec::new() };
        for record in records {
            let value = record.raw.as_ref().map_or(RawValue::Tombstone, |raw| RawValue::Bytes(raw));
            let place = &record.id.place;
            let lineage = i32::try_from(place.lineage).map_err(|_| too_large(record))?;
            self.decoder.topic(&place.topic, lineage);
            self.decoder.push(value, position(record)?);
        }
        let decoded = self.decoder.finish()?;
        let (mut rows, mut rejected) = (0, decoded.rejected);
        let mut writer = self.table.writer(WriterOptions::default());
        for cleaned in clean_parts(&mut *self.cleaner, &decoded.batch) {
            let cleaned = cleaned?;
            rows += cleaned.rows.num_rows();
            tried.rows.extend(row_hashes(&cleaned.rows).map_err(Error::Internal)?);
            writer.write(&cleaned.rows).await?;
            rejected.extend(cleaned.rejected);
        }
        let mut failed = HashSet::new();
        for rejected in rejected {
            failed.insert(rejected.row as usize);
            tried.failed.push(rejected.reason);
        }
        let passed = records.iter().enumerate().filter(|(row, _)| !failed.contains(row));
        tried.passed = passed.map(|(_, record)| record.id.clone()).collect();
        if tried.passed.len() != rows {
            let passed = tried.passed.len();
            return Err(Error::Internal(format!("{passed} replayed records became {rows} rows")));
        }
        tried.files = writer.finish().await?;
        Ok(tried)
    }
}

fn position(record: &QuarantinedRecord) -> Result<Position> {
    let RecordId { place, offset, sub } = &record.id;
    Ok(Position {
        partition: i32::try_from(place.partition).map_err(|_| too_large(record))?,
        offset: i64::try_from(*offset).map_err(|_| too_large(record))?,
        sub: i32::try_from(*sub).map_err(|_| too_large(record))?,
        ingested_at_us: record.ingested_at_us,
    })
}

fn too_large(record: &QuarantinedRecord) -> Error {
    Error::Internal(format!("{} does not fit INT and BIGINT", record.id))
}
