//! Raw JSON records to Arrow batches.
//!
//! A [`Decoder`] takes the records of one dataset one after the other and hands out a batch of the good ones, with
//! a reason for each of the others. Text is not copied: a string column's views point into the chunk of bytes that
//! the records came in, unless the string has escapes.
//!
//! What a record may be: a JSON object; an array of one object; a JSON string that holds either (double-encoded);
//! base64 of any of them, as a JSON string or bare. A member is looked for where the row before had it, then by name,
//! by alias, and last without regard to case. Where several members name one field, the most preferred name wins and
//! the other is counted as drift; the same name twice is an error, because no one can say which of the two was meant.

mod columns;
mod drift;
mod fast;
mod fields;
mod number;
mod text;
mod value;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use pinmill_pipeline::{Dataset, DriftPolicy};

pub(crate) use self::columns::arrow_type;
use self::columns::{Cell, Column};
use self::drift::DriftCounts;
pub use self::drift::{Drift, DriftKind, OTHER_NAMES};
use self::fields::FieldTable;
use self::text::Text;
use self::value::{Row, UNFILLED};
use crate::error::{Error, Result};

/// Topic, which life of its name, partition, offset, which of several records that were sent as one, and time of arrival:
/// what raw and clean rows carry of where they come from.
pub const POSITION_COLUMNS: [&str; 6] = [TOPIC, LINEAGE, PARTITION, OFFSET, SUB, INGESTED_AT];
pub(crate) const TOPIC: &str = "_topic";
pub(crate) const LINEAGE: &str = "_lineage";
pub(crate) const PARTITION: &str = "_partition";
pub(crate) const OFFSET: &str = "_offset";
pub(crate) const SUB: &str = "_sub";
pub(crate) const INGESTED_AT: &str = "_ingested_at";
/// Name of the column that says which push a row came from.
pub const ROW_COLUMN: &str = "_row";

/// The type of every timestamp: microseconds in UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of `_topic`: a step has few topics, so each row has a number and each name is there once.
pub(crate) fn topic_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Where a record stands in its log; of which topic, [`Decoder::topic`] has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Number of its partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Which of several records that were sent as one; 0 otherwise.
    pub sub: i32,
    /// When it arrived: microseconds since the Unix epoch.
    pub ingested_at_us: i64,
}

/// A record's value.
#[derive(Debug, Clone)]
pub enum RawValue<'a> {
    /// A range of the current chunk (see [`Decoder::chunk`]): its text is not copied.
    Chunk(Range<usize>),
    /// Bytes from elsewhere: its text is copied.
    Bytes(&'a [u8]),
    /// The record has no value.
    Tombstone,
}

/// A record that could not be read, or not be cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Number of the push, from 0 in each batch.
    pub row: u32,
    /// Why, for a person.
    pub reason: String,
}

/// What a [`Decoder`] made of the records pushed since the last [`Decoder::finish`].
#[derive(Debug)]
pub struct Decoded {
    /// The good rows: the dataset's fields, then `_topic` STRING, `_lineage` INT, `_partition` INT, `_offset` BIGINT,
    /// `_sub` INT, `_ingested_at` TIMESTAMP and `_row` (number of the push).
    pub batch: RecordBatch,
    /// The others, ascending by row.
    pub rejected: Vec<Rejected>,
    /// Members that the dataset does not declare as they came.
    pub drift: Vec<Drift>,
}

/// Schema of a dataset's raw rows.
pub fn raw_schema(dataset: &Dataset) -> SchemaRef {
    let fields = dataset.fields.iter().map(|f| Field::new(&f.name, arrow_type(f.data_type), true));
    let position = [
        Field::new(TOPIC, topic_type(), false),
        Field::new(LINEAGE, DataType::Int32, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(SUB, DataType::Int32, false),
        Field::new(INGESTED_AT, timestamp_type(), false),
        Field::new(ROW_COLUMN, DataType::UInt32, false),
    ];
    Arc::new(Schema::new(fields.chain(position).collect::<Vec<_>>()))
}

/// The topics that the rows of a batch are of.
#[derive(Debug)]
struct Sources {
    /// Each name once.
    topics: Vec<String>,
    /// The place in `topics` of the topic that is being read, and the life of its name.
    current: (i32, i32),
    /// Of each row, the place in `topics`.
    keys: Vec<i32>,
    lineages: Vec<i32>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { topics: vec![String::new()], current: (0, 0), keys: Vec::new(), lineages: Vec::new() }
    }
}

