//! JSON 1.1: parsed by `jiter` with strings borrowed from the body, written straight into one buffer.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiter::JsonValue;
use pinmill_http::without_bom;

use super::{MAX_DEPTH, ParseError, Value};

/// Reads a body. Text stays text: which of it is base64 is for the types of the operation to say.
pub(crate) fn parse(body: &[u8]) -> Result<Value<'_>, ParseError> {
    let parsed = JsonValue::parse(without_bom(body), false).map_err(|error| ParseError(error.to_string()))?;
    convert(parsed, 0)
}

fn convert(value: JsonValue<'_>, depth: usize) -> Result<Value<'_>, ParseError> {
    if depth > MAX_DEPTH {
        return Err(ParseError(format!("it is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(match value {
        JsonValue::Null => Value::Null,
        JsonValue::Bool(value) => Value::Bool(value),
        JsonValue::Int(value) => Value::Int(value),
        JsonValue::Float(value) => Value::Float(value),
        JsonValue::Str(value) => Value::Text(value),
        JsonValue::Array(values) => {
            let values = Arc::unwrap_or_clone(values).into_iter();
            Value::List(values.map(|value| convert(value, depth + 1)).collect::<Result<_, _>>()?)
        }
        JsonValue::Object(members) => {
            let members = Arc::unwrap_or_clone(members).into_iter();
            let converted = members.map(|(name, value)| Ok((name, convert(value, depth + 1)?)));
            Value::Map(converted.collect::<Result<Vec<(Cow<'_, str>, Value<'_>)>, ParseError>>()?)
        }
        // Numbers beyond 64 bits; which one depends on how the parser was built.
        #[allow(
            unreachable_patterns,
            reason = "the variant exists only where another crate asks for big integers"
        )]
        _ => Value::Float(f64::MAX),
    })
}

/// Writes a value.
pub(crate) fn write(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_hint(value));
    write_into(value, &mut out);
    out
}

fn size_hint(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len() + 2,
        Value::Blob(bytes) => bytes.len() / 3 * 4 + 6,
        Value::List(values) => values.iter().map(|value| size_hint(value) + 1).sum::<usize>() + 2,
        Value::Map(members) => {
            members.iter().map(|(name, value)| name.len() + 4 + size_hint(value)).sum::<usize>() + 2
        }
        _ => 24,
    }
}

fn write_into(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Float(value) => out.extend_from_slice(serde_json::json!(value).to_string().as_bytes()),
        Value::Text(text) => write_text(text, out),
        Value::Blob(bytes) => write_blob(bytes, out),
        Value::Time(ms) => out.extend_from_slice(seconds(*ms).as_bytes()),
        Value::List(values) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_into(value, out);
            }
            out.push(b']');
        }
        Value::Map(members) => {
            out.push(b'{');
            for (n, (name, value)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write_into(value, out);
            }
            out.push(b'}');
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing text into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_blob(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    let length = bytes.len().div_ceil(3) * 4;
    out.resize(start + length, 0);
    if let Some(room) = out.get_mut(start..) {
        // The room is exactly what padded base64 takes.
        let _ = STANDARD.encode_slice(bytes, room);
    }
    out.push(b'"');
}

/// Epoch seconds with three digits of fraction, without the noise of binary fractions.
fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_value_is_written_as_json_and_read_back() {
        let value = Value::map([
            ("Text", Value::text("a\"\\\n\u{1}ü🦀")),
            ("Int", Value::Int(-5)),
            ("Yes", Value::Bool(true)),
            ("None", Value::Null),
            ("List", Value::List(vec![Value::Int(1), Value::Float(0.5)])),
        ]);
        let written = write(&value);
        assert_eq!(parse(&written).unwrap(), value);
    }

    #[test]
    fn blobs_are_base64_and_times_are_seconds() {
        let blobs =
            ["", "f", "fo", "foo", "foob"].map(|text| Value::Blob(Bytes::from_static(text.as_bytes())));
        assert_eq!(
            String::from_utf8(write(&Value::List(blobs.to_vec()))).unwrap(),
            r#"["","Zg==","Zm8=","Zm9v","Zm9vYg=="]"#
        );
        for (ms, text) in [(1_733_333_333_123, "1733333333.123"), (5, "0.005"), (-1500, "-1.500")] {
            assert_eq!(write(&Value::Time(ms)), text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(100_000);
        let nested = format!("{}1{}", "[".repeat(60), "]".repeat(60));
        for body in
            ["", "{", "nul", "{\"a\":NaN}", "{} x", "\"\\ud800\"", "\u{feff}\u{feff}{}", &deep, &nested]
        {
            parse(body.as_bytes()).unwrap_err();
        }
        parse(b"\"\xff\"").unwrap_err();
    }
}
