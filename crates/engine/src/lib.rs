//! SQL: raw JSON to Arrow, Arrow to clean rows, clean rows to answers.
//!
//! An [`Engine`] runs a pipeline's SQL, which is Spark SQL, over tables it is given. [`EmbeddedEngine`] is
//! DataFusion in this process. A [`Decoder`] turns raw records into Arrow, a [`Cleaner`] turns those into clean rows.

mod answers;
mod clean;
mod current;
mod decode;
mod diagnose;
mod embedded;
mod error;
mod functions;
mod limits;
mod rewrite;
mod session;
mod steps;
mod table;
mod testing;
mod validate;

use std::fmt::Debug;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use pinmill_pipeline::{Answer, Dataset, Pipeline, Problems};

pub use self::current::FIRST_DIRECTORY;
pub use self::decode::{
    Decoded, Decoder, Drift, DriftKind, OTHER_NAMES, POSITION_COLUMNS, Position, ROW_COLUMN, RawValue,
    Rejected, raw_schema, timestamp_type,
};
pub use self::embedded::{EmbeddedEngine, EngineConfig};
pub use self::error::{Error, Result};
pub use self::table::{ParquetFile, Rows, Table};
pub use self::testing::{CaseResult, TestReport, run_tests};

/// What a [`Cleaner`] made of a batch of raw rows.
#[derive(Debug)]
pub struct Cleaned {
    /// The clean rows, in the order of the raw ones: the columns of the clean SELECT without those that begin with
    /// `_`, then `_topic` STRING, `_lineage` INT, `_partition` INT, `_offset` BIGINT, `_sub` INT, `_ingested_at` TIMESTAMP.
    pub rows: RecordBatch,
    /// Rows that could not be cleaned or violate an expectation, ascending by the number of their push.
    pub rejected: Vec<Rejected>,
    /// Expectations with `action = "warn"` that were violated, and by how many rows.
    pub warned: Vec<(String, u64)>,
}

/// A dataset's cleaning, planned once and run over many batches.
pub trait Cleaner: Send + Sync + Debug {
    /// Cleans a batch that a [`Decoder`] of the same dataset made. A raw row gives one clean row or is rejected.
    ///
    /// # Errors
    /// [`Error::Stopped`] where an expectation says so, [`Error::Shape`] for a batch of another shape,
    /// [`Error::TooLarge`] for one to be cleaned in parts. A row that fails, or panics, is not an error: it is rejected
    /// with the reason.
    fn clean(&mut self, raw: &RecordBatch) -> Result<Cleaned>;

    /// Schema of the clean rows.
    fn schema(&self) -> SchemaRef;
}

/// Cleans a batch in as many parts, from its first row to its last, as keep the clean rows of each within bounds: one
/// where the SQL does not make rows much larger than they come.
///
/// # Errors
/// As [`Cleaner::clean`], without [`Error::TooLarge`].
pub fn clean_parts<'a>(
    cleaner: &'a mut dyn Cleaner,
    raw: &RecordBatch,
) -> impl Iterator<Item = Result<Cleaned>> + 'a {
    let mut todo = vec![raw.clone()];
    std::iter::from_fn(move || {
        loop {
            let part = todo.pop()?;
            let rows = part.num_rows();
            match cleaner.clean(&part) {
                Err(Error::TooLarge { .. }) if rows > 1 => {
                    todo.push(part.slice(rows / 2, rows - rows / 2));
                    todo.push(part.slice(0, rows / 2));
                }
                cleaned => return Some(cleaned),
            }
        }
    })
}

/// What runs a pipeline's SQL.
#[async_trait]
pub trait Engine: Send + Sync + Debug {
    /// Plans a dataset's cleaning.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem of the dataset's SQL and expectations.
    async fn cleaner(&self, dataset: &Dataset) -> Result<Box<dyn Cleaner>>;

    /// Plans everything of a pipeline against its declared types, without data, and names all that is wrong.
    async fn validate(&self, pipeline: &Pipeline) -> Problems;

    /// Registers a table under its name, in place of one of the same name.
    ///
    /// # Errors
    /// [`Error::Query`] when the engine cannot take it.
    async fn register(&self, table: Table) -> Result<()>;

    /// Registers a dataset's clean records as `<dataset>_all`, and the newest record of each key as `<dataset>`:
    /// of those of one topic's partition the one with the greatest lineage, offset and sub; of these the one with the
    /// latest `_ingested_at`; of equals the one with the greater topic, then partition. Records without a key belong to
    /// no view. Lineages from [`FIRST_DIRECTORY`] on rank alike, in a partition of their own.
    ///
    /// `_topic`, `_lineage` and `_sub` may be NULL, or not be there at all: a row without `_topic` is of the topic
    /// `unnamed`, of which there is one; without the others it has 0.
    ///
    /// # Errors
    /// [`Error::Query`] when the engine cannot take it.
    async fn register_dataset(
        &self,
        dataset: &Dataset,
        schema: SchemaRef,
        rows: Rows,
        unnamed: Option<&str>,
    ) -> Result<()>;

    /// Runs a query over what is registered.
    ///
    /// # Errors
    /// [`Error::Query`] when it cannot be planned; the stream ends with one when it fails later.
    async fn query(&self, sql: &str) -> Result<QueryResult>;

    /// Runs an answer's query over what is registered. The columns have types that a table can have.
    ///
    /// # Errors
    /// [`Error::Query`], naming the answer; [`Error::Shape`] for a column that no table can have.
    async fn answer(&self, answer: &Answer) -> Result<RecordBatch>;

    /// Makes the current views ready that these answers read, once for all of them. Only what fits the engine's
    /// memory is kept; answers are the same without this call.
    ///
    /// # Errors
    /// [`Error::Query`] when a view cannot be read.
    async fn prepare(&self, answers: &[&Answer]) -> Result<()>;
}

/// A running query.
pub struct QueryResult {
    /// Schema of the batches.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

impl Debug for QueryResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryResult").field("schema", &self.schema).finish_non_exhaustive()
    }
}
