//! Sequence numbers and shard ids.
//!
//! A sequence number is the decimal form of a number of 47 hexadecimal digits:
//!
//! | digits | meaning |
//! | --- | --- |
//! | 1 | `2` |
//! | 9 | when the shard was made, seconds |
//! | 1 | the lowest digit of the shard's index |
//! | 16 | counter: 0 for the start of a shard, **1 + the log's offset** for a record, `7fffffffffffffff` for the end |
//! | 2 | `00` |
//! | 9 | seconds: when the shard was made; for the end, when it was closed |
//! | 8 | the shard's index |
//! | 1 | `2`, the version |
//!
//! The counter carries the offset, so order and uniqueness are the log's, and a number leads back to its record. Amazon
//! puts the record's arrival into the second time; here it is the shard's creation, so that the number is a function of
//! shard and offset alone and the answer to a put needs nothing that the log settles later. Clients never read it.

/// Counter of a closed shard's ending sequence number.
pub(crate) const END_COUNTER: u64 = 0x7fff_ffff_ffff_ffff;
/// First second that a sequence number cannot carry.
const MAX_SECONDS: u64 = 16_025_175_000;

/// The sequence number of the record at `offset` of the shard that has this index and was made at `created_s`.
pub fn sequence_number(created_s: u64, shard: u32, offset: u64) -> String {
    format(created_s, shard, offset.saturating_add(1), created_s)
}

/// The number a shard starts with: less than that of any of its records.
pub(crate) fn starting(created_s: u64, shard: u32) -> String {
    format(created_s, shard, 0, created_s)
}

/// The number a closed shard ends with: more than that of any of its records.
pub(crate) fn ending(created_s: u64, shard: u32, closed_s: u64) -> String {
    format(created_s, shard, END_COUNTER, closed_s)
}

fn format(created_s: u64, shard: u32, counter: u64, time_s: u64) -> String {
    let low =
        2 | u128::from(shard) << 4 | u128::from(time_s & 0xf_ffff_ffff) << 36 | u128::from(counter) << 80;
    // The counter's upper 16 bits, the shard's lowest digit, the creation and the leading digit lie above 128 bits.
    let high = counter >> 48 | u64::from(shard & 0xf) << 16 | (created_s & 0xf_ffff_ffff) << 20 | 2 << 56;
    decimal(high, low)
}

/// `high`·2^128 + `low` in decimal.
fn decimal(high: u64, low: u128) -> String {
    const BILLIONS: u128 = 10_000_000_000_000_000_000;
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is meant")]
    let (mut limbs, mut groups) = ([high, (low >> 64) as u64, low as u64], Vec::with_capacity(4));
    while limbs.iter().any(|limb| *limb != 0) {
        let mut rest = 0_u128;
        for limb in &mut limbs {
            let current = rest << 64 | u128::from(*limb);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a quotient of less than 2^64, as the rest is below the divisor"
            )]
            let quotient = (current / BILLIONS) as u64;
            *limb = quotient;
            rest = current % BILLIONS;
        }
        groups.push(rest);
    }
    let mut text = groups.pop().unwrap_or(0).to_string();
    for group in groups.iter().rev() {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(text, "{group:019}");
    }
    text
}

/// What a sequence number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// 2 for those made today; 0 and 1 are Amazon's older forms.
    pub(crate) version: u8,
    /// When the shard was made, seconds.
    pub(crate) created_s: u64,
    /// The counter; 0 in older versions.
    pub(crate) counter: u64,
    /// The second time, seconds; 0 where the version has none.
    pub(crate) time_s: u64,
    /// The shard's index. One with its highest bit set is negative to Amazon.
    pub(crate) shard: i64,
}

impl Sequence {
    /// The first offset at this number or after it.
    pub(crate) fn at_offset(&self) -> u64 {
        self.counter.saturating_sub(1)
    }

    /// The first offset after this number.
    pub(crate) fn after_offset(&self) -> u64 {
        self.counter
    }

    /// Reads a sequence number; `None` for what is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (high, low) = from_decimal(text)?;
        // Numbers below 2^124 are of version 0, written without their leading digit.
        let low = if high == 0 && low < 1 << 124 { low + (1 << 124) } else { low };
        if high < 2 {
            return Self::version_0(high, low);
        }
        // Between 2^185 and 1.5·2^185: a leading digit 2 or 3 of 47.
        if !(high > 1 << 57 || (high == 1 << 57 && low > 0)) || high >= 3 << 56 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "masked to the digits that are meant")]
        let (version, index) = ((low & 0xf) as u8, (low >> 4) as u32);
        let shard = if index >> 31 == 0 { i64::from(index) } else { -i64::from(index) };
        let created_s = high >> 20 & 0xf_ffff_ffff;
        match version {
            2 => {
                #[allow(clippy::cast_possible_truncation, reason = "masked to the digits that are meant")]
                let counter = (high & 0xffff) << 48 | (low >> 80) as u64;
                #[allow(clippy::cast_possible_truncation, reason = "masked to the digits that are meant")]
                let time_s = (low >> 36) as u64 & 0xf_ffff_ffff;
                let whole = counter <= END_COUNTER && created_s < MAX_SECONDS;
                whole.then_some(Self { version, created_s, counter, time_s, shard })
            }
            1 => {
                // 1 | 9 creation | 1 | 2 | 9 time | 14 random | 2 counter | 8 shard | 1 version
                #[allow(clippy::cast_possible_truncation, reason = "masked to the digits that are meant")]
                let time_s = ((u128::from(high) << 28 | low >> 100) & 0xf_ffff_ffff) as u64;
                Some(Self { version, created_s, counter: 0, time_s, shard })
            }
            _ => None,
        }
    }

    fn version_0(high: u64, low: u128) -> Option<Self> {
        // 1 | 9 creation | 2 | 16 random | 4 shard; larger ones have one digit more in front, which moves all others.
        let shift = if high == 0 { 0 } else { 4 };
        #[allow(clippy::cast_possible_truncation, reason = "masked to the digits that are meant")]
        let created_s =
            ((u128::from(high) << (128 - 88 - shift) | low >> (88 + shift)) & 0xf_ffff_ffff) as u64;
        #[allow(clippy::cast_possible_truncation, reason = "masked to the digits that are meant")]
        let shard = i64::from((low >> shift) as u16);
        (created_s < MAX_SECONDS).then_some(Self { version: 0, created_s, counter: 0, time_s: 0, shard })
    }
}

