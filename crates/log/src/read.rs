//! Reading a partition: by offset and by time, never past the published end, never a byte that fails its checksum.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::disk::{DiskFile, read_full_at};
use crate::error::{Error, IoContext, Result};
use crate::format::{BatchHeader, HEADER_LEN, decode};
use crate::health::lock;
use crate::index::{Entry, Index};
use crate::partition::{Partition, Segment, write_index};
use crate::record::StoredRecord;
use crate::shared::OpenSegment;

const LEAST_CHUNK: usize = 64 << 10;
const MOST_CHUNK: usize = 1 << 20;

/// Walks batches from a known place on.
struct Batches<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    salt: u32,
    position: u64,
    expected: u64,
    chunk: Bytes,
    chunk_position: u64,
    chunk_len: usize,
}

impl Batches<'_> {
    /// `len` bytes from the position on, without copying them where the chunk has them.
    fn bytes(&mut self, position: u64, len: usize) -> Result<Bytes> {
        let have = self.chunk_position + self.chunk.len() as u64;
        if position < self.chunk_position || position + len as u64 > have {
            let mut chunk = vec![0; self.chunk_len.max(len)];
            let filled = read_full_at(self.file, position, &mut chunk).during("read", self.path)?;
            chunk.truncate(filled);
            self.chunk = chunk.into();
            self.chunk_position = position;
        }
        let from = (position - self.chunk_position) as usize;
        if from + len > self.chunk.len() {
            let what = format!("the file ends before offset {}", self.expected);
            return Err(Error::corrupt(self.path, position, what));
        }
        Ok(self.chunk.slice(from..from + len))
    }

    /// The next batch; `None` at the seal.
    fn next(&mut self) -> Result<Option<(BatchHeader, Bytes)>> {
        let at = self.position;
        let bytes = self.bytes(at, HEADER_LEN)?;
        let header = bytes.as_ref().try_into().ok().and_then(|bytes| BatchHeader::parse(bytes, self.salt));
        let Some(header) = header.filter(|header| header.base == self.expected) else {
            let what = format!("the batch of offset {} is not there", self.expected);
            return Err(Error::corrupt(self.path, at, what));
        };
        if header.is_seal() {
            return Ok(None);
        }
        let body = self.bytes(at + HEADER_LEN as u64, header.body_len as usize)?;
        // invariant I7
        if crc32c::crc32c(&body) != header.body_crc {
            let what = format!("the batch of offset {} does not fit its checksum", self.expected);
            return Err(Error::corrupt(self.path, at, what));
        }
        self.position += header.total_len();
        self.expected = header.end();
        Ok(Some((header, body)))
    }

    fn malformed(&self) -> Error {
        Error::corrupt(
            self.path,
            self.position,
            format!("the batch before offset {} is malformed", self.expected),
        )
    }
}

impl Partition {
    /// Records from `offset` on: about `max_bytes` of payload, at least one record where there is one.
    pub(crate) fn read(&self, offset: u64, max_bytes: usize) -> Result<Vec<StoredRecord>> {
        let end = self.check_range(offset)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        for segment in self.segments_from(|segment| segment.base <= offset) {
            if !records.is_empty() || segment.base >= end {
                break;
            }
            let from = |index: &Index| index.by_offset(offset);
            self.walk(&segment, from, end, max_bytes, |header, body| {
                if header.end() <= offset {
                    return Some(true);
                }
                decode(header, body, |record| {
                    if record.offset >= offset {
                        bytes += record.key.as_ref().map_or(0, Bytes::len);
                        bytes += record.value.as_ref().map_or(0, Bytes::len);
                        bytes += record.headers.iter().map(|(name, _)| name.len()).sum::<usize>();
                        records.push(record);
                    }
                    bytes < max_bytes
                })
                .ok()
                .map(|()| bytes < max_bytes)
            })
            .or_else(|error| self.removed_meanwhile(offset, error))?;
        }
        Ok(records)
    }

