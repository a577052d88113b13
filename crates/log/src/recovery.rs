//! Opens a partition after any death: tells a torn, unacknowledged tail from damage, and cuts only the former.
//!
//! The last segment is walked from front to back. Where something is not the batch that should be there, the rest of
//! the file decides:
//!
//! - a later batch that is right and says that the log was durable *beyond* the bad place when it was written:
//!   acknowledged records are damaged. That is an error; nothing is touched.
//! - no such batch: what stands here was written after the last flush that anybody was told of. It is cut.
//! - nothing but zeros: the room for batches to come (see `partition`). It is cut too; that is no loss, and only
//!   told to those who debug.
//!
//! Batches of one group commit say the same durable end, so pages of the last group that reached the disk in another
//! order than they were written are a torn tail, too.
//!
//! After a clean shutdown nothing may be torn: the marker `CLEAN` says where each partition ended. Then the segment's
//! index, written at the close, is trusted: the walk begins at the last batch that it knows, a few dozen kilobytes before
//! the end, and has to end where the marker says. Damage before that is found when it is read, as in every other
//! segment. Without the marker or without the index the whole segment is walked over, and its index is thrown away.
//!
//! A view ([`crate::Log::view`]) opens the files of another process: it begins at the last batch that the newest index
//! knows, leaves what it would cut, and changes nothing.
//!
//! Every step may be repeated: dying during recovery leaves what the next recovery starts from. What is kept of the
//! last group is written once more and synced before it is published: after a kill it may be in memory only, and after
//! a failed fsync the system may believe pages clean that never reached the disk.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clean::{self, End, Ends};
use crate::disk::{Disk, DiskFile, Open, read_full_at, write_all_at};
use crate::error::{Error, IoContext, Result};
use crate::format::{
    BadHeader, BatchHeader, FORMAT_VERSION, HEADER_LEN, SegmentHeader, base_of, check_header, segment_name,
};
use crate::health::lock;
use crate::index::{Entry, Index};
use crate::partition::{Partition, Place, Segment, Writer};
use crate::scan::{Scanner, Step};
use crate::shared::Shared;
use crate::start::Start;

/// Bytes that recovery cut from the end of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment file.
    pub file: PathBuf,
    /// Where the cut was made, in bytes.
    pub position: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// The offset that stood there and will be given again.
    pub offset: u64,
    /// What made them unreadable.
    pub reason: String,
}

/// Offsets that readers have passed and the log no longer holds: the disk lost what it had confirmed, or, with
/// [`crate::Durability::Os`], the power failed. They are left out, never given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First offset lost.
    pub from: u64,
    /// The offset at which the partition goes on.
    pub to: u64,
}

/// What was found when a log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log had been closed in good order.
    pub clean: bool,
    /// Topics found.
    pub topics: usize,
    /// Partitions found, the log's own among them.
    pub partitions: usize,
    /// Torn tails that were cut.
    pub cuts: Vec<Cut>,
    /// Offsets that were left out.
    pub skipped: Vec<Skipped>,
}

/// First offsets of the segments in a folder, ascending.
pub(crate) fn list_segments(shared: &Shared, dir: &Path) -> Result<Vec<u64>> {
    let entries = shared.disk.list(dir).during("list", dir)?;
    Ok(entries.iter().filter_map(|entry| base_of(&entry.name)).collect())
}

/// The first 64 bytes of a file, and its length.
pub(crate) fn read_header(file: &dyn DiskFile) -> std::io::Result<(Result<SegmentHeader, BadHeader>, u64)> {
    let mut bytes = [0; HEADER_LEN];
    let filled = read_full_at(file, 0, &mut bytes)?;
    let parsed = if filled == HEADER_LEN { SegmentHeader::parse(&bytes) } else { Err(BadHeader::Damaged) };
    Ok((parsed, file.len()?))
}

/// The seal at the end of a segment, where there is one.
fn read_seal(file: &dyn DiskFile, len: u64, salt: u32) -> std::io::Result<Option<BatchHeader>> {
    let Some(position) = len.checked_sub(HEADER_LEN as u64) else { return Ok(None) };
    let mut bytes = [0; HEADER_LEN];
    read_full_at(file, position, &mut bytes)?;
    Ok(BatchHeader::parse(&bytes, salt).filter(BatchHeader::is_seal))
}

