//! What a commit covers, and whether it may be made. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::writer::WrittenFile;
use crate::{RangeSum, RecordId, TopicPartition};

/// Rows to be committed together with the positions they move.
#[derive(Debug, Clone, Default)]
pub struct CommitPlan {
    /// Data files from a `TableWriter` of the same table; none when every record was quarantined.
    pub files: Vec<WrittenFile>,
    /// The records of the log that this commit settles, one range a topic partition.
    pub ranges: Vec<CoveredRange>,
    /// Records that come from the quarantine instead of the log.
    pub replayed: Vec<RecordId>,
    /// Records of an earlier replay that are known to be gone from the quarantine: the table need not keep them in
    /// mind any longer.
    pub settled: Vec<RecordId>,
    /// Commit only while the table is at this version. A replay needs it: its records have no position that would
    /// guard them against a second replay.
    pub at_version: Option<u64>,
    /// Name of the run, for people who read the history.
    pub run: Option<String>,
}

/// Records of one topic partition that a commit settles: each is in its files, or in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredRange {
    /// The partition.
    #[serde(flatten)]
    pub place: TopicPartition,
    /// Where the records come from, where that is known: the topic's generation, or a name for an archive that says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The table's position when the range was read: the last offset covered before. The guard.
    pub after: Option<u64>,
    /// First and last offset, number and hash of all records.
    #[serde(flatten)]
    pub sum: RangeSum,
    /// How many of them are rows of the files.
    pub clean: u64,
    /// How many of them are in quarantine.
    pub quarantined: u64,
}

/// What all commits together have covered of one topic partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTotals {
    /// The partition.
    #[serde(flatten)]
    pub place: TopicPartition,
    /// Where the records come from, where that is known: see [`CoveredRange::generation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// First and last offset, number and hash of all records covered.
    #[serde(flatten)]
    pub sum: RangeSum,
    /// How many of them are rows of the table.
    pub clean: u64,
    /// How many of them are in quarantine.
    pub quarantined: u64,
    /// The latest range that was covered.
    pub latest: RangeSum,
}

/// Totals by partition.
pub type Totals = BTreeMap<TopicPartition, PartitionTotals>;

/// What the guard found for a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The table is where the plan starts: commit.
    Commit,
    /// The very same ranges are in the table already.
    AlreadyCommitted,
    /// Going on would lose or double records.
    Conflict(Conflict),
}

/// Why a plan must not be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The partition.
    pub place: TopicPartition,
    /// What is wrong.
    pub reason: ConflictReason,
}

/// Why a plan must not be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConflictReason {
    /// The position is neither where the plan starts nor where it ends: somebody else moved it.
    Moved {
        /// Where the plan starts.
        expected: Option<u64>,
        /// Where the table is.
        found: Option<u64>,
    },
    /// The table ends where the plan ends, but covered other records.
    OtherRecords {
        /// What the plan covers.
        ours: RangeSum,
        /// What the table's latest commit of the partition covered.
        theirs: Option<RangeSum>,
    },
    /// Some of the plan's ranges are in the table and some are not.
    Partly,
    /// The topic was made anew.
    Generation {
        /// The plan's.
        given: String,
        /// The table's.
        found: String,
    },
}

/// May the plan be committed to a table that is at these positions and totals?
///
/// `found` gives the table's position (its `txn` version) for each range, in order.
pub fn decide(ranges: &[CoveredRange], found: &[Option<u64>], totals: &Totals) -> Decision {
    let mut committed = 0;
    for (range, &found) in ranges.iter().zip(found) {
        let totals = totals.get(&range.place);
        match decide_one(range, found, totals) {
            Ok(true) => committed += 1,
            Ok(false) => {}
            Err(reason) => return conflict(range, reason),
        }
    }
    match (committed, ranges.first()) {
        (0, _) | (_, None) => Decision::Commit,
        (n, _) if n == ranges.len() => Decision::AlreadyCommitted,
        (_, Some(range)) => conflict(range, ConflictReason::Partly),
    }
}

