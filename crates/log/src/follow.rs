//! Follows another process's log: what was added to a topic since the view looked last, and no more, is read.
//!
//! A view takes in whole batches, also those that their owner has not flushed yet. Where their write fails the owner takes
//! them back and writes others in their place. So before it goes on, the view looks whether the last batch that it took in
//! still stands where it stood; where it does not, the partition is opened anew. What follows that batch and is no whole
//! batch is on its way to the disk.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::disk::{Open, read_file, read_full_at};
use crate::error::{Error, IoContext, Result};
use crate::folder::{Topic, place_of};
use crate::format::{BatchHeader, HEADER_LEN, check_header, segment_name};
use crate::health::lock;
use crate::index::Entry;
use crate::log::Log;
use crate::partition::{Partition, Segment, Writer};
use crate::recovery::{list_segments, open_partition, read_header};
use crate::scan::{Scanner, Step};
use crate::shared::OpenSegment;
use crate::start::Start;
use crate::topics::{self, META, TOPICS, TopicMeta};
use crate::view::again;

impl Log {
    /// Looks at a topic again, in a log that [`Log::view`] opened: what its owner has appended since, partitions that were
    /// added, what retention has removed. A topic that is new is there from then on. True where anything has changed.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] where it is not there, or not any longer; those of [`Log::view`].
    pub fn refresh(&self, topic: &str) -> Result<bool> {
        let inner = &*self.inner;
        if !inner.shared.is_view {
            return Ok(false);
        }
        let known = inner.topics().get(topic).cloned();
        match again(|| self.look_at(topic, known.as_ref())) {
            Ok((found, changed)) => {
                inner.topics_mut().insert(topic.to_owned(), found);
                Ok(changed)
            }
            Err(error @ Error::UnknownTopic(_)) => {
                inner.topics_mut().remove(topic);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn look_at(&self, name: &str, known: Option<&Topic>) -> Result<(Topic, bool)> {
        let shared = &self.inner.shared;
        let dir = shared.dir.join(TOPICS).join(name);
        let path = dir.join(META);
        if read_file(&*shared.disk, &path).during("read", &path)?.is_none() {
            return Err(Error::UnknownTopic(name.to_owned()));
        }
        let meta = topics::read_meta(&*shared.disk, &dir, name)?;
        let same = known.filter(|known| known.meta.generation == meta.generation);
        let mut partitions = same.map(|known| known.partitions.clone()).unwrap_or_default();
        let mut changed = same.is_none();
        for partition in &mut partitions {
            match partition.catch_up() {
                Ok(more) => changed |= more,
                // Its last segment has gone meanwhile, or does not hold what it held.
                Err(_) => {
                    *partition = self.look_anew(&meta, partition.id)?;
                    changed = true;
                }
            }
        }
        for id in (0..meta.partitions).skip(partitions.len()) {
            partitions.push(self.look_anew(&meta, id)?);
            changed = true;
        }
        Ok((Topic { meta, partitions }, changed))
    }

    fn look_anew(&self, meta: &TopicMeta, id: u32) -> Result<Arc<Partition>> {
        let shared = &self.inner.shared;
        open_partition(shared, place_of(shared, meta, id), None, &mut Vec::new())
    }
}

impl Partition {
    /// Takes in what was appended behind what is known, and lets go of what retention has removed; true where anything was.
    fn catch_up(&self) -> Result<bool> {
        let mut writer = lock(&self.writer);
        let before = (writer.next, self.offsets().beginning);
        while self.walk_on(&mut writer)? {}
        self.end.send_replace(writer.next);
        self.move_start(Start::open(&*self.shared.disk, &self.dir)?);
        Ok((writer.next, self.offsets().beginning) != before)
    }

    fn move_start(&self, start: Start) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let gone = held.segments.partition_point(|segment| segment.base <= start.offset).saturating_sub(1);
        for segment in held.segments.drain(..gone) {
            self.shared.files.forget(segment.id);
        }
        held.start = start;
    }

    /// The last segment's file; an error where the owner has taken back the last batch that was seen in it.
    fn open_seen(&self, writer: &Writer) -> Result<Arc<OpenSegment>> {
        let (segment, path) = (&writer.segment, &writer.segment.path);
        let Some((position, seen)) = writer.seen else {
            // A roll that fails removes its new segment, and the next roll makes another one of that name.
            self.shared.files.forget(segment.id);
            return segment.open(&self.shared);
        };
        let open = segment.open(&self.shared)?;
        let mut header = [0; HEADER_LEN];
        read_full_at(&*open.file, position, &mut header).during("read", path)?;
        let is_whole = open.file.len().during("read", path)? >= writer.len;
        if is_whole && BatchHeader::parse(&header, self.salt) == Some(seen) {
            return Ok(open);
        }
        Err(Error::corrupt(path, position, format!("the batch of offset {} was taken back", seen.base)))
    }

    /// Walks over what is new in the last segment; true where that is complete by now and another one follows.
    fn walk_on(&self, writer: &mut Writer) -> Result<bool> {
        let segment = Arc::clone(&writer.segment);
        let path = &segment.path;
        let open = self.open_seen(writer)?;
        let mut scanner = Scanner::new(&*open.file, self.salt, segment.base).during("read", path)?;
        (scanner.position, scanner.expected) = (writer.len, writer.next);
        let interval = self.shared.config.index_interval_bytes;
        while !scanner.is_at_room().during("read", path)? {
            match scanner.step().during("read", path)? {
                Step::Batch(header) if header.is_seal() => {
                    segment.len.store(scanner.position, std::sync::atomic::Ordering::Relaxed);
                    self.go_on_behind(writer)?;
                    // Kept beside the open file: it says the same as the one that the owner writes.
                    let grown = lock(&segment.growing).take();
                    grown.map(|index| open.index.set(index).ok());
                    return Ok(true);
                }
                Step::Batch(header) => {
                    let entry = Entry { offset: writer.next, position: writer.len, floor_ms: writer.last_ms };
                    if let Some(index) = lock(&segment.growing).as_mut() {
                        index.offer(entry, interval);
                    }
                    writer.seen = Some((writer.len, header));
                    (writer.len, writer.next, writer.last_ms) =
                        (scanner.position, header.end(), header.last_ms);
                    segment.len.store(writer.len, std::sync::atomic::Ordering::Relaxed);
                }
                // On its way to the disk.
                Step::Bad(_) | Step::End => break,
            }
        }
        Ok(false)
    }

    /// Takes on the segment after the last one.
    fn go_on_behind(&self, writer: &mut Writer) -> Result<()> {
        let base = writer.segment.base;
        let later = list_segments(&self.shared, &self.dir)?.into_iter().find(|later| *later > base);
        let missing = || {
            let what = format!("the segment after offset {} is missing", writer.next);
            Error::corrupt(Path::new(&self.dir), 0, what)
        };
        let base = later.ok_or_else(missing)?;
        let path = self.dir.join(segment_name(base));
        let file = self.shared.disk.open(&path, Open::Read).during("open", &path)?;
        let (parsed, _) = read_header(&*file).during("read", &path)?;
        let header = check_header(&path, parsed, &self.identity, base)?;
        if header.prev_end != writer.next {
            return Err(missing());
        }
        let segment = Arc::new(Segment::new(&self.shared, &self.dir, &header, HEADER_LEN as u64, true));
        self.held.write().unwrap_or_else(PoisonError::into_inner).segments.push(Arc::clone(&segment));
        (writer.segment, writer.len, writer.next) = (segment, HEADER_LEN as u64, base);
        writer.seen = None;
        Ok(())
    }
}
