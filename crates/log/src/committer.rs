//! Group commit: a few threads that write, flush and answer appends.
//!
//! Callers encode their batch themselves and put it into the queue of the partition's committer. A committer takes all that
//! is in its queue, writes each partition's share with one call, flushes once a partition, publishes, and answers.
//! While it flushes, the next group gathers; where the callers of the last group are likely to be back in a moment, it
//! waits that moment for them.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, IoContext, Result};
use crate::health::{Health, lock};
use crate::partition::{Job, Partition};
use crate::shared::Shared;

/// Longest wait for the callers of the last group. Less than a flush costs on most disks.
const GATHER: Duration = Duration::from_micros(200);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    closed: bool,
    /// The committer is not woken before so many jobs wait.
    wanted: usize,
}

/// The threads; dropped, they write what waits and end.
#[derive(Debug)]
pub(crate) struct Committers {
    queues: Vec<Arc<Queue>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Committers {
    /// None at all: for a view, which refuses appends before they come here.
    pub(crate) fn none() -> Self {
        Self { queues: Vec::new(), threads: Mutex::default() }
    }

    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let queues: Vec<_> =
            (0..shared.config.committers.max(1)).map(|_| Arc::new(Queue::default())).collect();
        let started = Self { queues, threads: Mutex::default() };
        for (number, queue) in started.queues.iter().enumerate() {
            let ending = Ending { queue: Arc::clone(queue), shared: Arc::clone(shared) };
            let name = format!("log-commit-{number}");
            let thread = std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || run(&ending.queue))
                .during("start thread", name.as_ref())?;
            lock(&started.threads).push(thread);
        }
        Ok(started)
    }

    /// Queues an append for its partition's committer.
    pub(crate) fn push(&self, job: Job) {
        let number = job.partition.committer.checked_rem(self.queues.len());
        let Some(queue) = number.and_then(|number| self.queues.get(number)) else {
            job.answer(Err(Error::Closed));
            return;
        };
        let mut state = lock(&queue.state);
        if state.closed {
            drop(state);
            job.answer(Err(Error::Closed));
            return;
        }
        state.jobs.push(job);
        if state.jobs.len() >= state.wanted {
            queue.changed.notify_one();
        }
    }

    /// Writes what waits, refuses what comes later, and ends the threads.
    pub(crate) fn stop(&self) {
        for queue in &self.queues {
            lock(&queue.state).closed = true;
            queue.changed.notify_one();
        }
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a committer thread panicked");
            }
        }
    }
}

/// A committer that panics must not leave callers waiting for ever, nor a log that looks well.
struct Ending {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "a committer thread panicked".to_owned();
            self.shared.health.set(Health::Poisoned { reason });
        }
        let mut state = lock(&self.queue.state);
        state.closed = true;
        state.jobs.clear();
    }
}

impl Drop for Committers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(queue: &Queue) {
    let mut expected = 1;
    while let Some(jobs) = next_group(queue, expected) {
        // Half of the last group is a fair guess of who comes again at once; alone, nobody is waited for.
        expected = (jobs.len() / 2).max(1);
        for (partition, jobs) in by_partition(jobs) {
            partition.commit(jobs);
        }
    }
}

/// All that waits, once something does; gathers for a moment until `expected` jobs wait. `None` when closed and empty.
fn next_group(queue: &Queue, expected: usize) -> Option<Vec<Job>> {
    let wait = |state, wanted: usize, timeout: Option<Duration>| {
        let mut state: std::sync::MutexGuard<'_, State> = state;
        state.wanted = wanted;
        match timeout {
            None => queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => queue.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    };
    let mut state = lock(&queue.state);
    while state.jobs.is_empty() {
        if state.closed {
            return None;
        }
        state = wait(state, 1, None);
    }
    let deadline = Instant::now() + GATHER;
    while state.jobs.len() < expected && !state.closed {
        let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        else {
            break;
        };
        state = wait(state, expected, Some(left));
    }
    // With room for as many, so that callers seldom need memory for it.
    let next = Vec::with_capacity(state.jobs.len());
    Some(std::mem::replace(&mut state.jobs, next))
}

/// The jobs of each partition, both in the order they came.
fn by_partition(jobs: Vec<Job>) -> Vec<(Arc<Partition>, Vec<Job>)> {
    let mut groups: Vec<(Arc<Partition>, Vec<Job>)> = Vec::new();
    let mut places = HashMap::new();
    for job in jobs {
        let partition = Arc::as_ptr(&job.partition);
        let place = *places.entry(partition).or_insert_with(|| {
            groups.push((Arc::clone(&job.partition), Vec::new()));
            groups.len() - 1
        });
        if let Some((_, group)) = groups.get_mut(place) {
            group.push(job);
        }
    }
    groups
}