/// True when the range is in the table, false when the table is where the range starts.
fn decide_one(
    range: &CoveredRange,
    found: Option<u64>,
    totals: Option<&PartitionTotals>,
) -> Result<bool, ConflictReason> {
    if let (Some(given), Some(there)) =
        (&range.generation, totals.and_then(|totals| totals.generation.as_ref()))
        && given != there
    {
        return Err(ConflictReason::Generation { given: given.clone(), found: there.clone() });
    }
    if found == range.after {
        return Ok(false);
    }
    let theirs = totals.map(|totals| totals.latest);
    match found == Some(range.sum.last) {
        true if theirs == Some(range.sum) => Ok(true),
        true => Err(ConflictReason::OtherRecords { ours: range.sum, theirs }),
        false => Err(ConflictReason::Moved { expected: range.after, found }),
    }
}

fn conflict(range: &CoveredRange, reason: ConflictReason) -> Decision {
    Decision::Conflict(Conflict { place: range.place.clone(), reason })
}

impl std::fmt::Display for ConflictReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let position =
            |at: &Option<u64>| at.map_or("nothing covered".to_owned(), |at| format!("offset {at}"));
        match self {
            Self::Moved { expected, found } => {
                write!(f, "the table was to be at {} and is at {}", position(expected), position(found))
            }
            Self::OtherRecords { ours, theirs } => {
                let RangeSum { first, last, count, hash } = ours;
                write!(
                    f,
                    "offsets {first} to {last} ({count} records, hash {hash:016x}) were committed as "
                )?;
                match theirs {
                    None => write!(f, "something this pinmill has no totals of"),
                    Some(RangeSum { first, last, count, hash }) => {
                        write!(f, "{first} to {last} ({count} records, hash {hash:016x})")
                    }
                }
            }
            Self::Partly => write!(f, "some ranges of one commit are in the table and some are not"),
            Self::Generation { given, found } => write!(f, "generation {found} in the table, {given} now"),
        }
    }
}

/// Why a plan is no plan, whatever the table holds. Checked before anything is written.
pub(super) fn check(plan: &CommitPlan) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for range in &plan.ranges {
        let CoveredRange { place, after, sum, clean, quarantined, .. } = range;
        if sum.is_empty() {
            return Err(format!("{place}: a range without records"));
        }
        if sum.first > sum.last || sum.count > sum.last - sum.first + 1 {
            return Err(format!(
                "{place}: {} records between offsets {} and {}",
                sum.count, sum.first, sum.last
            ));
        }
        if after.is_some_and(|after| sum.first <= after) {
            return Err(format!(
                "{place}: the range begins at {}, at or before the table's position",
                sum.first
            ));
        }
        if i64::try_from(sum.last).is_err() {
            return Err(format!("{place}: offset {} does not fit into a BIGINT", sum.last));
        }
        if *clean + *quarantined != sum.count {
            return Err(format!(
                "{place}: {} records are {clean} clean and {quarantined} quarantined",
                sum.count
            ));
        }
        if !seen.insert(place) {
            return Err(format!("{place}: two ranges of one partition in one commit"));
        }
    }
    let rows: u64 = plan.files.iter().map(|file| file.rows).sum();
    let clean = plan.ranges.iter().map(|range| range.clean).sum::<u64>() + plan.replayed.len() as u64;
    match plan.ranges.is_empty() && plan.replayed.is_empty() || rows == clean {
        true => Ok(()),
        false => Err(format!("the files hold {rows} rows, the ranges and replayed records say {clean}")),
    }
}

