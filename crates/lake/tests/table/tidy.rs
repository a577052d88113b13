//! Small files put together, old ones taken away, and what the history tells of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use object_store::ObjectStoreExt;
use pinmill_lake::table::{CompactPolicy, CoveredRange, Table, TableOptions};
use pinmill_lake::{Error, Lake, TopicPartition};
use rand::RngExt;

use crate::common::{Fault, FaultyStore};
use crate::support::{contents_of, count, let_an_hour_pass, once, open, plan, schema, sum};

const COLUMNS: [&str; 4] = ["ind", "title", "followers", "coordinates"];

/// Commits offsets one by one, from where the table is.
async fn commit_singly(table: &mut Table, partition: u32, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let plan = plan(table, partition, offset.checked_sub(1), offset, offset + 1).await;
        while let Err(error) = table.commit(&plan).await {
            assert!(matches!(error, Error::Contention { .. }), "{error}");
        }
    }
}

/// The columns of all these tables, and one more.
fn wider() -> Schema {
    let mut wider = schema().fields().to_vec();
    wider.push(Arc::new(Field::new("language", DataType::Utf8, true)));
    Schema::new(wider)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_put_together_hold_the_same_rows_and_move_no_position() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..40).await;
    let before = table.sum_of(&COLUMNS).await.unwrap();
    assert_eq!(before.rows, 40);

    let done = table.compact(&CompactPolicy::default()).await.unwrap();
    assert_eq!((done.removed, done.added), (40, 1));
    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(table.files().unwrap().len(), 1);
    assert_eq!(table.sum_of(&COLUMNS).await.unwrap(), before, "bit for bit");
    assert_eq!(count(&table, &lake).await, once(0, 0..40));
    assert_eq!(table.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(39));
    assert_eq!(table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].sum, sum(0, 40));
    assert_eq!(
        table.compact(&CompactPolicy::default()).await.unwrap().commits,
        0,
        "there is nothing left to do"
    );

    let history = table.history(2).await.unwrap();
    assert_eq!(history[0].operation, "OPTIMIZE");
    assert_eq!((history[0].added, history[0].removed, history[0].rows), (1, 40, 40));
    assert_eq!(history[1].ranges.len(), 1);
    assert_eq!(history[1].ranges[0].sum, sum(39, 40));
    assert_eq!(table.newest_ms().unwrap(), Some(39 * 1000 + 1), "rounded up to the millisecond");
    // The table goes on as if nothing had been.
    commit_singly(&mut table, 0, 40..42).await;
    assert_eq!(count(&table, &lake).await, once(0, 0..42));
}

