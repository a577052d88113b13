//! Poisoned batches: a bad row is found and told, the others are cleaned.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use pinmill_pipeline::{Action, Dataset, Expectation, Pipeline, Problems, RawField, RawType};

use super::{CleanPlan, SqlCleaner};
use crate::decode::{Decoder, Position, RawValue};
use crate::error::Error;
use crate::{Cleaned, Cleaner, session};

fn dataset(sql: &str) -> Dataset {
    let mut dataset = Pipeline::built_in().unwrap().datasets.remove(0);
    dataset.fields = ["ind", "n"]
        .map(|name| RawField { name: name.into(), data_type: RawType::Int, aliases: vec![], required: false })
        .to_vec();
    sql.clone_into(&mut dataset.clean.text);
    dataset.expectations.clear();
    dataset
}

fn expect(name: &str, sql: &str, action: Action, reason: &str) -> Expectation {
    Expectation { name: name.into(), sql: sql.into(), action, reason: reason.into(), position: (1, 1) }
}

/// Panics at 13, as a function with a bug would.
fn unlucky() -> ScalarUDF {
    create_udf(
        "unlucky",
        vec![DataType::Int32],
        DataType::Int32,
        Volatility::Immutable,
        Arc::new(|args: &[ColumnarValue]| {
            let array = ColumnarValue::values_to_arrays(args)?.remove(0);
            let numbers = array.as_primitive::<Int32Type>();
            assert!(!numbers.iter().any(|n| n == Some(13)), "unlucky number");
            let same: ArrayRef = Arc::new(numbers.clone());
            Ok(ColumnarValue::Array(same))
        }),
    )
}

fn cleaner(dataset: &Dataset) -> Result<SqlCleaner, Problems> {
    let mut state = session::spark_state(Arc::new(RuntimeEnv::default()), 1).unwrap();
    state.register_udf(Arc::new(unlucky())).unwrap();
    futures::executor::block_on(CleanPlan::new(state, dataset)).map(SqlCleaner::new)
}

