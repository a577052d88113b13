//! What pinmill writes into a commit's `commitInfo`, under the key `pinmill`, and what all entries say together. Pure.
//!
//! An entry tells what its own commit did, and the totals of the partitions that it touched. So its size is that of its
//! commit, however many partitions the table has seen. The commit at which a checkpoint is made carries `all`: the totals of
//! every partition, and whatever else is still to be known ([`Books`]). Whoever opens a table reads entries backwards, down
//! to one with `all`. The log is cleaned up only behind a checkpoint, so the newest such entry is always there.
//!
//! Totals of a partition that its log has no longer ([`CommitPlan::retired`]) are kept for the table's history, and then
//! folded: added to one entry for all of them, without their names.
//!
//! Entries of version 1 (pinmill 0.1) carried all totals in every commit. They are read, and gone on from.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commit::Change;
use super::origin::TableVersion;
use super::plan::{CommitPlan, CoveredRange, FoldedTotals, PartitionTotals, Totals, advance};
use crate::RecordId;

/// The key in `commitInfo`.
pub(super) const KEY: &str = "pinmill";
const VERSION: u32 = 2;
/// The version of pinmill 0.1, whose `totals` are all totals.
const VERSION_1: u32 = 1;

/// One commit's entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    version: u32,
    /// Made anew for every commit: by it a commit whose answer was lost is known again.
    pub(super) commit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ranges: Vec<CoveredRange>,
    /// Of the partitions that this commit touched; in version 1 of all.
    totals: Vec<PartitionTotals>,
    /// Of all partitions, where a checkpoint is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Vec<PartitionTotals>>,
    /// Beside `all`: partitions that are gone.
    #[serde(default, skip_serializing_if = "FoldedTotals::is_empty")]
    folded: FoldedTotals,
    /// Beside `all`: earlier replays whose records may still be in quarantine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pending: Pending,
    /// Records that this commit took over from the quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replayed: Vec<RecordId>,
    /// Replays, by their commits, whose records are gone from the quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    settled: Vec<String>,
    /// What the rows were computed from: of this commit, and beside `all` of the latest one that said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    from: Vec<TableVersion>,
    /// The commit begins a vacuum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vacuum: Option<VacuumNote>,
}

/// Records by the commit of the replay that took them.
type Pending = BTreeMap<String, Vec<RecordId>>;

/// What the first commit of a vacuum says to those whose files wait for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VacuumNote {
    /// Files that no commit named and that are not younger than this may be gone: milliseconds since the Unix epoch, by
    /// the store.
    pub(super) before: i64,
}

impl Entry {
    pub(super) fn to_value(&self) -> Result<Value, String> {
        serde_json::to_value(self).map_err(|e| e.to_string())
    }

    pub(super) fn from_value(value: &Value) -> Result<Self, String> {
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) || version == u64::from(VERSION_1) => {
                Self::deserialize(value).map_err(|e| format!("commitInfo.{KEY}: {e}"))
            }
            Some(other) => Err(format!(
                "commitInfo.{KEY} has version {other}; this pinmill knows {VERSION_1} and {VERSION}"
            )),
            None => Err(format!("commitInfo.{KEY} has no version")),
        }
    }

    /// Nothing before it need be known.
    pub(super) fn is_whole(&self) -> bool {
        self.version == VERSION_1 || self.all.is_some()
    }
}

/// What the entries of all commits say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) totals: Totals,
    pub(super) folded: FoldedTotals,
    pub(super) pending: Pending,
    /// What the table's rows were computed from.
    pub(super) from: Vec<TableVersion>,
    /// The version of the newest entry that nothing before need be known of.
    whole_at: Option<u64>,
    /// Entries that were to be known are gone: another Delta writer has cleaned up behind its own checkpoint.
    pub(super) lacks_some: bool,
}

/// Where and when an entry is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The version that it is to be.
    pub(super) version: u64,
    /// A checkpoint is due after this many versions.
    pub(super) checkpoint_interval: u64,
    /// The time, in milliseconds since the Unix epoch.
    pub(super) now_ms: i64,
    /// How long totals of retired partitions are kept, in milliseconds.
    pub(super) history_ms: i64,
}

