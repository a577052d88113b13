//! The hash by which a range of records is compared between log, archive and tables (invariant I9).

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// The hash of one record: xxh3-64 of the value, seeded with its offset. A tombstone (`None`) hashes as an
/// empty value under the complement of the offset, so that it differs from an empty value.
pub fn record_hash(offset: u64, value: Option<&[u8]>) -> u64 {
    match value {
        Some(value) => XxHash3_64::oneshot_with_seed(offset, value),
        None => XxHash3_64::oneshot_with_seed(!offset, &[]),
    }
}

/// Count and hash of the records of one topic partition between two offsets.
///
/// Hashes are summed wrapping, so that sums of neighbouring ranges add up to the sum of the whole, and two
/// ranges of one sum can be subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RangeSum {
    /// Offset of the first record; 0 when `count` is 0.
    pub first: u64,
    /// Offset of the last record, inclusive; 0 when `count` is 0.
    pub last: u64,
    /// Number of records. Less than `last - first + 1` where offsets have gaps.
    pub count: u64,
    /// Wrapping sum of [`record_hash`].
    #[serde(with = "hex_u64")]
    pub hash: u64,
}

impl RangeSum {
    /// Takes one more record in.
    pub fn add(&mut self, offset: u64, value: Option<&[u8]>) {
        self.add_hashed(offset, record_hash(offset, value));
    }

    /// Takes one more record in whose [`record_hash`] is known.
    pub fn add_hashed(&mut self, offset: u64, hash: u64) {
        self.join(&Self { first: offset, last: offset, count: 1, hash });
    }

    /// Takes the records of another range in. The ranges must not overlap; their order does not matter.
    pub fn join(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.count += other.count;
        self.hash = self.hash.wrapping_add(other.hash);
    }

    /// True when it holds no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// 64-bit hashes are written as 16 hex digits: many JSON readers keep only 53 bits of a number.
pub(crate) mod hex_u64 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

/// The same for a hash that may be missing.
pub(crate) mod hex_u64_option {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde gives a reference")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::hex_u64::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let number = text.map(|text| u64::from_str_radix(&text, 16));
        number.transpose().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_neighbouring_ranges_add_up_to_the_sum_of_the_whole() {
        let mut whole = RangeSum::default();
        let mut parts = [RangeSum::default(), RangeSum::default()];
        for offset in 3..20_u64 {
            let value = format!("value {offset}");
            whole.add(offset, Some(value.as_bytes()));
            parts[usize::from(offset >= 11)].add(offset, Some(value.as_bytes()));
        }
        let [mut joined, second] = parts;
        joined.join(&second);
        assert_eq!(joined, whole);
        assert_eq!((whole.first, whole.last, whole.count), (3, 19, 17));
    }

    #[test]
    fn the_hash_tells_offsets_values_and_tombstones_apart() {
        let hashes = [
            record_hash(0, Some(b"a")),
            record_hash(1, Some(b"a")),
            record_hash(0, Some(b"b")),
            record_hash(0, Some(b"")),
            record_hash(0, None),
        ];
        let distinct: std::collections::BTreeSet<_> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn the_hash_never_changes_between_versions() {
        // Stored in manifests and commits: another value would make every audit fail.
        assert_eq!(record_hash(7, Some(b"{\"index\":7528}")), 11_633_823_628_427_822_267);
        assert_eq!(record_hash(7, None), 6_507_143_297_920_366_657);
    }

    #[test]
    fn a_sum_keeps_all_its_bits_through_json() {
        let sum = RangeSum { first: 0, last: 9, count: 10, hash: u64::MAX - 1 };
        let text = serde_json::to_string(&sum).unwrap();
        assert!(text.contains("\"fffffffffffffffe\""), "{text}");
        assert_eq!(serde_json::from_str::<RangeSum>(&text).unwrap(), sum);
    }
}
