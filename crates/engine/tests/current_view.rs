//! The current view: the newest record of each key, whatever the files, and whatever the memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use common::query;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use object_store::local::LocalFileSystem;
use pinmill_engine::{
    EmbeddedEngine, Engine, EngineConfig, FIRST_DIRECTORY, ParquetFile, Rows, timestamp_type,
};
use pinmill_pipeline::{Answer, Dataset, Pipeline, SourceFile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
struct Record {
    key: Option<u32>,
    /// Rows of 0.1 name no topic.
    topic: Option<&'static str>,
    lineage: i32,
    partition: i32,
    offset: i64,
    sub: i32,
    ingested_at: i64,
}

impl Record {
    fn text(&self) -> String {
        let Self { lineage, partition, offset, sub, .. } = self;
        format!("{:?}~{lineage}/{partition} offset {offset}.{sub}", self.topic)
    }

    /// What orders the records of one partition of one topic.
    fn rank(&self) -> (i32, i64, i32, i64, i32) {
        let life = if self.is_in_directory() { 0 } else { self.lineage };
        (life, self.offset, self.sub, self.ingested_at, self.lineage)
    }

    fn is_in_directory(&self) -> bool {
        self.lineage >= FIRST_DIRECTORY
    }
}

fn schema(key: &DataType) -> SchemaRef {
    let topic = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    schema_with(key, &[("_topic", topic), ("_lineage", DataType::Int32), ("_sub", DataType::Int32)])
}

/// The schema of a table that 0.1 has left, with some of the columns that were added since.
fn schema_with(key: &DataType, added: &[(&str, DataType)]) -> SchemaRef {
    let fields = [
        Field::new("ind", key.clone(), true),
        Field::new("text", DataType::Utf8View, true),
        Field::new("length", DataType::Int32, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_ingested_at", timestamp_type(), true),
    ];
    let added = added.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.into_iter().chain(added).collect::<Vec<_>>()))
}

