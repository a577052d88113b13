//! Reading a small table back as a whole.

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Table;
use crate::{Error, Result};

impl Table {
    /// All rows of this view, file by file. They are held in memory: for tables such as answers, not for data.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`] for a file that is no Parquet.
    pub async fn rows(&self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for file in self.files()? {
            let got = async { self.lake.store().get(&file.path).await?.bytes().await };
            let bytes = got.await.map_err(|e| Error::store("read", &file.path, e))?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
                .and_then(ParquetRecordBatchReaderBuilder::build);
            for batch in reader.map_err(|e| Error::corrupt(&file.path, e))? {
                batches.push(batch.map_err(|e| Error::corrupt(&file.path, e))?);
            }
        }
        Ok(batches)
    }
}
