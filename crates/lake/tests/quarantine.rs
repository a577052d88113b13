//! The quarantine: a record is there or in its table, never both, never neither.
#![allow(clippy::unwrap_used, reason = "a test that fails there has failed")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int64Type, Schema};
use bytes::Bytes;
use common::{Fault, FaultyStore};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pinmill_lake::quarantine::{Filter, Quarantine, QuarantinedRecord};
use pinmill_lake::table::{CommitPlan, Committed, CoveredRange, Table, WriterOptions, system_columns};
use pinmill_lake::{Lake, RangeSum, RecordId, TopicPartition};
use rand::RngExt;

fn record(topic: &str, partition: u32, offset: u64) -> QuarantinedRecord {
    QuarantinedRecord {
        dataset: "pin".into(),
        reason: format!("follower_count `{offset}x` is no number"),
        id: RecordId::new(TopicPartition::new(topic, partition), offset),
        ingested_at_us: 1_700_000_000_000_000 + offset as i64,
        raw: (!offset.is_multiple_of(4)).then(|| Bytes::from(vec![0xff, offset as u8, b'\n'])),
        run: "run 1".into(),
        quarantined_at_us: 1_800_000_000_000_000,
    }
}

fn sorted(mut records: Vec<QuarantinedRecord>) -> Vec<QuarantinedRecord> {
    records.sort_by(|a, b| a.id.cmp(&b.id));
    records
}

#[tokio::test]
async fn records_come_back_byte_for_byte_and_are_found_by_filter() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let all: Vec<_> = (0..3).flat_map(|p| (0..20).map(move |offset| record("a.pin", p, offset))).collect();
    Quarantine::open(&lake, "batch").await.unwrap().add(&all).await.unwrap();
    let quarantine = Quarantine::open(&lake, "batch").await.unwrap();
    assert_eq!(sorted(quarantine.records(&Filter::default(), 1000).await.unwrap()), all);
    assert_eq!(quarantine.records(&Filter::default(), 7).await.unwrap().len(), 7);
    let find = async |filter: Filter| quarantine.records(&filter, 1000).await.unwrap().len();
    for partition in 0..3 {
        assert_eq!(find(Filter { partition: Some(partition), ..Default::default() }).await, 20);
    }
    assert_eq!(find(Filter { offset: Some(3), ..Default::default() }).await, 3);
    assert_eq!(find(Filter { reason: Some("`12x`".into()), ..Default::default() }).await, 3);
    assert_eq!(find(Filter { dataset: Some("geo".into()), ..Default::default() }).await, 0);
}

#[tokio::test]
async fn a_limit_takes_those_that_were_put_in_first_whatever_file_they_are_in() {
    let quarantine = Quarantine::open(&FaultyStore::new().lake(), "batch").await.unwrap();
    for (offset, quarantined_at_us) in [(0, 200), (1, 300), (2, 100), (3, 400), (4, 100)] {
        let record = QuarantinedRecord { quarantined_at_us, ..record("t", 0, offset) };
        quarantine.add(&[record]).await.unwrap();
    }
    for limit in 0..6 {
        let oldest = quarantine.records(&Filter::default(), limit).await.unwrap();
        let offsets: Vec<u64> = oldest.iter().map(|record| record.id.offset).collect();
        assert_eq!(offsets, [2, 4, 0, 1, 3][..limit.min(5)]);
    }
}

#[tokio::test]
async fn a_record_is_put_in_once_however_often_it_is_given() {
    let quarantine = Quarantine::open(&FaultyStore::new().lake(), "batch").await.unwrap();
    let [a, b, c] = [record("t", 0, 4), record("t", 0, 9), record("t", 1, 4)];
    assert_eq!(quarantine.add(&[b.clone(), b.clone()]).await.unwrap(), 1);
    assert_eq!(
        quarantine.add(&[a.clone(), b.clone(), c.clone()]).await.unwrap(),
        2,
        "below the highest offset too"
    );
    assert_eq!(quarantine.add(&[a.clone(), b.clone(), c.clone()]).await.unwrap(), 0);
    assert_eq!(sorted(quarantine.records(&Filter::default(), 10).await.unwrap()), [a, b, c]);
}