/// Puts files together and vacuums until all rows are in, and then once more. Gives the files that it removed.
async fn keep_tidy(lake: Lake, all_are_in: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut table = open(&lake).await;
    let policy = CompactPolicy { fan_in: 4, ..CompactPolicy::default() };
    let mut removed = BTreeSet::new();
    loop {
        let is_last = all_are_in.load(Ordering::SeqCst);
        let is_smaller = match table.compact(&policy).await {
            Ok(done) => done.commits > 0,
            // What it reads may be gone: another put it together, and a vacuum without any retention took it.
            Err(Error::Contention { .. } | Error::Store { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        if is_smaller || is_last {
            removed.extend(table.vacuum(Duration::ZERO, false).await.unwrap().files);
        }
        if is_last {
            return removed;
        }
        tokio::task::yield_now().await;
    }
}

/// Some append, some put files together and vacuum, all at once: no row is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appends_compactions_and_vacuums_at_once_lose_and_double_nothing() {
    const COMMITS: u64 = 60;
    let lake = FaultyStore::new().lake();
    open(&lake).await;
    let appends = (0..2_u32).map(|partition| {
        let lake = lake.clone();
        tokio::spawn(async move { commit_singly(&mut open(&lake).await, partition, 0..COMMITS).await })
    });
    let appends: Vec<_> = appends.collect();
    let all_are_in = Arc::new(AtomicBool::new(false));
    let tidying = (0..2).map(|_| tokio::spawn(keep_tidy(lake.clone(), Arc::clone(&all_are_in))));
    let tidying: Vec<_> = tidying.collect();
    for task in appends {
        task.await.unwrap();
    }
    all_are_in.store(true, Ordering::SeqCst);
    let mut removed = BTreeSet::new();
    for task in tidying {
        removed.extend(task.await.unwrap());
    }
    let mut table = open(&lake).await;
    let all = (0..2).flat_map(|partition| once(partition, 0..COMMITS as i64)).collect();
    assert_eq!(count(&table, &lake).await, all);
    assert_eq!(table.totals().await.unwrap().len(), 2);
    // Each row came in a file of its own, of which few are left.
    let (files, rows) = (table.files().unwrap().len(), 2 * COMMITS as usize);
    assert!(removed.len() > rows / 2 && files < rows / 2, "{} removed, {files} left", removed.len());
}

/// The names of a view's data files.
fn names(table: &Table) -> BTreeSet<String> {
    table.files().unwrap().iter().map(|file| file.path.filename().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vacuum_without_any_retention_takes_what_was_replaced_and_readers_miss_nothing() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..40).await;
    let before = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    table.compact(&CompactPolicy::default()).await.unwrap();
    let (replaced, left) = (names(&before), names(&table));
    assert_eq!((replaced.len(), left.len()), (40, 1));
    assert_eq!(count(&before, &lake).await, once(0, 0..40), "its files are there until a vacuum");

    let readers: Vec<_> = (0..3)
        .map(|_| {
            let lake = lake.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
                    assert_eq!(count(&table, &lake).await, once(0, 0..40));
                }
            })
        })
        .collect();
    let vacuumed = table.vacuum(Duration::ZERO, false).await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    let gone = vacuumed.files.iter().map(|path| path.rsplit('/').next().unwrap().to_owned());
    assert_eq!(gone.collect::<BTreeSet<_>>(), replaced);
    let table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(names(&table), left);
    assert_eq!(count(&table, &lake).await, once(0, 0..40));
    let late = before.rows().await;
    assert!(matches!(late, Err(Error::Store { .. })), "a reader of the version before is told: {late:?}");
}

/// What the file actions of a version say of `dataChange`.
async fn data_changes(lake: &Lake, version: u64) -> BTreeSet<bool> {
    let path = lake.path(&format!("batch/pin/_delta_log/{version:020}.json"));
    let bytes = lake.store().get(&path).await.unwrap().bytes().await.unwrap();
    let actions = std::str::from_utf8(&bytes).unwrap().lines().map(|line| {
        let action: serde_json::Value = serde_json::from_str(line).unwrap();
        ["add", "remove"].iter().find_map(|kind| action.get(kind)?.get("dataChange")?.as_bool())
    });
    actions.flatten().collect()
}

/// Programs that follow a table's changes would take the rows for new ones.
#[tokio::test(flavor = "multi_thread")]
async fn files_put_together_are_no_change_of_data() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..16).await;
    assert_eq!(data_changes(&lake, table.version()).await, BTreeSet::from([true]));
    table.compact(&CompactPolicy::default()).await.unwrap();
    assert_eq!(data_changes(&lake, table.version()).await, BTreeSet::from([false]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_keeps_what_is_younger_than_its_retention() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..16).await;
    table.compact(&CompactPolicy::default()).await.unwrap();
    // One that no commit names, for an hour already.
    drop(plan(&table, 1, None, 0, 3).await);
    store.age_data_files().await;
    for minutes in [61, 120, 7 * 24 * 60] {
        let vacuumed = table.vacuum(Duration::from_secs(60 * minutes), false).await.unwrap();
        assert_eq!(vacuumed.files, Vec::<String>::new(), "{minutes} minutes");
    }
    // Those that were replaced are young: how old a file is does not count, but when it was replaced.
    for minutes in [59, 10, 1] {
        let vacuumed = table.vacuum(Duration::from_secs(60 * minutes), false).await.unwrap();
        assert_eq!(vacuumed.files.len(), usize::from(minutes == 59), "{minutes} minutes");
    }
    assert_eq!(table.vacuum(Duration::ZERO, false).await.unwrap().files.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_whose_answer_was_lost_is_known_again() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::AnswerLostThenExists] {
        let store = FaultyStore::new();
        let lake = store.lake();
        let mut table = open(&lake).await;
        commit_singly(&mut table, 0, 0..20).await;
        store.fail("_delta_log/0", fault, 1);
        let done = table.compact(&CompactPolicy::default()).await.unwrap();
        assert_eq!((done.commits, done.removed), (1, 20), "{fault:?}");
        let table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
        assert_eq!((table.version(), table.files().unwrap().len()), (21, 1), "{fault:?}");
        assert_eq!(count(&table, &lake).await, once(0, 0..20), "{fault:?}");
    }
}

