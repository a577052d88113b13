//! What a file says of itself in the table's log.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use pinmill_lake::table::{CommitPlan, Table, WriterOptions};
use pinmill_lake::{Error, Lake};
use rand::RngExt;

use crate::common::{FaultyStore, contents};
use crate::support::{open, plan, rows, sum};

#[tokio::test]
async fn files_are_closed_at_their_size_and_columns_matched_by_name() {
    let lake = FaultyStore::new().lake();
    let table = open(&lake).await;
    let mut writer = table.writer(WriterOptions { file_bytes: 10_000, row_group_rows: 100 });
    for start in 0..20 {
        let batch = rows(0, start * 300..(start + 1) * 300);
        let mut order: Vec<usize> = (0..batch.num_columns()).collect();
        if start % 2 == 1 {
            order.reverse();
        }
        writer.write(&batch.project(&order).unwrap()).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 6000);
    let mut writer = table.writer(WriterOptions::default());
    let error = writer.write(&rows(0, 0..1).project(&[0, 1]).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Schema { .. }), "{error}");
}

/// The `stats` of every Add in a table's log, as text.
async fn all_stats(lake: &Lake) -> Vec<String> {
    let mut stats = Vec::new();
    for (path, bytes) in contents(lake).await {
        if !path.contains("_delta_log") || !path.ends_with(".json") {
            continue;
        }
        for line in std::str::from_utf8(&bytes).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(text) = action["add"]["stats"].as_str() {
                stats.push(text.to_owned());
            }
        }
    }
    stats
}

