//! Keeping the parts of a process at work: each part runs as a task of its own, is started again after an error or a
//! panic, and reports how it is.
//!
//! A part is named for what it does: `archive`, `batch`, `stream/<dataset>`, `tidy`. The same names stand in `/readyz`,
//! in `pinmill status` and in the metrics:
//!
//! | metric | labels | meaning |
//! | --- | --- | --- |
//! | `pinmill_loop_restarts_total` | loop | how often the part began again after an error or a panic |
//! | `pinmill_loop_working` | loop | 1 while the part does its work, 0 while it does not |

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, Result};

/// A loop that has said nothing for so long stands still: what it waits for does not answer.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Pauses between attempts that fail: each is twice as long as the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The pause after one of `last`; the first where there was none.
    pub(crate) fn after(self, last: Option<Duration>) -> Duration {
        last.map_or(self.first, |last| last.saturating_mul(2)).min(self.longest)
    }
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// It has not done anything yet.
    Starting,
    /// It does its work.
    Working,
    /// It failed, and tries again.
    Failing,
    /// It began something a minute ago that has not ended.
    Stalled,
    /// It ended with an error that another attempt would only repeat, or make worse.
    Stopped,
    /// It was told to stop, and has done all that was left to do.
    Done,
}

/// What is known of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartStatus {
    /// Its name.
    pub part: String,
    /// How it is.
    pub state: PartState,
    /// How often it began again after an error or a panic.
    pub restarts: u64,
    /// The latest error, with its causes, also where the part works again.
    pub last_error: Option<String>,
    /// When that was, in milliseconds since the Unix epoch.
    pub last_error_ms: Option<i64>,
}

/// The parts of a process. Cheap to clone; clones show the same parts.
#[derive(Debug, Clone, Default)]
pub struct Parts(Arc<Mutex<BTreeMap<String, Known>>>);

#[derive(Debug)]
struct Known {
    state: PartState,
    restarts: u64,
    last_error: Option<(String, i64)>,
    /// The latest sign of life, of a part that gives one all the time.
    beat: Option<Instant>,
}

impl Parts {
    /// Adds a part, which is starting. One that is there already is taken on as it is.
    pub fn add(&self, name: &str) -> Part {
        describe();
        let part = Part { parts: self.clone(), name: name.into() };
        let new = Known { state: PartState::Starting, restarts: 0, last_error: None, beat: None };
        self.locked().entry(name.to_owned()).or_insert(new);
        counter!("pinmill_loop_restarts_total", "loop" => name.to_owned()).increment(0);
        part
    }

