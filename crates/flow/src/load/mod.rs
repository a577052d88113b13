//! Raw records into a dataset's table, each once: what both halves do with what they have read.
//!
//! Chunks of raw records are handed to workers that decode, clean and encode. A step of bounded size is then made
//! durable in this order:
//!
//! 1. the Parquet files (nobody sees them yet),
//! 2. the rejected records, in quarantine,
//! 3. one Delta commit of the table: the files, and the new position of each partition with what it covers.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before 2 is committed | nothing happened; a vacuum takes the files one day |
//! | between 2 and 3 | the next step reads the same records. Those that stand in quarantine already stay there and are left out of the table, also where other SQL would take them now; the others are cleaned as if for the first time |
//! | after 3 | the step is done |
//!
//! A position says how far a table has come in one life of a topic's name (the module `lineage`): the offsets of a topic that
//! was made again, and those of an old archive of its name, are counted from 0 too.
//!
//! Two at work on one table: one commits; the other's commit is refused by the table's guard
//! ([`pinmill_lake::Error::Fenced`]), and nothing was written twice. With other SQL the one that is refused may have
//! rejected what the other found clean. So it puts nothing into quarantine once the table has moved on, and takes out
//! again what the table has a row of. What it leaves there all the same (it died in between, or the other one came to the
//! record only later) a replay takes out.

mod plan;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pinmill_engine::Engine;
use pinmill_lake::archive::Chunk;
use pinmill_lake::lineage::{Lineages, SourceId};
use pinmill_lake::quarantine::{Quarantine, QuarantinedRecord};
use pinmill_lake::table::{
    CommitPlan, Committed, CoveredRange, LostRange, Table, TableOptions, WriterOptions,
};
use pinmill_lake::{Lake, RangeSum, RecordId, TopicPartition};
use pinmill_pipeline::Dataset;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

pub use self::plan::StepLimit;
use self::plan::one_more_worker;
pub(crate) use self::plan::{PIECE_RECORDS, pieces, skew};
use self::worker::{Failed, Job, Place, Share, Tally, Worker};
use crate::crash::crash_point;
use crate::lineage::{lineage_in, noted_as};
use crate::warnings::{Warning, Warnings};
use crate::{Error, Half, Result};

/// What all datasets of a run share.
pub(crate) struct Shared<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) lake: &'a Lake,
    pub(crate) half: Half,
    pub(crate) quarantine: &'a Quarantine,
    pub(crate) lineages: &'a Lineages,
    /// How many workers a dataset may keep busy.
    pub(crate) workers: usize,
    /// Name of the run.
    pub(crate) run: &'a str,
    /// For tables that are made.
    pub(crate) options: TableOptions,
}

/// Loads one dataset's records into its table.
pub(crate) struct Loader<'a> {
    shared: &'a Shared<'a>,
    dataset: &'a Dataset,
    table: Table,
    partitions: Vec<Partition>,
    /// Partitions that their log has no longer; the next commit says so.
    retired: Vec<TopicPartition>,
    /// Workers that rest between steps. They keep their plans.
    idle: Vec<Worker>,
    rejected_bytes: Arc<AtomicU64>,
}

/// One topic partition and how far the table has come.
struct Partition {
    place: Arc<Place>,
    /// What commits note of its source.
    generation: String,
    /// The table's position.
    after: Option<u64>,
    /// What no commit has said to be lost yet.
    lost: Vec<LostRange>,
}

/// What was read since the last commit, and the workers that are at it.
pub(crate) struct Step {
    crew: Crew,
    /// Raw bytes given.
    pub(crate) bytes: u64,
    /// Records given.
    pub(crate) records: u64,
    /// What was read of each partition, by its number.
    sums: BTreeMap<usize, RangeSum>,
    share: Share,
}

/// What a step left behind.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What it covered.
    pub(crate) ranges: Vec<CoveredRange>,
    /// Data files written.
    pub(crate) files: u64,
    /// What was odd and passed all the same.
    pub(crate) warnings: Warnings,
}

type Working = JoinHandle<(Option<Worker>, Result<Share, Failed>)>;

