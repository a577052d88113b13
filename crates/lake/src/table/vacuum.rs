//! Taking away the files that no version in use needs.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::TimeDelta;
use deltalake_core::TableProperty;
use deltalake_core::kernel::{Action, MetadataExt};
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::protocol::DeltaOperation;

use super::commit::no_housekeeping;
use super::{CommitPlan, Table};
use crate::Result;

/// A file that no commit names may be one that waits for its commit. Commits are tried again for up to half a minute, and
/// a store may take its time for each attempt; what has waited for longer than this is nobody's any more.
const UNCOMMITTED_RETENTION: Duration = Duration::from_secs(600);

/// What a vacuum took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files, relative to the table.
    pub files: Vec<String>,
}

impl Table {
    /// Deletes the files that no version needs that is younger than `retention`, and those that never became part
    /// of the table and are older than it and than ten minutes. Not shorter than the longest query: what is younger may
    /// be in use. With `dry_run` they are named and stay.
    ///
    /// # Errors
    /// [`crate::Error::Delta`].
    pub async fn vacuum(&mut self, retention: Duration, dry_run: bool) -> Result<Vacuumed> {
        self.refresh().await?;
        if !dry_run {
            self.forbid_others_cleanup().await?;
        }
        let mut files = BTreeSet::new();
        if retention < UNCOMMITTED_RETENTION {
            files.extend(self.vacuum_as(VacuumMode::Lite, retention, dry_run).await?);
        }
        let retention = retention.max(UNCOMMITTED_RETENTION);
        files.extend(self.vacuum_as(VacuumMode::Full, retention, dry_run).await?);
        Ok(Vacuumed { files: files.into_iter().collect() })
    }

    /// One vacuum of Delta's: of the files that commits have removed (`Lite`), or of those that no commit names too.
    async fn vacuum_as(
        &mut self,
        mode: VacuumMode,
        retention: Duration,
        dry_run: bool,
    ) -> Result<Vec<String>> {
        let retention = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
        let vacuum = self.delta.clone().vacuum();
        let vacuum = vacuum
            .with_retention_period(retention)
            .with_mode(mode)
            .with_enforce_retention_duration(false)
            .with_dry_run(dry_run)
            .with_commit_properties(no_housekeeping());
        let (_, metrics) = vacuum.await.map_err(|e| self.delta_error("vacuum", e))?;
        self.refresh().await?;
        Ok(metrics.files_deleted)
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
