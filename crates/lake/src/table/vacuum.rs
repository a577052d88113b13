//! Taking away the files that no version in use needs, and never one that a commit is going to name.
//!
//! A file that no commit names is an orphan, or it waits for its commit. How long it waits nobody can know: a writer may
//! have been stopped for hours. So a vacuum is a commit before it is a deletion, and a commit and a vacuum meet in the
//! table's log, where one of them comes first:
//!
//! 1. The vacuum looks at a version of the table, lists the files, and decides which go.
//! 2. It commits `VACUUM START` with `"vacuum":{"before":…}` in its entry: it takes no orphan that the store says is
//!    younger than that (milliseconds since the Unix epoch, by `Last-Modified`).
//! 3. What commits between 1 and 2 have named stays. The rest is deleted.
//! 4. It commits `VACUUM END`.
//!
//! A commit that lands before 2 is seen in 3. One that comes later sees 2: a data file knows the version that its writer
//! saw ([`super::WrittenFile`]), and if a vacuum came after that version and the file is not younger than its `before`,
//! the commit is refused ([`Error::Stale`]) and the work is done again. The order does not depend on a clock:
//! both sides compare what the store says of the file with one number in the log.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before 2 | nothing happened |
//! | between 2 and 4 | some files are gone, which no version names; the next vacuum takes the others |

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use deltalake_core::TableProperty;
use deltalake_core::kernel::{Action, CommitInfo, MetadataExt, Version};
use deltalake_core::operations::vacuum::{Clock, VacuumMode};
use deltalake_core::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::commit::Change;
use super::{CommitPlan, Committed, Table, WrittenFile};
use crate::{Error, Result};

/// A file that no commit names may be one that waits for its commit. The commit would be refused, and its work done again;
/// so that this is rare, what is younger than this stays. Commits are tried again for up to half a minute.
const UNCOMMITTED_RETENTION: Duration = Duration::from_secs(600);

/// How long Delta keeps replaced files where a table does not say.
const DEFAULT_RETENTION_MS: i64 = 7 * 24 * 3600 * 1000;

/// The time of a vacuum, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
struct Now(i64);

impl Clock for Now {
    fn current_timestamp_millis(&self) -> i64 {
        self.0
    }
}

/// What a vacuum took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files, relative to the table.
    pub files: Vec<String>,
}

/// The vacuums that a view of a table knows of: all since one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vacuums {
    /// Every vacuum after this version is known.
    since: Version,
    latest: Option<Fence>,
}

/// Files written before a vacuum must not be committed after it when they are not younger than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fence {
    /// The version of the latest vacuum.
    version: Version,
    /// The greatest of all bounds, in milliseconds since the Unix epoch.
    before_ms: i64,
}

impl Vacuums {
    pub(super) fn since(version: Version) -> Self {
        Self { since: version, latest: None }
    }

    /// Takes note of a vacuum's first commit.
    pub(super) fn note(&mut self, version: Version, before_ms: i64) {
        self.latest = join(self.latest, Fence { version, before_ms });
    }
}

fn join(latest: Option<Fence>, next: Fence) -> Option<Fence> {
    Some(latest.map_or(next, |latest| Fence {
        version: latest.version.max(next.version),
        before_ms: latest.before_ms.max(next.before_ms),
    }))
}

/// The bound of a vacuum of another program's, by its first commit; `None` for a commit that is none. Such a vacuum gives
/// its retention, and was at work before it gave its time.
pub(super) fn foreign_vacuum(info: &CommitInfo) -> Option<i64> {
    if info.operation.as_deref() != Some("VACUUM START") {
        return None;
    }
    let parameter = |name: &str| {
        let value = info.operation_parameters.as_ref()?.get(name)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    };
    let retention =
        parameter("specifiedRetentionMillis").or_else(|| parameter("defaultRetentionMillis")).unwrap_or(0);
    Some(info.timestamp.map_or(i64::MAX, |at| at.saturating_sub(retention)))
}

