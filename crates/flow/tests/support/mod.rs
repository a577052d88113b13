//! A small house to test in: a log in memory, a lake in a temporary directory, a pipeline of one dataset.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use pinmill_broker::{EventLog, MemoryLog, Record};
use pinmill_engine::{EmbeddedEngine, EngineConfig};
use pinmill_flow::quarantine::{self, Filter};
use pinmill_flow::{
    AnswerOptions, AnswerReport, ArchiveConfig, ArchiveReport, Archiver, AuditOptions, AuditReport,
    CleanOptions, CleanReport, Half, Logs, Result,
};
use pinmill_lake::{Lake, LakeOptions};
use pinmill_pipeline::Pipeline;
use rand::{Rng, RngExt};

const MANIFEST: &str = r#"
name = "small"

[[dataset]]
name = "user"
key = "ind"
fields = [
    { name = "ind", type = "INT", required = true },
    { name = "name", type = "STRING" },
    { name = "age", type = "INT" },
]

[[dataset.expect]]
name = "age_is_positive"
sql = "age > 0"
reason = "age {age} is not positive"
"#;

/// A pipeline of one dataset `user`, with its manifest changed by `change`.
pub(crate) fn pipeline(change: impl Fn(&str) -> String, clean: &str) -> Pipeline {
    let files = BTreeMap::from([
        ("pipeline.toml".to_owned(), change(MANIFEST)),
        ("clean/user.sql".to_owned(), clean.to_owned()),
        (
            "answers/01_ages.sql".to_owned(),
            "-- Users by age\nSELECT age, count(*) AS n FROM user GROUP BY age ORDER BY age\n".to_owned(),
        ),
    ]);
    Pipeline::from_files(&files).unwrap()
}

pub(crate) const CLEAN: &str = "SELECT ind, btrim(name) AS name, age FROM raw_user\n";

pub(crate) fn small() -> Pipeline {
    pipeline(str::to_owned, CLEAN)
}