#[tokio::test]
async fn what_lies_ahead_of_the_table_is_told() {
    let quarantine = Quarantine::open(&FaultyStore::new().lake(), "batch").await.unwrap();
    quarantine
        .add(&[record("t", 0, 4), record("t", 0, 9), record("t", 1, 7), record("u", 0, 8)])
        .await
        .unwrap();
    let ahead = |topic: &'static str, after| {
        let quarantine = &quarantine;
        async move { quarantine.ahead(&TopicPartition::new(topic, 0), after).await.unwrap() }
    };
    assert_eq!(ahead("t", None).await, BTreeSet::from([4, 9]));
    assert_eq!(ahead("t", Some(4)).await, BTreeSet::from([9]));
    assert_eq!(ahead("t", Some(9)).await, BTreeSet::new());
    assert_eq!(ahead("unknown", None).await, BTreeSet::new());
}

#[tokio::test]
async fn additions_whose_answer_was_lost_are_known_again() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::AnswerLostThenExists] {
        let store = FaultyStore::new();
        let quarantine = Quarantine::open(&store.lake(), "batch").await.unwrap();
        for offset in 0..20 {
            store.fail("_delta_log/0", fault, 1);
            assert_eq!(quarantine.add(&[record("t", 0, offset)]).await.unwrap(), 1);
        }
        store.heal();
        assert_eq!(store.faults.load(Ordering::Relaxed), 20);
        assert_eq!(quarantine.records(&Filter::default(), 100).await.unwrap().len(), 20);
    }
}

#[tokio::test]
async fn two_processes_may_put_in_and_take_out_at_once() {
    let lake = FaultyStore::new().lake();
    let (one, two) =
        (Quarantine::open(&lake, "batch").await.unwrap(), Quarantine::open(&lake, "batch").await.unwrap());
    let ours: Vec<_> = (0..20).map(|offset| record("t", 0, offset)).collect();
    let (first, second) = tokio::join!(one.add(&ours), two.add(&ours[..10]));
    assert_eq!(first.unwrap() + second.unwrap(), 20);
    let ids: Vec<_> = ours[5..15].iter().map(|record| record.id.clone()).collect();
    let more: Vec<_> = (20..30).map(|offset| record("t", 0, offset)).collect();
    let (removed, added) = tokio::join!(one.remove(&ids), two.add(&more));
    assert_eq!((removed.unwrap(), added.unwrap()), (10, 10));
    assert_eq!(one.remove(&ids).await.unwrap(), 0);
    let left: Vec<_> = sorted(two.records(&Filter::default(), 100).await.unwrap());
    assert_eq!(
        left.iter().map(|record| record.id.offset).collect::<Vec<_>>(),
        (0..5).chain(15..30).collect::<Vec<_>>()
    );
}

fn schema() -> Schema {
    Schema::new(system_columns().to_vec())
}

fn rows(offsets: &[u64]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values(offsets.iter().map(|_| 0)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(offsets.iter().map(|_| "t"))),
        Arc::new(Int32Array::from_iter_values(offsets.iter().map(|_| 0))),
        Arc::new(Int32Array::from_iter_values(offsets.iter().map(|_| 0))),
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(|&offset| offset as i64))),
        Arc::new(Int32Array::from_iter_values(offsets.iter().map(|_| 0))),
        Arc::new(times),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
}

async fn clean_offsets(table: &Table, lake: &Lake) -> Vec<u64> {
    let mut offsets = Vec::new();
    for file in table.files().unwrap() {
        let bytes = lake.store().get(&file.path).await.unwrap().bytes().await.unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
            offsets.extend(column.values().iter().map(|&offset| offset as u64));
        }
    }
    offsets.sort_unstable();
    offsets
}