    /// Offset of the first record that is not older than `timestamp_ms`.
    pub(crate) fn offset_at(&self, timestamp_ms: i64) -> Result<Option<u64>> {
        let range = self.offsets();
        let mut found = None;
        for segment in self.segments_from(|segment| segment.floor_ms < timestamp_ms) {
            if found.is_some() || segment.base >= range.end {
                break;
            }
            let from = |index: &Index| index.by_time(timestamp_ms);
            self.walk(&segment, from, range.end, LEAST_CHUNK, |header, body| {
                if header.last_ms >= timestamp_ms {
                    decode(header, body, |record| {
                        if record.timestamp_ms >= timestamp_ms {
                            found = Some(record.offset);
                        }
                        found.is_none()
                    })
                    .ok()?;
                }
                Some(found.is_none())
            })
            .or_else(|error| self.removed_meanwhile(segment.base, error))?;
        }
        Ok(found)
    }

    /// The published end, where `offset` may be read.
    fn check_range(&self, offset: u64) -> Result<u64> {
        let range = self.offsets();
        if (range.beginning..=range.end).contains(&offset) {
            return Ok(range.end);
        }
        Err(Error::OffsetOutOfRange {
            topic: self.topic.to_string(),
            partition: self.id,
            offset,
            beginning: range.beginning,
            end: range.end,
        })
    }

    /// A segment may go while it is being read: then its offsets are out of range, not damaged.
    fn removed_meanwhile(&self, offset: u64, error: Error) -> Result<()> {
        self.check_range(offset)?;
        Err(error)
    }

    /// The last segment that `fits` (they all do up to some segment) and those after it.
    fn segments_from(&self, fits: impl Fn(&Segment) -> bool) -> Vec<Arc<Segment>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let first = held.segments.partition_point(|segment| fits(segment)).saturating_sub(1);
        held.segments.get(first..).unwrap_or_default().to_vec()
    }

    /// Hands the batches of a segment to `each` until it answers false, or `None` for a malformed body.
    fn walk(
        &self,
        segment: &Segment,
        from: impl Fn(&Index) -> Option<Entry>,
        end: u64,
        chunk_len: usize,
        mut each: impl FnMut(&BatchHeader, Bytes) -> Option<bool>,
    ) -> Result<()> {
        let growing = lock(&segment.growing).as_ref().map(&from);
        let open = segment.open(&self.shared)?;
        let entry = match growing {
            Some(entry) => entry,
            None => from(self.index_of(segment, &open)?),
        };
        let mut batches = Batches {
            file: &*open.file,
            path: &segment.path,
            salt: self.salt,
            position: entry.map_or(HEADER_LEN as u64, |entry| entry.position),
            expected: entry.map_or(segment.base, |entry| entry.offset),
            chunk: Bytes::new(),
            chunk_position: 0,
            chunk_len: chunk_len.clamp(LEAST_CHUNK, MOST_CHUNK),
        };
        while batches.expected < end {
            let Some((header, body)) = batches.next()? else { break };
            if !each(&header, body).ok_or_else(|| batches.malformed())? {
                break;
            }
        }
        Ok(())
    }

    /// The index of a complete segment: from memory, from its file, or built from the segment.
    fn index_of<'a>(&self, segment: &Segment, open: &'a OpenSegment) -> Result<&'a Index> {
        if let Some(index) = open.index.get() {
            return Ok(index);
        }
        let stored = segment.read_index(&*self.shared.disk, self.salt);
        let index = match stored.filter(|(_, known)| *known == segment.len()) {
            Some((index, _)) => index,
            None => {
                let path = segment.index_path();
                tracing::info!(path = %path.display(), "index missing or not this segment's, building it");
                let index = self.build_index(segment, open)?;
                write_index(&self.shared, segment, &index, self.salt, segment.len());
                index
            }
        };
        Ok(open.index.get_or_init(|| index))
    }

    fn build_index(&self, segment: &Segment, open: &OpenSegment) -> Result<Index> {
        let mut batches = Batches {
            file: &*open.file,
            path: &segment.path,
            salt: self.salt,
            position: HEADER_LEN as u64,
            expected: segment.base,
            chunk: Bytes::new(),
            chunk_position: 0,
            chunk_len: MOST_CHUNK,
        };
        let mut index = Index::default();
        loop {
            let (position, offset) = (batches.position, batches.expected);
            let Some((header, _)) = batches.next()? else { return Ok(index) };
            let entry = Entry { offset, position, floor_ms: header.floor_ms };
            index.offer(entry, self.shared.config.index_interval_bytes);
        }
    }
}
