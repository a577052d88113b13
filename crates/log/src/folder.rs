//! The log's folder: its lock, its format version, and opening all that is in it.
//!
//! ```text
//! LOCK         held while a process has the log open, with its pid
//! FORMAT       {"pinmill_log":1}, written last when a log is made: without it, an empty log is made once more
//! CLEAN        see the clean module
//! positions/   the log's own partition of reader positions
//! topics/      see the topics module
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clean::{self, Ends};
use crate::disk::{Disk, LockGuard, read_file, replace_file};
use crate::error::{Error, IoContext, Result};
use crate::format::{FORMAT_VERSION, Identity};
use crate::partition::{Partition, Place, create_partition};
use crate::positions::{POSITIONS, SEGMENT_BYTES};
use crate::recovery::{RecoveryReport, check_version, open_partition};
use crate::shared::Shared;
use crate::topics::{self, TOPICS, TopicMeta};

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const FORMAT: &str = "FORMAT";

#[derive(Serialize, Deserialize)]
struct Format {
    pinmill_log: u32,
}

/// A topic that is open.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) meta: TopicMeta,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

/// All that a log's folder holds.
pub(crate) struct Opened {
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) positions: Arc<Partition>,
    pub(crate) report: RecoveryReport,
}

/// Refuses a second owner.
pub(crate) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn LockGuard>> {
    let path = dir.join(LOCK);
    match disk.try_lock(&path, &format!("{}\n", std::process::id())).during("lock", &path)? {
        Ok(guard) => Ok(guard),
        Err(pid) => {
            let known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            let holder = if known { format!(" (pid {pid})") } else { String::new() };
            Err(Error::Locked { dir: dir.to_path_buf(), holder })
        }
    }
}

/// The format version that the folder says it has; `None` where it says nothing.
pub(crate) fn read_format(disk: &dyn Disk, dir: &Path) -> Result<Option<u32>> {
    let path = dir.join(FORMAT);
    let Some(bytes) = read_file(disk, &path).during("read", &path)? else { return Ok(None) };
    let format: Format = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(&path, 0, format!("not a format version: {error}")))?;
    check_version(&path, format.pinmill_log)?;
    Ok(Some(format.pinmill_log))
}

pub(crate) fn write_format(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let path = dir.join(FORMAT);
    let bytes = serde_json::to_vec(&Format { pinmill_log: FORMAT_VERSION });
    let bytes = bytes.map_err(std::io::Error::other).during("write", &path)?;
    replace_file(disk, &path, &bytes).during("write", &path)
}

/// Whether there is a log; a folder in which one is being made holds none yet.
pub(crate) fn is_made(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    if read_format(disk, dir)?.is_some() {
        return Ok(true);
    }
    let topics = dir.join(TOPICS);
    let topics = match disk.list(&topics) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        listed => listed.during("list", &topics)?,
    };
    if topics.is_empty() {
        return Ok(false);
    }
    Err(Error::corrupt(&dir.join(FORMAT), 0, "the file is missing though there are topics"))
}

/// Makes an empty log where there is none.
pub(crate) fn initialise(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let (topics, positions) = (dir.join(TOPICS), dir.join(POSITIONS));
    disk.create_dir_all(&topics).during("create", &topics)?;
    if is_made(disk, dir)? {
        return Ok(());
    }
    create_partition(disk, &positions, Identity::POSITIONS, 0)?;
    sync_ancestors(disk, dir)?;
    write_format(disk, dir)
}

/// Makes the folder's own name durable, and those of the folders above it, which may be as new.
fn sync_ancestors(disk: &dyn Disk, dir: &Path) -> Result<()> {
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            // Not ours to read, so not made by us.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => break,
            synced => synced.during("sync", above)?,
        }
    }
    Ok(())
}

/// Opens everything, cutting torn tails; for a view, as it is.
pub(crate) fn open(shared: &Arc<Shared>) -> Result<Opened> {
    let (disk, dir) = (&*shared.disk, &shared.dir);
    let ends = clean::read(disk, dir)?;
    let mut report = RecoveryReport { clean: ends.is_some(), ..RecoveryReport::default() };
    let open = |place: Place<'_>, report: &mut RecoveryReport| {
        report.partitions += 1;
        open_partition(shared, place, ends.as_ref(), &mut report.cuts)
    };

    let place = Place {
        topic: POSITIONS,
        id: u32::MAX,
        identity: Identity::POSITIONS,
        dir: dir.join(POSITIONS),
        segment_bytes: SEGMENT_BYTES,
    };
    let positions = open(place, &mut report)?;
    let mut found = BTreeMap::new();
    let topics_dir = dir.join(TOPICS);
    for name in topics::list(disk, &topics_dir, shared.is_view)? {
        let topic_dir = topics_dir.join(&name);
        let meta = topics::read_meta(disk, &topic_dir, &name)?;
        if !shared.is_view {
            for path in topics::uncounted(disk, &topic_dir, &meta)? {
                disk.remove_dir_all(&path).during("remove", &path)?;
            }
        }
        let mut partitions = Vec::new();
        for id in 0..meta.partitions {
            partitions.push(open(place_of(shared, &meta, id), &mut report)?);
        }
        found.insert(name, Topic { meta, partitions });
    }
    report.topics = found.len();
    check_all_there(&topics_dir, ends.unwrap_or_default(), &found)?;
    if !shared.is_view {
        clean::remove(disk, dir)?;
    }
    Ok(Opened { topics: found, positions, report })
}

/// Where a topic's partition lives.
pub(crate) fn place_of<'a>(shared: &Shared, meta: &'a TopicMeta, id: u32) -> Place<'a> {
    Place {
        topic: &meta.name,
        id,
        identity: topics::identity(meta, id),
        dir: shared.dir.join(TOPICS).join(&meta.name).join(id.to_string()),
        segment_bytes: shared.config.segment_bytes,
    }
}

/// After a clean shutdown every partition that was there still is.
fn check_all_there(topics_dir: &Path, ends: Ends, found: &BTreeMap<String, Topic>) -> Result<()> {
    for name in ends.into_keys().filter(|name| *name != clean::name(POSITIONS, u32::MAX)) {
        let there = name.rsplit_once('/').is_some_and(|(topic, id)| {
            found.get(topic).is_some_and(|topic| id.parse().is_ok_and(|id: u32| id < topic.meta.partitions))
        });
        if !there {
            return Err(Error::corrupt(&topics_dir.join(name), 0, "the partition is missing"));
        }
    }
    Ok(())
}
