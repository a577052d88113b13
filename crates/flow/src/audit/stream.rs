//! The streaming half's audit: what the streams accepted against what the tables and the quarantine hold.
//!
//! There is no archive between them; a table's own commits say what they cover, range by range, with count and hash. The
//! log's records are summed up by those ranges and compared. What retention has removed from the log is vouched for by
//! the commits; a range that the log holds only a part of is vouched for too. Where old commits were cleaned up, what they
//! covered together is the table's totals less the ranges that are still known.
//!
//! What the log has removed must be in the commits, from the first record on that the table covers. What lies before that
//! is no loss: a stream may be older than its table, which may have been made again. How much it is stands in
//! [`ShardAudit::before`].

use std::collections::{BTreeMap, BTreeSet};

use pinmill_broker::{EventLog, OffsetRange};
use pinmill_lake::table::{PartitionTotals, Table};
use pinmill_lake::{Lake, RangeSum, TopicPartition};
use pinmill_pipeline::Pipeline;
use serde::Serialize;

use super::Logs;
use super::balance::{LogCut, Problem, Problems, TableFacts, gaps, is_first, overlaps, records, sum_text};
use super::facts::{self, Tables};
use crate::{Half, Result};

/// How one stream stands: the numbers of its shards together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StreamAudit {
    /// The dataset that takes it.
    pub dataset: Option<String>,
    /// Records accepted.
    pub accepted: u64,
    /// Rows in the table.
    pub clean: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Accepted, but not in the table or quarantine yet.
    pub pending: u64,
    /// Its shards, ascending.
    pub partitions: Vec<ShardAudit>,
}

/// How one shard stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ShardAudit {
    /// Which life of the stream's name; left out of JSON for the first.
    #[serde(skip_serializing_if = "is_first")]
    pub lineage: u32,
    /// The shard's number.
    pub partition: u32,
    /// Every record ever accepted: what the log holds, and before that what the table covers.
    pub accepted: RangeSum,
    /// Offsets before all that the table covers and the log holds: retention had removed them before the table began.
    pub before: u64,
    /// What the table and its quarantine cover; `count` is `clean + quarantined`.
    pub cleaned: RangeSum,
    /// Rows in the table.
    pub clean: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Accepted, but not in the table or quarantine yet.
    pub pending: u64,
}

/// What was found of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Facts {
    /// First offset that the log still holds; `None` when the log does not know the shard.
    beginning: Option<u64>,
    /// Offsets that the log lost, ascending.
    gaps: Vec<OffsetRange>,
    /// What the commits cover, ascending.
    committed: Vec<RangeSum>,
    /// What the log holds, cut by those.
    log: LogCut,
    /// What the table covers; `None` when no dataset takes the stream.
    table: Option<TableFacts>,
}

/// All streams of the streaming half, and what does not balance.
pub(super) async fn audit(
    pipeline: &Pipeline,
    logs: Logs<'_>,
    lake: &Lake,
    tables: &Tables,
) -> Result<(BTreeMap<String, StreamAudit>, Vec<Problem>)> {
    let (mut streams, mut problems) = (BTreeMap::<String, StreamAudit>::new(), Vec::new());
    let mut ranges = KnownRanges { lake, of_dataset: BTreeMap::new() };
    let holders = Holders::of(logs, tables).await?;
    for place in holders.places(tables) {
        let topic = place.topic.as_str();
        // What was loaded from a topic instead of a stream is looked for there.
        let dataset = tables
            .dataset_of(topic)
            .or_else(|| pipeline.dataset_for_stream(topic).map(|dataset| dataset.name.clone()));
        let (log, held) = holders.held(&place).await?;
        let totals = dataset.as_deref().and_then(|dataset| tables.totals_of(dataset)?.get(&place).cloned());
        let gaps = match (log, held) {
            (Some(log), Some(_)) => facts::gaps(log, topic, place.partition).await?,
            _ => Vec::new(),
        };
        let committed = match (&dataset, &totals) {
            (Some(dataset), Some(totals)) => ranges.of(dataset, totals, held, &gaps).await?,
            _ => Vec::new(),
        };
        let cut = match (log, held) {
            (Some(log), Some(held)) => facts::read_log(log, &place, held, &committed).await?,
            _ => LogCut::default(),
        };
        let table = dataset.as_deref().map(|dataset| tables.facts(dataset, &place));
        let beginning = held.map(|held| held.beginning);
        let (audit, found) = balance(&place, &Facts { beginning, gaps, committed, log: cut, table });
        problems.extend(found);
        let stream = streams.entry(place.topic).or_default();
        stream.dataset = dataset;
        stream.add(audit);
    }
    Ok((streams, problems))
}

