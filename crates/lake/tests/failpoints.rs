//! Every named crash point: the process dies there, another one goes on, and every record is in once.
//!
//! `cargo test -p pinmill-lake --features failpoints --test failpoints`
#![allow(clippy::unwrap_used, reason = "a test that fails there has failed")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use fail::FailScenario;
use pinmill_lake::archive::{Archive, ArchiveConfig, ObjectBuilder, Put, ReadOptions};
use pinmill_lake::table::{CommitPlan, CoveredRange, Table, WriterOptions, system_columns};
use pinmill_lake::{Error, Lake, RangeSum, TopicPartition};
use rand::RngExt;

/// The scenario is global, so that all points are walked through in one test.
#[tokio::test]
async fn a_crash_at_any_point_leaves_every_record_in_once() {
    let scenario = FailScenario::setup();
    let archive_points =
        ["lake::archive::before_data", "lake::archive::before_manifest", "lake::archive::after_manifest"];
    for point in archive_points {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        fail::cfg(point, "1*return").unwrap();
        let died = archive(&lake, 0, 10).await;
        assert!(died.is_err(), "{point} was not reached");
        // The next life rolls elsewhere.
        let mut next = 0;
        while next < 30 {
            next = archive(&lake, next, (next + 7).min(30)).await.unwrap();
        }
        let archive = Archive::new(&lake, ArchiveConfig::default());
        let mut reader = archive.read(&TopicPartition::new("t", 0), 0, ReadOptions::default()).await.unwrap();
        while reader.next().await.unwrap().is_some() {}
        let report = reader.report();
        assert_eq!((report.sum, report.skipped, report.missing), (sum(0, 30), 0, 0), "{point}");
    }
    let table_points = [
        "lake::table::before_data_file",
        "lake::table::before_commit",
        "lake::table::after_commit",
        "lake::table::before_checkpoint",
    ];
    let mut random = pinmill_testkit::rng();
    for point in table_points {
        for mode in [Mode::Panic, Mode::Panic, Mode::Panic, Mode::Error] {
            commits_cut_short(point, mode, &mut random).await;
        }
    }
    scenario.teardown();
}

/// All files below a folder that are no objects, also hidden ones.
fn strangers(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = paths.flat_map(|path| if path.is_dir() { strangers(&path) } else { vec![path] });
    below.filter(|path| path.extension().is_none_or(|ending| ending != "json")).collect()
}

/// Readers of the archive take what they find there for objects, and a put may die at any moment.
#[tokio::test]
async fn a_file_that_is_being_written_does_not_lie_among_the_objects() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (topics, looks) = (dir.path().join("topics"), Arc::clone(&seen));
    let look = move || looks.lock().unwrap().push(strangers(&topics));
    fail::cfg_callback("lake::store::before_name", look).unwrap();
    archive(&lake, 0, 10).await.unwrap();
    scenario.teardown();
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 2, "an object and its manifest are put: {seen:?}");
    assert!(seen.iter().all(Vec::is_empty), "{seen:?}");
}

/// How a point fails: the task that comes there dies, or gets an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Panic,
    Error,
}

/// Makes the next passing of a point fail. The counter tells how often those who may die there passed it.
fn arm(point: &str, mode: Mode) -> Arc<AtomicU64> {
    let passed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&passed);
    let armed = match mode {
        Mode::Panic => fail::cfg_callback(point, move || {
            if counter.fetch_add(1, Ordering::SeqCst) == 0 {
                std::panic::panic_any("died at a crash point");
            }
        }),
        Mode::Error => fail::cfg(point, "1*return"),
    };
    armed.unwrap();
    passed
}

/// Commits of some records each, every one by another process, of which some die at the point.
async fn commits_cut_short(point: &str, mode: Mode, random: &mut impl rand::Rng) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    // Making the table is its first version, and with the fiftieth comes a checkpoint.
    let is_of_checkpoints = point == "lake::table::before_checkpoint";
    let commits = if is_of_checkpoints { 52 } else { 10 };
    let mut end = 0_u64;
    for commit in 1..=commits {
        end += random.random_range(1..5_u64);
        if commit % 5 == 0 || commit == 49 {
            let passed = arm(point, mode);
            let doomed = lake.clone();
            let died = tokio::spawn(async move { clean(&doomed, end).await }).await.is_err();
            fail::remove(point);
            let must_die = mode == Mode::Panic && (commit == 49 || !is_of_checkpoints);
            let passed = passed.load(Ordering::SeqCst);
            assert_eq!((died, passed > 0), (must_die, must_die), "{point}, {mode:?}, commit {commit}");
        }
        clean(&lake, end).await.unwrap();
    }
    let checkpoint = dir.path().join("t/_delta_log/_last_checkpoint");
    assert!(!checkpoint.exists(), "{point}, {mode:?}: the checkpoint was written all the same");
    let mut table = Table::open(&lake, "t").await.unwrap().unwrap();
    assert_eq!(table.version(), commits, "{point}, {mode:?}");
    let rows: u64 = table.files().unwrap().iter().filter_map(|file| file.rows).sum();
    assert_eq!(rows, end, "{point}, {mode:?}");
    let totals = table.totals().await.unwrap();
    assert_eq!(totals[&TopicPartition::new("t", 0)].sum, sum(0, end), "{point}, {mode:?}");
}

fn sum(first: u64, end: u64) -> RangeSum {
    let mut sum = RangeSum::default();
    (first..end).for_each(|offset| sum.add(offset, Some(offset.to_string().as_bytes())));
    sum
}

/// Archives from a position on, and returns the next one.
async fn archive(lake: &Lake, first: u64, mut end: u64) -> Result<u64, Error> {
    let archive = Archive::new(lake, ArchiveConfig::default());
    loop {
        let mut object = ObjectBuilder::new(&TopicPartition::new("t", 0), Some("g"));
        for offset in first..end {
            object.push(offset, offset as i64, Some(offset.to_string().as_bytes()))?;
        }
        match archive.put(&object).await? {
            Put::Written(stored) | Put::Adopted(stored) => return Ok(stored.sum.last + 1),
            Put::Longer { count } => end = first + count,
        }
    }
}

/// Brings the table from where it is to `end`.
async fn clean(lake: &Lake, end: u64) -> Result<(), Error> {
    let schema = Schema::new(system_columns().to_vec());
    let mut table = Table::open_or_create(lake, "t", &schema).await?;
    let after = table.position(&TopicPartition::new("t", 0)).await?;
    let first = after.map_or(0, |after| after + 1);
    if first == end {
        return Ok(());
    }
    let times = TimestampMicrosecondArray::from_iter_values((first..end).map(|_| 0)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((first..end).map(|_| "t"))),
        Arc::new(Int32Array::from_iter_values((first..end).map(|_| 0))),
        Arc::new(Int32Array::from_iter_values((first..end).map(|_| 0))),
        Arc::new(Int64Array::from_iter_values((first..end).map(|offset| offset as i64))),
        Arc::new(Int32Array::from_iter_values((first..end).map(|_| 0))),
        Arc::new(times),
    ];
    let mut writer = table.writer(WriterOptions::default());
    writer.write(&RecordBatch::try_new(Arc::new(schema), columns).unwrap()).await?;
    let files = writer.finish().await?;
    let (place, generation, sum) = (TopicPartition::new("t", 0), None, sum(first, end));
    let range = CoveredRange {
        place,
        generation,
        after,
        sum,
        clean: end - first,
        quarantined: 0,
        rows: None,
        lost: Vec::new(),
        sequence: None,
    };
    table.commit(&CommitPlan { files, ranges: vec![range], ..Default::default() }).await.map(drop)
}
