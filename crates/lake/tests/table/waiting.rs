//! Files that wait for their commit, and vacuums: no commit names a file that a vacuum may have removed, whichever of the
//! two comes first.

use std::sync::Arc;
use std::time::Duration;

use pinmill_lake::table::{CompactPolicy, Table};
use pinmill_lake::{Error, Lake};

use crate::common::FaultyStore;
use crate::support::{count, once, open, plan, rows, schema};

/// All data files that are there have been for an hour, and a vacuum with the shortest retention comes.
async fn hour_and_vacuum(store: Arc<FaultyStore>, lake: Lake, name: &'static str) {
    store.age_data_files().await;
    let mut table = Table::open(&lake, name).await.unwrap().unwrap();
    table.vacuum(Duration::ZERO, false).await.unwrap();
}

fn vacuum_before_the_next_commit(store: &Arc<FaultyStore>, lake: &Lake, name: &'static str) {
    store.before("_delta_log/0", hour_and_vacuum(Arc::clone(store), lake.clone(), name));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_slept_until_a_vacuum_had_come_does_its_work_again() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let first = plan(&table, 0, None, 0, 5).await;
    table.commit(&first).await.unwrap();
    let slept = plan(&table, 0, Some(4), 5, 10).await;
    hour_and_vacuum(Arc::clone(&store), lake.clone(), "batch/pin").await;
    let error = table.commit(&slept).await.unwrap_err();
    assert!(matches!(&error, Error::Stale { .. }), "{error}");
    assert!(error.to_string().contains("batch/pin: part-"), "{error}");
    // Another process knows it as well, although it came later.
    let error = open(&lake).await.commit(&slept).await.unwrap_err();
    assert!(matches!(&error, Error::Stale { .. }), "{error}");
    let again = plan(&table, 0, Some(4), 5, 10).await;
    table.commit(&again).await.unwrap();
    assert_eq!(count(&table, &lake).await, once(0, 0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_that_comes_between_a_commit_and_its_put_refuses_the_commit() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let slow = plan(&table, 0, None, 0, 5).await;
    vacuum_before_the_next_commit(&store, &lake, "batch/pin");
    let error = table.commit(&slow).await.unwrap_err();
    assert!(matches!(&error, Error::Stale { .. }), "{error}");
    assert_eq!(count(&table, &lake).await, once(0, 0..0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_leaves_what_was_committed_while_it_made_its_list() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let waits = plan(&table, 0, None, 0, 5).await;
    let died = plan(&table, 1, None, 0, 5).await;
    store.age_data_files().await;
    // The list is made; before the vacuum's first commit comes that of a loader.
    let mut loader = open(&lake).await;
    store.before("_delta_log/0", async move { loader.commit(&waits).await.map(drop).unwrap() });
    let vacuumed = table.vacuum(Duration::ZERO, false).await.unwrap();
    assert_eq!(vacuumed.files.len(), died.files.len(), "{vacuumed:?}");
    assert_eq!(count(&table, &lake).await, once(0, 0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_younger_than_a_vacuums_bound_is_committed_after_it() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    drop(plan(&table, 1, None, 0, 5).await);
    store.age_data_files().await;
    let young = plan(&table, 0, None, 0, 5).await;
    assert_eq!(open(&lake).await.vacuum(Duration::ZERO, false).await.unwrap().files.len(), 1);
    table.commit(&young).await.unwrap();
    assert_eq!(count(&table, &lake).await, once(0, 0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_whose_file_a_vacuum_took_is_made_again() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    for offset in 0..16_u64 {
        let plan = plan(&table, 0, offset.checked_sub(1), offset, offset + 1).await;
        table.commit(&plan).await.unwrap();
    }
    vacuum_before_the_next_commit(&store, &lake, "batch/pin");
    let done = table.compact(&CompactPolicy::default()).await.unwrap();
    assert_eq!((done.commits, done.removed), (1, 16));
    assert_eq!(count(&table, &lake).await, once(0, 0..16));
    assert_eq!(table.files().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_file_a_vacuum_took_is_written_again() {
    let store = FaultyStore::new();
    let lake = store.lake();
    Table::overwrite(&lake, "answers/a", &schema(), &[rows(0, 0..3)]).await.unwrap();
    vacuum_before_the_next_commit(&store, &lake, "answers/a");
    let table = Table::overwrite(&lake, "answers/a", &schema(), &[rows(0, 3..9)]).await.unwrap();
    assert_eq!(count(&table, &lake).await, once(0, 3..9));
}
