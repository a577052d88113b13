//! The first pass: every member has the type that the operation gives it, or the request is a `SerializationException`
//! with the words of Amazon's own parser. Unknown members and nulls are dropped, base64 becomes bytes.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Field, Kind};
use crate::error::ApiError;
use crate::value::Value;

/// The members of `fields` out of a request, converted to their types, in the order of the schema.
///
/// # Errors
/// `SerializationException` for the first member of another type.
pub(crate) fn check_types<'a>(request: Value<'a>, fields: &'static [Field]) -> Result<Value<'a>, ApiError> {
    let Value::Map(members) = request else {
        return Err(ApiError::bare("SerializationException"));
    };
    let mut slots: Vec<Option<Value<'a>>> = fields.iter().map(|_| None).collect();
    for (name, value) in members {
        let position = fields.iter().position(|field| field.name == name);
        // Of a name that repeats, the last one counts.
        if let Some(slot) = position.and_then(|position| slots.get_mut(position)) {
            *slot = (value != Value::Null).then_some(value);
        }
    }
    let mut checked = Vec::with_capacity(fields.len());
    for (field, slot) in fields.iter().zip(slots) {
        if let Some(value) = slot {
            checked.push((Cow::Borrowed(field.name), check(value, &field.kind)?));
        }
    }
    Ok(Value::Map(checked))
}

fn check<'a>(value: Value<'a>, kind: &'static Kind) -> Result<Value<'a>, ApiError> {
    match kind {
        Kind::Text => match value {
            Value::Text(_) => Ok(value),
            other => Err(mismatch(&other, "an String")),
        },
        Kind::Integer => integer(value),
        Kind::Boolean => match value {
            Value::Bool(_) => Ok(value),
            Value::Text(text) => Err(ApiError::serialization(format!(
                "'{}' can not be converted to an Boolean",
                text.to_uppercase()
            ))),
            other => Err(mismatch(&other, "an Boolean")),
        },
        Kind::Blob => match value {
            Value::Blob(_) => Ok(value),
            Value::Text(text) => blob(&text),
            other => Err(mismatch(&other, "a Blob")),
        },
        Kind::Time => time(value),
        Kind::List(member, _) => match value {
            Value::List(values) => {
                let checked = values.into_iter().map(|value| match value {
                    Value::Null => Ok(Value::Null),
                    value => check(value, &member.kind),
                });
                checked.collect::<Result<_, _>>().map(Value::List)
            }
            Value::Map(_) => {
                Err(ApiError::serialization("Start of structure or map found where not expected."))
            }
            _ => Err(ApiError::serialization("Expected list or null")),
        },
        Kind::Map(member) => match value {
            Value::Map(members) => {
                let checked = members.into_iter().map(|(name, value)| match value {
                    Value::Null => Ok((name, Value::Null)),
                    value => Ok((name, check(value, &member.kind)?)),
                });
                checked.collect::<Result<_, _>>().map(Value::Map)
            }
            Value::List(_) => Err(ApiError::serialization("Start of list found where not expected")),
            _ => Err(ApiError::serialization("Expected map or null")),
        },
        Kind::Struct(fields) => match value {
            Value::Map(_) => check_types(value, fields),
            Value::List(_) => Err(ApiError::serialization("Start of list found where not expected")),
            _ => Err(ApiError::serialization("Expected null")),
        },
    }
}

/// The error for a value that cannot become `wanted`.
fn mismatch(value: &Value<'_>, wanted: &str) -> ApiError {
    let given = match value {
        Value::List(_) => return ApiError::serialization("Start of list found where not expected"),
        Value::Map(_) => {
            return ApiError::serialization("Start of structure or map found where not expected.");
        }
        Value::Bool(_) => "java.lang.Boolean",
        Value::Int(_) | Value::Float(_) => "com.amazon.coral.value.json.numbers.TruncatingBigNumber",
        Value::Blob(_) => "java.nio.HeapByteBuffer",
        Value::Time(_) => "java.util.Date",
        Value::Text(_) | Value::Null => "java.lang.String",
    };
    ApiError::serialization(format!("class {given} can not be converted to {wanted}"))
}

/// Fractions are cut off downwards, numbers beyond 32 bits are clamped.
fn integer<'a>(value: Value<'a>) -> Result<Value<'a>, ApiError> {
    const RANGE: std::ops::RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;
    match value {
        Value::Int(number) => Ok(Value::Int(number.clamp(*RANGE.start(), *RANGE.end()))),
        #[allow(clippy::cast_possible_truncation, reason = "the cast saturates, and the clamp follows")]
        Value::Float(number) => Ok(Value::Int((number.floor() as i64).clamp(*RANGE.start(), *RANGE.end()))),
        other => Err(mismatch(&other, "an Integer")),
    }
}

/// Numbers are seconds with a fraction; CBOR's times are milliseconds already.
fn time<'a>(value: Value<'a>) -> Result<Value<'a>, ApiError> {
    match value {
        Value::Time(_) => Ok(value),
        Value::Int(seconds) => Ok(Value::Time(seconds.saturating_mul(1000))),
        #[allow(clippy::cast_possible_truncation, reason = "the cast saturates")]
        Value::Float(seconds) => Ok(Value::Time((seconds * 1000.0).round() as i64)),
        other => Err(mismatch(&other, "milliseconds since epoch")),
    }
}

fn blob<'a>(text: &str) -> Result<Value<'a>, ApiError> {
    match STANDARD.decode(text) {
        Ok(bytes) => Ok(Value::Blob(bytes.into())),
        Err(_) => Err(ApiError::serialization(format!(
            "'{text}' can not be converted to a Blob: {}",
            base64_fault(text)
        ))),
    }
}

