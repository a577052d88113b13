//! The bytes of a segment file. All numbers are little-endian.
//!
//! A segment is a 64-byte header and record batches behind one another, one batch an append; while it is written, zeros
//! may stand behind the last batch up to the end of the file:
//!
//! ```text
//! segment header                                  batch header
//!  0  8  magic "pinmlog\0"                         0  4  magic "pmb1"
//!  8  4  format version                            4  4  CRC32C of this header, seeded by the partition
//! 12  4  CRC32C of the other 60 bytes              8  4  length of the body
//! 16 16  generation of the topic (UUID)           12  4  CRC32C of the body
//! 32  4  partition                                16  8  offset of the first record
//! 36  4  zero                                     24  4  number of records
//! 40  8  offset of the first record               28  4  flags (1: seal, the segment is complete)
//! 48  8  end of the segment before this one       32  8  end offset that was durable when this was written
//! 56  8  newest time stamp before this segment    40  8  newest time stamp before this batch
//!                                                 48  8  when it was appended
//!                                                 56  8  newest time stamp in this batch
//! ```
//!
//! Records in a body: attributes (1: key, 2: value, 4: time stamp), `i64` time stamp, `u32` length and bytes of key and of
//! value, each where present; `u16` number of headers, each `u16` length and bytes of the name, `u32` length
//! (`u32::MAX`: null) and bytes of the value.
//!
//! Two checksums, because the body is summed by the caller's task and the header, which says the offset, by the
//! committer. The header's is seeded with generation and partition: a page that was moved, repeated or swapped with
//! another file does not pass, since it says another offset or belongs to another partition.
//! Stamps are kept as given and settled by a pure rule from the header (see [`decode`]), so that the body need not be
//! touched when its place in time becomes known.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes};

use crate::error::{Error, Result};
use crate::record::{Record, StoredRecord};

/// Format version of segments and of the folder.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Length of both headers.
pub(crate) const HEADER_LEN: usize = 64;
/// First bytes of a batch; a scan for survivors looks for them.
pub(crate) const BATCH_MAGIC: [u8; 4] = *b"pmb1";
const SEGMENT_MAGIC: [u8; 8] = *b"pinmlog\0";
const FLAG_SEAL: u32 = 1;

const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;
const HAS_TIMESTAMP: u8 = 4;
const NULL: u32 = u32::MAX;

/// Which partition of which incarnation of a topic bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) generation: [u8; 16],
    pub(crate) partition: u32,
}

impl Identity {
    /// The log's own partition, of readers' positions, belongs to no topic.
    pub(crate) const POSITIONS: Self = Self { generation: [0; 16], partition: u32::MAX };

    /// Seeds the checksum of batch headers.
    pub(crate) fn salt(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.generation), &self.partition.to_le_bytes())
    }
}

/// The first 64 bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    /// Offset of the first record.
    pub(crate) base: u64,
    /// End of the segment before; less than `base` where offsets were skipped.
    pub(crate) prev_end: u64,
    /// Newest time stamp before this segment.
    pub(crate) floor_ms: i64,
}

/// Why 64 bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Newer(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&SEGMENT_MAGIC);
        out.put_u32_le(FORMAT_VERSION);
        out.put_u32_le(0);
        out.put_slice(&self.identity.generation);
        out.put_u32_le(self.identity.partition);
        out.put_u32_le(0);
        out.put_u64_le(self.base);
        out.put_u64_le(self.prev_end);
        out.put_i64_le(self.floor_ms);
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BadHeader> {
        let mut summed = *bytes;
        summed[12..16].fill(0);
        let mut input = bytes.as_slice();
        let magic_fits = input.copy_to_bytes(8) == SEGMENT_MAGIC.as_slice();
        let version = input.get_u32_le();
        if input.get_u32_le() != crc32c::crc32c(&summed) || !magic_fits {
            return Err(BadHeader::Damaged);
        }
        if version != FORMAT_VERSION {
            return Err(BadHeader::Newer(version));
        }
        let mut generation = [0; 16];
        input.copy_to_slice(&mut generation);
        let partition = input.get_u32_le();
        input.advance(4);
        Ok(Self {
            identity: Identity { generation, partition },
            base: input.get_u64_le(),
            prev_end: input.get_u64_le(),
            floor_ms: input.get_i64_le(),
        })
    }
}

/// The 64 bytes before a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) base: u64,
    pub(crate) count: u32,
    pub(crate) flags: u32,
    /// Everything before this offset was durable when this batch was written: where this batch stands, damage
    /// before that offset hit acknowledged records. The first batch of a group commit says its own offset.
    pub(crate) durable_end: u64,
    pub(crate) floor_ms: i64,
    pub(crate) append_ms: i64,
    pub(crate) last_ms: i64,
}

