//! From streams to clean tables, as records come: each record once, about a second after it was accepted.
//!
//! One loop a dataset reads every shard (or partition) that feeds it, has the records loaded in steps (see
//! the module `load`), and commits a step when its oldest record has waited [`StreamConfig::commit_every`], or earlier
//! when it is large. The table's position (Delta `txn`) is where the loop goes on after a death.
//!
//! Order is that of a partition. The shards that a split or a merge made are read only when the table covers their
//! parents to the end, so the records of one key stand in the table's history in the order in which they came.
//!
//! The log knows the reader `stream`: retention keeps what the tables do not cover. Its position follows that of the
//! tables now and then, and at the end; it is behind them by some seconds, and never ahead (invariant I2). Shards that are
//! new get a position at once, also while a dataset's loop rests after an error or has ended (see the module `claims`).
//!
//! | the process dies | then |
//! | --- | --- |
//! | before a step is committed | see the module `load`: the records are read again from the table's position |
//! | after that, before the reader's position | retention keeps some records longer; nothing is read again |
//!
//! Beside the loops, small files are put together and old ones removed: see [`tidy`].

mod claims;
mod dataset;
mod feed;
mod freshness;
mod meter;
pub mod tidy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use pinmill_broker::EventLog;
use pinmill_engine::Engine;
use pinmill_lake::Lake;
use pinmill_lake::lineage::Lineages;
use pinmill_lake::quarantine::Quarantine;
use pinmill_lake::table::{CompactPolicy, TableOptions};
use pinmill_pipeline::{Dataset, Pipeline};
use tokio_util::sync::CancellationToken;

use self::claims::{Refused, keep};
use self::dataset::Follow;
pub use self::freshness::{Freshness, freshness};
use crate::clean::{CleanReport, DatasetReport, workers};
use crate::lineage::adopt;
use crate::load::{Shared, StepLimit};
use crate::{Error, Half, Result, run_id};

/// The name under which the streaming half's positions stand in the log.
pub const STREAM_READER: &str = "stream";

/// First pause after an error; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause after an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a log's topics are to the pipeline: its datasets name topics and streams by patterns of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// Streams and their shards.
    Streams,
    /// Topics and their partitions.
    Topics,
}

/// A log to be read.
#[derive(Debug, Clone)]
pub struct StreamSource {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// What its topics are.
    pub kind: SourceKind,
}

impl SourceKind {
    /// The dataset that takes a topic of such a log.
    pub(crate) fn dataset<'p>(self, pipeline: &'p Pipeline, topic: &str) -> Option<&'p Dataset> {
        match self {
            Self::Streams => pipeline.dataset_for_stream(topic),
            Self::Topics => pipeline.dataset_for_topic(topic),
        }
    }
}

/// How streams become tables.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// A record waits no longer than this for the commit to begin.
    pub commit_every: Duration,
    /// A step is committed when it has this much, whatever its age.
    pub step: StepLimit,
    /// About how much is read from one partition before the next one has its turn, in bytes; one record at least.
    pub fetch_bytes: usize,
    /// How many workers a dataset may keep busy; `None` is one a core.
    pub workers: Option<usize>,
    /// How long commits and replaced files are kept for readers of older versions. Set when a table is made.
    pub history: Duration,
    /// Time between two looks for small files.
    pub tidy_every: Duration,
    /// When small files are put together.
    pub compact: CompactPolicy,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            commit_every: Duration::from_secs(1),
            // More at once makes larger files and needs more memory, and is hardly faster.
            step: StepLimit { bytes: 16 << 20, records: 50_000, rejected_bytes: 16 << 20 },
            fetch_bytes: 2 << 20,
            workers: None,
            history: Duration::from_secs(3600),
            tidy_every: Duration::from_secs(20),
            compact: CompactPolicy::default(),
        }
    }
}

/// The streaming half: all datasets of a pipeline, from all their streams.
#[derive(Debug)]
pub struct Streamer {
    pipeline: Pipeline,
    engine: Arc<dyn Engine>,
    lake: Lake,
    sources: Vec<StreamSource>,
    config: StreamConfig,
}

impl Streamer {
    /// A streaming half from `sources` into the tables of `lake`. Nothing is read yet.
    pub fn new(
        pipeline: Pipeline,
        engine: Arc<dyn Engine>,
        lake: &Lake,
        sources: Vec<StreamSource>,
        config: StreamConfig,
    ) -> Self {
        Self { pipeline, engine, lake: lake.clone(), sources, config }
    }

    /// Loads everything that the streams hold now, and returns when it is committed.
    ///
    /// # Errors
    /// The first error; the datasets without one are loaded all the same.
    pub async fn run_once(&self) -> Result<CleanReport> {
        let stop = CancellationToken::new();
        stop.cancel();
        self.load(&stop).await
    }

