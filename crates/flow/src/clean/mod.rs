//! From the archive to clean tables: only what is new since the last run, each record once.
//!
//! For each dataset, each of its topic partitions, those of earlier lives of the topic's name first, goes on after the
//! table's position (Delta `txn`), reads the newer archive objects in chunks, and has them loaded in steps (see the
//! module `load`, also for what a crash leaves).
//!
//! Where a rule says `stop`, nothing of the step is committed. Steps before it are: a backlog of more than
//! [`StepLimit`] is several batches.

mod dataset;
mod feeds;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use futures::{FutureExt, StreamExt, stream};
use pinmill_engine::Engine;
use pinmill_lake::archive::{Archive, ArchiveConfig, Compression, Unread};
use pinmill_lake::lineage::Lineages;
use pinmill_lake::quarantine::Quarantine;
use pinmill_lake::table::TableOptions;
use pinmill_lake::{Lake, RangeSum, TopicPartition};
use pinmill_pipeline::{Dataset, Pipeline};
use serde::Serialize;

use self::dataset::{ReadFrom, Run};
pub(crate) use self::feeds::{Feeds, Look, is_directory};
use crate::lineage::{Sources, adopt};
use crate::load::{Shared, StepLimit, skew};
use crate::warnings::{Warning, Warnings};
use crate::{Error, Half, Result, run_id};

/// How often a dataset's run goes on after its files had waited too long for their commit.
const ATTEMPTS: u32 = 3;

/// How to clean.
#[derive(Debug, Clone)]
pub struct CleanOptions {
    /// Where the raw objects are; `None` is the lake itself.
    pub archive: Option<Lake>,
    /// Directory of the topics in the archive's lake (`topics`).
    pub prefix: String,
    /// How many workers a dataset may keep busy; `None` is one a core.
    pub workers: Option<usize>,
    /// How much goes into one commit.
    pub step: StepLimit,
    /// About how much raw JSON a worker takes at a time, in bytes.
    pub chunk_bytes: usize,
    /// Name of the run in commits and reports; `None` makes one.
    pub run: Option<String>,
}

impl Default for CleanOptions {
    fn default() -> Self {
        Self {
            archive: None,
            prefix: "topics".to_owned(),
            workers: None,
            step: StepLimit::default(),
            chunk_bytes: 4 << 20,
            run: None,
        }
    }
}

impl CleanOptions {
    pub(crate) fn archive_of(&self, lake: &Lake) -> Archive {
        // The compression is for writing only.
        let config = ArchiveConfig { topics_dir: self.prefix.clone(), compression: Compression::None };
        Archive::new(self.archive.as_ref().unwrap_or(lake), config)
    }
}

/// What a clean did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CleanReport {
    /// Name of the run, as in the tables' history.
    pub run: String,
    /// One a dataset, in the pipeline's order.
    pub datasets: Vec<DatasetReport>,
    /// Topics of the archive that no dataset takes.
    pub unclaimed: Vec<String>,
    /// What lies among the topics and is not read, such as Avro.
    pub unread: Vec<Unread>,
    /// What is not read, or cannot be, is something else than at the clean before.
    #[serde(skip)]
    pub unread_is_news: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl CleanReport {
    /// Records read, over all datasets.
    pub fn records(&self) -> u64 {
        self.datasets.iter().map(|dataset| dataset.records).sum()
    }

    /// Objects that could not be read. What lies behind them in the same partition waits for them.
    pub fn damaged(&self) -> impl Iterator<Item = &Unread> {
        self.datasets.iter().flat_map(|dataset| &dataset.damaged)
    }

    /// Leaves out of the warnings what the run before has told.
    pub fn leave_out_old_news(&mut self) {
        self.unclaimed.clear();
        if !self.unread_is_news {
            self.unread.clear();
            self.datasets.iter_mut().for_each(|dataset| dataset.damaged.clear());
        }
    }

    /// Everything that was odd and passed all the same, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let of = |dataset: &DatasetReport| {
            let name = dataset.dataset.clone();
            let text = move |(what, count): (&Warning, u64)| format!("{name}: {what} ({count})");
            dataset.warnings.iter().map(text).collect::<Vec<_>>()
        };
        let unclaimed =
            |topic: &String| format!("no dataset takes topic `{topic}`: its records stay in the archive");
        let damaged: Vec<&Unread> = self.damaged().collect();
        let unread: Vec<&Unread> = self.unread.iter().filter(|unread| unread.may_hold_records).collect();
        let waits = "cannot be read; what lies behind it in its partition waits";
        let odd = self.datasets.iter().flat_map(of).chain(self.unclaimed.iter().map(unclaimed));
        odd.chain(named(&damaged, waits)).chain(named(&unread, "is not read")).collect()
    }
}

