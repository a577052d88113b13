//! One dataset's run: its topic partitions one after the other, in steps, each step cleaned by several workers and
//! then committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pinmill_engine::Engine;
use pinmill_lake::archive::{Archive, ArchiveReader, Chunk, ReadOptions};
use pinmill_lake::quarantine::Quarantine;
use pinmill_lake::table::{CommitPlan, Committed, CoveredRange, RecordId, Table, WriterOptions};
use pinmill_lake::{Lake, RangeSum};
use pinmill_pipeline::Dataset;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use super::plan::one_more_worker;
use super::worker::{Failed, Job, Place, Share, Tally, Worker};
use super::{CleanOptions, DatasetReport, PartitionReport, table_name};
use crate::crash::crash_point;
use crate::{Error, Result};

/// What all datasets of a run share.
pub(super) struct Shared<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) lake: &'a Lake,
    pub(super) archive: &'a Archive,
    pub(super) quarantine: &'a Quarantine,
    pub(super) options: &'a CleanOptions,
    /// Name of the run.
    pub(super) run: &'a str,
    /// When it began, in microseconds since the Unix epoch.
    pub(super) now_us: i64,
}

/// Cleans what is new of one dataset.
pub(super) struct Run<'a> {
    shared: &'a Shared<'a>,
    dataset: &'a Dataset,
    table: Table,
    /// Records of an earlier replay that are gone from quarantine for good.
    settled: Vec<RecordId>,
    /// Workers that rest between steps.
    idle: Vec<Worker>,
    rejected_bytes: Arc<AtomicU64>,
    report: DatasetReport,
}

/// One topic partition and how far it has come.
struct Partition {
    place: Arc<Place>,
    /// The table's position.
    after: Option<u64>,
    /// What the step has read of it.
    sum: RangeSum,
    reader: Option<ArchiveReader>,
}

/// What a step has read, and what became of it.
#[derive(Default)]
struct Step {
    bytes: u64,
    records: u64,
    share: Share,
}

type Working = JoinHandle<(Option<Worker>, Result<Share, Failed>)>;

impl<'a> Run<'a> {
    pub(super) async fn new(shared: &'a Shared<'a>, dataset: &'a Dataset) -> Result<Self> {
        let cleaner = shared.engine.cleaner(dataset).await?;
        let mut table =
            Table::open_or_create(shared.lake, &table_name(&dataset.name), &cleaner.schema()).await?;
        let settled = crate::quarantine::finish(&mut table, shared.quarantine).await?;
        let rejected_bytes = Arc::default();
        let worker = Worker::new(dataset, cleaner, (shared.run, shared.now_us), Arc::clone(&rejected_bytes));
        let report = DatasetReport { dataset: dataset.name.clone(), ..DatasetReport::default() };
        Ok(Self { shared, dataset, table, settled, idle: vec![worker], rejected_bytes, report })
    }

    /// Cleans all partitions, step by step.
    pub(super) async fn run(mut self, partitions: Vec<(String, u32)>) -> Result<DatasetReport> {
        let mut all = Vec::with_capacity(partitions.len());
        for (index, (topic, partition)) in partitions.into_iter().enumerate() {
            let after = self.table.position(&topic, partition).await?;
            let held = self.shared.quarantine.ahead(&topic, partition, after).await?;
            let place = Arc::new(Place { index, topic, partition, held });
            all.push(Partition { place, after, sum: RangeSum::default(), reader: None });
        }
        let mut todo: VecDeque<usize> = (0..all.len()).collect();
        while !todo.is_empty() {
            let step = self.step(&mut all, &mut todo).await?;
            if step.records > 0 {
                self.commit(&mut all, step).await?;
            }
        }
        self.report.version = self.table.version();
        Ok(self.report)
    }