    /// Loads records as they come until `stop` is cancelled, then everything that is left, and returns.
    ///
    /// An error that may pass is told and tried again, from the table's position. One that will not (a rule says
    /// stop, another writer has taken the table over) ends its dataset's loop; the others go on, and the logs keep what
    /// is posted for it.
    ///
    /// # Errors
    /// The first error that ended a loop, or that came after `stop`.
    pub async fn run(&self, stop: CancellationToken) -> Result<CleanReport> {
        let loaded = CancellationToken::new();
        let loading = async {
            let report = self.load(&stop).await;
            loaded.cancel();
            report
        };
        let (report, ()) = futures::join!(loading, self.keep_tidy(&loaded));
        report
    }

    async fn load(&self, stop: &CancellationToken) -> Result<CleanReport> {
        let started = Instant::now();
        meter::describe();
        let run = run_id();
        let half = Half::Stream;
        let options = TableOptions { history: Some(self.config.history) };
        let quarantine = &Quarantine::open_with(&self.lake, half.name(), &options).await?;
        let (engine, lake) = (&*self.engine, &self.lake);
        let lineages = &Lineages::new(lake, half.name());
        adopt(lake, half, lineages).await?;
        let workers = workers(self.config.workers);
        let shared = &Shared { engine, lake, half, quarantine, lineages, workers, run: &run, options };
        // Boxed, so that a caller may spawn this: the compiler cannot prove a stream of such closures `Send`.
        let loops =
            self.pipeline.datasets.iter().map(|dataset| self.keep_loading(shared, dataset, stop).boxed());
        let mut datasets = Vec::new();
        let mut failure = None;
        for ended in join_all(loops).await {
            match ended {
                Ok(report) => datasets.push(report),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let unclaimed = self.unclaimed().await?;
        let report = CleanReport { run, datasets, unclaimed, seconds: started.elapsed().as_secs_f64() };
        failure.map_or(Ok(report), Err)
    }

    /// One dataset's loop, begun anew after errors that may pass.
    async fn keep_loading(
        &self,
        shared: &Shared<'_>,
        dataset: &Dataset,
        stop: &CancellationToken,
    ) -> Result<DatasetReport> {
        let mut report = DatasetReport { dataset: dataset.name.clone(), ..DatasetReport::default() };
        let (mut pause, mut refused) = (FIRST_PAUSE, Refused::default());
        meter::stopped(&dataset.name, false);
        loop {
            let before = report.commits;
            let error = match self.follow(shared, dataset, stop, &mut refused, &mut report).await {
                Ok(()) => {
                    report.warn_of_skew();
                    return Ok(report);
                }
                Err(error) => error,
            };
            let (name, why, hint) = (&dataset.name, error.chain(), error.hint());
            if stop.is_cancelled() || !may_pass(&error) {
                tracing::error!(dataset = name, error = %why, hint, "its streams are not loaded any longer");
                meter::stopped(&dataset.name, true);
                self.wait(dataset, &refused, stop.cancelled()).await;
                return Err(error);
            }
            pause = if report.commits > before { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            let what = format!("a commit failed, will be tried again in {pause:?}");
            tracing::error!(dataset = name, error = %why, hint, "{what}");
            let rested = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            };
            self.wait(dataset, &refused, rested).await;
        }
    }

    /// Waits for `until` while a dataset is not loaded. Its streams' logs keep what it has not loaded meanwhile.
    async fn wait(&self, dataset: &Dataset, refused: &Refused, until: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = until => {}
            () = keep(&self.pipeline, &self.sources, dataset, refused) => {}
        }
    }

    async fn follow(
        &self,
        shared: &Shared<'_>,
        dataset: &Dataset,
        stop: &CancellationToken,
        refused: &mut Refused,
        report: &mut DatasetReport,
    ) -> Result<()> {
        let place = (&self.pipeline, &self.sources[..], &self.config);
        Follow::open(shared, dataset, place, refused).await?.run(stop, report).await
    }

    /// Streams that no dataset takes.
    async fn unclaimed(&self) -> Result<Vec<String>> {
        let mut unclaimed = Vec::new();
        for source in self.sources.iter().filter(|source| source.kind == SourceKind::Streams) {
            let topics = source.log.topics().await?;
            unclaimed.extend(topics.into_iter().filter(|t| source.kind.dataset(&self.pipeline, t).is_none()));
        }
        Ok(unclaimed)
    }
}

/// Errors after which the same work may succeed. The others say that going on would be wrong.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Log { .. } | Error::Topics(_) => true,
        Error::Lake(error) => matches!(
            error,
            pinmill_lake::Error::Store { .. }
                | pinmill_lake::Error::Delta { .. }
                | pinmill_lake::Error::Contention { .. }
                | pinmill_lake::Error::Stale { .. }
                | pinmill_lake::Error::Task { .. }
        ),
        _ => false,
    }
}
