//! Tables that are replaced as a whole: answers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::Action;
use deltalake_core::protocol::SaveMode;

use super::commit::{Change, written};
use super::origin::{Origin, is_superseded};
use super::{CommitPlan, Committed, Table, WriterOptions, table_schema};
use crate::{Error, Lake, Result};

/// How often rows are written again because a vacuum may have taken those that were written before.
const ATTEMPTS: u32 = 3;

/// What became of rows that were to replace others.
#[derive(Debug)]
pub enum Overwritten {
    /// They did. The table with them.
    Written(Table),
    /// The table has rows that were computed from something newer, and they stay.
    Newer(Table),
}

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
        match Self::overwrite_from(lake, name, schema, batches, &Origin::default()).await? {
            Overwritten::Written(table) | Overwritten::Newer(table) => Ok(table),
        }
    }

    /// [`Table::overwrite`] with a note of who did it and of what the rows were computed from. Rows that were computed
    /// from a newer version of any of these tables stay (see the module `origin`).
    ///
    /// # Errors
    /// As [`Table::overwrite`].
    pub async fn overwrite_from(
        lake: &Lake,
        name: &str,
        schema: &Schema,
        batches: &[RecordBatch],
        origin: &Origin,
    ) -> Result<Overwritten> {
        let wanted = table_schema(schema).map_err(|reason| super::schema_error(name, reason))?;
        let mut table = match Self::open(lake, name).await? {
            Some(table) => table,
            None => Self::open_or_create(lake, name, &wanted).await?,
        };
        let mut attempt = 1;
        loop {
            let replaced = table.replace_rows(&wanted, batches, origin).await;
            table.read_schema()?;
            match replaced {
                Ok(()) => return Ok(Overwritten::Written(table)),
                Err(Error::Superseded { .. }) => return Ok(Overwritten::Newer(table)),
                Err(Error::Stale { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn replace_rows(
        &mut self,
        wanted: &SchemaRef,
        batches: &[RecordBatch],
        origin: &Origin,
    ) -> Result<()> {
        self.schema = Arc::clone(wanted);
        let mut writer = self.writer(WriterOptions::default());
        for batch in batches {
            writer.write(batch).await?;
        }
        let files = writer.finish().await?;
        let actions = |table: &Self| {
            // Both are asked at each attempt: a rival may have replaced the rows, and the columns, meanwhile.
            table.refuse_superseded(origin)?;
            let mut actions = table.removes(|_| true, true)?;
            if table.current_schema()?.fields() != wanted.fields() {
                actions.push(table.metadata_with(wanted, None)?);
            }
            Ok(actions)
        };
        let plan = CommitPlan { files, run: origin.run.clone(), ..CommitPlan::default() };
        let change = Change { from: origin.from.clone(), ..Change::from(written(SaveMode::Overwrite)) };
        let done = self.commit_actions(&plan, change, actions).await?;
        debug_assert!(
            matches!(done, Committed::Committed { .. }),
            "a plan without ranges is never found committed"
        );
        Ok(())
    }

    fn refuse_superseded(&self, origin: &Origin) -> Result<()> {
        let theirs = self.books.as_ref().map_or(&[][..], |books| &books.from);
        match is_superseded(&origin.from, theirs) {
            true => Err(Error::Superseded { table: self.name.clone() }),
            false => Ok(()),
        }
    }

    /// Notes that the rows of this view are also what is computed from `origin`, so that nothing older replaces them.
    /// Nothing is committed where that is known, or where they were computed from something newer.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the table is not at this view's version any longer; else as [`Table::overwrite`].
    pub async fn confirm(&mut self, origin: &Origin) -> Result<()> {
        let known = &self.books().await?.from;
        if origin.from.is_empty() || *known == origin.from || is_superseded(&origin.from, known) {
            return Ok(());
        }
        let plan =
            CommitPlan { run: origin.run.clone(), at_version: Some(self.version()), ..CommitPlan::default() };
        let change = Change { from: origin.from.clone(), ..Change::from(written(SaveMode::Append)) };
        self.commit_actions(&plan, change, |_| Ok(Vec::new())).await.map(drop)
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
