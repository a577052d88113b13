//! Reading a table back without an engine: small ones as a whole, large ones file by file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;
use serde::Serialize;
use twox_hash::XxHash3_64;

use super::{DataFile, PartitionTotals, Table};
use crate::{Error, RecordId, Result, TopicPartition};

/// The columns that say which record a row was made of.
const PLACE: &[&str] = &["_topic", "_lineage", "_partition", "_offset", "_sub"];

/// Number and hash of rows, whatever their order: two sums are equal where the rows are, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RowsSum {
    /// Number of rows.
    pub rows: u64,
    /// Wrapping sum of each row's xxh3-64.
    #[serde(serialize_with = "crate::sum::hex_u64::serialize")]
    pub hash: u64,
}

/// Rows of one data file, batch by batch.
pub(crate) struct FileBatches {
    path: Path,
    reader: ParquetRecordBatchReader,
}

impl Iterator for FileBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.map_err(|e| Error::corrupt(&self.path, e)))
    }
}

impl Table {
    /// All rows of this view, file by file. They are held in memory: for tables such as answers, not for data.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`] for a file that is no Parquet.
    pub async fn rows(&self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for file in self.files()? {
            for batch in self.batches(&file).await? {
                batches.push(batch?);
            }
        }
        Ok(batches)
    }

