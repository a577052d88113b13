//! Delta tables: every row once, whatever dies when and whoever else writes.
#![allow(clippy::unwrap_used, reason = "a test that fails there has failed")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use common::{Fault, FaultyStore, contents};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pinmill_lake::table::{CommitPlan, Committed, CoveredRange, Table, WriterOptions, system_columns};
use pinmill_lake::{Error, Lake, RangeSum};
use rand::RngExt;

fn schema() -> Schema {
    let mut fields = vec![
        Field::new("ind", DataType::Int32, true),
        Field::new("title", DataType::Utf8View, true),
        Field::new("followers", DataType::Int64, true),
        Field::new("coordinates", DataType::new_list(DataType::Float64, true), true),
    ];
    fields.extend(system_columns());
    Schema::new(fields)
}

/// A clean row for each offset.
fn rows(partition: i32, offsets: std::ops::Range<i64>) -> RecordBatch {
    let mut coordinates = ListBuilder::new(Float64Builder::new());
    for offset in offsets.clone() {
        if offset % 7 == 3 {
            coordinates.append_null();
        } else {
            coordinates.append_value([Some(offset as f64), Some(-0.5)]);
        }
    }
    let titles: StringViewArray =
        offsets.clone().map(|o| (o % 5 != 1).then(|| format!("title {o}, rather long"))).collect();
    let times = TimestampMicrosecondArray::from_iter_values(offsets.clone().map(|offset| offset * 1_000_001));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(offsets.clone().map(|offset| offset as i32 * 10))),
        Arc::new(titles),
        Arc::new(offsets.clone().map(|offset| (offset % 3 != 0).then_some(offset)).collect::<Int64Array>()),
        Arc::new(coordinates.finish()),
        Arc::new(Int32Array::from_iter_values(offsets.clone().map(|_| partition))),
        Arc::new(Int64Array::from_iter_values(offsets.clone())),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
}

fn sum(first: u64, end: u64) -> RangeSum {
    let mut sum = RangeSum::default();
    (first..end).for_each(|offset| sum.add(offset, Some(format!("value {offset}").as_bytes())));
    sum
}

/// A plan for offsets `first..end` of a partition whose position is `after`.
async fn plan(table: &Table, partition: u32, after: Option<u64>, first: u64, end: u64) -> CommitPlan {
    let mut writer = table.writer(WriterOptions::default());
    writer.write(&rows(partition as i32, first as i64..end as i64)).await.unwrap();
    let files = writer.finish().await.unwrap();
    let range = CoveredRange {
        topic: "a.pin".into(),
        partition,
        generation: Some("g1".into()),
        after,
        sum: sum(first, end),
        clean: end - first,
        quarantined: 0,
    };
    CommitPlan { files, ranges: vec![range], run: Some("test".into()), ..Default::default() }
}

async fn open(lake: &Lake) -> Table {
    Table::open_or_create(lake, "batch/pin", &schema()).await.unwrap()
}

/// How often each (partition, offset) is in the table.
async fn count(table: &Table, lake: &Lake) -> BTreeMap<(i32, i64), u32> {
    let mut count = BTreeMap::new();
    for batch in read(table, lake).await {
        let partitions =
            batch.column_by_name("_partition").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
        let offsets = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            *count.entry((partitions.value(row), offsets.value(row))).or_insert(0) += 1;
        }
    }
    count
}

async fn read(table: &Table, lake: &Lake) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for file in table.files().unwrap() {
        let bytes = lake.store().get(&file.path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes.len() as u64, file.size);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let read: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(file.rows, Some(read.iter().map(|batch| batch.num_rows() as u64).sum()));
        batches.extend(read);
    }
    batches
}

fn once(partition: i32, offsets: std::ops::Range<i64>) -> BTreeMap<(i32, i64), u32> {
    offsets.map(|offset| ((partition, offset), 1)).collect()
}

