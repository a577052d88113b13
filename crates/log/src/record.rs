//! Records as callers give and get them.

use bytes::Bytes;

/// One event as a caller gives it. Payloads are opaque bytes to the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The partitioning key; `None` is a record without a key.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the order they were given; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since the Unix epoch; `None` lets the log stamp it. A stamp that lies before the partition's
    /// newest or after the log's clock is moved there: time never goes backwards in a partition, nor ahead.
    pub timestamp_ms: Option<i64>,
}

/// A record as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Position in its partition; grows by one from record to record, with gaps where a repair lost some.
    pub offset: u64,
    /// Milliseconds since the Unix epoch, never less than that of the record before it.
    pub timestamp_ms: i64,
    /// The partitioning key.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the order they were given.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Where an append went: its records have the offsets `base_offset..base_offset + count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: u64,
    /// Number of records.
    pub count: u32,
}

/// Half-open range of the offsets that a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// Offset of the oldest record still held (equal to `end` when there is none).
    pub beginning: u64,
    /// Offset that the next record will get.
    pub end: u64,
}