/// The totals after a plan.
pub(super) fn advance(totals: &Totals, plan: &CommitPlan) -> Totals {
    let mut totals = totals.clone();
    for range in &plan.ranges {
        let entry = totals.entry(range.place.clone()).or_insert_with(|| PartitionTotals {
            place: range.place.clone(),
            generation: None,
            sum: RangeSum::default(),
            clean: 0,
            quarantined: 0,
            latest: RangeSum::default(),
        });
        entry.generation = range.generation.clone().or(entry.generation.take());
        entry.sum.join(&range.sum);
        entry.clean += range.clean;
        entry.quarantined += range.quarantined;
        entry.latest = range.sum;
    }
    for record in &plan.replayed {
        if let Some(entry) = totals.get_mut(&record.place) {
            entry.clean += 1;
            entry.quarantined = entry.quarantined.saturating_sub(1);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(partition: u32, after: Option<u64>, sum: RangeSum) -> CoveredRange {
        let generation = Some("g1".to_owned());
        let place = TopicPartition::new("t", partition);
        CoveredRange { place, generation, after, sum, clean: sum.count, quarantined: 0 }
    }

    fn totals(partition: u32, latest: RangeSum, generation: Option<&str>) -> Totals {
        let generation = generation.map(str::to_owned);
        let (place, sum, clean) = (TopicPartition::new("t", partition), latest, latest.count);
        let entry = PartitionTotals { place: place.clone(), generation, sum, clean, quarantined: 0, latest };
        Totals::from([(place, entry)])
    }

    const OURS: RangeSum = RangeSum { first: 10, last: 19, count: 10, hash: 7 };

    /// What one range decides, for every place the table can be at and everything it can have covered there.
    #[test]
    fn one_range_is_committed_once_and_only_where_it_belongs() {
        let others = [
            None,
            Some(OURS),
            Some(RangeSum { hash: 8, ..OURS }),
            Some(RangeSum { count: 9, ..OURS }),
            Some(RangeSum { first: 12, ..OURS }),
        ];
        let generations = [None, Some("g1"), Some("g2")];
        for after in [None, Some(0), Some(9)] {
            for found in [None, Some(0), Some(8), Some(9), Some(10), Some(18), Some(19), Some(20)] {
                for latest in others {
                    for generation in generations {
                        let totals = latest.map(|latest| totals(0, latest, generation)).unwrap_or_default();
                        let decision = decide(&[range(0, after, OURS)], &[found], &totals);
                        let known_as_other = latest.is_some() && generation == Some("g2");
                        let expected = match (known_as_other, found == after, found == Some(19)) {
                            (true, ..) => "generation",
                            (_, true, _) => "commit",
                            (_, _, true) if latest == Some(OURS) => "already",
                            (_, _, true) => "other records",
                            _ => "moved",
                        };
                        assert_eq!(name(&decision), expected, "after {after:?}, found {found:?}, {latest:?}");
                    }
                }
            }
        }
    }

    fn name(decision: &Decision) -> &'static str {
        match decision {
            Decision::Commit => "commit",
            Decision::AlreadyCommitted => "already",
            Decision::Conflict(conflict) => match conflict.reason {
                ConflictReason::Moved { .. } => "moved",
                ConflictReason::OtherRecords { .. } => "other records",
                ConflictReason::Partly => "partly",
                ConflictReason::Generation { .. } => "generation",
            },
        }
    }

    /// Each range of a plan is either to come, in, or moved away: every combination of three.
    #[test]
    fn several_ranges_are_committed_together_or_not_at_all() {
        let states = [("to come", Some(9)), ("in", Some(19)), ("moved", Some(15))];
        for a in states {
            for b in states {
                for c in states {
                    let ranges: Vec<_> = (0..3).map(|partition| range(partition, Some(9), OURS)).collect();
                    let mut all = Totals::new();
                    (0..3).for_each(|partition| all.extend(totals(partition, OURS, None)));
                    let decision = decide(&ranges, &[a.1, b.1, c.1], &all);
                    let is = |state: &str| [a.0, b.0, c.0].iter().filter(|name| **name == state).count();
                    let expected = match (is("moved"), is("in")) {
                        (0, 0) => "commit",
                        (0, 3) => "already",
                        (0, _) => "partly",
                        _ => "moved",
                    };
                    assert_eq!(name(&decision), expected, "{} {} {}", a.0, b.0, c.0);
                }
            }
        }
        assert_eq!(decide(&[], &[], &Totals::new()), Decision::Commit);
    }

    #[test]
    fn totals_add_up_and_a_replay_moves_records_between_them() {
        let plan = |range: CoveredRange| CommitPlan { ranges: vec![range], ..Default::default() };
        let mut first = range(0, None, RangeSum { first: 0, last: 9, count: 8, hash: 1 });
        (first.clean, first.quarantined) = (5, 3);
        let totals = advance(&Totals::new(), &plan(first));
        let totals = advance(&totals, &plan(CoveredRange { generation: None, ..range(0, Some(9), OURS) }));
        let replayed = vec![RecordId::new(TopicPartition::new("t", 0), 3)];
        let totals = advance(&totals, &CommitPlan { replayed, ..Default::default() });
        let entry = &totals[&TopicPartition::new("t", 0)];
        assert_eq!(entry.sum, RangeSum { first: 0, last: 19, count: 18, hash: 8 });
        assert_eq!((entry.clean, entry.quarantined, entry.latest), (16, 2, OURS));
        assert_eq!(entry.generation.as_deref(), Some("g1"), "a commit that does not know it keeps it");
    }
}