/// The logs that have partitions, each in the life that it has of the topic's name.
struct Holders<'a> {
    streams: BTreeMap<TopicPartition, &'a dyn EventLog>,
    topics: BTreeMap<TopicPartition, &'a dyn EventLog>,
}

impl<'a> Holders<'a> {
    async fn of(logs: Logs<'a>, tables: &Tables) -> Result<Self> {
        Ok(Self { streams: living(logs.streams, tables).await?, topics: living(logs.topics, tables).await? })
    }

    /// All partitions that the streaming half knows, ascending.
    fn places(&self, tables: &Tables) -> BTreeSet<TopicPartition> {
        tables.partitions().into_keys().chain(self.streams.keys().cloned()).collect()
    }

    /// The log that has a partition, and what it holds of it. What was loaded from a topic is looked for there.
    async fn held(&self, place: &TopicPartition) -> Result<(Option<&'a dyn EventLog>, Option<OffsetRange>)> {
        for log in [self.streams.get(place), self.topics.get(place)].into_iter().flatten() {
            if let Some(held) = facts::held(*log, place).await? {
                return Ok((Some(*log), Some(held)));
            }
        }
        Ok((None, None))
    }
}

async fn living<'a>(
    log: Option<&'a dyn EventLog>,
    tables: &Tables,
) -> Result<BTreeMap<TopicPartition, &'a dyn EventLog>> {
    let Some(log) = log else { return Ok(BTreeMap::new()) };
    Ok(facts::partitions_of(log, tables).await?.into_iter().map(|place| (place, log)).collect())
}

/// The ranges that the commits of a table say they covered, read once a table and only where they are needed.
struct KnownRanges<'a> {
    lake: &'a Lake,
    of_dataset: BTreeMap<String, BTreeMap<TopicPartition, Vec<RangeSum>>>,
}

impl KnownRanges<'_> {
    /// What was covered of a partition, ascending and without gaps in the sum: together it is `totals`.
    async fn of(
        &mut self,
        dataset: &str,
        totals: &PartitionTotals,
        held: Option<OffsetRange>,
        gaps: &[OffsetRange],
    ) -> Result<Vec<RangeSum>> {
        // Where the log holds all of it, one range is as good as many.
        if held.is_some_and(|held| held.beginning <= totals.sum.first) && !overlaps(gaps, &totals.sum) {
            return Ok(vec![totals.sum]);
        }
        if !self.of_dataset.contains_key(dataset) {
            let read = self.read(dataset).await?;
            self.of_dataset.insert(dataset.to_owned(), read);
        }
        let known = self.of_dataset.get(dataset).and_then(|ranges| ranges.get(&totals.place));
        Ok(with_earlier(totals.sum, known.map_or(&[][..], Vec::as_slice)))
    }

    async fn read(&self, dataset: &str) -> Result<BTreeMap<TopicPartition, Vec<RangeSum>>> {
        let mut ranges: BTreeMap<TopicPartition, Vec<RangeSum>> = BTreeMap::new();
        let Some(table) = Table::open(self.lake, &Half::Stream.table(dataset)).await? else {
            return Ok(ranges);
        };
        for entry in table.history(usize::MAX).await?.into_iter().rev() {
            for range in entry.ranges {
                ranges.entry(range.place).or_default().push(range.sum);
            }
        }
        Ok(ranges)
    }
}

/// The known ranges, and before them what they leave of the whole. Commits that are newer than the whole are left out.
fn with_earlier(all: RangeSum, known: &[RangeSum]) -> Vec<RangeSum> {
    let known = &known[..known.partition_point(|range| range.last <= all.last)];
    let mut sum = RangeSum::default();
    known.iter().for_each(|range| sum.join(range));
    let earlier = RangeSum {
        first: all.first,
        last: if sum.is_empty() { all.last } else { sum.first.saturating_sub(1) },
        count: all.count.saturating_sub(sum.count),
        hash: all.hash.wrapping_sub(sum.hash),
    };
    std::iter::once(earlier).filter(|range| !range.is_empty()).chain(known.iter().copied()).collect()
}

/// Compares what one shard accepted with what became of it.
fn balance(place: &TopicPartition, facts: &Facts) -> (ShardAudit, Vec<Problem>) {
    let mut problems = Problems::of(place);
    let TopicPartition { lineage, partition, .. } = *place;
    let mut audit = ShardAudit { lineage, partition, ..ShardAudit::default() };
    log_against_commits(facts, &mut audit, &mut problems);
    if let Some(table) = facts.table {
        commits_against_table(facts, table, &mut audit, &mut problems);
    }
    (audit, problems.found)
}