/// A commit may be tried again and again; its files were written before.
#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_leaves_files_that_wait_for_their_commit_however_short_its_retention() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..20).await;
    let waiting = plan(&table, 0, Some(19), 20, 25).await;
    table.compact(&CompactPolicy::default()).await.unwrap();
    let done = Table::open(&lake, "batch/pin").await.unwrap().unwrap().vacuum(Duration::ZERO, false).await;
    assert_eq!(done.unwrap().files.len(), 20, "those that were put together go at once");
    table.commit(&waiting).await.unwrap();
    assert_eq!(count(&table, &lake).await, once(0, 0..25));
}

/// Another program's rows, without any position of ours, survive.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_another_program_appended_are_put_together_too() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..20).await;
    let mut foreign = plan(&table, 9, None, 0, 5).await;
    foreign.ranges = Vec::<CoveredRange>::new();
    table.commit(&foreign).await.unwrap();
    table.compact(&CompactPolicy::default()).await.unwrap();
    let all = once(0, 0..20).into_iter().chain(once(9, 0..5)).collect();
    assert_eq!(count(&table, &lake).await, all);
    assert_eq!(table.files().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_from_before_a_column_was_added_gets_nulls_in_it() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    commit_singly(&mut table, 0, 0..16).await;
    let mut table = Table::open_or_create(&lake, "batch/pin", &wider()).await.unwrap();
    assert_eq!(table.compact(&CompactPolicy::default()).await.unwrap().removed, 16);
    let rows = table.rows().await.unwrap();
    let nulls: usize = rows.iter().map(|batch| batch.column_by_name("language").unwrap().null_count()).sum();
    assert_eq!(nulls, 16);
}

/// A table of so many commits, all of them older than its log is kept. `made_before`: from before tables said that
/// nobody else may clean their log up.
async fn at_rest(dir: &tempfile::TempDir, commits: u64, made_before: bool) -> (Lake, Table) {
    let options = pinmill_lake::LakeOptions { fsync: false };
    let lake = Lake::open_with(dir.path().to_str().unwrap(), &options).unwrap();
    let options = TableOptions { history: Some(Duration::ZERO) };
    Table::open_or_create_with(&lake, "stream/pin", &schema(), &options).await.unwrap();
    if made_before {
        allow_cleanup(&dir.path().join("stream/pin/_delta_log/00000000000000000000.json"));
    }
    let mut table = Table::open(&lake, "stream/pin").await.unwrap().unwrap();
    commit_singly(&mut table, 0, 0..commits).await;
    let_an_hour_pass(dir);
    (lake, table)
}

fn allow_cleanup(commit: &std::path::Path) {
    let text = std::fs::read_to_string(commit).unwrap();
    let changed = text.lines().map(|line| {
        let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(properties) = action.pointer_mut("/metaData/configuration") {
            properties.as_object_mut().unwrap().remove("delta.enableExpiredLogCleanup").unwrap();
        }
        action.to_string()
    });
    let changed: Vec<String> = changed.collect();
    std::fs::write(commit, changed.join("\n")).unwrap();
}

async fn assert_totals(lake: &Lake, commits: u64) {
    let mut table = Table::open(lake, "stream/pin").await.unwrap().unwrap();
    assert_eq!(table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].sum, sum(0, commits));
    assert_eq!(count(&table, lake).await, once(0, 0..commits as i64));
}

