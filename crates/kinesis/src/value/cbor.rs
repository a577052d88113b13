//! CBOR 1.1, the encoding of the Java clients: byte strings for blobs, tag 1 with whole **milliseconds** for times (where
//! RFC 8949 has seconds; a time as a float of seconds is read too), lists and maps of definite or indefinite length.

use std::borrow::Cow;

use bytes::Bytes;
use minicbor::data::{Tag, Type};
use minicbor::decode::{Decoder, Error};
use minicbor::encode::Encoder;

use super::{MAX_DEPTH, ParseError, Value};

/// Reads a body; bytes after the first item are an error.
pub(crate) fn parse(body: &[u8]) -> Result<Value<'_>, ParseError> {
    let mut decoder = Decoder::new(body);
    let value = item(&mut decoder, 0).map_err(|error| ParseError(error.to_string()))?;
    if decoder.position() != body.len() {
        return Err(ParseError(format!("there is more after the value, from byte {}", decoder.position())));
    }
    Ok(value)
}

fn item<'b>(decoder: &mut Decoder<'b>, depth: usize) -> Result<Value<'b>, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::message("it is nested too deeply"));
    }
    Ok(match decoder.datatype()? {
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::Undefined => {
            decoder.undefined()?;
            Value::Null
        }
        Type::Bool => Value::Bool(decoder.bool()?),
        Type::F16 | Type::F32 | Type::F64 => Value::Float(decoder.f64()?),
        Type::String => Value::Text(Cow::Borrowed(decoder.str()?)),
        Type::StringIndef => {
            let parts = decoder.str_iter()?.collect::<Result<String, _>>()?;
            Value::Text(Cow::Owned(parts))
        }
        Type::Bytes => Value::Blob(Bytes::copy_from_slice(decoder.bytes()?)),
        Type::BytesIndef => {
            let mut bytes = Vec::new();
            for part in decoder.bytes_iter()? {
                bytes.extend_from_slice(part?);
            }
            Value::Blob(bytes.into())
        }
        Type::Array | Type::ArrayIndef => list(decoder, depth)?,
        Type::Map | Type::MapIndef => map(decoder, depth)?,
        Type::Tag => tagged(decoder, depth)?,
        _ => whole_number(decoder)?,
    })
}

fn whole_number<'b>(decoder: &mut Decoder<'b>) -> Result<Value<'b>, Error> {
    // Beyond 64 bits signed: every number of the API is clamped long before.
    Ok(Value::Int(i64::try_from(decoder.int()?).unwrap_or(i64::MAX)))
}

fn list<'b>(decoder: &mut Decoder<'b>, depth: usize) -> Result<Value<'b>, Error> {
    let length = decoder.array()?;
    let mut values = Vec::new();
    while more(decoder, length, values.len())? {
        values.push(item(decoder, depth + 1)?);
    }
    Ok(Value::List(values))
}

fn map<'b>(decoder: &mut Decoder<'b>, depth: usize) -> Result<Value<'b>, Error> {
    let length = decoder.map()?;
    let mut members = Vec::new();
    while more(decoder, length, members.len())? {
        let Value::Text(name) = item(decoder, depth + 1)? else {
            return Err(Error::message("a member's name is not text"));
        };
        members.push((name, item(decoder, depth + 1)?));
    }
    Ok(Value::Map(members))
}

/// Whether another element follows; takes the break that ends one of indefinite length.
fn more(decoder: &mut Decoder<'_>, length: Option<u64>, read: usize) -> Result<bool, Error> {
    match length {
        Some(length) => Ok((read as u64) < length),
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

fn tagged<'b>(decoder: &mut Decoder<'b>, depth: usize) -> Result<Value<'b>, Error> {
    let tag = decoder.tag()?;
    let value = item(decoder, depth + 1)?;
    Ok(match value {
        Value::Int(ms) if tag == Tag::new(1) => Value::Time(ms),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a time beyond 64 bits of milliseconds is clamped, which is meant"
        )]
        Value::Float(seconds) if tag == Tag::new(1) => Value::Time((seconds * 1000.0).round() as i64),
        // Other tags say nothing that the API needs.
        value => value,
    })
}

/// Writes a value.
pub(crate) fn write(value: &Value<'_>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(256));
    // Writing into memory cannot fail.
    let _ = write_into(value, &mut encoder);
    encoder.into_writer()
}

type Written = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn write_into(value: &Value<'_>, out: &mut Encoder<Vec<u8>>) -> Written {
    match value {
        Value::Null => out.null()?.ok(),
        Value::Bool(value) => out.bool(*value)?.ok(),
        Value::Int(value) => out.i64(*value)?.ok(),
        Value::Float(value) => out.f64(*value)?.ok(),
        Value::Text(text) => out.str(text)?.ok(),
        Value::Blob(bytes) => out.bytes(bytes)?.ok(),
        // Eight bytes always (C1 1B …): the Java client reads a long there.
        Value::Time(ms) => {
            out.tag(Tag::new(1))?;
            match u64::try_from(*ms) {
                Ok(ms) => {
                    out.writer_mut().push(0x1b);
                    out.writer_mut().extend_from_slice(&ms.to_be_bytes());
                    Ok(())
                }
                Err(_) => out.i64(*ms)?.ok(),
            }
        }
        Value::List(values) => {
            out.array(values.len() as u64)?;
            values.iter().try_for_each(|value| write_into(value, out))
        }
        Value::Map(members) => {
            out.map(members.len() as u64)?;
            members.iter().try_for_each(|(name, value)| {
                out.str(name)?;
                write_into(value, out)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            any::<String>().prop_map(Value::text),
            any::<Vec<u8>>().prop_map(|bytes| Value::Blob(bytes.into())),
            any::<i64>().prop_map(Value::Time),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
                prop::collection::vec((any::<String>().prop_map(Cow::Owned), inner), 0..8)
                    .prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(300))]

        #[test]
        fn a_value_is_written_as_cbor_and_read_back(value in any_value()) {
            let written = write(&value);
            prop_assert_eq!(parse(&written).unwrap(), value);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn times_are_a_tag_and_eight_bytes_of_milliseconds() {
        let written = write(&Value::Time(1_733_333_333_123));
        assert_eq!(written[..2], [0xc1, 0x1b]);
        assert_eq!(written[2..], 1_733_333_333_123_u64.to_be_bytes());
        let mut seconds = vec![0xc1, 0xfb];
        seconds.extend_from_slice(&1_733_333_333.123_f64.to_be_bytes());
        assert_eq!(parse(&seconds).unwrap(), Value::Time(1_733_333_333_123));
    }

    #[test]
    fn indefinite_lengths_are_read() {
        let body = b"\xbf\x61a\x9f\x01\x02\xff\x61b\x5f\x42hi\x41!\xff\x61c\x7f\x61x\x61y\xff\xff";
        let expected = Value::map([
            ("a", Value::List(vec![Value::Int(1), Value::Int(2)])),
            ("b", Value::Blob(Bytes::from_static(b"hi!"))),
            ("c", Value::text("xy")),
        ]);
        assert_eq!(parse(body).unwrap(), expected);
    }

    #[test]
    fn damage_and_depth_are_refused() {
        let deep = [0x81_u8; 100_000];
        let huge_length = b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff";
        for body in
            [&b""[..], b"\xa1", b"\xa1\x01\x01", b"\xff", b"\x01\x01", b"\x62\xff\xff", &deep, huge_length]
        {
            parse(body).unwrap_err();
        }
    }
}
