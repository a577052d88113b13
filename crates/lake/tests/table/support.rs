//! Rows, plans to commit them, and what a table really holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Builder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pinmill_lake::table::{CommitPlan, CoveredRange, Table, WriterOptions, system_columns};
use pinmill_lake::{Lake, RangeSum, TopicPartition};

pub(crate) fn schema() -> Schema {
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
pub(crate) fn rows(partition: i32, offsets: std::ops::Range<i64>) -> RecordBatch {
    rows_of(Some("a.pin"), partition, offsets)
}

/// The same of a topic; of none, as 0.1 wrote them.
pub(crate) fn rows_of(topic: Option<&str>, partition: i32, offsets: std::ops::Range<i64>) -> RecordBatch {
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
        Arc::new(offsets.clone().map(|_| topic).collect::<StringArray>()),
        Arc::new(offsets.clone().map(|_| topic.map(|_| 0)).collect::<Int32Array>()),
        Arc::new(Int32Array::from_iter_values(offsets.clone().map(|_| partition))),
        Arc::new(Int64Array::from_iter_values(offsets.clone())),
        Arc::new(offsets.clone().map(|_| topic.map(|_| 0)).collect::<Int32Array>()),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
}

pub(crate) fn sum(first: u64, end: u64) -> RangeSum {
    let mut sum = RangeSum::default();
    (first..end).for_each(|offset| sum.add(offset, Some(format!("value {offset}").as_bytes())));
    sum
}

/// A plan for offsets `first..end` of a partition whose position is `after`.
pub(crate) async fn plan(
    table: &Table,
    partition: u32,
    after: Option<u64>,
    first: u64,
    end: u64,
) -> CommitPlan {
    plan_rows(table, &rows(partition as i32, first as i64..end as i64), partition, after, first, end).await
}

/// The same with these rows.
pub(crate) async fn plan_rows(
    table: &Table,
    rows: &RecordBatch,
    partition: u32,
    after: Option<u64>,
    first: u64,
    end: u64,
) -> CommitPlan {
    let mut writer = table.writer(WriterOptions::default());
    writer.write(rows).await.unwrap();
    let files = writer.finish().await.unwrap();
    let range = CoveredRange {
        place: TopicPartition::new("a.pin", partition),
        generation: Some("g1".into()),
        after,
        sum: sum(first, end),
        clean: end - first,
        quarantined: 0,
        rows: None,
        lost: Vec::new(),
        sequence: None,
    };
    CommitPlan { files, ranges: vec![range], run: Some("test".into()), ..Default::default() }
}

pub(crate) async fn open(lake: &Lake) -> Table {
    Table::open_or_create(lake, "batch/pin", &schema()).await.unwrap()
}

/// How often each (partition, offset) is in the table.
pub(crate) async fn count(table: &Table, lake: &Lake) -> BTreeMap<(i32, i64), u32> {
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

pub(crate) async fn read(table: &Table, lake: &Lake) -> Vec<RecordBatch> {
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

pub(crate) fn once(partition: i32, offsets: std::ops::Range<i64>) -> BTreeMap<(i32, i64), u32> {
    offsets.map(|offset| ((partition, offset), 1)).collect()
}

/// Makes all files look as if they had been written an hour ago.
pub(crate) fn let_an_hour_pass(dir: &tempfile::TempDir) {
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for path in contents_of(dir) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(past).unwrap();
    }
}

pub(crate) fn contents_of(dir: &tempfile::TempDir) -> Vec<String> {
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
