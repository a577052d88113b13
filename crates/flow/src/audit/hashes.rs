//! Are the rows of a table still those that were committed? Each commit notes the hash of its rows; here it is computed again
//! from the files.

use std::collections::BTreeMap;

use pinmill_lake::TopicPartition;
use pinmill_lake::table::{PartitionTotals, RowsHash, Table, Totals};

use super::balance::Problem;
use crate::Result;

/// What is off with a table's rows, and the ranges whose rows have no hash to compare with.
pub(super) async fn compare(
    dataset: &str,
    table: &Table,
    totals: &Totals,
) -> Result<(Vec<Problem>, Vec<String>)> {
    let known = |totals: &PartitionTotals| Some((totals.place.clone(), totals.rows?.from));
    let from: BTreeMap<TopicPartition, u64> = totals.values().filter_map(known).collect();
    let found = table.row_sums(&from).await?;
    Ok((differing(dataset, totals, &found), without_hash(dataset, totals)))
}

fn differing(dataset: &str, totals: &Totals, found: &BTreeMap<TopicPartition, u64>) -> Vec<Problem> {
    let problem = |totals: &PartitionTotals| {
        let RowsHash { from, hash } = totals.rows?;
        let found = found.get(&totals.place).copied().unwrap_or_default();
        let what = || {
            format!(
                "table {dataset} does not hold the rows that were committed: hash {found:016x} there, {hash:016x} in \
                 its commits"
            )
        };
        (found != hash).then(|| Problem::at(&totals.place, (from, totals.sum.last), what()))
    };
    totals.values().filter_map(problem).collect()
}

/// Ranges that pinmill 0.1 committed.
fn without_hash(dataset: &str, totals: &Totals) -> Vec<String> {
    let range = |totals: &PartitionTotals| {
        let last = match totals.rows {
            Some(RowsHash { from, .. }) => from.checked_sub(1)?,
            None => totals.sum.last,
        };
        let PartitionTotals { place, sum, .. } = totals;
        let is_some = !sum.is_empty() && sum.first <= last && totals.clean > 0;
        is_some.then(|| format!("{place} offsets {} to {last} in table {dataset}", sum.first))
    };
    totals.values().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use pinmill_lake::RangeSum;

    use super::*;

    fn totals(rows: Option<RowsHash>) -> Totals {
        let place = TopicPartition::new("a.pin", 0);
        let sum = RangeSum { first: 3, last: 9, count: 7, hash: 1 };
        let entry =
            PartitionTotals { sum, clean: 7, latest: sum, rows, ..PartitionTotals::new(place.clone()) };
        Totals::from([(place, entry)])
    }

    #[test]
    fn rows_that_are_not_those_of_the_commits_are_a_problem_and_rows_without_a_hash_are_named() {
        let known = totals(Some(RowsHash { from: 3, hash: 42 }));
        let found = |hash| BTreeMap::from([(TopicPartition::new("a.pin", 0), hash)]);
        assert_eq!((differing("pin", &known, &found(42)), without_hash("pin", &known)), (vec![], vec![]));
        let problems = differing("pin", &known, &found(41));
        assert_eq!((problems[0].first, problems[0].last), (Some(3), Some(9)));
        assert!(problems[0].what.contains("hash 0000000000000029 there"), "{problems:?}");
        let partly = totals(Some(RowsHash { from: 6, hash: 42 }));
        assert_eq!(without_hash("pin", &partly), ["a.pin/0 offsets 3 to 5 in table pin"]);
        assert_eq!(differing("pin", &totals(None), &found(0)), []);
        assert_eq!(without_hash("pin", &totals(None)), ["a.pin/0 offsets 3 to 9 in table pin"]);
    }
}