fn batch(schema: &SchemaRef, records: &[Record]) -> RecordBatch {
    let int = |of: fn(&Record) -> Option<i32>| -> ArrayRef {
        Arc::new(records.iter().map(of).collect::<Int32Array>())
    };
    // As NULL in what 0.1 wrote.
    let known = |record: &Record, value: i32| record.topic.map(|_| value);
    let column = |field: &Arc<Field>| -> ArrayRef {
        match (field.name().as_str(), field.data_type()) {
            ("ind", DataType::Int32) => int(|record| record.key.map(|key| key as i32)),
            ("ind", _) => {
                let keys = records.iter().map(|record| record.key.map(|key| format!("key {key}")));
                Arc::new(keys.collect::<StringViewArray>())
            }
            ("text", _) => {
                Arc::new(records.iter().map(|record| Some(record.text())).collect::<StringViewArray>())
            }
            ("length", _) => int(|record| Some(record.text().len() as i32)),
            ("_topic", data_type) => {
                let topics: StringViewArray = records.iter().map(|record| record.topic).collect();
                cast(&topics, data_type).unwrap()
            }
            ("_lineage", _) => {
                Arc::new(records.iter().map(|record| known(record, record.lineage)).collect::<Int32Array>())
            }
            ("_sub", _) => {
                Arc::new(records.iter().map(|record| known(record, record.sub)).collect::<Int32Array>())
            }
            ("_partition", _) => int(|record| Some(record.partition)),
            ("_offset", _) => Arc::new(records.iter().map(|record| record.offset).collect::<Int64Array>()),
            (_, _) => {
                let times = records.iter().map(|record| Some(record.ingested_at));
                Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
        }
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect()).unwrap()
}

/// What the view must hold: by definition, in the plainest way. `unnamed` is the topic of rows that name none.
fn newest<'a>(records: &'a [Record], unnamed: Option<&'a str>) -> Vec<&'a Record> {
    type Place<'a> = (Option<&'a str>, i32, bool);
    let mut in_place: HashMap<(u32, Place<'_>), &Record> = HashMap::new();
    for record in records {
        let Some(key) = record.key else { continue };
        let place = (record.topic.or(unnamed), record.partition, record.is_in_directory());
        let best = in_place.entry((key, place)).or_insert(record);
        if record.rank() > best.rank() {
            *best = record;
        }
    }
    let mut newest: HashMap<u32, (Place<'_>, &Record)> = HashMap::new();
    for ((key, place), record) in in_place {
        let best = newest.entry(key).or_insert((place, record));
        if (record.ingested_at, place) > (best.1.ingested_at, best.0) {
            *best = (place, record);
        }
    }
    newest.into_values().map(|(_, record)| record).collect()
}

fn expected(records: &[Record], unnamed: Option<&str>) -> Vec<String> {
    let mut texts: Vec<String> = newest(records, unnamed).into_iter().map(Record::text).collect();
    texts.sort();
    texts
}

/// How many of what there are.
#[derive(Debug, Clone, Copy)]
struct Extent {
    count: usize,
    keys: u32,
    topics: usize,
    partitions: i32,
    /// Two lives; what is above are directories.
    lineages: i32,
}

/// Records as tables hold them. Offsets ascend in each life of each partition of a topic, and those of rows without a
/// topic go on where no named one begins: no two records have one place.
fn records(random: &mut ChaCha8Rng, extent: Extent) -> Vec<Record> {
    let Extent { count, keys, topics, partitions, lineages } = extent;
    const TOPICS: [Option<&str>; 4] = [Some("a.pin"), None, Some("b.pin"), Some("124df56aef51.pin")];
    let mut next: HashMap<(i32, i32), i64> = HashMap::new();
    let mut records: Vec<Record> = (0..count)
        .map(|_| {
            let topic = TOPICS[random.random_range(0..topics)];
            let lineage = topic.map_or(0, |_| random.random_range(0..lineages));
            let lineage = if lineage > 1 { FIRST_DIRECTORY + lineage } else { lineage };
            let partition = random.random_range(0..partitions);
            // One count for all topics of a life: a row without a topic may be of any of them.
            let offset = next.entry((lineage, partition)).or_insert(0);
            *offset += random.random_range(1..3);
            let key = random.random_range(0..=keys);
            let key = (key < keys).then_some(key);
            let sub = topic.map_or(0, |_| random.random_range(0..2));
            // Clocks go back now and then, and some records have no key.
            let ingested_at = random.random_range(0..50);
            Record { key, topic, lineage, partition, offset: *offset, sub, ingested_at }
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
    let of = |count, keys, topics, partitions, lineages| Extent { count, keys, topics, partitions, lineages };
    for (case, (extent, key_type)) in [
        (of(0, 1, 1, 1, 1), DataType::Int32),
        (of(1, 1, 1, 1, 1), DataType::Int32),
        (of(2000, 40, 1, 1, 1), DataType::Int32),
        (of(2000, 40, 1, 3, 1), DataType::Int32),
        (of(2000, 40, 1, 1, 4), DataType::Int32),
        (of(2000, 100_000, 2, 3, 1), DataType::Int32),
        (of(2000, 40, 4, 3, 2), DataType::Utf8View),
        (of(2000, 300, 4, 2, 5), DataType::Int32),
    ]
    .into_iter()
    .enumerate()
    {
        let records = records(&mut random, extent);
        let schema = schema(&key_type);
        for unnamed in [None, Some("a.pin"), Some("z.pin")] {
            let expected = expected(&records, unnamed);
            for per_file in [100_000, 700, 50] {
                let dir = tempfile::tempdir().unwrap();
                let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
                let rows = write(dir.path(), &schema, &records, per_file);
                engine.register_dataset(&dataset(), Arc::clone(&schema), rows, unnamed).await.unwrap();
                let what = format!("case {case}, {per_file} a file, {unnamed:?}");
                assert_eq!(texts(&engine).await, expected, "{what}");
                // And the same when what an answer reads is kept in memory.
                engine.prepare(&[&answer("SELECT text, length FROM pin")]).await.unwrap();
                assert_eq!(texts(&engine).await, expected, "{what}, kept");
                let all = query(&engine, "SELECT count(*) AS n FROM pin_all").await;
                assert_eq!(all["rows"], json!([[extent.count]]));
            }
            let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
            let rows = Rows::Memory(records.chunks(333).map(|chunk| batch(&schema, chunk)).collect());
            engine.register_dataset(&dataset(), Arc::clone(&schema), rows, unnamed).await.unwrap();
            assert_eq!(texts(&engine).await, expected, "case {case}, in memory, {unnamed:?}");
        }
    }
}

/// Before anything was loaded by this version, a table lacks the columns; and it has them where only some files do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_of_a_table_of_0_1_is_what_it_was() {
    let mut random = pinmill_testkit::rng();
    let extent = Extent { count: 2000, keys: 40, topics: 1, partitions: 3, lineages: 1 };
    let mut records = records(&mut random, extent);
    records.iter_mut().for_each(|record| (record.topic, record.sub) = (None, 0));
    let expected = expected(&records, None);
    let (old, new) = (schema_with(&DataType::Int32, &[]), schema(&DataType::Int32));
    for schema in [&old, &new] {
        let dir = tempfile::tempdir().unwrap();
        let rows = write(dir.path(), &old, &records, 300);
        let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
        engine.register_dataset(&dataset(), Arc::clone(schema), rows, Some("a")).await.unwrap();
        assert_eq!(texts(&engine).await, expected);
    }
}

/// The plain query is asked about all that the quick way is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_keys_for_the_memory_are_viewed_by_a_query_that_spills() {
    // Always the same, as it is the size that counts.
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let extent = Extent { count: 250_000, keys: 220_000, topics: 4, partitions: 2, lineages: 4 };
    let several = records(&mut random, extent);
    let mut one = several.clone();
    for (offset, record) in (0..).zip(&mut one) {
        (record.topic, record.lineage, record.offset, record.sub) = (None, 0, offset, 0);
    }
    let (old, new) = (schema_with(&DataType::Int32, &[]), schema(&DataType::Int32));
    for (schema, records, unnamed) in
        [(&new, &several, None), (&new, &several, Some("b.pin")), (&old, &one, Some("b.pin"))]
    {
        let dir = tempfile::tempdir().unwrap();
        let rows = write(dir.path(), schema, records, 130_000);
        // The keys alone would take some tens of megabytes.
        let config = EngineConfig { memory_bytes: 24 << 20, parallelism: Some(1), ..EngineConfig::default() };
        let engine = EmbeddedEngine::new(&config).unwrap();
        engine.register_dataset(&dataset(), Arc::clone(schema), rows, unnamed).await.unwrap();
        let sums = "SELECT count(*) AS n, sum(length) AS sum, sum(_offset * ind) AS products FROM pin";
        let found = query(&engine, sums).await;
        let newest = newest(records, unnamed);
        let sum: usize = newest.iter().map(|record| record.text().len()).sum();
        let product = |record: &&Record| record.offset * i64::from(record.key.unwrap());
        let products: i64 = newest.iter().map(product).sum();
        assert_eq!(found["rows"], json!([[newest.len(), sum, products]]), "{unnamed:?}");
        // What is too large to be kept is not kept, and the answer is the same.
        engine.prepare(&[&answer("SELECT ind, text, length, _offset FROM pin")]).await.unwrap();
        assert_eq!(query(&engine, sums).await, found);
    }
}

#[tokio::test]
async fn a_query_that_needs_more_memory_than_there_is_names_the_setting() {
    let config = EngineConfig { memory_bytes: 1 << 20, ..EngineConfig::default() };
    let engine = EmbeddedEngine::new(&config).unwrap();
    let schema = schema(&DataType::Int32);
    let extent = Extent { count: 100, keys: 100, topics: 1, partitions: 1, lineages: 1 };
    let records = records(&mut ChaCha8Rng::seed_from_u64(5), extent);
    let rows = Rows::Memory(vec![batch(&schema, &records)]);
    engine.register_dataset(&dataset(), schema, rows, None).await.unwrap();
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
        let record = Record {
            key: Some(1),
            topic: Some("a.pin"),
            lineage: 0,
            partition: 0,
            offset: round,
            sub: 0,
            ingested_at: round,
        };
        let text = record.text();
        let rows = Rows::Memory(vec![batch(&schema, &[record])]);
        engine.register_dataset(&dataset(), Arc::clone(&schema), rows, None).await.unwrap();
        engine.prepare(&[&answer("SELECT text FROM pin")]).await.unwrap();
        let found = query(&engine, "SELECT text FROM pin").await;
        assert_eq!(found["rows"], json!([[text]]));
    }
}

#[tokio::test]
async fn tables_and_their_columns_can_be_asked_for() {
    let schema = schema(&DataType::Int32);
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    engine.register_dataset(&dataset(), schema, Rows::Memory(Vec::new()), None).await.unwrap();
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
