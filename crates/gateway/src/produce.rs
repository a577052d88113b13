//! A produce request: from its body to records, and from the log's answers to the body of ours. No I/O.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use pinmill_broker::Record;
use pinmill_http::without_bom;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::Limits;
use crate::error::ApiError;
use crate::json::{self, Name, quoted};
use crate::media::Embedded;

/// Base64 with the standard alphabet; padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// How the proxy begins to say that a member is unknown.
const UNRECOGNIZED: &str = "Unrecognized field: ";

/// A record as a client asked for it to be stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    /// The partition that the record itself names. It need not exist.
    pub(crate) partition: Option<i64>,
    pub(crate) record: Record,
}

/// Reads the body of a produce request.
///
/// A body that is not JSON, or in which something else stands where an array or an object belongs, is a 400. One that says
/// nothing, names an unknown member, or holds a value that readers would understand differently, is a 422. Nothing of
/// either is stored. A byte order mark before the body is left out.
pub(crate) fn parse(body: &[u8], embedded: Embedded, limits: &Limits) -> Result<Vec<Posted>, ApiError> {
    let body = without_bom(body);
    if matches!(body.trim_ascii(), b"" | b"null") {
        return Err(ApiError::unprocessable("the request has no body"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let is_understood = Cell::new(false);
    let records = Envelope { limit: limits.records_per_request, is_understood: &is_understood }
        .deserialize(&mut reader)
        .and_then(|records| reader.end().map(|()| records))
        .map_err(|error| refusal(&error, is_understood.get()))?;
    match records {
        None => Err(ApiError::unprocessable("records is missing")),
        Some(records) if records.is_empty() => Err(ApiError::unprocessable("records is empty")),
        Some(records) => {
            let mut posted = Vec::with_capacity(records.len());
            for (index, RawRecord { key, value, partition }) in records.into_iter().enumerate() {
                let key = field(key, "key", index, embedded, limits)?;
                let value = field(value, "value", index, embedded, limits)?;
                posted.push(Posted { partition, record: Record { key, value, ..Record::default() } });
            }
            Ok(posted)
        }
    }
}

/// The bytes to store for a key or value; `null` is none.
fn field(
    raw: Option<&RawValue>,
    name: &'static str,
    index: usize,
    embedded: Embedded,
    limits: &Limits,
) -> Result<Option<Bytes>, ApiError> {
    let Some(value) = raw.filter(|value| value.get() != "null") else { return Ok(None) };
    match embedded {
        Embedded::Json => {
            let refusal = |refused| ApiError::unprocessable(format!("records[{index}].{name}: {refused}"));
            json::compact(value, limits.json_depth).map(|bytes| Some(bytes.into())).map_err(refusal)
        }
        Embedded::Binary => {
            let refused =
                |why: &str| ApiError::bad_request(format!("records[{index}].{name} is not base64: {why}"));
            // The parser would speak of a member's name, which is what it mostly reads.
            if !value.get().starts_with('"') {
                return Err(refused("expected a string"));
            }
            let base64 = json::unescaped(value.get()).map_err(|error| refused(&error.to_string()))?;
            let decoded = BASE64.decode(base64.as_bytes());
            decoded.map(|bytes| Some(bytes.into())).map_err(|error| refused(&error.to_string()))
        }
    }
}

/// What the client is told of JSON that was refused. `is_understood`: its structure is right, what it says is not.
fn refusal(error: &serde_json::Error, is_understood: bool) -> ApiError {
    let mut message = error.to_string();
    if message.starts_with(UNRECOGNIZED)
        && let Some((words, _)) = message.rsplit_once(" at line ")
    {
        // Word for word the proxy's, which does not say where.
        message = words.to_owned();
    }
    if is_understood { ApiError::unprocessable(message) } else { ApiError::bad_request(message) }
}

#[derive(Default)]
struct RawRecord<'de> {
    key: Option<&'de RawValue>,
    value: Option<&'de RawValue>,
    partition: Option<i64>,
}

/// The whole body; `None` when it has no records member, or null. `is_understood` is set before an error that is none of
/// structure.
struct Envelope<'a> {
    limit: usize,
    is_understood: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Envelope<'_> {
    type Value = Option<Vec<RawRecord<'de>>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = Option<Vec<RawRecord<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `records`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        // Schemas mean nothing to the two formats there are, and clients send them as null.
        const MEMBERS: [&str; 5] =
            ["records", "key_schema", "key_schema_id", "value_schema", "value_schema_id"];
        let mut records = None;
        let mut seen = [false; MEMBERS.len()];
        while let Some(name) = members.next_key_seed(Name)? {
            let known = once(&MEMBERS, &name, &mut seen, self.is_understood)?;
            if known == 0 {
                let Self { limit, is_understood } = self;
                records = members.next_value_seed(Optional(Records { limit, is_understood }))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(records)
    }
}

struct Records<'a> {
    limit: usize,
    is_understood: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Records<'_> {
    type Value = Vec<RawRecord<'de>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Records<'_> {
    type Value = Vec<RawRecord<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut records = Vec::with_capacity(1);
        while let Some(record) = items.next_element_seed(OneRecord { is_understood: self.is_understood })? {
            if records.len() == self.limit {
                self.is_understood.set(true);
                return Err(A::Error::custom(format_args!(
                    "more than {} records in one request",
                    self.limit
                )));
            }
            records.push(record);
        }
        Ok(records)
    }
}

struct OneRecord<'a> {
    is_understood: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for OneRecord<'_> {
    type Value = RawRecord<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneRecord<'_> {
    type Value = RawRecord<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record: an object with `key`, `value` and `partition`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        const MEMBERS: [&str; 3] = ["key", "value", "partition"];
        let mut record = RawRecord::default();
        let mut seen = [false; MEMBERS.len()];
        while let Some(name) = members.next_key_seed(Name)? {
            match once(&MEMBERS, &name, &mut seen, self.is_understood)? {
                0 => record.key = Some(members.next_value()?),
                1 => record.value = Some(members.next_value()?),
                _ => record.partition = members.next_value()?,
            }
        }
        Ok(record)
    }
}