impl Sources {
    fn set(&mut self, topic: &str, lineage: i32) {
        let known = self.topics.iter().rposition(|known| known == topic);
        let place = known.unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "no batch has so many"
        )]
        let key = place as i32;
        self.current = (key, lineage);
    }

    fn push(&mut self) {
        self.keys.push(self.current.0);
        self.lineages.push(self.current.1);
    }

    /// The columns of topics and lineages. The topic that is being read stays; the others are forgotten.
    fn finish(&mut self) -> Result<(ArrayRef, ArrayRef)> {
        let names = StringArray::from_iter_values(&self.topics);
        let keys = Int32Array::from(std::mem::take(&mut self.keys));
        let topics = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(names))?;
        let current = usize::try_from(self.current.0).unwrap_or_default();
        self.topics = vec![self.topics.swap_remove(current)];
        self.current.0 = 0;
        Ok((Arc::new(topics), Arc::new(Int32Array::from(std::mem::take(&mut self.lineages)))))
    }
}

/// Decodes the records of one dataset. Plan: one for each reader, fed with chunks of some megabytes, finished after
/// some thousand records.
#[derive(Debug)]
pub struct Decoder {
    dataset: String,
    policy: DriftPolicy,
    schema: SchemaRef,
    fields: FieldTable,
    columns: Vec<Column>,
    /// The row being read.
    cells: Vec<Cell>,
    /// How preferred the name was that filled each of the cells.
    ranks: Vec<u8>,
    source: Sources,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    subs: Vec<i32>,
    times: Vec<i64>,
    rows: Vec<u32>,
    pushed: u32,
    chunk: Bytes,
    text: Text,
    /// Reused for strings with escapes.
    tape: Vec<u8>,
    rejected: Vec<Rejected>,
    drift: DriftCounts,
    stopped: Option<Error>,
    /// True: the quick way is never tried, so that tests can compare the two.
    careful: bool,
}

impl Decoder {
    /// A decoder of a dataset's records.
    pub fn new(dataset: &Dataset) -> Self {
        Self {
            dataset: dataset.name.clone(),
            policy: dataset.unknown_fields,
            schema: raw_schema(dataset),
            fields: FieldTable::new(&dataset.fields),
            columns: dataset.fields.iter().map(|field| Column::new(field.data_type)).collect(),
            cells: vec![Cell::Missing; dataset.fields.len()],
            ranks: vec![UNFILLED; dataset.fields.len()],
            source: Sources::default(),
            partitions: Vec::new(),
            offsets: Vec::new(),
            subs: Vec::new(),
            times: Vec::new(),
            rows: Vec::new(),
            pushed: 0,
            chunk: Bytes::new(),
            text: Text::default(),
            tape: Vec::new(),
            rejected: Vec::new(),
            drift: DriftCounts::default(),
            stopped: None,
            careful: false,
        }
    }

    /// A decoder that never takes the quick way; the other must give the same.
    #[doc(hidden)]
    pub fn careful(dataset: &Dataset) -> Self {
        Self { careful: true, ..Self::new(dataset) }
    }

    /// Schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many records were pushed since the last [`Decoder::finish`].
    pub fn len(&self) -> usize {
        self.pushed as usize
    }

    /// True when no record was pushed since the last [`Decoder::finish`].
    pub fn is_empty(&self) -> bool {
        self.pushed == 0
    }

    /// Bytes that the batch holds on to beyond its columns: text with escapes, text of values given as bytes, and the
    /// chunks. A reader finishes the batch before this grows large.
    pub fn text_bytes(&self) -> usize {
        self.text.bytes()
    }