/// Opens a partition, cutting a torn tail.
pub(crate) fn open_partition(
    shared: &Arc<Shared>,
    place: Place<'_>,
    clean: Option<&Ends>,
    cuts: &mut Vec<Cut>,
) -> Result<Arc<Partition>> {
    let disk = &*shared.disk;
    let salt = place.identity.salt();
    let mut start = Start::open(disk, &place.dir)?;
    let mut bases = list_segments(shared, &place.dir)?;
    remove_what_retention_left(shared, &place.dir, &mut bases, &mut start)?;
    remove_unused_successor(shared, &place, &mut bases)?;

    let mut segments: Vec<Segment> = Vec::with_capacity(bases.len());
    // Where the segment before ends, as its seal says.
    let mut sealed_end = None;
    for (number, &base) in bases.iter().enumerate() {
        let path = place.dir.join(segment_name(base));
        let is_last = number + 1 == bases.len();
        let file = disk.open(&path, Open::Read).during("open", &path)?;
        let (parsed, len) = read_header(&*file).during("read", &path)?;
        let header = check_header(&path, parsed, &place.identity, base)?;
        let before = sealed_end.unwrap_or(start.offset);
        if (number > 0 && header.prev_end != before) || (number == 0 && base > start.offset) {
            let missing = format!("a segment with the offsets from {before} on is missing before this one");
            return Err(Error::corrupt(&path, 0, missing));
        }
        let seal = read_seal(&*file, len, salt).during("read", &path)?;
        match seal {
            Some(seal) if !is_last => sealed_end = Some(seal.base),
            None if !is_last => {
                return Err(Error::corrupt(&path, len, "the segment is cut short: its seal is not there"));
            }
            Some(seal) => {
                let next = place.dir.join(segment_name(seal.base));
                return Err(Error::corrupt(
                    &next,
                    0,
                    format!("the segment after offset {} is missing", seal.base),
                ));
            }
            None => {}
        }
        segments.push(Segment::new(shared, &place.dir, &header, len, is_last));
    }
    let Some(last) = segments.pop() else {
        let path = place.dir.join(segment_name(start.offset));
        return Err(Error::corrupt(&path, 0, "the partition has no segment"));
    };

    let last = Arc::new(last);
    let clean_end = clean.and_then(|ends| ends.get(&clean::name(place.topic, place.id)));
    let (writer, cut) = if shared.is_view {
        (look_at_tail(shared, Arc::clone(&last), salt, clean_end)?, None)
    } else {
        recover_tail(shared, Arc::clone(&last), salt, clean_end)?
    };
    if let Some(cut) = cut {
        tracing::warn!(
            file = %cut.file.display(), position = cut.position, bytes = cut.bytes, offset = cut.offset,
            reason = %cut.reason, "torn tail cut: it was never acknowledged"
        );
        cuts.push(cut);
    }
    if writer.next < start.offset {
        let what = format!("it ends at offset {}, the partition begins at {}", writer.next, start.offset);
        return Err(Error::corrupt(&last.path, writer.len, what));
    }
    let is_roll = writer.len <= HEADER_LEN as u64 && clean.is_none() && !shared.is_view;
    if let Some(sealed) = segments.last().filter(|_| is_roll) {
        flush_seal_again(disk, sealed)?;
    }
    let mut segments: Vec<_> = segments.into_iter().map(Arc::new).collect();
    segments.push(last);
    Ok(Arc::new(Partition::new(shared, place, start, segments, writer)))
}

/// A seal before a segment without records may have been written and never flushed. It has to be on the disk before the
/// first record behind it is.
fn flush_seal_again(disk: &dyn Disk, sealed: &Segment) -> Result<()> {
    let path = &sealed.path;
    let file = disk.open(path, Open::Write).during("open", path)?;
    let position = sealed.len().saturating_sub(HEADER_LEN as u64);
    let mut seal = [0; HEADER_LEN];
    read_full_at(&*file, position, &mut seal).during("read", path)?;
    write_all_at(&*file, position, &mut [IoSlice::new(&seal)]).during("write", path)?;
    file.sync_data().during("sync", path)
}

/// Segments before the start: retention had let them go and died before it removed them all. The start is written once more
/// first: the process that wrote it may have died before it was flushed, or because it could not be.
fn remove_what_retention_left(
    shared: &Shared,
    dir: &Path,
    bases: &mut Vec<u64>,
    start: &mut Start,
) -> Result<()> {
    let gone = bases.partition_point(|base| *base <= start.offset).saturating_sub(1);
    let removed: Vec<u64> = bases.drain(..gone).collect();
    if removed.is_empty() || shared.is_view {
        return Ok(());
    }
    start.advance(&*shared.disk, dir, start.offset)?;
    for base in removed {
        let path = dir.join(segment_name(base));
        let _ = shared.disk.remove_file(&path.with_extension("idx"));
        shared.disk.remove_file(&path).during("remove", &path)?;
    }
    shared.disk.sync_dir(dir).during("sync", dir)
}