/// Version 49 gets a checkpoint, behind which older commits may go. It is the vacuum's first commit here, or the one that
/// says that nobody else may clean up.
#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_of_a_table_at_rest_leaves_its_totals() {
    for (commits, made_before) in [(48, false), (47, true), (48, true)] {
        let dir = tempfile::tempdir().unwrap();
        let (lake, mut table) = at_rest(&dir, commits, made_before).await;
        std::fs::write(dir.path().join("stream/pin/part-orphan.snappy.parquet"), "x").unwrap();
        let_an_hour_pass(&dir);
        let vacuumed = table.vacuum(Duration::ZERO, false).await.unwrap();
        assert_eq!(vacuumed.files.len(), 1, "{vacuumed:?}");
        assert_totals(&lake, commits).await;
        // Once it has been said, it need not be said again.
        let version = table.version();
        table.vacuum(Duration::ZERO, false).await.unwrap();
        assert_eq!(table.version(), version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_added_to_a_table_at_rest_leaves_its_totals() {
    for made_before in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (lake, _) = at_rest(&dir, 48, made_before).await;
        let wider = Table::open_or_create(&lake, "stream/pin", &wider()).await.unwrap();
        assert_eq!(wider.version(), 49);
        assert_totals(&lake, 48).await;
    }
}

/// Five hundred commits of random size with what the streaming half does beside them: at no time are there many data
/// files, nor many commits that no checkpoint stands for. How long anything takes is left to the benches.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_commits_leave_few_files_and_a_short_log() {
    let mut random = pinmill_testkit::rng();
    let dir = tempfile::tempdir().unwrap();
    let options = pinmill_lake::LakeOptions { fsync: false };
    let lake = Lake::open_with(dir.path().to_str().unwrap(), &options).unwrap();
    let options = TableOptions { history: Some(Duration::ZERO) };
    let mut table = Table::open_or_create_with(&lake, "stream/pin", &schema(), &options).await.unwrap();
    let log = dir.path().join("stream/pin/_delta_log");
    let mut next = 0_u64;
    for commit in 0..500_u64 {
        let end = next + random.random_range(1..40);
        let plan = plan(&table, 0, next.checked_sub(1), next, end).await;
        table.commit(&plan).await.unwrap();
        next = end;
        if commit % 20 == 19 {
            Table::open(&lake, "stream/pin")
                .await
                .unwrap()
                .unwrap()
                .compact(&CompactPolicy::default())
                .await
                .unwrap();
        }
        // A checkpoint comes with every fiftieth version.
        let to_read = commits_to_read(&log);
        assert!(to_read <= 50, "{to_read} commits are to be read after commit {commit}");
        let files = table.files().unwrap().len();
        assert!(files < 60, "{files} files after commit {commit}");
    }
    // Of those that were replaced first, checkpoints do not tell any more that there ever was a commit of them.
    let_an_hour_pass(&dir);
    table.vacuum(Duration::ZERO, false).await.unwrap();
    let mut table = Table::open(&lake, "stream/pin").await.unwrap().unwrap();
    assert_eq!(count(&table, &lake).await, once(0, 0..next as i64));
    assert_eq!(table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].sum, sum(0, next));
    let there = contents_of(&dir);
    let data = there.iter().filter(|path| path.contains("part-")).count();
    assert_eq!(data, table.files().unwrap().len(), "nothing is left that no version needs");
    assert!(data < 60, "{data} data files");
    let log = there.iter().filter(|path| path.ends_with(".json")).count();
    assert!(log < 200, "{log} commits are kept of more than five hundred");
}

/// The commits that whoever opens a table reads one by one: those that no checkpoint stands for.
fn commits_to_read(log: &std::path::Path) -> usize {
    let checkpoint = std::fs::read(log.join("_last_checkpoint")).ok().map(|hint| {
        let hint: serde_json::Value = serde_json::from_slice(&hint).unwrap();
        hint["version"].as_u64().unwrap()
    });
    let names =
        std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let versions = names.filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
    versions.filter(|version| checkpoint.is_none_or(|checkpoint| *version > checkpoint)).count()
}
