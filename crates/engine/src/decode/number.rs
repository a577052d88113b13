//! Numbers, decided on their digits: a double would round some of them to an integer that nobody wrote.

/// The integer that a decimal number equals, whether it is written as one or not (`25`, `25.0`, `2.5e1`); `None` when
/// it equals none, lies outside of BIGINT, or is not a number.
///
/// Takes what JSON takes as a number, and what people write in strings beside it: a plus sign, zeros in front, no
/// digit on one side of the point. The work is linear in the length of the text, whatever the exponent says.
pub(super) fn integer(number: &str) -> Option<i64> {
    // Nearly every integer is written as one.
    number.parse().ok().or_else(|| whole(number))
}

fn whole(number: &str) -> Option<i64> {
    let (negative, unsigned) = signed(number);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
        None => (unsigned, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || before.bytes().chain(after.bytes());
    let count = before.len() + after.len();
    if count == 0 || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let leading = digits().take_while(|digit| *digit == b'0').count();
    if leading == count {
        return Some(0);
    }
    let trailing = digits().rev().take_while(|digit| *digit == b'0').count();
    let significant = count - leading - trailing;
    // The number is its significant digits, the last of which is not 0, times ten to the power of `shift`.
    let shift = exponent - i64::try_from(after.len()).ok()? + i64::try_from(trailing).ok()?;
    let zeros = u32::try_from(shift).ok()?;
    const MOST_DIGITS: usize = 19;
    if significant > MOST_DIGITS || zeros as usize > MOST_DIGITS - significant {
        return None;
    }
    let value = digits()
        .skip(leading)
        .take(significant)
        .fold(0, |value: i128, digit| value * 10 + i128::from(digit - b'0'));
    let value = value * 10_i128.pow(zeros);
    i64::try_from(if negative { -value } else { value }).ok()
}

/// Whether a minus stands before a number, and what follows the sign.
fn signed(number: &str) -> (bool, &str) {
    match number.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    }
}

/// An exponent, cut to a range that no length of text reaches; `None` when it is not one.
fn exponent_of(text: &str) -> Option<i64> {
    const LIMIT: i64 = 1 << 48;
    let (negative, digits) = signed(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.bytes().fold(0_i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(LIMIT));
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn an_integer_is_decided_on_its_digits() {
        for (number, expected) in [
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("0.99999999999999999999", None),
            ("1.00000000000000000001", None),
            ("1e3", Some(1000)),
            ("1E+3", Some(1000)),
            ("36.0", Some(36)),
            ("25e-1", None),
            ("250e-1", Some(25)),
            ("12345678901234567890e-1", Some(1_234_567_890_123_456_789)),
            ("0.0009223372036854775807e22", Some(i64::MAX)),
            ("9223372036854775807.000", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("9.223372036854775808e18", None),
            ("-9223372036854775808.0", Some(i64::MIN)),
            ("-9223372036854775809.0", None),
            ("-0.0", Some(0)),
            ("0e400", Some(0)),
            ("0.0e-99999999999999999999999", Some(0)),
            ("1e400", None),
            ("1e-400", None),
            ("1e99999999999999999999999", None),
            ("+7.", Some(7)),
            ("007.50e1", Some(75)),
            (".5e1", Some(5)),
            ("", None),
            ("-", None),
            (".", None),
            ("e5", None),
            ("1e", None),
            ("1e+", None),
            ("1.2.3", None),
            ("--1", None),
            ("1_000", None),
            ("inf", None),
            ("NaN", None),
            ("0x10", None),
            ("١", None),
        ] {
            assert_eq!(integer(number), expected, "{number}");
        }
    }

    #[test]
    fn an_exponent_undoes_as_many_zeros_as_there_are() {
        let zeros = "0".repeat(1_000_000);
        assert_eq!(integer(&format!("0.{zeros}1e1000001")), Some(1));
        assert_eq!(integer(&format!("7{zeros}e-1000000")), Some(7));
        assert_eq!(integer(&format!("7{zeros}e-1000001")), None);
        assert_eq!(integer(&format!("1.{zeros}1")), None);
        assert_eq!(integer(&zeros), Some(0));
    }
}
