//! Writes a copy of a damaged log that holds every batch that can still be read, and says what is lost.
//!
//! Offsets stay what they were: where some are lost, a new segment begins behind the gap and says so in its header.
//! Generations stay, too, so that positions and tables go on. The source is not touched. The copy's `FORMAT` is written
//! last: an unfinished copy does not open.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::clean;
use crate::config::Clock;
use crate::disk::{Disk, DiskFile, Open, RealDisk, write_all_at};
use crate::error::{Error, IoContext, Result};
use crate::folder;
use crate::format::{BatchHeader, HEADER_LEN, Identity, SegmentHeader, base_of, segment_name};
use crate::partition::{create_partition, create_segment, sync_new};
use crate::positions::POSITIONS;
use crate::recovery::read_header;
use crate::start::Start;
use crate::survey::{Lost, Problem, Subject, survey};
use crate::topics::{self, TOPICS, TopicMeta};
use crate::verify::{POSITIONS_SHOWN, lock_existing, subject, topic_names};

/// Length at which a copied segment is closed.
const SEGMENT_BYTES: u64 = 128 << 20;

/// What [`repair`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Topics in the copy.
    pub topics: usize,
    /// Records of topics in the copy.
    pub records: u64,
    /// Records of the log's own in the copy: readers' positions, outdated ones too.
    pub positions: u64,
    /// What was wrong in the source.
    pub problems: Vec<Problem>,
    /// Offsets that are not in the copy.
    pub lost: Vec<Lost>,
    /// Descriptions of topics that were rebuilt from their segments.
    pub rebuilt: Vec<String>,
    /// Folders of topics of which nothing could be read.
    pub unreadable: Vec<PathBuf>,
}

/// Copies what can be read of the log in `from` into the new folder `to`. The log in `from` must not be open.
///
/// # Errors
/// [`Error::Locked`], [`Error::TargetNotEmpty`], [`Error::Io`].
pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport> {
    repair_on(&RealDisk, from, to)
}

/// [`repair`] on another disk than the operating system's.
///
/// # Errors
/// Those of [`repair`].
pub fn repair_on(disk: &dyn Disk, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let _guard = lock_existing(disk, from)?;
    disk.create_dir_all(to).during("create", to)?;
    if !disk.list(to).during("list", to)?.is_empty() {
        return Err(Error::TargetNotEmpty(to.to_path_buf()));
    }
    let ends = clean::read(disk, from)?.unwrap_or_default();
    let mut report = RepairReport::default();
    let positions = Subject {
        topic: POSITIONS_SHOWN,
        partition: 0,
        identity: Identity::POSITIONS,
        dir: &from.join(POSITIONS),
        clean_end: ends.get(&clean::name(POSITIONS, Identity::POSITIONS.partition)).copied(),
    };
    copy_partition(disk, positions, &to.join(POSITIONS), &mut report)?;
    report.positions = std::mem::take(&mut report.records);

    let (from_topics, to_topics) = (from.join(TOPICS), to.join(TOPICS));
    disk.create_dir_all(&to_topics).during("create", &to_topics)?;
    for name in topic_names(disk, &from_topics)? {
        let (source, target) = (from_topics.join(&name), to_topics.join(&name));
        let Some(meta) = describe(disk, &source, &name, &mut report)? else {
            report.unreadable.push(source);
            continue;
        };
        for partition in 0..meta.partitions {
            let dir = source.join(partition.to_string());
            let target = target.join(partition.to_string());
            copy_partition(disk, subject(&meta, partition, &dir, &ends), &target, &mut report)?;
        }
        topics::write_meta(disk, &target, &meta)?;
        report.topics += 1;
    }
    disk.sync_dir(&to_topics).during("sync", &to_topics)?;
    folder::write_format(disk, to)?;
    Ok(report)
}

