//! The posting loop: one task draws events and reads their rows, and each connection posts what it takes from it.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::future::try_join3;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::ack_log::{AckLog, Acked};
use crate::client::{Client, Dialer};
use crate::fate::Fate;
use crate::ids::Plan;
use crate::options::{Options, Pace};
use crate::outlet::{Outlet, Record};
use crate::progress;
use crate::retry::{Verdict, judge, wait};
use crate::source::{Source, SourceError, Table};
use crate::summary::{Counters, KEPT_ERRORS, Latencies, Summary, add};

/// Records in one request at most; more would only meet the gateway's limit on bodies.
pub const MOST_RECORDS: usize = 10_000;
/// Connections at most: beyond it a run only meets limits on open files.
pub const MOST_CONNECTIONS: usize = 4_096;

/// Why a run could not be carried out. (That records stayed unacknowledged is in the [`Summary`].)
#[derive(Debug, thiserror::Error)]
pub enum EmulateError {
    /// An option has no meaning.
    #[error("{0}")]
    Options(String),
    /// Rows could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The log of acknowledged records could not be opened or written; without it nobody could tell what is stored.
    #[error("acknowledgement log {path}: {source}")]
    AckLog {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What goes into one request.
struct Batch {
    /// The outlet's place in [`Run::outlets`].
    outlet: usize,
    records: Vec<Record>,
}

/// What the tasks of a run share.
struct Run {
    options: Options,
    /// Those of each target one after another, in the order of [`Table::ALL`].
    outlets: Vec<Outlet>,
    /// The hosts, each once, and of each target which of them it is on.
    origins: Vec<Url>,
    origin_of: Vec<usize>,
    counters: Arc<Counters>,
    ack_log: Option<AckLog>,
    stop: CancellationToken,
    faults: StdMutex<Faults>,
}

#[derive(Default)]
struct Faults {
    errors: Vec<String>,
    gave_up: Option<String>,
    fatal: Option<EmulateError>,
}

/// Posts events of `source`, each to every target, until they are through or `stop` is cancelled; then waits for the answers
/// to what is on its way.
///
/// # Errors
/// When an option has no meaning, rows cannot be read, or acknowledged records cannot be written to their log. Records that
/// stay unacknowledged are no error here: look at [`Summary::is_complete`].
pub async fn emulate(
    options: Options,
    source: Arc<dyn Source>,
    stop: &CancellationToken,
) -> Result<Summary, EmulateError> {
    let run = Arc::new(Run::new(options, stop.child_token())?);
    let dial = |origin| Dialer::new(origin, run.options.timeout);
    let dialers: Vec<_> =
        run.origins.iter().map(dial).collect::<Result<_, _>>().map_err(EmulateError::Options)?;
    let Options { draw: order, rows, posts, seed, .. } = &run.options;
    let plan = Plan::over(&*source, order.clone(), *rows, *posts, *seed);
    let start = Instant::now();
    let reporter = run.options.progress.then(|| progress::start(Arc::clone(&run.counters), plan.len()));

    let (sender, receiver) = mpsc::channel(run.options.connections * 2);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.connections {
        let clients = dialers.iter().cloned().map(Client::new).collect();
        workers.spawn(work(Arc::clone(&run), clients, Arc::clone(&receiver)));
    }
    if let Err(error) = draw(&run, plan, &*source, sender).await {
        run.fail(error.into());
    }
    let mut latencies = Latencies::new();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(own) => latencies.merge(&own),
            Err(error) => run.give_up(format!("a connection's task ended: {error}")),
        }
    }
    if let Some(reporter) = reporter {
        reporter.finish().await;
    }
    let faults = std::mem::take(&mut *run.faults.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(fatal) = faults.fatal {
        return Err(fatal);
    }
    let summary = run.counters.summary(start.elapsed(), &latencies);
    Ok(Summary { gave_up: faults.gave_up, errors: faults.errors, ..summary })
}

impl Run {
    fn new(options: Options, stop: CancellationToken) -> Result<Self, EmulateError> {
        let within = |what: &str, n: usize, most: usize| {
            let fits = (1..=most).contains(&n);
            fits.then_some(())
                .ok_or_else(|| EmulateError::Options(format!("{n} {what}, but 1 to {most} are possible")))
        };
        within("records a request", options.records_per_request, MOST_RECORDS)?;
        within("connections", options.connections, MOST_CONNECTIONS)?;
        let ack_log = match &options.ack_log {
            None => None,
            Some(path) => Some(
                AckLog::open(path)
                    .map_err(|source| EmulateError::AckLog { path: path.display().to_string(), source })?,
            ),
        };
        let mut run = Self {
            outlets: Vec::new(),
            origins: Vec::new(),
            origin_of: Vec::new(),
            counters: Arc::default(),
            ack_log,
            stop,
            faults: StdMutex::default(),
            options,
        };
        run.find_outlets().map_err(EmulateError::Options)?;
        Ok(run)
    }

