//! Settings of a log, and the clock it stamps records with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an acknowledged append has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The records are on the disk (fdatasync) before the append answers: they survive a power loss.
    #[default]
    Fsync,
    /// The operating system has the records: they survive a killed process, not a power loss. After one, a log that
    /// lost pages in the middle of its newest segment refuses to open and asks for a repair.
    Os,
}

/// Milliseconds since the Unix epoch, as the log reads them; replaceable by tests.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock that answers what `now_ms` answers.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Settings of a log. `LogConfig::default()` suits one machine; every limit is a field.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// What an acknowledged append has survived.
    pub durability: Durability,
    /// A segment is closed before it would grow over this many bytes (one batch may still be larger).
    pub segment_bytes: u64,
    /// A segment is closed when its first record is older than this.
    pub segment_age: Duration,
    /// Each partition keeps at least this many bytes of its newest records; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// Segments whose newest record is older than this may go; `None` keeps all.
    pub retention_age: Option<Duration>,
    /// How often retention is applied by the log itself; `None` leaves it to [`crate::Log::apply_retention`].
    pub retention_interval: Option<Duration>,
    /// Bytes of log between two entries of a segment's sparse index.
    pub index_interval_bytes: u64,
    /// Largest record: key, value and headers together, in bytes.
    pub max_record_bytes: usize,
    /// Largest append, encoded, in bytes.
    pub max_batch_bytes: usize,
    /// Bytes of appends that may wait to be written; more callers wait (back-pressure).
    pub queue_bytes: usize,
    /// Segment files held open at once, and never more than an eighth of what the process may open; the least recently
    /// used is closed first.
    pub max_open_files: usize,
    /// Topics a log may hold.
    pub max_topics: usize,
    /// Partitions a topic may have.
    pub max_partitions: u32,
    /// Threads that write and flush; partitions are dealt out over them.
    pub committers: usize,
    /// How often a log that found its disk full looks whether there is room again.
    pub full_disk_probe: Duration,
    /// Where time comes from.
    pub clock: Clock,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            segment_bytes: 128 << 20,
            segment_age: Duration::from_secs(24 * 3600),
            retention_bytes: None,
            retention_age: None,
            retention_interval: Some(Duration::from_secs(60)),
            index_interval_bytes: 64 << 10,
            max_record_bytes: 1 << 20,
            max_batch_bytes: 16 << 20,
            queue_bytes: 64 << 20,
            max_open_files: 512,
            max_topics: 20_000,
            max_partitions: 1_024,
            committers: 4,
            full_disk_probe: Duration::from_millis(500),
            clock: Clock::default(),
        }
    }
}