fn log_against_commits(facts: &Facts, audit: &mut ShardAudit, problems: &mut Problems<'_>) {
    let Some(beginning) = facts.beginning else {
        // The stream was deleted: what the table covers is all there is.
        facts.committed.iter().for_each(|range| audit.accepted.join(range));
        return;
    };
    for (committed, logged) in facts.committed.iter().zip(&facts.log.ranges) {
        audit.accepted.join(committed);
        let is_held = committed.first >= beginning && !overlaps(&facts.gaps, committed);
        if is_held && committed != logged {
            let what =
                format!("the log holds {}, the table covers {}", sum_text(logged), sum_text(committed));
            problems.add(committed.first, committed.last, what);
        }
    }
    if facts.table.is_some() {
        audit.before = facts.committed.first().map_or(beginning, |range| range.first.min(beginning));
        removed_against_commits(facts, beginning, problems);
    }
    for hole in &facts.log.holes {
        audit.accepted.join(hole);
        problems.add(hole.first, hole.last, format!("{} of the log are in no commit", records(hole.count)));
    }
    audit.accepted.join(&facts.log.tail);
    if facts.table.is_some() {
        audit.pending = facts.log.tail.count;
    }
}

/// What retention has removed, all before `beginning`, and what the log lost must be in a commit, from the first one that
/// there was.
fn removed_against_commits(facts: &Facts, beginning: u64, problems: &mut Problems<'_>) {
    let committed = facts.committed.as_slice();
    let Some(first) = committed.first() else { return };
    for (first, last) in gaps(first.first, committed, beginning) {
        problems.add(first, last, "the log no longer holds them and the table never did".to_owned());
    }
    for gap in &facts.gaps {
        for (first, last) in gaps(gap.beginning.max(first.first), committed, gap.end) {
            problems.add(first, last, "the log lost them and the table never had them".to_owned());
        }
    }
    // A range may be of many commits that are not known one by one any longer.
    let is_gone = |range: &&RangeSum| range.first < beginning || overlaps(&facts.gaps, range);
    for range in committed.iter().filter(is_gone) {
        let offsets = range.last.saturating_sub(range.first).saturating_add(1);
        let missing = offsets.saturating_sub(range.count);
        if missing > 0 {
            problems.add(range.first, range.last, format!("{} of these are in no commit", records(missing)));
        }
    }
}

fn commits_against_table(
    facts: &Facts,
    table: TableFacts,
    audit: &mut ShardAudit,
    problems: &mut Problems<'_>,
) {
    facts.committed.iter().for_each(|range| audit.cleaned.join(range));
    (audit.clean, audit.quarantined) = (table.clean, table.quarantined);
    let (first, last) = (audit.cleaned.first, audit.cleaned.last);
    if audit.cleaned.count != table.clean + table.quarantined {
        let (covered, clean, quarantined) = (records(audit.cleaned.count), table.clean, table.quarantined);
        let what = format!("{covered} are covered, of which {clean} are clean and {quarantined} quarantined");
        problems.add(first, last, what);
    }
    table.check_quarantine((first, last), problems);
}

impl StreamAudit {
    fn add(&mut self, shard: ShardAudit) {
        self.accepted += shard.accepted.count;
        self.clean += shard.clean;
        self.quarantined += shard.quarantined;
        self.pending += shard.pending;
        self.partitions.push(shard);
    }
}

#[cfg(test)]
mod tests {
    use super::super::balance::Tally;
    use super::*;

    fn sum(first: u64, last: u64) -> RangeSum {
        let mut sum = RangeSum::default();
        (first..=last).for_each(|offset| sum.add(offset, Some(b"x")));
        sum
    }

    fn cut(committed: &[RangeSum], offsets: impl IntoIterator<Item = u64>) -> LogCut {
        let mut tally = Tally::new(committed);
        offsets.into_iter().for_each(|offset| tally.add(offset, Some(b"x")));
        tally.finish()
    }

    /// 30 records in the log, 20 of them committed in two steps.
    fn facts() -> Facts {
        let committed = vec![sum(0, 9), sum(10, 19)];
        let table = TableFacts {
            first: 0,
            next: 20,
            clean: 18,
            quarantined: 2,
            hash: sum(0, 19).hash,
            quarantine_rows: 2,
        };
        let log = cut(&committed, 0..30);
        Facts { beginning: Some(0), gaps: Vec::new(), log, committed, table: Some(table) }
    }

    #[test]
    fn a_shard_where_all_agree_has_no_problem_and_tells_what_is_pending() {
        let (audit, problems) = balance(&TopicPartition::new("s-pin", 0), &facts());
        assert_eq!(problems, vec![]);
        assert_eq!((audit.accepted, audit.cleaned), (sum(0, 29), sum(0, 19)));
        assert_eq!((audit.clean, audit.quarantined, audit.pending), (18, 2, 10));
    }

