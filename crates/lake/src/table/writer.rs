//! Encoding rows into Parquet files of a table. The files are not part of the table until they are committed.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::distinct::without_dictionary;
use super::schema::table_schema;
use super::stats::{Gathered, stats};
use crate::{Error, Result};

/// How data files are made.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// A file is closed when it has about this many encoded bytes. About two files a writer are in memory.
    pub file_bytes: usize,
    /// Rows of a row group: what a reader takes at least, and what is in memory before it is encoded.
    pub row_group_rows: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, row_group_rows: 256 << 10 }
    }
}

/// A data file that is written and waits for its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// Path relative to the table.
    pub(super) path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Delta statistics, JSON.
    pub(super) stats: String,
    /// The version of the table that the writer saw. A vacuum after it may have removed the file.
    pub(super) since: u64,
}

/// The table that files are written for.
pub(super) struct Place {
    /// Its name.
    pub(super) table: String,
    pub(super) root: Path,
    /// Its version.
    pub(super) since: u64,
}

/// Writes rows into new data files of one table. Several can be at work at once.
///
/// Encoding is CPU-bound and happens on the caller's thread; closed files are uploaded in the background.
pub struct TableWriter {
    place: Place,
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    options: WriterOptions,
    open: Option<OpenFile>,
    uploads: JoinSet<Result<WrittenFile>>,
    written: Vec<WrittenFile>,
}

struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    /// Column indices of the batches, in the order of the table.
    batch_schema: SchemaRef,
    gathered: Gathered,
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter")
            .field("table", &self.place.table)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl TableWriter {
    pub(super) fn new(
        place: Place,
        store: Arc<dyn ObjectStore>,
        schema: SchemaRef,
        options: WriterOptions,
    ) -> Self {
        let (uploads, written) = (JoinSet::new(), Vec::new());
        Self { place, store, schema, options, open: None, uploads, written }
    }

    /// Takes rows. Their columns are matched by name; strings may come as any of Arrow's string arrays.
    ///
    /// # Errors
    /// [`Error::Schema`] when the columns are not the table's, [`Error::Encode`], and errors of uploads before.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = self.columns(batch)?;
        let changed = |open: &OpenFile| {
            !columns.iter().zip(open.batch_schema.fields()).all(|(c, f)| c.data_type() == f.data_type())
        };
        if self.open.as_ref().is_some_and(changed) {
            self.close().await?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_file(&columns)?,
        };
        open.gathered.add(&columns);
        let batch = RecordBatch::try_new(Arc::clone(&open.batch_schema), columns)
            .map_err(|e| self.encode(e.into()))?;
        open.writer.write(&batch).map_err(|e| self.encode(e))?;
        let size = open.writer.bytes_written() + open.writer.in_progress_size();
        self.open = Some(open);
        if size >= self.options.file_bytes {
            self.close().await?;
        }
        Ok(())
    }

    /// Closes the last file, waits for all uploads, and hands out the files for a commit.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Store`]. Files already uploaded stay behind unseen, until a vacuum takes them.
    pub async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        self.close().await?;
        while let Some(done) = self.uploads.join_next().await {
            self.written.push(uploaded(done)?);
        }
        // By path, so that a commit does not depend on which upload was quicker.
        self.written.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.written)
    }

    fn encode(&self, source: parquet::errors::ParquetError) -> Error {
        Error::Encode { table: self.place.table.clone(), source }
    }

    /// The batch's columns in the table's order.
    fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let wrong = |reason: String| Error::Schema { table: self.place.table.clone(), reason };
        if batch.num_columns() != self.schema.fields().len() {
            let (given, there) = (batch.num_columns(), self.schema.fields().len());
            return Err(wrong(format!("rows of {given} columns for a table of {there}")));
        }
        let given = table_schema(&batch.schema()).map_err(wrong)?;
        let column = |field: &arrow::datatypes::FieldRef| {
            let index = given
                .index_of(field.name())
                .map_err(|_| wrong(format!("the rows lack column `{}`", field.name())))?;
            let data_type = given.field(index).data_type();
            match data_type == field.data_type() {
                true => Ok(Arc::clone(batch.column(index))),
                false => Err(wrong(format!(
                    "column `{}` is {} in the table and {data_type} in the rows",
                    field.name(),
                    field.data_type()
                ))),
            }
        };
        self.schema.fields().iter().map(column).collect()
    }

    fn open_file(&self, columns: &[ArrayRef]) -> Result<OpenFile> {
        let fields = self.schema.fields().iter().zip(columns);
        let fields: Vec<_> =
            fields.map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone())).collect();
        let batch_schema = Arc::new(Schema::new(fields));
        let plain = without_dictionary(&batch_schema, columns).into_iter();
        let properties = plain
            .fold(WriterProperties::builder(), |builder, path| {
                builder.set_column_dictionary_enabled(path, false)
            })
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(self.options.row_group_rows))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            // List elements are called `element`, as Spark wants.
            .set_coerce_types(true)
            .set_created_by(concat!("pinmill version ", env!("CARGO_PKG_VERSION")).into())
            .build();
        // Without Arrow's own schema: some readers know no string views.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&batch_schema), options);
        Ok(OpenFile {
            writer: writer.map_err(|e| self.encode(e))?,
            batch_schema,
            gathered: Gathered::default(),
        })
    }

    /// Ends the open file and starts its upload.
    async fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let metadata = open.writer.finish().map_err(|e| self.encode(e))?;
        let bytes = Bytes::from(std::mem::take(open.writer.inner_mut()));
        let file = WrittenFile {
            path: format!(
                "part-{:05}-{}-c000.snappy.parquet",
                self.written.len() + self.uploads.len(),
                Uuid::new_v4()
            ),
            size: bytes.len() as u64,
            rows: open.gathered.rows(),
            stats: stats(&self.schema, &open.gathered, &metadata),
            since: self.place.since,
        };
        // One upload at a time: another file is encoded meanwhile, and memory stays bounded.
        while let Some(done) = self.uploads.join_next().await {
            self.written.push(uploaded(done)?);
        }
        fail::fail_point!("lake::table::before_data_file", |_| Err(Error::Task {
            doing: "write a data file",
            reason: "failpoint".into()
        }));
        let (store, path) = (Arc::clone(&self.store), self.place.root.clone().join(file.path.as_str()));
        let shown = format!("{}/{}", self.place.table, file.path);
        self.uploads.spawn(async move {
            store.put(&path, bytes.into()).await.map_err(|e| Error::store("write", shown, e))?;
            Ok(file)
        });
        Ok(())
    }
}

fn uploaded(done: Result<Result<WrittenFile>, tokio::task::JoinError>) -> Result<WrittenFile> {
    done.map_err(|e| Error::task("write a data file", &e))?
}
