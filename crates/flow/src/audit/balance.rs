//! Whether the stages of one topic partition agree: pure comparison of what was counted at each of them.
//!
//! A partition's offsets are cut into *ranges*: one for each archive object, cut once more where the log begins (what
//! lies before was removed by retention and is vouched for by the archive alone) and where the table ends (what lies
//! behind is not cleaned yet), and where the log has a gap (it lost records that stages behind it hold, see `shrunk`:
//! within the gap these are what there is). So every range lies wholly on one side of each boundary and can be compared whole.

use pinmill_broker::OffsetRange;
use pinmill_lake::{RangeSum, TopicPartition, record_hash};
use serde::Serialize;

/// Something that does not balance: where, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The topic.
    pub topic: String,
    /// Which life of the topic's name; left out of JSON for the first.
    #[serde(skip_serializing_if = "is_first")]
    pub lineage: u32,
    /// The partition; `None` where a whole topic or dataset is meant.
    pub partition: Option<u32>,
    /// First offset concerned, where it is known.
    pub first: Option<u64>,
    /// Last offset concerned, where it is known.
    pub last: Option<u64>,
    /// What is off, for a person.
    pub what: String,
}

impl Problem {
    /// Something that is off with one record, or a range of them.
    pub(super) fn at(place: &TopicPartition, offsets: impl Into<Option<(u64, u64)>>, what: String) -> Self {
        let TopicPartition { topic, lineage, partition } = place.clone();
        let offsets = offsets.into();
        let (first, last) = (offsets.map(|(first, _)| first), offsets.map(|(_, last)| last));
        Self { topic, lineage, partition: Some(partition), first, last, what }
    }

    /// Something that is off with a whole dataset or topic.
    pub(super) fn of(subject: impl Into<String>, what: String) -> Self {
        Self { topic: subject.into(), lineage: 0, partition: None, first: None, last: None, what }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(super) fn is_first(lineage: &u32) -> bool {
    *lineage == 0
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.partition {
            None => write!(f, "{}", self.topic)?,
            Some(partition) => {
                write!(f, "{}", TopicPartition::new(&self.topic, partition).in_lineage(self.lineage))?;
            }
        }
        match (self.first, self.last) {
            (Some(first), Some(last)) => write!(f, " offsets {first} to {last}")?,
            (Some(first), None) => write!(f, " from offset {first}")?,
            (None, Some(last)) => write!(f, " up to offset {last}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.what)
    }
}

/// A topic that was made before there was a limit to its name.
pub(super) fn no_room(place: &TopicPartition) -> Problem {
    let length = place.topic.len();
    let what = format!(
        "its name of {length} characters is too long for the archive's files: its records stay in the log"
    );
    Problem::at(place, None, what)
}

/// What a table and its quarantine say they hold of one topic partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TableFacts {
    /// First offset that was cleaned.
    pub(crate) first: u64,
    /// Offset after the last one that was cleaned.
    pub(crate) next: u64,
    /// Rows committed to the table.
    pub(crate) clean: u64,
    /// Records committed to quarantine.
    pub(crate) quarantined: u64,
    /// Wrapping sum of the hashes of all of them.
    pub(crate) hash: u64,
    /// Rows that the quarantine table really holds before `next`.
    pub(crate) quarantine_rows: u64,
}

/// What was found of one topic partition at each stage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// First offset that the log still holds; `None` when the log does not know the partition.
    pub(crate) log_beginning: Option<u64>,
    /// Offsets that the log lost, ascending.
    pub(crate) gaps: Vec<OffsetRange>,
    /// What the log holds, cut as the archive cuts it.
    pub(crate) log: LogCut,
    /// What the archive holds.
    pub(crate) archived: Archived,
    /// What the table covers; `None` when no dataset takes the topic.
    pub(crate) table: Option<TableFacts>,
}

/// What the archive holds of one topic partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Archived {
    /// The archiver wrote it, from the log's own topic: it begins at offset 0, has no gaps, and holds a record once.
    /// What another sink left may begin anywhere, and have gaps and repeats.
    pub(crate) own: bool,
    /// The offset up to which it was looked at, where it held anything then.
    pub(crate) until: Option<u64>,
    /// Its ranges, ascending.
    pub(crate) ranges: Vec<RangeSum>,
    /// Records that an object before held already, as far as objects were read.
    pub(crate) repeated: u64,
    /// What objects held that are gone; their manifests are there.
    pub(crate) gone: Vec<RangeSum>,
    /// The table has the partition from an archive that was not looked at: it vouches for itself.
    pub(crate) elsewhere: bool,
    /// Objects that cannot be read: where they begin, and why. Nothing behind them was looked at.
    pub(crate) damaged: Vec<(Option<u64>, String)>,
}

