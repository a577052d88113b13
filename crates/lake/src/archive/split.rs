//! From blocks of lines to records: offsets, times, hashes, and what must be left out.

use std::io::Read;
use std::ops::Range;

use bytes::Bytes;

use super::{Chunk, Compression, Gap, Manifest, RecordAt, line};
use crate::{RangeSum, record_hash};

/// Reads through the object's compression.
pub(super) fn decoder<'a>(
    reader: impl Read + 'a,
    compression: Compression,
) -> std::io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(reader)?),
    })
}

/// Walks through the records of one partition, object after object, and remembers which offset comes next.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Where the caller wants to go on: records below it are not news.
    pub(super) from: u64,
    /// Records below it were read before, from this object or an earlier one.
    pub(super) expected: u64,
}

/// Where one object stands while it is read.
pub(super) struct ObjectState {
    first_offset: u64,
    manifest: Option<Manifest>,
    modified_us: i64,
    index: usize,
    sum: RangeSum,
}

impl ObjectState {
    pub(super) fn new(first_offset: u64, modified_us: i64, manifest: Option<Manifest>) -> Self {
        Self { first_offset, manifest, modified_us, index: 0, sum: RangeSum::default() }
    }

    /// Offset and time of the next line; an error when the object holds more lines than its manifest says.
    fn next(&mut self) -> Result<(u64, i64), String> {
        let index = self.index;
        self.index += 1;
        match &self.manifest {
            None => Ok((self.first_offset + index as u64, self.modified_us)),
            Some(manifest) => match manifest.timestamps_ms.get(index) {
                Some(ms) => Ok((manifest.offset(index), ms.saturating_mul(1000))),
                None => Err(format!("it holds more than the {} records of its manifest", manifest.sum.count)),
            },
        }
    }

    /// At the object's end: are these the records of its manifest?
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.manifest {
            Some(manifest) if manifest.sum != self.sum => Err(format!(
                "it holds {} records with hash {:016x}, its manifest says {} with {:016x}",
                self.sum.count, self.sum.hash, manifest.sum.count, manifest.sum.hash
            )),
            _ => Ok(()),
        }
    }
}

impl Cursor {
    /// Adds the records of a block of whole lines, which lies at `base` in the chunk's data, to the chunk.
    ///
    /// Returns the values that had to be unwrapped, with the index of their record: they are no part of the block.
    pub(super) fn split(
        &mut self,
        object: &mut ObjectState,
        block: &[u8],
        base: usize,
        chunk: &mut Chunk,
    ) -> Result<Vec<(usize, Vec<u8>)>, String> {
        let mut unwrapped = Vec::new();
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', block).chain((!block.ends_with(b"\n")).then_some(block.len()));
        for end in ends {
            let mut line = &block[start..end];
            let at = start;
            start = end + 1;
            if let [rest @ .., b'\r'] = line {
                line = rest;
            }
            if line.is_empty() {
                continue;
            }
            let value = if line::is_wrapped(line) { line::unwrap(line) } else { Some(line.into()) };
            let (offset, ingested_at_us) = object.next()?;
            let hash = record_hash(offset, value.as_deref());
            object.sum.add_hashed(offset, hash);
            if !self.take(offset, chunk) {
                continue;
            }
            chunk.sum.add_hashed(offset, hash);
            let span = span(base + at, line.len())?;
            let tombstone = value.is_none();
            if let Some(std::borrow::Cow::Owned(bytes)) = value {
                unwrapped.push((chunk.records.len(), bytes));
            }
            chunk.records.push(RecordAt {
                offset,
                ingested_at_us,
                start: span.start,
                end: span.end,
                tombstone,
            });
        }
        Ok(unwrapped)
    }

    /// Is this record to be read? Notes what was skipped and what is missing.
    fn take(&mut self, offset: u64, chunk: &mut Chunk) -> bool {
        if offset < self.expected {
            chunk.skipped += 1;
            chunk.repeated += u64::from(offset >= self.from);
            return false;
        }
        if offset > self.expected {
            chunk.gaps.push(Gap { from: self.expected, to: offset });
        }
        self.expected = offset.saturating_add(1);
        true
    }
}

fn span(start: usize, len: usize) -> Result<Range<u32>, String> {
    let too_large = |_| "a chunk of more than 4 GiB".to_owned();
    Ok(u32::try_from(start).map_err(too_large)?..u32::try_from(start + len).map_err(too_large)?)
}

/// Puts unwrapped values behind the chunk's data, so that each record is still a part of one buffer.
pub(super) fn append_unwrapped(
    data: Bytes,
    unwrapped: Vec<(usize, Vec<u8>)>,
    records: &mut [RecordAt],
) -> Result<Bytes, String> {
    if unwrapped.is_empty() {
        return Ok(data);
    }
    let extra: usize = unwrapped.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut all = Vec::with_capacity(data.len() + extra);
    all.extend_from_slice(&data);
    for (index, bytes) in unwrapped {
        let span = span(all.len(), bytes.len())?;
        all.extend_from_slice(&bytes);
        if let Some(record) = records.get_mut(index) {
            (record.start, record.end) = (span.start, span.end);
        }
    }
    Ok(all.into())
}