/// Decimal text as `high`·2^128 + `low`; `None` where it is no number of 192 bits.
fn from_decimal(text: &str) -> Option<(u64, u128)> {
    if text.is_empty() || text.len() > 58 {
        return None;
    }
    let mut limbs = [0_u64; 3];
    for digit in text.bytes() {
        let mut carry = u128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        for limb in limbs.iter_mut().rev() {
            let current = u128::from(*limb) * 10 + carry;
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the lower half stays, the upper half is carried"
            )]
            let lower = current as u64;
            *limb = lower;
            carry = current >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    let [high, middle, low] = limbs;
    Some((high, u128::from(middle) << 64 | u128::from(low)))
}

/// The id of a shard: `shardId-` and twelve digits of its index.
pub fn shard_id(index: u32) -> String {
    format!("shardId-{index:012}")
}

/// The id that a sequence number encodes, which may be none that a shard can have.
pub(crate) fn encoded_shard_id(index: i64) -> String {
    let width = if index < 0 { 11 } else { 12 };
    format!("shardId-{}{:0width$}", if index < 0 { "-" } else { "" }, index.unsigned_abs())
}

/// The index in a shard id, read leniently: `shardId-000000000003`, `shardId-3` and `3` are the same.
pub(crate) fn parse_shard_id(text: &str) -> Option<u32> {
    let digits = text.split('-').nth(1).filter(|part| !part.is_empty()).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|index| *index <= 0x7fff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_has_56_digits_and_the_hexadecimal_form_of_amazon() {
        let number = sequence_number(1_421_889_722, 17, 41);
        assert_eq!(number.len(), 56);
        let (high, low) = from_decimal(&number).unwrap();
        let hex = format!("{high:x}{low:032x}");
        let expected = format!("2{:09x}1{:016x}00{:09x}{:08x}2", 1_421_889_722, 42, 1_421_889_722, 17);
        assert_eq!(hex, expected);
    }

    #[test]
    fn neighbouring_shards_start_a_known_step_apart() {
        let difference = |a: &str, b: &str| {
            let ((ah, al), (bh, bl)) = (from_decimal(a).unwrap(), from_decimal(b).unwrap());
            let (low, borrow) = bl.overflowing_sub(al);
            decimal(bh - ah - u64::from(borrow), low)
        };
        let step = difference(&starting(1_421_889_722, 0), &starting(1_421_889_722, 1));
        assert_eq!(step, "22300745198530623141535718272648361505980432");
    }

    #[test]
    fn a_shard_starts_below_its_records_and_ends_above_them() {
        let records =
            [0, 1, 9, 10, 1 << 40, END_COUNTER - 2].map(|offset| sequence_number(1_700_000_000, 3, offset));
        assert!(records.is_sorted_by(|a, b| a < b), "all have the same length, so text sorts as numbers do");
        assert!(starting(1_700_000_000, 3) < records[0]);
        assert!(ending(1_700_000_000, 3, 1_700_000_001) > records[5]);
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(500))]

        #[test]
        fn a_number_leads_back_to_shard_and_offset(
            created_s in 0..MAX_SECONDS, shard in 0..0x7fff_ffff_u32, offset in 0..END_COUNTER
        ) {
            let sequence = Sequence::parse(&sequence_number(created_s, shard, offset)).unwrap();
            prop_assert_eq!(sequence.version, 2);
            prop_assert_eq!((sequence.created_s, sequence.shard), (created_s, i64::from(shard)));
            prop_assert_eq!((sequence.at_offset(), sequence.after_offset()), (offset, offset + 1));
        }

        #[test]
        fn decimal_text_and_limbs_are_the_same_number(high: u64, low: u128) {
            prop_assert_eq!(from_decimal(&decimal(high, low)), Some((high, low)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9]{0,60}") {
            let _ = Sequence::parse(&text);
        }
    }

    #[test]
    fn what_is_no_number_of_any_version_is_none() {
        let beyond = decimal(3 << 56, 0);
        let huge = "9".repeat(58);
        for text in ["", "-1", "x", "12345678901234567890123456789012345678901234567890", &beyond, &huge] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
        assert_eq!(Sequence::parse("0").map(|sequence| sequence.version), Some(0));
    }

    #[test]
    fn shard_ids_are_read_leniently() {
        for (text, index) in
            [("shardId-000000000000", 0), ("shardId-7", 7), ("12", 12), ("x-2147483647", 2_147_483_647)]
        {
            assert_eq!(parse_shard_id(text), Some(index), "{text}");
        }
        for text in ["", "shardId-", "shardId-x", "shardId-2147483648", "shard", "-"] {
            assert_eq!(parse_shard_id(text), None, "{text}");
        }
        assert_eq!(shard_id(3), "shardId-000000000003");
        assert_eq!(encoded_shard_id(-3), "shardId--00000000003");
    }
}
