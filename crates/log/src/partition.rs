//! One partition: its segments, its writer, its published end.
//!
//! A partition is a folder of segments (`<first offset, 20 digits>.seg`), indexes beside them and the file `start`.
//! All segments but the last are complete: they end with a seal. Only the last is written, by one committer.
//!
//! **Room.** Behind its batches the last segment has zeros while it is written: making a file longer takes the disk a second
//! flush, for the file's length, so a small group commit writes zeros ahead for those that follow, which overwrite them.
//! Zeros up to the end of the file are no batches and no damage; recovery, a roll and a close cut them off.
//!
//! **Roll**, and what a crash leaves after each step:
//! 1. the old segment is cut to its batches and synced — a segment to go on in;
//! 2. the new segment's header is written and synced, then its name — a new segment without records behind an old one
//!    without a seal: recovery removes the new one and goes on in the old one;
//! 3. the seal is written to the old segment and synced — a new, empty segment to go on in;
//! 4. the old segment's index is written — missing ones are built when they are needed.
//!
//! Records are only written behind a sealed segment, so a sealed segment without a successor is a missing file, and a
//! segment with records behind one without a seal is damage.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::config::Durability;
use crate::disk::{Disk, DiskFile, Open, read_file, write_all_at};
use crate::error::{Error, IoContext, Result};
use crate::format::{BatchHeader, Encoded, HEADER_LEN, Identity, SegmentHeader, segment_name};
use crate::health::{Counters, lock};
use crate::index::{Entry, Index};
use crate::record::{Appended, OffsetRange};
use crate::shared::{OpenSegment, Shared, is_not_opened};
use crate::start::Start;

/// Larger group commits bring their own length: beside so many bytes the second flush is nothing, and zeros would double them.
const SMALL_GROUP: u64 = 64 << 10;
/// Most room that is made at once.
const ROOM: u64 = 1 << 20;
/// Room is made for no more than one part in this many of what the segment holds, so that many small partitions stay small.
const ROOM_PART: u64 = 4;
/// How far a segment grows before its index is written for those who look on beside. They walk over as much of it.
const NOTE_INDEX: u64 = 4 << 20;
/// Room for some hundred positions, however few there are.
const ROOM_OF_POSITIONS: u64 = 64 << 10;
const ZEROS: &[u8] = &[0; 64 << 10];

/// An append on its way to the disk.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) partition: Arc<Partition>,
    pub(crate) encoded: Encoded,
    pub(crate) answer: oneshot::Sender<Answer>,
    /// The queue's bytes that this append takes, given back when it is answered.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What became of an append. What it took goes back to the caller with it: memory that one thread takes and another gives
/// back has both wait for the allocator.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) result: Result<Appended>,
    _spent: (Encoded, OwnedSemaphorePermit),
}

impl Job {
    /// Tells the caller, who may have gone; that is its decision.
    pub(crate) fn answer(self, result: Result<Appended>) {
        let Self { encoded, answer, permit, .. } = self;
        let _ = answer.send(Answer { result, _spent: (encoded, permit) });
    }
}

/// A segment file of a partition.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) base: u64,
    pub(crate) path: PathBuf,
    /// Where the segment before ended; less than `base` where offsets are left out between them.
    pub(crate) prev_end: u64,
    /// Newest time stamp before this segment.
    pub(crate) floor_ms: i64,
    /// Length of what is published, in bytes.
    pub(crate) len: AtomicU64,
    /// The index while records are added; `None` once the segment is complete.
    pub(crate) growing: Mutex<Option<Index>>,
}

impl Segment {
    pub(crate) fn new(shared: &Shared, dir: &Path, header: &SegmentHeader, len: u64, growing: bool) -> Self {
        Self {
            id: shared.new_id(),
            base: header.base,
            path: dir.join(segment_name(header.base)),
            prev_end: header.prev_end,
            floor_ms: header.floor_ms,
            len: AtomicU64::new(len),
            growing: Mutex::new(growing.then(Index::default)),
        }
    }

    pub(crate) fn open(&self, shared: &Shared) -> Result<Arc<OpenSegment>> {
        let is_written = !shared.is_view && lock(&self.growing).is_some();
        let how = if is_written { Open::Write } else { Open::Read };
        shared.files.get(&*shared.disk, self.id, &self.path, how)
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.path.with_extension("idx")
    }

