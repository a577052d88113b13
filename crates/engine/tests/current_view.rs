//! The current view: the newest record of each key, whatever the files, and whatever the memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use common::query;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use object_store::local::LocalFileSystem;
use pinmill_engine::{EmbeddedEngine, Engine, EngineConfig, ParquetFile, Rows, timestamp_type};
use pinmill_pipeline::{Answer, Dataset, Pipeline, SourceFile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
struct Record {
    key: Option<u32>,
    partition: i32,
    offset: i64,
    ingested_at: i64,
}

impl Record {
    fn text(&self) -> String {
        format!("partition {} offset {}", self.partition, self.offset)
    }
}

fn schema(key: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ind", key.clone(), true),
        Field::new("text", DataType::Utf8View, true),
        Field::new("length", DataType::Int32, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_ingested_at", timestamp_type(), true),
    ]))
}

fn batch(schema: &SchemaRef, records: &[Record]) -> RecordBatch {
    let keys: ArrayRef = match schema.field(0).data_type() {
        DataType::Int32 => {
            Arc::new(records.iter().map(|r| r.key.map(|key| key as i32)).collect::<Int32Array>())
        }
        _ => Arc::new(
            records.iter().map(|r| r.key.map(|key| format!("key {key}"))).collect::<StringViewArray>(),
        ),
    };
    let columns: Vec<ArrayRef> = vec![
        keys,
        Arc::new(records.iter().map(|r| Some(r.text())).collect::<StringViewArray>()),
        Arc::new(records.iter().map(|r| r.text().len() as i32).collect::<Int32Array>()),
        Arc::new(records.iter().map(|r| r.partition).collect::<Int32Array>()),
        Arc::new(records.iter().map(|r| r.offset).collect::<Int64Array>()),
        Arc::new(
            records
                .iter()
                .map(|r| Some(r.ingested_at))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

/// What the view must hold: by definition, in the plainest way.
fn expected(records: &[Record]) -> Vec<String> {
    let mut in_partition: HashMap<(u32, i32), &Record> = HashMap::new();
    for record in records {
        let Some(key) = record.key else { continue };
        let best = in_partition.entry((key, record.partition)).or_insert(record);
        if record.offset > best.offset {
            *best = record;
        }
    }
    let mut newest: HashMap<u32, &Record> = HashMap::new();
    for ((key, _), record) in in_partition {
        let best = newest.entry(key).or_insert(record);
        if (record.ingested_at, record.partition) > (best.ingested_at, best.partition) {
            *best = record;
        }
    }
    let mut texts: Vec<String> = newest.values().map(|record| record.text()).collect();
    texts.sort();
    texts
}

fn records(random: &mut ChaCha8Rng, count: usize, keys: u32, partitions: i32) -> Vec<Record> {
    let mut next = vec![0; partitions as usize];
    let mut records: Vec<Record> = (0..count)
        .map(|_| {
            let partition = random.random_range(0..partitions);
            let offset = &mut next[partition as usize];
            *offset += random.random_range(1..3);
            let key = random.random_range(0..=keys);
            // Clocks go back now and then, and some records have no key.
            let ingested_at = random.random_range(0..50);
            Record { key: (key < keys).then_some(key), partition, offset: *offset, ingested_at }
        })
        .collect();
    // Files need not be in the order of offsets.
    for index in (1..records.len()).rev() {
        if random.random_bool(0.1) {
            records.swap(index, random.random_range(0..index));
        }
    }
    records
}

/// Writes records into several files of several row groups and pages.
fn write(dir: &Path, schema: &SchemaRef, records: &[Record], per_file: usize) -> Rows {
    let mut files = Vec::new();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(per_file / 2 + 25))
        .set_data_page_row_count_limit((per_file / 10).max(64))
        .set_write_batch_size(32)
        .build();
    for (number, chunk) in records.chunks(per_file).enumerate() {
        let path = dir.join(format!("part {number}.parquet"));
        let mut writer = ArrowWriter::try_new(
            std::fs::File::create(&path).unwrap(),
            Arc::clone(schema),
            Some(properties.clone()),
        )
        .unwrap();
        writer.write(&batch(schema, chunk)).unwrap();
        writer.close().unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let path = object_store::path::Path::from_filesystem_path(&path).unwrap();
        files.push(ParquetFile { path, size, rows: chunk.len() as u64 });
    }
    Rows::Parquet { url: "file:///".parse().unwrap(), store: Arc::new(LocalFileSystem::new()), files }
}

fn dataset() -> Dataset {
    Pipeline::built_in().unwrap().datasets.remove(0)
}

async fn texts(engine: &EmbeddedEngine) -> Vec<String> {
    let rows = query(engine, "SELECT text, length FROM pin ORDER BY text").await;
    rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = row[0].as_str().unwrap().to_owned();
            assert_eq!(row[1], json!(text.len()), "columns of one row stay together");
            text
        })
        .collect()
}

