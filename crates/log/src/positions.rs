//! Where readers go on: durable, and what retention respects.
//!
//! Positions are records of a partition of the log's own (`positions/`), so that checksums, group commit and recovery are
//! those of every partition. A record's key is `{"reader","topic","partition"}`, its value `{"generation","next"}`; no
//! value forgets the reader there. The newest record of a key holds. When most records are outdated, all positions
//! are appended once more and the segments before are let go; a crash in between leaves both, which say the same.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::record::Record;

/// Folder of the positions in the log's folder.
pub(crate) const POSITIONS: &str = "positions";
/// Segments of positions are small, so that outdated ones go soon.
pub(crate) const SEGMENT_BYTES: u64 = 1 << 20;
/// Outdated records that are not worth tidying up.
const SLACK: u64 = 4_096;
const MAX_READER: usize = 249;

/// Where a reader goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderPosition {
    /// The reader.
    pub reader: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset it will read.
    pub next: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) reader: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    /// Generation of the topic: a position in a topic that was made anew is none.
    pub(crate) generation: String,
    pub(crate) next: u64,
}

#[derive(Debug)]
struct Known {
    value: Value,
    /// Offset of the record that said it.
    offset: u64,
}

/// All positions, and the partition that keeps them.
#[derive(Debug)]
pub(crate) struct Positions {
    pub(crate) partition: Arc<Partition>,
    known: RwLock<BTreeMap<Key, Known>>,
    /// Commits share it; tidying up has it alone, so that it never writes an older position behind a newer one.
    pub(crate) tidying: tokio::sync::RwLock<()>,
}

pub(crate) fn check_reader(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_READER || name.chars().any(char::is_control) {
        return Err(Error::InvalidReader { name: name.chars().take(MAX_READER).collect() });
    }
    Ok(())
}

/// A position as a record; `None` forgets it.
pub(crate) fn to_record(key: &Key, value: Option<&Value>) -> Record {
    // Maps of strings and numbers always have a JSON text.
    let key = serde_json::to_vec(key).unwrap_or_default();
    let value = value.map(|value| Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    Record { key: Some(key.into()), value, ..Record::default() }
}

impl Positions {
    /// Reads all positions.
    pub(crate) fn load(partition: Arc<Partition>) -> Result<Self> {
        let positions = Self { known: RwLock::default(), tidying: tokio::sync::RwLock::default(), partition };
        let range = positions.partition.offsets();
        let mut next = range.beginning;
        while next < range.end {
            let records = positions.partition.read(next, 1 << 20)?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in &records {
                let key = serde_json::from_slice(record.key.as_deref().unwrap_or_default());
                let value = record.value.as_deref().map(serde_json::from_slice).transpose();
                let (Ok(key), Ok(value)) = (key, value) else {
                    let what = format!("offset {} is not a reader's position", record.offset);
                    return Err(Error::corrupt(&positions.partition.dir, 0, what));
                };
                positions.apply(key, value, record.offset);
            }
        }
        Ok(positions)
    }

    /// Takes note of a record at `offset`, unless a newer one is known.
    pub(crate) fn apply(&self, key: Key, value: Option<Value>, offset: u64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(&key).is_some_and(|known| known.offset > offset) {
            return;
        }
        match value {
            Some(value) => known.insert(key, Known { value, offset }),
            None => known.remove(&key),
        };
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(key).map(|known| known.value.clone())
    }

    pub(crate) fn all(&self) -> Vec<(Key, Value)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, known)| (key.clone(), known.value.clone())).collect()
    }

    /// True where most records are outdated.
    pub(crate) fn wants_tidying(&self) -> bool {
        let live = self.known.read().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let range = self.partition.offsets();
        range.end - range.beginning > 2 * live + SLACK
    }
}