    /// The index in the file beside it, and how many of its bytes that knows; `None` where there is none of this segment.
    pub(crate) fn read_index(&self, disk: &dyn Disk, salt: u32) -> Option<(Index, u64)> {
        let bytes = read_file(disk, &self.index_path()).unwrap_or_default()?;
        Index::decode(&bytes, salt, self.base)
    }
}

/// Where the next batch goes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) segment: Arc<Segment>,
    /// Length of the segment up to the last good batch.
    pub(crate) len: u64,
    /// Length of its file. What lies behind `len` is zeros: room for the next batches.
    pub(crate) file_len: u64,
    pub(crate) next: u64,
    /// Newest time stamp of the partition.
    pub(crate) last_ms: i64,
    /// When the segment's first record was appended.
    pub(crate) first_append_ms: Option<i64>,
    /// How many bytes of the segment the index in the file beside it knows.
    pub(crate) indexed: u64,
    /// Bytes were written that no fsync has confirmed (only with [`Durability::Os`]).
    pub(crate) unsynced: bool,
    /// In a view: where the segment's last batch stands, and its header. The owner may take it back.
    pub(crate) seen: Option<(u64, BatchHeader)>,
}

impl Writer {
    /// At the beginning of a segment without records.
    pub(crate) fn begin(segment: &Arc<Segment>, header: &SegmentHeader) -> Self {
        Self {
            segment: Arc::clone(segment),
            len: HEADER_LEN as u64,
            file_len: HEADER_LEN as u64,
            next: header.base,
            last_ms: header.floor_ms,
            first_append_ms: None,
            indexed: 0,
            unsynced: false,
            seen: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) start: Start,
    /// Ascending, never empty.
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// What one partition is called and where it lives.
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) id: u32,
    pub(crate) identity: Identity,
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
}

/// One partition of a topic, or the log's own of reader positions.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) id: u32,
    pub(crate) identity: Identity,
    pub(crate) salt: u32,
    pub(crate) dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) segment_bytes: u64,
    /// Which committer writes it.
    pub(crate) committer: usize,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) held: RwLock<Held>,
    /// End of what is durable and may be read.
    pub(crate) end: watch::Sender<u64>,
    pub(crate) deleted: AtomicBool,
}

/// Writes a segment's header into a new file.
pub(crate) fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    header: &SegmentHeader,
) -> std::io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&dir.join(segment_name(header.base)), Open::Create)?;
    write_all_at(&*file, 0, &mut [IoSlice::new(&header.encode())])?;
    Ok(file)
}

/// Makes a new file durable: its bytes, then its name.
pub(crate) fn sync_new(disk: &dyn Disk, dir: &Path, file: &dyn DiskFile) -> std::io::Result<()> {
    file.sync_data()?;
    disk.sync_dir(dir)
}

/// Makes the folder of a new, empty partition. The caller makes the folder's own name durable.
pub(crate) fn create_partition(disk: &dyn Disk, dir: &Path, identity: Identity, start: u64) -> Result<()> {
    disk.create_dir_all(dir).during("create", dir)?;
    Start::create(disk, dir, start)?;
    let header = SegmentHeader { identity, base: start, prev_end: start, floor_ms: i64::MIN };
    let file = create_segment(disk, dir, &header).during("create a segment in", dir)?;
    sync_new(disk, dir, &*file).during("sync", dir)
}

