//! The second pass: every limit that is broken, up to ten, in one `ValidationException`, in the words and the order of Amazon.

use std::fmt::Write as _;

use super::{Field, Kind, Rule};
use crate::error::ApiError;
use crate::value::Value;

/// Most breaches that one message names.
const MAX_REPORTED: usize = 10;

/// Checks a request of the right types against its limits.
///
/// # Errors
/// `ValidationException` with up to ten breaches.
pub(crate) fn validate(request: &Value<'_>, fields: &'static [Field]) -> Result<(), ApiError> {
    let mut broken = Vec::new();
    validate_fields(request, fields, "", &mut broken);
    if broken.is_empty() {
        return Ok(());
    }
    Err(exception(&broken))
}

/// The exception for some breaches.
pub(crate) fn exception(broken: &[String]) -> ApiError {
    let plural = if broken.len() == 1 { "" } else { "s" };
    let message = format!("{} validation error{plural} detected: {}", broken.len(), broken.join("; "));
    ApiError::validation(message)
}

/// One breach: a value as it is printed (`None` for null), where it stands, and what it must be.
pub(crate) fn breach(printed: Option<&str>, path: &str, must: &str) -> String {
    match printed {
        None => format!("Value null at '{path}' failed to satisfy constraint: Member must {must}"),
        Some(printed) => {
            format!("Value '{printed}' at '{path}' failed to satisfy constraint: {}", member_must(must))
        }
    }
}

fn member_must(must: &str) -> String {
    // Maps speak of their keys and values instead of a member.
    if must.starts_with("Map ") { must.to_owned() } else { format!("Member must {must}") }
}

fn validate_fields(parent: &Value<'_>, fields: &'static [Field], path: &str, broken: &mut Vec<String>) {
    for field in fields {
        let value = parent.get(field.name);
        validate_field(parent, value, field, &|| join(path, field.name), broken);
    }
}

/// Paths are only built for what is broken or has members of its own.
fn validate_field(
    parent: &Value<'_>,
    value: Option<&Value<'_>>,
    field: &'static Field,
    path: &dyn Fn() -> String,
    broken: &mut Vec<String>,
) {
    for rule in field.rules {
        if broken.len() >= MAX_REPORTED {
            return;
        }
        if let Some(must) = check(rule, parent, value) {
            broken.push(breach(value.map(|value| print(value, &field.kind)).as_deref(), &path(), &must));
        }
    }
    match (&field.kind, value) {
        (Kind::List(member, _), Some(Value::List(values))) if has_rules(member) => {
            for (n, value) in values.iter().enumerate() {
                if broken.len() >= MAX_REPORTED {
                    return;
                }
                let present = Some(value).filter(|value| **value != Value::Null);
                validate_field(parent, present, member, &|| format!("{}.{}.member", path(), n + 1), broken);
            }
        }
        (Kind::Struct(fields), Some(value)) if broken.len() < MAX_REPORTED => {
            validate_struct(value, fields, path, broken);
        }
        _ => {}
    }
}

fn validate_struct(
    value: &Value<'_>,
    fields: &'static [Field],
    path: &dyn Fn() -> String,
    broken: &mut Vec<String>,
) {
    for field in fields {
        validate_field(value, value.get(field.name), field, &|| join(&path(), field.name), broken);
    }
}

fn has_rules(field: &Field) -> bool {
    !field.rules.is_empty() || matches!(field.kind, Kind::Struct(_))
}