/// A cleaner's life: batches of any size, any of the two commits may fail, and the SQL may have changed since the
/// last life, so that other records are rejected.
#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_in_both_or_in_neither_whatever_dies_when() {
    const END: u64 = 60;
    let mut random = pinmill_testkit::rng();
    for round in 0..40 {
        let store = FaultyStore::new();
        let lake = store.lake();
        loop {
            let mut table = Table::open_or_create(&lake, "batch/pin", &schema()).await.unwrap();
            let quarantine = Quarantine::open(&lake, "batch").await.unwrap();
            let rejects = |modulus: u64, offset: u64| offset.is_multiple_of(modulus);
            let modulus = random.random_range(2..7);
            let after = table.position(&TopicPartition::new("t", 0)).await.unwrap();
            let first = after.map_or(0, |after| after + 1);
            if first == END {
                break;
            }
            let end = END.min(first + random.random_range(1..50));
            let ahead = quarantine.ahead(&TopicPartition::new("t", 0), after).await.unwrap();
            let (rejected, clean): (Vec<u64>, Vec<u64>) =
                (first..end).partition(|offset| ahead.contains(offset) || rejects(modulus, *offset));
            let records: Vec<_> = rejected.iter().map(|&offset| record("t", 0, offset)).collect();
            let fault =
                [Fault::Refused, Fault::AnswerLost, Fault::AnswerLostThenExists][random.random_range(0..3)];
            let place =
                ["quarantine/_delta_log/0", "pin/_delta_log/0", ".parquet"][random.random_range(0..3)];
            let times = if place == ".parquet" { 1 } else { random.random_range(0..3) };
            store.fail(place, fault, times);
            let lived = async {
                quarantine.add(&records).await?;
                if random.random_bool(0.2) {
                    return Ok(None);
                }
                let mut writer = table.writer(WriterOptions::default());
                writer.write(&rows(&clean)).await?;
                let files = writer.finish().await?;
                let mut sum = RangeSum::default();
                (first..end).for_each(|offset| sum.add(offset, Some(b"x")));
                let range = CoveredRange {
                    place: TopicPartition::new("t", 0),
                    generation: None,
                    after,
                    sum,
                    clean: clean.len() as u64,
                    quarantined: rejected.len() as u64,
                    rows: None,
                    lost: Vec::new(),
                    sequence: None,
                };
                table.commit(&CommitPlan { files, ranges: vec![range], ..Default::default() }).await.map(Some)
            };
            let _: Result<Option<Committed>, pinmill_lake::Error> = lived.await;
            store.heal();
        }
        let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
        let quarantine = Quarantine::open(&lake, "batch").await.unwrap();
        let clean = clean_offsets(&table, &lake).await;
        let held: Vec<u64> = sorted(quarantine.records(&Filter::default(), 1000).await.unwrap())
            .iter()
            .map(|r| r.id.offset)
            .collect();
        let mut both = clean.clone();
        both.extend(&held);
        both.sort_unstable();
        assert_eq!(both, (0..END).collect::<Vec<_>>(), "round {round}");
        let totals = &table.totals().await.unwrap()[&TopicPartition::new("t", 0)];
        assert_eq!(
            (totals.clean, totals.quarantined),
            (clean.len() as u64, held.len() as u64),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn a_replay_moves_records_and_a_crash_in_its_middle_is_finished() {
    let lake = FaultyStore::new().lake();
    let mut table = Table::open_or_create(&lake, "batch/pin", &schema()).await.unwrap();
    let quarantine = Quarantine::open(&lake, "batch").await.unwrap();
    quarantine.add(&[record("t", 0, 1), record("t", 0, 3)]).await.unwrap();
    let mut sum = RangeSum::default();
    (0..5).for_each(|offset| sum.add(offset, None));
    let commit = |offsets: &'static [u64], ranges, replayed| {
        let writer = table.writer(WriterOptions::default());
        async move {
            let mut writer = writer;
            writer.write(&rows(offsets)).await.unwrap();
            CommitPlan { files: writer.finish().await.unwrap(), ranges, replayed, ..Default::default() }
        }
    };
    let range = CoveredRange {
        place: TopicPartition::new("t", 0),
        generation: None,
        after: None,
        sum,
        clean: 3,
        quarantined: 2,
        rows: None,
        lost: Vec::new(),
        sequence: None,
    };
    let first = commit(&[0, 2, 4], vec![range], Vec::new()).await;
    let replayed = vec![RecordId::new(TopicPartition::new("t", 0), 3)];
    let replay = commit(&[3], Vec::new(), replayed.clone()).await;
    table.commit(&first).await.unwrap();
    table.commit(&replay).await.unwrap();

    // It died before the record was taken out. The next run finds the name in the table's log.
    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(table.replayed().await.unwrap(), replayed);
    assert_eq!(quarantine.remove(&table.replayed().await.unwrap()).await.unwrap(), 1);
    assert_eq!(clean_offsets(&table, &lake).await, [0, 2, 3, 4]);
    assert_eq!(quarantine.records(&Filter::default(), 9).await.unwrap(), [record("t", 0, 1)]);
    let totals = &table.totals().await.unwrap()[&TopicPartition::new("t", 0)];
    assert_eq!((totals.clean, totals.quarantined, totals.sum), (4, 1, sum));
    assert_eq!(table.position(&TopicPartition::new("t", 0)).await.unwrap(), Some(4));
}
