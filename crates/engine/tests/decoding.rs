//! Raw records to Arrow: what is taken, what is refused and why, and that text is not copied.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt32Type};
use bigdecimal::{BigDecimal, ToPrimitive};
use bytes::Bytes;
use common::decode;
use pinmill_engine::{Decoder, Drift, DriftKind, Error, Position, RawValue, raw_schema};
use pinmill_pipeline::{Dataset, DriftPolicy, Pipeline, RawField, RawType};
use proptest::prelude::*;

fn dataset(policy: DriftPolicy) -> Dataset {
    let field = |name: &str, data_type, aliases: &[&str], required| RawField {
        name: name.to_owned(),
        data_type,
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        required,
    };
    let mut dataset = Pipeline::built_in().unwrap().datasets.remove(0);
    dataset.unknown_fields = policy;
    dataset.fields = vec![
        field("id", RawType::Int, &["index", "idx"], true),
        field("big", RawType::BigInt, &[], false),
        field("number", RawType::Double, &[], false),
        field("flag", RawType::Boolean, &[], false),
        field("text", RawType::String, &["title"], false),
    ];
    dataset
}

fn one(record: &str) -> Result<RecordBatch, String> {
    let decoded = decode(&mut Decoder::new(&dataset(DriftPolicy::Warn)), &[record]);
    match decoded.rejected.into_iter().next() {
        Some(rejected) => Err(rejected.reason),
        None => Ok(decoded.batch),
    }
}

fn text(batch: &RecordBatch, row: usize) -> Option<&str> {
    let texts = batch.column_by_name("text").unwrap().as_string_view();
    texts.is_valid(row).then(|| texts.value(row))
}