/// A topic's description: the stored one where it is whole and counts all partitions, else one rebuilt from the
/// segments.
fn describe(disk: &dyn Disk, dir: &Path, name: &str, report: &mut RepairReport) -> Result<Option<TopicMeta>> {
    let stored = topics::read_meta(disk, dir, name);
    if let Ok(meta) = stored
        && topics::uncounted(disk, dir, &meta).is_ok()
        && first_identity(disk, &dir.join("0")).is_none_or(|found| found == topics::identity(&meta, 0))
    {
        return Ok(Some(meta));
    }
    let numbers = disk.list(dir).during("list", dir)?.into_iter().filter(|entry| entry.is_dir);
    let numbers: Vec<u32> = numbers.filter_map(|entry| entry.name.parse().ok()).collect();
    let found = numbers.iter().find_map(|number| first_identity(disk, &dir.join(number.to_string())));
    let (Some(identity), Some(last)) = (found, numbers.iter().max()) else { return Ok(None) };
    report.rebuilt.push(name.to_owned());
    Ok(Some(TopicMeta {
        name: name.to_owned(),
        partitions: last + 1,
        generation: Uuid::from_bytes(identity.generation).to_string(),
        created_ms: Clock::default().now_ms(),
    }))
}

/// The identity in the first segment of a partition whose header is whole.
fn first_identity(disk: &dyn Disk, dir: &Path) -> Option<Identity> {
    let entries = disk.list(dir).ok()?;
    entries.iter().filter(|entry| base_of(&entry.name).is_some()).find_map(|entry| {
        let file = disk.open(&dir.join(&entry.name), Open::Read).ok()?;
        read_header(&*file).ok()?.0.ok().map(|header| header.identity)
    })
}

fn copy_partition(
    disk: &dyn Disk,
    subject: Subject<'_>,
    target: &Path,
    report: &mut RepairReport,
) -> Result<()> {
    let mut copy: Option<Copy<'_>> = None;
    let start = Start::open(disk, subject.dir).map(|start| start.offset);
    let found = survey(disk, subject, &mut |header, body| {
        let copy = match &mut copy {
            Some(copy) => copy,
            None => copy.insert(Copy::begin(
                disk,
                target,
                subject.identity,
                *start.as_ref().unwrap_or(&header.base),
            )?),
        };
        copy.put(header, body)
    })?;
    let mut copy = match copy {
        Some(copy) => copy,
        None => Copy::begin(disk, target, subject.identity, found.start)?,
    };
    copy.end_at(found.next)?;
    report.records += found.records;
    report.problems.extend(found.problems);
    report.lost.extend(found.lost);
    Ok(())
}

/// A partition that is being written from whole batches.
struct Copy<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    identity: Identity,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    len: u64,
    next: u64,
    last_ms: i64,
}

impl<'a> Copy<'a> {
    fn begin(disk: &'a dyn Disk, dir: &'a Path, identity: Identity, start: u64) -> Result<Self> {
        create_partition(disk, dir, identity, start)?;
        let path = dir.join(segment_name(start));
        let file = disk.open(&path, Open::Write).during("open", &path)?;
        Ok(Self { disk, dir, identity, file, path, len: HEADER_LEN as u64, next: start, last_ms: i64::MIN })
    }

    fn write(&mut self, header: &BatchHeader, body: &[u8]) -> Result<()> {
        let header_bytes = header.encode(self.identity.salt());
        let mut slices = [IoSlice::new(&header_bytes), IoSlice::new(body)];
        write_all_at(&*self.file, self.len, &mut slices).during("write", &self.path)?;
        self.len += header.total_len();
        Ok(())
    }

    fn put(&mut self, header: &BatchHeader, body: &[u8]) -> Result<()> {
        let has_records = self.len > HEADER_LEN as u64;
        if header.base > self.next || (has_records && self.len + header.total_len() > SEGMENT_BYTES) {
            self.roll(header.base)?;
        }
        self.write(&BatchHeader { durable_end: header.base, ..*header }, body)?;
        (self.next, self.last_ms) = (header.end(), header.last_ms);
        Ok(())
    }

    fn roll(&mut self, base: u64) -> Result<()> {
        self.write(&BatchHeader::seal(self.next, self.last_ms), &[])?;
        self.file.sync_data().during("sync", &self.path)?;
        let header =
            SegmentHeader { identity: self.identity, base, prev_end: self.next, floor_ms: self.last_ms };
        self.path = self.dir.join(segment_name(base));
        self.file = create_segment(self.disk, self.dir, &header).during("create", &self.path)?;
        sync_new(self.disk, self.dir, &*self.file).during("sync", &self.path)?;
        (self.len, self.next) = (HEADER_LEN as u64, base);
        Ok(())
    }

    /// Makes all durable, and no offset below `next` is given again.
    fn end_at(&mut self, next: u64) -> Result<()> {
        if next > self.next {
            self.roll(next)?;
        }
        self.file.sync_data().during("sync", &self.path)
    }
}
