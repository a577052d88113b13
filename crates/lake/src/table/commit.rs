//! Committing: the guard around Delta's own commit.

use std::collections::HashMap;
use std::time::Duration;

use deltalake_core::DeltaTableError;
use deltalake_core::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::kernel::transaction::{
    CommitBuilder, CommitProperties, TableReference, TransactionError,
};
use deltalake_core::kernel::{Action, Add, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use uuid::Uuid;

use super::ledger::{self, Moment};
use super::origin::TableVersion;
use super::plan::{CommitPlan, Conflict, ConflictReason, CoveredRange, Decision, check, decide};
use super::{Table, WrittenFile, sequence, whole};
use crate::{Error, RecordId, Result, words};

/// How often a commit is tried against others before it gives up.
const ATTEMPTS: u32 = 12;
/// How long Delta keeps commits where a table does not say.
const DEFAULT_HISTORY_MS: i64 = 30 * 24 * 3600 * 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is in the table by this call.
    Committed {
        /// As which version.
        version: u64,
        /// How many attempts it took.
        attempts: u32,
    },
    /// The very same ranges were in the table already. The plan's files are not part of it, the rows are.
    AlreadyCommitted,
}

impl Table {
    /// Commits files and the positions they move, exactly once.
    ///
    /// Safe to call again after any error with a plan of the same ranges, also from another process.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another writer moved a position: stop. [`Error::Stale`] when a vacuum may have removed the
    /// files: do the work again. [`Error::Generation`] when a topic was made
    /// anew. [`Error::Contention`] after many attempts; it may even then have landed, which the next call finds
    /// out. [`Error::TableLog`] for a plan that does not add up. [`Error::Delta`].
    pub async fn commit(&mut self, plan: &CommitPlan) -> Result<Committed> {
        check(plan).map_err(|reason| self.log_error(format!("refused a commit: {reason}")))?;
        self.commit_actions(plan, written(SaveMode::Append), |_| Ok(Vec::new())).await
    }

