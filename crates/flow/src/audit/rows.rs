//! The rows that a table really holds, against what its commits say of it.
//!
//! A row names the record that it was made of: topic, lineage, partition, offset and sub. Rows of 0.1 name no topic. They
//! are those of the topic that the table says ([`Table::unnamed_topic`]); where it was loaded from several, they can
//! only be counted for all of them together.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;
use pinmill_engine::Engine;
use pinmill_lake::TopicPartition;
use pinmill_lake::table::{FoldedTotals, PartitionTotals, Table, Totals};
use pinmill_pipeline::Dataset;

use super::balance::Problem;
use super::facts::NAMED;
use crate::{Error, Result};

/// Some rows of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    /// `None`: of whichever topic.
    topic: Option<String>,
    lineage: u32,
    partition: u32,
    /// Where the rows are of one offset.
    offset: Option<u64>,
    rows: u64,
}

impl Counted {
    fn place(&self) -> Option<TopicPartition> {
        let Self { topic, lineage, partition, .. } = self;
        Some(TopicPartition::new(topic.clone()?, *partition).in_lineage(*lineage))
    }
}

/// What is off with a dataset's rows, which the engine has under the dataset's name.
pub(super) async fn problems(
    engine: &dyn Engine,
    dataset: &Dataset,
    table: &mut Table,
    totals: &Totals,
) -> Result<Vec<Problem>> {
    let folded = table.folded().await?;
    let table = &*table;
    let has = |name: &str| table.schema().field_with_name(name).is_ok();
    let or_null = |name: &'static str, or: &'static str| if has(name) { name } else { or };
    let place = format!(
        "{} AS t, CAST({} AS BIGINT) AS l, CAST(_partition AS BIGINT) AS p",
        or_null("_topic", "CAST(NULL AS STRING)"),
        or_null("_lineage", "NULL")
    );
    let sub = or_null("_sub", "NULL");
    let view = dataset.all_view();
    let name = |mut counted: Counted| {
        counted.topic = counted.topic.or_else(|| table.unnamed_topic().map(str::to_owned));
        counted
    };
    let query = format!(
        "SELECT t, l, p, CAST(NULL AS BIGINT) AS o, count(*) AS n FROM (SELECT {place} FROM `{view}`) \
         GROUP BY t, l, p"
    );
    let counted = count(engine, &query).await?.into_iter().map(name).collect::<Vec<_>>();
    let mut problems = miscounted(&dataset.name, &counted, totals, &folded);
    let query = format!(
        "SELECT t, l, p, o, count(*) AS n FROM \
         (SELECT {place}, _offset AS o, CAST({sub} AS BIGINT) AS s FROM `{view}`) \
         GROUP BY t, l, p, o, s HAVING count(*) > 1"
    );
    let counted = count(engine, &query).await?.into_iter().map(name).collect::<Vec<_>>();
    problems.extend(repeated(&dataset.name, &counted, totals));
    Ok(problems)
}

/// Runs a query for topic, lineage, partition, offset and number of rows.
async fn count(engine: &dyn Engine, query: &str) -> Result<Vec<Counted>> {
    let mut batches = engine.query(query).await?.batches;
    let mut all = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        all.extend(
            counted(&batch).map_err(|error| Error::Internal(format!("rows were miscounted: {error}")))?,
        );
    }
    Ok(all)
}

fn counted(batch: &RecordBatch) -> Result<Vec<Counted>, arrow::error::ArrowError> {
    let topics = cast(batch.column(0), &DataType::Utf8)?;
    let topics = topics.as_string::<i32>();
    let number = |column: usize, row: usize| {
        let column = batch.column(column).as_primitive_opt::<Int64Type>()?;
        column.is_valid(row).then(|| u64::try_from(column.value(row)).ok()).flatten()
    };
    let small = |column, row| number(column, row).and_then(|number| u32::try_from(number).ok());
    let counted = |row| Counted {
        topic: topics.is_valid(row).then(|| topics.value(row).to_owned()),
        lineage: small(1, row).unwrap_or_default(),
        partition: small(2, row).unwrap_or_default(),
        offset: number(3, row),
        rows: number(4, row).unwrap_or_default(),
    };
    Ok((0..batch.num_rows()).map(counted).collect())
}