fn raw(dataset: &Dataset, numbers: &[i32]) -> RecordBatch {
    let mut decoder = Decoder::new(dataset);
    for (row, n) in numbers.iter().enumerate() {
        let record = format!(r#"{{"ind": {row}, "n": {n}}}"#);
        let offset = i64::try_from(row).unwrap() + 100;
        decoder.push(
            RawValue::Bytes(record.as_bytes()),
            Position { partition: 0, offset, sub: 0, ingested_at_us: 0 },
        );
    }
    decoder.finish().unwrap().batch
}

fn offsets(cleaned: &Cleaned) -> Vec<i64> {
    cleaned.rows.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_failing_row_is_isolated_whatever_part_of_the_batch_fails() {
    let dataset = dataset("SELECT ind, 100 div n AS share FROM raw_pin");
    let mut cleaner = cleaner(&dataset).unwrap();
    let alternating: Vec<i32> = (0..1000).map(|row| row % 2).collect();
    for numbers in [vec![], vec![0], vec![1], vec![1, 0, 1], vec![0; 100], alternating, vec![7; 500]] {
        let cleaned = cleaner.clean(&raw(&dataset, &numbers)).unwrap();
        let is_bad = |row: &usize| numbers[*row] == 0;
        let bad: Vec<u32> = (0..numbers.len()).filter(is_bad).map(|row| row as u32).collect();
        let good: Vec<i64> =
            (0..numbers.len()).filter(|row| !is_bad(row)).map(|row| row as i64 + 100).collect();
        assert_eq!(cleaned.rejected.iter().map(|rejected| rejected.row).collect::<Vec<_>>(), bad);
        assert_eq!(offsets(&cleaned), good);
        for rejected in &cleaned.rejected {
            assert!(rejected.reason.starts_with("clean/pin.sql failed: "), "{}", rejected.reason);
            assert!(rejected.reason.to_lowercase().contains("divide by zero"), "{}", rejected.reason);
        }
    }
}

#[test]
fn a_row_that_panics_a_function_is_isolated() {
    let dataset = dataset("SELECT ind, unlucky(n) AS n FROM raw_pin");
    let mut cleaner = cleaner(&dataset).unwrap();
    let cleaned = cleaner.clean(&raw(&dataset, &[1, 2, 13, 4])).unwrap();
    assert_eq!(offsets(&cleaned), [100, 101, 103]);
    assert_eq!(cleaned.rejected[0].row, 2);
    assert!(cleaned.rejected[0].reason.contains("panicked: unlucky number"), "{:?}", cleaned.rejected);
    // And it works as before.
    assert_eq!(cleaner.clean(&raw(&dataset, &[1, 2])).unwrap().rows.num_rows(), 2);
}

#[test]
fn rows_that_where_removes_are_told() {
    let dataset = dataset("SELECT ind FROM raw_pin WHERE n > 1");
    let cleaned = cleaner(&dataset).unwrap().clean(&raw(&dataset, &[1, 2, 0, 3])).unwrap();
    assert_eq!(offsets(&cleaned), [101, 103]);
    let told: Vec<(u32, &str)> = cleaned.rejected.iter().map(|r| (r.row, r.reason.as_str())).collect();
    assert_eq!(told, [(0, "left out by clean/pin.sql"), (2, "left out by clean/pin.sql")]);
}

#[test]
fn violations_are_quarantined_warned_of_or_stop_the_run() {
    let mut dataset = dataset("SELECT ind, nullif(n, 5) AS n, n AS _n FROM raw_pin");
    dataset.expectations = vec![
        expect("small", "n < 10", Action::Quarantine, "{n} is too large"),
        expect("even", "n % 2 = 0", Action::Warn, ""),
        expect("not_eleven", "_n <> 11", Action::Quarantine, "{_n} of {ind}"),
    ];
    let mut quarantining = cleaner(&dataset).unwrap();
    let cleaned = quarantining.clean(&raw(&dataset, &[1, 2, 12, 11, 5])).unwrap();
    // 5 became NULL, and NULL violates nothing.
    assert_eq!(offsets(&cleaned), [100, 101, 104]);
    let told: Vec<(u32, &str)> = cleaned.rejected.iter().map(|r| (r.row, r.reason.as_str())).collect();
    assert_eq!(told, [(2, "12 is too large"), (3, "11 is too large; 11 of 3")]);
    assert_eq!(cleaned.warned, [("even".to_owned(), 2)]);
    let names: Vec<String> = cleaned.rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["ind", "n", "_topic", "_lineage", "_partition", "_offset", "_sub", "_ingested_at"]);

    dataset.expectations = vec![expect("small", "n < 10", Action::Stop, "{n} is too large")];
    match cleaner(&dataset).unwrap().clean(&raw(&dataset, &[1, 12])) {
        Err(Error::Stopped { expectation, reason, offset: 101, .. }) => {
            assert_eq!((expectation.as_str(), reason.as_str()), ("small", "12 is too large"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn columns_have_types_that_a_table_can_hold() {
    let sql = "SELECT ind, CAST(n AS STRING) AS text, array(n, 1) AS list, CAST('2020-01-01' AS DATE) AS day, \
               timestamp '2020-01-01 00:00:00' AS moment, CAST(n AS DECIMAL(10, 2)) AS decimal, n > 1 AS flag, \
               CAST(n AS TINYINT) AS tiny FROM raw_pin";
    let dataset = dataset(sql);
    let mut cleaner = cleaner(&dataset).unwrap();
    let cleaned = cleaner.clean(&raw(&dataset, &[1])).unwrap();
    assert_eq!(cleaned.rows.schema(), cleaner.schema());
    let types: Vec<String> =
        cleaner.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(
        types,
        [
            "Int32",
            "Utf8View",
            "List(Int64, field: 'element')",
            "Date32",
            "Timestamp(µs, \"UTC\")",
            "Decimal128(10, 2)",
            "Boolean",
            "Int8",
            "Dictionary(Int32, Utf8)",
            "Int32",
            "Int32",
            "Int64",
            "Int32",
            "Timestamp(µs, \"UTC\")",
        ]
    );
}

#[test]
fn the_same_records_in_other_batches_give_the_same_rows() {
    let pipeline = Pipeline::built_in().unwrap();
    let geo = pipeline.dataset("geo").unwrap();
    let mut cleaner = cleaner(geo).unwrap();
    let records: Vec<String> = (0..200)
        .map(|n| match n % 5 {
            0 => format!(r#"{{"ind": {n}, "latitude": {n}, "timestamp": "2020-01-01 00:00:00"}}"#),
            1 => format!(r#"{{"ind": {n}, "latitude": 1.5, "timestamp": "never"}}"#),
            2 => format!(r#"{{"index": "{n}", "country": " "}}"#),
            3 => "{}".to_owned(),
            _ => format!(
                r#"{{"ind": {n}, "timestamp": "08/28/2020, 03:52:47", "country": "Côte d'Ivoire {n}"}}"#
            ),
        })
        .collect();
    let mut whole: Option<(RecordBatch, Vec<String>)> = None;
    for size in [200, 1, 2, 7, 64] {
        let mut parts = Vec::new();
        let mut reasons = Vec::new();
        let mut decoder = Decoder::new(geo);
        for (chunk_index, chunk) in records.chunks(size).enumerate() {
            for (index, record) in chunk.iter().enumerate() {
                let offset = i64::try_from(chunk_index * size + index).unwrap();
                let at = Position { partition: 0, offset, sub: 0, ingested_at_us: offset };
                decoder.push(RawValue::Bytes(record.as_bytes()), at);
            }
            let decoded = decoder.finish().unwrap();
            let cleaned = cleaner.clean(&decoded.batch).unwrap();
            let mut all: Vec<_> = decoded.rejected.into_iter().chain(cleaned.rejected).collect();
            all.sort_by_key(|rejected| rejected.row);
            reasons.extend(
                all.into_iter().map(|r| format!("{}: {}", chunk_index * size + r.row as usize, r.reason)),
            );
            parts.push(cleaned.rows);
        }
        let rows = arrow::compute::concat_batches(&cleaner.schema(), &parts).unwrap();
        let (first_rows, first_reasons) = whole.get_or_insert_with(|| (rows.clone(), reasons.clone()));
        assert_eq!((&rows, &reasons), (&*first_rows, &*first_reasons), "batches of {size}");
    }
}

#[test]
fn a_row_that_would_be_too_large_is_put_aside_and_takes_no_other_with_it() {
    let dataset =
        dataset("SELECT ind, repeat('x', n) AS made, rpad('y', n * 10, 'z') AS padded FROM raw_pin");
    let mut cleaner = cleaner(&dataset).unwrap();
    let cleaned = cleaner.clean(&raw(&dataset, &[1, 100_000_000, 3, 20_000_000, 5])).unwrap();
    assert_eq!(cleaned.rows.num_rows(), 3);
    let rejected: Vec<u32> = cleaned.rejected.iter().map(|rejected| rejected.row).collect();
    assert_eq!(rejected, [1, 3]);
    assert!(
        cleaned.rejected[0].reason.contains("repeat would make a value of 100000000 bytes"),
        "{cleaned:?}"
    );
    assert!(cleaned.rejected[1].reason.contains("rpad would make"), "{cleaned:?}");
}

#[test]
fn rows_that_are_too_large_together_are_cleaned_in_parts() {
    // Text, and lists of numbers of eight bytes.
    for (made, n) in [("repeat('x', n)", 10_000_000), ("array_repeat(CAST(n AS BIGINT), n)", 1_250_000)] {
        are_cleaned_in_parts(&dataset(&format!("SELECT ind, {made} AS made FROM raw_pin")), n);
    }
}

/// Forty rows of 10 MB each.
fn are_cleaned_in_parts(dataset: &Dataset, n: i32) {
    let mut cleaner = cleaner(dataset).unwrap();
    let batch = raw(dataset, &[n; 40]);
    assert!(matches!(cleaner.clean(&batch), Err(Error::TooLarge { .. })));
    let (mut parts, mut found) = (0, Vec::new());
    for part in crate::clean_parts(&mut cleaner, &batch) {
        let Cleaned { rows, rejected, .. } = part.unwrap();
        assert!(rejected.is_empty());
        found.extend(rows.column_by_name("ind").unwrap().as_primitive::<Int32Type>().values().to_vec());
        parts += 1;
    }
    assert!(parts > 1);
    assert_eq!(found, (0..40).collect::<Vec<i32>>());
}

#[test]
fn a_reason_does_not_hold_a_value_of_any_length() {
    let dataset = dataset("SELECT ind, CAST(repeat('x', n) AS INT) AS made FROM raw_pin");
    let mut cleaner = cleaner(&dataset).unwrap();
    let cleaned = cleaner.clean(&raw(&dataset, &[1_000_000])).unwrap();
    let reason = &cleaned.rejected[0].reason;
    assert!(reason.contains("xxx") && reason.len() < 1000, "{} bytes", reason.len());
}