    /// How each part is, by name.
    pub fn status(&self) -> Vec<PartStatus> {
        let now = Instant::now();
        let status = |(name, known): (&String, &Known)| PartStatus {
            part: name.clone(),
            state: known.state_at(now),
            restarts: known.restarts,
            last_error: known.last_error.as_ref().map(|(error, _)| error.clone()),
            last_error_ms: known.last_error.as_ref().map(|(_, when)| *when),
        };
        self.locked().iter().map(status).collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn state_at(&self, now: Instant) -> PartState {
        let silent = self.beat.is_some_and(|beat| now.saturating_duration_since(beat) > STALLED_AFTER);
        match self.state {
            PartState::Starting | PartState::Working if silent => PartState::Stalled,
            state => state,
        }
    }
}

/// One part's way to report how it is.
#[derive(Debug, Clone)]
pub struct Part {
    parts: Parts,
    name: Arc<str>,
}

impl Part {
    /// A part that nobody asks about.
    pub(crate) fn unwatched(name: &str) -> Self {
        Parts::default().add(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It does its work. It may be silent from now on for as long as it likes.
    pub fn works(&self) {
        self.change(PartState::Working, |known| known.beat = None);
    }

    /// It does its work, and says so again within seconds for as long as nothing holds it up.
    pub fn works_on(&self) {
        self.change(PartState::Working, |known| known.beat = Some(Instant::now()));
    }

    /// It failed, and will be tried again.
    pub fn failed(&self, why: &str) {
        self.change(PartState::Failing, |known| known.fail(why));
    }

    /// It begins again after an error.
    pub fn begins_again(&self) {
        counter!("pinmill_loop_restarts_total", "loop" => self.name.to_string()).increment(1);
        if let Some(known) = self.parts.locked().get_mut(&*self.name) {
            known.restarts += 1;
            // From now on it has to give a sign of life again.
            known.beat = known.beat.map(|_| Instant::now());
        }
    }

    fn stopped(&self, why: &str) {
        self.change(PartState::Stopped, |known| known.fail(why));
    }

    fn done(&self) {
        self.change(PartState::Done, |known| known.beat = None);
    }

    fn is_working(&self) -> bool {
        self.parts.locked().get(&*self.name).is_some_and(|known| known.state == PartState::Working)
    }

    fn change(&self, state: PartState, change: impl FnOnce(&mut Known)) {
        let mut parts = self.parts.locked();
        let Some(known) = parts.get_mut(&*self.name) else { return };
        change(known);
        known.state = state;
        drop(parts);
        let works = matches!(state, PartState::Working | PartState::Done);
        gauge!("pinmill_loop_working", "loop" => self.name.to_string()).set(if works { 1.0 } else { 0.0 });
    }
}

impl Known {
    fn fail(&mut self, why: &str) {
        self.last_error = Some((why.to_owned(), chrono::Utc::now().timestamp_millis()));
    }
}

fn describe() {
    describe_counter!(
        "pinmill_loop_restarts_total",
        "How often a part began again after an error or a panic."
    );
    describe_gauge!("pinmill_loop_working", "1 while a part does its work, 0 while it does not.");
}

/// Why a part does nothing for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is tried again after a pause.
    Pause,
    /// It waits for the end of the process.
    End,
}

/// Runs a part until it is done: attempts, each a task of its own, with pauses between them that grow for as long as
/// nothing works. `meanwhile` runs beside a pause; it may be for ever.
///
/// # Errors
/// An error that came after `stop`, or one after which going on would be wrong; that one is returned only after
/// `stop`.
pub(crate) async fn supervise<T, A>(
    part: &Part,
    stop: &CancellationToken,
    backoff: Backoff,
    meanwhile: impl Fn(Rest) -> BoxFuture<'static, ()>,
    mut attempt: impl FnMut() -> A,
) -> Result<T>
where
    T: Send + 'static,
    A: Future<Output = Result<T>> + Send + 'static,
{
    let mut pause = None;
    loop {
        let error = match AbortOnDropHandle::new(tokio::spawn(attempt())).await {
            Ok(Ok(done)) => {
                part.done();
                return Ok(done);
            }
            Ok(Err(error)) => error,
            Err(ended) => panicked(ended),
        };
        let (name, why, hint) = (part.name(), error.chain(), error.hint());
        if stop.is_cancelled() || error.is_final() {
            tracing::error!(part = name, error = %why, hint, "stopped; fix the cause and restart");
            part.stopped(&why);
            rest(stop.cancelled(), meanwhile(Rest::End)).await;
            return Err(error);
        }
        let next = backoff.after(pause.filter(|_| !part.is_working()));
        tracing::error!(part = name, error = %why, hint, "failed, retrying in {next:?}");
        part.failed(&why);
        pause = Some(next);
        let pausing = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(next) => {}
            }
        };
        rest(pausing, meanwhile(Rest::Pause)).await;
        part.begins_again();
    }
}

async fn rest(until: impl Future<Output = ()>, meanwhile: BoxFuture<'static, ()>) {
    // A task of its own here too: a panic in it must not end the supervision.
    let _beside = AbortOnDropHandle::new(tokio::spawn(meanwhile));
    until.await;
}

fn panicked(ended: tokio::task::JoinError) -> Error {
    match ended.try_into_panic() {
        Ok(panic) => Error::Panicked(message(&*panic)),
        Err(ended) => Error::Panicked(ended.to_string()),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
