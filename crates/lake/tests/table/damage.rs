//! A log that somebody damaged: recovered where Delta allows it, else an error that names the table. Never a wrong row,
//! and nothing is written to what cannot be read.

use std::path::{Path, PathBuf};

use pinmill_lake::table::Table;
use pinmill_lake::{Error, Lake, TopicPartition};
use rand::RngExt;

use crate::support::{contents_of, count, once, open, plan, schema};

/// A table of 60 commits, with a checkpoint at the fiftieth.
async fn table_of_sixty(dir: &tempfile::TempDir) -> (Lake, PathBuf) {
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    for index in 0..60_u64 {
        let plan = plan(&table, 0, index.checked_sub(1), index, index + 1).await;
        table.commit(&plan).await.unwrap();
    }
    (lake, dir.path().join("batch/pin/_delta_log"))
}

fn checkpoint(log: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.to_string_lossy().ends_with(".parquet")).unwrap()
}

fn commit(log: &Path, version: u64) -> PathBuf {
    log.join(format!("{version:020}.json"))
}

async fn assert_whole(lake: &Lake, what: &str) {
    let mut table = Table::open(lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(count(&table, lake).await, once(0, 0..60), "{what}");
    assert_eq!(table.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(59), "{what}");
}

/// An error and all of its causes, as a person is told them.
fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(because) = cause {
        words = format!("{words}: {because}");
        cause = because.source();
    }
    words
}

/// Who opens the table, to read it or to write to it, is told that this table's log cannot be read, and nothing is made,
/// changed or removed. Gives the words.
async fn assert_refused(lake: &Lake, dir: &tempfile::TempDir, what: &str) -> String {
    let mut before = contents_of(dir);
    before.sort();
    let to_read = Table::open(lake, "batch/pin").await.map(drop).unwrap_err();
    let to_write = Table::open_or_create(lake, "batch/pin", &schema()).await.map(drop).unwrap_err();
    for error in [&to_read, &to_write] {
        let words = chain(error);
        match error {
            Error::Delta { table, .. } => {
                assert_eq!(table, "batch/pin");
                assert!(
                    words.starts_with("table batch/pin: cannot read the table's log: "),
                    "{what}: {words}"
                );
            }
            Error::TornCommit { table, .. } => {
                assert_eq!(table, "batch/pin");
                assert_eq!(words.lines().count(), 1, "{what}: {words}");
                assert!(error.hint().is_some());
            }
            other => panic!("{what}: {other}"),
        }
    }
    let mut after = contents_of(dir);
    after.sort();
    assert_eq!(after, before, "{what}");
    chain(&to_read)
}

/// Places within the lines of a commit.
fn cuts(commit: &[u8], random: &mut impl rand::Rng) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut start = 0;
    for line in commit.split(|byte| *byte == b'\n') {
        let end = start + line.len();
        cuts.extend([start + 1, random.random_range(start + 1..end), end - 1]);
        start = end + 1;
    }
    cuts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_checkpoint_that_is_torn_wrong_or_gone_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    let hint = log.join("_last_checkpoint");
    let good = std::fs::read(&hint).unwrap();
    for damage in [&b"{\"version\":"[..], b"", b"not json", b"{\"version\":7,\"size\":1}"] {
        std::fs::write(&hint, damage).unwrap();
        assert_whole(&lake, &String::from_utf8_lossy(damage)).await;
    }
    std::fs::remove_file(&hint).unwrap();
    assert_whole(&lake, "gone").await;
    std::fs::write(&hint, good).unwrap();
    assert_whole(&lake, "mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_named_and_gone_is_made_up_for_where_all_commits_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    std::fs::remove_file(checkpoint(&log)).unwrap();
    assert_whole(&lake, "without its checkpoint").await;
    // It can be written to, and the next checkpoint is named again.
    let mut table = open(&lake).await;
    for index in 60..100_u64 {
        let plan = plan(&table, 0, Some(index - 1), index, index + 1).await;
        table.commit(&plan).await.unwrap();
    }
    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(count(&table, &lake).await, once(0, 0..100));
    assert_eq!(table.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(99));
}