/// The log's records of one partition, summed by the ranges of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogCut {
    /// One sum for each archived range.
    pub(crate) ranges: Vec<RangeSum>,
    /// Records between archived ranges, which no object holds.
    pub(crate) holes: Vec<RangeSum>,
    /// Records after the last archived range: not archived yet.
    pub(crate) tail: RangeSum,
}

/// Sums the log's records by the ranges of the archive, one record after another.
pub(crate) struct Tally<'a> {
    archived: &'a [RangeSum],
    at: usize,
    in_hole: bool,
    cut: LogCut,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(archived: &'a [RangeSum]) -> Self {
        let cut = LogCut { ranges: vec![RangeSum::default(); archived.len()], ..LogCut::default() };
        Self { archived, at: 0, in_hole: false, cut }
    }

    /// Takes the next record of the log, in offset order.
    pub(crate) fn add(&mut self, offset: u64, value: Option<&[u8]>) {
        while self.archived.get(self.at).is_some_and(|range| offset > range.last) {
            self.at += 1;
        }
        let hash = record_hash(offset, value);
        let in_range = self.archived.get(self.at).map(|range| offset >= range.first);
        match in_range {
            Some(true) => self.cut.ranges[self.at].add_hashed(offset, hash),
            None => self.cut.tail.add_hashed(offset, hash),
            Some(false) => {
                if !self.in_hole {
                    self.cut.holes.push(RangeSum::default());
                }
                if let Some(hole) = self.cut.holes.last_mut() {
                    hole.add_hashed(offset, hash);
                }
            }
        }
        self.in_hole = in_range == Some(false);
    }

    pub(crate) fn finish(self) -> LogCut {
        self.cut
    }
}

/// How one topic partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PartitionAudit {
    /// Which life of the topic's name; left out of JSON for the first.
    #[serde(skip_serializing_if = "is_first")]
    pub lineage: u32,
    /// The partition.
    pub partition: u32,
    /// Every record ever accepted: what the log holds, and before that what the archive holds.
    pub accepted: RangeSum,
    /// What the archive holds.
    pub archived: RangeSum,
    /// What the table and its quarantine cover; `count` is `clean + quarantined`.
    pub cleaned: RangeSum,
    /// Rows in the table.
    pub clean: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Accepted, but not archived yet.
    pub pending_archive: u64,
    /// Archived, but not cleaned yet.
    pub pending_clean: u64,
}

/// Compares the stages of one topic partition.
pub(crate) fn balance(place: &TopicPartition, facts: &Facts) -> (PartitionAudit, Vec<Problem>) {
    let mut problems = Problems::of(place);
    let TopicPartition { lineage, partition, .. } = *place;
    let mut audit = PartitionAudit { lineage, partition, ..PartitionAudit::default() };
    archive_itself(&facts.archived, &mut problems);
    log_against_archive(facts, &mut audit, &mut problems);
    if let Some(table) = facts.table {
        archive_against_table(facts, table, &mut audit, &mut problems);
    }
    (audit, problems.found)
}

fn archive_itself(archived: &Archived, problems: &mut Problems<'_>) {
    for pair in archived.ranges.windows(2) {
        if pair[1].first <= pair[0].last {
            let last = pair[0].last.min(pair[1].last);
            problems.add(pair[1].first, last, "two archive objects hold the same offsets".to_owned());
        }
    }
    if archived.own && archived.repeated > 0 {
        problems.add_anywhere(format!("{} stand in two archive objects", records(archived.repeated)));
    }
    for (first, why) in &archived.damaged {
        problems.add_from(*first, format!("an archive object cannot be read: {why}"));
    }
    for gone in &archived.gone {
        let what = format!("the archive object of {} is gone, its manifest is there", records(gone.count));
        problems.add(gone.first, gone.last, what);
    }
}