    fn find_outlets(&mut self) -> Result<(), String> {
        for target in &self.options.targets {
            let known = self.origins.iter().position(|origin| *origin == target.origin);
            self.origin_of.push(known.unwrap_or(self.origins.len()));
            if known.is_none() {
                self.origins.push(target.origin.clone());
            }
            for table in Table::ALL {
                self.outlets.push(Outlet::new(target, table, self.options.records_per_request)?);
            }
        }
        if self.outlets.is_empty() { Err("there is nothing to post to".to_owned()) } else { Ok(()) }
    }

    /// The places of a table's outlets, one a target.
    fn outlets_of(&self, table: Table) -> impl Iterator<Item = usize> + use<> {
        (table as usize..self.outlets.len()).step_by(Table::ALL.len())
    }

    /// Keeps an error. The first is told at once: where nothing is reached, all tries take half a minute.
    fn note(&self, error: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.errors.is_empty() {
            tracing::warn!("a request failed: {error}; what else fails is told at the end");
        } else {
            tracing::debug!(error, "a request failed");
        }
        if faults.errors.len() < KEPT_ERRORS && !faults.errors.contains(&error) {
            faults.errors.push(error);
        }
    }

    fn give_up(&self, why: String) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).gave_up.get_or_insert(why);
        self.stop.cancel();
    }

    fn fail(&self, error: EmulateError) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).fatal.get_or_insert(error);
        self.stop.cancel();
    }
}

/// Draws events, reads their rows and hands them out in batches.
async fn draw(
    run: &Run,
    plan: Plan,
    source: &dyn Source,
    sender: mpsc::Sender<Batch>,
) -> Result<(), SourceError> {
    let form = run.options.date_form;
    let mut open: Vec<Vec<Record>> = run.outlets.iter().map(|_| Vec::new()).collect();
    let mut ticks = match run.options.pace {
        Pace::PerSecond(rate) => Some(tokio::time::interval(Duration::from_secs_f64(1.0 / rate))),
        Pace::Reference | Pace::Max => None,
    };
    if let Some(ticks) = &mut ticks {
        // ticks come in milliseconds, and rates above a thousand need several at once
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    }
    for event in plan {
        let pause = async {
            match (&mut ticks, run.options.pace) {
                (Some(ticks), _) => drop(ticks.tick().await),
                (None, Pace::Reference) => tokio::time::sleep(event.pause).await,
                (None, _) => {}
            }
        };
        tokio::select! {
            biased;
            () = run.stop.cancelled() => break,
            () = pause => {}
        }
        let row = |table| source.row(table, event.id, form);
        let (pin, geo, user) = try_join3(row(Table::Pin), row(Table::Geo), row(Table::User)).await?;
        add(&run.counters.events, 1);
        for (table, value) in Table::ALL.into_iter().zip([pin, geo, user]) {
            let Some(value) = value else {
                add(&run.counters.missing, 1);
                continue;
            };
            let values = std::iter::repeat_n(value, run.options.targets.len());
            for (outlet, value) in run.outlets_of(table).zip(values) {
                let (records, most) = (&mut open[outlet], run.outlets[outlet].most);
                records.push(Record { id: event.id, value, ambiguous: false });
                if records.len() == most {
                    let records = std::mem::replace(records, Vec::with_capacity(most));
                    hand_out(run, &sender, Batch { outlet, records }).await;
                }
            }
        }
    }
    for (outlet, records) in open.into_iter().enumerate().filter(|(_, records)| !records.is_empty()) {
        hand_out(run, &sender, Batch { outlet, records }).await;
    }
    Ok(())
}

async fn hand_out(run: &Run, sender: &mpsc::Sender<Batch>, batch: Batch) {
    let count = batch.records.len();
    add(&run.counters.records, count);
    if sender.send(batch).await.is_err() {
        add(&run.counters.unacknowledged, count);
        run.give_up("all connections' tasks have ended".to_owned());
    }
}