/// Rows of each partition, against what the commits say.
fn miscounted(dataset: &str, counted: &[Counted], totals: &Totals, folded: &FoldedTotals) -> Vec<Problem> {
    let (mut named, mut nameless) = (BTreeMap::<TopicPartition, u64>::new(), BTreeMap::<u32, u64>::new());
    // Partitions that are gone for long are counted together.
    let (gone, counted): (Vec<&Counted>, Vec<&Counted>) = counted.iter().partition(|counted| {
        !folded.is_empty() && counted.place().is_some_and(|place| !totals.contains_key(&place))
    });
    for counted in counted {
        match counted.place() {
            Some(place) => *named.entry(place).or_default() += counted.rows,
            None => *nameless.entry(counted.partition).or_default() += counted.rows,
        }
    }
    let what =
        |is, should| format!("table {dataset} holds {is} rows of the partition, its commits count {should}");
    let places: BTreeSet<&TopicPartition> = named.keys().chain(totals.keys()).collect();
    let is = |place: &TopicPartition| named.get(place).copied().unwrap_or_default();
    let should = |place: &TopicPartition| totals.get(place).map_or(0, |totals| totals.clean);
    // A first life that rows without a topic may be of.
    let may_be_more = |place: &TopicPartition| place.lineage == 0 && nameless.contains_key(&place.partition);
    let mut problems = Vec::new();
    let rows_of_gone: u64 = gone.iter().map(|counted| counted.rows).sum();
    if rows_of_gone != folded.clean {
        let what = format!(
            "table {dataset} holds {rows_of_gone} rows of partitions that are gone, its commits count {}",
            folded.clean
        );
        problems.push(Problem::of(dataset, what));
    }
    for place in places.iter().filter(|place| !may_be_more(place)) {
        let (is, should) = (is(place), should(place));
        if is != should {
            problems.push(Problem::at(place, None, what(is, should)));
        }
    }
    for (&partition, rows) in &nameless {
        let all = || places.iter().filter(|place| place.lineage == 0 && place.partition == partition);
        let is = rows + all().map(|place| is(place)).sum::<u64>();
        let should = all().map(|place| should(place)).sum::<u64>();
        if is != should {
            let topics: Vec<&str> = all().map(|place| place.topic.as_str()).collect();
            let place = TopicPartition::new(topics.join(", "), partition);
            problems.push(Problem::at(&place, None, what(is, should)));
        }
    }
    problems
}

/// Records that have more than one row.
fn repeated(dataset: &str, counted: &[Counted], totals: &Totals) -> Vec<Problem> {
    let problem = |counted: &Counted| {
        let Counted { partition, rows, .. } = *counted;
        let offset = counted.offset.unwrap_or_default();
        let place = match counted.place() {
            Some(place) => place,
            None => {
                let holds = |of: &&PartitionTotals| {
                    let (place, sum) = (&of.place, &of.sum);
                    place.lineage == 0
                        && place.partition == partition
                        && (sum.first..=sum.last).contains(&offset)
                };
                let topics: Vec<&str> =
                    totals.values().filter(holds).map(|of| of.place.topic.as_str()).collect();
                if rows <= topics.len() as u64 {
                    return None;
                }
                TopicPartition::new(topics.join(", "), partition)
            }
        };
        let what = format!("table {dataset} holds {rows} rows of it");
        Some(Problem::at(&place, (offset, offset), what))
    };
    counted.iter().filter_map(problem).take(NAMED).collect()
}

#[cfg(test)]
mod tests {
    use pinmill_lake::RangeSum;

    use super::*;

    fn totals(of: &[(&str, u32, u64)]) -> Totals {
        let entry = |&(topic, lineage, clean): &(&str, u32, u64)| {
            let place = TopicPartition::new(topic, 0).in_lineage(lineage);
            let sum = RangeSum { first: 0, last: clean - 1, count: clean, hash: 0 };
            let totals = PartitionTotals { sum, clean, latest: sum, ..PartitionTotals::new(place.clone()) };
            (place, totals)
        };
        of.iter().map(entry).collect()
    }