    /// Sets the chunk that the ranges of the pushes that follow mean. The batch keeps it alive.
    pub fn chunk(&mut self, chunk: Bytes) {
        self.text.set_chunk(&chunk);
        self.chunk = chunk;
    }

    /// Sets the topic that the pushes that follow are of, and which life of its name; before, it is the empty name's first.
    pub fn topic(&mut self, topic: &str, lineage: i32) {
        self.source.set(topic, lineage);
    }

    /// Takes one record.
    pub fn push(&mut self, value: RawValue<'_>, at: Position) {
        let row = self.pushed;
        self.pushed += 1;
        self.cells.fill(Cell::Missing);
        self.ranks.fill(UNFILLED);
        let scratch = self.text.mark();
        let read = match value {
            RawValue::Chunk(range) => self.read_chunk(range),
            RawValue::Bytes(bytes) => self.read(bytes, None),
            RawValue::Tombstone => Err("the record has no value (a tombstone)".to_owned()),
        };
        match read.and_then(|()| self.fields.check_required(&self.cells)) {
            Ok(()) => {
                for (column, cell) in self.columns.iter_mut().zip(&self.cells) {
                    column.push(*cell);
                }
                self.source.push();
                self.partitions.push(at.partition);
                self.offsets.push(at.offset);
                self.subs.push(at.sub);
                self.times.push(at.ingested_at_us);
                self.rows.push(row);
            }
            Err(reason) => {
                self.text.reset(scratch);
                self.rejected.push(Rejected { row, reason });
            }
        }
        if let (DriftPolicy::Stop, Some(field)) = (self.policy, self.drift.take_unknown()) {
            self.stopped.get_or_insert(Error::UnknownField {
                dataset: self.dataset.clone(),
                field,
                partition: at.partition,
                offset: at.offset,
            });
        }
    }

    /// Hands out what was pushed, and begins anew. The current chunk stays.
    ///
    /// # Errors
    /// [`Error::UnknownField`] when the dataset stops at unknown fields and there was one.
    pub fn finish(&mut self) -> Result<Decoded> {
        let buffers = self.text.finish(&self.chunk);
        let mut arrays = Vec::with_capacity(self.columns.len() + POSITION_COLUMNS.len() + 1);
        for column in &mut self.columns {
            arrays.push(column.finish(&buffers));
        }
        let (topics, lineages) = self.source.finish()?;
        let position: [ArrayRef; 7] = [
            topics,
            lineages,
            Arc::new(Int32Array::from(std::mem::take(&mut self.partitions))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.offsets))),
            Arc::new(Int32Array::from(std::mem::take(&mut self.subs))),
            Arc::new(TimestampMicrosecondArray::from(std::mem::take(&mut self.times)).with_timezone("UTC")),
            Arc::new(UInt32Array::from(std::mem::take(&mut self.rows))),
        ];
        arrays.extend(position);
        self.pushed = 0;
        let (rejected, drift) = (std::mem::take(&mut self.rejected), self.drift.finish());
        if let Some(error) = self.stopped.take() {
            return Err(error);
        }
        Ok(Decoded { batch: RecordBatch::try_new(Arc::clone(&self.schema), arrays)?, rejected, drift })
    }

    fn read_chunk(&mut self, range: Range<usize>) -> Result<(), String> {
        // The chunk is put aside while the row is read, so that reading may change the decoder.
        let chunk = std::mem::take(&mut self.chunk);
        let read = match chunk.get(range.clone()) {
            Some(bytes) => self.read(bytes, Some(range.start)),
            None => Err(format!("bytes {range:?} lie outside a chunk of {}", chunk.len())),
        };
        self.chunk = chunk;
        read
    }

    fn read(&mut self, bytes: &[u8], origin: Option<usize>) -> Result<(), String> {
        let mut row = Row {
            fields: &mut self.fields,
            cells: &mut self.cells,
            ranks: &mut self.ranks,
            text: &mut self.text,
            drift: &mut self.drift,
            policy: self.policy,
        };
        match self.careful {
            true => row.read_carefully(bytes, origin, &mut self.tape),
            false => row.read(bytes, origin, &mut self.tape),
        }
    }
}
