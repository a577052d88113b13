//! The embedded log keeps the promises of the trait.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use pinmill_broker::{EmbeddedLog, Error, EventLog, Health, Record, conformance};
use pinmill_log::{Log, LogConfig};

fn open(dir: &std::path::Path, config: LogConfig) -> Arc<EmbeddedLog> {
    let (log, _) = Log::open(dir, config).unwrap();
    Arc::new(EmbeddedLog::new(Arc::new(log)))
}

fn text(value: &'static str) -> Record {
    Record { value: Some(Bytes::from_static(value.as_bytes())), ..Record::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_passes_the_conformance_suite() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(open(dir.path(), LogConfig::default()), "conformance").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_with_segments_so_small_that_reads_cross_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 2_000, ..LogConfig::default() };
    conformance::run(open(dir.path(), config), "conformance").await;
}

#[tokio::test]
async fn records_positions_and_generations_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogConfig::default());
    log.create_topic("t", 2).await.unwrap();
    let offsets = log.append("t", 1, vec![text("a"), text("b")]).await.unwrap();
    log.commit_position("reader", "t", 1, offsets[1]).await.unwrap();
    let before = log.describe("t").await.unwrap();
    log.log().close().unwrap();
    drop(log);

    let log = open(dir.path(), LogConfig::default());
    assert_eq!(log.describe("t").await.unwrap(), before);
    assert_eq!(log.position("reader", "t", 1).await.unwrap(), Some(offsets[1]));
    assert_eq!(log.append("t", 1, vec![text("c")]).await.unwrap(), [offsets[1] + 1]);
}

#[tokio::test]
async fn limits_of_the_log_are_errors_of_the_trait() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { max_record_bytes: 3, max_topics: 1, ..LogConfig::default() };
    let log = open(dir.path(), config);
    assert_eq!(log.max_record_bytes(), 3);
    log.create_topic("t", 1).await.unwrap();
    let refused = log.append("t", 0, vec![text("abcd")]).await.unwrap_err();
    assert!(matches!(refused, Error::RecordTooLarge { bytes: 4, limit: 3 }), "{refused}");
    let refused = log.create_topic("u", 1).await.unwrap_err();
    assert!(refused.to_string().contains("1 topics"), "{refused}");
    assert_eq!(log.health(), Health::Writable);
}