/// What Amazon calls the fault of a text that is not base64.
fn base64_fault(text: &str) -> String {
    let length = text.encode_utf16().count();
    if !length.is_multiple_of(4) {
        return format!("Base64 encoded length is expected a multiple of 4 bytes but found: {length}");
    }
    let mut following = text.chars().skip(1);
    let stranger = text.chars().find(|character| {
        let next = following.next();
        match character {
            '=' => next.is_some_and(|next| next != '='),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '+' | '/' => false,
            _ => true,
        }
    });
    match stranger {
        Some(character) => format!("Invalid Base64 character: '{character}'"),
        None => "Invalid last non-pad Base64 character dectected".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::operations::{
        ADD_TAGS, GET_RECORDS, GET_SHARD_ITERATOR, LIST_SHARDS, PUT_RECORD, PUT_RECORDS,
    };
    use crate::value::json;

    fn error(fields: &'static [Field], body: &str) -> String {
        let error = check_types(json::parse(body.as_bytes()).unwrap(), fields).unwrap_err();
        assert_eq!((error.kind, error.status), ("SerializationException", 400));
        error.message.unwrap()
    }

    #[test]
    fn a_wrong_type_is_named_in_amazons_words() {
        const NUMBER: &str =
            "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to";
        const BOOLEAN: &str = "class java.lang.Boolean can not be converted to";
        let list = "Start of list found where not expected";
        let map = "Start of structure or map found where not expected.";
        let cases: &[(&'static [Field], &str, String)] = &[
            (PUT_RECORD, r#"{"StreamName":true}"#, format!("{BOOLEAN} an String")),
            (PUT_RECORD, r#"{"StreamName":23}"#, format!("{NUMBER} an String")),
            (PUT_RECORD, r#"{"StreamName":[]}"#, list.to_owned()),
            (PUT_RECORD, r#"{"StreamName":{}}"#, map.to_owned()),
            (PUT_RECORD, r#"{"Data":true}"#, format!("{BOOLEAN} a Blob")),
            (PUT_RECORD, r#"{"Data":1.5}"#, format!("{NUMBER} a Blob")),
            (PUT_RECORD, r#"{"DryRun":1}"#, format!("{NUMBER} an Boolean")),
            (PUT_RECORD, r#"{"DryRun":"yes"}"#, "'YES' can not be converted to an Boolean".to_owned()),
            (GET_RECORDS, r#"{"Limit":true}"#, format!("{BOOLEAN} an Integer")),
            (
                GET_RECORDS,
                r#"{"Limit":"5"}"#,
                "class java.lang.String can not be converted to an Integer".to_owned(),
            ),
            (GET_RECORDS, r#"{"Limit":[]}"#, list.to_owned()),
            (GET_SHARD_ITERATOR, r#"{"Timestamp":true}"#, format!("{BOOLEAN} milliseconds since epoch")),
            (
                GET_SHARD_ITERATOR,
                r#"{"Timestamp":"now"}"#,
                "class java.lang.String can not be converted to milliseconds since epoch".to_owned(),
            ),
            (PUT_RECORDS, r#"{"Records":"x"}"#, "Expected list or null".to_owned()),
            (PUT_RECORDS, r#"{"Records":{}}"#, map.to_owned()),
            (PUT_RECORDS, r#"{"Records":[1]}"#, "Expected null".to_owned()),
            (PUT_RECORDS, r#"{"Records":[[]]}"#, list.to_owned()),
            (ADD_TAGS, r#"{"Tags":1}"#, "Expected map or null".to_owned()),
            (ADD_TAGS, r#"{"Tags":[]}"#, list.to_owned()),
            (ADD_TAGS, r#"{"Tags":{"a":1}}"#, format!("{NUMBER} an String")),
            (LIST_SHARDS, r#"{"ShardFilter":"x"}"#, "Expected null".to_owned()),
        ];
        for (fields, body, expected) in cases {
            assert_eq!(&error(fields, body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_base64_is_named_in_amazons_words() {
        for (text, fault) in [
            ("=", "Base64 encoded length is expected a multiple of 4 bytes but found: 1"),
            ("abcde", "Base64 encoded length is expected a multiple of 4 bytes but found: 5"),
            ("=====", "Base64 encoded length is expected a multiple of 4 bytes but found: 5"),
            ("+/+=ABCD", "Invalid Base64 character: '='"),
            ("ab-_", "Invalid Base64 character: '-'"),
            ("+/+B+/==", "Invalid last non-pad Base64 character dectected"),
        ] {
            let expected = format!("'{text}' can not be converted to a Blob: {fault}");
            assert_eq!(error(PUT_RECORD, &format!(r#"{{"Data":"{text}"}}"#)), expected);
        }
    }

    #[test]
    fn numbers_are_cut_and_clamped_and_strangers_dropped() {
        let check =
            |body: &'static str| check_types(json::parse(body.as_bytes()).unwrap(), GET_RECORDS).unwrap();
        assert_eq!(check(r#"{"Limit":2.9,"Stranger":{"a":[1]},"ShardIterator":null}"#).int("Limit"), Some(2));
        assert_eq!(check(r#"{"Limit":1e300}"#).int("Limit"), Some(2_147_483_647));
        assert_eq!(check(r#"{"Limit":1,"Limit":7}"#).int("Limit"), Some(7), "the last one counts");
        assert_eq!(check(r#"{"ShardIterator":null}"#), Value::Map(Vec::new()));
    }
}