impl Table {
    /// Deletes the files that no version needs that is younger than `retention`, and those that never became part
    /// of the table and are older than it and than ten minutes. Not shorter than the longest query: what is younger may
    /// be in use. With `dry_run` they are named and stay.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Store`], [`Error::Contention`].
    pub async fn vacuum(&mut self, retention: Duration, dry_run: bool) -> Result<Vacuumed> {
        self.refresh().await?;
        if !dry_run {
            self.forbid_others_cleanup().await?;
        }
        let seen = self.version();
        // Read once, for the list and for the bound: however the clock goes, nothing on the list is younger than the bound.
        let now = Now(chrono::Utc::now().timestamp_millis());
        let mut files = BTreeSet::new();
        if retention < UNCOMMITTED_RETENTION {
            files.extend(self.removable(VacuumMode::Lite, retention, now).await?);
        }
        let of_orphans = retention.max(UNCOMMITTED_RETENTION);
        files.extend(self.removable(VacuumMode::Full, of_orphans, now).await?);
        if dry_run || files.is_empty() {
            return Ok(Vacuumed { files: files.into_iter().collect() });
        }
        let age = i64::try_from(of_orphans.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now.0.saturating_sub(age);
        let started = self.start_vacuum(retention, before_ms).await?;
        let Some(named) = self.named_between(seen, started).await? else {
            tracing::warn!(
                table = self.name,
                "commits came and went while files were listed; nothing was removed"
            );
            return Ok(Vacuumed { files: Vec::new() });
        };
        files.retain(|file| !named.contains(file));
        let files = self.delete(files).await?;
        let end = DeltaOperation::VacuumEnd { status: "COMPLETED".to_owned() };
        self.commit_actions(&CommitPlan::default(), end, |_| Ok(Vec::new())).await?;
        Ok(Vacuumed { files })
    }

    /// What one vacuum of Delta's would take: the files that commits have removed (`Lite`), or also those that no commit
    /// names.
    async fn removable(&self, mode: VacuumMode, retention: Duration, now: Now) -> Result<Vec<String>> {
        let retention = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
        let vacuum = self.delta.clone().vacuum().with_retention_period(retention).with_mode(mode);
        let vacuum = vacuum.with_enforce_retention_duration(false).with_dry_run(true);
        let vacuum = vacuum.with_clock(Arc::new(now));
        let (_, metrics) = vacuum.await.map_err(|e| self.delta_error("vacuum", e))?;
        Ok(metrics.files_deleted)
    }

    /// The commit that makes others look whether their files are still there. Gives its version.
    async fn start_vacuum(&mut self, retention: Duration, before_ms: i64) -> Result<Version> {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let state = self.delta.snapshot().map_err(|e| self.delta_error("read the properties", e))?;
        let operation = DeltaOperation::VacuumStart {
            retention_check_enabled: false,
            specified_retention_millis: Some(millis(retention)),
            default_retention_millis: state
                .table_config()
                .deleted_file_retention_duration
                .map_or(DEFAULT_RETENTION_MS, millis),
        };
        let change = Change { vacuum_before_ms: Some(before_ms), ..Change::from(operation) };
        match self.commit_actions(&CommitPlan::default(), change, |_| Ok(Vec::new())).await? {
            Committed::Committed { version, .. } => Ok(version),
            Committed::AlreadyCommitted => {
                Err(self.log_error("a vacuum was taken for another one".to_owned()))
            }
        }
    }

    /// The files that commits after one version and before another name; `None` when one of them is gone.
    async fn named_between(&self, seen: Version, started: Version) -> Result<Option<BTreeSet<String>>> {
        let mut named = BTreeSet::new();
        for version in seen + 1..started {
            let Some(actions) = self.actions(version).await? else { return Ok(None) };
            named.extend(actions.into_iter().filter_map(|action| match action {
                Action::Add(add) => Some(decoded(&add.path)),
                Action::Remove(remove) => Some(decoded(&remove.path)),
                _ => None,
            }));
        }
        Ok(Some(named))
    }

    async fn delete(&self, files: BTreeSet<String>) -> Result<Vec<String>> {
        let failed = |e| Error::store("delete files of", &self.name, e);
        let paths = files.iter().map(|file| Path::parse(file).map_err(object_store::Error::from));
        let paths = futures::stream::iter(paths.collect::<Vec<_>>()).boxed();
        let mut deleting = self.delta.log_store().object_store(None).delete_stream(paths);
        loop {
            match deleting.try_next().await {
                Ok(Some(_)) | Err(object_store::Error::NotFound { .. }) => {}
                Ok(None) => return Ok(files.into_iter().collect()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Refuses files that a vacuum may have removed since they were written.
    pub(super) async fn refuse_stale(&self, files: &[WrittenFile]) -> Result<()> {
        let Some(since) = files.iter().map(|file| file.since).min() else { return Ok(()) };
        let Some(fence) = self.fence_after(since).await? else { return Ok(()) };
        for file in files {
            let path = self.root.clone().join(file.path.as_str());
            let is_young = match self.lake.store().head(&path).await {
                Ok(meta) => meta.last_modified.timestamp_millis() > fence.before_ms,
                Err(object_store::Error::NotFound { .. }) => false,
                Err(error) => return Err(Error::store("look at", self.lake.relative(&path), error)),
            };
            if !is_young {
                let (table, file, version) = (self.name.clone(), file.path.clone(), fence.version);
                return Err(Error::Stale { table, file, version });
            }
        }
        Ok(())
    }

    /// The vacuums after a version, as one.
    async fn fence_after(&self, since: Version) -> Result<Option<Fence>> {
        let mut fence = self.vacuums.latest.filter(|fence| fence.version > since);
        // Before this view was opened.
        for version in since + 1..=self.vacuums.since {
            let before_ms = match self.actions(version).await? {
                Some(actions) => self.vacuum_in(version, &actions)?,
                None => Some(i64::MAX),
            };
            fence = before_ms.map_or(fence, |before_ms| join(fence, Fence { version, before_ms }));
        }
        Ok(fence)
    }

    /// The bound of a vacuum that began with this commit.
    pub(super) fn vacuum_in(&self, version: Version, actions: &[Action]) -> Result<Option<i64>> {
        if let Some(entry) = self.entry_in(version, actions)? {
            return Ok(entry.vacuum.map(|vacuum| vacuum.before));
        }
        Ok(actions.iter().find_map(|action| match action {
            Action::CommitInfo(info) => foreign_vacuum(info),
            _ => None,
        }))
    }

    /// Has the table say that its log is not to be cleaned up by whoever commits. Tables are made so; this is for those
    /// from before that. A clean-up by another writer could take the last commit that has the totals.
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

/// A path of the log, where it is percent-encoded, as the store has it.
fn decoded(path: &str) -> String {
    Path::from_url_path(path).map_or_else(|_| path.to_owned(), |path| path.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn info(operation: &str, parameters: &[(&str, Value)]) -> CommitInfo {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        CommitInfo {
            timestamp: Some(10_000),
            operation: Some(operation.to_owned()),
            operation_parameters: Some(parameters.collect()),
            ..CommitInfo::default()
        }
    }

    #[test]
    fn a_vacuum_of_another_program_is_known_by_its_first_commit() {
        let specified = ("specifiedRetentionMillis", Value::from("3000"));
        let default = ("defaultRetentionMillis", Value::from(4000));
        assert_eq!(foreign_vacuum(&info("VACUUM START", &[specified, default.clone()])), Some(7000));
        assert_eq!(foreign_vacuum(&info("VACUUM START", &[default])), Some(6000));
        assert_eq!(foreign_vacuum(&info("VACUUM START", &[])), Some(10_000));
        assert_eq!(foreign_vacuum(&info("VACUUM END", &[])), None);
        let without_time = CommitInfo { timestamp: None, ..info("VACUUM START", &[]) };
        assert_eq!(foreign_vacuum(&without_time), Some(i64::MAX));
    }

    #[test]
    fn of_several_vacuums_the_latest_version_and_the_greatest_bound_count() {
        let mut vacuums = Vacuums::since(3);
        vacuums.note(5, 900);
        vacuums.note(7, 100);
        assert_eq!(vacuums.latest, Some(Fence { version: 7, before_ms: 900 }));
    }
}