/// A value or null.
struct Optional<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Optional<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Optional<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(reader).map(Some)
    }
}

/// The index of a member's name, which must be one of those and not have been there before.
fn once<E: serde::de::Error>(
    members: &[&str],
    name: &str,
    seen: &mut [bool],
    is_understood: &Cell<bool>,
) -> Result<usize, E> {
    let Some(index) = members.iter().position(|member| *member == name) else {
        is_understood.set(true);
        let cut: String = name.escape_debug().take(60).collect();
        return Err(E::custom(format_args!("{UNRECOGNIZED}{cut}")));
    };
    if std::mem::replace(&mut seen[index], true) {
        is_understood.set(true);
        return Err(E::custom(format_args!("member {} is there twice", quoted(name))));
    }
    Ok(index)
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored {
        partition: u32,
        offset: u64,
    },
    /// Not stored. Retriable is a hint: 50003 instead of 50002.
    Refused {
        retriable: bool,
        error: Cow<'static, str>,
    },
}

impl Outcome {
    /// What a record has until the log has answered for it.
    pub(crate) const UNANSWERED: Self =
        Self::Refused { retriable: true, error: Cow::Borrowed("the log gave no offset") };
}

/// Bytes of the answer about so many records when all of them are stored, or a little more.
pub(crate) fn usual_size(records: usize) -> usize {
    64 + records * 80
}