fn join(path: &str, name: &str) -> String {
    let mut letters = name.chars();
    let lowered = letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str());
    let name = lowered.unwrap_or_default();
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// What the value must be and is not; `None` where the rule is kept.
fn check(rule: &Rule, parent: &Value<'_>, value: Option<&Value<'_>>) -> Option<String> {
    let Some(value) = value else {
        let is_broken = match rule {
            Rule::NotNull => true,
            Rule::NotNullUnless(excused) => !excused(parent),
            _ => false,
        };
        return is_broken.then(|| "not be null".to_owned());
    };
    match rule {
        Rule::NotNull | Rule::NotNullUnless(_) => None,
        Rule::AtLeast(least) => {
            (number(value) < *least).then(|| format!("have value greater than or equal to {least}"))
        }
        Rule::AtMost(most) => {
            (number(value) > *most).then(|| format!("have value less than or equal to {most}"))
        }
        Rule::LongerThan(least) => {
            (length(value) < *least).then(|| format!("have length greater than or equal to {least}"))
        }
        Rule::ShorterThan(most) => {
            (length(value) > *most).then(|| format!("have length less than or equal to {most}"))
        }
        Rule::Matches(pattern) => match value {
            Value::Text(text) if !pattern.matches(text) => {
                Some(format!("satisfy regular expression pattern: {}", pattern.text()))
            }
            _ => None,
        },
        Rule::OneOf(allowed) => match value {
            Value::Text(text) if !allowed.contains(&text.as_ref()) => {
                Some(format!("satisfy enum value set: [{}]", allowed.join(", ")))
            }
            _ => None,
        },
        Rule::MemberLengths(least, most) => match value {
            Value::List(values) => outside(values.iter().map(length), *least, *most, "satisfy constraint"),
            _ => None,
        },
        Rule::KeyLengths(least, most) => match value {
            Value::Map(members) => {
                let lengths = members.iter().map(|(name, _)| name.chars().count());
                outside(lengths, *least, *most, "Map keys must satisfy constraint")
            }
            _ => None,
        },
        Rule::ValueLengths(least, most) => match value {
            Value::Map(members) => {
                let lengths = members.iter().map(|(_, value)| length(value));
                outside(lengths, *least, *most, "Map value must satisfy constraint")
            }
            _ => None,
        },
    }
}

fn outside(
    mut lengths: impl Iterator<Item = usize>,
    least: usize,
    most: usize,
    words: &str,
) -> Option<String> {
    lengths.any(|length| !(least..=most).contains(&length)).then(|| {
        format!(
            "{words}: [Member must have length less than or equal to {most}, \
             Member must have length greater than or equal to {least}]"
        )
    })
}

fn number(value: &Value<'_>) -> i64 {
    match value {
        Value::Int(number) => *number,
        _ => 0,
    }
}

fn length(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.chars().count(),
        Value::Blob(bytes) => bytes.len(),
        Value::List(values) => values.len(),
        Value::Map(members) => members.len(),
        _ => 0,
    }
}

