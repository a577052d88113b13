//! The posting loop: one task draws events and reads their rows, and each connection posts what it takes from it.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use futures::future::try_join3;
use http::Uri;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ack_log::{AckLog, Acked};
use crate::client::{Client, Dialer};
use crate::ids::{DrawOrder, Plan};
use crate::options::{Options, Pace};
use crate::progress;
use crate::retry::{Fate, Verdict, judge, wait};
use crate::source::{Source, SourceError, Table};
use crate::summary::{Counters, KEPT_ERRORS, Latencies, Summary, add};

/// Records in one request at most; more would only meet the gateway's limit on bodies.
const MOST_RECORDS: usize = 10_000;
/// Connections at most: beyond it a run only meets limits on open files.
const MOST_CONNECTIONS: usize = 4_096;

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

/// A row on its way.
struct Record {
    id: u64,
    value: String,
    /// A try of it may have been stored.
    ambiguous: bool,
}

/// What goes into one request.
struct Batch {
    table: Table,
    records: Vec<Record>,
}

/// What the tasks of a run share.
struct Run {
    options: Options,
    paths: [Uri; 3],
    topics: [String; 3],
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

/// Posts events of `source` until they are through or `stop` is cancelled; then waits for the answers to what is on its way.
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
    let dialer =
        Dialer::new(&run.options.target.origin, run.options.timeout).map_err(EmulateError::Options)?;
    let rows = match run.options.draw {
        DrawOrder::Sequence => run.options.rows.or(source.rows()),
        _ => run.options.rows,
    };
    let plan = Plan::new(run.options.draw.clone(), rows, run.options.posts, run.options.seed);
    let start = Instant::now();
    let reporter = run.options.progress.then(|| progress::start(Arc::clone(&run.counters), plan.len()));

    let (sender, receiver) = mpsc::channel(run.options.connections * 2);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut workers = JoinSet::new();
    for _ in 0..run.options.connections {
        workers.spawn(work(Arc::clone(&run), Client::new(dialer.clone()), Arc::clone(&receiver)));
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
        let path = |table| {
            let path = options.target.path(table);
            path.parse().map_err(|e| EmulateError::Options(format!("{path} is no path: {e}")))
        };
        Ok(Self {
            paths: [path(Table::Pin)?, path(Table::Geo)?, path(Table::User)?],
            topics: Table::ALL.map(|table| options.target.topic(table)),
            counters: Arc::default(),
            ack_log,
            stop,
            faults: StdMutex::default(),
            options,
        })
    }