impl Books {
    /// What entries say that were read backwards, each with its version. `lacks_some`: there were more, and they are gone.
    pub(super) fn of(newest_first: &[(u64, Entry)], lacks_some: bool) -> Self {
        let mut books = Self { lacks_some, ..Self::default() };
        newest_first.iter().rev().for_each(|(version, entry)| books.apply(*version, entry));
        books
    }

    /// What is known after one more entry.
    pub(super) fn apply(&mut self, version: u64, entry: &Entry) {
        if entry.is_whole() {
            let all = entry.all.as_ref().unwrap_or(&entry.totals);
            self.totals = all.iter().map(|totals| (totals.place.clone(), totals.clone())).collect();
            self.folded = entry.folded;
            self.pending = entry.pending.clone();
            self.whole_at = Some(version);
            self.lacks_some = false;
        } else {
            let touched = entry.totals.iter().map(|totals| (totals.place.clone(), totals.clone()));
            self.totals.extend(touched);
        }
        if !entry.replayed.is_empty() {
            self.pending.insert(entry.commit.clone(), entry.replayed.clone());
        }
        for commit in &entry.settled {
            self.pending.remove(commit);
        }
        if !entry.from.is_empty() {
            self.from.clone_from(&entry.from);
        }
    }

    /// Records of replays that may still be in quarantine.
    pub(super) fn replayed(&self) -> Vec<RecordId> {
        self.pending.values().flatten().cloned().collect()
    }

    /// The entry of a commit that comes next.
    pub(super) fn next(&self, plan: &CommitPlan, change: &Change, commit: String, at: Moment) -> Entry {
        let touched = advance(&self.totals, plan, at.now_ms);
        let mut entry = Entry {
            version: VERSION,
            commit,
            run: plan.run.clone(),
            ranges: plan.ranges.clone(),
            totals: touched.values().cloned().collect(),
            replayed: plan.replayed.clone(),
            settled: self.settled(plan),
            from: change.from.clone(),
            vacuum: change.vacuum_before_ms.map(|before| VacuumNote { before }),
            ..Entry::default()
        };
        if self.is_due(at) {
            self.close(&mut entry, touched, at);
        }
        entry
    }

    /// A checkpoint comes at every so many versions, and where others took those.
    fn is_due(&self, at: Moment) -> bool {
        let interval = at.checkpoint_interval.max(1);
        (at.version + 1).is_multiple_of(interval)
            || at.version - self.whole_at.unwrap_or(0).min(at.version) >= interval
    }

    /// Has an entry carry all that is to be known.
    fn close(&self, entry: &mut Entry, touched: Totals, at: Moment) {
        let mut all = self.totals.clone();
        all.extend(touched);
        entry.folded = self.folded;
        let is_over = |retired_ms: i64| at.now_ms.saturating_sub(retired_ms) >= at.history_ms;
        all.retain(|_, totals| {
            let is_folded = totals.retired_ms.is_some_and(is_over);
            if is_folded {
                entry.folded.add(totals);
            }
            !is_folded
        });
        entry.all = Some(all.into_values().collect());
        entry.pending = self.pending.clone();
        entry.pending.retain(|commit, _| !entry.settled.contains(commit));
        if entry.from.is_empty() {
            entry.from.clone_from(&self.from);
        }
    }

