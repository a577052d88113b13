//! Tables that are replaced as a whole: answers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::Action;
use deltalake_core::protocol::SaveMode;

use super::commit::written;
use super::{CommitPlan, Committed, Table, WriterOptions, table_schema};
use crate::{Error, Lake, Result};

/// How often rows are written again because a vacuum may have taken those that were written before.
const ATTEMPTS: u32 = 3;

impl Table {
    /// Replaces all rows in one commit, the schema too where it differs; readers see the old rows or the new ones.
    /// The table is made when there is none. The files of the old rows stay until a vacuum.
    ///
    /// # Errors
    /// [`crate::Error::Schema`] for columns that a table cannot have; [`crate::Error::Delta`], [`crate::Error::Store`],
    /// [`crate::Error::Contention`].
    pub async fn overwrite(
        lake: &Lake,
        name: &str,
        schema: &Schema,
        batches: &[RecordBatch],
    ) -> Result<Self> {
        Self::overwrite_by(lake, name, schema, batches, None).await
    }

    /// [`Table::overwrite`] with the name of the run that did it, for people who read the history.
    ///
    /// # Errors
    /// As [`Table::overwrite`].
    pub async fn overwrite_by(
        lake: &Lake,
        name: &str,
        schema: &Schema,
        batches: &[RecordBatch],
        run: Option<String>,
    ) -> Result<Self> {
        let wanted = table_schema(schema).map_err(|reason| super::schema_error(name, reason))?;
        let mut table = match Self::open(lake, name).await? {
            Some(table) => table,
            None => Self::open_or_create(lake, name, &wanted).await?,
        };
        let mut attempt = 1;
        loop {
            match table.replace_rows(&wanted, batches, run.clone()).await {
                Ok(()) => break,
                Err(Error::Stale { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
        table.read_schema()?;
        Ok(table)
    }

    async fn replace_rows(
        &mut self,
        wanted: &SchemaRef,
        batches: &[RecordBatch],
        run: Option<String>,
    ) -> Result<()> {
        self.schema = Arc::clone(wanted);
        let mut writer = self.writer(WriterOptions::default());
        for batch in batches {
            writer.write(batch).await?;
        }
        let files = writer.finish().await?;
        let actions = |table: &Self| {
            let mut actions = table.removes(|_| true, true)?;
            // Asked at each attempt: a rival may have replaced the table by another one meanwhile.
            if table.current_schema()?.fields() != wanted.fields() {
                actions.push(table.metadata_with(wanted, None)?);
            }
            Ok(actions)
        };
        let plan = CommitPlan { files, run, ..CommitPlan::default() };
        let done = self.commit_actions(&plan, written(SaveMode::Overwrite), actions).await?;
        debug_assert!(
            matches!(done, Committed::Committed { .. }),
            "a plan without ranges is never found committed"
        );
        Ok(())
    }

    /// The table's metadata with another schema, and one more property.
    pub(super) fn metadata_with(&self, schema: &Schema, property: Option<(&str, &str)>) -> Result<Action> {
        use deltalake_core::kernel::{MetadataExt, StructType};
        let columns = super::schema::to_delta(schema).map_err(|e| super::schema_error(&self.name, e))?;
        let columns =
            StructType::try_new(columns).map_err(|e| super::schema_error(&self.name, e.to_string()))?;
        let state = self.delta.snapshot().map_err(|e| self.delta_error("read the schema", e))?;
        let metadata = state.metadata().clone().with_schema(&columns);
        let metadata = match property {
            None => metadata,
            Some((key, value)) => {
                metadata.and_then(|metadata| metadata.add_config_key(key.to_owned(), value.to_owned()))
            }
        };
        metadata.map(Action::Metadata).map_err(|e| self.delta_error("change the schema", e.into()))
    }
}