fn log_against_archive(facts: &Facts, audit: &mut PartitionAudit, problems: &mut Problems<'_>) {
    let Archived { own, ranges, .. } = &facts.archived;
    for range in ranges {
        audit.archived.join(range);
    }
    let Some(beginning) = facts.log_beginning else {
        // Brought along from elsewhere, or the topic was deleted: the archive is all there is.
        audit.accepted = audit.archived;
        return;
    };
    for (archived, logged) in ranges.iter().zip(&facts.log.ranges) {
        if archived.last < beginning || lies_within(&facts.gaps, archived) {
            audit.accepted.join(archived);
            continue;
        }
        audit.accepted.join(logged);
        if archived != logged {
            let what = format!("the log holds {}, the archive {}", sum_text(logged), sum_text(archived));
            problems.add(archived.first, archived.last, what);
        }
    }
    let archived_next = ranges.last().map_or(0, |range| range.last.saturating_add(1));
    let accounted_from = if *own { 0 } else { archived_next };
    // What was archived since, and has left the log since, is not known here.
    let to = facts.archived.until.map_or(beginning, |until| until.min(beginning));
    for (first, last) in gaps(accounted_from, ranges, to) {
        problems.add(first, last, "the log no longer holds them, and no archive object does".to_owned());
    }
    if *own || ranges.is_empty() {
        for gap in &facts.gaps {
            for (first, last) in gaps(gap.beginning, ranges, gap.end) {
                problems.add(first, last, "the log lost them, and no archive object holds them".to_owned());
            }
        }
    }
    for hole in &facts.log.holes {
        audit.accepted.join(hole);
        problems.add(
            hole.first,
            hole.last,
            format!("{} of the log are in no archive object", records(hole.count)),
        );
    }
    audit.accepted.join(&facts.log.tail);
    audit.pending_archive = facts.log.tail.count;
}

/// Whether the log lost all of a range.
fn lies_within(gaps: &[OffsetRange], range: &RangeSum) -> bool {
    gaps.iter().any(|gap| gap.beginning <= range.first && range.last < gap.end)
}

/// Whether the log lost some of a range.
pub(super) fn overlaps(gaps: &[OffsetRange], range: &RangeSum) -> bool {
    gaps.iter().any(|gap| gap.beginning <= range.last && range.first < gap.end)
}

/// First and last of each run of offsets from `from` to `to` (exclusive) that none of the ascending ranges holds.
pub(super) fn gaps(from: u64, ranges: &[RangeSum], to: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = from;
    for range in ranges {
        let end = range.first.min(to);
        if next < end {
            gaps.push((next, end - 1));
        }
        next = next.max(range.last.saturating_add(1));
    }
    if next < to {
        gaps.push((next, to - 1));
    }
    gaps
}

fn archive_against_table(
    facts: &Facts,
    table: TableFacts,
    audit: &mut PartitionAudit,
    problems: &mut Problems<'_>,
) {
    let mut covered = RangeSum::default();
    for range in &facts.archived.ranges {
        if range.last < table.next {
            covered.join(range);
        } else {
            audit.pending_clean += range.count;
        }
    }
    audit.clean = table.clean;
    audit.quarantined = table.quarantined;
    let count = table.clean + table.quarantined;
    if count > 0 {
        audit.cleaned =
            RangeSum { first: table.first, last: table.next.saturating_sub(1), count, hash: table.hash };
    }
    if facts.archived.elsewhere {
        audit.accepted = audit.cleaned;
        return table.check_quarantine((table.first, table.next.saturating_sub(1)), problems);
    }
    let (first, last) = (covered.first, covered.last);
    if covered.count != count {
        let what = format!(
            "the archive holds {} up to where the table ends, the table {} and quarantine {}",
            records(covered.count),
            table.clean,
            table.quarantined
        );
        problems.add(first, last, what);
    } else if covered.hash != table.hash {
        let what = format!(
            "the records that were cleaned are not those of the archive: hash {:016x} there, {:016x} here",
            covered.hash, table.hash
        );
        problems.add(first, last, what);
    }
    table.check_quarantine((first, last), problems);
}

impl TableFacts {
    /// The quarantine must hold as many records as the commits say.
    pub(super) fn check_quarantine(&self, (first, last): (u64, u64), problems: &mut Problems<'_>) {
        if self.quarantine_rows != self.quarantined {
            let what = format!(
                "the commits count {} in quarantine, but it holds {}",
                records(self.quarantined),
                records(self.quarantine_rows)
            );
            problems.add(first, last, what);
        }
    }
}

