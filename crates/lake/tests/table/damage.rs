//! A log that somebody damaged: recovered where Delta allows it, else an error that names the table. Never a wrong row.

use pinmill_lake::table::Table;
use pinmill_lake::{Error, Lake};

use crate::support::{count, once, open, plan};

/// A table of 60 commits, with a checkpoint at the fiftieth.
async fn table_of_sixty(dir: &tempfile::TempDir) -> (Lake, std::path::PathBuf) {
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    for index in 0..60_u64 {
        let plan = plan(&table, 0, index.checked_sub(1), index, index + 1).await;
        table.commit(&plan).await.unwrap();
    }
    (lake, dir.path().join("batch/pin/_delta_log"))
}

fn checkpoint(log: &std::path::Path) -> std::path::PathBuf {
    let mut found = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.to_string_lossy().ends_with(".parquet")).unwrap()
}

async fn assert_whole(lake: &Lake, what: &str) {
    let mut table = Table::open(lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(count(&table, lake).await, once(0, 0..60), "{what}");
    assert_eq!(table.position("a.pin", 0).await.unwrap(), Some(59), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_checkpoint_that_is_torn_wrong_or_gone_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    let hint = log.join("_last_checkpoint");
    let good = std::fs::read(&hint).unwrap();
    for damage in [&b"{\"version\":"[..], b"", b"not json", b"{\"version\":7,\"size\":1}"] {
        std::fs::write(&hint, damage).unwrap();
        let what = String::from_utf8_lossy(damage);
        match Table::open(&lake, "batch/pin").await {
            Ok(_) => assert_whole(&lake, &what).await,
            Err(error) => assert!(error.to_string().contains("batch/pin"), "{what}: {error}"),
        }
    }
    std::fs::remove_file(&hint).unwrap();
    assert_whole(&lake, "gone").await;
    std::fs::write(&hint, good).unwrap();
    assert_whole(&lake, "mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_checkpoint_is_made_up_for_by_the_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    std::fs::remove_file(checkpoint(&log)).unwrap();
    match Table::open(&lake, "batch/pin").await {
        Ok(_) => assert_whole(&lake, "without its checkpoint").await,
        // `_last_checkpoint` still names it.
        Err(error) => assert!(error.to_string().contains("batch/pin"), "{error}"),
    }
    std::fs::remove_file(log.join("_last_checkpoint")).unwrap();
    assert_whole(&lake, "without its checkpoint and its hint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_commit_behind_the_checkpoint_is_an_error_and_never_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    std::fs::remove_file(log.join("00000000000000000055.json")).unwrap();
    let opened = Table::open(&lake, "batch/pin").await;
    let error = opened.map(|table| table.map(|table| table.version())).unwrap_err();
    assert!(matches!(&error, Error::Delta { table, .. } if table == "batch/pin"), "{error}");
}
