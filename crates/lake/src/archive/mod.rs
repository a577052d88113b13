//! The raw archive: every record exactly as received, one line each, in the layout of Confluent's S3 sink.
//!
//! # Layout
//!
//! ```text
//! topics/<topic>/partition=<p>/<topic>+<p>+<first offset, 10 digits>[.lineage<n>].json[.gz|.zst]    one record a line
//! _pinmill/topics/<topic>/partition=<p>/<the same name>.manifest                       offsets, times, hash
//! ```
//!
//! A line is the value exactly as received when it is one line of valid JSON, and a wrapper of it otherwise
//! (`line.rs`). `.lineage<n>` stands in the names of all lives of a topic's name but the first ([`crate::lineage`]). A
//! manifest says what the lines do not (`manifest.rs`). What reads Confluent's objects reads these.
//!
//! # Invariants
//!
//! - An object appears whole or not at all, and never changes: it is put under its name only where there is none
//!   (invariant I3).
//! - The name follows from the first offset alone, and an archiver starts an object where the last one ended.
//!   So a replay after a crash comes to the same name, finds the object, and adopts it instead of writing the
//!   records twice, wherever a time or a setting would have rolled this time.
//!
//! # Crash points of a put
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the data put | nothing is visible; the replay writes the object |
//! | between the data put and the manifest put | the replay finds data without manifest, compares every byte with its own records, and writes the manifest of what is there |
//! | between the manifest put and the caller's saving of its position | the replay finds the manifest, compares count and hash with its own records, and tells the caller to move on |
//!
//! When what is there differs, nothing is written and [`crate::Error::ArchiveConflict`] stops the archiver.
//!
//! An archive without manifests (Confluent's, one record an object, tens of thousands of objects) is read as it is:
//! offsets count up from the name's, and the time a record was taken in is the object's last-modified time. Names may be
//! spelled otherwise (`name.rs`), and other directories than `partition=<p>` are lineages of their own (`foreign.rs`,
//! `directories.rs`).
//!
//! # An object that cannot be read
//!
//! A reader hands out what stands before it and then fails, with the offset at which the object begins. What stands
//! behind it in the same partition waits: a position cannot say that something in between is missing. All others go on.

mod cut;
mod directories;
mod foreign;
mod line;
mod list;
mod manifest;
mod name;
mod read;
mod small;
mod split;
mod unread;
mod write;

use object_store::path::Path;

pub use directories::{Directories, FIRST as FIRST_DIRECTORY};
pub use foreign::{Directory, Foreign};
pub use list::ArchivedObject;
pub use manifest::{MAX_OBJECT_RECORDS, Manifest};
pub use name::{Compression, ObjectName, max_topic_name};
pub(crate) use name::{MAX_FILE_NAME, MAX_KEY};
pub use read::{ArchiveReader, Chunk, Gap, ReadOptions, ReadReport, RecordAt};
pub use unread::Unread;
pub use write::{MAX_OBJECT_BYTES, ObjectBuilder, Put, Stored};

use crate::store::redacted;
use crate::{Lake, TopicPartition};

/// How an archive is laid out and written.
#[derive(Debug, Clone)]
pub struct ArchiveConfig {
    /// Directory of the topics within the lake, `topics` by default; empty for none, as with Confluent's sink.
    pub topics_dir: String,
    /// How new objects are compressed. Objects are read whatever their compression.
    pub compression: Compression,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { topics_dir: "topics".into(), compression: Compression::None }
    }
}

/// The archive of a lake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    lake: Lake,
    config: ArchiveConfig,
}

impl Archive {
    /// The archive of `lake`; nothing is read or made yet.
    pub fn new(lake: &Lake, config: ArchiveConfig) -> Self {
        Self { lake: lake.clone(), config }
    }

    /// The lake it is in.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The directory of its topics within the lake.
    pub fn topics_dir(&self) -> &str {
        &self.config.topics_dir
    }

    /// Where its topics are, as a URL without credentials.
    pub fn place(&self) -> String {
        let place = format!("{}{}", redacted(self.lake.url()), self.config.topics_dir);
        // The same place, whether `topics/` is named or the folder above.
        place.trim_end_matches('/').to_owned()
    }

    /// The store's path of an object.
    pub fn object_path(&self, name: &ObjectName) -> Path {
        self.lake.path(&format!("{}/{}", self.config.topics_dir, name.path()))
    }

    pub(crate) fn manifest_path(&self, name: &ObjectName) -> Path {
        self.lake.path(&format!("_pinmill/{}/{}{}", self.config.topics_dir, name.path(), name::MANIFEST))
    }

    /// Whether the objects of a partition have names that the archive's store can hold. Topics whose names are no
    /// longer than [`max_topic_name`] always have; older ones may be longer.
    pub fn can_hold(&self, place: &TopicPartition) -> bool {
        let longest = ObjectName {
            place: place.clone(),
            first_offset: i64::MAX as u64,
            compression: self.config.compression,
        };
        self.lake.has_room_for(&self.manifest_path(&longest))
    }
}
