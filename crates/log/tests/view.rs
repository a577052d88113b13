//! A view looks at a log that another owner has, and leaves no trace.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pinmill_log::{Log, LogConfig, Record};

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

async fn append(log: &Log, count: usize) {
    for number in 0..count {
        let record = Record { value: Some(format!("value {number}").into()), ..Record::default() };
        log.append("pin", 0, vec![record]).await.unwrap();
    }
}

fn values(log: &Log) -> usize {
    let range = log.offsets("pin", 0).unwrap();
    let (mut next, mut count) = (range.beginning, 0);
    while next < range.end {
        let records = log.read("pin", 0, next, 1 << 20).unwrap();
        count += records.len();
        next = records.last().unwrap().offset + 1;
    }
    count
}

#[tokio::test]
async fn a_view_sees_what_was_acknowledged_beside_the_owner_and_changes_nothing() {
    let dir = pinmill_testkit::temp_dir();
    let config = LogConfig { segment_bytes: 4096, ..LogConfig::default() };
    let (log, _) = Log::open(dir.path(), config).unwrap();
    log.create_topic("pin", 1).unwrap();
    append(&log, 300).await;
    log.commit_position("archive", "pin", 0, 120).await.unwrap();
    let before = files(dir.path());
    let view = Log::view(dir.path()).unwrap();
    assert_eq!(values(&view), 300);
    assert_eq!(view.position("archive", "pin", 0).unwrap(), Some(120));
    drop(view);
    assert_eq!(files(dir.path()), before);
    append(&log, 10).await;
    assert_eq!(values(&Log::view(dir.path()).unwrap()), 310);
    log.close().unwrap();
}

#[tokio::test]
async fn a_view_of_a_log_whose_owner_died_cuts_the_torn_tail_for_itself_only() {
    let dir = pinmill_testkit::temp_dir();
    let (log, _) = Log::open(dir.path(), LogConfig::default()).unwrap();
    log.create_topic("pin", 1).unwrap();
    append(&log, 20).await;
    drop(log);
    let _ = std::fs::remove_file(dir.path().join("CLEAN"));
    let segment = files(dir.path())
        .into_keys()
        .find(|path| {
            path.to_string_lossy().contains("pin/0/") && path.extension().is_some_and(|e| e == "seg")
        })
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[7; 100]);
    std::fs::write(&segment, &bytes).unwrap();
    let before = files(dir.path());
    assert_eq!(values(&Log::view(dir.path()).unwrap()), 20);
    assert_eq!(files(dir.path()), before);
}