    /// Sums up the rows of this view over these columns. One batch is in memory at a time.
    ///
    /// # Errors
    /// [`Error::Schema`] when a column is not in the table; [`Error::Store`], [`Error::Corrupt`].
    pub async fn sum_of(&self, columns: &[&str]) -> Result<RowsSum> {
        let wrong = |reason: String| Error::Schema { table: self.name.clone(), reason };
        let fields = columns.iter().map(|name| {
            let field = self.schema.field_with_name(name).map_err(|e| wrong(e.to_string()))?;
            Ok(SortField::new(field.data_type().clone()))
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let converter = RowConverter::new(fields).map_err(|e| wrong(e.to_string()))?;
        let mut sum = RowsSum::default();
        for file in self.files()? {
            for batch in self.batches_of(&file, Some(columns)).await? {
                add_rows(&mut sum, &converter, &batch?, columns)
                    .map_err(|e| Error::corrupt(&file.path, e))?;
            }
        }
        Ok(sum)
    }

    /// Those of these records that this view has rows of. A row of 0.1 names no topic: where several topics have a record
    /// at its partition and offset, there must be a row for each of them, or it is taken to have none.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::TableLog`], [`Error::Store`], [`Error::Corrupt`].
    pub async fn present(&mut self, ids: &[RecordId]) -> Result<Vec<RecordId>> {
        let offsets = ids.iter().map(|id| id.offset);
        let (Some(lowest), Some(highest)) = (offsets.clone().min(), offsets.max()) else {
            return Ok(Vec::new());
        };
        let wanted: HashSet<(u32, u64)> = ids.iter().map(|id| (id.place.partition, id.offset)).collect();
        let mut named: HashSet<RecordId> = HashSet::new();
        let mut nameless: HashMap<(u32, u64), usize> = HashMap::new();
        for file in self.files_within("_offset", &(lowest..=highest))? {
            for batch in self.batches_of(&file, Some(PLACE)).await? {
                for row in places(&batch?) {
                    let at = (row.partition, row.offset);
                    match row.topic.as_deref().or(self.unnamed_topic()).filter(|_| wanted.contains(&at)) {
                        Some(topic) => {
                            let place = TopicPartition::new(topic, row.partition).in_lineage(row.lineage);
                            named.insert(RecordId { place, offset: row.offset, sub: row.sub });
                        }
                        None => *nameless.entry(at).or_default() += 1,
                    }
                }
            }
        }
        let totals = &self.books().await?.totals;
        let is_present = |id: &&RecordId| {
            if named.contains(id) {
                return true;
            }
            // Of the topics that 0.1 may have loaded, as many rows must be left over.
            let covers = |of: &&PartitionTotals| {
                let (at, wanted) = (&of.place, &id.place);
                at.lineage == 0
                    && at.partition == wanted.partition
                    && (of.sum.first..=of.sum.last).contains(&id.offset)
                    && !named.contains(&RecordId { place: at.clone(), ..(*id).clone() })
            };
            let Some(rows) = nameless.get(&(id.place.partition, id.offset)) else { return false };
            totals.get(&id.place).is_some_and(|own| covers(&own))
                && totals.values().filter(covers).count() <= *rows
        };
        Ok(ids.iter().filter(is_present).cloned().collect())
    }

    /// The rows of one file.
    pub(crate) async fn batches(&self, file: &DataFile) -> Result<FileBatches> {
        self.batches_of(file, None).await
    }

    async fn batches_of(&self, file: &DataFile, columns: Option<&[&str]>) -> Result<FileBatches> {
        let failed = |e| Error::corrupt(&file.path, e);
        let reader = match &file.file {
            Some(local) => {
                let opened = std::fs::File::open(local);
                let opened =
                    opened.map_err(|e| Error::corrupt(&file.path, format!("cannot be read: {e}")))?;
                reader(opened, columns).map_err(failed)?
            }
            None => {
                let got = async { self.lake.store().get(&file.path).await?.bytes().await };
                let bytes: Bytes =
                    got.await.map_err(|e| Error::store("read", self.lake.relative(&file.path), e))?;
                reader(bytes, columns).map_err(failed)?
            }
        };
        Ok(FileBatches { path: file.path.clone(), reader })
    }
}

/// Where a row comes from.
struct Place {
    topic: Option<String>,
    lineage: u32,
    partition: u32,
    offset: u64,
    sub: u32,
}

/// Where each row comes from; one that another program wrote may lack partition and offset, and is left out.
fn places(batch: &RecordBatch) -> Vec<Place> {
    let number = |name| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let offsets = batch.column_by_name("_offset").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let (Some(partitions), Some(offsets)) = (number("_partition"), offsets) else { return Vec::new() };
    let topics = batch.column_by_name("_topic").and_then(|c| c.as_string_opt::<i32>());
    let (lineages, subs) = (number("_lineage"), number("_sub"));
    let get = |column: Option<&Int32Array>, row| {
        let column = column.filter(|column| column.is_valid(row));
        column.map_or(Some(0), |column| u32::try_from(column.value(row)).ok())
    };
    let place = |row: usize| {
        Some(Place {
            topic: topics.filter(|topics| topics.is_valid(row)).map(|topics| topics.value(row).to_owned()),
            lineage: get(lineages, row)?,
            partition: u32::try_from(partitions.is_valid(row).then(|| partitions.value(row))?).ok()?,
            offset: u64::try_from(offsets.is_valid(row).then(|| offsets.value(row))?).ok()?,
            sub: get(subs, row)?,
        })
    };
    (0..batch.num_rows()).filter_map(place).collect()
}

fn reader<T: ChunkReader + 'static>(
    input: T,
    columns: Option<&[&str]>,
) -> parquet::errors::Result<ParquetRecordBatchReader> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(input)?;
    let Some(columns) = columns else { return builder.build() };
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    builder.with_projection(mask).build()
}

fn add_rows(
    sum: &mut RowsSum,
    converter: &RowConverter,
    batch: &RecordBatch,
    columns: &[&str],
) -> Result<(), arrow::error::ArrowError> {
    let schema: SchemaRef = batch.schema();
    let arrays = columns.iter().map(|name| Ok(Arc::clone(batch.column(schema.index_of(name)?))));
    let arrays = arrays.collect::<Result<Vec<_>, arrow::error::ArrowError>>()?;
    let rows = converter.convert_columns(&arrays)?;
    for row in rows.iter() {
        sum.rows += 1;
        sum.hash = sum.hash.wrapping_add(XxHash3_64::oneshot(row.as_ref()));
    }
    Ok(())
}