impl BatchHeader {
    /// The batch without records that closes a segment.
    pub(crate) fn seal(end: u64, last_ms: i64) -> Self {
        Self {
            body_len: 0,
            body_crc: 0,
            base: end,
            count: 0,
            flags: FLAG_SEAL,
            durable_end: end,
            floor_ms: last_ms,
            append_ms: last_ms,
            last_ms,
        }
    }

    pub(crate) fn is_seal(&self) -> bool {
        self.flags & FLAG_SEAL != 0
    }

    /// Offset after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }

    /// Header and body, in bytes.
    pub(crate) fn total_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.body_len)
    }

    pub(crate) fn encode(&self, salt: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&BATCH_MAGIC);
        out.put_u32_le(0);
        out.put_u32_le(self.body_len);
        out.put_u32_le(self.body_crc);
        out.put_u64_le(self.base);
        out.put_u32_le(self.count);
        out.put_u32_le(self.flags);
        out.put_u64_le(self.durable_end);
        out.put_i64_le(self.floor_ms);
        out.put_i64_le(self.append_ms);
        out.put_i64_le(self.last_ms);
        let crc = crc32c::crc32c_append(salt, &bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` where the checksum, seeded with `salt`, does not fit.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN], salt: u32) -> Option<Self> {
        if !bytes.starts_with(&BATCH_MAGIC) {
            return None;
        }
        let mut summed = *bytes;
        summed[4..8].fill(0);
        let mut input = bytes.as_slice();
        input.advance(4);
        if input.get_u32_le() != crc32c::crc32c_append(salt, &summed) {
            return None;
        }
        let header = Self {
            body_len: input.get_u32_le(),
            body_crc: input.get_u32_le(),
            base: input.get_u64_le(),
            count: input.get_u32_le(),
            flags: input.get_u32_le(),
            durable_end: input.get_u64_le(),
            floor_ms: input.get_i64_le(),
            append_ms: input.get_i64_le(),
            last_ms: input.get_i64_le(),
        };
        (header.base.checked_add(u64::from(header.count)).is_some()).then_some(header)
    }
}

/// The batch of one append, all but its place in the log.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Header (blank until [`Encoded::settle`]) and body.
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
    body_crc: u32,
    /// The greatest stamp given; `i64::MAX` where the log is to stamp a record.
    greatest_ms: i64,
}

impl Encoded {
    /// Writes the header; returns the newest time stamp in the batch.
    pub(crate) fn settle(
        &mut self,
        salt: u32,
        base: u64,
        durable_end: u64,
        floor_ms: i64,
        now_ms: i64,
    ) -> i64 {
        let last_ms = self.greatest_ms.min(now_ms).max(floor_ms);
        let header = BatchHeader {
            body_len: (self.bytes.len() - HEADER_LEN) as u32,
            body_crc: self.body_crc,
            base,
            count: self.count,
            flags: 0,
            durable_end,
            floor_ms,
            append_ms: now_ms,
            last_ms,
        };
        self.bytes[..HEADER_LEN].copy_from_slice(&header.encode(salt));
        last_ms
    }
}

/// Key, value and headers together, in bytes.
fn payload_len(record: &Record) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
    len(&record.key) + len(&record.value) + headers
}

/// Encodes the records of one append.
pub(crate) fn encode(records: &[Record], max_record: usize, max_batch: usize) -> Result<Encoded> {
    let mut total = HEADER_LEN;
    for record in records {
        let bytes = payload_len(record);
        let too_many_headers = record.headers.len() > usize::from(u16::MAX);
        let name_too_long = record.headers.iter().any(|(name, _)| name.len() > usize::from(u16::MAX));
        if bytes > max_record || too_many_headers || name_too_long {
            return Err(Error::RecordTooLarge { bytes, limit: max_record });
        }
        total += 1 + 8 + 4 + 4 + 2 + record.headers.len() * 6 + bytes;
    }
    if total > max_batch || total > u32::MAX as usize {
        return Err(Error::BatchTooLarge { bytes: total, limit: max_batch });
    }
    let mut bytes = Vec::with_capacity(total);
    bytes.resize(HEADER_LEN, 0);
    for record in records {
        put_record(&mut bytes, record);
    }
    Ok(Encoded {
        body_crc: crc32c::crc32c(bytes.get(HEADER_LEN..).unwrap_or_default()),
        count: records.len() as u32,
        greatest_ms: records.iter().map(|r| r.timestamp_ms.unwrap_or(i64::MAX)).max().unwrap_or(i64::MIN),
        bytes,
    })
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    out.put_u8(
        flag(record.key.is_some(), HAS_KEY)
            | flag(record.value.is_some(), HAS_VALUE)
            | flag(record.timestamp_ms.is_some(), HAS_TIMESTAMP),
    );
    if let Some(timestamp) = record.timestamp_ms {
        out.put_i64_le(timestamp);
    }
    for payload in [&record.key, &record.value].into_iter().flatten() {
        out.put_u32_le(payload.len() as u32);
        out.put_slice(payload);
    }
    out.put_u16_le(record.headers.len() as u16);
    for (name, value) in &record.headers {
        out.put_u16_le(name.len() as u16);
        out.put_slice(name.as_bytes());
        out.put_u32_le(value.as_ref().map_or(NULL, |value| value.len() as u32));
        out.put_slice(value.as_deref().unwrap_or_default());
    }
}

/// A body that its checksum calls right and that still is not what a writer of this format makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Hands the records of a batch to `each`, in order, until it answers false.
///
/// Stamps: a record's is the one given, but no later than the append and no earlier than the record before it.
pub(crate) fn decode(
    header: &BatchHeader,
    mut body: Bytes,
    mut each: impl FnMut(StoredRecord) -> bool,
) -> Result<(), Malformed> {
    let mut newest_ms = header.floor_ms;
    for index in 0..header.count {
        let record = take_record(&mut body).map_err(|_| Malformed)?;
        newest_ms = record.timestamp_ms.unwrap_or(i64::MAX).min(header.append_ms).max(newest_ms);
        let stored = StoredRecord {
            offset: header.base + u64::from(index),
            timestamp_ms: newest_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        if !each(stored) {
            return Ok(());
        }
    }
    if body.is_empty() { Ok(()) } else { Err(Malformed) }
}

fn take_record(body: &mut Bytes) -> Result<Record, Malformed> {
    let attributes = body.try_get_u8().map_err(|_| Malformed)?;
    let mut record = Record::default();
    if attributes & HAS_TIMESTAMP != 0 {
        record.timestamp_ms = Some(body.try_get_i64_le().map_err(|_| Malformed)?);
    }
    if attributes & HAS_KEY != 0 {
        let len = body.try_get_u32_le().map_err(|_| Malformed)?;
        record.key = Some(take(body, len as usize)?);
    }
    if attributes & HAS_VALUE != 0 {
        let len = body.try_get_u32_le().map_err(|_| Malformed)?;
        record.value = Some(take(body, len as usize)?);
    }
    for _ in 0..body.try_get_u16_le().map_err(|_| Malformed)? {
        let len = body.try_get_u16_le().map_err(|_| Malformed)?;
        let name = String::from_utf8(take(body, usize::from(len))?.to_vec()).map_err(|_| Malformed)?;
        let value = match body.try_get_u32_le().map_err(|_| Malformed)? {
            NULL => None,
            len => Some(take(body, len as usize)?),
        };
        record.headers.push((name, value));
    }
    Ok(record)
}

/// The next `len` bytes, without copying them.
fn take(body: &mut Bytes, len: usize) -> Result<Bytes, Malformed> {
    if len > body.len() { Err(Malformed) } else { Ok(body.split_to(len)) }
}

/// Name of the segment whose first record has the offset `base`.
pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The offset in a segment's name.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The first 64 bytes of `file` as a segment header, checked against its name and its partition.
pub(crate) fn check_header(
    path: &Path,
    parsed: Result<SegmentHeader, BadHeader>,
    identity: &Identity,
    base: u64,
) -> Result<SegmentHeader> {
    match parsed {
        Err(BadHeader::Newer(found)) => {
            Err(Error::FormatTooNew { file: path.to_path_buf(), found, known: FORMAT_VERSION })
        }
        Err(BadHeader::Damaged) => Err(Error::corrupt(path, 0, "the segment's header is damaged")),
        Ok(header) if header.identity != *identity => {
            Err(Error::corrupt(path, 0, "the segment belongs to another topic or partition"))
        }
        Ok(header) if header.base != base => Err(Error::corrupt(
            path,
            0,
            format!("the segment says it begins at offset {}, its name says {base}", header.base),
        )),
        Ok(header) => Ok(header),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_600_000_000_000;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn record() -> impl Strategy<Value = Record> {
        let header = ("[a-zé]{0,5}", proptest::option::of(bytes()));
        (
            proptest::option::of(bytes()),
            proptest::option::of(bytes()),
            proptest::collection::vec(header, 0..4),
            proptest::option::of(prop_oneof![any::<i64>(), NOW - 9..NOW + 9]),
        )
            .prop_map(|(key, value, headers, timestamp_ms)| Record {
                key,
                value,
                headers,
                timestamp_ms,
            })
    }

    /// Settles and takes apart what was encoded.
    fn round_trip(
        records: &[Record],
        salt: u32,
        base: u64,
        floor_ms: i64,
    ) -> (BatchHeader, Vec<StoredRecord>) {
        let mut encoded = encode(records, 1 << 20, 1 << 20).unwrap();
        let last_ms = encoded.settle(salt, base, base, floor_ms, NOW);
        let (header, body) = encoded.bytes.split_first_chunk().unwrap();
        let header = BatchHeader::parse(header, salt).unwrap();
        assert_eq!(header.last_ms, last_ms);
        assert_eq!(header.total_len(), encoded.bytes.len() as u64);
        assert_eq!(header.body_crc, crc32c::crc32c(body));
        let mut stored = Vec::new();
        decode(&header, Bytes::copy_from_slice(body), |record| {
            stored.push(record);
            true
        })
        .unwrap();
        (header, stored)
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(256))]

        #[test]
        fn records_come_back_as_they_were(
            records in proptest::collection::vec(record(), 1..6),
            salt: u32,
            base in 0..u64::MAX / 2,
            floor_ms in prop_oneof![Just(i64::MIN), NOW - 5..NOW + 5],
        ) {
            let (header, stored) = round_trip(&records, salt, base, floor_ms);
            prop_assert_eq!(header.end(), base + records.len() as u64);
            let mut newest_ms = floor_ms;
            for ((record, stored), offset) in records.iter().zip(&stored).zip(base..) {
                prop_assert_eq!(stored.offset, offset);
                let same = (&record.key, &record.value, &record.headers);
                prop_assert_eq!((&stored.key, &stored.value, &stored.headers), same);
                let given = record.timestamp_ms.unwrap_or(NOW).min(NOW.max(floor_ms));
                newest_ms = newest_ms.max(given);
                prop_assert_eq!(stored.timestamp_ms, newest_ms);
            }
            prop_assert_eq!(header.last_ms, newest_ms);
        }

        #[test]
        fn a_header_is_only_right_for_its_own_partition(generation: [u8; 16], a: u32, b: u32, at in 0..64_usize) {
            prop_assume!(a != b);
            let salt = |partition| Identity { generation, partition }.salt();
            let mut bytes = BatchHeader::seal(7, 8).encode(salt(a));
            prop_assert!(BatchHeader::parse(&bytes, salt(a)).is_some_and(|header| header.is_seal()));
            prop_assert_eq!(BatchHeader::parse(&bytes, salt(b)), None);
            bytes[at] ^= 0x10;
            prop_assert_eq!(BatchHeader::parse(&bytes, salt(a)), None);
        }

        #[test]
        fn a_segment_header_comes_back_and_notices_a_change(
            generation: [u8; 16], partition: u32, base: u64, prev_end: u64, floor_ms: i64, at in 0..64_usize,
        ) {
            let header =
                SegmentHeader { identity: Identity { generation, partition }, base, prev_end, floor_ms };
            let mut bytes = header.encode();
            prop_assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
            bytes[at] ^= 0x04;
            prop_assert_eq!(SegmentHeader::parse(&bytes), Err(BadHeader::Damaged));
        }

        #[test]
        fn any_bytes_are_records_or_refused_without_a_panic(body in bytes(), count in 0..10_u32) {
            let header = BatchHeader { count, ..BatchHeader::seal(0, 0) };
            let mut records = 0;
            let whole = decode(&header, body, |_| { records += 1; true });
            prop_assert!(whole.is_err() || records == count);
        }

        #[test]
        fn segment_names_sort_like_offsets(a: u64, b: u64) {
            prop_assert_eq!(base_of(&segment_name(a)), Some(a));
            prop_assert_eq!(segment_name(a).cmp(&segment_name(b)), a.cmp(&b));
        }
    }

    /// Data directories of released versions must open for ever: these are the bytes of format 1.
    #[test]
    fn the_bytes_of_format_1_do_not_change() {
        let identity = Identity { generation: *b"0123456789abcdef", partition: 3 };
        let segment = SegmentHeader { identity, base: 5, prev_end: 4, floor_ms: 6 }.encode();
        let record = Record {
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![("h".into(), None)],
            timestamp_ms: Some(7),
        };
        let mut batch = encode(&[record], 100, 1_000).unwrap();
        batch.settle(identity.salt(), 5, 5, 6, 9);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&segment), SEGMENT_1);
        assert_eq!(hex(&batch.bytes), BATCH_1);
    }

    const SEGMENT_1: &str = concat!(
        "70696e6d6c6f67000100000075bd4e5e30313233343536373839616263646566",
        "0300000000000000050000000000000004000000000000000600000000000000",
    );
    const BATCH_1: &str = concat!(
        "706d6231e516edc91c00000030fefdfd05000000000000000100000000000000",
        "0500000000000000060000000000000009000000000000000700000000000000",
        "070700000000000000010000006b01000000760100010068ffffffff",
    );
}
