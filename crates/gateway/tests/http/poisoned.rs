//! Over the embedded log, on a disk that fails to flush: nothing is acknowledged any more, and what was is there after a
//! restart.

use std::sync::Arc;

use pinmill_broker::EmbeddedLog;
use pinmill_log::sim::{PowerLoss, SimDisk};
use pinmill_log::{Log, LogConfig};

use crate::support::{Served, get, post_json, serve_over};

/// One committer, so that partitions are flushed in their order.
fn open(disk: &SimDisk) -> Arc<Log> {
    let config = LogConfig { committers: 1, ..LogConfig::default() };
    Arc::new(Log::open_on(Arc::new(disk.clone()), "/data/log", config).unwrap().0)
}

async fn serve(disk: &SimDisk) -> (Served, Arc<Log>) {
    let log = open(disk);
    (serve_over(Arc::new(EmbeddedLog::new(Arc::clone(&log)))).await, log)
}

/// All values of a partition, as text.
fn values(log: &Log, partition: u32) -> Vec<String> {
    let end = log.offsets("t", partition).unwrap().end;
    let mut found = Vec::new();
    while (found.len() as u64) < end {
        let records = log.read("t", partition, found.len() as u64, 1 << 20).unwrap();
        found.extend(records.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
    }
    found
}

/// The disks that the next start may find.
fn restarts(disk: &SimDisk) -> [SimDisk; 3] {
    [disk.after_kill(), disk.restart(PowerLoss::LoseAll), disk.restart(PowerLoss::Random(7))]
}

fn record(value: &str, partition: u32) -> String {
    format!(r#"{{"value":"{value}","partition":{partition}}}"#)
}

fn request(records: &[String]) -> Vec<u8> {
    post_json("/topics/t", format!(r#"{{"records":[{}]}}"#, records.join(",")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_flush_every_post_is_a_503_until_a_restart_that_finds_all_that_was_acknowledged() {
    let disk = SimDisk::new();
    let (served, log) = serve(&disk).await;
    log.create_topic("t", 1).unwrap();
    let kept = served.ask(request(&[record("kept", 0)])).await;
    assert_eq!((kept.status, kept.json()["offsets"][0]["offset"].as_u64()), (200, Some(0)));
    assert_eq!(served.ask(get("/readyz")).await.status, 200);

    disk.fail_sync(1);
    let unknown = served.ask(request(&[record("unknown", 0)])).await;
    assert_eq!((unknown.status, unknown.error_code()), (503, 50302));
    for _ in 0..3 {
        let refused = served.ask(request(&[record("refused", 0)])).await;
        assert_eq!((refused.status, refused.error_code()), (503, 50302));
    }
    let ready = served.ask(get("/readyz")).await;
    assert!(ready.status == 503 && ready.text().contains("until a restart"), "{}", ready.text());
    assert_eq!(served.ask(get("/healthz")).await.status, 200);
    assert!(log.close().is_err(), "a poisoned log was closed as if all were well");
    served.stopped().await;

    for disk in restarts(&disk) {
        let (served, log) = serve(&disk).await;
        let found = values(&log, 0);
        let quoted = |text: &str| format!("\"{text}\"");
        assert!(found == [quoted("kept")] || found == [quoted("kept"), quoted("unknown")], "{found:?}");
        assert_eq!(served.ask(get("/readyz")).await.status, 200);
        let again = served.ask(request(&[record("again", 0)])).await.json();
        assert_eq!(again["offsets"][0]["offset"].as_u64(), Some(found.len() as u64));
        served.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_of_two_partitions_was_flushed_its_records_alone_are_acknowledged() {
    let disk = SimDisk::new();
    let (served, log) = serve(&disk).await;
    log.create_topic("t", 2).unwrap();
    disk.fail_sync(2);
    let answer = served.ask(request(&[record("a", 0), record("b", 1), record("c", 0)])).await;
    let offsets = answer.json()["offsets"].clone();
    assert_eq!(answer.status, 200);
    for (place, offset) in [(0, 0), (2, 1)] {
        assert_eq!(offsets[place]["offset"].as_u64(), Some(offset), "{offsets}");
    }
    assert_eq!(offsets[1]["error_code"].as_u64(), Some(50003), "worth another try: {offsets}");
    assert_eq!(served.ask(get("/readyz")).await.status, 503);
    served.stopped().await;

    for disk in restarts(&disk) {
        let log = open(&disk);
        assert_eq!(values(&log, 0), ["\"a\"", "\"c\""]);
        let other = values(&log, 1);
        assert!(other.is_empty() || other == ["\"b\""], "{other:?}");
    }
}
