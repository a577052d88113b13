//! What can go wrong, in words that say where and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a caller and the log. Cheap to clone: one failure may answer many waiting appends.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The topic does not exist.
    #[error("topic `{0}` does not exist")]
    UnknownTopic(String),
    /// The topic exists, the partition does not.
    #[error("topic `{topic}` has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
    },
    /// A topic of this name exists already.
    #[error("topic `{0}` exists already")]
    TopicExists(String),
    /// The name, or the number of partitions, is not one a topic may have.
    #[error("`{name}` cannot be a topic: {reason}")]
    InvalidTopic {
        /// The name asked for.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The log holds as many topics as it may.
    #[error("the log holds {limit} topics, its limit; delete one or raise the limit")]
    TooManyTopics {
        /// The limit.
        limit: usize,
    },
    /// The name is not one a reader may have.
    #[error("`{name}` cannot name a reader: 1 to 249 bytes without control characters are allowed")]
    InvalidReader {
        /// The name asked for.
        name: String,
    },
    /// The offset lies outside what the partition holds.
    #[error("{topic}/{partition} holds offsets {beginning} to {end} (exclusive), not {offset}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// First offset held.
        beginning: u64,
        /// Offset after the last one held.
        end: u64,
    },
    /// The record is larger than the log takes.
    #[error("a record of {bytes} bytes is over the limit of {limit}")]
    RecordTooLarge {
        /// Size of the record.
        bytes: usize,
        /// The log's limit.
        limit: usize,
    },
    /// The records of one append are together larger than the log takes.
    #[error("an append of {bytes} bytes is over the limit of {limit}; send fewer records at once")]
    BatchTooLarge {
        /// Size of the append, encoded.
        bytes: usize,
        /// The log's limit.
        limit: usize,
    },
    /// The disk is full; nothing was stored. The log takes writes again by itself when there is room.
    #[error("the disk of {} is full: nothing was stored, make room and try again", .dir.display())]
    DiskFull {
        /// The log's folder.
        dir: PathBuf,
    },
    /// A write failed and was taken back; nothing was stored and trying again is right.
    #[error("could not write {}, nothing was stored: {source}", .path.display())]
    WriteFailed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// An fsync failed earlier: nobody knows what the disk holds, so nothing more is acknowledged until a restart.
    #[error("the log takes no more writes until a restart: {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The log was opened by [`crate::Log::view`].
    #[error("the log was opened as a read-only view")]
    ViewOnly,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Bytes that were acknowledged are damaged or gone.
    #[error(
        "{} is corrupt at byte {position}: {what}; `pinmill log verify` lists all damage, `pinmill log repair` writes a copy with everything that is still readable",
        .file.display()
    )]
    Corrupt {
        /// The damaged file, or the one that should be there.
        file: PathBuf,
        /// Byte position in the file.
        position: u64,
        /// What is wrong, with the offset it concerns.
        what: String,
    },
    /// Another process (or another part of this one) has the log open.
    #[error("{} is in use by another process{holder}; stop it first, one log has one owner", .dir.display())]
    Locked {
        /// The log's folder.
        dir: PathBuf,
        /// ` (pid N)` where it is known.
        holder: String,
    },
    /// The files were written by a newer version.
    #[error("{} has format {found}, this version reads up to {known}; use a newer pinmill", .file.display())]
    FormatTooNew {
        /// The file that says so.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest this version knows.
        known: u32,
    },
    /// The target of a repair has files in it already.
    #[error("{} is not empty; a repair writes into a new folder", .0.display())]
    TargetNotEmpty(PathBuf),
    /// Anything else the disk answered.
    #[error("could not {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The disk's answer.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// True where nothing was stored and the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::WriteFailed { .. })
    }

    pub(crate) fn corrupt(file: &Path, position: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_path_buf(), position, what: what.into() }
    }
}

/// Says what was tried on which path when an I/O call fails.
pub(crate) trait IoContext<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path.to_path_buf(), source: Arc::new(source) })
    }
}
