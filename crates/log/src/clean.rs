//! The marker `CLEAN`: the log was closed in good order, and this is where each partition ended.
//!
//! It is written last by a close and removed, durably, before an opened log takes writes. While it stands nothing can be
//! torn, so that any difference is damage. A marker that cannot be read proves nothing and is left out.
//!
//! A close does this, and a crash after each step leaves:
//! 1. every partition is flushed and its room cut off — a log to be recovered;
//! 2. the index of every last segment is written, not flushed — the same; an index is never more than a shortcut;
//! 3. the marker is written and flushed — a log that opens from the marker and those indexes, without reading the last
//!    segments (see `recovery`). Where the power took an index, its segment is read.
//!
//! An open that dies before it has removed the marker has changed nothing that the marker speaks of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, read_file, replace_file};
use crate::error::{IoContext, Result};
use crate::partition::Partition;

const CLEAN: &str = "CLEAN";

/// Where a partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Offset of the next record.
    pub(crate) next: u64,
    /// Length of the last segment in bytes.
    pub(crate) bytes: u64,
}

/// Where each partition ended, by its name.
pub(crate) type Ends = BTreeMap<String, End>;

#[derive(Serialize, Deserialize)]
struct Stored {
    ends: Ends,
    crc32c: u32,
}

fn checksum(ends: &Ends) -> u32 {
    crc32c::crc32c(&serde_json::to_vec(ends).unwrap_or_default())
}

fn path(dir: &Path) -> PathBuf {
    dir.join(CLEAN)
}

/// A partition's name in the marker.
pub(crate) fn name(topic: &str, partition: u32) -> String {
    format!("{topic}/{partition}")
}

pub(crate) fn name_of(partition: &Partition) -> String {
    name(&partition.topic, partition.id)
}

pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Ends>> {
    let path = path(dir);
    let Some(bytes) = read_file(disk, &path).during("read", &path)? else { return Ok(None) };
    let stored = serde_json::from_slice(&bytes).ok();
    let ends = stored.filter(|stored: &Stored| checksum(&stored.ends) == stored.crc32c);
    if ends.is_none() {
        tracing::warn!(path = %path.display(), "marker of a clean shutdown is damaged and left out");
    }
    Ok(ends.map(|stored| stored.ends))
}

pub(crate) fn write(disk: &dyn Disk, dir: &Path, ends: Ends) -> Result<()> {
    let path = path(dir);
    let stored = Stored { crc32c: checksum(&ends), ends };
    let bytes = serde_json::to_vec(&stored).map_err(std::io::Error::other).during("write", &path)?;
    replace_file(disk, &path, &bytes).during("write", &path)
}

pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let path = path(dir);
    match disk.remove_file(&path) {
        // An open before this one may have removed it and failed to flush that: a power cut would bring it back.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => disk.sync_dir(dir).during("flush", dir),
        removed => removed.and_then(|()| disk.sync_dir(dir)).during("remove", &path),
    }
}
