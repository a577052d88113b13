//! The audit says what is off and where, and nothing when nothing is.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{Int32Type, SchemaRef};
use async_trait::async_trait;
use pinmill_broker::{EmbeddedLog, EventLog, Plane, Record};
use pinmill_engine::{Cleaner, EmbeddedEngine, Engine, QueryResult, Rows, Table};
use pinmill_flow::audit::{Problem, Stages};
use pinmill_flow::{
    ArchiveConfig, Archiver, AuditOptions, AuditReport, CleanOptions, Logs, StreamConfig, StreamSource,
    Streamer,
};
use pinmill_lake::archive::{Archive, ObjectBuilder};
use pinmill_lake::table::Table as LakeTable;
use pinmill_lake::{Lake, TopicPartition};
use pinmill_log::{Log, LogConfig};
use pinmill_pipeline::{Answer, Dataset, Pipeline, Problems};
use serde_json::json;

use crate::stream::Shards;
use crate::support::{World, bad, engine, good, small};

async fn world() -> World {
    let world = World::new(small());
    world.topic("t.user", 2).await;
    world.post("t.user", 0, (0..25).map(good).chain((0..5).map(bad))).await;
    world.post("t.user", 1, (30..40).map(good)).await;
    world.archive_with(ArchiveConfig { max_records: 10, ..ArchiveConfig::default() }).await.unwrap();
    world.clean().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn its_json_says_balanced_and_the_numbers_of_each_topic() {
    let world = world().await;
    let report = serde_json::to_value(world.audit().await).unwrap();
    assert_eq!(report["balanced"], json!(true), "{report:#}");
    let topic = &report["topics"]["t.user"];
    for (name, value) in [
        ("accepted", 40),
        ("archived", 40),
        ("clean", 35),
        ("quarantined", 5),
        ("pending_archive", 0),
        ("pending_clean", 0),
    ] {
        assert_eq!(topic[name], json!(value), "{name}");
    }
    assert_eq!(topic["dataset"], "user");
    let partition = &topic["partitions"][0];
    assert_eq!(partition["accepted"]["last"], 29);
    assert_eq!(partition["accepted"]["hash"], partition["cleaned"]["hash"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_is_told_and_is_an_imbalance_unless_allowed() {
    let world = world().await;
    world.post("t.user", 0, (50..53).map(good)).await;
    let report = world.audit().await;
    assert_eq!((report.balanced, report.pending_archive, report.pending_clean), (false, 3, 0));
    world.archive().await;
    let report = world.audit().await;
    assert_eq!((report.balanced, report.pending_archive, report.pending_clean), (false, 0, 3));
    assert_eq!(report.problems, vec![]);
    let allowed = AuditOptions { allow_pending: true, ..AuditOptions::default() };
    assert!(world.audit_with(&allowed).await.balanced);
    world.clean().await;
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_object_is_named_with_its_offsets() {
    let world = world().await;
    let name = "topics/t.user/partition=0/t.user+0+0000000010.json";
    std::fs::remove_file(world.dir.path().join(name)).unwrap();
    let report = world.audit().await;
    assert!(!report.balanced);
    let told =
        report.problems.iter().any(|p| (p.first, p.last) == (Some(10), Some(19)) && p.partition == Some(0));
    assert!(told, "{:#?}", report.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_object_is_gone_is_told_without_a_log_too() {
    let world = world().await;
    let name = "topics/t.user/partition=0/t.user+0+0000000010.json";
    std::fs::remove_file(world.dir.path().join(name)).unwrap();
    for deep in [false, true] {
        let options = AuditOptions { deep, ..AuditOptions::default() };
        let audit =
            pinmill_flow::audit(&world.pipeline, &world.engine, Logs::default(), &world.lake, &options);
        let report = audit.await.unwrap();
        assert!(tells(&report, (10, 19), "its manifest is there"), "deep {deep}: {:#?}", report.problems);
    }
}

fn tells(report: &AuditReport, offsets: (u64, u64), words: &str) -> bool {
    let (first, last) = (Some(offsets.0), Some(offsets.1));
    report.problems.iter().any(|p| (p.first, p.last) == (first, last) && p.what.contains(words))
}

/// No dataset takes the topic: nothing but the archive can tell of what retention has removed from the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_neither_log_nor_archive_holds_is_named_wherever_it_lies() {
    for first in [0, 10, 20] {
        let world = World::new(small());
        let log = Arc::new(Shards::default());
        log.create_topic("orders", 1).await.unwrap();
        log.put("orders", 0, 0..40).await;
        let config = ArchiveConfig { max_records: 10, ..ArchiveConfig::default() };
        Archiver::new(Arc::<Shards>::clone(&log), &world.lake, config).run_once().await.unwrap();
        log.drop_before("orders", 0, 35);
        let audit = async |deep| {
            let logs = Logs { topics: Some(&*log), streams: None };
            let options = AuditOptions { deep, ..AuditOptions::default() };
            pinmill_flow::audit(&world.pipeline, &world.engine, logs, &world.lake, &options).await.unwrap()
        };
        for deep in [false, true] {
            let report = audit(deep).await;
            assert!(report.balanced, "deep {deep}: {report:#?}");
        }
        let object = format!("topics/orders/partition=0/orders+0+{first:010}.json");
        std::fs::remove_file(world.dir.path().join(&object)).unwrap();
        std::fs::remove_file(world.dir.path().join(format!("_pinmill/{object}.manifest"))).unwrap();
        for deep in [false, true] {
            let report = audit(deep).await;
            let told = tells(&report, (first, first + 9), "no archive object does");
            assert!(told, "deep {deep}: {:#?}", report.problems);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_that_hold_the_same_records_are_found() {
    let world = world().await;
    let mut again = ObjectBuilder::new(&TopicPartition::new("t.user", 0), None);
    for record in &world.log.records("t.user")[0][13..16] {
        again.push(record.offset, record.timestamp_ms, record.value.as_deref()).unwrap();
    }
    let archive = Archive::new(&world.lake, pinmill_lake::archive::ArchiveConfig::default());
    archive.put(&again).await.unwrap();
    for deep in [false, true] {
        let report = world.audit_with(&AuditOptions { deep, ..AuditOptions::default() }).await;
        let told = report.problems.iter().any(|problem| problem.what.contains("two archive objects"));
        assert!(told, "deep {deep}: {:#?}", report.problems);
    }
}

/// The manifest still says what it said: only reading the object itself finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_object_is_found_by_the_deep_audit() {
    let world = world().await;
    let path = world.dir.path().join("topics/t.user/partition=0/t.user+0+0000000010.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("No 12", "No 99")).unwrap();
    assert!(world.audit().await.balanced);
    let options = AuditOptions { deep: true, ..AuditOptions::default() };
    let report = world.audit_with(&options).await;
    let named = |problem: &Problem| problem.what.contains("t.user+0+0000000010.json");
    assert!(!report.balanced && report.problems.iter().any(named), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_lost_or_doubled_in_the_table_are_found() {
    let world = world().await;
    let table = world.dir.path().join("batch/user");
    let log = |version: u64| table.join(format!("_delta_log/{version:020}.json"));
    let commit = std::fs::read_to_string(log(1)).unwrap();
    let add = commit.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
    // The same file once more under another name: every row twice.
    let path =
        serde_json::from_str::<serde_json::Value>(add).unwrap()["add"]["path"].as_str().unwrap().to_owned();
    std::fs::copy(table.join(&path), table.join("again.parquet")).unwrap();
    std::fs::write(log(2), add.replace(&path, "again.parquet")).unwrap();
    let report = world.audit().await;
    assert!(!report.balanced);
    let whats: Vec<&str> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert!(whats.contains(&"table user holds 2 rows of it"), "{whats:?}");
    assert!(whats.contains(&"table user holds 50 rows of the partition, its commits count 25"), "{whats:?}");
}

/// What a server does while an audit looks on: records into a topic and a stream, and all of them handed on.
async fn serve(world: &World, log: &Arc<dyn EventLog>, numbers: Range<u64>) {
    let records: Vec<Record> = numbers.map(|n| Record { value: good(n), ..Record::default() }).collect();
    for name in ["t.user", "a-user"] {
        log.append(name, 0, records.clone()).await.unwrap();
    }
    Archiver::new(Arc::clone(log), &world.lake, ArchiveConfig::default()).run_once().await.unwrap();
    world.clean().await;
    let sources = vec![StreamSource { log: Arc::clone(log), plane: Plane::Streams }];
    let config = StreamConfig { commit_every: Duration::from_millis(1), ..StreamConfig::default() };
    let streamer = Streamer::new(world.pipeline.clone(), Arc::new(engine()), &world.lake, sources, config);
    streamer.run_once().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_hands_on_while_an_audit_looks_is_pending_and_no_imbalance() {
    let world = World::new(small());
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::new(Arc::new(log)));
    for name in ["t.user", "a-user"] {
        log.create_topic(name, 1).await.unwrap();
    }
    serve(&world, &log, 0..20).await;
    for deep in [false, true] {
        let options = AuditOptions { deep, allow_pending: true, ..AuditOptions::default() };
        let stages = Stages::now(&world.pipeline, &world.engine, &world.lake, &options).await.unwrap();
        serve(&world, &log, 20..25).await;
        let view = EmbeddedLog::new(Arc::new(Log::view(dir.path()).unwrap()));
        serve(&world, &log, 25..30).await;
        let logs = Logs { topics: Some(&view), streams: Some(&view) };
        let report = stages.against(&world.pipeline, logs, &world.lake, &options).await.unwrap();
        assert!(report.balanced, "deep {deep}: {report:#?}");
        assert_eq!(report.topics["t.user"].pending_archive, 5, "deep {deep}");
        assert_eq!(report.streams["a-user"].pending, 5, "deep {deep}");
    }
}

/// An engine during whose first registering of a table a clean commits more rows to it.
#[derive(Debug)]
struct Busy {
    inner: EmbeddedEngine,
    pipeline: Pipeline,
    lake: Lake,
    cleaned: AtomicBool,
}

#[async_trait]
impl Engine for Busy {
    async fn cleaner(&self, dataset: &Dataset) -> pinmill_engine::Result<Box<dyn Cleaner>> {
        self.inner.cleaner(dataset).await
    }
    async fn validate(&self, pipeline: &Pipeline) -> Problems {
        self.inner.validate(pipeline).await
    }
    async fn register(&self, table: Table) -> pinmill_engine::Result<()> {
        self.inner.register(table).await
    }
    async fn register_dataset(
        &self,
        dataset: &Dataset,
        schema: SchemaRef,
        rows: Rows,
        unnamed: Option<&str>,
    ) -> pinmill_engine::Result<()> {
        self.inner.register_dataset(dataset, schema, rows, unnamed).await?;
        if !self.cleaned.swap(true, Ordering::SeqCst) {
            let (engine, options) = (engine(), CleanOptions::default());
            pinmill_flow::clean(&self.pipeline, &engine, &self.lake, &options).await.unwrap();
        }
        Ok(())
    }
    async fn query(&self, sql: &str) -> pinmill_engine::Result<QueryResult> {
        self.inner.query(sql).await
    }
    async fn answer(&self, answer: &Answer) -> pinmill_engine::Result<RecordBatch> {
        self.inner.answer(answer).await
    }
    async fn prepare(&self, answers: &[&Answer]) -> pinmill_engine::Result<()> {
        self.inner.prepare(answers).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_that_commits_while_rows_are_counted_is_no_imbalance() {
    let world = world().await;
    world.post("t.user", 0, (50..53).map(good)).await;
    world.archive().await;
    let (pipeline, lake) = (world.pipeline.clone(), world.lake.clone());
    let busy = Busy { inner: engine(), pipeline, lake, cleaned: AtomicBool::new(false) };
    let options = AuditOptions { allow_pending: true, ..AuditOptions::default() };
    let log = world.event_log();
    let logs = Logs { topics: Some(log.as_ref()), streams: None };
    let report = pinmill_flow::audit(&world.pipeline, &busy, logs, &world.lake, &options).await.unwrap();
    assert!(busy.cleaned.load(Ordering::SeqCst) && report.balanced, "{report:#?}");
    assert_eq!(report.pending_clean, 3);
    world.assert_balanced().await;
}

/// Replaces the rows of the table by others, as another Delta writer may.
async fn rewrite(world: &World, change: impl Fn(i32) -> i32) {
    let table = LakeTable::open(&world.lake, "batch/user").await.unwrap().unwrap();
    let rows = arrow::compute::concat_batches(table.schema(), &table.rows().await.unwrap()).unwrap();
    let index = rows.schema().index_of("age").unwrap();
    let ages = rows.column(index).as_primitive::<Int32Type>();
    let mut columns = rows.columns().to_vec();
    columns[index] = Arc::new(ages.iter().map(|age| age.map(&change)).collect::<Int32Array>());
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    // In two files and another order.
    let (some, others) = (rows.slice(0, 2), rows.slice(2, rows.num_rows() - 2));
    LakeTable::overwrite(&world.lake, "batch/user", table.schema(), &[others, some]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_another_writer_changed_is_found_and_rows_in_other_files_are_no_change() {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..10).map(good)).await;
    world.archive().await;
    world.clean().await;
    rewrite(&world, |age| age).await;
    world.assert_balanced().await;
    rewrite(&world, |age| if age == 23 { 24 } else { age }).await;
    let report = world.audit().await;
    let found: Vec<&str> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert!(found.len() == 1 && found[0].contains("does not hold the rows that were committed"), "{found:?}");
    assert_eq!((report.problems[0].first, report.problems[0].last), (Some(0), Some(9)));
}
