//! Positions that are no offsets: sequence numbers of up to 186 bits, as AWS Kinesis gives them. Pure.
//!
//! A `txn` version has 63 bits. So a sequence number is kept as three of them, beside the ordinal of the last record, which
//! is the position: app ids `<app id>/seq/0` to `…/seq/2`, 62 bits each, the highest first. Like every `txn` they live in
//! checkpoints, and every Delta writer keeps them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits of one part.
const BITS: u32 = 62;
const PARTS: usize = 3;
const MASK: u64 = (1 << BITS) - 1;

/// A number of up to 186 bits. In JSON and as text: decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence([u64; PARTS]);

impl Sequence {
    /// The parts, the highest first; each fits a `txn` version.
    pub(super) fn parts(self) -> [i64; PARTS] {
        self.0.map(u64::cast_signed)
    }

    /// Puts it together again; `None` for a part that no sequence number has.
    pub(super) fn from_parts(parts: [i64; PARTS]) -> Option<Self> {
        let in_range = |part: &i64| u64::try_from(*part).is_ok_and(|part| part <= MASK);
        parts.iter().all(in_range).then(|| Self(parts.map(i64::cast_unsigned)))
    }
}

/// The `txn` app ids of a sequence number, the highest part first.
pub(super) fn app_ids(app_id: &str) -> [String; PARTS] {
    [0, 1, 2].map(|part| format!("{app_id}/seq/{part}"))
}

impl FromStr for Sequence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a whole number of up to 186 bits");
        let mut parts = [0_u64; PARTS];
        if text.is_empty() {
            return Err(wrong());
        }
        for digit in text.chars() {
            let mut carry = u128::from(digit.to_digit(10).ok_or_else(wrong)?);
            for part in parts.iter_mut().rev() {
                let value = u128::from(*part) * 10 + carry;
                *part = (value as u64) & MASK;
                carry = value >> BITS;
            }
            if carry > 0 {
                return Err(wrong());
            }
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eighteen digits at a time fit 62 bits and leave a remainder that does too.
        const GROUP: u128 = 1_000_000_000_000_000_000;
        let (mut parts, mut groups) = (self.0, Vec::new());
        while parts.iter().any(|part| *part > 0) {
            let mut rest = 0_u128;
            for part in &mut parts {
                let value = (rest << BITS) | u128::from(*part);
                *part = (value / GROUP) as u64;
                rest = value % GROUP;
            }
            groups.push(rest);
        }
        write!(f, "{}", groups.pop().unwrap_or_default())?;
        groups.iter().rev().try_for_each(|group| write!(f, "{group:018}"))
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_up_to_186_bits_come_back_digit_by_digit() {
        // 2^186 - 1
        let greatest = "98079714615416886934934209737619787751599303819750539263";
        for text in [
            "0",
            "7",
            "4611686018427387903",
            "4611686018427387904",
            "1000000000000000000",
            "49590338271490256608559692538361571095921575989136588898",
            greatest,
        ] {
            let number: Sequence = text.parse().unwrap();
            assert_eq!(number.to_string(), text);
            assert_eq!(Sequence::from_parts(number.parts()), Some(number));
            assert_eq!(
                serde_json::from_str::<Sequence>(&serde_json::to_string(&number).unwrap()).unwrap(),
                number
            );
        }
        assert_eq!("007".parse::<Sequence>().unwrap().to_string(), "7");
        let one_more = "98079714615416886934934209737619787751599303819750539264";
        for wrong in [one_more, "", "-1", "1.0", "0x10"] {
            assert!(wrong.parse::<Sequence>().is_err(), "{wrong}");
        }
        assert_eq!(Sequence::from_parts([0, -1, 0]), None);
        assert_eq!(Sequence::from_parts([i64::MAX, 0, 0]), None);
    }

    #[test]
    fn sequence_numbers_are_in_the_order_of_numbers() {
        let numbers: Vec<Sequence> =
            ["9", "10", "4611686018427387904", "99999999999999999999"].map(|n| n.parse().unwrap()).to_vec();
        assert!(numbers.is_sorted());
    }
}