/// What a clean did with one dataset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DatasetReport {
    /// Its name.
    pub dataset: String,
    /// Records read: `clean + quarantined`.
    pub records: u64,
    /// Rows that went into the table.
    pub clean: u64,
    /// Records that went into quarantine.
    pub quarantined: u64,
    /// Archive objects read.
    pub objects: u64,
    /// Commits made.
    pub commits: u64,
    /// Data files written.
    pub files: u64,
    /// Delta version of the table at the end.
    pub version: u64,
    /// What was odd and passed all the same.
    pub warnings: Warnings,
    /// Objects that could not be read.
    pub damaged: Vec<Unread>,
    /// What was read of each topic partition.
    pub partitions: Vec<PartitionReport>,
    /// Where each of them stands there.
    #[serde(skip)]
    pub(crate) index: HashMap<TopicPartition, usize>,
}

/// What a clean did with one partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    /// The partition.
    #[serde(flatten)]
    pub place: TopicPartition,
    /// First and last offset, number and hash of the records.
    #[serde(flatten)]
    pub sum: RangeSum,
    /// Rows that went into the table.
    pub clean: u64,
    /// Records that went into quarantine.
    pub quarantined: u64,
}

/// Cleans what is new in the archive into the tables of `lake`.
///
/// # Errors
/// [`crate::Error::Stopped`] where a rule says stop, [`crate::Error::Lake`] with
/// [`pinmill_lake::Error::Fenced`] when another clean is at work. The datasets without an error are cleaned all the same.
/// Objects that cannot be read are no error: they are in the report.
pub async fn clean(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    options: &CleanOptions,
) -> Result<CleanReport> {
    let started = Instant::now();
    let run = options.run.clone().unwrap_or_else(run_id);
    let archive = options.archive_of(lake);
    let half = Half::Batch;
    let quarantine = &Quarantine::open(lake, half.name()).await?;
    let lineages = &Lineages::new(lake, half.name());
    adopt(lake, half, lineages).await?;
    let (archive, workers, run) = (&archive, workers(options.workers), &*run);
    let table = TableOptions::default();
    let shared = &Shared { engine, lake, half, quarantine, lineages, workers, run, options: table };
    let sources = &Sources::new(archive, lake);
    let mut feeds = Feeds::of(archive, lake, Look::Claim).await?;
    let mut failure = None;
    for error in std::mem::take(&mut feeds.refused) {
        tracing::error!(error = %error.chain(), hint = error.hint(), "directories were not cleaned");
        failure.get_or_insert(error);
    }
    let places = sources.partitions().await?.into_iter().chain(feeds.directories.keys().cloned());
    let (mut of_dataset, unclaimed) = claims(pipeline, places);
    let read = &ReadFrom { archive, sources, feeds: &feeds };
    // Boxed, so that a caller may spawn this: the compiler cannot prove a stream of such closures `Send`.
    let mut runs = Vec::with_capacity(pipeline.datasets.len());
    for dataset in &pipeline.datasets {
        let partitions = of_dataset.remove(&dataset.name).unwrap_or_default();
        runs.push(async move { clean_dataset(shared, read, options, dataset, partitions).await }.boxed());
    }
    let at_once = workers.max(2);
    let done: Vec<Result<DatasetReport>> = stream::iter(runs).buffered(at_once).collect().await;
    let mut datasets = Vec::with_capacity(done.len());
    for result in done {
        match result {
            Ok(mut report) => {
                report.warn_of_skew();
                datasets.push(report);
            }
            Err(error) => {
                tracing::error!(error = %error.chain(), "a dataset was not cleaned");
                failure.get_or_insert(error);
            }
        }
    }
    let (unread, seconds) = (feeds.unread.clone(), started.elapsed().as_secs_f64());
    let run = run.to_owned();
    let mut report = CleanReport { run, datasets, unclaimed, unread, unread_is_news: false, seconds };
    let unread: Vec<Unread> = report.damaged().chain(&report.unread).cloned().collect();
    report.unread_is_news = Unread::note(lake, &archive.place(), &unread).await?;
    failure.map_or(Ok(report), Err)
}

