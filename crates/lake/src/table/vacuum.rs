//! Taking away the files that no version in use needs.

use std::time::Duration;

use chrono::TimeDelta;
use deltalake_core::operations::vacuum::VacuumMode;

use super::Table;
use super::commit::no_housekeeping;
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
}