fn answer(sql: &str) -> Answer {
    let source = SourceFile { path: "answers/x.sql".into(), text: sql.to_owned() };
    Answer { name: "x".into(), title: "x".into(), source }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_holds_the_newest_record_of_each_key() {
    let mut random = pinmill_testkit::rng();
    for (case, (count, keys, partitions, key_type)) in [
        (0, 1, 1, DataType::Int32),
        (1, 1, 1, DataType::Int32),
        (2000, 40, 1, DataType::Int32),
        (2000, 40, 3, DataType::Int32),
        (2000, 100_000, 3, DataType::Int32),
        (2000, 40, 3, DataType::Utf8View),
    ]
    .into_iter()
    .enumerate()
    {
        let records = records(&mut random, count, keys, partitions);
        let expected = expected(&records);
        let schema = schema(&key_type);
        for per_file in [100_000, 700, 50] {
            let dir = tempfile::tempdir().unwrap();
            let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
            let rows = write(dir.path(), &schema, &records, per_file);
            engine.register_dataset(&dataset(), Arc::clone(&schema), rows).await.unwrap();
            assert_eq!(texts(&engine).await, expected, "case {case}, {per_file} a file");
            // And the same when what an answer reads is kept in memory.
            engine.prepare(&[&answer("SELECT text, length FROM pin")]).await.unwrap();
            assert_eq!(texts(&engine).await, expected, "case {case}, {per_file} a file, kept");
            let all = query(&engine, "SELECT count(*) AS n FROM pin_all").await;
            assert_eq!(all["rows"], json!([[count]]));
        }
        let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
        let batches = records.chunks(333).map(|chunk| batch(&schema, chunk)).collect();
        engine.register_dataset(&dataset(), Arc::clone(&schema), Rows::Memory(batches)).await.unwrap();
        assert_eq!(texts(&engine).await, expected, "case {case}, in memory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_keys_for_the_memory_are_viewed_by_a_query_that_spills() {
    // Always the same, as it is the size that counts.
    let records = records(&mut ChaCha8Rng::seed_from_u64(11), 400_000, 350_000, 2);
    let schema = schema(&DataType::Int32);
    let dir = tempfile::tempdir().unwrap();
    let rows = write(dir.path(), &schema, &records, 200_000);
    // The keys alone would take some tens of megabytes.
    let config = EngineConfig { memory_bytes: 24 << 20, parallelism: Some(1), ..EngineConfig::default() };
    let engine = EmbeddedEngine::new(&config).unwrap();
    engine.register_dataset(&dataset(), Arc::clone(&schema), rows.clone()).await.unwrap();
    let count = query(&engine, "SELECT count(*) AS n, sum(length) AS sum FROM pin").await;
    let expected = expected(&records);
    let sum: usize = expected.iter().map(String::len).sum();
    assert_eq!(count["rows"], json!([[expected.len(), sum]]));
    // What is too large to be kept is not kept, and the answer is the same.
    engine.prepare(&[&answer("SELECT ind, text, length FROM pin")]).await.unwrap();
    let again = query(&engine, "SELECT count(*) AS n, sum(length) AS sum FROM pin").await;
    assert_eq!(again, count);
}

#[tokio::test]
async fn a_query_that_needs_more_memory_than_there_is_names_the_setting() {
    let config = EngineConfig { memory_bytes: 1 << 20, ..EngineConfig::default() };
    let engine = EmbeddedEngine::new(&config).unwrap();
    let schema = schema(&DataType::Int32);
    let records = records(&mut ChaCha8Rng::seed_from_u64(5), 100, 100, 1);
    let rows = Rows::Memory(vec![batch(&schema, &records)]);
    engine.register_dataset(&dataset(), schema, rows).await.unwrap();
    let sorted = answer("SELECT text FROM pin_all ORDER BY text");
    let error = engine.answer(&sorted).await.unwrap_err().to_string();
    assert!(error.contains("answer x failed") && error.contains("`engine.memory`"), "{error}");
    assert!(!error.contains("datafusion."), "{error}");
}

#[tokio::test]
async fn a_table_registered_anew_is_viewed_anew() {
    let schema = schema(&DataType::Int32);
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    for round in 1..4 {
        let record = Record { key: Some(1), partition: 0, offset: round, ingested_at: round };
        let rows = Rows::Memory(vec![batch(&schema, &[record])]);
        engine.register_dataset(&dataset(), Arc::clone(&schema), rows).await.unwrap();
        engine.prepare(&[&answer("SELECT text FROM pin")]).await.unwrap();
        let found = query(&engine, "SELECT text FROM pin").await;
        assert_eq!(found["rows"], json!([[format!("partition 0 offset {round}")]]));
    }
}

#[tokio::test]
async fn tables_and_their_columns_can_be_asked_for() {
    let schema = schema(&DataType::Int32);
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    engine.register_dataset(&dataset(), schema, Rows::Memory(Vec::new())).await.unwrap();
    let tables = query(&engine, "SHOW TABLES").await.to_string();
    assert!(tables.contains("\"pin\"") && tables.contains("\"pin_all\""), "{tables}");
    let columns = query(&engine, "DESCRIBE pin").await.to_string();
    assert!(columns.contains("\"ind\"") && columns.contains("\"_ingested_at\""), "{columns}");
    let count = query(&engine, "SELECT count(*) AS n FROM pin").await;
    assert_eq!(count["rows"], json!([[0]]));
}

#[tokio::test]
async fn an_answer_that_fails_is_named() {
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    engine.prepare(&[&answer("SELECT nonsense FROM nowhere")]).await.unwrap();
    let error = engine.answer(&answer("SELECT nonsense FROM nowhere")).await.unwrap_err().to_string();
    assert!(error.contains("answer x failed") && error.contains("nowhere"), "{error}");
    let empty: Value = query(&engine, "SELECT 1 AS one").await;
    assert_eq!(empty, json!({"columns": ["one"], "rows": [[1]]}));
}