impl<'a> Loader<'a> {
    /// Opens the dataset's table, or makes it, and finishes what a replay left half done.
    pub(crate) async fn open(shared: &'a Shared<'a>, dataset: &'a Dataset) -> Result<Self> {
        let cleaner = shared.engine.cleaner(dataset).await?;
        let name = shared.half.table(&dataset.name);
        let schema = cleaner.schema();
        let mut table = Table::open_or_create_with(shared.lake, &name, &schema, &shared.options).await?;
        crate::quarantine::finish(&mut table, shared.quarantine).await?;
        let rejected_bytes = Arc::default();
        let worker = Worker::new(dataset, cleaner, shared.run, Arc::clone(&rejected_bytes));
        Ok(Self {
            shared,
            dataset,
            table,
            partitions: Vec::new(),
            retired: Vec::new(),
            idle: vec![worker],
            rejected_bytes,
        })
    }

    /// Whether the table has covered records of a source of this name.
    pub(crate) async fn has_of(&mut self, topic: &str, source: &SourceId) -> Result<bool> {
        Ok(noted_as(self.table.totals().await?, topic, source).is_some())
    }

    /// Takes a partition of a topic on that comes from `source`, and gives its number here; the first is 0.
    ///
    /// # Errors
    /// [`pinmill_lake::Error::Generation`] when the table notes another source for the lineage of this one.
    pub(crate) async fn add(&mut self, topic: &str, partition: u32, source: &SourceId) -> Result<usize> {
        let lineage = lineage_in(&mut self.table, self.shared.lineages, topic, source).await?;
        let place = &TopicPartition::new(topic, partition).in_lineage(lineage);
        let generation = source.noted();
        self.same_generation(place, &generation).await?;
        self.table.know_positions_of(&[place]).await?;
        let after = self.table.position(place).await?;
        let held = self.shared.quarantine.ahead(place, after).await?;
        let index = self.partitions.len();
        let place = Arc::new(Place { index, at: place.clone(), held });
        self.partitions.push(Partition { place, generation, after, lost: Vec::new() });
        Ok(index)
    }