    fn rows(topic: Option<&str>, lineage: u32, offset: Option<u64>, rows: u64) -> Counted {
        Counted { topic: topic.map(str::to_owned), lineage, partition: 0, offset, rows }
    }

    #[test]
    fn each_life_of_each_topic_must_have_the_rows_that_its_commits_count() {
        let totals = totals(&[("a", 0, 5), ("a", 1, 3), ("b", 0, 4)]);
        let right = [rows(Some("a"), 0, None, 5), rows(Some("a"), 1, None, 3), rows(Some("b"), 0, None, 4)];
        assert_eq!(miscounted("pin", &right, &totals, &FoldedTotals::default()), []);
        // One row of one life instead of the other: the sum is right, and it is found.
        let wrong = [rows(Some("a"), 0, None, 6), rows(Some("a"), 1, None, 2), rows(Some("b"), 0, None, 4)];
        let found: Vec<String> = miscounted("pin", &wrong, &totals, &FoldedTotals::default())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "a/0: table pin holds 6 rows of the partition, its commits count 5",
                "a~1/0: table pin holds 2 rows of the partition, its commits count 3"
            ]
        );
        assert_eq!(miscounted("pin", &[], &totals, &FoldedTotals::default()).len(), 3, "all rows are gone");
        assert_eq!(
            miscounted("pin", &[rows(Some("c"), 0, None, 1)], &Totals::new(), &FoldedTotals::default()).len(),
            1
        );
    }

    #[test]
    fn rows_of_partitions_that_are_gone_are_counted_together() {
        let totals = totals(&[("a", 0, 5)]);
        let folded = FoldedTotals { partitions: 2, count: 9, clean: 7, quarantined: 2 };
        let of =
            |b, c| [rows(Some("a"), 0, None, 5), rows(Some("b"), 0, None, b), rows(Some("c"), 0, None, c)];
        assert_eq!(miscounted("pin", &of(4, 3), &totals, &folded), []);
        let problems = miscounted("pin", &of(4, 2), &totals, &folded);
        assert!(problems[0].what.contains("holds 6 rows of partitions that are gone"), "{problems:?}");
    }

    #[test]
    fn rows_of_0_1_are_counted_for_all_topics_together() {
        let totals = totals(&[("a", 0, 5), ("a", 1, 3), ("b", 0, 4)]);
        let of = |nameless, life| {
            [rows(None, 0, None, nameless), rows(Some("b"), 0, None, 2), rows(Some("a"), 1, None, life)]
        };
        assert_eq!(miscounted("pin", &of(7, 3), &totals, &FoldedTotals::default()), []);
        assert_eq!(
            miscounted("pin", &of(8, 3), &totals, &FoldedTotals::default())[0].to_string(),
            "a, b/0: table pin holds 10 rows of the partition, its commits count 9"
        );
        assert_eq!(miscounted("pin", &of(7, 2), &totals, &FoldedTotals::default()).len(), 1);
    }

    #[test]
    fn a_record_has_one_row_and_a_place_without_a_topic_one_for_each_topic_that_has_it() {
        let totals = totals(&[("a", 0, 5), ("b", 0, 4)]);
        let found = |topic, offset| repeated("pin", &[rows(topic, 0, Some(offset), 2)], &totals);
        assert_eq!(found(Some("a"), 1)[0].to_string(), "a/0 offsets 1 to 1: table pin holds 2 rows of it");
        assert_eq!(found(None, 3), []);
        assert_eq!(found(None, 4)[0].to_string(), "a/0 offsets 4 to 4: table pin holds 2 rows of it");
        let many: Vec<Counted> = (0..50).map(|offset| rows(Some("a"), 0, Some(offset), 2)).collect();
        assert_eq!(repeated("pin", &many, &totals).len(), NAMED);
    }
}