#[tokio::test]
async fn statistics_bound_the_real_values_exactly_where_they_can() {
    let mut random = pinmill_testkit::rng();
    for _ in 0..200 {
        let lake = FaultyStore::new().lake();
        let fields = vec![
            Field::new("i", DataType::Int32, true),
            Field::new("l", DataType::Int64, true),
            Field::new("d", DataType::Float64, true),
            Field::new("s", DataType::Utf8View, true),
            Field::new("t", pinmill_lake::table::timestamp(), true),
            Field::new("day", DataType::Date32, true),
            Field::new("b", DataType::Boolean, true),
        ];
        let schema = Arc::new(Schema::new(fields));
        let count = random.random_range(1..200);
        let nulls = [0.0, 0.2, 1.0][random.random_range(0..3)];
        let odd = random.random_bool(0.2);
        let mut maybe = |present: bool| present && !random.random_bool(nulls);
        let present: Vec<bool> = (0..count).map(|_| maybe(true)).collect();
        let pick = |values: Vec<i64>| -> Vec<Option<i64>> {
            values.into_iter().zip(&present).map(|(v, &p)| p.then_some(v)).collect()
        };
        let mut draw = |low: i64, high: i64| -> Vec<i64> {
            (0..count).map(|_| random.random_range(low..=high)).collect()
        };
        let ints = pick(draw(i32::MIN.into(), i32::MAX.into()));
        let longs = pick(draw(i64::MIN, i64::MAX));
        let doubles: Vec<Option<f64>> = pick(draw(-1_000_000, 1_000_000))
            .into_iter()
            .map(|v| v.map(|v| if odd && v % 3 == 0 { f64::NAN } else { v as f64 / 7.0 }))
            .collect();
        let texts: Vec<Option<String>> = pick(draw(0, 5))
            .into_iter()
            .map(|v| {
                v.map(|v| {
                    ["", "a", "é", "\u{10ffff}", "𝄞"][v as usize % 5].repeat(40 * (v as usize % 3) + 1)
                        + &v.to_string()
                })
            })
            .collect();
        let times = pick(draw(-4_000_000_000_000_000, 4_000_000_000_000_000));
        let days = pick(draw(-100_000, 100_000));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ints.iter().map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
            Arc::new(longs.iter().copied().collect::<Int64Array>()),
            Arc::new(doubles.iter().copied().collect::<Float64Array>()),
            Arc::new(texts.iter().map(Option::as_deref).collect::<StringViewArray>()),
            Arc::new(times.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Arc::new(days.iter().map(|v| v.map(|v| v as i32)).collect::<arrow::array::Date32Array>()),
            Arc::new(ints.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<arrow::array::BooleanArray>()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.clone()).unwrap();
        let mut table = Table::open_or_create(&lake, "t", &schema).await.unwrap();
        let mut writer = table.writer(WriterOptions { row_group_rows: 50, ..Default::default() });
        writer.write(&batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        table.commit(&CommitPlan { files, ..Default::default() }).await.unwrap();

        let stats = all_stats(&lake).await.remove(0);
        let parts: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(&stats).unwrap();
        let bounds = (parts["minValues"].get().to_owned(), parts["maxValues"].get().to_owned());
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        let (min, max) = (&stats["minValues"], &stats["maxValues"]);
        assert_eq!(stats["numRecords"], count);
        for (index, field) in schema.fields().iter().enumerate() {
            assert_eq!(stats["nullCount"][field.name()], columns[index].null_count(), "{field}");
        }
        let range = |values: &[Option<i64>]| {
            values.iter().flatten().copied().min().zip(values.iter().flatten().copied().max())
        };
        for (name, values) in [("i", &ints), ("l", &longs)] {
            assert_eq!(range(values), min[name].as_i64().zip(max[name].as_i64()), "{name}");
        }
        let finite: Vec<f64> = doubles.iter().flatten().copied().collect();
        // Read as text: serde_json's own reading of doubles may be off by the last bit.
        let exact = |bounds: &str| -> Option<f64> {
            let bounds: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(bounds).unwrap();
            bounds.get("d").map(|number| number.get().parse().unwrap())
        };
        let expected = (!finite.is_empty() && finite.iter().all(|v| !v.is_nan())).then(|| {
            (
                finite.iter().copied().fold(f64::INFINITY, f64::min),
                finite.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            )
        });
        assert_eq!(expected, exact(&bounds.0).zip(exact(&bounds.1)));
        if let (Some(low), Some(high)) = (texts.iter().flatten().min(), texts.iter().flatten().max()) {
            let (lower, upper) = (min["s"].as_str().unwrap(), max["s"].as_str().unwrap());
            assert!(lower <= low.as_str() && upper >= high.as_str(), "{lower:?} {low:?} {high:?} {upper:?}");
            if low.len() <= 64 {
                assert_eq!(lower, low);
            }
            if high.len() <= 64 {
                assert_eq!(upper, high);
            }
        }
        if let Some((low, high)) = range(&times) {
            let millis = |value: &serde_json::Value| {
                let text = value.as_str().unwrap();
                assert!(text.ends_with('Z') && text.as_bytes()[text.len() - 5] == b'.', "{text}");
                chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
            };
            assert_eq!(millis(&min["t"]), low.div_euclid(1000));
            assert_eq!(millis(&max["t"]), (high + 999).div_euclid(1000));
        }
        if let Some((low, high)) = range(&days) {
            let day = |days: i64| {
                (chrono::NaiveDate::default() + chrono::TimeDelta::days(days)).format("%Y-%m-%d").to_string()
            };
            assert_eq!(
                (min["day"].as_str().unwrap(), max["day"].as_str().unwrap()),
                (&*day(low), &*day(high))
            );
        }
        assert!(min["b"].is_null());
    }
}

#[tokio::test]
async fn the_log_reads_as_plain_delta_without_features() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 2, None, 0, 3).await;
    table.commit(&plan).await.unwrap();
    let contents = contents(&lake).await;
    let lines = |version: u32| -> Vec<serde_json::Value> {
        let path = format!("a/lake/batch/pin/_delta_log/{version:020}.json");
        let text = std::str::from_utf8(&contents[&path]).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let created = lines(0);
    let protocol = created.iter().find_map(|action| action.get("protocol")).unwrap();
    assert_eq!((&protocol["minReaderVersion"], &protocol["minWriterVersion"]), (&1.into(), &2.into()));
    let metadata = created.iter().find_map(|action| action.get("metaData")).unwrap();
    let fields: serde_json::Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let types: Vec<_> =
        fields["fields"].as_array().unwrap().iter().map(|field| field["type"].clone()).collect();
    assert_eq!(types[0], "integer");
    assert_eq!(types[3]["elementType"], "double");
    assert_eq!(types[4..], ["string", "integer", "integer", "long", "integer", "timestamp"]);
    let committed = lines(1);
    let txn = committed.iter().find_map(|action| action.get("txn")).unwrap();
    assert_eq!(txn, &serde_json::json!({"appId": "pinmill/a.pin/2", "version": 2}));
    let info = committed.iter().find_map(|action| action.get("commitInfo")).unwrap();
    assert_eq!(info["pinmill"]["ranges"][0]["hash"], format!("{:016x}", sum(0, 3).hash));
    assert_eq!(info["pinmill"]["totals"][0]["count"], 3);
}
