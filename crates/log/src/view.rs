//! A log as it is now, for a process that may only look: audits, status and tail beside a running server.
//!
//! [`Log::view`] opens the files without the log's lock and never writes to one, so the owner goes on meanwhile. Where
//! the last segment of a partition ends is found from the newest index on (see `index`), so that little is read however
//! much there is. What the owner adds later is not seen before [`Log::refresh`]. What retention removes meanwhile is missing
//! from the view, as an error of the read that needed it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::committer::Committers;
use crate::config::LogConfig;
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, Result};
use crate::folder::{self, Opened};
use crate::format::{HEADER_LEN, Identity, SegmentHeader};
use crate::inner::Inner;
use crate::log::Log;
use crate::partition::{Partition, Place, Segment, Writer};
use crate::positions::{POSITIONS, SEGMENT_BYTES};
use crate::recovery::RecoveryReport;
use crate::shared::Shared;
use crate::start::Start;

/// The owner may be between two steps of a roll when the folder is read; the next look finds it done.
pub(crate) const ATTEMPTS: u32 = 5;

impl Log {
    /// Opens the log in folder `dir` as it is now, without its lock and without changing a byte of it. Whatever would
    /// change the log is refused with [`Error::ViewOnly`].
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::FormatTooNew`], [`Error::Io`].
    pub fn view(dir: impl AsRef<Path>) -> Result<Self> {
        Self::view_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), dir)
    }

    /// [`Log::view`] on another disk than the operating system's.
    ///
    /// # Errors
    /// Those of [`Log::view`].
    pub fn view_on(disk: &Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Self> {
        again(|| {
            let config = LogConfig { retention_interval: None, ..LogConfig::default() };
            let shared = Arc::new(Shared::view(Arc::clone(disk), dir.as_ref(), config));
            let is_made = folder::is_made(&*shared.disk, &shared.dir)?;
            let opened = if is_made { folder::open(&shared)? } else { nothing_yet(&shared) };
            let inner = Arc::new(Inner::new(shared, opened, Committers::none(), None)?);
            Ok(Self { inner, keeper: Mutex::default() })
        })
    }
}

/// A log that is being made.
fn nothing_yet(shared: &Arc<Shared>) -> Opened {
    let dir = shared.dir.join(POSITIONS);
    let header = SegmentHeader { identity: Identity::POSITIONS, base: 0, prev_end: 0, floor_ms: i64::MIN };
    let segment = Arc::new(Segment::new(shared, &dir, &header, HEADER_LEN as u64, true));
    let place = Place {
        topic: POSITIONS,
        id: Identity::POSITIONS.partition,
        identity: Identity::POSITIONS,
        dir,
        segment_bytes: SEGMENT_BYTES,
    };
    let writer = Writer::begin(&segment, &header);
    let positions = Partition::new(shared, place, Start::default(), vec![segment], writer);
    Opened { topics: BTreeMap::new(), positions: Arc::new(positions), report: RecoveryReport::default() }
}

/// Looks again where the owner was in the middle of something.
pub(crate) fn again<T>(look: impl Fn() -> Result<T>) -> Result<T> {
    let mut found = look();
    for _ in 1..ATTEMPTS {
        if !matches!(found, Err(Error::Corrupt { .. } | Error::Io { .. })) {
            break;
        }
        found = look();
    }
    found
}
