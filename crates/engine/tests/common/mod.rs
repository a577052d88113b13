//! What several tests share: cleaning records in memory, and answers as JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use bytes::Bytes;
use futures::TryStreamExt;
use pinmill_engine::{
    Cleaned, Decoded, Decoder, EmbeddedEngine, Engine, EngineConfig, Position, RawValue, Rejected, Rows,
};
use pinmill_pipeline::{Files, Pipeline};
use serde_json::{Map, Value, json};

pub(crate) fn read_lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Decodes records that lie in one chunk, one a line; offset = index, one second between them.
pub(crate) fn decode(decoder: &mut Decoder, records: &[&str]) -> Decoded {
    let chunk = Bytes::from(records.join("\n"));
    decoder.chunk(chunk);
    let mut start = 0;
    for (index, record) in records.iter().enumerate() {
        let offset = index as i64;
        let at = Position { partition: 0, offset, sub: 0, ingested_at_us: offset * 1_000_000 };
        decoder.push(RawValue::Chunk(start..start + record.len()), at);
        start += record.len() + 1;
    }
    decoder.finish().unwrap()
}

/// Cleans records in memory and registers the clean rows.
pub(crate) struct Cleaning {
    pub(crate) engine: EmbeddedEngine,
    pub(crate) pipeline: Pipeline,
}

impl Cleaning {
    pub(crate) async fn new(pipeline: &Pipeline) -> Self {
        let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
        let problems = engine.validate(pipeline).await;
        assert!(problems.0.is_empty(), "{problems}");
        Self { engine, pipeline: pipeline.clone() }
    }

    /// Cleans a dataset's records, all of them, and registers what came of them.
    pub(crate) async fn clean(&mut self, dataset: &str, records: &[&str]) -> Vec<Rejected> {
        let dataset = self.pipeline.dataset(dataset).unwrap();
        let decoded = decode(&mut Decoder::new(dataset), records);
        let mut cleaner = self.engine.cleaner(dataset).await.unwrap();
        let Cleaned { rows, rejected, .. } = cleaner.clean(&decoded.batch).unwrap();
        assert_eq!(rows.num_rows() + rejected.len() + decoded.rejected.len(), records.len());
        let schema = cleaner.schema();
        self.engine.register_dataset(dataset, schema, Rows::Memory(vec![rows]), None).await.unwrap();
        decoded.rejected.into_iter().chain(rejected).collect()
    }
}

/// A batch as `{"columns": […], "rows": [[…], …]}`.
pub(crate) fn as_json(batch: &RecordBatch) -> Value {
    let schema = batch.schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let objects: Vec<Map<String, Value>> =
        serde_json::Deserializer::from_slice(&bytes).into_iter().map(Result::unwrap).collect();
    let rows: Vec<Vec<Value>> =
        objects.iter().map(|row| columns.iter().map(|column| row[*column].clone()).collect()).collect();
    json!({ "columns": columns, "rows": rows })
}

pub(crate) async fn answers_as_json(engine: &EmbeddedEngine, pipeline: &Pipeline) -> Vec<(String, Value)> {
    let answers: Vec<_> = pipeline.answers.iter().collect();
    engine.prepare(&answers).await.unwrap();
    let mut found = Vec::new();
    for answer in answers {
        found.push((answer.name.clone(), as_json(&engine.answer(answer).await.unwrap())));
    }
    found
}

pub(crate) async fn query(engine: &EmbeddedEngine, sql: &str) -> Value {
    let result = engine.query(sql).await.unwrap();
    let schema = Arc::clone(&result.schema);
    let batches: Vec<RecordBatch> = result.batches.try_collect().await.unwrap();
    as_json(&arrow::compute::concat_batches(&schema, &batches).unwrap())
}

/// The built-in pipeline's files, to be changed.
pub(crate) fn built_in_files() -> Files {
    Pipeline::built_in().unwrap().files()
}
