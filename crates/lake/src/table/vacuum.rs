//! Taking away the files that no version in use needs.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use deltalake_core::TableProperty;
use deltalake_core::kernel::{Action, MetadataExt};
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::protocol::DeltaOperation;

use super::commit::no_housekeeping;
use super::{CommitPlan, Table};
use crate::Result;

/// What a vacuum took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files, relative to the table.
    pub files: Vec<String>,
}

impl Table {
    /// Deletes the files that no version needs that is younger than `retention`, and those that never became part
    /// of the table and are older than it. Not shorter than the longest run or query: what is younger may be in use.
    /// With `dry_run` they are named and stay.
    ///
    /// # Errors
    /// [`crate::Error::Delta`].
    pub async fn vacuum(&mut self, retention: Duration, dry_run: bool) -> Result<Vacuumed> {
        self.refresh().await?;
        if !dry_run {
            self.forbid_others_cleanup().await?;
        }
        let retention = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
        let vacuum = self.delta.clone().vacuum();
        let vacuum = vacuum
            .with_retention_period(retention)
            .with_mode(VacuumMode::Full)
            .with_enforce_retention_duration(false)
            .with_dry_run(dry_run)
            .with_commit_properties(no_housekeeping());
        let (_, metrics) = vacuum.await.map_err(|e| self.delta_error("vacuum", e))?;
        self.refresh().await?;
        Ok(Vacuumed { files: metrics.files_deleted })
    }

    /// Has the table say that its log is not to be cleaned up by whoever commits. Tables are made so; this is for those
    /// from before that. Delta makes the first of a vacuum's two commits by the table's properties, whatever it was told,
    /// and a clean-up after it could take the last commit that has the totals.
    async fn forbid_others_cleanup(&mut self) -> Result<()> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("read the properties", e))?;
        if state.table_config().enable_expired_log_cleanup == Some(false) {
            return Ok(());
        }
        let property = TableProperty::EnableExpiredLogCleanup;
        let key: &str = property.as_ref();
        let properties = HashMap::from([(key.to_owned(), "false".to_owned())]);
        let actions = |table: &Self| -> Result<Vec<Action>> {
            let state = table.delta.snapshot().map_err(|e| table.delta_error("read the properties", e))?;
            let metadata = state.metadata().clone().add_config_key(key.to_owned(), "false".to_owned());
            let metadata = metadata.map_err(|e| table.delta_error("set a property", e.into()))?;
            Ok(vec![Action::Metadata(metadata)])
        };
        let operation = DeltaOperation::SetTableProperties { properties };
        self.commit_actions(&CommitPlan::default(), operation, actions).await.map(drop)
    }
}