#[tokio::test]
async fn rows_positions_and_totals_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().join("my lake").to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    assert_eq!(table.position("a.pin", 0).await.unwrap(), None);
    let first = plan(&table, 0, None, 5, 10).await;
    assert!(matches!(table.commit(&first).await.unwrap(), Committed::Committed { version: 1, attempts: 1 }));
    let mut second = plan(&table, 0, Some(9), 10, 13).await;
    second.ranges[0].sum.join(&sum(13, 15));
    second.ranges[0].quarantined = 2;
    table.commit(&second).await.unwrap();

    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(table.position("a.pin", 0).await.unwrap(), Some(14));
    assert_eq!(table.position("a.pin", 1).await.unwrap(), None);
    let totals = table.totals().await.unwrap()[&("a.pin".to_owned(), 0)].clone();
    assert_eq!((totals.sum, totals.latest), (sum(5, 15), sum(10, 15)));
    assert_eq!((totals.clean, totals.quarantined, totals.generation.as_deref()), (8, 2, Some("g1")));
    assert_eq!(count(&table, &lake).await, once(0, 5..13));
    let first_rows = read(&table, &lake).await.into_iter().find(|batch| batch.num_rows() == 5).unwrap();
    let titles = first_rows.column(1).as_string::<i32>();
    assert!(titles.is_null(1));
    assert_eq!(titles.value(2), "title 7, rather long");
    assert!(table.files().unwrap().iter().all(|file| file.file.as_ref().unwrap().is_file()));
    assert!(Table::open(&lake, "batch/other").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_commits_whose_answer_was_lost_are_known_again() {
    for fault in [Fault::AnswerLost, Fault::AnswerLostThenExists] {
        let store = FaultyStore::new();
        let lake = store.lake();
        let mut table = open(&lake).await;
        for index in 0..50_u64 {
            let plan = plan(&table, 0, index.checked_sub(1), index, index + 1).await;
            store.fail("_delta_log/0", fault, 1);
            let done = table.commit(&plan).await.unwrap();
            assert_eq!(done, Committed::Committed { version: index + 1, attempts: 1 });
        }
        store.heal();
        assert_eq!(store.faults.load(Ordering::Relaxed), 50);
        assert_eq!(store.deletes.load(Ordering::Relaxed), 0, "no data file is deleted");
        let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
        assert_eq!(table.version(), 50, "no second commit");
        assert_eq!(count(&table, &lake).await, once(0, 0..50));
        assert_eq!(table.totals().await.unwrap()[&("a.pin".to_owned(), 0)].sum, sum(0, 50));
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_really_failed_is_made_again_and_lands_once() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 4).await;
    store.fail("_delta_log/0", Fault::Refused, 3);
    assert_eq!(table.commit(&plan).await.unwrap(), Committed::Committed { version: 1, attempts: 4 });
    assert_eq!(count(&table, &lake).await, once(0, 0..4));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_ends_the_commit_and_the_next_call_may_go_on() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 4).await;
    store.fail("_delta_log/0", Fault::Refused, u64::MAX);
    let error = table.commit(&plan).await.unwrap_err();
    assert!(matches!(error, Error::Contention { .. }), "{error}");
    store.heal();
    assert!(matches!(table.commit(&plan).await.unwrap(), Committed::Committed { version: 1, .. }));
    assert_eq!(table.commit(&plan).await.unwrap(), Committed::AlreadyCommitted);
    assert_eq!(count(&table, &lake).await, once(0, 0..4));
}

#[tokio::test]
async fn a_second_writer_is_fenced_and_the_same_work_is_not_done_twice() {
    let lake = FaultyStore::new().lake();
    let (mut one, mut zombie) = (open(&lake).await, open(&lake).await);
    let [ours, same, longer] = [
        plan(&one, 0, None, 0, 10).await,
        plan(&zombie, 0, None, 0, 10).await,
        plan(&zombie, 0, None, 0, 15).await,
    ];
    one.commit(&ours).await.unwrap();
    let error = zombie.commit(&longer).await.unwrap_err();
    assert!(matches!(&error, Error::Fenced { partition: 0, .. }), "{error}");
    assert!(error.to_string().contains("was to be at nothing covered and is at offset 9"), "{error}");
    assert_eq!(zombie.commit(&same).await.unwrap(), Committed::AlreadyCommitted);
    assert_eq!(count(&zombie, &lake).await, once(0, 0..10));
}

#[tokio::test]
async fn the_same_position_with_other_records_is_refused_not_skipped() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let mut plan = plan(&table, 0, None, 0, 10).await;
    table.commit(&plan).await.unwrap();
    plan.ranges[0].sum.hash ^= 1;
    assert!(matches!(table.commit(&plan).await, Err(Error::Fenced { .. })));
}

