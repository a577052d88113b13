//! Every named crash point: the process dies there, another one goes on, and every record is in once.
//!
//! `cargo test -p pinmill-lake --features failpoints --test failpoints`
#![allow(clippy::unwrap_used, reason = "a test that fails there has failed")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use fail::FailScenario;
use pinmill_lake::archive::{Archive, ArchiveConfig, ObjectBuilder, Put, ReadOptions};
use pinmill_lake::table::{CommitPlan, CoveredRange, Table, WriterOptions, system_columns};
use pinmill_lake::{Error, Lake, RangeSum};

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
        let mut reader = archive.read("t", 0, 0, ReadOptions::default()).await.unwrap();
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
    for point in table_points {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        // The checkpoint comes with the fiftieth commit.
        let commits = if point == "lake::table::before_checkpoint" { 55 } else { 10 };
        for end in 1..=commits {
            fail::cfg(point, if end % 5 == 0 { "1*return" } else { "off" }).unwrap();
            let _ = clean(&lake, end).await;
            fail::cfg(point, "off").unwrap();
            clean(&lake, end).await.unwrap();
        }
        let mut table = Table::open(&lake, "t").await.unwrap().unwrap();
        let rows: u64 = table.files().unwrap().iter().filter_map(|file| file.rows).sum();
        assert_eq!(rows, commits, "{point}");
        assert_eq!(table.totals().await.unwrap()[&("t".to_owned(), 0)].sum, sum(0, commits), "{point}");
    }
    scenario.teardown();
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
        let mut object = ObjectBuilder::new("t", 0, Some("g"));
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
    let after = table.position("t", 0).await?;
    let first = after.map_or(0, |after| after + 1);
    if first == end {
        return Ok(());
    }
    let times = TimestampMicrosecondArray::from_iter_values((first..end).map(|_| 0)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values((first..end).map(|_| 0))),
        Arc::new(Int64Array::from_iter_values((first..end).map(|offset| offset as i64))),
        Arc::new(times),
    ];
    let mut writer = table.writer(WriterOptions::default());
    writer.write(&RecordBatch::try_new(Arc::new(schema), columns).unwrap()).await?;
    let files = writer.finish().await?;
    let (topic, partition, generation, sum) = ("t".into(), 0, None, sum(first, end));
    let range = CoveredRange { topic, partition, generation, after, sum, clean: end - first, quarantined: 0 };
    table.commit(&CommitPlan { files, ranges: vec![range], ..Default::default() }).await.map(drop)
}