/// Cleans what is new of one dataset: again from the table's position where files had waited for their commit until a
/// vacuum may have taken them.
async fn clean_dataset(
    shared: &Shared<'_>,
    from: &ReadFrom<'_>,
    options: &CleanOptions,
    dataset: &Dataset,
    partitions: Vec<TopicPartition>,
) -> Result<DatasetReport> {
    let mut report = DatasetReport { dataset: dataset.name.clone(), ..DatasetReport::default() };
    let mut attempt = 1;
    loop {
        let run = Run::new(shared, from, options, dataset, &mut report).await?;
        match run.run(partitions.clone()).await {
            Err(Error::Lake(error @ pinmill_lake::Error::Stale { .. })) if attempt < ATTEMPTS => {
                tracing::warn!(dataset = dataset.name, %error, "a step is done again");
                attempt += 1;
            }
            done => return done.map(|()| report),
        }
    }
}

/// The first of them by name, and how many more there are.
fn named(unread: &[&Unread], what: &str) -> Vec<String> {
    const NAMED: usize = 20;
    let name = |unread: &&Unread| format!("{} {what}: {}", unread.path, unread.why);
    let mut all: Vec<String> = unread.iter().take(NAMED).map(name).collect();
    if let more @ 1.. = unread.len().saturating_sub(NAMED) {
        all.push(format!("{more} more objects of which each {what}"));
    }
    all
}

/// How many workers are meant: one a core where none are named.
pub(crate) fn workers(wanted: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    wanted.unwrap_or_else(cores).max(1)
}

/// Topic partitions by the name of the dataset that takes them.
type Claims = BTreeMap<String, Vec<TopicPartition>>;

/// Which dataset takes which partitions, and the topics that none takes.
pub(crate) fn claims(
    pipeline: &Pipeline,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> (Claims, Vec<String>) {
    let mut of_dataset = Claims::new();
    let mut unclaimed = BTreeSet::new();
    for place in partitions {
        match pipeline.dataset_for_topic(&place.topic) {
            Some(dataset) => of_dataset.entry(dataset.name.clone()).or_default().push(place),
            None => {
                unclaimed.insert(place.topic);
            }
        }
    }
    (of_dataset, unclaimed.into_iter().collect())
}

impl DatasetReport {
    pub(crate) fn warn_of_skew(&mut self) {
        let mut of_topic: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for partition in &self.partitions {
            of_topic.entry(&partition.place.topic).or_default().push(partition.sum.count);
        }
        let skewed = of_topic.into_iter().filter_map(|(topic, records)| {
            let share = skew(&records)?;
            let what =
                format!("topic `{topic}`: one of {} partitions took {share} % of its records", records.len());
            Some((Warning::Other(what), records.iter().copied().max().unwrap_or_default()))
        });
        let skewed: Vec<_> = skewed.collect();
        for (what, records) in skewed {
            self.warnings.add(what, records);
        }
    }
}
