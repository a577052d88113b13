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
//! Each loop is a part of its own (`stream/<dataset>`, see the module `supervise`): it begins again from the table's
//! position after an error or a panic, and touches no other.
//!
//! Beside the loops, small files are put together and old ones removed: see [`tidy`].

mod claims;
mod dataset;
mod feed;
mod freshness;
mod meter;
mod recent;
pub mod tidy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use pinmill_broker::{EventLog, Plane};
use pinmill_engine::Engine;
use pinmill_lake::LateLake;
use pinmill_lake::lineage::Lineages;
use pinmill_lake::quarantine::Quarantine;
use pinmill_lake::table::{CompactPolicy, TableOptions};
use pinmill_pipeline::{Dataset, Pipeline};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::claims::{Refused, keep};
use self::dataset::Follow;
pub use self::freshness::{Freshness, freshness};
use crate::clean::{CleanReport, DatasetReport, workers};
use crate::lineage::adopt;
use crate::load::{Shared, StepLimit};
use crate::supervise::{Part, Parts, Rest, supervise};
use crate::{Backoff, Error, Half, Result, run_id};

/// The name under which the streaming half's positions stand in the log.
pub const STREAM_READER: &str = "stream";
/// The part that keeps tables small.
const TIDY: &str = "tidy";

/// A log to be read.
#[derive(Debug, Clone)]
pub struct StreamSource {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// What its topics are.
    pub plane: Plane,
}

/// The dataset that takes a topic of a plane: datasets name topics and streams by patterns of their own.
pub(crate) fn dataset_of<'p>(plane: Plane, pipeline: &'p Pipeline, topic: &str) -> Option<&'p Dataset> {
    match plane {
        Plane::Topics => pipeline.dataset_for_topic(topic),
        Plane::Streams => pipeline.dataset_for_stream(topic),
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
    /// The reader's position in the log follows that of the table no more often than this.
    pub note_every: Duration,
    /// Time between two looks for small files.
    pub tidy_every: Duration,
    /// When small files are put together.
    pub compact: CompactPolicy,
    /// Pauses after errors.
    pub retry: Backoff,
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
            note_every: Duration::from_secs(10),
            tidy_every: Duration::from_secs(20),
            compact: CompactPolicy::default(),
            retry: Backoff::default(),
        }
    }
}

/// The streaming half: all datasets of a pipeline, from all their streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streamer {
    inner: Arc<Inner>,
    parts: Parts,
}

#[derive(Debug)]
struct Inner {
    pipeline: Pipeline,
    engine: Arc<dyn Engine>,
    lake: LateLake,
    sources: Vec<StreamSource>,
    config: StreamConfig,
    /// Opened by the first loop that needs it, and anew after an error.
    quarantine: Mutex<Option<Arc<Quarantine>>>,
}

/// What outlives the attempts of a dataset's loop.
#[derive(Debug, Default)]
struct Progress {
    report: DatasetReport,
    refused: Refused,
}

impl Streamer {
    /// A streaming half from `sources` into the tables of `lake`. Nothing is read yet.
    pub fn new(
        pipeline: Pipeline,
        engine: Arc<dyn Engine>,
        lake: impl Into<LateLake>,
        sources: Vec<StreamSource>,
        config: StreamConfig,
    ) -> Self {
        let (lake, quarantine) = (lake.into(), Mutex::default());
        let inner = Inner { pipeline, engine, lake, sources, config, quarantine };
        Self { inner: Arc::new(inner), parts: Parts::default() }
    }

