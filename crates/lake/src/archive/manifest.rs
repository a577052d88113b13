//! The manifest: what a data object holds that its lines do not say.
//!
//! # Format
//!
//! `_pinmill/<topics directory>/<topic>/partition=<p>/<data object's name>.manifest`, one JSON object:
//!
//! ```text
//! {"version":1, "generation":"…"?, "first":0, "last":9, "count":10, "hash":"<16 hex>",
//!  "bytes":<size of the lines, uncompressed>,
//!  "timestamps":"<deltas>", "offsets":"<deltas>"?}
//! ```
//!
//! `timestamps` are the milliseconds at which the log took each record, `offsets` each record's offset; the latter
//! is there only where offsets have gaps. Deltas: differences to the number before (the first to 0), zigzag, LEB128,
//! zstd, base64. Names beginning with `_` are passed over by Spark, Hive and the like.
//!
//! Fields may be added; a reader refuses a `version` it does not know.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::RangeSum;

const VERSION: u32 = 1;
/// No object holds more records than this: it bounds what a damaged manifest can make a reader allocate.
pub const MAX_OBJECT_RECORDS: u64 = 50_000_000;
const LEVEL: i32 = 3;

/// What is known of a data object beside its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The topic's generation, where the log has one.
    pub generation: Option<String>,
    /// Count, offsets and hash of all records.
    pub sum: RangeSum,
    /// Size of the lines with their line breaks, uncompressed.
    pub bytes: u64,
    /// When the log took each record, in milliseconds since the Unix epoch.
    pub timestamps_ms: Vec<i64>,
    /// Each record's offset; empty when they are `first`, `first + 1`, …
    pub offsets: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<String>,
    #[serde(flatten)]
    sum: RangeSum,
    bytes: u64,
    timestamps: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offsets: Option<String>,
}

impl Manifest {
    /// The offset of the record at `index`.
    pub fn offset(&self, index: usize) -> u64 {
        self.offsets.get(index).copied().unwrap_or(self.sum.first + index as u64)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let offsets =
            (!self.offsets.is_empty()).then(|| pack(self.offsets.iter().map(|&offset| offset as i64)));
        let wire = Wire {
            version: VERSION,
            generation: self.generation.clone(),
            sum: self.sum,
            bytes: self.bytes,
            timestamps: pack(self.timestamps_ms.iter().copied()),
            offsets,
        };
        // Plain strings and numbers: nothing in it can fail to become JSON.
        let mut text = serde_json::to_vec(&wire).unwrap_or_default();
        text.push(b'\n');
        text
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|e| format!("not a manifest: {e}"))?;
        if wire.version != VERSION {
            return Err(format!(
                "manifest version {} is newer than this pinmill knows ({VERSION})",
                wire.version
            ));
        }
        if wire.sum.count == 0 || wire.sum.count > MAX_OBJECT_RECORDS {
            return Err(format!("a manifest of {} records", wire.sum.count));
        }
        let timestamps_ms =
            unpack(&wire.timestamps, wire.sum.count).map_err(|e| format!("timestamps: {e}"))?;
        let offsets = match &wire.offsets {
            None => Vec::new(),
            Some(packed) => {
                let numbers = unpack(packed, wire.sum.count).map_err(|e| format!("offsets: {e}"))?;
                numbers.into_iter().map(|number| number as u64).collect()
            }
        };
        let manifest =
            Self { generation: wire.generation, sum: wire.sum, bytes: wire.bytes, timestamps_ms, offsets };
        manifest.check()?;
        Ok(manifest)
    }

    /// Offsets must ascend from `first` to `last`.
    fn check(&self) -> Result<(), String> {
        let RangeSum { first, last, count, .. } = self.sum;
        let end = match self.offsets.last() {
            None => first.checked_add(count - 1),
            Some(&end) => Some(end).filter(|_| self.offsets.is_sorted_by(|a, b| a < b)),
        };
        match self.offset(0) == first && end == Some(last) {
            true => Ok(()),
            false => Err(format!("offsets do not run from {first} to {last}")),
        }
    }
}

fn pack(numbers: impl Iterator<Item = i64>) -> String {
    let mut bytes = Vec::new();
    let mut previous = 0_i64;
    for number in numbers {
        let delta = number.wrapping_sub(previous);
        previous = number;
        let mut zigzag = ((delta << 1) ^ (delta >> 63)) as u64;
        while zigzag >= 0x80 {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
    }
    // Compression into memory does not fail; if it did, the reader would name the manifest.
    STANDARD.encode(zstd::bulk::compress(&bytes, LEVEL).unwrap_or_default())
}

fn unpack(text: &str, count: u64) -> Result<Vec<i64>, String> {
    let count = usize::try_from(count).map_err(|e| e.to_string())?;
    let packed = STANDARD.decode(text).map_err(|e| e.to_string())?;
    // A LEB128 number of 64 bits takes 10 bytes at most.
    let bytes = zstd::bulk::decompress(&packed, count * 10).map_err(|e| e.to_string())?;
    let mut numbers = Vec::with_capacity(count.min(bytes.len()));
    let (mut previous, mut zigzag, mut shift) = (0_i64, 0_u64, 0_u32);
    for byte in bytes {
        if shift > 63 {
            return Err("a number of more than 64 bits".into());
        }
        zigzag |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            previous = previous.wrapping_add(((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64));
            numbers.push(previous);
            (zigzag, shift) = (0, 0);
        }
    }
    match shift == 0 && numbers.len() == count {
        true => Ok(numbers),
        false => Err(format!("{} numbers for {count} records", numbers.len())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(first: u64, timestamps_ms: Vec<i64>) -> Manifest {
        let count = timestamps_ms.len() as u64;
        let sum = RangeSum { first, last: first + count - 1, count, hash: 0x8000_0000_0000_0001 };
        Manifest { generation: Some("g".into()), sum, bytes: 99, timestamps_ms, offsets: Vec::new() }
    }

    #[test]
    fn a_manifest_of_many_records_is_small() {
        let bytes = manifest(0, (0..100_000).map(|i| 1_700_000_000_000 + i / 7).collect()).encode();
        assert!(bytes.len() < 2_000, "{}", bytes.len());
    }

    #[test]
    fn a_manifest_with_gaps_keeps_each_offset() {
        let mut gaps = manifest(5, vec![1, 2, 3]);
        gaps.offsets = vec![5, 9, 11];
        gaps.sum.last = 11;
        assert_eq!(Manifest::decode(&gaps.encode()).unwrap(), gaps);
        assert_eq!((gaps.offset(0), gaps.offset(2)), (5, 11));
    }

    #[test]
    fn damaged_manifests_are_errors() {
        let good = String::from_utf8(manifest(0, vec![1, 2, 3]).encode()).unwrap();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"count\":3", "\"count\":4"),
            ("\"count\":3", "\"count\":0"),
            ("\"count\":3", "\"count\":18446744073709551615"),
            ("\"last\":2", "\"last\":7"),
            ("\"timestamps\":\"", "\"timestamps\":\"!"),
            ("\"timestamps\":\"", "\"timestamps\":\"AAAA"),
            ("{", ""),
        ] {
            assert!(good.contains(from), "{good}");
            assert!(Manifest::decode(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(256))]

        #[test]
        fn any_numbers_come_back(numbers in proptest::collection::vec(any::<i64>(), 1..200)) {
            prop_assert_eq!(unpack(&pack(numbers.iter().copied()), numbers.len() as u64).unwrap(), numbers);
        }

        #[test]
        fn any_bytes_are_a_manifest_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::decode(&bytes);
        }
    }
}