/// Posts batches, one after another, over a connection to each host until there are no more.
async fn work(
    run: Arc<Run>,
    mut clients: Vec<Client>,
    receiver: Arc<Mutex<mpsc::Receiver<Batch>>>,
) -> Latencies {
    let mut latencies = Latencies::new();
    loop {
        let batch = receiver.lock().await.recv().await;
        let Some(batch) = batch else { return latencies };
        let client = &mut clients[run.origin_of[batch.outlet / Table::ALL.len()]];
        post(&run, client, batch, &mut latencies).await;
    }
}

/// Posts a batch, again and again if need be, and accounts for each of its records.
async fn post(run: &Run, client: &mut Client, batch: Batch, latencies: &mut Latencies) {
    let Batch { outlet, mut records } = batch;
    let outlet = &run.outlets[outlet];
    let name = &outlet.label;
    for attempt in 1.. {
        let body = outlet.body(&records);
        add(&run.counters.bytes, body.len());
        let start = Instant::now();
        let came_back = client.send(&outlet.endpoint, body).await;
        if came_back.is_ok() {
            latencies.record(start.elapsed());
            add(&run.counters.requests, 1);
        }
        let (why, asked) = match judge(outlet.wire, came_back, records.len(), Utc::now()) {
            Verdict::Records(fates) => match settle(run, name, records, fates) {
                (left, Some(why)) if !left.is_empty() => {
                    records = left;
                    (why, None)
                }
                _ => return,
            },
            Verdict::Retry { why, wait, ambiguous } => {
                let doubtful = records.iter_mut().filter(|_| ambiguous);
                doubtful.for_each(|record| doubt(run, record));
                (why, wait)
            }
            Verdict::Refused { why, stop } => {
                add(&run.counters.unacknowledged, records.len());
                let why = format!("{name}, row {}: {why}", records[0].id);
                run.note(why.clone());
                if stop {
                    run.give_up(why);
                }
                return;
            }
        };
        run.note(format!("{name}: {why}"));
        if attempt > run.options.retries {
            add(&run.counters.unacknowledged, records.len());
            // The next record would only wait as long for nothing.
            run.give_up(format!("{name}: not stored in {attempt} tries: {why}"));
            return;
        }
        let waiting = tokio::time::sleep(wait(attempt, asked, jitter()));
        tokio::select! {
            () = waiting => add(&run.counters.retried, records.len()),
            () = run.stop.cancelled() => {
                add(&run.counters.unacknowledged, records.len());
                return;
            }
        }
    }
}

/// Counts a record that may have been stored, once.
fn doubt(run: &Run, record: &mut Record) {
    if !std::mem::replace(&mut record.ambiguous, true) {
        add(&run.counters.ambiguous, 1);
    }
}

/// Accounts for the records of an answer; gives back those that are to be sent again, with the reason of the last.
fn settle(run: &Run, name: &str, records: Vec<Record>, fates: Vec<Fate>) -> (Vec<Record>, Option<String>) {
    let acked = || {
        records.iter().zip(&fates).filter_map(|(record, fate)| match fate {
            Fate::Stored { partition, offset } => {
                Some(Acked { partition: *partition, offset, id: record.id, value: &record.value })
            }
            Fate::Retry { .. } | Fate::Refused(_) => None,
        })
    };
    add(&run.counters.acknowledged, acked().count());
    // A few microseconds of writing to the system's cache, as each answer must be in the log before the next request.
    if let Some(log) = &run.ack_log
        && let Err(source) = log.append(name, acked())
    {
        run.fail(EmulateError::AckLog { path: log.path().display().to_string(), source });
    }
    let (mut left, mut last) = (Vec::new(), None);
    for (mut record, fate) in records.into_iter().zip(fates) {
        match fate {
            Fate::Stored { .. } => {}
            Fate::Retry { why, ambiguous } => {
                if ambiguous {
                    doubt(run, &mut record);
                }
                left.push(record);
                last = Some(why);
            }
            Fate::Refused(why) => {
                add(&run.counters.unacknowledged, 1);
                run.note(format!("{name}, row {}: {why}", record.id));
            }
        }
    }
    (left, last)
}

/// Evenly in 0..1; only waits hang on it.
fn jitter() -> f64 {
    uuid::Uuid::new_v4().as_u128() as u32 as f64 / f64::from(u32::MAX)
}