/// What was found wrong with one partition.
pub(super) struct Problems<'a> {
    place: &'a TopicPartition,
    pub(super) found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(super) fn of(place: &'a TopicPartition) -> Self {
        Self { place, found: Vec::new() }
    }

    pub(super) fn add(&mut self, first: u64, last: u64, what: String) {
        self.found.push(Problem::at(self.place, (first, last), what));
    }

    /// A problem that lies from an offset on, where that is known.
    fn add_from(&mut self, first: Option<u64>, what: String) {
        self.found.push(Problem { first, ..Problem::at(self.place, None, what) });
    }

    /// A problem of which it is not known where it lies.
    fn add_anywhere(&mut self, what: String) {
        self.found.push(Problem::at(self.place, None, what));
    }
}

pub(super) fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

pub(super) fn sum_text(sum: &RangeSum) -> String {
    format!("{} with hash {:016x}", records(sum.count), sum.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(offset: u64) -> Vec<u8> {
        format!("value {offset}").into_bytes()
    }

    fn sum(first: u64, last: u64) -> RangeSum {
        let mut sum = RangeSum::default();
        for offset in first..=last {
            sum.add(offset, Some(&value(offset)));
        }
        sum
    }

    fn cut(archived: &[RangeSum], offsets: impl IntoIterator<Item = u64>) -> LogCut {
        let mut tally = Tally::new(archived);
        for offset in offsets {
            tally.add(offset, Some(&value(offset)));
        }
        tally.finish()
    }

    /// 30 records in the log, 20 of them archived by tens, 10 of them cleaned.
    fn facts() -> Facts {
        let archived = vec![sum(0, 9), sum(10, 19)];
        let table = TableFacts {
            first: 0,
            next: 10,
            clean: 8,
            quarantined: 2,
            hash: sum(0, 9).hash,
            quarantine_rows: 2,
        };
        let log = cut(&archived, 0..30);
        let archived = Archived { own: true, ranges: archived, ..Archived::default() };
        Facts { log_beginning: Some(0), gaps: Vec::new(), log, archived, table: Some(table) }
    }

    #[test]
    fn a_partition_where_all_agree_has_no_problem_and_tells_what_is_pending() {
        let (audit, problems) = balance(&TopicPartition::new("pin", 0), &facts());
        assert_eq!(problems, vec![]);
        assert_eq!(audit.accepted, sum(0, 29));
        assert_eq!(audit.archived, sum(0, 19));
        assert_eq!(audit.cleaned, sum(0, 9));
        assert_eq!((audit.clean, audit.quarantined), (8, 2));
        assert_eq!((audit.pending_archive, audit.pending_clean), (10, 10));
    }

    #[test]
    fn what_retention_removed_is_vouched_for_by_the_archive() {
        let mut facts = facts();
        facts.archived.ranges = vec![sum(0, 9), sum(10, 14), sum(15, 19)];
        facts.log_beginning = Some(15);
        facts.log = cut(&facts.archived.ranges, 15..30);
        let (audit, problems) = balance(&TopicPartition::new("pin", 0), &facts);
        assert_eq!(problems, vec![]);
        assert_eq!(audit.accepted, sum(0, 29));
    }

    #[test]
    fn what_the_log_lost_is_vouched_for_by_the_archive_where_that_holds_it() {
        let mut facts = facts();
        facts.gaps = vec![OffsetRange { beginning: 15, end: 20 }];
        facts.archived.ranges = vec![sum(0, 9), sum(10, 14), sum(15, 19)];
        facts.log = cut(&facts.archived.ranges, (0..15).chain(20..30));
        let (audit, problems) = balance(&TopicPartition::new("pin", 0), &facts);
        assert_eq!(problems, vec![]);
        assert_eq!((audit.accepted, audit.pending_archive), (sum(0, 29), 10));
        // The table was read from the log itself, and had come further than the archive.
        facts.gaps[0].end = 23;
        facts.log = cut(&facts.archived.ranges, (0..15).chain(23..30));
        let (_, problems) = balance(&TopicPartition::new("pin", 0), &facts);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].first, problems[0].last), (Some(20), Some(22)));
    }

    #[test]
    fn an_archive_without_a_log_stands_for_itself() {
        let mut facts = facts();
        facts.log_beginning = None;
        facts.log = LogCut::default();
        let (audit, problems) = balance(&TopicPartition::new("pin", 0), &facts);
        assert_eq!(problems, vec![]);
        assert_eq!((audit.accepted, audit.pending_archive), (sum(0, 19), 0));
    }

    /// An archive of these ranges, and a log that retention has cut off at its beginning.
    fn retain(facts: &mut Facts, archived: Vec<RangeSum>, beginning: u64) {
        facts.log_beginning = Some(beginning);
        facts.log = cut(&archived, beginning..30);
        facts.archived.ranges = archived;
    }

    /// Every way of being wrong is found, and said with the offsets it concerns.
    #[test]
    fn each_kind_of_loss_and_repetition_is_named_with_its_offsets() {
        type Damage = fn(&mut Facts);
        let cases: [(&str, Damage, (u64, u64)); 12] = [
            (
                "the log holds 9 records",
                |f| f.log = cut(&f.archived.ranges, (0..30).filter(|o| *o != 12)),
                (10, 19),
            ),
            ("two archive objects", |f| f.archived.ranges = vec![sum(0, 9), sum(5, 19)], (5, 9)),
            ("the archive object of 3 records is gone", |f| f.archived.gone = vec![sum(4, 6)], (4, 6)),
            (
                "are in no archive object",
                |f| {
                    f.archived.ranges = vec![sum(0, 9), sum(13, 19)];
                    f.log = cut(&f.archived.ranges, 0..30);
                },
                (10, 12),
            ),
            ("the log no longer holds them", |f| retain(f, vec![sum(0, 9), sum(10, 19)], 25), (20, 24)),
            ("the log no longer holds them", |f| retain(f, vec![sum(10, 19), sum(20, 29)], 20), (0, 9)),
            ("the log no longer holds them", |f| retain(f, vec![sum(0, 9), sum(14, 29)], 14), (10, 13)),
            ("up to where the table ends", |f| f.table.as_mut().unwrap().clean = 7, (0, 9)),
            ("up to where the table ends", |f| f.table.as_mut().unwrap().clean = 9, (0, 9)),
            ("not those of the archive", |f| f.table.as_mut().unwrap().hash ^= 1, (0, 9)),
            ("but it holds 1 record", |f| f.table.as_mut().unwrap().quarantine_rows = 1, (0, 9)),
            ("the archive 10 records with hash", |f| f.archived.ranges[1].hash ^= 1, (10, 19)),
        ];
        for (words, damage, offsets) in cases {
            let mut facts = facts();
            damage(&mut facts);
            let (_, problems) = balance(&TopicPartition::new("pin", 3), &facts);
            let found = problems.iter().find(|problem| problem.what.contains(words));
            let found = found.unwrap_or_else(|| panic!("{words}: {problems:?}"));
            assert_eq!((found.first.unwrap(), found.last.unwrap()), offsets, "{words}");
            assert_eq!((found.topic.as_str(), found.partition), ("pin", Some(3)));
        }
    }

    #[test]
    fn what_another_sink_left_may_begin_anywhere_and_have_gaps_and_repeats() {
        let mut facts = facts();
        facts.table = None;
        retain(&mut facts, vec![sum(2, 9), sum(15, 19)], 20);
        facts.archived.repeated = 3;
        let whats = |facts: &Facts| -> Vec<String> {
            balance(&TopicPartition::new("pin", 0), facts).1.iter().map(ToString::to_string).collect()
        };
        assert_eq!(whats(&facts).len(), 3, "the archiver's has none of them: {:?}", whats(&facts));
        assert_eq!(whats(&facts)[0], "pin/0: 3 records stand in two archive objects");
        facts.archived.own = false;
        assert_eq!(whats(&facts), Vec::<String>::new());
        facts.log_beginning = None;
        facts.archived.own = true;
        facts.archived.repeated = 0;
        assert_eq!(whats(&facts), Vec::<String>::new(), "an archive alone may be a part of one");
    }

    #[test]
    fn gaps_are_what_no_range_holds_up_to_an_offset() {
        let ranges = [sum(2, 3), sum(3, 5), sum(9, 9)];
        assert_eq!(gaps(0, &ranges, 12), [(0, 1), (6, 8), (10, 11)]);
        assert_eq!(gaps(2, &ranges, 8), [(6, 7)]);
        assert!(gaps(10, &ranges, 10).is_empty());
        assert_eq!(gaps(0, &[], 3), [(0, 2)]);
    }

    #[test]
    fn several_holes_are_told_apart() {
        let archived = vec![sum(2, 3), sum(6, 7)];
        let cut = cut(&archived, 0..10);
        assert_eq!(cut.holes, vec![sum(0, 1), sum(4, 5)]);
        assert_eq!(cut.ranges, archived);
        assert_eq!(cut.tail, sum(8, 9));
    }
}