/// A record that can be cleaned.
pub(crate) fn good(n: u64) -> Option<Bytes> {
    Some(format!(r#"{{"ind":{n},"name":" No {n} ","age":{}}}"#, 20 + n % 40).into())
}

/// A record that cannot, in one of several ways.
pub(crate) fn bad(n: u64) -> Option<Bytes> {
    match n % 5 {
        0 => None,
        1 => Some(format!(r#"{{"ind":{n},"age":-1}}"#).into()),
        2 => Some(format!(r#"{{"name":"without a key {n}"}}"#).into()),
        3 => Some(format!("not json {n}\u{0}\n").into()),
        _ => Some(format!(r#"{{"ind":{n},"age":"unknown"}}"#).into()),
    }
}

/// Whether a record of [`good`] or [`bad`] can be cleaned: the oracle.
fn is_good(value: Option<&[u8]>) -> bool {
    is_good_age(value, |age| age > 0)
}

/// The oracle of [`tolerant`].
pub(crate) fn is_tolerable(value: Option<&[u8]>) -> bool {
    is_good_age(value, |_| true)
}

fn is_good_age(value: Option<&[u8]>, good: impl Fn(i64) -> bool) -> bool {
    let row = value.and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok());
    row.is_some_and(|row| row["ind"].is_u64() && row["age"].as_i64().is_some_and(good))
}

/// The small pipeline without its rule about ages.
pub(crate) fn tolerant() -> Pipeline {
    pipeline(|manifest| manifest.split("[[dataset.expect]]").next().unwrap_or_default().to_owned(), CLEAN)
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) lake: Lake,
    pub(crate) pipeline: Pipeline,
    pub(crate) engine: EmbeddedEngine,
}

impl World {
    pub(crate) fn new(pipeline: Pipeline) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = lake(&dir);
        Self { dir, log: Arc::new(MemoryLog::new()), lake, pipeline, engine: engine() }
    }

    /// What a new process has: the log and the lake, and nothing that was in memory.
    pub(crate) fn restarted(&mut self) {
        self.lake = lake(&self.dir);
        self.engine = engine();
    }

    pub(crate) async fn topic(&self, topic: &str, partitions: u32) {
        self.log.create_topic(topic, partitions).await.unwrap();
    }

    pub(crate) async fn post(
        &self,
        topic: &str,
        partition: u32,
        values: impl IntoIterator<Item = Option<Bytes>>,
    ) {
        let records = values.into_iter().map(|value| Record { value, ..Record::default() });
        self.log.append(topic, partition, records.collect()).await.unwrap();
    }

    /// Posts some records, about one in `one_bad_in` of them bad.
    pub(crate) async fn post_some(
        &self,
        rng: &mut impl Rng,
        topic: &str,
        partition: u32,
        count: u64,
        one_bad_in: u64,
    ) {
        let mut values = Vec::new();
        for _ in 0..count {
            let n = rng.random_range(0..1_000_000);
            values.push(if rng.random_range(0..one_bad_in) == 0 { bad(n) } else { good(n) });
        }
        self.post(topic, partition, values).await;
    }

    pub(crate) fn event_log(&self) -> Arc<dyn EventLog> {
        Arc::clone(&self.log) as Arc<dyn EventLog>
    }

    pub(crate) async fn archive_with(&self, config: ArchiveConfig) -> Result<ArchiveReport> {
        Archiver::new(self.event_log(), &self.lake, config).run_once().await
    }

    pub(crate) async fn archive(&self) -> ArchiveReport {
        self.archive_with(ArchiveConfig::default()).await.unwrap()
    }

    pub(crate) async fn clean_with(&self, options: &CleanOptions) -> Result<CleanReport> {
        pinmill_flow::clean(&self.pipeline, &self.engine, &self.lake, options).await
    }

    pub(crate) async fn clean(&self) -> CleanReport {
        self.clean_with(&CleanOptions::default()).await.unwrap()
    }

    pub(crate) async fn answer(&self) -> AnswerReport {
        pinmill_flow::answer(&self.pipeline, &self.engine, &self.lake, &AnswerOptions::default())
            .await
            .unwrap()
    }

    pub(crate) async fn audit_with(&self, options: &AuditOptions) -> AuditReport {
        let log = self.event_log();
        let logs = Logs { topics: Some(log.as_ref()), streams: None };
        pinmill_flow::audit(&self.pipeline, &self.engine, logs, &self.lake, options).await.unwrap()
    }

    pub(crate) async fn audit(&self) -> AuditReport {
        self.audit_with(&AuditOptions::default()).await
    }

    pub(crate) async fn assert_balanced(&self) {
        for deep in [false, true] {
            let report = self.audit_with(&AuditOptions { deep, ..AuditOptions::default() }).await;
            assert!(report.balanced, "deep {deep}: {report:#?}");
        }
    }

    /// Rows of a query as JSON values.
    pub(crate) async fn sql(&self, query: &str) -> Vec<Vec<serde_json::Value>> {
        self.sql_from(Half::Batch, query).await
    }

    /// The same from the tables of a half.
    pub(crate) async fn sql_from(&self, half: Half, query: &str) -> Vec<Vec<serde_json::Value>> {
        let result = pinmill_flow::sql(&self.pipeline, &self.engine, &self.lake, half, query).await.unwrap();
        let batches: Vec<_> = result.batches.try_collect().await.unwrap();
        batches.iter().flat_map(json_rows).collect()
    }

    pub(crate) async fn replay(&self) -> Result<quarantine::ReplayReport> {
        quarantine::replay(&self.pipeline, &self.engine, &self.lake, Half::Batch, &Filter::default()).await
    }

    pub(crate) async fn quarantined(&self) -> Vec<quarantine::QuarantinedRecord> {
        self.quarantined_in(Half::Batch).await
    }

    async fn quarantined_in(&self, half: Half) -> Vec<quarantine::QuarantinedRecord> {
        quarantine::list(&self.pipeline, &self.lake, half, &Filter::default(), usize::MAX / 2).await.unwrap()
    }

    /// Every record of the topic is in the table once or in quarantine once with its raw bytes, as the oracle says.
    pub(crate) async fn assert_settled(&self, topic: &str) {
        self.assert_settled_as(topic, is_good).await;
    }

    /// The same in the tables of a half.
    pub(crate) async fn assert_settled_in(&self, half: Half, topic: &str) {
        self.assert_settled_by(half, topic, is_good).await;
    }

    /// The same with another oracle.
    pub(crate) async fn assert_settled_as(&self, topic: &str, is_good: impl Fn(Option<&[u8]>) -> bool) {
        self.assert_settled_by(Half::Batch, topic, is_good).await;
    }

    async fn assert_settled_by(&self, half: Half, topic: &str, is_good: impl Fn(Option<&[u8]>) -> bool) {
        let (mut clean, mut quarantined) = (BTreeSet::new(), BTreeMap::new());
        for (partition, records) in (0_u32..).zip(self.log.records(topic)) {
            for record in records {
                match is_good(record.value.as_deref()) {
                    true => assert!(clean.insert((u64::from(partition), record.offset))),
                    false => drop(quarantined.insert((u64::from(partition), record.offset), record.value)),
                }
            }
        }
        let rows = self.sql_from(half, "SELECT _partition, _offset FROM user_all").await;
        let mut in_table = BTreeSet::new();
        for row in rows {
            let id = (row[0].as_u64().unwrap(), row[1].as_u64().unwrap());
            assert!(in_table.insert(id), "{id:?} stands in the table twice");
        }
        assert_eq!(in_table, clean, "the table");
        let mut in_quarantine = BTreeMap::new();
        for record in self.quarantined_in(half).await {
            let id = (u64::from(record.id.place.partition), record.id.offset);
            assert!(!record.reason.is_empty());
            assert!(in_quarantine.insert(id, record.raw).is_none(), "{id:?} stands in quarantine twice");
        }
        assert_eq!(in_quarantine, quarantined, "the quarantine");
    }
}

/// No power is lost here, so nothing waits for the disk.
fn lake(dir: &tempfile::TempDir) -> Lake {
    Lake::open_with(dir.path().to_str().unwrap(), &LakeOptions { fsync: false }).unwrap()
}

pub(crate) fn engine() -> EmbeddedEngine {
    EmbeddedEngine::new(&EngineConfig { parallelism: Some(2), ..EngineConfig::default() }).unwrap()
}

/// A batch's rows as JSON values, in column order.
pub(crate) fn json_rows(batch: &arrow::array::RecordBatch) -> Vec<Vec<serde_json::Value>> {
    let mut writer = arrow::json::writer::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::JsonArray>(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    let text = writer.into_inner();
    if text.is_empty() {
        return Vec::new();
    }
    let rows: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&text).unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    rows.into_iter().map(|row| names.iter().map(|name| row[name].clone()).collect()).collect()
}
