//! What pinmill writes into a commit's `commitInfo`, under the key `pinmill`.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{CommitPlan, CoveredRange, PartitionTotals, Totals, advance};
use crate::RecordId;

/// The key in `commitInfo`.
pub(super) const KEY: &str = "pinmill";
/// What 0.1 writes and reads. It knows one life of a topic's name.
const OF_ONE_LIFE: u32 = 1;
/// Written where a place has a lineage or a part: 0.1 would take it for another one, and refuses it by this number.
const VERSION: u32 = 2;

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
        let mut entry = Self {
            version: OF_ONE_LIFE,
            commit,
            run: plan.run.clone(),
            ranges: plan.ranges.clone(),
            totals: totals.into_values().collect(),
            replayed,
            vacuum: vacuum.map(|before| VacuumNote { before }),
        };
        if entry.has_later_lives() {
            entry.version = VERSION;
        }
        entry
    }

    /// Whether 0.1 would misread it.
    fn has_later_lives(&self) -> bool {
        self.totals.iter().any(|totals| totals.place.lineage > 0)
            || self.ranges.iter().any(|range| range.place.lineage > 0)
            || self.replayed.iter().any(|record| record.place.lineage > 0 || record.sub > 0)
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
            OF_ONE_LIFE | VERSION => Ok(ledger),
            other => Err(format!("commitInfo.{KEY} has version {other}; this pinmill knows {VERSION}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RangeSum, TopicPartition};

    fn entry(lineage: u32) -> Ledger {
        let sum = RangeSum { first: 0, last: 0, count: 1, hash: 1 };
        let place = TopicPartition::new("t", 0).in_lineage(lineage);
        let range = CoveredRange { place, generation: None, after: None, sum, clean: 1, quarantined: 0 };
        let plan = CommitPlan { ranges: vec![range], ..CommitPlan::default() };
        Ledger::next(None, &plan, None, "c".to_owned())
    }

    #[test]
    fn a_version_that_knows_one_life_of_a_name_refuses_an_entry_with_another() {
        for (lineage, version) in [(0, OF_ONE_LIFE), (1, VERSION)] {
            let value = entry(lineage).to_value().unwrap();
            assert_eq!(value["version"], version);
            assert_eq!(Ledger::from_value(&value).unwrap(), entry(lineage));
        }
        // Once there is a second life, every later entry has its totals.
        let plan = CommitPlan { ranges: entry(0).ranges, ..CommitPlan::default() };
        let next = Ledger::next(Some(&entry(1)), &plan, None, "d".to_owned());
        assert_eq!(next.version, VERSION);
        let mut newer = entry(0).to_value().unwrap();
        newer["version"] = 3.into();
        let refused = Ledger::from_value(&newer).unwrap_err();
        assert!(refused.contains("has version 3; this pinmill knows 2"), "{refused}");
    }
}