    /// Takes directories of other partitioners on, in their order, as [`Loader::add`] does: tens of thousands of them are
    /// asked for together. `noted` is what commits note of each one's source.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) async fn add_directories(&mut self, places: &[(TopicPartition, String)]) -> Result<()> {
        let all: Vec<&TopicPartition> = places.iter().map(|(place, _)| place).collect();
        self.table.know_positions_of(&all).await?;
        let mut after = BTreeMap::new();
        for (place, _) in places {
            after.insert(place.clone(), self.table.position(place).await?);
        }
        let mut held = self.shared.quarantine.all_ahead(&after).await?;
        for (place, noted) in places {
            let index = self.partitions.len();
            let held = held.remove(place).unwrap_or_default();
            let after = after.get(place).copied().flatten();
            let place = Arc::new(Place { index, at: place.clone(), held });
            self.partitions.push(Partition { place, generation: noted.clone(), after, lost: Vec::new() });
        }
        Ok(())
    }

    /// A partition's place, by its number.
    pub(crate) fn place(&self, index: usize) -> Option<&TopicPartition> {
        self.partitions.get(index).map(|partition| &partition.place.at)
    }

    /// A lineage has one source. Where the registry says something else than the table, offsets would be taken for others.
    async fn same_generation(&mut self, place: &TopicPartition, given: &str) -> Result<()> {
        let totals = self.table.totals().await?;
        let at = |partition| TopicPartition { partition, ..place.clone() };
        let of_lineage =
            totals.range(at(0)..=at(u32::MAX)).filter_map(|(_, totals)| totals.generation.as_ref());
        let found = of_lineage.into_iter().find(|found| *found != given).cloned();
        match found {
            None => Ok(()),
            Some(found) => Err(Error::Lake(pinmill_lake::Error::Generation {
                place: format!("table {}", self.table.name()),
                topic: place.topic.clone(),
                found,
                given: given.to_owned(),
            })),
        }
    }

    /// Takes note of partitions whose topic was deleted.
    pub(crate) fn retire(&mut self, places: impl Iterator<Item = TopicPartition>) {
        self.retired.extend(places);
    }

    /// Takes note of records of a partition that nobody can load any more.
    pub(crate) fn lose(&mut self, index: usize, lost: Vec<LostRange>) {
        if let Some(partition) = self.partitions.get_mut(index) {
            partition.lost.extend(lost);
        }
    }

    /// The offset after the last one that the table covers of a partition.
    pub(crate) fn next(&self, index: usize) -> u64 {
        self.partitions.get(index).and_then(|partition| partition.after).map_or(0, |after| after + 1)
    }

    /// Delta version of the table.
    pub(crate) fn version(&self) -> u64 {
        self.table.version()
    }

    /// Begins a step.
    pub(crate) fn begin(&self) -> Step {
        self.rejected_bytes.store(0, Ordering::Relaxed);
        let (sender, jobs) = mpsc::channel(self.shared.workers);
        let crew = Crew { jobs: Arc::new(Mutex::new(jobs)), sender, working: Vec::new(), sent: 0 };
        Step { crew, bytes: 0, records: 0, sums: BTreeMap::new(), share: Share::default() }
    }

    /// Gives the workers a chunk of a partition, in offset order. False when one of them has failed and no more is
    /// wanted: [`Loader::finish`] says why.
    pub(crate) async fn give(&mut self, step: &mut Step, index: usize, chunk: Chunk) -> Result<bool> {
        let Some(partition) = self.partitions.get(index) else {
            return Err(Error::Internal(format!("there is no partition number {index}")));
        };
        let place = Arc::clone(&partition.place);
        step.sums.entry(index).or_default().join(&chunk.sum);
        step.records += chunk.sum.count;
        if one_more_worker(step.bytes, step.crew.working.len(), self.shared.workers) {
            let worker = self.worker().await?;
            step.crew.add(worker, &self.table);
        }
        // Not the length of `data`: the pieces of a chunk share it.
        step.bytes += chunk
            .records
            .iter()
            .map(|record| u64::from(record.end.saturating_sub(record.start)) + 1)
            .sum::<u64>();
        Ok(step.crew.send(place, chunk).await)
    }

    /// Whether the step is to be committed now.
    pub(crate) fn is_full(&self, step: &Step, limit: StepLimit) -> bool {
        limit.reached(step.bytes, step.records, self.rejected_bytes.load(Ordering::Relaxed))
    }

    /// Whether the step is to be committed now, also in the middle of an archive object.
    pub(crate) fn must_end(&self, limit: StepLimit) -> bool {
        limit.rejects(self.rejected_bytes.load(Ordering::Relaxed))
    }

    /// Waits for the workers and makes the step durable; nothing is committed where nothing was read.
    ///
    /// # Errors
    /// The error that stands first in the order of reading; [`pinmill_lake::Error::Fenced`].
    pub(crate) async fn finish(&mut self, step: Step) -> Result<Loaded> {
        let Step { crew, mut share, sums, records, .. } = step;
        self.gather(crew, &mut share).await?;
        if records == 0 {
            return Ok(Loaded { warnings: share.warnings, ..Loaded::default() });
        }
        self.commit(&sums, share).await
    }

    /// Ends a step that could not be read to its end; nothing is committed. Gives a worker's error, which is often
    /// why.
    pub(crate) async fn abandon(&mut self, step: Step) -> Option<Error> {
        let Step { crew, mut share, .. } = step;
        self.gather(crew, &mut share).await.err()
    }

    async fn worker(&mut self) -> Result<Worker> {
        if let Some(worker) = self.idle.pop() {
            return Ok(worker);
        }
        let cleaner = self.shared.engine.cleaner(self.dataset).await?;
        Ok(Worker::new(self.dataset, cleaner, self.shared.run, Arc::clone(&self.rejected_bytes)))
    }

    /// Waits for the workers. Of several errors the one that stands first in the order of reading counts.
    async fn gather(&mut self, crew: Crew, share: &mut Share) -> Result<()> {
        drop(crew.sender);
        let mut first: Option<Failed> = None;
        for working in crew.working {
            let (worker, result) = match working.await {
                Ok(done) => done,
                Err(error) => (None, Err((u64::MAX, Error::Internal(format!("a worker ended: {error}"))))),
            };
            self.idle.extend(worker);
            match result {
                Ok(own) => share.join(own),
                Err(failed) if first.as_ref().is_none_or(|(number, _)| failed.0 < *number) => {
                    first = Some(failed);
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// First what was rejected, then rows and positions together.
    async fn commit(&mut self, sums: &BTreeMap<usize, RangeSum>, share: Share) -> Result<Loaded> {
        crash_point("flow::load::files_written")?;
        let ranges = self.ranges(sums, &share)?;
        // invariant I5. Where the table has moved on, the commit below is refused.
        if !share.rejected.is_empty() && self.is_where_it_was(&ranges).await? {
            self.shared.quarantine.add(&share.rejected).await?;
        }
        crash_point("flow::load::quarantine_committed")?;
        let files = share.files.len() as u64;
        // A replay beside this process may have died before its last step.
        let settled = crate::quarantine::finish(&mut self.table, self.shared.quarantine).await?;
        let plan = CommitPlan {
            files: share.files,
            ranges,
            settled,
            retired: self.retired.clone(),
            run: Some(self.shared.run.to_owned()),
            ..CommitPlan::default()
        };
        let committed = self.table.commit(&plan).await;
        if matches!(committed, Ok(Committed::AlreadyCommitted) | Err(pinmill_lake::Error::Fenced { .. })) {
            // What is left there a replay takes out; that somebody else is at work is the news.
            if let Err(error) = self.take_back(&share.rejected).await {
                tracing::warn!(error = %error.chain(), "the quarantine keeps what another run found clean");
            }
        }
        match committed? {
            Committed::Committed { version, .. } => {
                tracing::debug!(table = self.table.name(), version, "committed");
            }
            // Another run did the very same work; ours is left out.
            Committed::AlreadyCommitted => {
                tracing::warn!(
                    table = self.table.name(),
                    "these records were committed by another run meanwhile"
                );
            }
        }
        crash_point("flow::load::table_committed")?;
        self.retired.clear();
        for (index, sum) in sums {
            if let Some(partition) = self.partitions.get_mut(*index).filter(|_| !sum.is_empty()) {
                partition.after = Some(sum.last);
                partition.lost.clear();
            }
        }
        Ok(Loaded { ranges: plan.ranges, files, warnings: share.warnings })
    }

    /// Whether nobody has moved the table's positions since the step began.
    async fn is_where_it_was(&mut self, ranges: &[CoveredRange]) -> Result<bool> {
        self.table.refresh().await?;
        for CoveredRange { place, after, .. } in ranges {
            if self.table.position(place).await? != *after {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes out of quarantine what another run found clean. The rest stays: that run may have rejected it too, and have
    /// found it in quarantine already.
    async fn take_back(&mut self, rejected: &[QuarantinedRecord]) -> Result<()> {
        let ids: Vec<RecordId> = rejected.iter().map(|record| record.id.clone()).collect();
        let clean = self.table.present(&ids).await?;
        self.shared.quarantine.remove(&clean).await?;
        Ok(())
    }

    /// What a step covers of each partition.
    fn ranges(&self, sums: &BTreeMap<usize, RangeSum>, share: &Share) -> Result<Vec<CoveredRange>> {
        let mut ranges = Vec::new();
        for (index, sum) in sums.iter().filter(|(_, sum)| !sum.is_empty()) {
            let Some(Partition { place, generation, after, lost }) = self.partitions.get(*index) else {
                continue;
            };
            let Tally { clean, quarantined, rows } = share.tallies.get(index).copied().unwrap_or_default();
            if clean + quarantined != sum.count {
                return Err(Error::Internal(format!(
                    "{}: {} records were read, {clean} are clean and {quarantined} quarantined",
                    place.at, sum.count
                )));
            }
            ranges.push(CoveredRange {
                place: place.at.clone(),
                generation: Some(generation.clone()),
                after: *after,
                sum: *sum,
                clean,
                quarantined,
                rows: Some(rows),
                lost: lost.clone(),
                sequence: None,
            });
        }
        Ok(ranges)
    }
}

impl Step {
    /// The last offset of a partition that was given to the step.
    pub(crate) fn last_given(&self, index: usize) -> Option<u64> {
        self.sums.get(&index).filter(|sum| !sum.is_empty()).map(|sum| sum.last)
    }

    /// Notes something odd about what was read.
    pub(crate) fn warn(&mut self, what: String, count: u64) {
        self.share.warnings.add(Warning::Other(what), count);
    }

    /// How many different things were odd so far.
    pub(crate) fn warnings(&self) -> usize {
        self.share.warnings.len()
    }
}

/// The workers of a step and the channel they are fed by.
struct Crew {
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    sender: mpsc::Sender<Job>,
    working: Vec<Working>,
    sent: u64,
}

impl Crew {
    fn add(&mut self, worker: Worker, table: &Table) {
        let writer = table.writer(WriterOptions::default());
        self.working.push(tokio::spawn(worker.work(writer, Arc::clone(&self.jobs))));
    }

    async fn send(&mut self, place: Arc<Place>, chunk: Chunk) -> bool {
        let job = Job { number: self.sent, place, chunk };
        self.sent += 1;
        self.sender.send(job).await.is_ok()
    }
}
