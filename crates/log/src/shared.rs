//! What all partitions of a log share: disk, settings, health, counters and the open files.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::{Error, IoContext, Result};
use crate::health::{Counters, Health, HealthCell, lock};
use crate::index::Index;

/// Of the file descriptors that the process may have, a log keeps at most one part in this many for its segments: there
/// may be two logs, and most belong to the gateway's clients.
const DESCRIPTORS_PART: usize = 8;

/// What all partitions of a log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) config: LogConfig,
    /// Another process owns the files: they are read, and nothing is changed.
    pub(crate) is_view: bool,
    pub(crate) health: HealthCell,
    pub(crate) counters: Counters,
    pub(crate) files: FileCache,
    /// Calls the keeper: there is something to look after.
    pub(crate) bell: Bell,
    next_id: AtomicU64,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig) -> Self {
        let capacity = config.max_open_files.min(descriptors() / DESCRIPTORS_PART).max(8);
        Self {
            files: FileCache { capacity, open: Mutex::default() },
            disk,
            dir: dir.to_path_buf(),
            config,
            is_view: false,
            health: HealthCell::default(),
            counters: Counters::default(),
            bell: Bell::default(),
            next_id: AtomicU64::new(0),
        }
    }

    /// What all partitions of a view share.
    pub(crate) fn view(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig) -> Self {
        let shared = Self { is_view: true, ..Self::new(disk, dir, config) };
        shared.health.set(Health::ReadOnly { reason: Error::ViewOnly.to_string() });
        shared
    }

    /// A number that no other segment object of this process has.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The error that says that a view changes nothing.
    pub(crate) fn check_owner(&self) -> Result<()> {
        if self.is_view { Err(Error::ViewOnly) } else { Ok(()) }
    }

    /// The error that says why writes are refused now.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_owner()?;
        match self.health.get() {
            Health::Writable => Ok(()),
            Health::ReadOnly { .. } => Err(Error::DiskFull { dir: self.dir.clone() }),
            Health::Poisoned { reason } => Err(Error::Poisoned { reason }),
        }
    }

    /// Stops all writes until a restart. After a failed fsync the system may have dropped the very pages that it
    /// could not write, so a second fsync that succeeds would prove nothing.
    pub(crate) fn poison(&self, action: &str, path: &Path, error: &io::Error) -> Error {
        let reason = format!("could not {action} {}: {error}", path.display());
        if self.health.set(Health::Poisoned { reason: reason.clone() }) {
            tracing::error!(path = %path.display(), %error, "log poisoned, a restart is needed");
        }
        Error::Poisoned { reason }
    }

    /// [`Shared::poison`], for what failed in several steps.
    pub(crate) fn poisoned_by(&self, action: &str, path: &Path, error: &Error) -> Error {
        match error {
            Error::Io { source, .. } => self.poison(action, path, source),
            other => self.poison(action, path, &io::Error::other(other.to_string())),
        }
    }

    /// Names a failed write whose bytes were taken back; a full disk makes the log read-only for now.
    pub(crate) fn refused(&self, path: &Path, error: io::Error) -> Error {
        if !is_disk_full(&error) {
            tracing::warn!(path = %path.display(), %error, "write failed and was taken back");
            return Error::WriteFailed { path: path.to_path_buf(), source: Arc::new(error) };
        }
        let reason = format!("the disk of {} is full", self.dir.display());
        if self.health.set(Health::ReadOnly { reason }) {
            self.bell.ring();
            tracing::warn!(dir = %self.dir.display(), "disk full, writes are refused until there is room");
        }
        Error::DiskFull { dir: self.dir.clone() }
    }

    /// Names a failure before anything was written: trying again is right.
    pub(crate) fn nothing_stored(&self, error: Error) -> Error {
        match error {
            Error::Io { path, source, .. } => Error::WriteFailed { path, source },
            other => other,
        }
    }

    /// Names a failed change of files that hold no records: a full disk can be waited for, and what could not even be
    /// opened has changed nothing; after anything else nobody knows what the disk holds.
    pub(crate) fn refused_or_poisoned(&self, error: Error) -> Error {
        match error {
            Error::Io { source, path, .. } if is_disk_full(&source) => {
                self.refused(&path, io::ErrorKind::StorageFull.into())
            }
            Error::Io { path, source, .. } if is_not_opened(&source) => Error::WriteFailed { path, source },
            Error::Io { action, path, source } => self.poison(action, &path, &source),
            other => other,
        }
    }
}

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How many files this process may have open.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// True for failures that only a call which opens or names a file answers.
pub(crate) fn is_not_opened(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let too_many = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
        || too_many.contains(&error.raw_os_error())
}

/// An open segment file, with the index of a complete one once it was needed.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) index: OnceLock<Index>,
}

/// Segment files held open, the least recently used closed first.
#[derive(Debug)]
pub(crate) struct FileCache {
    capacity: usize,
    open: Mutex<Recency>,
}

#[derive(Debug, Default)]
struct Recency {
    files: HashMap<u64, (Arc<OpenSegment>, u64)>,
    tick: u64,
}

impl FileCache {
    /// The open file of segment `id`, opened where it is not.
    pub(crate) fn get(&self, disk: &dyn Disk, id: u64, path: &Path, how: Open) -> Result<Arc<OpenSegment>> {
        let mut open = lock(&self.open);
        open.tick += 1;
        let tick = open.tick;
        if let Some((file, used)) = open.files.get_mut(&id) {
            *used = tick;
            return Ok(Arc::clone(file));
        }
        let file = disk.open(path, how).during("open", path)?;
        let opened = Arc::new(OpenSegment { file, index: OnceLock::new() });
        open.files.insert(id, (Arc::clone(&opened), tick));
        if open.files.len() > self.capacity {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|oldest| open.files.remove(&oldest));
        }
        Ok(opened)
    }

    /// Closes the file of segment `id` as soon as nobody uses it.
    pub(crate) fn forget(&self, id: u64) {
        lock(&self.open).files.remove(&id);
    }
}

/// Wakes one waiting thread; a ring while nobody waits is remembered.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Waits for a ring, at most `longest`.
    pub(crate) fn wait(&self, longest: Option<Duration>) {
        let rung = lock(&self.rung);
        let quiet = |rung: &mut bool| !*rung;
        let mut rung = match longest {
            None => self.changed.wait_while(rung, quiet).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                self.changed.wait_timeout_while(rung, time, quiet).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        *rung = false;
    }
}