    #[test]
    fn what_retention_removed_is_vouched_for_by_the_commits() {
        let mut facts = facts();
        facts.beginning = Some(15);
        facts.log = cut(&facts.committed, 15..30);
        let (audit, problems) = balance(&TopicPartition::new("s-pin", 0), &facts);
        assert_eq!(problems, vec![]);
        assert_eq!(audit.accepted, sum(0, 29));
    }

    /// A shard with these commits, of which retention has removed what lies before an offset.
    fn remove(facts: &mut Facts, committed: Vec<RangeSum>, beginning: u64) {
        facts.beginning = Some(beginning);
        facts.log = cut(&committed, beginning..30);
        facts.committed = committed;
    }

    #[test]
    fn a_stream_may_be_older_than_its_table_and_it_is_told_by_how_much() {
        let mut facts = facts();
        for (committed, beginning, before) in
            [(vec![sum(7, 19)], 15, 7), (vec![sum(7, 19)], 7, 7), (vec![sum(0, 19)], 15, 0), (vec![], 12, 12)]
        {
            remove(&mut facts, committed, beginning);
            let place = TopicPartition::new("s-pin", 0);
            let mut problems = Problems::of(&place);
            let mut audit = ShardAudit::default();
            log_against_commits(&facts, &mut audit, &mut problems);
            assert_eq!((audit.before, problems.found), (before, vec![]), "from {beginning} on");
        }
    }

    #[test]
    fn what_the_log_lost_is_vouched_for_by_the_commits_that_cover_it() {
        let mut facts = facts();
        facts.gaps = vec![OffsetRange { beginning: 15, end: 20 }];
        facts.log = cut(&facts.committed, (0..15).chain(20..30));
        let (audit, problems) = balance(&TopicPartition::new("s-pin", 0), &facts);
        assert_eq!((audit.accepted, problems), (sum(0, 29), vec![]));
        facts.gaps[0].end = 23;
        facts.log = cut(&facts.committed, (0..15).chain(23..30));
        let (_, problems) = balance(&TopicPartition::new("s-pin", 0), &facts);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].first, problems[0].last), (Some(20), Some(22)));
    }

    #[test]
    fn each_kind_of_loss_is_named_with_its_offsets() {
        type Damage = fn(&mut Facts);
        let cases: [(&str, Damage, (u64, u64)); 8] = [
            (
                "the log holds 9 records",
                |f| f.log = cut(&f.committed, (0..30).filter(|o| *o != 12)),
                (10, 19),
            ),
            ("the table covers 10 records with hash", |f| f.committed[1].hash ^= 1, (10, 19)),
            (
                "in no commit",
                |f| {
                    f.committed = vec![sum(0, 9), sum(12, 19)];
                    f.log = cut(&f.committed, 0..30);
                },
                (10, 11),
            ),
            (
                "the table never did",
                |f| {
                    f.beginning = Some(25);
                    f.log = cut(&f.committed, 25..30);
                },
                (20, 24),
            ),
            ("the table never did", |f| remove(f, vec![sum(0, 9), sum(13, 19)], 15), (10, 12)),
            (
                "3 records of these are in no commit",
                |f| {
                    let mut all = sum(0, 9);
                    all.join(&sum(13, 19));
                    remove(f, with_earlier(all, &[]), 15);
                },
                (0, 19),
            ),
            ("20 records are covered, of which 17", |f| f.table.as_mut().unwrap().clean = 17, (0, 19)),
            ("but it holds 1 record", |f| f.table.as_mut().unwrap().quarantine_rows = 1, (0, 19)),
        ];
        for (words, damage, offsets) in cases {
            let mut facts = facts();
            damage(&mut facts);
            let (_, problems) = balance(&TopicPartition::new("s-pin", 3), &facts);
            let found = problems.iter().find(|problem| problem.what.contains(words));
            let found = found.unwrap_or_else(|| panic!("{words}: {problems:?}"));
            assert_eq!((found.first.unwrap(), found.last.unwrap()), offsets, "{words}");
        }
    }

    #[test]
    fn commits_that_were_cleaned_up_are_the_whole_less_those_that_are_known() {
        let all = sum(0, 29);
        assert_eq!(with_earlier(all, &[]), [all]);
        assert_eq!(with_earlier(all, &[sum(10, 19), sum(20, 29)]), [sum(0, 9), sum(10, 19), sum(20, 29)]);
        assert_eq!(with_earlier(all, &[sum(0, 29)]), [all]);
        assert_eq!(with_earlier(all, &[sum(20, 29), sum(30, 39)]), [sum(0, 19), sum(20, 29)]);
    }
}