    /// Notes that these records, which replays took, are gone from the quarantine. Nothing is committed where it is known.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub async fn settle(&mut self, records: Vec<RecordId>) -> Result<()> {
        if records.is_empty() || self.replayed().await?.is_empty() {
            return Ok(());
        }
        let plan = CommitPlan { settled: records, ..CommitPlan::default() };
        self.commit_actions(&plan, written(SaveMode::Append), |_| Ok(Vec::new())).await.map(drop)
    }

    /// The loop: look, decide, try; after an error look again. `actions` makes the actions for the version at hand that
    /// come beside the plan's files and positions.
    pub(crate) async fn commit_actions(
        &mut self,
        plan: &CommitPlan,
        change: impl Into<Change>,
        actions: impl Fn(&Self) -> Result<Vec<Action>>,
    ) -> Result<Committed> {
        let change = change.into();
        let commit = Uuid::new_v4().to_string();
        let mut last = String::new();
        // The version at hand at the first attempt: if one of ours landed, then after it.
        let mut base = self.version();
        for attempt in 1..=ATTEMPTS {
            if attempt > 1 {
                tokio::time::sleep(pause(attempt, rand::random())).await;
            }
            if let Err(error) = self.refresh().await {
                if attempt == 1 {
                    return Err(error);
                }
                // The outcome of the attempt before is unknown as yet: look again.
                last = error_chain(&error);
                continue;
            }
            if attempt > 1
                && let Some(version) = self.landed(&commit, base).await?
            {
                return Ok(Committed::Committed { version, attempts: attempt - 1 });
            }
            if attempt == 1 {
                base = self.version();
            }
            if let Some(expected) = plan.at_version.filter(|&expected| expected != self.version()) {
                let reason = format!("it was to be at version {expected} and is at {}", self.version());
                return Err(Error::fenced(&self.name, reason));
            }
            match self.decide(plan).await? {
                Decision::Commit => {}
                Decision::AlreadyCommitted => return Ok(Committed::AlreadyCommitted),
                Decision::Conflict(conflict) => return Err(self.conflict(conflict)),
            }
            self.refuse_stale(&plan.files).await?;
            match self.attempt(plan, &change, &commit, actions(self)?).await {
                Ok(version) => return Ok(Committed::Committed { version, attempts: attempt }),
                Err(error) => {
                    last = words(&error);
                    tracing::warn!(
                        table = self.name,
                        attempt,
                        error = last,
                        "a commit failed; looking whether it landed"
                    );
                    if !may_pass(&error) {
                        return self.after_refusal(&commit, base, attempt, error).await;
                    }
                }
            }
        }
        Err(Error::Contention { table: self.name.clone(), attempts: ATTEMPTS, last })
    }

    async fn decide(&mut self, plan: &CommitPlan) -> Result<Decision> {
        self.books().await?;
        let mut found = Vec::with_capacity(plan.ranges.len());
        for CoveredRange { place, .. } in &plan.ranges {
            found.push(self.position(place).await?);
        }
        let table = self.name.clone();
        let totals = &self.books().await?.totals;
        let decision = decide(&plan.ranges, &found, totals);
        for (CoveredRange { place, .. }, position) in plan.ranges.iter().zip(found) {
            if position.is_some() && !totals.contains_key(place) {
                // Another Delta writer removed old log files. The position is safe in the checkpoint.
                tracing::warn!(table, partition = %place, "the totals are gone and are counted anew from here");
            }
        }
        Ok(decision)
    }

    /// One put of the next version, without Delta's own retries: each attempt must pass the guard.
    async fn attempt(
        &mut self,
        plan: &CommitPlan,
        change: &Change,
        commit: &str,
        mut actions: Vec<Action>,
    ) -> Result<u64, DeltaTableError> {
        let generic = |reason: String| DeltaTableError::Generic(reason);
        let books =
            self.books.as_ref().ok_or_else(|| generic("the table's entries were not read".to_owned()))?;
        let entry = books.next(plan, change, commit.to_owned(), self.moment()?);
        actions.extend(plan.files.iter().map(|file| file.add(change.changes_data())));
        for range in &plan.ranges {
            let version = i64::try_from(range.sum.last).map_err(|e| generic(e.to_string()))?;
            // Without `lastUpdated`, so that no reader's setting lets an idle partition's position expire.
            let app_id = Self::app_id(&range.place);
            if let Some(sequence) = range.sequence {
                let parts = sequence::app_ids(&app_id).into_iter().zip(sequence.parts());
                actions.extend(parts.map(|(app_id, part)| Action::Txn(Transaction::new(app_id, part))));
            }
            actions.push(Action::Txn(Transaction::new(app_id, version)));
        }
        let mut value = entry.to_value().map_err(generic)?;
        whole::count_actions(&mut value, &actions);
        let info = HashMap::from([(ledger::KEY.to_owned(), value)]);
        let properties = no_housekeeping().with_metadata(info).with_max_retries(0);
        fail::fail_point!("lake::table::before_commit", |_| Err(generic("failpoint".into())));
        let state = self.delta.snapshot()?;
        let done = CommitBuilder::from(properties)
            .with_actions(actions.clone())
            .build(Some(state as &dyn TableReference), self.delta.log_store(), change.operation.clone())
            .await?;
        fail::fail_point!("lake::table::after_commit", |_| Err(generic("failpoint".into())));
        let version = done.version();
        self.delta.state = Some(done.snapshot());
        for action in actions {
            if let Action::Txn(txn) = action {
                self.txns.insert(txn.app_id, Some(txn.version));
            }
        }
        if let Some(before_ms) = change.vacuum_before_ms {
            self.vacuums.note(version, before_ms);
        }
        if let Some(books) = &mut self.books {
            books.apply(version, &entry);
        }
        if entry.is_whole() {
            self.keep_house(version).await;
        }
        Ok(version)
    }

    /// Where and when the next entry is made.
    fn moment(&self) -> Result<Moment, DeltaTableError> {
        let config = self.delta.snapshot()?.table_config();
        let history_ms = config
            .log_retention_duration
            .map_or(DEFAULT_HISTORY_MS, |history| i64::try_from(history.as_millis()).unwrap_or(i64::MAX));
        Ok(Moment {
            version: self.version() + 1,
            checkpoint_interval: config.checkpoint_interval.map_or(100, |interval| interval.get()),
            now_ms: chrono::Utc::now().timestamp_millis(),
            history_ms,
        })
    }

    /// After an error that another attempt would only repeat: did this attempt land all the same?
    async fn after_refusal(
        &mut self,
        commit: &str,
        base: u64,
        attempts: u32,
        error: DeltaTableError,
    ) -> Result<Committed> {
        if self.refresh().await.is_ok()
            && let Some(version) = self.landed(commit, base).await?
        {
            return Ok(Committed::Committed { version, attempts });
        }
        Err(self.delta_error("commit", error))
    }

    /// The version that a commit of ours landed as, if it did, after version `base`.
    async fn landed(&self, commit: &str, base: u64) -> Result<Option<u64>> {
        for version in (base + 1..=self.version()).rev() {
            let Some(actions) = self.actions(version).await? else { break };
            if self.entry_in(version, &actions)?.is_some_and(|entry| entry.commit == commit) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn conflict(&self, conflict: Conflict) -> Error {
        let Conflict { place, reason } = conflict;
        match reason {
            ConflictReason::Generation { given, found } => {
                Error::Generation { place: format!("table {}", self.name), topic: place.topic, found, given }
            }
            reason => Error::Fenced { table: self.name.clone(), place, reason: reason.to_string() },
        }
    }

    /// Checkpoint and log clean-up, behind a commit that has all totals. It stands whatever becomes of them.
    async fn keep_house(&mut self, version: u64) {
        let house = async {
            fail::fail_point!("lake::table::before_checkpoint", |_| Err(DeltaTableError::Generic(
                "failpoint".into()
            )));
            create_checkpoint(&self.delta, None).await?;
            cleanup_metadata(&self.delta, None).await?;
            // This view of the log names files that may be gone now. The same version: newer ones are yet to be followed.
            let stale = self.delta.state.take();
            self.delta.load_version(version).await.inspect_err(|_| self.delta.state = stale)
        };
        if let Err(error) = house.await {
            let error = words(&error);
            tracing::warn!(table = self.name, version, error, "no checkpoint of the table's log this time");
        }
    }
}

/// Rows that come in.
pub(crate) fn written(mode: SaveMode) -> DeltaOperation {
    DeltaOperation::Write { mode, partition_by: None, predicate: None }
}

/// Delta's own checkpoints and clean-up after a commit are left out: a clean-up must not take the last commit of
/// pinmill's that has all totals.
pub(crate) fn no_housekeeping() -> CommitProperties {
    CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

/// What a commit is, beside what its plan says.
pub(crate) struct Change {
    pub(super) operation: DeltaOperation,
    /// The first commit of a vacuum: see the module `vacuum`.
    pub(super) vacuum_before_ms: Option<i64>,
    /// What the rows were computed from: see the module `origin`.
    pub(super) from: Vec<TableVersion>,
}

impl From<DeltaOperation> for Change {
    fn from(operation: DeltaOperation) -> Self {
        Self { operation, vacuum_before_ms: None, from: Vec::new() }
    }
}

impl Change {
    /// False where the rows of its files were in the table before, in other files.
    fn changes_data(&self) -> bool {
        !matches!(self.operation, DeltaOperation::Optimize { .. })
    }
}

impl WrittenFile {
    /// The Add action of a data file; `data_change` is false where its rows were in the table before, in other files.
    fn add(&self, data_change: bool) -> Action {
        Action::Add(Add {
            path: self.path.clone(),
            partition_values: HashMap::new(),
            size: self.size as i64,
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change,
            stats: Some(self.stats.clone()),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }
}

/// Errors that another attempt may pass: a lost race, and whatever the store says.
fn may_pass(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::ObjectStore { .. }
            | DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) }
    )
}

/// How long to wait before an attempt: doubling, with jitter (`random` is from 0 to 1) so that rivals part.
fn pause(attempt: u32, random: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + random / 2.0)
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(words(error), |text, cause| format!("{text}: {}", words(cause)))
}