    /// The replays whose records the plan says are all gone from the quarantine.
    fn settled(&self, plan: &CommitPlan) -> Vec<String> {
        if plan.settled.is_empty() {
            return Vec::new();
        }
        let gone: HashSet<&RecordId> = plan.settled.iter().collect();
        let settled = self.pending.iter().filter(|(_, records)| records.iter().all(|id| gone.contains(id)));
        settled.map(|(commit, _)| commit.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use deltalake_core::protocol::SaveMode;
    use serde_json::json;

    use super::super::commit::written;
    use super::*;
    use crate::{RangeSum, TopicPartition};

    fn at(version: u64, now_ms: i64) -> Moment {
        Moment { version, checkpoint_interval: 50, now_ms, history_ms: 100_000 }
    }

    fn range(topic: &str, first: u64, after: Option<u64>) -> CoveredRange {
        CoveredRange {
            place: TopicPartition::new(topic, 0),
            generation: None,
            after,
            sum: RangeSum { first, last: first, count: 1, hash: 7 },
            clean: 1,
            quarantined: 0,
            rows: Some(first),
            lost: Vec::new(),
            sequence: None,
        }
    }

    /// One more commit, as the log has it.
    fn commit(books: &mut Books, plan: &CommitPlan, at: Moment) -> Value {
        let change = Change::from(written(SaveMode::Append));
        let value = books.next(plan, &change, format!("commit {}", at.version), at).to_value().unwrap();
        books.apply(at.version, &Entry::from_value(&value).unwrap());
        value
    }

    /// What somebody knows who opens the table now.
    fn reopened(log: &[Value]) -> (Books, usize) {
        let entries: Vec<Entry> = log.iter().map(|value| Entry::from_value(value).unwrap()).collect();
        let whole = entries.iter().rposition(Entry::is_whole).unwrap_or(0);
        let mut books = Books::default();
        let read = entries.iter().enumerate().skip(whole);
        read.for_each(|(version, entry)| books.apply(version as u64, entry));
        (books, entries.len() - whole)
    }

    #[test]
    fn thousands_of_streams_made_and_deleted_leave_small_commits_and_little_to_remember() {
        const NAMES: u64 = 3000;
        let (mut books, mut log) = (Books::default(), Vec::new());
        for n in 0..NAMES {
            // The one before has been deleted; once a minute of the clock there is one more.
            let retired = n.checked_sub(1).map(|n| TopicPartition::new(format!("stream {n}"), 0));
            let plan = CommitPlan {
                ranges: vec![range(&format!("stream {n}"), 0, None)],
                retired: retired.into_iter().collect(),
                ..CommitPlan::default()
            };
            let entry = commit(&mut books, &plan, at(n, n as i64 * 1000));
            let (size, is_whole) = (entry.to_string().len(), entry.get("all").is_some());
            assert!(size < if is_whole { 60_000 } else { 1500 }, "{size} bytes in commit {n}");
            assert!(books.totals.len() <= 152, "{} partitions after commit {n}", books.totals.len());
            log.push(entry);
        }
        let (again, read) = reopened(&log);
        assert_eq!(again, books);
        assert!(read <= 50, "{read} entries are read");
        let known = books.totals.len() as u64;
        let folded = NAMES - known;
        assert_eq!(
            books.folded,
            FoldedTotals { partitions: folded, count: folded, clean: folded, quarantined: 0 }
        );
        let newest = &books.totals[&TopicPartition::new("stream 2999", 0)];
        assert_eq!((newest.sum.count, newest.retired_ms), (1, None));
    }

    #[test]
    fn a_partition_that_comes_back_in_time_is_not_folded() {
        let mut books = Books::default();
        let plan = |range: Option<CoveredRange>, retired: &[&str]| CommitPlan {
            ranges: range.into_iter().collect(),
            retired: retired.iter().map(|topic| TopicPartition::new(*topic, 0)).collect(),
            ..CommitPlan::default()
        };
        commit(&mut books, &plan(Some(range("a", 0, None)), &[]), at(1, 0));
        commit(&mut books, &plan(None, &["a", "never seen"]), at(2, 1));
        commit(&mut books, &plan(Some(range("a", 1, Some(0))), &["a"]), at(3, 2));
        commit(&mut books, &plan(None, &[]), at(49, 1_000_000));
        assert_eq!((books.totals.len(), books.folded), (1, FoldedTotals::default()));
        commit(&mut books, &plan(None, &["a"]), at(50, 1_000_000));
        commit(&mut books, &plan(None, &[]), at(99, 1_099_999));
        assert_eq!(books.totals.len(), 1, "its history is not over");
        commit(&mut books, &plan(None, &[]), at(149, 1_100_000));
        assert_eq!((books.totals.len(), books.folded.count), (0, 2));
    }

    #[test]
    fn entries_of_version_1_are_read_and_gone_on_from() {
        let totals = json!({"topic":"a","partition":0,"first":0,"last":9,"count":10,"hash":"000000000000002a","clean":8,
            "quarantined":2,"latest":{"first":5,"last":9,"count":5,"hash":"0000000000000001"}});
        let other = json!({"topic":"b","partition":3,"generation":"g","first":4,"last":4,"count":1,
            "hash":"0000000000000001","clean":1,"quarantined":0,
            "latest":{"first":4,"last":4,"count":1,"hash":"0000000000000001"}});
        let replayed = json!([{"topic":"a","partition":0,"offset":3}]);
        let old = json!({"version":1,"commit":"old","run":"r","totals":[totals, other],"replayed":replayed});
        let mut books = Books::default();
        books.apply(7, &Entry::from_value(&old).unwrap());
        let id = RecordId::new(TopicPartition::new("a", 0), 3);
        assert_eq!((books.totals.len(), books.replayed()), (2, vec![id.clone()]));

        let plan =
            CommitPlan { ranges: vec![range("a", 10, Some(9))], settled: vec![id], ..CommitPlan::default() };
        let entry = commit(&mut books, &plan, at(8, 0));
        assert_eq!((&entry["version"], entry["totals"].as_array().unwrap().len()), (&json!(2), 1));
        assert_eq!((&entry["totals"][0]["count"], &entry["settled"]), (&json!(11), &json!(["old"])));
        // Of the rows that 0.1 wrote no hash is known.
        assert_eq!(entry["totals"][0]["rows"], json!({"from":10,"hash":"000000000000000a"}));
        assert_eq!((books.totals.len(), books.replayed()), (2, vec![]));
        let (again, read) = reopened(&[old, entry]);
        assert_eq!((again.totals, read), (books.totals, 2));
    }

    #[test]
    fn replayed_records_stand_in_their_own_commit_and_in_whole_entries_until_they_are_settled() {
        let ids: Vec<RecordId> = (0..3).map(|n| RecordId::new(TopicPartition::new("a", 0), n)).collect();
        let mut books = Books::default();
        let replay = CommitPlan { replayed: ids.clone(), ..CommitPlan::default() };
        let mut log = vec![commit(&mut books, &replay, at(0, 0))];
        for version in 1..49 {
            let entry = commit(&mut books, &CommitPlan::default(), at(version, 0));
            assert_eq!(
                (&entry["replayed"], &entry["pending"]),
                (&Value::Null, &Value::Null),
                "version {version}"
            );
            log.push(entry);
        }
        assert_eq!(reopened(&log).0.replayed(), ids);
        log.push(commit(&mut books, &CommitPlan::default(), at(49, 0)));
        assert_eq!((reopened(&log).0.replayed(), reopened(&log).1), (ids.clone(), 1));
        // A part of them is not all of them.
        let part = CommitPlan { settled: ids[..2].to_vec(), ..CommitPlan::default() };
        log.push(commit(&mut books, &part, at(50, 0)));
        assert_eq!(reopened(&log).0.replayed(), ids);
        log.push(commit(&mut books, &CommitPlan { settled: ids, ..CommitPlan::default() }, at(51, 0)));
        assert_eq!((reopened(&log).0.replayed(), books.replayed()), (vec![], vec![]));
    }

    #[test]
    fn an_entry_of_a_newer_pinmill_is_refused_in_one_clear_line() {
        let newer = json!({"version":3,"something":"else"});
        let why = Entry::from_value(&newer).unwrap_err();
        assert_eq!(why, "commitInfo.pinmill has version 3; this pinmill knows 1 and 2");
        assert!(Entry::from_value(&json!({"commit":"c"})).is_err());
    }
}
