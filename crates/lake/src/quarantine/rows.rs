//! Quarantined records as rows, and back. Pure.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::QuarantinedRecord;
use crate::table::timestamp;
use crate::{RecordId, TopicPartition};

pub(super) fn schema() -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Schema::new(vec![
        text("dataset"),
        text("reason"),
        text("topic"),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("ingested_at", timestamp(), true),
        Field::new("raw", DataType::Binary, true),
        text("run"),
        Field::new("quarantined_at", timestamp(), true),
        Field::new("lineage", DataType::Int32, true),
        Field::new("sub", DataType::Int32, true),
    ])
}

pub(super) fn encode(records: &[&QuarantinedRecord]) -> Result<RecordBatch, String> {
    let text = |of: fn(&QuarantinedRecord) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(records.iter().map(|record| of(record))))
    };
    let time = |of: fn(&QuarantinedRecord) -> i64| -> ArrayRef {
        let times = TimestampMicrosecondArray::from_iter_values(records.iter().map(|record| of(record)));
        Arc::new(times.with_timezone("UTC"))
    };
    let int = |of: fn(&RecordId) -> u32| -> Result<ArrayRef, String> {
        let numbers: Result<Vec<i32>, _> =
            records.iter().map(|record| i32::try_from(of(&record.id))).collect();
        Ok(Arc::new(Int32Array::from(numbers.map_err(|e| e.to_string())?)))
    };
    let offsets: Vec<i64> = records
        .iter()
        .map(|r| i64::try_from(r.id.offset))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let raw: BinaryArray = records.iter().map(|record| record.raw.as_deref()).collect();
    let columns = vec![
        text(|record| &record.dataset),
        text(|record| &record.reason),
        text(|record| &record.id.place.topic),
        int(|id| id.place.partition)?,
        Arc::new(Int64Array::from(offsets)),
        time(|record| record.ingested_at_us),
        Arc::new(raw),
        text(|record| &record.run),
        time(|record| record.quarantined_at_us),
        int(|id| id.place.lineage)?,
        int(|id| id.sub)?,
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).map_err(|e| e.to_string())
}

pub(super) fn decode(file: Bytes) -> Result<Vec<RecordBatch>, String> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
    reader.map_err(|e| e.to_string())?.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

pub(super) fn ids(batch: &RecordBatch) -> Result<Vec<RecordId>, String> {
    let (topics, partitions) = (texts(batch, "topic")?, column(batch, "partition")?);
    let partitions = partitions.as_primitive_opt::<Int32Type>().ok_or("column `partition` is not INT")?;
    let offsets = column(batch, "offset")?;
    let offsets = offsets.as_primitive_opt::<Int64Type>().ok_or("column `offset` is not BIGINT")?;
    let (lineages, subs) = (added(batch, "lineage")?, added(batch, "sub")?);
    let number = |number: i32| u32::try_from(number).map_err(|e| e.to_string());
    let or_zero = |column: Option<&Int32Array>, row| {
        column.filter(|column| column.is_valid(row)).map_or(0, |column| column.value(row))
    };
    (0..batch.num_rows())
        .map(|row| {
            let topic = topics.value(row).to_owned();
            let lineage = number(or_zero(lineages, row))?;
            let place = TopicPartition { topic, lineage, partition: number(partitions.value(row))? };
            let offset = u64::try_from(offsets.value(row)).map_err(|e| e.to_string())?;
            Ok(RecordId { place, offset, sub: number(or_zero(subs, row))? })
        })
        .collect()
}

/// A column that files of 0.1 do not have.
fn added<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a Int32Array>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    column.as_primitive_opt::<Int32Type>().map(Some).ok_or_else(|| format!("column `{name}` is not INT"))
}

pub(super) fn records(batch: &RecordBatch) -> Result<Vec<QuarantinedRecord>, String> {
    let (datasets, reasons, runs) = (texts(batch, "dataset")?, texts(batch, "reason")?, texts(batch, "run")?);
    let times = |name: &str| {
        let times = column(batch, name)?.as_primitive_opt::<TimestampMicrosecondType>();
        times.ok_or_else(|| format!("column `{name}` is not TIMESTAMP"))
    };
    let (ingested, quarantined) = (times("ingested_at")?, times("quarantined_at")?);
    let raw = column(batch, "raw")?.as_binary_opt::<i32>().ok_or("column `raw` is not BINARY")?;
    let record = |(row, id): (usize, RecordId)| QuarantinedRecord {
        dataset: datasets.value(row).to_owned(),
        reason: reasons.value(row).to_owned(),
        id,
        ingested_at_us: ingested.value(row),
        raw: raw.is_valid(row).then(|| Bytes::copy_from_slice(raw.value(row))),
        run: runs.value(row).to_owned(),
        quarantined_at_us: quarantined.value(row),
    };
    Ok(ids(batch)?.into_iter().enumerate().map(record).collect())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, String> {
    column(batch, name)?.as_string_opt::<i32>().ok_or_else(|| format!("column `{name}` is not STRING"))
}