/// The log that is left is one that a table once had: taken as it is, it would be the table of an earlier day.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_gone_with_the_commits_around_it_is_an_error_and_never_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    std::fs::remove_file(checkpoint(&log)).unwrap();
    for version in 40..=60 {
        std::fs::remove_file(commit(&log, version)).unwrap();
    }
    assert_refused(&lake, &dir, "without its checkpoint and its last commits").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_gone_with_the_commits_before_it_is_an_error_and_never_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    std::fs::remove_file(checkpoint(&log)).unwrap();
    for version in 0..30 {
        std::fs::remove_file(commit(&log, version)).unwrap();
    }
    let words = assert_refused(&lake, &dir, "without its checkpoint and its first commits").await;
    assert!(words.contains("_last_checkpoint"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_cut_at_the_end_of_a_line_is_an_error_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    for version in [60, 55, 50] {
        let path = commit(&log, version);
        let good = std::fs::read_to_string(&path).unwrap();
        let ends: Vec<usize> = good.match_indices('\n').map(|(at, _)| at).collect();
        assert!(ends.len() >= 2, "{good}");
        for end in ends.into_iter().flat_map(|end| [end, end + 1]).chain([0]) {
            std::fs::write(&path, &good[..end]).unwrap();
            let what = format!("commit {version}, {end} of {} bytes", good.len());
            let words = assert_refused(&lake, &dir, &what).await;
            assert!(words.contains(&format!("{version:020}.json")), "{what}: {words}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_whole(&lake, "mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_comes_upon_a_commit_that_was_cut_at_the_end_of_a_line_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let (mut one, mut other) = (open(&lake).await, open(&lake).await);
    let theirs = plan(&other, 0, None, 0, 3).await;
    other.commit(&theirs).await.unwrap();
    let path = commit(&dir.path().join("batch/pin/_delta_log"), 1);
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &good[..good.rfind('\n').unwrap()]).unwrap();
    for _ in 0..2 {
        let error = one.refresh().await.unwrap_err();
        assert!(matches!(&error, Error::TornCommit { version: 1, .. }), "{error}");
        assert_eq!(one.version(), 0, "what it sees stays as it was");
    }
    std::fs::write(&path, good).unwrap();
    one.refresh().await.unwrap();
    assert_eq!(one.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_cut_or_overwritten_is_an_error_and_never_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    let path = checkpoint(&log);
    let good = std::fs::read(&path).unwrap();
    let half = good.len() / 2;
    let mut overwritten = good.clone();
    overwritten[half..].fill(b'x');
    let damages: [(&str, &[u8]); 6] = [
        ("one byte", &good[..1]),
        ("a half", &good[..half]),
        ("all but its last eight bytes", &good[..good.len() - 8]),
        ("all but its last byte", &good[..good.len() - 1]),
        ("its second half overwritten", &overwritten[..]),
        ("some text", &b"this is no checkpoint, whatever it is called"[..]),
    ];
    for (what, damage) in damages {
        std::fs::write(&path, damage).unwrap();
        assert_refused(&lake, &dir, what).await;
    }
    std::fs::write(&path, &good).unwrap();
    assert_whole(&lake, "mended").await;
    // One without any bytes counts as gone.
    std::fs::write(&path, b"").unwrap();
    assert_whole(&lake, "no byte").await;
    std::fs::remove_file(log.join("_last_checkpoint")).unwrap();
    assert_whole(&lake, "no byte, and not named").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_commit_behind_the_checkpoint_is_an_error_and_never_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    std::fs::remove_file(commit(&log, 55)).unwrap();
    let opened = Table::open(&lake, "batch/pin").await;
    let error = opened.map(|table| table.map(|table| table.version())).unwrap_err();
    assert!(matches!(&error, Error::Delta { table, .. } if table == "batch/pin"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_cut_within_a_line_is_an_error_wherever_it_is_cut() {
    let mut random = pinmill_testkit::rng();
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    // The newest commit, one among others, and the first that no checkpoint stands for.
    for version in [60, 55, 50] {
        let path = commit(&log, version);
        let good = std::fs::read(&path).unwrap();
        for cut in cuts(&good, &mut random) {
            std::fs::write(&path, &good[..cut]).unwrap();
            let what = format!("commit {version}, {cut} of {} bytes", good.len());
            let words = assert_refused(&lake, &dir, &what).await;
            assert!(words.contains("is cut off or damaged"), "{what}: {words}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_whole(&lake, "mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_commit_that_a_checkpoint_stands_for_is_missed_by_the_history_alone_which_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, log) = table_of_sixty(&dir).await;
    let path = commit(&log, 10);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert_whole(&lake, "torn").await;
    let table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(table.history(50).await.unwrap().len(), 50, "down to the eleventh commit");
    let words = chain(&table.history(usize::MAX).await.unwrap_err());
    assert!(words.contains("table batch/pin: cannot read a commit"), "{words}");
    assert!(words.contains("version=10"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_comes_upon_a_torn_commit_stops_and_goes_on_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let (mut one, mut other) = (open(&lake).await, open(&lake).await);
    let theirs = plan(&other, 1, None, 0, 3).await;
    other.commit(&theirs).await.unwrap();
    let log = dir.path().join("batch/pin/_delta_log");
    let good = std::fs::read(commit(&log, 1)).unwrap();
    std::fs::write(commit(&log, 1), &good[..10]).unwrap();

    let ours = plan(&one, 0, None, 0, 4).await;
    let error = one.commit(&ours).await.unwrap_err();
    assert!(matches!(&error, Error::TornCommit { table, version: 1, .. } if table == "batch/pin"), "{error}");
    assert_eq!(one.version(), 0, "what it sees stays as it was");
    assert!(!commit(&log, 2).exists(), "nothing is written behind a commit that cannot be read");

    std::fs::write(commit(&log, 1), good).unwrap();
    one.commit(&ours).await.unwrap();
    let all = once(0, 0..4).into_iter().chain(once(1, 0..3)).collect();
    assert_eq!(count(&one, &lake).await, all);
}
