//! The log in memory keeps the promises of the trait, and fails when it is told to.

use std::sync::Arc;

use bytes::Bytes;
use pinmill_broker::{Error, EventLog, Health, MemoryLog, Record, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_memory_passes_the_conformance_suite() {
    conformance::run(Arc::new(MemoryLog::new()), "conformance").await;
}

#[tokio::test]
async fn a_refused_append_stores_nothing_and_is_retriable() {
    let log = MemoryLog::new();
    log.create_topic("t", 1).await.unwrap();
    let record = Record { value: Some(Bytes::from_static(b"v")), ..Record::default() };
    log.set_health(Health::ReadOnly { reason: "the disk is full".to_owned() });
    let refused = log.append("t", 0, vec![record.clone()]).await.unwrap_err();
    assert!(refused.is_retriable(), "{refused}");
    log.set_health(Health::Writable);
    assert_eq!(log.append("t", 0, vec![record]).await.unwrap(), [0]);
}

#[tokio::test]
async fn a_record_over_the_limit_refuses_the_whole_append() {
    let log = MemoryLog::new();
    log.create_topic("t", 1).await.unwrap();
    log.set_max_record_bytes(3);
    let record = |value: &'static str| Record {
        value: Some(Bytes::from_static(value.as_bytes())),
        ..Record::default()
    };
    log.append("t", 0, vec![record("abc")]).await.unwrap();
    let refused = log.append("t", 0, vec![record("a"), record("abcd")]).await.unwrap_err();
    assert!(matches!(refused, Error::RecordTooLarge { bytes: 4, limit: 3 }), "{refused}");
    assert_eq!(log.records("t")[0].len(), 1);
}

#[tokio::test]
async fn a_deleted_topic_comes_back_as_another_generation() {
    let log = MemoryLog::new();
    log.create_topic("t", 1).await.unwrap();
    let old = log.describe("t").await.unwrap().generation;
    log.delete_topic("t").await.unwrap();
    log.create_topic("t", 1).await.unwrap();
    assert_ne!(log.describe("t").await.unwrap().generation, old);
}