impl Partition {
    /// A partition of these segments, the last of which is the writer's.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        place: Place<'_>,
        start: Start,
        segments: Vec<Arc<Segment>>,
        writer: Writer,
    ) -> Self {
        Self {
            topic: place.topic.into(),
            id: place.id,
            salt: place.identity.salt(),
            identity: place.identity,
            dir: place.dir,
            segment_bytes: place.segment_bytes,
            committer: usize::try_from(shared.new_id()).unwrap_or_default(),
            end: watch::Sender::new(writer.next),
            writer: Mutex::new(writer),
            held: RwLock::new(Held { start, segments }),
            deleted: AtomicBool::new(false),
            shared: Arc::clone(shared),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    pub(crate) fn offsets(&self) -> OffsetRange {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        OffsetRange { beginning: held.start.offset, end: self.end() }
    }

    /// Bytes of its segments.
    pub(crate) fn bytes(&self) -> u64 {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.segments.iter().map(|segment| segment.len()).sum()
    }

    /// Writes, flushes, publishes and answers appends in their order: as many at once as one segment takes.
    pub(crate) fn commit(&self, jobs: Vec<Job>) {
        let mut writer = lock(&self.writer);
        let mut jobs = jobs;
        while !jobs.is_empty() {
            let now_ms = self.shared.config.clock.now_ms();
            let written = self.prepare(&mut writer, &jobs, now_ms).and_then(|count| {
                let chunk = jobs.get_mut(..count).unwrap_or_default();
                self.write(&mut writer, chunk, now_ms).map(|base| (base, count))
            });
            match written {
                Ok((base, count)) => answer(base, jobs.drain(..count)),
                Err(error) => {
                    for job in jobs.drain(..) {
                        job.answer(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// The error that says why this partition's writes are refused now. Positions are tried on a full disk too: they have
    /// room written ahead, and retention makes room only where readers may say how far they are.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.shared.check_writable() {
            Err(Error::DiskFull { .. }) if self.holds_positions() => Ok(()),
            checked => checked,
        }
    }

    fn holds_positions(&self) -> bool {
        self.identity == Identity::POSITIONS
    }

    /// Makes the segment ready and says how many of the jobs go into it, at least one.
    fn prepare(&self, writer: &mut Writer, jobs: &[Job], now_ms: i64) -> Result<usize> {
        self.check_writable()?;
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::UnknownTopic(self.topic.to_string()));
        }
        let first = jobs.first().map_or(0, |job| job.encoded.bytes.len() as u64);
        let has_records = writer.len > HEADER_LEN as u64;
        if has_records && (writer.len + first > self.segment_bytes || self.is_old(writer, now_ms)) {
            self.roll(writer, writer.next)?;
        }
        let mut len = writer.len;
        let fitting = jobs.iter().take_while(|job| {
            len += job.encoded.bytes.len() as u64;
            len <= self.segment_bytes
        });
        Ok(fitting.count().max(1))
    }

    fn is_old(&self, writer: &Writer, now_ms: i64) -> bool {
        let age = i64::try_from(self.shared.config.segment_age.as_millis()).unwrap_or(i64::MAX);
        let is_old = |first: i64| now_ms.saturating_sub(first) >= age;
        // Positions are let go when they are tidied, whatever their age.
        !self.holds_positions() && writer.first_append_ms.is_some_and(is_old)
    }

    /// Writes the jobs' batches behind one another, flushes once and publishes; returns their first offset.
    /// Nothing is published, and the file is as before, where it fails without poisoning the log.
    fn write(&self, writer: &mut Writer, jobs: &mut [Job], now_ms: i64) -> Result<u64> {
        let base = writer.next;
        let (mut next, mut last_ms, mut position) = (base, writer.last_ms, writer.len);
        let mut entries = Vec::with_capacity(jobs.len());
        for job in jobs.iter_mut() {
            entries.push(Entry { offset: next, position, floor_ms: last_ms });
            last_ms = job.encoded.settle(self.salt, next, base, last_ms, now_ms);
            next += u64::from(job.encoded.count);
            position += job.encoded.bytes.len() as u64;
        }
        let path = &writer.segment.path;
        let open = writer.segment.open(&self.shared).map_err(|error| self.shared.nothing_stored(error))?;
        let mut room = self.room_behind(writer, position);
        let mut written = put(&*open.file, writer.len, jobs, room);
        if written.is_err() && room > 0 {
            // A disk that is nearly full may still take the records alone; what else is wrong shows again.
            room = 0;
            written = open.file.truncate(writer.len).and_then(|()| put(&*open.file, writer.len, jobs, room));
            writer.file_len = writer.len;
        }
        if let Err(error) = written {
            self.cut(writer, &*open.file, "take back a failed write to")?;
            return Err(self.shared.refused(&writer.segment.path, error));
        }
        if self.shared.config.durability == Durability::Fsync {
            open.file.sync_data().map_err(|error| self.shared.poison("sync", path, &error))?;
        } else {
            writer.unsynced = true;
        }

        let counters = &self.shared.counters;
        Counters::add(&counters.bytes, position - writer.len);
        Counters::add(&counters.records, next - base);
        Counters::add(&counters.appends, jobs.len() as u64);
        Counters::add(&counters.fsyncs, u64::from(!writer.unsynced));
        if let Some(index) = lock(&writer.segment.growing).as_mut() {
            let interval = self.shared.config.index_interval_bytes;
            entries.into_iter().for_each(|entry| index.offer(entry, interval));
        }
        writer.first_append_ms.get_or_insert(now_ms);
        (writer.next, writer.last_ms, writer.len) = (next, last_ms, position);
        writer.file_len = writer.file_len.max(position + room);
        writer.segment.len.store(position, Ordering::Relaxed);
        self.end.send_replace(next);
        if position - writer.indexed >= NOTE_INDEX {
            self.note_index(writer);
        }
        Ok(base)
    }

    /// Writes the index of the segment as far as it goes.
    pub(crate) fn note_index(&self, writer: &mut Writer) {
        if writer.indexed == writer.len || writer.len <= HEADER_LEN as u64 {
            return;
        }
        if let Some(index) = lock(&writer.segment.growing).as_ref() {
            write_index(&self.shared, &writer.segment, index, self.salt, writer.len);
        }
        // Also where that failed: the next try is as far away.
        writer.indexed = writer.len;
    }

    /// Offsets between its segments that have no records, ascending.
    pub(crate) fn gaps(&self) -> Vec<OffsetRange> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let begins = held.segments.iter().filter(|segment| segment.prev_end < segment.base);
        let gaps = begins.map(|segment| OffsetRange {
            beginning: segment.prev_end.max(held.start.offset),
            end: segment.base,
        });
        gaps.filter(|gap| gap.beginning < gap.end).collect()
    }

    /// How many zeros to write behind a group commit that ends at byte `end`.
    fn room_behind(&self, writer: &Writer, end: u64) -> u64 {
        let is_small = end - writer.len <= SMALL_GROUP;
        if self.shared.config.durability != Durability::Fsync || !is_small || end <= writer.file_len {
            return 0;
        }
        let room = if self.holds_positions() { ROOM_OF_POSITIONS } else { (end / ROOM_PART).min(ROOM) };
        room.min(self.segment_bytes.saturating_sub(end))
    }

    /// Cuts the room behind the batches off.
    pub(crate) fn give_back_room(&self, writer: &mut Writer) -> Result<()> {
        if writer.file_len > writer.len {
            let open =
                writer.segment.open(&self.shared).map_err(|error| self.shared.nothing_stored(error))?;
            self.cut(writer, &*open.file, "cut the room off")?;
        }
        Ok(())
    }

    /// Cuts the file to its batches, durably: what stood behind them would be back after a power loss.
    fn cut(&self, writer: &mut Writer, file: &dyn DiskFile, action: &str) -> Result<()> {
        let cut = file.truncate(writer.len).and_then(|()| file.sync_data());
        cut.map_err(|error| self.shared.poison(action, &writer.segment.path, &error))?;
        writer.file_len = writer.len;
        Ok(())
    }

    /// Completes the segment and begins a new one at offset `base`. See the module's text for the crash points. A segment
    /// that begins there holds no record yet and stays: the new one would have its name.
    pub(crate) fn roll(&self, writer: &mut Writer, base: u64) -> Result<()> {
        if base == writer.segment.base {
            return Ok(());
        }
        let shared = &*self.shared;
        let old = Arc::clone(&writer.segment);
        self.sync(writer)?;
        self.give_back_room(writer)?;

        let header =
            SegmentHeader { identity: self.identity, base, prev_end: writer.next, floor_ms: writer.last_ms };
        let new = Segment::new(shared, &self.dir, &header, HEADER_LEN as u64, true);
        // Opened first, as there may be no descriptor left for it later.
        let open = old.open(shared).map_err(|error| shared.nothing_stored(error))?;
        let made = create_segment(&*shared.disk, &self.dir, &header);
        match made.map(|file| sync_new(&*shared.disk, &self.dir, &*file)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) if !is_not_opened(&error) => {
                return Err(shared.poison("sync", &new.path, &error));
            }
            Ok(Err(error)) | Err(error) => {
                self.take_back(&new.path)?;
                return Err(shared.refused(&new.path, error));
            }
        }

        let seal = BatchHeader::seal(writer.next, writer.last_ms).encode(self.salt);
        if let Err(error) = write_all_at(&*open.file, writer.len, &mut [IoSlice::new(&seal)]) {
            // First the seal, which may be there whole: a seal says that a segment follows.
            self.cut(writer, &*open.file, "take back a failed write to")?;
            self.take_back(&new.path)?;
            return Err(shared.refused(&old.path, error));
        }
        open.file.sync_data().map_err(|error| shared.poison("sync", &old.path, &error))?;

        let len = writer.len + HEADER_LEN as u64;
        old.len.store(len, Ordering::Relaxed);
        if let Some(index) = lock(&old.growing).take() {
            write_index(shared, &old, &index, self.salt, len);
        }
        shared.files.forget(old.id);
        let new = Arc::new(new);
        *writer = Writer::begin(&new, &header);
        self.held.write().unwrap_or_else(PoisonError::into_inner).segments.push(new);
        self.end.send_replace(base);
        Ok(())
    }

    /// Removes the segment of a roll that failed. If that fails too, the log is poisoned. Otherwise the old segment would
    /// grow past this one's first offset, and the next recovery would report the leftover as damage.
    fn take_back(&self, new: &Path) -> Result<()> {
        match self.shared.disk.remove_file(new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.shared.poison("take back the unused segment", new, &error))
            }
            _ => Ok(()),
        }
    }

    /// Flushes what [`Durability::Os`] left to the system.
    pub(crate) fn sync(&self, writer: &mut Writer) -> Result<()> {
        if writer.unsynced {
            let path = &writer.segment.path;
            let open = writer.segment.open(&self.shared)?;
            open.file.sync_data().map_err(|error| self.shared.poison("sync", path, &error))?;
            writer.unsynced = false;
        }
        Ok(())
    }

    /// Completes a segment whose first record is too old, so that retention can let it go. A full disk has no room for
    /// the next one.
    pub(crate) fn roll_if_old(&self) -> Result<()> {
        let mut writer = lock(&self.writer);
        if self.is_old(&writer, self.shared.config.clock.now_ms()) && !self.shared.health.is_read_only() {
            self.shared.check_writable()?;
            let next = writer.next;
            self.roll(&mut writer, next)?;
        }
        Ok(())
    }

    /// Lets the first `count` segments go: the new start first, durably, then the files.
    pub(crate) fn remove_first(&self, count: usize) -> Result<u64> {
        let shared = &*self.shared;
        let removed: Vec<_> = {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            let count = count.min(held.segments.len() - 1);
            let Some(first_kept) = held.segments.get(count).map(|segment| segment.base) else { return Ok(0) };
            if count == 0 {
                return Ok(0);
            }
            held.start
                .advance(&*shared.disk, &self.dir, first_kept)
                .map_err(|error| shared.refused_or_poisoned(error))?;
            held.segments.drain(..count).collect()
        };
        for segment in &removed {
            shared.files.forget(segment.id);
            let _ = shared.disk.remove_file(&segment.index_path());
            shared.disk.remove_file(&segment.path).during("remove", &segment.path)?;
        }
        let synced = shared.disk.sync_dir(&self.dir).during("sync", &self.dir);
        synced.map_err(|error| shared.refused_or_poisoned(error))?;
        Ok(removed.len() as u64)
    }
}