/// A value as Java prints it.
fn print(value: &Value<'_>, kind: &Kind) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Time(ms) => ms.to_string(),
        Value::Blob(bytes) => format!("java.nio.HeapByteBuffer[pos=0 lim={0} cap={0}]", bytes.len()),
        Value::List(values) => {
            let (member, printed) = match kind {
                Kind::List(member, printed) => (&member.kind, *printed),
                _ => (kind, None),
            };
            let values =
                values.iter().map(|value| printed.map_or_else(|| print(value, member), str::to_owned));
            format!("[{}]", values.collect::<Vec<_>>().join(", "))
        }
        Value::Map(members) => {
            let mut text = "{".to_owned();
            for (n, (name, value)) in members.iter().enumerate() {
                let comma = if n > 0 { ", " } else { "" };
                // Writing to a string cannot fail.
                let _ = write!(text, "{comma}{name}={}", print(value, kind));
            }
            text + "}"
        }
        Value::Null => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::operations::*;
    use crate::schema::types::check_types;
    use crate::value::json;

    fn message(fields: &'static [Field], body: &str) -> String {
        let request = check_types(json::parse(body.as_bytes()).unwrap(), fields).unwrap();
        let error = validate(&request, fields).unwrap_err();
        assert_eq!(error.kind, "ValidationException");
        error.message.unwrap()
    }

    #[test]
    fn an_empty_put_names_what_is_missing_in_order() {
        assert_eq!(
            message(PUT_RECORD, "{}"),
            "3 validation errors detected: \
             Value null at 'partitionKey' failed to satisfy constraint: Member must not be null; \
             Value null at 'data' failed to satisfy constraint: Member must not be null; \
             Value null at 'streamName' failed to satisfy constraint: Member must not be null"
        );
    }

    #[test]
    fn empty_strings_break_pattern_and_length() {
        assert_eq!(
            message(
                PUT_RECORD,
                r#"{"StreamName":"","PartitionKey":"","Data":"","ExplicitHashKey":"","SequenceNumberForOrdering":""}"#
            ),
            "5 validation errors detected: \
             Value '' at 'sequenceNumberForOrdering' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: 0|([1-9]\\d{0,128}); \
             Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1; \
             Value '' at 'explicitHashKey' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38}); \
             Value '' at 'streamName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; \
             Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1"
        );
    }

    #[test]
    fn records_are_printed_as_java_objects_and_counted_from_one() {
        assert_eq!(
            message(PUT_RECORDS, r#"{"StreamName":"s","Records":[]}"#),
            "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: \
             Member must have length greater than or equal to 1"
        );
        let body = format!(
            r#"{{"StreamName":"s","Records":[{}{{}}]}}"#,
            r#"{"Data":"","PartitionKey":"k"},"#.repeat(500)
        );
        let text = message(PUT_RECORDS, &body);
        let entry = "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310";
        assert!(
            text.starts_with(&format!("3 validation errors detected: Value '[{entry}, {entry}, ")),
            "{text}"
        );
        assert!(
            text.ends_with(
                "]' at 'records' failed to satisfy constraint: Member must have length less than or equal to 500; \
                 Value null at 'records.501.member.partitionKey' failed to satisfy constraint: Member must not be null; \
                 Value null at 'records.501.member.data' failed to satisfy constraint: Member must not be null"
            ),
            "{text}"
        );
        let many = message(PUT_RECORDS, &format!(r#"{{"Records":[{}{{}}]}}"#, "{},".repeat(20)));
        assert!(many.starts_with("10 validation errors detected: "), "{many}");
    }

    #[test]
    fn enums_lengths_and_maps_are_reported() {
        assert_eq!(
            message(GET_SHARD_ITERATOR, r#"{"StreamName":"s","ShardId":"0","ShardIteratorType":"X"}"#),
            "1 validation error detected: Value 'X' at 'shardIteratorType' failed to satisfy constraint: Member must \
             satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]"
        );
        assert_eq!(
            message(ADD_TAGS, r#"{"StreamName":"s","Tags":{"":"v"}}"#),
            "1 validation error detected: Value '{=v}' at 'tags' failed to satisfy constraint: Map keys must satisfy \
             constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"
        );
        assert_eq!(
            message(REMOVE_TAGS, r#"{"StreamName":"s","TagKeys":["a",""]}"#),
            "1 validation error detected: Value '[a, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy \
             constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"
        );
        let big = format!(r#"{{"StreamName":"s","PartitionKey":"k","Data":"{}"}}"#, "A".repeat(13_981_016));
        assert_eq!(
            message(PUT_RECORD, &big),
            "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=10485762 cap=10485762]' at 'data' \
             failed to satisfy constraint: Member must have length less than or equal to 10485760"
        );
    }

    #[test]
    fn an_arn_excuses_the_name_and_only_a_provisioned_stream_must_have_a_count() {
        let check = |fields, body: &str| {
            validate(&check_types(json::parse(body.as_bytes()).unwrap(), fields).unwrap(), fields)
        };
        check(DESCRIBE_STREAM, r#"{"StreamARN":"arn:aws:kinesis:r:000000000000:stream/s"}"#).unwrap();
        check(CREATE_STREAM, r#"{"StreamName":"s","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}"#).unwrap();
        check(CREATE_STREAM, r#"{"StreamName":"s"}"#).unwrap();
        let provisioned = r#"{"StreamName":"s","StreamModeDetails":{"StreamMode":"PROVISIONED"}}"#;
        assert_eq!(
            message(CREATE_STREAM, provisioned),
            "1 validation error detected: Value null at 'shardCount' failed to satisfy constraint: Member must not be null"
        );
        assert_eq!(
            message(
                CREATE_STREAM,
                r#"{"StreamName":"s","ShardCount":1,"StreamModeDetails":{"StreamMode":"X"}}"#
            ),
            "1 validation error detected: Value 'X' at 'streamModeDetails.streamMode' failed to satisfy constraint: \
             Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]"
        );
    }
}
