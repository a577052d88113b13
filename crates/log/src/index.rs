//! The sparse index of a segment: where a batch stands every so many bytes, by offset and by time.
//!
//! The newest segment's is kept in memory, and written now and then for those who look on beside (see `view`), and at a
//! close. A complete segment's is written beside it. As `<base>.idx` it is only ever a shortcut: it says which segment it
//! belongs to and how much of that it knows, and is built anew from the segment where it is missing, damaged or about other
//! bytes, so that no crash can hurt it. A segment grows only behind what its index knows; where recovery cuts it, its
//! index goes.
//!
//! ```text
//!  0  8  magic "pinmidx\0"     8  4  partition's salt     12  4  CRC32C of everything after this field
//! 16  8  segment's base       24  8  length it knows      32 24  for each entry: offset, position, newest time stamp before it
//! ```

use bytes::{Buf, BufMut};

const MAGIC: [u8; 8] = *b"pinmidx\0";
const ENTRY_LEN: usize = 24;
const PREFIX_LEN: usize = 32;

/// One batch's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    /// Newest time stamp before the batch.
    pub(crate) floor_ms: i64,
}

/// Places of some batches, ascending in every column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Takes the entry where it lies at least `interval` bytes after the last one.
    pub(crate) fn offer(&mut self, entry: Entry, interval: u64) {
        if self.entries.last().is_none_or(|last| entry.position >= last.position + interval) {
            self.entries.push(entry);
        }
    }

    /// The last entry at or before `offset`.
    pub(crate) fn by_offset(&self, offset: u64) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// The last entry before which everything is older than `timestamp_ms`.
    pub(crate) fn by_time(&self, timestamp_ms: i64) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.floor_ms < timestamp_ms);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// The bytes of the file, for a segment of which the first `known` bytes are indexed.
    pub(crate) fn encode(&self, salt: u32, base: u64, known: u64) -> Vec<u8> {
        let mut summed = Vec::with_capacity(16 + self.entries.len() * ENTRY_LEN);
        summed.put_u64_le(base);
        summed.put_u64_le(known);
        for entry in &self.entries {
            summed.put_u64_le(entry.offset);
            summed.put_u64_le(entry.position);
            summed.put_i64_le(entry.floor_ms);
        }
        let mut bytes = Vec::with_capacity(16 + summed.len());
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(salt);
        bytes.put_u32_le(crc32c::crc32c(&summed));
        bytes.put_slice(&summed);
        bytes
    }

    /// The entry that lies furthest behind.
    pub(crate) fn last(&self) -> Option<Entry> {
        self.entries.last().copied()
    }

    /// The index of a segment, and how many bytes of that it knows. `None` where it is not that segment's.
    pub(crate) fn decode(bytes: &[u8], salt: u32, base: u64) -> Option<(Self, u64)> {
        if bytes.len() < PREFIX_LEN || !(bytes.len() - PREFIX_LEN).is_multiple_of(ENTRY_LEN) {
            return None;
        }
        let (mut prefix, summed) = bytes.split_at_checked(16)?;
        let magic_fits = prefix.copy_to_bytes(8) == MAGIC.as_slice();
        let salt_fits = prefix.get_u32_le() == salt;
        if !magic_fits || !salt_fits || prefix.get_u32_le() != crc32c::crc32c(summed) {
            return None;
        }
        let mut input = summed;
        if input.get_u64_le() != base {
            return None;
        }
        let known = input.get_u64_le();
        let mut entries = Vec::with_capacity(input.len() / ENTRY_LEN);
        while input.has_remaining() {
            entries.push(Entry {
                offset: input.get_u64_le(),
                position: input.get_u64_le(),
                floor_ms: input.get_i64_le(),
            });
        }
        Some((Self { entries }, known))
    }
}