#[tokio::test]
async fn a_topic_made_anew_stops_the_commit() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let first = plan(&table, 0, None, 0, 10).await;
    table.commit(&first).await.unwrap();
    let mut next = plan(&table, 0, Some(9), 10, 12).await;
    next.ranges[0].generation = Some("g2".into());
    let error = table.commit(&next).await.unwrap_err();
    assert!(matches!(&error, Error::Generation { .. }), "{error}");
}

#[tokio::test]
async fn a_plan_that_does_not_add_up_is_refused() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let good = plan(&table, 0, None, 3, 10).await;
    let breakages: [fn(&mut CommitPlan); 7] = [
        |plan| plan.ranges[0].clean -= 1,
        |plan| plan.ranges[0].sum = RangeSum::default(),
        |plan| plan.ranges[0].after = Some(3),
        |plan| plan.ranges[0].sum.count = 99,
        |plan| plan.ranges[0].sum.last = u64::MAX,
        |plan| plan.ranges.push(plan.ranges[0].clone()),
        |plan| plan.files.clear(),
    ];
    for (index, breakage) in breakages.into_iter().enumerate() {
        let mut plan = good.clone();
        breakage(&mut plan);
        assert!(matches!(table.commit(&plan).await, Err(Error::TableLog { .. })), "breakage {index}");
    }
    assert_eq!(table.version(), 0);
    table.commit(&good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_other_batch_boundaries_after_any_crash_gives_each_row_once() {
    let mut random = pinmill_testkit::rng();
    for round in 0..100 {
        let store = FaultyStore::new();
        let lake = store.lake();
        const END: u64 = 40;
        loop {
            // A life of the process: it opens the table, goes on where the table is, and dies sooner or later.
            let mut table = open(&lake).await;
            let fault =
                [Fault::Refused, Fault::AnswerLost, Fault::AnswerLostThenExists][random.random_range(0..3)];
            store.fail("_delta_log/0", fault, random.random_range(0..3));
            for _ in 0..random.random_range(1..4) {
                let after = table.position("a.pin", 0).await.unwrap();
                let first = after.map_or(0, |after| after + 1);
                if first == END {
                    break;
                }
                let end = END.min(first + random.random_range(1..25));
                let plan = plan(&table, 0, after, first, end).await;
                if random.random_bool(0.2) {
                    // Dies after the data files were written.
                    break;
                }
                table.commit(&plan).await.unwrap();
            }
            store.heal();
            if table.position("a.pin", 0).await.unwrap() == Some(END - 1) {
                break;
            }
        }
        let mut table = open(&lake).await;
        assert_eq!(count(&table, &lake).await, once(0, 0..END as i64), "round {round}");
        assert_eq!(table.totals().await.unwrap()[&("a.pin".to_owned(), 0)].sum, sum(0, END));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_different_partitions_all_land() {
    const COMMITS: u64 = 15;
    let lake = FaultyStore::new().lake();
    open(&lake).await;
    let writers = (0..8_u32).map(|partition| {
        let lake = lake.clone();
        tokio::spawn(async move {
            let mut table = open(&lake).await;
            for index in 0..COMMITS {
                let plan = plan(&table, partition, index.checked_sub(1), index, index + 1).await;
                // Giving up is allowed when others are always quicker; then it is tried again.
                while let Err(error) = table.commit(&plan).await {
                    assert!(matches!(error, Error::Contention { .. }), "{error}");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut table = open(&lake).await;
    let all: BTreeMap<_, _> = (0..8).flat_map(|partition| once(partition, 0..COMMITS as i64)).collect();
    assert_eq!(count(&table, &lake).await, all);
    assert_eq!(table.totals().await.unwrap().len(), 8);
    assert_eq!(table.version(), 8 * COMMITS);
}

#[tokio::test]
async fn positions_and_totals_live_on_in_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    for index in 0..52_u64 {
        let plan = plan(&table, 0, index.checked_sub(1), index, index + 1).await;
        table.commit(&plan).await.unwrap();
    }
    let log = dir.path().join("batch/pin/_delta_log");
    assert!(log.join("_last_checkpoint").is_file());
    for version in 0..45 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let mut fresh = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(fresh.position("a.pin", 0).await.unwrap(), Some(51));
    assert_eq!(fresh.totals().await.unwrap()[&("a.pin".to_owned(), 0)].sum, sum(0, 52));
    assert_eq!(count(&fresh, &lake).await, once(0, 0..52));
}

#[tokio::test]
async fn a_torn_commit_is_an_error_that_names_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 3).await;
    table.commit(&plan).await.unwrap();
    let commit = dir.path().join("batch/pin/_delta_log/00000000000000000001.json");
    let bytes = std::fs::read(&commit).unwrap();
    std::fs::write(&commit, &bytes[..bytes.len() / 2]).unwrap();
    let opened = match Table::open(&lake, "batch/pin").await {
        Ok(table) => table.unwrap().totals().await.map(drop),
        Err(error) => Err(error),
    };
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("batch/pin"), "{error}");
}

#[tokio::test]
async fn a_new_column_is_added_and_a_changed_one_is_refused() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let first = plan(&table, 0, None, 0, 3).await;
    table.commit(&first).await.unwrap();
    let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.insert(1, Field::new("language", DataType::Utf8, true));
    let mut wider = Table::open_or_create(&lake, "batch/pin", &Schema::new(fields.clone())).await.unwrap();
    assert_eq!(wider.schema().fields().len(), fields.len());
    assert_eq!(wider.position("a.pin", 0).await.unwrap(), Some(2));
    assert_eq!(wider.totals().await.unwrap().len(), 1, "adding a column does not lose the totals");

    let lacking = Schema::new(fields[1..].to_vec());
    let error = Table::open_or_create(&lake, "batch/pin", &lacking).await.unwrap_err();
    assert!(error.to_string().contains("column `ind` is in the table and not in the rows"), "{error}");
    fields[0] = Field::new("ind", DataType::Int64, true);
    let error = Table::open_or_create(&lake, "batch/pin", &Schema::new(fields)).await.unwrap_err();
    assert!(
        error.to_string().contains("column `ind` is Int32 in the table and Int64 in the rows"),
        "{error}"
    );
}

#[tokio::test]
async fn the_guard_stops_a_writer_whose_table_got_other_columns_meanwhile() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 3).await;
    let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("language", DataType::Utf8, true));
    Table::open_or_create(&lake, "batch/pin", &Schema::new(fields)).await.unwrap();
    // Rows that lack a nullable column are rows with NULL in it: the commit stands.
    assert!(matches!(table.commit(&plan).await.unwrap(), Committed::Committed { version: 2, .. }));
    assert_eq!(count(&table, &lake).await, once(0, 0..3));
}

#[tokio::test]
async fn an_answer_is_replaced_as_a_whole_and_vacuum_takes_the_old_files() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let name = "answers/01_popular";
    for end in [5, 9] {
        let table = Table::overwrite(&lake, name, &schema(), &[rows(0, 0..end)]).await.unwrap();
        assert_eq!(count(&table, &lake).await, once(0, 0..end));
    }
    let other = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    let batch =
        RecordBatch::try_new(Arc::new(other.clone()), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    Table::overwrite(&lake, name, &other, &[batch]).await.unwrap();
    let mut table = Table::open(&lake, name).await.unwrap().unwrap();
    assert_eq!(table.schema().fields().len(), 1);
    assert_eq!(read(&table, &lake).await[0].num_columns(), 1);

    let is_data = |path: &String| path.ends_with(".parquet");
    let files = || async { contents_of(&dir).into_iter().filter(is_data).count() };
    assert_eq!(files().await, 3);
    std::fs::write(dir.path().join(name).join("part-orphan.snappy.parquet"), "x").unwrap();
    assert_eq!(
        table.vacuum(std::time::Duration::from_secs(3600), false).await.unwrap().files,
        Vec::<String>::new()
    );
    assert_eq!(files().await, 4, "what is younger than the retention stays");
    table.vacuum(std::time::Duration::ZERO, false).await.unwrap();
    assert_eq!(files().await, 1);
    assert_eq!(read(&table, &lake).await[0].num_rows(), 2);
    // An answer without rows is a table without files.
    let table = Table::overwrite(&lake, name, &other, &[]).await.unwrap();
    assert_eq!(table.files().unwrap(), []);
}

fn contents_of(dir: &tempfile::TempDir) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    found
}