    fn note(&self, error: String) {
        tracing::debug!(error, "a request failed");
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
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
    let most = run.options.records_per_request;
    let form = run.options.date_form;
    let mut open: [Vec<Record>; 3] = Default::default();
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
            let records = &mut open[table as usize];
            records.push(Record { id: event.id, value, ambiguous: false });
            if records.len() == most {
                let records = std::mem::replace(records, Vec::with_capacity(most));
                hand_out(run, &sender, Batch { table, records }).await;
            }
        }
    }
    for (table, records) in Table::ALL.into_iter().zip(open) {
        if !records.is_empty() {
            hand_out(run, &sender, Batch { table, records }).await;
        }
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

/// Posts batches over one connection until there are no more.
async fn work(run: Arc<Run>, mut client: Client, receiver: Arc<Mutex<mpsc::Receiver<Batch>>>) -> Latencies {
    let mut latencies = Latencies::new();
    loop {
        let batch = receiver.lock().await.recv().await;
        let Some(batch) = batch else { return latencies };
        post(&run, &mut client, batch, &mut latencies).await;
    }
}

/// Posts a batch, again and again if need be, and accounts for each of its records.
async fn post(run: &Run, client: &mut Client, batch: Batch, latencies: &mut Latencies) {
    let Batch { table, mut records } = batch;
    let path = &run.paths[table as usize];
    for attempt in 1.. {
        let body = body(&records);
        add(&run.counters.bytes, body.len());
        let start = Instant::now();
        let came_back = client.post(path, body).await;
        if came_back.is_ok() {
            latencies.record(start.elapsed());
            add(&run.counters.requests, 1);
        }
        let (why, asked) = match judge(came_back, records.len(), Utc::now()) {
            Verdict::Records(fates) => match settle(run, table, records, fates) {
                (left, Some(why)) if !left.is_empty() => {
                    records = left;
                    (why, None)
                }
                _ => return,
            },
            Verdict::Retry { why, wait, ambiguous } => {
                let doubtful = records.iter_mut().filter(|record| ambiguous && !record.ambiguous);
                add(&run.counters.ambiguous, doubtful.map(|record| record.ambiguous = true).count());
                (why, wait)
            }
            Verdict::Refused { why, stop } => {
                add(&run.counters.unacknowledged, records.len());
                let why = format!("{}, row {}: {why}", run.topics[table as usize], records[0].id);
                run.note(why.clone());
                if stop {
                    run.give_up(why);
                }
                return;
            }
        };
        run.note(format!("{}: {why}", run.topics[table as usize]));
        if attempt > run.options.retries {
            add(&run.counters.unacknowledged, records.len());
            // The next record would only wait as long for nothing.
            run.give_up(format!("{}: not stored in {attempt} tries: {why}", run.topics[table as usize]));
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

/// Accounts for the records of an answer; gives back those that are to be sent again, with the reason of the last.
fn settle(run: &Run, table: Table, records: Vec<Record>, fates: Vec<Fate>) -> (Vec<Record>, Option<String>) {
    let topic = &run.topics[table as usize];
    let acked = || {
        records.iter().zip(&fates).filter_map(|(record, fate)| match fate {
            Fate::Stored { partition, offset } => {
                Some(Acked { partition: *partition, offset: *offset, id: record.id, value: &record.value })
            }
            Fate::Retry(_) | Fate::Refused(_) => None,
        })
    };
    add(&run.counters.acknowledged, acked().count());
    // A few microseconds of writing to the system's cache, as each answer must be in the log before the next request.
    if let Some(log) = &run.ack_log
        && let Err(source) = log.append(topic, acked())
    {
        run.fail(EmulateError::AckLog { path: log.path().display().to_string(), source });
    }
    let (mut left, mut last) = (Vec::new(), None);
    for (record, fate) in records.into_iter().zip(fates) {
        match fate {
            Fate::Stored { .. } => {}
            Fate::Retry(why) => {
                left.push(record);
                last = Some(why);
            }
            Fate::Refused(why) => {
                add(&run.counters.unacknowledged, 1);
                run.note(format!("{topic}, row {}: {why}", record.id));
            }
        }
    }
    (left, last)
}

/// The body as the reference sends it.
fn body(records: &[Record]) -> Bytes {
    let size = records.iter().map(|record| record.value.len() + 11).sum::<usize>() + 14;
    let mut body = String::with_capacity(size);
    body.push_str("{\"records\":[");
    for (n, record) in records.iter().enumerate() {
        body.push_str(if n == 0 { "{\"value\":" } else { ",{\"value\":" });
        body.push_str(&record.value);
        body.push('}');
    }
    body.push_str("]}");
    body.into()
}

/// Evenly in 0..1; only waits hang on it.
fn jitter() -> f64 {
    uuid::Uuid::new_v4().as_u128() as u32 as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_that_of_the_reference() {
        let record = |id, value: &str| Record { id, value: value.to_owned(), ambiguous: false };
        assert_eq!(body(&[record(1, "{\"ind\":1}")]), "{\"records\":[{\"value\":{\"ind\":1}}]}");
        assert_eq!(body(&[record(1, "1"), record(2, "2")]), "{\"records\":[{\"value\":1},{\"value\":2}]}");
    }
}
