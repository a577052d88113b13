//! Tables that an engine can be given.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectStore;
use object_store::path::Path;
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

/// A table over Parquet files whose sizes are known.
pub(crate) fn parquet(
    schema: SchemaRef,
    url: &Url,
    files: Vec<ParquetFile>,
) -> Result<Arc<dyn TableProvider>> {
    let failed = |error| Error::query(format!("cannot read Parquet files of {url}"), error);
    let store = ObjectStoreUrl::parse(url.as_str()).map_err(failed)?;
    Ok(Arc::new(ParquetTable { schema, store, files }))
}

/// Parquet files read with only the columns a query needs.
#[derive(Debug)]
pub(crate) struct ParquetTable {
    schema: SchemaRef,
    store: ObjectStoreUrl,
    files: Vec<ParquetFile>,
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let _ = (state, filters);
        let source = Arc::new(ParquetSource::new(Arc::clone(&self.schema)));
        let files = self.files.iter().map(|file| PartitionedFile::new(file.path.to_string(), file.size));
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let statistics = Statistics {
            num_rows: Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX)),
            ..Statistics::new_unknown(&self.schema)
        };
        let config = FileScanConfigBuilder::new(self.store.clone(), source)
            .with_file_group(FileGroup::new(files.collect()))
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