    /// Reads until the step is full or nothing is left, while workers clean.
    async fn step(&mut self, all: &mut [Partition], todo: &mut VecDeque<usize>) -> Result<Step> {
        let (sender, jobs) = mpsc::channel(self.shared.options.workers());
        let mut crew = Crew { jobs: Arc::new(Mutex::new(jobs)), sender, working: Vec::new(), sent: 0 };
        let mut step = Step::default();
        self.rejected_bytes.store(0, Ordering::Relaxed);
        let read = self.read(all, todo, &mut crew, &mut step).await;
        let cleaned = self.gather(crew, &mut step).await;
        // A worker's error comes first: the reader stops because of it.
        cleaned.and(read)?;
        Ok(step)
    }

    async fn read(
        &mut self,
        all: &mut [Partition],
        todo: &mut VecDeque<usize>,
        crew: &mut Crew,
        step: &mut Step,
    ) -> Result<()> {
        while let Some(&index) = todo.front() {
            let partition = &mut all[index];
            let Some(chunk) = self.next_chunk(partition).await? else {
                todo.pop_front();
                continue;
            };
            let ends_object = chunk.ends_object;
            self.note(&partition.place, &chunk, step);
            if !chunk.records.is_empty() {
                let bytes = chunk.data.len() as u64;
                partition.sum.join(&chunk.sum);
                step.records += chunk.sum.count;
                if one_more_worker(step.bytes, crew.working.len(), self.shared.options.workers()) {
                    let worker = self.worker().await?;
                    crew.add(worker, &self.table);
                }
                step.bytes += bytes;
                if !crew.send(Arc::clone(&partition.place), chunk).await {
                    return Ok(());
                }
            }
            let rejected = self.rejected_bytes.load(Ordering::Relaxed);
            if ends_object && self.shared.options.step.reached(step.bytes, step.records, rejected) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn next_chunk(&self, partition: &mut Partition) -> Result<Option<Chunk>> {
        if partition.reader.is_none() {
            let Place { topic, partition: number, .. } = partition.place.as_ref();
            let from = partition.after.map_or(0, |last| last + 1);
            let options =
                ReadOptions { chunk_bytes: self.shared.options.chunk_bytes, ..ReadOptions::default() };
            partition.reader = Some(self.shared.archive.read(topic, *number, from, options).await?);
        }
        let Some(reader) = partition.reader.as_mut() else { return Ok(None) };
        Ok(reader.next().await?)
    }

    /// What a chunk tells beside its records goes into the report.
    fn note(&mut self, place: &Place, chunk: &Chunk, step: &mut Step) {
        self.report.objects += chunk.objects;
        let Place { topic, partition, .. } = place;
        for gap in &chunk.gaps {
            let what = format!(
                "{topic}/{partition}: no archive object holds offsets {} to {}",
                gap.from,
                gap.to - 1
            );
            self.warn_gap(step, what, gap.to - gap.from);
        }
        if chunk.repeated > 0 {
            let what = format!(
                "{topic}/{partition}: records that stand in more than one archive object, taken once"
            );
            step.share.warn(what, chunk.repeated);
        }
    }

    /// The first gaps are told one by one, the others together.
    fn warn_gap(&self, step: &mut Step, what: String, count: u64) {
        const TOLD: usize = 20;
        let told = self.report.warnings.len() + step.share.warnings.len();
        step.share.warn(
            if told < TOLD { what } else { "more offsets that no archive object holds".to_owned() },
            count,
        );
    }

    async fn worker(&mut self) -> Result<Worker> {
        if let Some(worker) = self.idle.pop() {
            return Ok(worker);
        }
        let cleaner = self.shared.engine.cleaner(self.dataset).await?;
        let (run, now_us) = (self.shared.run, self.shared.now_us);
        Ok(Worker::new(self.dataset, cleaner, (run, now_us), Arc::clone(&self.rejected_bytes)))
    }

    /// Waits for the workers. Of several errors the one that stands first in the archive counts.
    async fn gather(&mut self, crew: Crew, step: &mut Step) -> Result<()> {
        drop(crew.sender);
        let mut first: Option<Failed> = None;
        for working in crew.working {
            let (worker, result) = match working.await {
                Ok(done) => done,
                Err(error) => (None, Err((u64::MAX, Error::Internal(format!("a worker ended: {error}"))))),
            };
            self.idle.extend(worker);
            match result {
                Ok(share) => step.share.join(share),
                Err(failed) if first.as_ref().is_none_or(|(number, _)| failed.0 < *number) => {
                    first = Some(failed);
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Makes a step durable: first what was rejected, then rows and positions together.
    async fn commit(&mut self, all: &mut [Partition], mut step: Step) -> Result<()> {
        crash_point("flow::clean::files_written")?;
        let ranges = ranges(all, &step)?;
        // invariant I5
        self.shared.quarantine.add(&step.share.rejected).await?;
        crash_point("flow::clean::quarantine_committed")?;
        let files = std::mem::take(&mut step.share.files);
        self.report.files += files.len() as u64;
        let plan = CommitPlan {
            files,
            ranges,
            settled: std::mem::take(&mut self.settled),
            run: Some(self.shared.run.to_owned()),
            ..CommitPlan::default()
        };
        match self.table.commit(&plan).await? {
            Committed::Committed { version, .. } => {
                tracing::debug!(table = self.table.name(), version, records = step.records, "committed");
            }
            // Another clean did the very same work; ours is left out.
            Committed::AlreadyCommitted => {
                tracing::warn!(
                    table = self.table.name(),
                    "these records were committed by another run meanwhile"
                );
            }
        }
        crash_point("flow::clean::table_committed")?;
        self.report.commits += 1;
        for range in plan.ranges {
            self.report.add(&range);
            for partition in all
                .iter_mut()
                .filter(|p| p.place.topic == range.topic && p.place.partition == range.partition)
            {
                partition.after = Some(range.sum.last);
                partition.sum = RangeSum::default();
            }
        }
        for (what, count) in step.share.warnings {
            *self.report.warnings.entry(what).or_default() += count;
        }
        Ok(())
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

    /// False when a worker has failed and no more is wanted.
    async fn send(&mut self, place: Arc<Place>, chunk: Chunk) -> bool {
        let job = Job { number: self.sent, place, chunk };
        self.sent += 1;
        self.sender.send(job).await.is_ok()
    }
}

/// What a step covers of each partition.
fn ranges(all: &[Partition], step: &Step) -> Result<Vec<CoveredRange>> {
    let mut ranges = Vec::new();
    for Partition { place, after, sum, .. } in all.iter().filter(|partition| !partition.sum.is_empty()) {
        let Tally { clean, quarantined } = step.share.tallies.get(&place.index).copied().unwrap_or_default();
        if clean + quarantined != sum.count {
            return Err(Error::Internal(format!(
                "{}/{}: {} records were read, {clean} are clean and {quarantined} quarantined",
                place.topic, place.partition, sum.count
            )));
        }
        ranges.push(CoveredRange {
            topic: place.topic.clone(),
            partition: place.partition,
            generation: None,
            after: *after,
            sum: *sum,
            clean,
            quarantined,
        });
    }
    Ok(ranges)
}

impl DatasetReport {
    fn add(&mut self, range: &CoveredRange) {
        let CoveredRange { topic, partition, sum, clean, quarantined, .. } = range;
        self.records += sum.count;
        self.clean += clean;
        self.quarantined += quarantined;
        let known = self.partitions.iter_mut().find(|p| p.topic == *topic && p.partition == *partition);
        match known {
            Some(known) => {
                known.sum.join(sum);
                known.clean += clean;
                known.quarantined += quarantined;
            }
            None => self.partitions.push(PartitionReport {
                topic: topic.clone(),
                partition: *partition,
                sum: *sum,
                clean: *clean,
                quarantined: *quarantined,
            }),
        }
    }
}