/// A last segment without records behind a segment without a seal: a roll that did not come to its end.
fn remove_unused_successor(shared: &Shared, place: &Place<'_>, bases: &mut Vec<u64>) -> Result<()> {
    let disk = &*shared.disk;
    let [.., before, last] = bases.as_slice() else { return Ok(()) };
    let (before, last) = (place.dir.join(segment_name(*before)), place.dir.join(segment_name(*last)));
    let last_len = disk.open(&last, Open::Read).and_then(|file| file.len()).during("open", &last)?;
    let file = disk.open(&before, Open::Read).during("open", &before)?;
    let before_len = file.len().during("read", &before)?;
    let seal = read_seal(&*file, before_len, place.identity.salt()).during("read", &before)?;
    if seal.is_some() || last_len > HEADER_LEN as u64 {
        return Ok(());
    }
    if !shared.is_view {
        disk.remove_file(&last).during("remove", &last)?;
        disk.sync_dir(&place.dir).during("sync", &place.dir)?;
        tracing::info!(file = %last.display(), "empty segment of an unfinished roll removed");
    }
    bases.pop();
    Ok(())
}

/// What a walk over the last segment found.
struct Tail {
    /// Where the good batches end, in bytes and as an offset.
    len: u64,
    next: u64,
    last_ms: i64,
    first_append_ms: Option<i64>,
    /// Where the last group commit begins, in bytes.
    group: u64,
    /// Where the last good batch stands, and its header.
    last: Option<(u64, BatchHeader)>,
    bad: Option<String>,
    file_len: u64,
}

impl Tail {
    /// The tail of a segment of which nothing is known yet.
    fn of(segment: &Segment, file_len: u64) -> Self {
        Self {
            len: HEADER_LEN as u64,
            next: segment.base,
            last_ms: segment.floor_ms,
            first_append_ms: None,
            group: HEADER_LEN as u64,
            last: None,
            bad: None,
            file_len,
        }
    }

    fn into_writer(self, segment: Arc<Segment>, indexed: u64) -> Writer {
        segment.len.store(self.len, Ordering::Relaxed);
        Writer {
            len: self.len,
            file_len: self.len,
            next: self.next,
            last_ms: self.last_ms,
            first_append_ms: self.first_append_ms,
            indexed,
            unsynced: false,
            seen: None,
            segment,
        }
    }
}

/// Walks the last segment from the last batch that its index knows. `None` where that batch is not there: the index is
/// not this segment's.
fn walk_from(
    file: &dyn DiskFile,
    segment: &Segment,
    salt: u32,
    interval: u64,
    index: Index,
) -> Result<Option<Tail>> {
    let Some(Entry { offset, position, floor_ms }) = index.last() else { return Ok(None) };
    let path = &segment.path;
    let mut first = [0; HEADER_LEN];
    read_full_at(file, HEADER_LEN as u64, &mut first).during("read", path)?;
    let first = BatchHeader::parse(&first, salt).filter(|first| first.base == segment.base);
    let Some(first) = first else { return Ok(None) };
    let mut scanner = Scanner::new(file, salt, segment.base).during("read", path)?;
    (scanner.position, scanner.expected) = (position, offset);
    let mut tail = Tail::of(segment, scanner.len);
    (tail.len, tail.next, tail.last_ms) = (position, offset, floor_ms);
    tail.first_append_ms = Some(first.append_ms);
    let tail = walk_on(scanner, segment, tail, index, interval)?;
    Ok((tail.next > offset).then_some(tail))
}

/// Walks the last segment; an error where acknowledged records are damaged.
fn walk_tail(file: &dyn DiskFile, segment: &Segment, salt: u32, interval: u64) -> Result<Tail> {
    let scanner = Scanner::new(file, salt, segment.base).during("read", &segment.path)?;
    let tail = Tail::of(segment, scanner.len);
    walk_on(scanner, segment, tail, Index::default(), interval)
}

/// Walks from the scanner's place to the end; keeps the index that grows meanwhile.
fn walk_on(
    mut scanner: Scanner<'_>,
    segment: &Segment,
    mut tail: Tail,
    mut index: Index,
    interval: u64,
) -> Result<Tail> {
    let path = &segment.path;
    loop {
        match scanner.step().during("read", path)? {
            Step::End => break,
            Step::Batch(header) if header.is_seal() => {
                // A seal that is not at the end of the file: the caller has looked there.
                return Err(Error::corrupt(path, tail.len, "there are bytes behind the segment's seal"));
            }
            Step::Batch(header) => {
                if header.durable_end == header.base {
                    tail.group = tail.len;
                }
                let entry = Entry { offset: tail.next, position: tail.len, floor_ms: tail.last_ms };
                index.offer(entry, interval);
                tail.first_append_ms.get_or_insert(header.append_ms);
                tail.last = Some((tail.len, header));
                (tail.len, tail.next, tail.last_ms) = (scanner.position, header.end(), header.last_ms);
            }
            Step::Bad(reason) => {
                refuse_damage(&mut scanner, path, &tail, &reason)?;
                tail.bad = Some(reason);
                break;
            }
        }
    }
    *lock(&segment.growing) = Some(index);
    Ok(tail)
}