#[tokio::test]
async fn files_are_closed_at_their_size_and_columns_matched_by_name() {
    let lake = FaultyStore::new().lake();
    let table = open(&lake).await;
    let mut writer = table.writer(WriterOptions { file_bytes: 10_000, row_group_rows: 100 });
    for start in 0..20 {
        let batch = rows(0, start * 300..(start + 1) * 300);
        let mut order: Vec<usize> = (0..batch.num_columns()).collect();
        if start % 2 == 1 {
            order.reverse();
        }
        writer.write(&batch.project(&order).unwrap()).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 6000);
    let mut writer = table.writer(WriterOptions::default());
    let error = writer.write(&rows(0, 0..1).project(&[0, 1]).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Schema { .. }), "{error}");
}

/// The `stats` of every Add in a table's log, as text.
async fn all_stats(lake: &Lake) -> Vec<String> {
    let mut stats = Vec::new();
    for (path, bytes) in contents(lake).await {
        if !path.contains("_delta_log") || !path.ends_with(".json") {
            continue;
        }
        for line in std::str::from_utf8(&bytes).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(text) = action["add"]["stats"].as_str() {
                stats.push(text.to_owned());
            }
        }
    }
    stats
}

#[tokio::test]
async fn statistics_bound_the_real_values_exactly_where_they_can() {
    let mut random = pinmill_testkit::rng();
    for _ in 0..200 {
        let lake = FaultyStore::new().lake();
        let fields = vec![
            Field::new("i", DataType::Int32, true),
            Field::new("l", DataType::Int64, true),
            Field::new("d", DataType::Float64, true),
            Field::new("s", DataType::Utf8View, true),
            Field::new("t", pinmill_lake::table::timestamp(), true),
            Field::new("day", DataType::Date32, true),
            Field::new("b", DataType::Boolean, true),
        ];
        let schema = Arc::new(Schema::new(fields));
        let count = random.random_range(1..200);
        let nulls = [0.0, 0.2, 1.0][random.random_range(0..3)];
        let odd = random.random_bool(0.2);
        let mut maybe = |present: bool| present && !random.random_bool(nulls);
        let present: Vec<bool> = (0..count).map(|_| maybe(true)).collect();
        let pick = |values: Vec<i64>| -> Vec<Option<i64>> {
            values.into_iter().zip(&present).map(|(v, &p)| p.then_some(v)).collect()
        };
        let mut draw = |low: i64, high: i64| -> Vec<i64> {
            (0..count).map(|_| random.random_range(low..=high)).collect()
        };
        let ints = pick(draw(i32::MIN.into(), i32::MAX.into()));
        let longs = pick(draw(i64::MIN, i64::MAX));
        let doubles: Vec<Option<f64>> = pick(draw(-1_000_000, 1_000_000))
            .into_iter()
            .map(|v| v.map(|v| if odd && v % 3 == 0 { f64::NAN } else { v as f64 / 7.0 }))
            .collect();
        let texts: Vec<Option<String>> = pick(draw(0, 5))
            .into_iter()
            .map(|v| {
                v.map(|v| {
                    ["", "a", "é", "\u{10ffff}", "𝄞"][v as usize % 5].repeat(40 * (v as usize % 3) + 1)
                        + &v.to_string()
                })
            })
            .collect();
        let times = pick(draw(-4_000_000_000_000_000, 4_000_000_000_000_000));
        let days = pick(draw(-100_000, 100_000));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ints.iter().map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
            Arc::new(longs.iter().copied().collect::<Int64Array>()),
            Arc::new(doubles.iter().copied().collect::<Float64Array>()),
            Arc::new(texts.iter().map(Option::as_deref).collect::<StringViewArray>()),
            Arc::new(times.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Arc::new(days.iter().map(|v| v.map(|v| v as i32)).collect::<arrow::array::Date32Array>()),
            Arc::new(ints.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<arrow::array::BooleanArray>()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.clone()).unwrap();
        let mut table = Table::open_or_create(&lake, "t", &schema).await.unwrap();
        let mut writer = table.writer(WriterOptions { row_group_rows: 50, ..Default::default() });
        writer.write(&batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        table.commit(&CommitPlan { files, ..Default::default() }).await.unwrap();

        let stats = all_stats(&lake).await.remove(0);
        let parts: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(&stats).unwrap();
        let bounds = (parts["minValues"].get().to_owned(), parts["maxValues"].get().to_owned());
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        let (min, max) = (&stats["minValues"], &stats["maxValues"]);
        assert_eq!(stats["numRecords"], count);
        for (index, field) in schema.fields().iter().enumerate() {
            assert_eq!(stats["nullCount"][field.name()], columns[index].null_count(), "{field}");
        }
        let range = |values: &[Option<i64>]| {
            values.iter().flatten().copied().min().zip(values.iter().flatten().copied().max())
        };
        for (name, values) in [("i", &ints), ("l", &longs)] {
            assert_eq!(range(values), min[name].as_i64().zip(max[name].as_i64()), "{name}");
        }
        let finite: Vec<f64> = doubles.iter().flatten().copied().collect();
        // Read as text: serde_json's own reading of doubles may be off by the last bit.
        let exact = |bounds: &str| -> Option<f64> {
            let bounds: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(bounds).unwrap();
            bounds.get("d").map(|number| number.get().parse().unwrap())
        };
        let expected = (!finite.is_empty() && finite.iter().all(|v| !v.is_nan())).then(|| {
            (
                finite.iter().copied().fold(f64::INFINITY, f64::min),
                finite.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            )
        });
        assert_eq!(expected, exact(&bounds.0).zip(exact(&bounds.1)));
        if let (Some(low), Some(high)) = (texts.iter().flatten().min(), texts.iter().flatten().max()) {
            let (lower, upper) = (min["s"].as_str().unwrap(), max["s"].as_str().unwrap());
            assert!(lower <= low.as_str() && upper >= high.as_str(), "{lower:?} {low:?} {high:?} {upper:?}");
            if low.len() <= 64 {
                assert_eq!(lower, low);
            }
            if high.len() <= 64 {
                assert_eq!(upper, high);
            }
        }
        if let Some((low, high)) = range(&times) {
            let millis = |value: &serde_json::Value| {
                let text = value.as_str().unwrap();
                assert!(text.ends_with('Z') && text.as_bytes()[text.len() - 5] == b'.', "{text}");
                chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
            };
            assert_eq!(millis(&min["t"]), low.div_euclid(1000));
            assert_eq!(millis(&max["t"]), (high + 999).div_euclid(1000));
        }
        if let Some((low, high)) = range(&days) {
            let day = |days: i64| {
                (chrono::NaiveDate::default() + chrono::TimeDelta::days(days)).format("%Y-%m-%d").to_string()
            };
            assert_eq!(
                (min["day"].as_str().unwrap(), max["day"].as_str().unwrap()),
                (&*day(low), &*day(high))
            );
        }
        assert!(min["b"].is_null());
    }
}

#[tokio::test]
async fn the_log_reads_as_plain_delta_without_features() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 2, None, 0, 3).await;
    table.commit(&plan).await.unwrap();
    let contents = contents(&lake).await;
    let lines = |version: u32| -> Vec<serde_json::Value> {
        let path = format!("a/lake/batch/pin/_delta_log/{version:020}.json");
        let text = std::str::from_utf8(&contents[&path]).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let created = lines(0);
    let protocol = created.iter().find_map(|action| action.get("protocol")).unwrap();
    assert_eq!((&protocol["minReaderVersion"], &protocol["minWriterVersion"]), (&1.into(), &2.into()));
    let metadata = created.iter().find_map(|action| action.get("metaData")).unwrap();
    let fields: serde_json::Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let types: Vec<_> =
        fields["fields"].as_array().unwrap().iter().map(|field| field["type"].clone()).collect();
    assert_eq!(types[0], "integer");
    assert_eq!(types[3]["elementType"], "double");
    assert_eq!(types[4..], ["integer", "long", "timestamp"]);
    let committed = lines(1);
    let txn = committed.iter().find_map(|action| action.get("txn")).unwrap();
    assert_eq!(txn, &serde_json::json!({"appId": "pinmill/a.pin/2", "version": 2}));
    let info = committed.iter().find_map(|action| action.get("commitInfo")).unwrap();
    assert_eq!(info["pinmill"]["ranges"][0]["hash"], format!("{:016x}", sum(0, 3).hash));
    assert_eq!(info["pinmill"]["totals"][0]["count"], 3);
}
