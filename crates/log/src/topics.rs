//! Topics on the disk: what they are called, how many partitions they have, and which incarnation they are.
//!
//! ```text
//! topics/<topic>/meta.json      {"format":1,"name":…,"partitions":n,"generation":uuid,"created_ms":…,"crc32c":…}
//! topics/<topic>/<partition>/   see the partition module
//! topics/~…                     being made or being removed; recovery clears them away
//! ```
//!
//! A topic is made under a name with `~` and then renamed: it is there whole or not at all. Partitions that are added
//! are made first, `meta.json` counts them last: one that is not counted and empty is cleared away, one that is not
//! counted and has records means that `meta.json` is an old one. A topic is removed by renaming it first.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::{Disk, Entry, Open, read_file, replace_file};
use crate::error::{Error, IoContext, Result};
use crate::format::{FORMAT_VERSION, HEADER_LEN, Identity};
use crate::partition::create_partition;
use crate::recovery::check_version;

/// Folder of the topics in the log's folder.
pub(crate) const TOPICS: &str = "topics";
pub(crate) const META: &str = "meta.json";
/// Longest topic name, in bytes: Kafka's limit.
pub const MAX_TOPIC_NAME: usize = 249;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMeta {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// A UUID that changes when a topic is deleted and made again.
    pub generation: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    name: String,
    partitions: u32,
    generation: String,
    created_ms: i64,
    crc32c: u32,
}

impl Stored {
    fn checksum(&self) -> u32 {
        let text = format!(
            "{} {} {} {} {}",
            self.format, self.partitions, self.generation, self.created_ms, self.name
        );
        crc32c::crc32c(text.as_bytes())
    }
}

/// Kafka's rule: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`. It also makes a name safe as one component of a path.
///
/// # Errors
/// [`Error::InvalidTopic`] with the rule that is broken.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_TOPIC_NAME {
        "it is longer than 249 characters"
    } else if name == "." || name == ".." {
        "`.` and `..` are folders"
    } else if !name.chars().all(allowed) {
        "only letters a-z and A-Z, digits, `.`, `_` and `-` are allowed"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(MAX_TOPIC_NAME).collect();
    Err(Error::InvalidTopic { name: shown, reason: reason.into() })
}

/// Identity of a topic's partition.
pub(crate) fn identity(meta: &TopicMeta, partition: u32) -> Identity {
    let generation = Uuid::parse_str(&meta.generation).unwrap_or_default();
    Identity { generation: *generation.as_bytes(), partition }
}

pub(crate) fn write_meta(disk: &dyn Disk, dir: &Path, meta: &TopicMeta) -> Result<()> {
    let mut stored = Stored {
        format: FORMAT_VERSION,
        name: meta.name.clone(),
        partitions: meta.partitions,
        generation: meta.generation.clone(),
        created_ms: meta.created_ms,
        crc32c: 0,
    };
    stored.crc32c = stored.checksum();
    let path = dir.join(META);
    let bytes = serde_json::to_vec_pretty(&stored).map_err(std::io::Error::other).during("write", &path)?;
    replace_file(disk, &path, &bytes).during("write", &path)
}

pub(crate) fn read_meta(disk: &dyn Disk, dir: &Path, name: &str) -> Result<TopicMeta> {
    let path = dir.join(META);
    let Some(bytes) = read_file(disk, &path).during("read", &path)? else {
        return Err(Error::corrupt(&path, 0, "the file is missing"));
    };
    let stored: Stored = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(&path, 0, format!("not a topic's description: {error}")))?;
    if stored.crc32c != stored.checksum() {
        return Err(Error::corrupt(&path, 0, "it does not fit its checksum"));
    }
    check_version(&path, stored.format)?;
    if stored.name != name {
        return Err(Error::corrupt(&path, 0, format!("it describes the topic `{}`", stored.name)));
    }
    Ok(TopicMeta {
        name: stored.name,
        partitions: stored.partitions,
        generation: stored.generation,
        created_ms: stored.created_ms,
    })
}

/// Makes a topic's folder; it is there whole, and durably, when this returns.
pub(crate) fn create(disk: &dyn Disk, topics: &Path, meta: &TopicMeta) -> Result<PathBuf> {
    let making = topics.join(format!("~new-{}", meta.generation));
    let made = topics.join(&meta.name);
    let result = (|| {
        disk.create_dir_all(&making).during("create", &making)?;
        for partition in 0..meta.partitions {
            let dir = making.join(partition.to_string());
            create_partition(disk, &dir, identity(meta, partition), 0)?;
        }
        // Makes the partitions' names durable as well.
        write_meta(disk, &making, meta)?;
        disk.rename(&making, &made).during("create", &made)?;
        disk.sync_dir(topics).during("sync", topics).inspect_err(|_| {
            // Nobody is told of it, so the name has to be free again.
            let _ = disk.rename(&made, &making);
        })
    })();
    if result.is_err() {
        // Recovery clears away what is left.
        let _ = disk.remove_dir_all(&making);
    }
    result.map(|()| made)
}

/// Makes the partitions `meta.partitions..total`, which the topic's description does not count yet.
pub(crate) fn make_partitions(disk: &dyn Disk, dir: &Path, meta: &TopicMeta, total: u32) -> Result<()> {
    for partition in meta.partitions..total {
        create_partition(disk, &dir.join(partition.to_string()), identity(meta, partition), 0)?;
    }
    Ok(())
}

/// Removes a topic's folder; it is gone when the rename is durable.
pub(crate) fn delete(disk: &dyn Disk, topics: &Path, name: &str) -> Result<()> {
    let (dir, gone) = (topics.join(name), topics.join(format!("~gone-{}", Uuid::new_v4())));
    disk.rename(&dir, &gone).during("remove", &dir)?;
    disk.sync_dir(topics).during("sync", topics)?;
    if let Err(error) = disk.remove_dir_all(&gone) {
        tracing::warn!(path = %gone.display(), %error, "not removed, the next start does it");
    }
    Ok(())
}

/// The topics in a folder, once unfinished ones are cleared away; a view leaves those where they are.
pub(crate) fn list(disk: &dyn Disk, topics: &Path, is_view: bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for Entry { name, is_dir } in disk.list(topics).during("list", topics)? {
        let path = topics.join(&name);
        if is_dir && name.starts_with('~') {
            if is_view {
                continue;
            }
            disk.remove_dir_all(&path).during("remove", &path)?;
        } else if is_dir {
            check_name(&name)?;
            names.push(name);
        }
    }
    Ok(names)
}

/// Folders of partitions that `meta` does not count, all without a record; an error where one has records.
pub(crate) fn uncounted(disk: &dyn Disk, dir: &Path, meta: &TopicMeta) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in disk.list(dir).during("list", dir)? {
        let counted = |number: u32| number < meta.partitions;
        if !entry.is_dir || entry.name.parse().is_ok_and(counted) {
            continue;
        }
        let path = dir.join(&entry.name);
        let files = disk.list(&path).during("list", &path)?;
        let segments: Vec<_> = files.iter().filter(|file| file.name.ends_with(".seg")).collect();
        let is_empty = |name: &str| {
            let file = disk.open(&path.join(name), Open::Read);
            file.and_then(|file| file.len()).is_ok_and(|len| len <= HEADER_LEN as u64)
        };
        if segments.len() > 1 || segments.iter().any(|segment| !is_empty(&segment.name)) {
            let what = format!("it does not count partition `{}`, which has records", entry.name);
            return Err(Error::corrupt(&dir.join(META), 0, what));
        }
        found.push(path);
    }
    Ok(found)
}
