//! A stream and what it is made of, as the catalog keeps it and as other parts of the process may read it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::hash::{HashRange, even_ranges};
use crate::ids::sequence;

/// How long before its making a stream's first shards say that they were made; Amazon's do so.
const BACKDATED_MS: i64 = 2000;
/// Hours for which records can be read by default, and at least.
pub(crate) const MIN_RETENTION_HOURS: i64 = 24;
/// Hours for which records can be read at most.
pub(crate) const MAX_RETENTION_HOURS: i64 = 8760;

/// Everything about a stream but its records. Its topic in the log has the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// The stream's name, and its topic's.
    pub name: String,
    /// When it was made, milliseconds since the Unix epoch; no two streams of a name share it.
    pub created_ms: i64,
    /// How its shards are managed.
    pub mode: Mode,
    /// Hours for which records can be read.
    pub retention_hours: i64,
    /// Largest record in bytes, where the stream sets its own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_size_limit: Option<usize>,
    /// All shards it ever had; the place of each is its index and its partition. Parents stand before their children.
    /// The catalog writes them apart from the rest.
    #[serde(skip)]
    pub shards: Vec<Shard>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its enhanced fan-out consumers by name.
    #[serde(default)]
    pub consumers: BTreeMap<String, Consumer>,
    /// The KMS key that its owner named; it is shown and encrypts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
    /// The metrics of shards that its owner switched on; they are shown and measured by nobody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shard_metrics: BTreeSet<String>,
    /// A status that it shows until a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
    /// True from when its deletion was asked for; its records go next.
    #[serde(default)]
    pub(crate) is_deleting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) status: Status,
    pub(crate) until_ms: i64,
}

/// How a stream's shards are managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// By its owner.
    Provisioned,
    /// By the service; splitting and merging is refused.
    OnDemand,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }

    pub(crate) fn parse(name: &str) -> Self {
        if name == "ON_DEMAND" { Self::OnDemand } else { Self::Provisioned }
    }
}

/// What a stream shows of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Just made; takes nothing yet.
    Creating,
    /// Takes everything.
    Active,
    /// Just resharded; takes records.
    Updating,
    /// Going.
    Deleting,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// A shard: a partition of the stream's topic that takes the records of a range of hash keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its hash keys.
    pub range: HashRange,
    /// When it was made in the sense of its sequence numbers, seconds since the Unix epoch: later than each of its parents.
    pub created_s: u64,
    /// From when on it took records, milliseconds since the Unix epoch.
    pub opened_ms: i64,
    /// Index of the shard it was split from, or the first of the two it was merged from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// Index of the second shard it was merged from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjacent_parent: Option<u32>,
    /// Set once it takes no more records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// The end of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The offset after its last record. A reader that has come here goes on with the children.
    pub end_offset: u64,
}

/// An enhanced fan-out consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// When it was registered, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl StreamState {
    /// A new stream of evenly divided shards.
    pub(crate) fn new(name: &str, shards: u32, mode: Mode, now_ms: i64) -> Self {
        let created_s = seconds(now_ms - BACKDATED_MS);
        let ranges = even_ranges(shards).into_iter();
        let shard = |range| Shard {
            range,
            created_s,
            opened_ms: now_ms,
            parent: None,
            adjacent_parent: None,
            closed: None,
        };
        Self {
            name: name.to_owned(),
            created_ms: now_ms,
            mode,
            retention_hours: MIN_RETENTION_HOURS,
            record_size_limit: None,
            shards: ranges.map(shard).collect(),
            tags: BTreeMap::new(),
            consumers: BTreeMap::new(),
            encryption_key: None,
            shard_metrics: BTreeSet::new(),
            pending: None,
            is_deleting: false,
        }
    }

    /// What it shows at a time (milliseconds since the Unix epoch).
    pub fn status(&self, now_ms: i64) -> Status {
        match self.pending {
            _ if self.is_deleting => Status::Deleting,
            Some(pending) if now_ms < pending.until_ms => pending.status,
            _ => Status::Active,
        }
    }

    /// The shards that take records, with their indices.
    pub fn open_shards(&self) -> impl Iterator<Item = (u32, &Shard)> {
        (0..).zip(&self.shards).filter(|(_, shard)| shard.closed.is_none())
    }

    /// The shards that came from a shard: none while it is open.
    pub fn children(&self, index: u32) -> impl Iterator<Item = (u32, &Shard)> {
        let is_child =
            move |shard: &Shard| shard.parent == Some(index) || shard.adjacent_parent == Some(index);
        (0..).zip(&self.shards).filter(move |(_, shard)| is_child(shard))
    }

    /// A shard by its index.
    pub fn shard(&self, index: u32) -> Option<&Shard> {
        self.shards.get(usize::try_from(index).ok()?)
    }

    /// Before this time (milliseconds since the Unix epoch) nothing can be read any more.
    pub(crate) fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.retention_hours * 3_600_000
    }
}

impl Shard {
    /// True where all its records are too old to be read.
    pub(crate) fn is_expired(&self, horizon_ms: i64) -> bool {
        self.closed.is_some_and(|closed| closed.at_ms < horizon_ms)
    }

    /// True where it took records at a time.
    pub(crate) fn was_open_at(&self, ms: i64) -> bool {
        self.opened_ms <= ms && self.closed.is_none_or(|closed| closed.at_ms > ms)
    }

    pub(crate) fn starting_sequence_number(&self, index: u32) -> String {
        sequence::starting(self.created_s, index)
    }

    pub(crate) fn ending_sequence_number(&self, index: u32) -> Option<String> {
        self.closed.map(|closed| sequence::ending(self.created_s, index, seconds(closed.at_ms)))
    }
}

/// Whole seconds of a time that is not before the epoch.
pub(crate) fn seconds(ms: i64) -> u64 {
    u64::try_from(ms.div_euclid(1000)).unwrap_or(0)
}