/// An error where a later batch proves that the bad place had been acknowledged.
fn refuse_damage(scanner: &mut Scanner<'_>, path: &Path, tail: &Tail, reason: &str) -> Result<()> {
    while let Some((position, header)) = scanner.next_header().during("read", path)? {
        if header.durable_end > tail.next {
            let what = format!(
                "the records from offset {} on were acknowledged and are damaged ({reason}); offset {} at byte {position} is whole",
                tail.next, header.base
            );
            return Err(Error::corrupt(path, tail.len, what));
        }
        scanner.resume(position, &header);
    }
    Ok(())
}

/// Cuts what is torn, makes durable what is kept.
fn recover_tail(
    shared: &Shared,
    segment: Arc<Segment>,
    salt: u32,
    clean_end: Option<&End>,
) -> Result<(Writer, Option<Cut>)> {
    let path = &segment.path;
    let file = shared.disk.open(path, Open::Write).during("open", path)?;
    let interval = shared.config.index_interval_bytes;
    let known = segment.read_index(&*shared.disk, salt);
    let trusted = known.filter(|(_, known)| clean_end.is_some_and(|end| end.bytes == *known));
    let by_index = match trusted {
        Some((index, known)) => walk_from(&*file, &segment, salt, interval, index)?.map(|tail| (tail, known)),
        None => None,
    };
    let (tail, indexed) = match by_index {
        Some(found) => found,
        None => {
            // What it says may be cut now, and written anew.
            let _ = shared.disk.remove_file(&segment.index_path());
            (walk_tail(&*file, &segment, salt, interval)?, 0)
        }
    };
    check_clean_end(path, &tail, clean_end)?;
    let cut = tail.bad.clone().map(|reason| Cut {
        file: path.clone(),
        position: tail.len,
        bytes: tail.file_len - tail.len,
        offset: tail.next,
        reason,
    });
    if tail.file_len > tail.len {
        let bytes = tail.file_len - tail.len;
        tracing::debug!(path = %path.display(), position = tail.len, bytes, "cut behind the last batch");
        file.truncate(tail.len).during("cut the torn tail of", path)?;
    }
    if clean_end.is_none() && tail.file_len > HEADER_LEN as u64 {
        let mut group = vec![0; usize::try_from(tail.len - tail.group).unwrap_or(usize::MAX)];
        read_full_at(&*file, tail.group, &mut group).during("read", path)?;
        write_all_at(&*file, tail.group, &mut [IoSlice::new(&group)]).during("write", path)?;
        file.sync_data().during("sync", path)?;
    }
    Ok((tail.into_writer(segment, indexed), cut))
}

/// After a close in good order nothing is torn: any difference is damage.
fn check_clean_end(path: &Path, tail: &Tail, clean_end: Option<&End>) -> Result<()> {
    let Some(end) = clean_end else { return Ok(()) };
    let found = End { next: tail.next, bytes: tail.len };
    if tail.bad.is_none() && found == *end {
        return Ok(());
    }
    let reason = tail.bad.as_deref().unwrap_or("records are gone or were added");
    let what = format!(
        "the log was closed in good order with offset {} at byte {}, now it ends with offset {}: {reason}",
        end.next, end.bytes, tail.next
    );
    Err(Error::corrupt(path, tail.len, what))
}

/// Where another process's last segment ends now; what it is about to write is not there yet.
fn look_at_tail(
    shared: &Shared,
    segment: Arc<Segment>,
    salt: u32,
    clean_end: Option<&End>,
) -> Result<Writer> {
    let path = &segment.path;
    let file = shared.disk.open(path, Open::Read).during("open", path)?;
    let interval = shared.config.index_interval_bytes;
    let known = segment.read_index(&*shared.disk, salt);
    let by_index = match known {
        Some((index, _)) => walk_from(&*file, &segment, salt, interval, index)?,
        None => None,
    };
    let tail = match by_index {
        Some(tail) => tail,
        None => walk_tail(&*file, &segment, salt, interval)?,
    };
    check_clean_end(path, &tail, clean_end)?;
    let seen = tail.last;
    Ok(Writer { seen, ..tail.into_writer(segment, 0) })
}

/// Refuses files of a newer version.
pub(crate) fn check_version(file: &Path, found: u32) -> Result<()> {
    if found == FORMAT_VERSION {
        return Ok(());
    }
    Err(Error::FormatTooNew { file: file.to_path_buf(), found, known: FORMAT_VERSION })
}