#[test]
fn values_of_every_type_are_read() {
    let batch =
        one(r#"{"id": 1, "big": 9007199254740993, "number": 1.5, "flag": true, "text": "t"}"#).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(0), 1);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
    assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0).to_bits(), 1.5_f64.to_bits());
    assert!(batch.column(3).as_boolean().value(0));
    assert_eq!(text(&batch, 0), Some("t"));
    let batch = one(r#"{"id": "1", "big": "-5", "number": "2e3", "flag": "FALSE", "text": null}"#).unwrap();
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), -5);
    assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0).to_bits(), 2000.0_f64.to_bits());
    assert!(!batch.column(3).as_boolean().value(0) && batch.column(3).is_valid(0));
    assert_eq!(text(&batch, 0), None);
    assert!(one(r#"{"id": 1, "flag": 1}"#).unwrap().column(3).as_boolean().value(0));
}

#[test]
fn an_integer_is_what_the_digits_say_and_not_what_a_double_makes_of_them() {
    let big = |value: &str| {
        one(&format!(r#"{{"id": 1, "big": {value}}}"#))
            .map(|batch| batch.column(1).as_primitive::<Int64Type>().value(0))
    };
    for (value, expected) in [
        ("9007199254740993.0", 9_007_199_254_740_993),
        ("\"9007199254740993.0\"", 9_007_199_254_740_993),
        ("12345678901234567890e-1", 1_234_567_890_123_456_789),
        ("9.223372036854775807e18", i64::MAX),
        ("-9223372036854775808.0", i64::MIN),
        ("1e3", 1000),
        ("-0.0", 0),
        ("\" +36.0 \"", 36),
    ] {
        assert_eq!(big(value), Ok(expected), "{value}");
    }
    for value in ["9223372036854775808.0", "1e400", "0.99999999999999999999", "1e-1", "\"1e400\"", "\"nan\""]
    {
        assert!(big(value).is_err(), "{value}");
    }
    let id = |value: &str| {
        one(&format!(r#"{{"id": {value}}}"#))
            .map(|batch| batch.column(0).as_primitive::<Int32Type>().value(0))
    };
    assert_eq!(id("\"36.0\""), Ok(36));
    assert_eq!(id("-2147483648.0"), Ok(i32::MIN));
    for value in ["0.99999999999999999999", "2147483647.0000000001", "2147483648.0", "\"36.5\""] {
        assert!(id(value).is_err(), "{value}");
    }
    assert!(one(r#"{"id": 1, "flag": 0.99999999999999999999}"#).is_err());
    let double = |value: &str| {
        one(&format!(r#"{{"id": 1, "number": {value}}}"#))
            .map(|batch| batch.column(2).as_primitive::<Float64Type>().value(0).to_bits())
    };
    assert_eq!(double("9007199254740993"), Ok(9_007_199_254_740_992.0_f64.to_bits()));
    assert_eq!(double("-0.0"), Ok((-0.0_f64).to_bits()));
    assert_eq!(double("1e-400"), Ok(0.0_f64.to_bits()));
    assert!(double("1e400").is_err() && double("\"-1e400\"").is_err());
}

#[test]
fn a_row_inside_an_array_of_one_is_the_row() {
    let object = r#"{"id": 7, "text": "a text that is longer than a view holds"}"#;
    let array = format!(" [ {object} ] ");
    let twice = serde_json::to_string(&array).unwrap();
    for record in [array.as_str(), twice.as_str(), &serde_json::to_string(&twice).unwrap()] {
        assert_eq!(one(record).unwrap(), one(object).unwrap(), "{record}");
    }
    for (record, expected) in [
        (
            r#"[{"id": 1}, {"id": 2}]"#,
            "expected one JSON object, got an array of 2 values; post each as a record",
        ),
        (
            r#""[{\"id\": 1}, 2, []]""#,
            "expected one JSON object, got an array of 3 values; post each as a record",
        ),
        ("[]", "expected a JSON object, got an empty array"),
        ("[null]", "expected a JSON object, got an array that holds only one null"),
        (r#"[[{"id": 1}]]"#, "expected a JSON object, got an array that holds only one array"),
        (r#"[{"id": 1}"#, "not valid JSON"),
        (r#"[{"id": 1}] x"#, "not valid JSON"),
        (r#"[{"id": "x"}]"#, "field `id`: expected INT, got string \"x\""),
    ] {
        let reason = one(record).expect_err(record);
        assert!(reason.contains(expected), "{record}: {reason}");
    }
}

#[test]
fn text_of_a_row_inside_an_array_is_not_copied() {
    let chunk = Bytes::from_static(br#"[{"id": 1, "text": "a text that is longer than a view holds"}]"#);
    let mut decoder = Decoder::new(&dataset(DriftPolicy::Warn));
    decoder.chunk(chunk.clone());
    decoder.push(RawValue::Chunk(0..chunk.len()), at(0));
    let decoded = decoder.finish().unwrap();
    let text = text(&decoded.batch, 0).unwrap();
    assert_eq!(text, "a text that is longer than a view holds");
    assert!(chunk.as_ptr_range().contains(&text.as_ptr()));
}

/// Comparing each name with all before it would keep this test busy for a quarter of an hour.
#[test]
fn a_record_of_hundreds_of_thousands_of_undeclared_members_is_read_in_one_pass() {
    let mut record = r#"{"id": 1"#.to_owned();
    for member in 0..400_000 {
        record.push_str(&format!(", \"m{member}\": 0"));
    }
    let whole = decode(&mut Decoder::new(&dataset(DriftPolicy::Warn)), &[&format!("{record}}}")]);
    assert_eq!(whole.batch.num_rows(), 1);
    assert_eq!(whole.drift.iter().map(|drift| drift.count).sum::<u64>(), 400_000);
    let reason = one(&format!("{record}, \"m0\": 1}}")).unwrap_err();
    assert_eq!(reason, "member `m0` is there twice");
}

#[test]
fn what_does_not_fit_a_type_is_refused_with_the_reason() {
    for (record, expected) in [
        (r#"{"id": 2147483648}"#, "field `id`: expected INT, got number 2147483648"),
        (r#"{"id": 1, "big": 1.5}"#, "field `big`: expected BIGINT, got number 1.5"),
        (
            r#"{"id": 1, "big": 92233720368547758080}"#,
            "field `big`: expected BIGINT, got number 92233720368547758080",
        ),
        (r#"{"id": 1, "big": 1e300}"#, "field `big`: expected BIGINT, got number 1e300"),
        (r#"{"id": 1, "number": "inf"}"#, "field `number`: expected DOUBLE, got string \"inf\""),
        (r#"{"id": 1, "number": false}"#, "field `number`: expected DOUBLE, got boolean false"),
        (r#"{"id": 1, "flag": 2}"#, "field `flag`: expected BOOLEAN, got number 2"),
        (r#"{"id": 1, "flag": "yes"}"#, "field `flag`: expected BOOLEAN, got string \"yes\""),
        (r#"{"id": 1, "flag": {"a": [1]}}"#, "field `flag`: expected BOOLEAN, got object {\"a\": [1]}"),
        (r#"{"text": "x"}"#, "field `id` is missing (also looked for as `index`, `idx`)"),
        (r#"{"id": 1, "number": 01}"#, "not valid JSON: invalid number at byte 21"),
        (r#"{"id": 1} {"id": 2}"#, "not valid JSON: trailing characters at byte 10"),
        (r#"{"id": 1, "text": "\ud800"}"#, "not valid JSON: unexpected end of hex escape at byte 25"),
        ("{\"id\": 1, \"text\": \"a\tb\"}", "not valid JSON"),
        (r#"{"id": 1, "text": "a", "text": "a"}"#, "member `text` is there twice"),
        (r#"{"id": 1, "new": 1, "new": 2}"#, "member `new` is there twice"),
        (r#"{"ID": 1, "Id": 2}"#, "member `Id` is there twice"),
    ] {
        let reason = one(record).expect_err(record);
        assert!(reason.contains(expected), "{record}: {reason}");
    }
}

#[test]
fn a_long_value_is_shown_by_its_beginning_on_one_line() {
    let reason = one(&format!(r#"{{"id": "{}\n"}}"#, "x".repeat(10_000))).unwrap_err();
    assert_eq!(reason, format!("field `id`: expected INT, got string \"{}…\"", "x".repeat(60)));
    let reason = one(r#"{"id": "a\nb"}"#).unwrap_err();
    assert_eq!(reason, r#"field `id`: expected INT, got string "a\nb""#);
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = |depth: usize| format!(r#"{{"id": 1, "text": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(one(&deep(100)).is_ok());
    assert!(one(&deep(100_000)).unwrap_err().contains("recursion limit"), "{:?}", one(&deep(100_000)));
    let mut wrapped = r#"{"id": 1}"#.to_owned();
    for _ in 0..3 {
        wrapped = serde_json::to_string(&wrapped).unwrap();
    }
    assert!(one(&wrapped).is_ok());
    for _ in 0..3 {
        wrapped = serde_json::to_string(&wrapped).unwrap();
    }
    assert!(one(&wrapped).unwrap_err().contains("packed more than"));
}

#[test]
fn members_are_found_by_name_alias_and_without_regard_to_case_in_any_order() {
    let records = [
        r#"{"id": 1, "text": "a"}"#,
        r#"{"text": "b", "id": 2}"#,
        r#"{"title": "c", "INDEX": 3}"#,
        r#"{"Text": "d", "idx": 4, "extra": 0}"#,
        r#"{"id": 5, "text": "e"}"#,
    ];
    let decoded = decode(&mut Decoder::new(&dataset(DriftPolicy::Warn)), &records);
    let ids: Vec<i32> = decoded.batch.column(0).as_primitive::<Int32Type>().values().to_vec();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let texts: Vec<_> = (0..5).map(|row| text(&decoded.batch, row).unwrap().to_owned()).collect();
    assert_eq!(texts, ["a", "b", "c", "d", "e"]);
    assert_eq!(decoded.drift, [Drift { field: "extra".into(), kind: DriftKind::Unknown, count: 1 }]);
}

#[test]
fn drift_is_counted_by_name_and_never_silent() {
    let records =
        [r#"{"id": 1, "new": 1, "text": {"a": 1}}"#, r#"{"id": 2, "new": [2], "index": 7}"#, r#"{"id": 3}"#];
    let decoded = decode(&mut Decoder::new(&dataset(DriftPolicy::Warn)), &records);
    assert_eq!(decoded.batch.num_rows(), 3);
    assert_eq!(
        decoded.drift,
        [
            Drift { field: "index".into(), kind: DriftKind::Shadowed, count: 1 },
            Drift { field: "new".into(), kind: DriftKind::Unknown, count: 2 },
            Drift { field: "text".into(), kind: DriftKind::Nested, count: 1 },
        ]
    );
    assert_eq!(text(&decoded.batch, 0), Some(r#"{"a": 1}"#));
}

#[test]
fn a_dataset_may_quarantine_or_stop_at_unknown_fields() {
    let records = [r#"{"id": 1}"#, r#"{"id": 2, "new": 1}"#, r#"{"id": 3}"#];
    let decoded = decode(&mut Decoder::new(&dataset(DriftPolicy::Quarantine)), &records);
    assert_eq!(decoded.batch.num_rows(), 2);
    assert_eq!(decoded.rejected[0].reason, "member `new` is not declared");
    assert_eq!(decoded.drift[0].count, 1);

    let mut decoder = Decoder::new(&dataset(DriftPolicy::Stop));
    decoder.push(RawValue::Bytes(br#"{"id": 1, "new": 1}"#), at(7));
    match decoder.finish() {
        Err(Error::UnknownField { field, offset: 7, .. }) => assert_eq!(field, "new"),
        other => panic!("{other:?}"),
    }
    // Afterwards it begins anew.
    decoder.push(RawValue::Bytes(br#"{"id": 1}"#), at(8));
    assert_eq!(decoder.finish().unwrap().batch.num_rows(), 1);
}

#[test]
fn hostile_names_cost_no_memory() {
    let mut decoder = Decoder::new(&dataset(DriftPolicy::Warn));
    for row in 0..1000 {
        let record = format!(r#"{{"id": {row}, "name{row}{}": 1}}"#, "x".repeat(1000));
        decoder.push(RawValue::Bytes(record.as_bytes()), at(row));
    }
    let drift = decoder.finish().unwrap().drift;
    assert!(drift.len() <= 101, "{}", drift.len());
    assert_eq!(drift.iter().map(|drift| drift.count).sum::<u64>(), 1000);
    assert!(drift.iter().all(|drift| drift.field.chars().count() <= 128));
}

fn at(offset: i64) -> Position {
    Position { partition: 3, offset, ingested_at_us: 1_000 + offset }
}

#[test]
fn a_row_says_where_it_came_from_and_a_bad_one_leaves_no_trace() {
    let mut decoder = Decoder::new(&dataset(DriftPolicy::Warn));
    decoder.push(RawValue::Bytes(br#"{"id": 1, "text": "long enough to be no inline view"}"#), at(10));
    decoder.push(RawValue::Bytes(br#"{"text": "a text of a row that is refused in the end"}"#), at(11));
    decoder.push(RawValue::Tombstone, at(12));
    decoder.push(RawValue::Bytes(br#"{"id": 4, "text": "another that is no inline view"}"#), at(13));
    let decoded = decoder.finish().unwrap();
    assert_eq!(decoded.batch.schema(), raw_schema(&dataset(DriftPolicy::Warn)));
    let column = |name: &str| decoded.batch.column_by_name(name).unwrap();
    assert_eq!(column("_partition").as_primitive::<Int32Type>().values(), &[3, 3]);
    assert_eq!(column("_offset").as_primitive::<Int64Type>().values(), &[10, 13]);
    assert_eq!(column("_row").as_primitive::<UInt32Type>().values(), &[0, 3]);
    assert_eq!(text(&decoded.batch, 1), Some("another that is no inline view"));
    let rejected: Vec<u32> = decoded.rejected.iter().map(|rejected| rejected.row).collect();
    assert_eq!(rejected, [1, 2]);
    assert_eq!(decoded.rejected[1].reason, "the record has no value (a tombstone)");
}

#[test]
fn text_without_escapes_is_not_copied() {
    let long = "a text that is longer than a view holds";
    let chunk = Bytes::from(format!(r#"{{"id": 1, "text": "{long}"}}{{"id": 2, "text": "\u0041{long}"}}"#));
    let end = chunk.len();
    let first = format!(r#"{{"id": 1, "text": "{long}"}}"#).len();
    let mut decoder = Decoder::new(&dataset(DriftPolicy::Warn));
    decoder.chunk(chunk.clone());
    decoder.push(RawValue::Chunk(0..first), at(0));
    decoder.push(RawValue::Chunk(first..end), at(1));
    decoder.push(RawValue::Chunk(0..end + 1), at(2));
    let decoded = decoder.finish().unwrap();
    let texts = decoded.batch.column_by_name("text").unwrap().as_string_view();
    assert_eq!((texts.value(0), texts.value(1)), (long, format!("A{long}").as_str()));
    let inside = |text: &str| chunk.as_ptr_range().contains(&text.as_ptr());
    assert!(inside(texts.value(0)) && !inside(texts.value(1)));
    assert!(decoded.rejected[0].reason.contains("outside a chunk"));
    // The chunk stays for the next batch, and a new one takes its place.
    decoder.push(RawValue::Chunk(0..first), at(3));
    decoder.chunk(Bytes::from_static(br#"{"id": 9, "text": "another chunk, another text"}"#));
    decoder.push(RawValue::Chunk(0..48), at(4));
    let decoded = decoder.finish().unwrap();
    assert_eq!(text(&decoded.batch, 0), Some(long));
    assert_eq!(text(&decoded.batch, 1), Some("another chunk, another text"));
}

#[test]
fn a_text_of_many_mebibytes_is_kept() {
    let huge = "é🎄\u{202e}".repeat(1 << 20);
    let batch = one(&serde_json::json!({ "id": 1, "text": huge }).to_string()).unwrap();
    assert_eq!(text(&batch, 0), Some(huge.as_str()));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut decoder = Decoder::new(&dataset(DriftPolicy::Warn));
    let bad: [&[u8]; 5] = [
        b"{\"id\": 1, \"text\": \"\xff\"}",
        b"{\"id\": 1, \"text\": [\"\xff\"]}",
        b"{\"id\": 1, \"\xff\": 1}",
        b"{\"id\": 1, \"new\": \"\xff\"}",
        b"\xff\xfe",
    ];
    for (offset, record) in bad.iter().enumerate() {
        decoder.push(RawValue::Bytes(record), at(offset as i64));
    }
    let decoded = decoder.finish().unwrap();
    assert_eq!(decoded.rejected.len(), bad.len(), "{:?}", decoded.rejected);
}

/// JSON numbers that equal an integer or miss one by little, most of them near an end of a range, in every spelling.
fn number_near_an_integer() -> impl Strategy<Value = String> {
    let ends = vec![0_i128, 1, 1 << 31, 1 << 53, 1 << 63, 1 << 64, 10_i128.pow(18), 10_i128.pow(19)];
    let near = (prop::sample::select(ends), -3_i128..=3).prop_map(|(end, step)| (end + step).abs());
    let integer = prop_oneof![3 => near, 1 => any::<u64>().prop_map(i128::from)];
    let tail =
        prop::sample::select(vec!["", "", "0", "000000000000000000000", "1", "00000000000000000000001"]);
    let off_by = prop::sample::select(vec![0_i64, 0, 0, 0, 1, -1, 400, -400]);
    (integer, tail, any::<prop::sample::Index>(), off_by, any::<(bool, bool)>()).prop_map(
        |(integer, tail, point, off_by, (negative, upper))| {
            let sign = if negative { "-" } else { "" };
            let whole = integer.to_string();
            let digits = format!("{whole}{tail}");
            // JSON allows no zero in front of another digit.
            let point = if integer == 0 { 1 } else { point.index(digits.len() + 1) };
            let exponent = whole.len() as i64 - point as i64 + off_by;
            let (before, after) = digits.split_at(point);
            let before = if before.is_empty() { "0" } else { before };
            let after = if after.is_empty() { String::new() } else { format!(".{after}") };
            match (exponent, upper) {
                (0, _) => format!("{sign}{before}{after}"),
                (_, true) => format!("{sign}{before}{after}E{exponent:+}"),
                (_, false) => format!("{sign}{before}{after}e{exponent}"),
            }
        },
    )
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        prop::collection::vec(any::<String>(), 0..3).prop_map(Into::into),
    ]
}

/// Records much like those that come, with now and then something wrong in them.
fn record() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        4 => any::<i32>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| n.to_string()),
        1 => prop::sample::select(vec!["0", "-0", "01", "1.", "1e5", "1E+2", "25.0", "-", "1e999", "9223372036854775808"])
            .prop_map(str::to_owned),
    ];
    let string = prop_oneof![
        4 => "[a-zA-Z ]{0,20}".prop_map(|text| format!("\"{text}\"")),
        2 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => any::<String>().prop_map(|text| escape(&serde_json::Value::from(text).to_string())),
        1 => prop::sample::select(vec!["\"a\tb\"", "\"\\ud800\"", "\"open", "\"12\"", "\" 7 \"", "\"true\""])
            .prop_map(str::to_owned),
    ];
    let other = prop::sample::select(vec!["null", "true", "false", "nul", "[1, \"a\"]", "{\"a\": 1}", ""]);
    let value = prop_oneof![3 => number, 4 => string, 1 => other.prop_map(str::to_owned)];
    let name =
        prop::sample::select(vec!["big", "number", "flag", "text", "title", "TEXT", "new", "te\\u0078t"]);
    let blank = prop::sample::select(vec!["", "", " ", "\t", " \r "]);
    let member = (name, value, blank.clone())
        .prop_map(|(name, value, blank)| format!("{blank}\"{name}\":{blank}{value}"));
    let ordered = (any::<i16>(), any::<i32>(), "[a-z]{0,14}", blank).prop_map(|(id, big, text, blank)| {
        format!("{{\"id\": {id},{blank}\"big\":{big}, \"text\" : \"{text}\"{blank}}}{blank}")
    });
    let any_members = (
        any::<u8>(),
        prop::collection::vec(member, 0..5),
        prop::sample::select(vec!["}", "}", "", "}}", "},"]),
    )
        .prop_map(|(id, members, end)| {
            let members: String = members.iter().map(|member| format!(",{member}")).collect();
            format!("{{\"id\": {id}{members}{end}")
        });
    prop_oneof![2 => ordered, 3 => any_members]
}

proptest! {
    #![proptest_config(pinmill_testkit::property(512))]

    /// What serde_json writes is read as serde_json reads it, escaped or not, whatever the chunk.
    #[test]
    fn text_is_read_as_another_reader_reads_it(
        texts in prop::collection::vec(any::<String>(), 1..20),
        ascii in any::<bool>(),
    ) {
        let records: Vec<String> = texts.iter().enumerate().map(|(id, text)| {
            let json = serde_json::json!({ "id": id, "text": text }).to_string();
            if ascii { escape(&json) } else { json }
        }).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let decoded = decode(&mut Decoder::new(&dataset(DriftPolicy::Warn)), &records);
        prop_assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        for (row, expected) in texts.iter().enumerate() {
            prop_assert_eq!(text(&decoded.batch, row), Some(expected.as_str()));
        }
    }

    /// Integers are read as arithmetic without rounding reads them, as numbers and in strings, both ways.
    #[test]
    fn an_integer_is_read_exactly_or_refused(number in number_near_an_integer()) {
        let exact: BigDecimal = number.parse().unwrap();
        let expected = if exact.is_integer() { exact.to_i64() } else { None };
        let records = [
            format!(r#"{{"id": 1, "big": {number}}}"#),
            format!(r#"{{"id": 1, "big": "{number}"}}"#),
            format!(r#"{{"id": {number}}}"#),
            format!(r#"{{"id": "{number}"}}"#),
        ];
        for mut decoder in [Decoder::new, Decoder::careful].map(|make| make(&dataset(DriftPolicy::Warn))) {
            for (index, record) in records.iter().enumerate() {
                let decoded = decode(&mut decoder, &[record]);
                let found = (decoded.batch.num_rows() == 1).then(|| match index {
                    0 | 1 => decoded.batch.column(1).as_primitive::<Int64Type>().value(0),
                    _ => decoded.batch.column(0).as_primitive::<Int32Type>().value(0).into(),
                });
                let expected = match index {
                    0 | 1 => expected,
                    _ => expected.filter(|value| i32::try_from(*value).is_ok()),
                };
                prop_assert_eq!(found, expected, "{}: {:?}", record, decoded.rejected);
            }
        }
    }

    /// The quick way through a record gives what the careful way gives, or is not taken.
    #[test]
    fn the_quick_way_gives_what_the_careful_way_gives(records in prop::collection::vec(record(), 1..30)) {
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let quick = decode(&mut Decoder::new(&dataset(DriftPolicy::Warn)), &records);
        let careful = decode(&mut Decoder::careful(&dataset(DriftPolicy::Warn)), &records);
        prop_assert_eq!(quick.rejected, careful.rejected);
        prop_assert_eq!(quick.drift, careful.drift);
        prop_assert_eq!(quick.batch, careful.batch);
    }

    /// Every record becomes a row or a reason; none is lost, none panics.
    #[test]
    fn every_record_is_a_row_or_a_reason(
        members in prop::collection::vec((prop_oneof![Just("id".to_owned()), Just("text".to_owned()),
            Just("number".to_owned()), Just("flag".to_owned()), any::<String>()], value()), 0..6),
        cut in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let members: Vec<String> = members.iter()
            .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str()))).collect();
        let whole = format!("{{{}}}", members.join(","));
        let cut = &whole.as_bytes()[..cut.index(whole.len() + 1).min(whole.len())];
        let mut decoder = Decoder::new(&dataset(DriftPolicy::Warn));
        for (offset, record) in [whole.as_bytes(), cut, junk.as_slice()].into_iter().enumerate() {
            decoder.push(RawValue::Bytes(record), at(offset as i64));
        }
        let decoded = decoder.finish().unwrap();
        prop_assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), 3);
    }
}

/// JSON with every character beyond ASCII as `\u…`, as Python writes it.
fn escape(json: &str) -> String {
    let mut out = String::new();
    for c in json.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
    out
}
