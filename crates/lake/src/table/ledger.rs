//! What pinmill writes into a commit's `commitInfo`, under the key `pinmill`.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{CommitPlan, CoveredRange, PartitionTotals, Totals, advance};
use crate::RecordId;

/// The key in `commitInfo`.
pub(super) const KEY: &str = "pinmill";
const VERSION: u32 = 1;

/// One commit's entry: who made it, what it covers, and the totals with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    version: u32,
    /// Made anew for every commit: by it a commit whose answer was lost is known again.
    pub(super) commit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ranges: Vec<CoveredRange>,
    totals: Vec<PartitionTotals>,
    /// Records that the latest replay took over from the quarantine. Kept by later commits until they are known to be
    /// gone from there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replayed: Vec<RecordId>,
    /// The commit begins a vacuum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vacuum: Option<VacuumNote>,
}

/// What the first commit of a vacuum says to those whose files wait for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VacuumNote {
    /// Files that no commit named and that are not younger than this may be gone: milliseconds since the Unix epoch, by
    /// the store.
    pub(super) before: i64,
}

impl Ledger {
    /// The entry of a commit that follows `before`.
    pub(super) fn next(
        before: Option<&Self>,
        plan: &CommitPlan,
        vacuum: Option<i64>,
        commit: String,
    ) -> Self {
        let totals = advance(&before.map(Self::totals).unwrap_or_default(), plan);
        let replayed = match (plan.replayed.is_empty(), before) {
            (false, _) | (_, None) => plan.replayed.clone(),
            (true, Some(before)) => before.replayed.clone(),
        };
        let settled: HashSet<&RecordId> = plan.settled.iter().collect();
        let replayed = replayed.into_iter().filter(|id| !settled.contains(id)).collect();
        Self {
            version: VERSION,
            commit,
            run: plan.run.clone(),
            ranges: plan.ranges.clone(),
            totals: totals.into_values().collect(),
            replayed,
            vacuum: vacuum.map(|before| VacuumNote { before }),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.iter().map(|totals| (totals.place.clone(), totals.clone())).collect()
    }

    pub(super) fn to_value(&self) -> Result<Value, String> {
        serde_json::to_value(self).map_err(|e| e.to_string())
    }

    pub(super) fn from_value(value: &Value) -> Result<Self, String> {
        let ledger = Self::deserialize(value).map_err(|e| format!("commitInfo.{KEY}: {e}"))?;
        match ledger.version {
            VERSION => Ok(ledger),
            other => Err(format!("commitInfo.{KEY} has version {other}; this pinmill knows {VERSION}")),
        }
    }
}