/// The body of an answer to a produce request.
pub(crate) fn answer(outcomes: &[Outcome]) -> String {
    let mut body = String::with_capacity(usual_size(outcomes.len()));
    body.push_str(r#"{"offsets":["#);
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        // Writing to a string cannot fail.
        let _ = match outcome {
            Outcome::Stored { partition, offset } => write!(
                body,
                r#"{{"partition":{partition},"offset":{offset},"error_code":null,"error":null}}"#
            ),
            Outcome::Refused { retriable, error } => {
                let code = if *retriable { 50003 } else { 50002 };
                let error = serde_json::Value::from(&**error);
                write!(body, r#"{{"partition":null,"offset":null,"error_code":{code},"error":{error}}}"#)
            }
        };
    }
    body.push_str(r#"],"key_schema_id":null,"value_schema_id":null}"#);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_json(body: &str) -> Result<Vec<Posted>, ApiError> {
        parse(body.as_bytes(), Embedded::Json, &Limits::default())
    }

    fn only(body: &str) -> (Option<String>, Option<String>, Option<i64>) {
        let posted = parse_json(body).unwrap();
        let [Posted { partition, record }] = posted.as_slice() else { panic!("{posted:?}") };
        let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|b| String::from_utf8(b.to_vec()).unwrap());
        (text(&record.key), text(&record.value), *partition)
    }

    #[test]
    fn values_keep_their_order_and_their_numbers_text() {
        let (key, value, partition) = only(
            r#"{"records": [{"value": {"z": 1.50, "a": [1e3, -0], "big": 12345678901234567890123}, "key": "k"}]}"#,
        );
        assert_eq!(value.unwrap(), r#"{"z":1.50,"a":[1e3,-0],"big":12345678901234567890123}"#);
        assert_eq!((key.as_deref(), partition), (Some("\"k\""), None));
    }

    #[test]
    fn null_is_none_and_other_empty_values_are_values() {
        assert_eq!(only(r#"{"records":[{"value":null,"key":null,"partition":null}]}"#), (None, None, None));
        assert_eq!(only(r#"{"records":[{}]}"#), (None, None, None));
        for value in ["0", "false", "\"\"", "{}", "[]", "\"null\""] {
            let body = format!("{{\"records\":[{{\"value\":{value}}}]}}");
            assert_eq!(only(&body).1.as_deref(), Some(value));
        }
    }

    #[test]
    fn schemas_are_taken_and_mean_nothing() {
        let body = r#"{"key_schema":null,"value_schema_id":7,"value_schema":"x","records":[{"value":1,"partition":3}]}"#;
        assert_eq!(only(body), (None, Some("1".to_owned()), Some(3)));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_proxys_status() {
        for (body, status, why) in [
            ("", 422, "no body"),
            (" \n ", 422, "no body"),
            ("null", 422, "no body"),
            ("\u{feff}", 422, "no body"),
            ("\u{feff}\u{feff}{}", 400, "expected"),
            ("{", 400, "EOF"),
            ("records", 400, "expected"),
            ("[]", 400, "an object with `records`"),
            ("{}", 422, "records is missing"),
            (r#"{"records":null}"#, 422, "records is missing"),
            (r#"{"records":[]}"#, 422, "records is empty"),
            (r#"{"records":{}}"#, 400, "an array"),
            (r#"{"records":"x"}"#, 400, "an array"),
            (r#"{"records":[1]}"#, 400, "a record"),
            (r#"{"records":[null]}"#, 400, "a record"),
            (r#"{"records":[[]]}"#, 400, "a record"),
            (r#"{"records":[{"value":1},{"value":1,"x":2}]}"#, 422, "Unrecognized field: x"),
            (r#"{"records":[{"value":1}],"other":1}"#, 422, "Unrecognized field: other"),
            (r#"{"records":[{"valve":1}]}"#, 422, "Unrecognized field: valve"),
            (r#"{"records":[{"value":1,"value":2}]}"#, 422, "`value` is there twice"),
            (r#"{"records":[],"records":[{"value":1}]}"#, 422, "`records` is there twice"),
            (r#"{"records":[{"value":1,"partition":"0"}]}"#, 400, "invalid type"),
            (r#"{"records":[{"value":1,"partition":0.5}]}"#, 400, "invalid type"),
            (r#"{"records":[{"value":1}]} x"#, 400, "trailing"),
            (r#"{"records":[{"value":1},{"value":{"a":1,"a":2}}]}"#, 422, "records[1].value: member `a`"),
            (r#"{"records":[{"value":1e999}]}"#, 422, "records[0].value: number out of range"),
            (r#"{"records":[{"key":"\ud800"}]}"#, 422, "records[0].key:"),
            (r#"{"records":[{"value":NaN}]}"#, 400, "expected value"),
        ] {
            let error = parse_json(body).unwrap_err();
            assert_eq!(error.status.as_u16(), status, "{body}: {error:?}");
            assert_eq!(error.code, u32::from(status), "{body}");
            assert!(error.message.contains(why), "{body}: {error:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_refused_wherever_they_are() {
        for body in [
            &b"{\"records\":[{\"value\":\"\xff\"}]}"[..],
            b"{\"records\":[{\"value\":{\"\xc3\":1}}]}",
            b"{\"re\xffcords\":[]}",
            b"{\"records\":[{\"value\":1}]}\xef\xbb\xbf",
            b"{\"records\":[{\"value\":1}]}\x00",
        ] {
            let error = parse(body, Embedded::Json, &Limits::default()).unwrap_err();
            assert_eq!(error.status.as_u16(), 400, "{error:?}");
        }
    }

    #[test]
    fn nesting_and_the_number_of_records_are_limited() {
        let nested = |levels: usize| {
            format!(r#"{{"records":[{{"value":{}{}}}]}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        parse_json(&nested(64)).unwrap();
        for levels in [65, 100_000] {
            assert_eq!(parse_json(&nested(levels)).unwrap_err().status.as_u16(), 422);
        }
        let limits = Limits { records_per_request: 2, ..Limits::default() };
        let body = |count| format!(r#"{{"records":[{}]}}"#, vec!["{}"; count].join(",")).into_bytes();
        assert_eq!(parse(&body(2), Embedded::Json, &limits).unwrap().len(), 2);
        let error = parse(&body(3), Embedded::Json, &limits).unwrap_err();
        assert_eq!(error.status.as_u16(), 422);
    }

    #[test]
    fn binary_records_are_base64_of_the_standard_alphabet() {
        let parse = |body: &'static str| parse(body.as_bytes(), Embedded::Binary, &Limits::default());
        let posted =
            parse(r#"{"records":[{"key":"a2V5","value":"AP\u002f+"},{"value":null},{"value":""}]}"#).unwrap();
        assert_eq!(posted[0].record.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(posted[0].record.value.as_deref(), Some(&[0, 0xff, 0xfe][..]));
        assert_eq!(posted[1].record.value, None);
        assert_eq!(posted[2].record.value.as_deref(), Some(&b""[..]));
        for (value, decoded) in [("Zm8=", "fo"), ("Zm8", "fo"), ("Zg", "f"), ("Zg==", "f"), ("Zm9v", "foo")] {
            let body = format!("{{\"records\":[{{\"value\":\"{value}\"}}]}}");
            let posted = super::parse(body.as_bytes(), Embedded::Binary, &Limits::default()).unwrap();
            assert_eq!(posted[0].record.value.as_deref(), Some(decoded.as_bytes()), "{value}");
        }
        for (body, status) in [
            (r#"{"records":[{"value":"%%%"}]}"#, 400),
            (r#"{"records":[{"value":"a2V5_-"}]}"#, 400),
            (r#"{"records":[{"value":5}]}"#, 400),
            (r#"{"records":[{"value": {}}]}"#, 400),
            (r#"{"records":[{"value":"A"}]}"#, 400),
        ] {
            let error = parse(body).unwrap_err();
            assert_eq!(error.status.as_u16(), status, "{body}");
            assert!(
                error.message.contains("records[0].value") && error.message.contains("base64"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn answers_have_the_proxys_bytes() {
        let stored = Outcome::Stored { partition: 0, offset: 5 };
        assert_eq!(
            answer(std::slice::from_ref(&stored)),
            r#"{"offsets":[{"partition":0,"offset":5,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}"#
        );
        let refused = |retriable| Outcome::Refused { retriable, error: "a \"b\"".into() };
        assert_eq!(
            answer(&[stored, refused(false), refused(true)]),
            concat!(
                r#"{"offsets":[{"partition":0,"offset":5,"error_code":null,"error":null},"#,
                r#"{"partition":null,"offset":null,"error_code":50002,"error":"a \"b\""},"#,
                r#"{"partition":null,"offset":null,"error_code":50003,"error":"a \"b\""}],"#,
                r#""key_schema_id":null,"value_schema_id":null}"#
            )
        );
    }
}
