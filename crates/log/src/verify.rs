//! An offline check of every byte.

use std::path::Path;

use crate::clean;
use crate::disk::{Disk, LockGuard, RealDisk};
use crate::error::{Error, IoContext, Result};
use crate::folder;
use crate::format::Identity;
use crate::positions::POSITIONS;
use crate::survey::{Damage, Lost, Problem, Subject, Survey, problem_of, survey};
use crate::topics::{self, TOPICS, TopicMeta};

/// Name under which the log's own partition is reported.
pub(crate) const POSITIONS_SHOWN: &str = "(positions)";

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Topics read.
    pub topics: usize,
    /// Partitions read, the log's own among them.
    pub partitions: usize,
    /// Segments read.
    pub segments: u64,
    /// Whole batches.
    pub batches: u64,
    /// Records of topics.
    pub records: u64,
    /// Records of the log's own: readers' positions, outdated ones too.
    pub positions: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// All that is not as it should be.
    pub problems: Vec<Problem>,
    /// Offsets that cannot be read.
    pub lost: Vec<Lost>,
}

impl VerifyReport {
    /// True where the log opens and every acknowledged record can be read. A torn tail is no harm.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.damage == Damage::TornTail)
    }

    fn add(&mut self, found: Survey) {
        self.partitions += 1;
        self.segments += found.segments;
        self.batches += found.batches;
        self.records += found.records;
        self.bytes += found.bytes;
        self.problems.extend(found.problems);
        self.lost.extend(found.lost);
    }
}

/// Reads every byte of the log in `dir` and checks it; changes nothing. The log must not be open.
///
/// # Errors
/// [`Error::Locked`]; [`Error::Io`] where there is no log. What is wrong inside is in the report.
pub fn verify(dir: impl AsRef<Path>) -> Result<VerifyReport> {
    verify_on(&RealDisk, dir)
}

/// [`verify`] on another disk than the operating system's.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_on(disk: &dyn Disk, dir: impl AsRef<Path>) -> Result<VerifyReport> {
    let dir = dir.as_ref();
    let _guard = lock_existing(disk, dir)?;
    let mut report = VerifyReport::default();
    match folder::read_format(disk, dir) {
        Ok(Some(_)) => {}
        Ok(None) => report.problems.push(problem_of(Error::corrupt(
            &dir.join(folder::FORMAT),
            0,
            "the file is missing",
        ))),
        Err(error @ Error::FormatTooNew { .. }) => return Err(error),
        Err(error) => report.problems.push(problem_of(error)),
    }
    let ends = clean::read(disk, dir)?.unwrap_or_default();
    let positions = Subject {
        topic: POSITIONS_SHOWN,
        partition: 0,
        identity: Identity::POSITIONS,
        dir: &dir.join(POSITIONS),
        clean_end: ends.get(&clean::name(POSITIONS, Identity::POSITIONS.partition)).copied(),
    };
    report.add(survey(disk, positions, &mut |_, _| Ok(()))?);
    report.positions = std::mem::take(&mut report.records);
    let topics_dir = dir.join(TOPICS);
    for name in topic_names(disk, &topics_dir)? {
        report.topics += 1;
        let topic_dir = topics_dir.join(&name);
        let meta = match topics::read_meta(disk, &topic_dir, &name) {
            Ok(meta) => meta,
            Err(error) => {
                report.problems.push(problem_of(error));
                continue;
            }
        };
        if let Err(error) = topics::uncounted(disk, &topic_dir, &meta) {
            report.problems.push(problem_of(error));
        }
        for partition in 0..meta.partitions {
            let dir = topic_dir.join(partition.to_string());
            report.add(survey(disk, subject(&meta, partition, &dir, &ends), &mut |_, _| Ok(()))?);
        }
    }
    Ok(report)
}

/// A topic's partition, to be surveyed.
pub(crate) fn subject<'a>(
    meta: &'a TopicMeta,
    partition: u32,
    dir: &'a Path,
    ends: &clean::Ends,
) -> Subject<'a> {
    Subject {
        topic: &meta.name,
        partition,
        identity: topics::identity(meta, partition),
        dir,
        clean_end: ends.get(&clean::name(&meta.name, partition)).copied(),
    }
}

/// Names of the topics' folders, leaving out those that are being made or removed.
pub(crate) fn topic_names(disk: &dyn Disk, topics_dir: &Path) -> Result<Vec<String>> {
    let entries = disk.list(topics_dir).during("list", topics_dir)?;
    let named = entries.into_iter().filter(|entry| entry.is_dir && !entry.name.starts_with('~'));
    Ok(named.map(|entry| entry.name).collect())
}

/// The log's lock, taken without making a file where none is.
pub(crate) fn lock_existing(disk: &dyn Disk, dir: &Path) -> Result<Option<Box<dyn LockGuard>>> {
    let entries = disk.list(dir).during("list", dir)?;
    let is_there = entries.iter().any(|entry| entry.name == folder::LOCK);
    if is_there { folder::lock(disk, dir).map(Some) } else { Ok(None) }
}
