//! How a record's bytes become one line, and back. Pure.
//!
//! A value that is one line of valid JSON is written exactly as it came. Everything else is wrapped:
//!
//! - `{"_pinmill":{"base64":"…"}}` stands for bytes that are not valid JSON, hold a line break, or begin like a
//!   wrapper themselves,
//! - `{"_pinmill":{"tombstone":true}}` for a record without a value.
//!
//! No value is written as it came that begins like a wrapper, so a line that begins so *is* one, and reading gives
//! the exact bytes for every value. A line of a foreign archive that begins so without being a wrapper is
//! handed on as it is.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

const PREFIX: &[u8] = b"{\"_pinmill\":{";
const BYTES: &[u8] = b"{\"_pinmill\":{\"base64\":\"";
const BYTES_END: &[u8] = b"\"}}";
const TOMBSTONE: &[u8] = b"{\"_pinmill\":{\"tombstone\":true}}";

/// Appends the line of a value to `out`, without a line break. `None` is a tombstone.
pub(crate) fn encode(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(TOMBSTONE),
        Some(value) if is_plain(value) => out.extend_from_slice(value),
        Some(value) => {
            out.extend_from_slice(BYTES);
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.extend_from_slice(BYTES_END);
        }
    }
}

/// True for a line that is not the value itself. Cheap: it is asked of every line read.
pub(crate) fn is_wrapped(line: &[u8]) -> bool {
    line.starts_with(PREFIX)
}

/// The value of a line for which [`is_wrapped`] said yes.
pub(crate) fn unwrap(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    if line == TOMBSTONE {
        return None;
    }
    let text = line.strip_prefix(BYTES).and_then(|rest| rest.strip_suffix(BYTES_END));
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    Some(bytes.map_or(Cow::Borrowed(line), Cow::Owned))
}

/// Whether the first line of an object is JSON: those of the sink's byte arrays are whatever was sent.
pub(crate) fn begins_with_json(lines: &[u8]) -> bool {
    let mut lines = lines.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty());
    first.is_none_or(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok())
}

/// One line of valid JSON, of whatever depth, that does not begin like a wrapper.
fn is_plain(value: &[u8]) -> bool {
    let one_line = memchr::memchr2(b'\n', b'\r', value).is_none();
    let json =
        || std::str::from_utf8(value).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    one_line && !value.starts_with(PREFIX) && json()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: Option<&[u8]>) -> Vec<u8> {
        let mut line = Vec::new();
        encode(value, &mut line);
        line
    }

    fn decoded(line: &[u8]) -> Option<Vec<u8>> {
        if is_wrapped(line) { unwrap(line).map(Cow::into_owned) } else { Some(line.to_vec()) }
    }

    #[test]
    fn one_line_of_json_stays_as_it_is() {
        for value in [
            r#"{"index":7528}"#,
            " [1, 2]\t",
            "null",
            "1e999",
            r#""\ud800""#,
            r#"{"a":{"_pinmill":{}}}"#,
            "\"\u{1F600}\"",
        ] {
            assert_eq!(encoded(Some(value.as_bytes())), value.as_bytes(), "{value}");
        }
    }

    #[test]
    fn deep_nesting_overflows_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(encoded(Some(deep.as_bytes())), deep.as_bytes());
        assert!(is_wrapped(&encoded(Some(&deep.as_bytes()[1..]))));
    }

    #[test]
    fn everything_else_is_wrapped_and_comes_back() {
        let wrapper = encoded(Some(b"not json"));
        let values: Vec<&[u8]> = vec![
            b"",
            b"not json",
            b"{\"a\":\n1}",
            b"{\"a\":1}\r",
            b"\xff\xfe",
            b"\"\xff\"",
            b"\xef\xbb\xbf{}",
            b"NaN",
            b"{} {}",
            TOMBSTONE,
            &wrapper,
            b"{\"_pinmill\":{}}",
            b"{\"_pinmill\":{\"base64\":\"!\"}}",
        ];
        for value in values {
            let line = encoded(Some(value));
            assert!(is_wrapped(&line), "{}", String::from_utf8_lossy(value));
            assert_eq!(decoded(&line).as_deref(), Some(value));
        }
        assert_eq!(decoded(&encoded(None)), None);
    }

    #[test]
    fn a_foreign_line_that_only_begins_like_a_wrapper_is_handed_on() {
        for line in ["{\"_pinmill\":{\"base64\":\"%\"}}", "{\"_pinmill\":{\"x\":1}}"] {
            assert_eq!(decoded(line.as_bytes()).as_deref(), Some(line.as_bytes()));
        }
    }

    fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
        let wrapperish = r#"\{"_pinmill":\{("base64":"[A-Za-z0-9+/=]{0,8}"|"tombstone":true)?\}?\}?"#;
        prop_oneof![
            Just(None),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
            wrapperish.prop_map(|text| Some(text.into_bytes())),
            r#"\{"[a-z]{1,3}":("[ -~]{0,9}"|-?[0-9]{1,4})\}[ \n]?"#.prop_map(|text| Some(text.into_bytes())),
        ]
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(256))]

        #[test]
        fn any_value_becomes_one_line_and_comes_back(value in any_value()) {
            let line = encoded(value.as_deref());
            prop_assert!(!line.is_empty() && !line.contains(&b'\n') && !line.contains(&b'\r'));
            prop_assert_eq!(decoded(&line), value);
        }

        #[test]
        fn different_values_never_share_a_line(a in any_value(), b in any_value()) {
            prop_assert_eq!(a == b, encoded(a.as_deref()) == encoded(b.as_deref()));
        }
    }
}
