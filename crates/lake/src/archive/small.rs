//! Small objects of an archive, which are read together. Pure.

use std::io::{self, Read};

use bytes::Bytes;

use super::split::{Cursor, ObjectState, decoder};
use super::{ArchivedObject, Chunk, Manifest, cut, line};
use crate::{Error, RangeSum, Result};

/// One object about to be read.
pub(super) struct Item {
    pub(super) object: ArchivedObject,
    pub(super) relative: String,
    pub(super) manifest: Option<Manifest>,
    /// The whole object, where it was fetched beforehand.
    pub(super) data: Option<Bytes>,
}

/// Why an object whose name does not promise it is not read.
pub(super) const NOT_JSON: &str = "its values are not lines of JSON";

/// Small objects that become one chunk.
#[derive(Default)]
pub(super) struct Small {
    pub(super) chunk: Chunk,
    pub(super) data: Vec<u8>,
    pub(super) unwrapped: Vec<(usize, Vec<u8>)>,
}

impl Small {
    /// Adds an object wholly, or nothing of it.
    pub(super) fn add(&mut self, mut item: Item, cursor: &mut Cursor) -> Result<()> {
        let corrupt = |reason: String| Error::corrupt(&item.relative, reason);
        let mut reader = io::Cursor::new(item.data.take().unwrap_or_default());
        let mut reader = decoder(&mut reader, item.object.compression).map_err(|e| corrupt(e.to_string()))?;
        let mut object =
            ObjectState::new(item.object.first_offset, item.object.modified_us, item.manifest.take());
        let base = self.data.len();
        // Small when stored may be large when decompressed.
        let limit = cut::MAX_LINE as u64;
        let read = reader.by_ref().take(limit + 1).read_to_end(&mut self.data);
        let added = read.map_err(|e| format!("cannot be read: {e}")).and_then(|read| {
            if read as u64 > limit {
                return Err(format!("a small object that holds more than {limit} bytes"));
            }
            if item.object.bytes && !line::begins_with_json(&self.data[base..]) {
                return Err(NOT_JSON.to_owned());
            }
            if !self.data.ends_with(b"\n") {
                self.data.push(b'\n');
            }
            let before = Mark::of(&self.chunk, cursor);
            let split = cursor.split(&mut object, &self.data[base..], base, &mut self.chunk);
            let checked = split.and_then(|unwrapped| object.check().map(|()| unwrapped));
            checked.inspect_err(|_| before.go_back(&mut self.chunk, cursor))
        });
        match added {
            Ok(unwrapped) => {
                self.unwrapped.extend(unwrapped);
                self.chunk.objects += 1;
                Ok(())
            }
            Err(reason) => {
                self.data.truncate(base);
                Err(corrupt(reason))
            }
        }
    }
}

/// How far a chunk had come before an object.
struct Mark {
    records: usize,
    gaps: usize,
    sum: RangeSum,
    skipped: u64,
    repeated: u64,
    expected: u64,
}

impl Mark {
    fn of(chunk: &Chunk, cursor: &Cursor) -> Self {
        let Chunk { records, gaps, sum, skipped, repeated, .. } = chunk;
        let (records, gaps, expected) = (records.len(), gaps.len(), cursor.expected);
        Self { records, gaps, sum: *sum, skipped: *skipped, repeated: *repeated, expected }
    }

    fn go_back(self, chunk: &mut Chunk, cursor: &mut Cursor) {
        chunk.records.truncate(self.records);
        chunk.gaps.truncate(self.gaps);
        (chunk.sum, chunk.skipped, chunk.repeated) = (self.sum, self.skipped, self.repeated);
        cursor.expected = self.expected;
    }
}
