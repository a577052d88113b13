//! Tables that an engine can be given.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::physical_plan::ExecutionPlan;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use url::Url;

use crate::error::{Error, Result};

/// A named table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name in SQL.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub rows: Rows,
}

/// Where a table's rows are.
#[derive(Debug, Clone)]
pub enum Rows {
    /// In memory, in batches of the table's schema.
    Memory(Vec<RecordBatch>),
    /// In Parquet files of one object store.
    Parquet {
        /// Scheme and host, such as `file:///` or `s3://bucket`. Stores are told apart by it.
        url: Url,
        /// The store.
        store: Arc<dyn ObjectStore>,
        /// The files, none twice.
        files: Vec<ParquetFile>,
    },
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetFile {
    /// Its path in the store.
    pub path: Path,
    /// Its size in bytes.
    pub size: u64,
    /// How many rows it has.
    pub rows: u64,
}

/// A registered table, by where its rows are.
#[derive(Debug)]
pub(crate) enum Source {
    Memory(MemoryTable),
    Parquet(ParquetTable),
}

/// Batches of one schema.
#[derive(Debug)]
pub(crate) struct MemoryTable {
    schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

/// Parquet files read with only the columns a query needs.
#[derive(Debug)]
pub(crate) struct ParquetTable {
    schema: SchemaRef,
    store: ObjectStoreUrl,
    pub(crate) files: Vec<ParquetFile>,
}

/// A plan with one output partition for each file or batch of a table.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) count: usize,
}

impl Source {
    /// Takes a table; its object store must be registered already.
    pub(crate) fn new(schema: SchemaRef, rows: Rows) -> Result<Self> {
        match rows {
            Rows::Memory(batches) => {
                if let Some(batch) =
                    batches.iter().find(|batch| batch.schema_ref().fields() != schema.fields())
                {
                    let found = batch.schema_ref();
                    return Err(Error::Shape(format!(
                        "a batch of schema {found} cannot be in a table of {schema}"
                    )));
                }
                Ok(Self::Memory(MemoryTable { schema, batches }))
            }
            Rows::Parquet { url, files, .. } => {
                let failed = |error| Error::query(format!("cannot read Parquet files of {url}"), error);
                let store = ObjectStoreUrl::parse(url.as_str()).map_err(failed)?;
                Ok(Self::Parquet(ParquetTable { schema, store, files }))
            }
        }
    }

    /// Each file's or batch's rows in order, by itself.
    pub(crate) fn parts(&self, columns: &[usize]) -> DfResult<Parts> {
        match self {
            Self::Memory(table) => {
                let partitions: Vec<Vec<RecordBatch>> =
                    table.batches.iter().map(|b| vec![b.clone()]).collect();
                let schema = Arc::clone(&table.schema);
                let plan = MemorySourceConfig::try_new_exec(&partitions, schema, Some(columns.to_vec()))?;
                Ok(Parts { plan, count: partitions.len() })
            }
            Self::Parquet(table) => {
                let groups: Vec<_> = table.files.iter().map(|file| vec![file.partitioned()]).collect();
                let count = groups.len();
                Ok(Parts { plan: table.scan_files(groups, columns, Sharing::Never)?, count })
            }
        }
    }
}

impl ParquetFile {
    fn partitioned(&self) -> PartitionedFile {
        // Not made from the path's text, which would be escaped once more: `ü` would become `%C3%BC`.
        PartitionedFile::new_from_meta(ObjectMeta {
            location: self.path.clone(),
            last_modified: DateTime::<Utc>::UNIX_EPOCH,
            size: self.size,
            e_tag: None,
            version: None,
        })
    }

    /// Only the rows whose bits are set.
    pub(crate) fn partitioned_of_rows(&self, rows: BooleanBuffer) -> PartitionedFile {
        let selection = ParquetRowSelection::new(RowSelection::from_boolean_buffer(rows));
        self.partitioned().with_extension(selection)
    }
}

/// Whether an idle output partition may take over files of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It may: quickest, for plans that do not care which partition gives a row.
    WhereIdle,
    /// It may not: partition n gives the rows of group n, all of them and in order.
    Never,
}

impl ParquetTable {
    /// Reads columns of files, one output partition for each group of them.
    pub(crate) fn scan_files(
        &self,
        groups: Vec<Vec<PartitionedFile>>,
        columns: &[usize],
        sharing: Sharing,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let source = Arc::new(ParquetSource::new(Arc::clone(&self.schema)));
        let config = FileScanConfigBuilder::new(self.store.clone(), source)
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(Some(columns.to_vec()))?
            .with_preserve_order(sharing == Sharing::Never)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl TableProvider for Source {
    fn schema(&self) -> SchemaRef {
        match self {
            Self::Memory(table) => Arc::clone(&table.schema),
            Self::Parquet(table) => Arc::clone(&table.schema),
        }
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema().fields().len()).collect());
        match self {
            Self::Memory(table) => {
                let schema = Arc::clone(&table.schema);
                Ok(MemorySourceConfig::try_new_exec(
                    std::slice::from_ref(&table.batches),
                    schema,
                    Some(columns),
                )?)
            }
            Self::Parquet(table) => {
                let files = table.files.iter().map(ParquetFile::partitioned).collect();
                table.scan_files(vec![files], &columns, Sharing::WhereIdle)
            }
        }
    }
}
