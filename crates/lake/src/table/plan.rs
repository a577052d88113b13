//! What a commit covers, and whether it may be made. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sequence::Sequence;
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
    /// The hash of the row of each of these ([`super::row_hashes`]), in the same order; empty where it is not known.
    pub replayed_rows: Vec<u64>,
    /// Records of an earlier replay that are known to be gone from the quarantine: the table need not keep them in
    /// mind any longer.
    pub settled: Vec<RecordId>,
    /// Partitions that their log has no longer, and never will again: their totals need not be kept one by one.
    pub retired: Vec<TopicPartition>,
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
    /// Wrapping sum of the hashes of these rows (see [`super::row_hashes`]); `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::sum::hex_u64_option")]
    pub rows: Option<u64>,
    /// Records before the range that nobody will ever load: retention took them before they were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostRange>,
    /// The sequence number of the last record, where the log's own positions are no offsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
}

/// Offsets whose records are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl LostRange {
    /// How many offsets these are.
    pub fn count(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
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
    /// The hash of the rows, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowsHash>,
    /// How many offsets are lost (see [`CoveredRange::lost`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// When the partition's log was first said not to have it any longer, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_ms: Option<i64>,
}

/// The hash of all rows of a partition from one offset on; of those before it (from pinmill 0.1) none is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsHash {
    /// The first offset.
    pub from: u64,
    /// Wrapping sum of the hashes of the rows (see [`super::row_hashes`]).
    #[serde(with = "crate::sum::hex_u64")]
    pub hash: u64,
}

/// What was covered of partitions that are gone, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FoldedTotals {
    /// How many partitions.
    pub partitions: u64,
    /// Their records.
    pub count: u64,
    /// How many of these are rows of the table.
    pub clean: u64,
    /// How many are in quarantine.
    pub quarantined: u64,
}

impl FoldedTotals {
    pub(super) fn add(&mut self, totals: &PartitionTotals) {
        self.partitions += 1;
        self.count += totals.sum.count;
        self.clean += totals.clean;
        self.quarantined += totals.quarantined;
    }

    /// True where no partition was folded.
    pub fn is_empty(&self) -> bool {
        self.partitions == 0
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl PartitionTotals {
    /// Of a partition of which nothing was covered yet.
    pub fn new(place: TopicPartition) -> Self {
        let (sum, latest) = (RangeSum::default(), RangeSum::default());
        let (generation, rows, retired_ms) = (None, None, None);
        Self { place, generation, sum, clean: 0, quarantined: 0, latest, rows, lost: 0, retired_ms }
    }

    fn cover(&mut self, range: &CoveredRange) {
        self.generation = range.generation.clone().or(self.generation.take());
        self.sum.join(&range.sum);
        self.clean += range.clean;
        self.quarantined += range.quarantined;
        self.latest = range.sum;
        self.rows = range.rows.map(|hash| match self.rows {
            Some(all) => RowsHash { hash: all.hash.wrapping_add(hash), ..all },
            None => RowsHash { from: range.sum.first, hash },
        });
        self.lost += range.lost.iter().copied().map(LostRange::count).sum::<u64>();
        self.retired_ms = None;
    }

    /// Takes a record out of the quarantine, as a row of this hash.
    fn replay(&mut self, offset: u64, row: Option<u64>) {
        self.clean += 1;
        self.quarantined = self.quarantined.saturating_sub(1);
        if let Some(all) = self.rows.filter(|all| offset >= all.from) {
            self.rows = row.map(|row| RowsHash { hash: all.hash.wrapping_add(row), ..all });
        }
    }
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
        let before = after.map_or(0, |after| after.saturating_add(1));
        let is_gap =
            |lost: &LostRange| before <= lost.first && lost.first <= lost.last && lost.last < sum.first;
        if let Some(lost) = range.lost.iter().find(|lost| !is_gap(lost)) {
            let LostRange { first, last } = lost;
            return Err(format!(
                "{place}: offsets {first} to {last} are not before the range, and cannot be lost"
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

/// The totals of the partitions that a plan touches, after it. `now_ms` is the time, in milliseconds since the Unix epoch.
pub(super) fn advance(totals: &Totals, plan: &CommitPlan, now_ms: i64) -> Totals {
    let mut touched = Totals::new();
    for range in &plan.ranges {
        let before = || totals.get(&range.place).cloned();
        let entry = touched.entry(range.place.clone());
        entry
            .or_insert_with(|| before().unwrap_or_else(|| PartitionTotals::new(range.place.clone())))
            .cover(range);
    }
    let rows = plan.replayed_rows.iter().copied().map(Some).chain(std::iter::repeat(None));
    for (record, row) in plan.replayed.iter().zip(rows) {
        if let Some(entry) = touch(&mut touched, totals, &record.place) {
            entry.replay(record.offset, row);
        }
    }
    for place in &plan.retired {
        if totals.get(place).is_some_and(|totals| totals.retired_ms.is_none())
            && !touched.contains_key(place)
            && let Some(entry) = touch(&mut touched, totals, place)
        {
            entry.retired_ms = Some(now_ms);
        }
    }
    touched
}

/// The entry of a partition that there are totals of, to be changed.
fn touch<'a>(
    touched: &'a mut Totals,
    totals: &Totals,
    place: &TopicPartition,
) -> Option<&'a mut PartitionTotals> {
    if !touched.contains_key(place) {
        touched.insert(place.clone(), totals.get(place)?.clone());
    }
    touched.get_mut(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(partition: u32, after: Option<u64>, sum: RangeSum) -> CoveredRange {
        let generation = Some("g1".to_owned());
        let place = TopicPartition::new("t", partition);
        CoveredRange {
            place,
            generation,
            after,
            sum,
            clean: sum.count,
            quarantined: 0,
            rows: None,
            lost: Vec::new(),
            sequence: None,
        }
    }

    fn totals(partition: u32, latest: RangeSum, generation: Option<&str>) -> Totals {
        let generation = generation.map(str::to_owned);
        let (place, sum, clean) = (TopicPartition::new("t", partition), latest, latest.count);
        let entry = PartitionTotals { generation, sum, clean, latest, ..PartitionTotals::new(place.clone()) };
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
        let totals = advance(&Totals::new(), &plan(first), 0);
        let totals = advance(&totals, &plan(CoveredRange { generation: None, ..range(0, Some(9), OURS) }), 0);
        let replayed = vec![RecordId::new(TopicPartition::new("t", 0), 3)];
        let totals = advance(&totals, &CommitPlan { replayed, ..Default::default() }, 0);
        let entry = &totals[&TopicPartition::new("t", 0)];
        assert_eq!(entry.sum, RangeSum { first: 0, last: 19, count: 18, hash: 8 });
        assert_eq!((entry.clean, entry.quarantined, entry.latest), (16, 2, OURS));
        assert_eq!(entry.generation.as_deref(), Some("g1"), "a commit that does not know it keeps it");
    }
}
