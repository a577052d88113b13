//! Hash keys: the MD5 of a partition key as an unsigned number of 128 bits, and the ranges of them that shards hold.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// A range of hash keys, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRange {
    /// First hash key.
    #[serde(with = "decimal")]
    pub start: u128,
    /// Last hash key.
    #[serde(with = "decimal")]
    pub end: u128,
}

impl HashRange {
    /// True where the key lies in the range.
    pub fn contains(&self, key: u128) -> bool {
        (self.start..=self.end).contains(&key)
    }
}

/// The hash key of a partition key.
pub(crate) fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// A hash key given as decimal text; `None` where it is not below 2^128.
pub(crate) fn parse_hash_key(text: &str) -> Option<u128> {
    text.parse().ok()
}

/// The ranges of `count` first shards: equal steps, the last one takes the rest. None for none.
pub(crate) fn even_ranges(count: u32) -> Vec<HashRange> {
    let count = u128::from(count);
    if count == 0 {
        return Vec::new();
    }
    // floor(2^128 / count), where 2^128 itself does not fit.
    let step = if count == 1 { u128::MAX } else { (u128::MAX - (count - 1)) / count + 1 };
    let range = |n: u128| {
        let end = if n == count - 1 { u128::MAX } else { step * (n + 1) - 1 };
        HashRange { start: step * n, end }
    };
    (0..count).map(range).collect()
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no hash key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_key_hashes_as_amazon_says() {
        // md5("") and md5("a"), as published in RFC 1321.
        assert_eq!(hash_key(""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
        assert_eq!(hash_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }

    #[test]
    fn even_ranges_are_floors_of_the_whole_and_leave_no_gap() {
        assert_eq!(even_ranges(1), [HashRange { start: 0, end: u128::MAX }]);
        let three = even_ranges(3);
        assert_eq!(three[0].end.to_string(), "113427455640312821154458202477256070484");
        assert_eq!(three[1].start.to_string(), "113427455640312821154458202477256070485");
        assert_eq!(three[2].end.to_string(), "340282366920938463463374607431768211455");
        for count in [2, 3, 5, 7, 16, 100, 1000] {
            let ranges = even_ranges(count);
            assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, u128::MAX));
            assert!(ranges.windows(2).all(|pair| pair[0].end + 1 == pair[1].start));
            // 2^128 mod count is what the last range has more; for powers of two it is nothing.
            let width = ranges[0].end + 1;
            let rest = (u128::MAX - width * (u128::from(count) - 1)) - (width - 1);
            assert_eq!(rest, (u128::MAX % u128::from(count) + 1) % u128::from(count), "{count}");
        }
    }

    #[test]
    fn a_hash_key_beyond_128_bits_is_none() {
        assert_eq!(parse_hash_key("340282366920938463463374607431768211455"), Some(u128::MAX));
        assert_eq!(parse_hash_key("340282366920938463463374607431768211456"), None);
    }
}