/// Writes batches behind one another at `position`, and `room` zeros behind them.
fn put(file: &dyn DiskFile, position: u64, jobs: &[Job], room: u64) -> std::io::Result<()> {
    let mut slices: Vec<_> = jobs.iter().map(|job| IoSlice::new(&job.encoded.bytes)).collect();
    let mut rest = usize::try_from(room).unwrap_or_default();
    while rest > 0 {
        let zeros = ZEROS.get(..rest).unwrap_or(ZEROS);
        slices.push(IoSlice::new(zeros));
        rest -= zeros.len();
    }
    write_all_at(file, position, &mut slices)
}

fn answer(base: u64, jobs: impl Iterator<Item = Job>) {
    let mut next = base;
    for job in jobs {
        let appended = Appended { base_offset: next, count: job.encoded.count };
        next += u64::from(appended.count);
        job.answer(Ok(appended));
    }
}

/// Writes the index of a complete segment. A failure costs a scan later, nothing else.
pub(crate) fn write_index(shared: &Shared, segment: &Segment, index: &Index, salt: u32, len: u64) {
    if shared.is_view {
        return;
    }
    let path = segment.index_path();
    let bytes = index.encode(salt, segment.base, len);
    // In place where there is one: nobody who looks on beside finds none.
    let opened = shared.disk.open(&path, Open::Write).or_else(|_| shared.disk.open(&path, Open::Create));
    let written = opened.and_then(|file| {
        write_all_at(&*file, 0, &mut [IoSlice::new(&bytes)])?;
        file.truncate(bytes.len() as u64)
    });
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "index not written, it will be built when it is needed");
    }
}