    /// Shows how its loops are as the parts `stream/<dataset>` and `tidy`.
    #[must_use]
    pub fn with_parts(self, parts: &Parts) -> Self {
        for dataset in &self.inner.pipeline.datasets {
            parts.add(&Half::Stream.table(&dataset.name));
        }
        parts.add(TIDY);
        Self { parts: parts.clone(), ..self }
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
    /// After an error that may pass, and after a panic, a dataset's loop begins again from the table's position. An error
    /// that will not pass (a rule says stop, another writer has taken the table over) ends the loop; the others go on,
    /// and the logs keep what is posted for it.
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
        let run: Arc<str> = run_id().into();
        let mut loops = JoinSet::new();
        for (number, dataset) in self.inner.pipeline.datasets.iter().enumerate() {
            let part = self.parts.add(&Half::Stream.table(&dataset.name));
            let (inner, run, stop) = (Arc::clone(&self.inner), Arc::clone(&run), stop.clone());
            loops.spawn(async move { (number, inner.keep_loading(number, run, part, stop).await) });
        }
        let mut ended = Vec::new();
        while let Some(joined) = loops.join_next().await {
            ended.push(joined.unwrap_or_else(|died| (usize::MAX, Err(Error::Panicked(died.to_string())))));
        }
        ended.sort_by_key(|(number, _)| *number);
        let datasets = ended.into_iter().map(|(_, report)| report).collect::<Result<_>>()?;
        let unclaimed = self.inner.unclaimed().await?;
        Ok(CleanReport {
            run: run.to_string(),
            datasets,
            unclaimed,
            unread: Vec::new(),
            unread_is_news: false,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

impl Inner {
    /// One dataset's loop, supervised.
    async fn keep_loading(
        self: Arc<Self>,
        number: usize,
        run: Arc<str>,
        part: Part,
        stop: CancellationToken,
    ) -> Result<DatasetReport> {
        let dataset = self.dataset(number)?;
        let report = DatasetReport { dataset: dataset.name.clone(), ..DatasetReport::default() };
        let progress = Arc::new(Mutex::new(Progress { report, ..Progress::default() }));
        meter::stopped(&dataset.name, false);
        let attempt = || {
            let (inner, run, part, stop) = (Arc::clone(&self), Arc::clone(&run), part.clone(), stop.clone());
            let progress = Arc::clone(&progress);
            async move {
                let mut progress = progress.lock_owned().await;
                let followed = inner.follow(number, &run, (&part, &stop), &mut progress).await;
                if followed.is_err() {
                    // Whatever became of it: the next attempt begins with what is in the lake.
                    *inner.quarantine.lock().await = None;
                }
                followed
            }
            // Boxed, or the compiler cannot prove that it is `Send`.
            .boxed()
        };
        // The streams' logs keep what is not loaded meanwhile.
        let meanwhile = |rest| {
            if rest == Rest::End {
                meter::stopped(&dataset.name, true);
            }
            let (inner, progress) = (Arc::clone(&self), Arc::clone(&progress));
            async move {
                let progress = progress.lock_owned().await;
                if let Ok(dataset) = inner.dataset(number) {
                    keep(&inner.pipeline, &inner.sources, dataset, &progress.refused).await;
                }
            }
            .boxed()
        };
        supervise(&part, &stop, self.config.retry, meanwhile, attempt).await?;
        let mut report = std::mem::take(&mut progress.lock().await.report);
        report.warn_of_skew();
        Ok(report)
    }

    fn dataset(&self, number: usize) -> Result<&Dataset> {
        let dataset = self.pipeline.datasets.get(number);
        dataset.ok_or_else(|| Error::Internal(format!("there is no dataset number {number}")))
    }

    async fn follow(
        &self,
        number: usize,
        run: &str,
        (part, stop): (&Part, &CancellationToken),
        progress: &mut Progress,
    ) -> Result<()> {
        let lake = &self.lake.open().await?;
        let quarantine = &*self.quarantine().await?;
        let (engine, workers) = (&*self.engine, workers(self.config.workers));
        let (half, options) = (Half::Stream, self.table_options());
        let lineages = &Lineages::new(lake, half.name());
        adopt(lake, half, lineages).await?;
        let shared = &Shared { engine, lake, half, quarantine, lineages, workers, run, options };
        let place = (&self.pipeline, &self.sources[..], &self.config);
        let Progress { report, refused } = progress;
        let follow = Follow::open(shared, self.dataset(number)?, place, refused).await?;
        follow.run((part, stop), report).await
    }

    /// The quarantine that all loops share.
    async fn quarantine(&self) -> Result<Arc<Quarantine>> {
        let mut shared = self.quarantine.lock().await;
        if let Some(quarantine) = &*shared {
            return Ok(Arc::clone(quarantine));
        }
        let lake = self.lake.open().await?;
        let opened = Quarantine::open_with(&lake, Half::Stream.name(), &self.table_options()).await?;
        Ok(Arc::clone(shared.insert(Arc::new(opened))))
    }

    fn table_options(&self) -> TableOptions {
        TableOptions { history: Some(self.config.history) }
    }

    /// Streams that no dataset takes.
    async fn unclaimed(&self) -> Result<Vec<String>> {
        let mut unclaimed = Vec::new();
        for source in self.sources.iter().filter(|source| source.plane == Plane::Streams) {
            let topics = source.log.topics().await?;
            unclaimed
                .extend(topics.into_iter().filter(|t| dataset_of(source.plane, &self.pipeline, t).is_none()));
        }
        Ok(unclaimed)
    }
}
