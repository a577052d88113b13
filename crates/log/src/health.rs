//! Whether the log takes writes, and the counters it shows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Whether the log takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes work.
    Writable,
    /// Reads work, writes are refused for now; it recovers by itself when what stands in the way is gone (a full disk).
    ReadOnly {
        /// Why, for a person.
        reason: String,
    },
    /// Reads work, nothing more is acknowledged until a restart: an fsync failed.
    Poisoned {
        /// Why, for a person.
        reason: String,
    },
}

/// The health of a running log; a poisoned one stays so.
#[derive(Debug)]
pub(crate) struct HealthCell(watch::Sender<Health>);

impl Default for HealthCell {
    fn default() -> Self {
        Self(watch::Sender::new(Health::Writable))
    }
}

impl HealthCell {
    pub(crate) fn get(&self) -> Health {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(*self.0.borrow(), Health::ReadOnly { .. })
    }

    /// Changes it unless it is poisoned; true where it changed.
    pub(crate) fn set(&self, health: Health) -> bool {
        self.0.send_if_modified(|now| {
            let changes = !matches!(now, Health::Poisoned { .. }) && *now != health;
            if changes {
                *now = health;
            }
            changes
        })
    }
}

/// What the log has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Appends acknowledged, position commits among them.
    pub appends: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes written to segments.
    pub bytes: u64,
    /// Flushes of appended records; `appends / fsyncs` is what group commit gains.
    pub fsyncs: u64,
    /// Appends whose bytes wait to be written now, in bytes.
    pub queued_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) fsyncs: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, queued_bytes: u64) -> Stats {
        Stats {
            appends: self.appends.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            fsyncs: self.fsyncs.load(Ordering::Relaxed),
            queued_bytes,
        }
    }
}

/// Locks, also where another thread died holding it: what the log guards is replaced whole, never left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
