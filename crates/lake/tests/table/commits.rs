//! Commits: once, in their place, or refused.

use arrow::array::{Array, AsArray};
use pinmill_lake::table::{CommitPlan, Committed, Table};
use pinmill_lake::{Error, Lake, RangeSum, RecordId, TopicPartition};
use rand::RngExt;

use crate::common::{Fault, FaultyStore};
use crate::support::{count, once, open, plan, plan_rows, read, rows_of, sum};

#[tokio::test]
async fn rows_positions_and_totals_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().join("my lake").to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    assert_eq!(table.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), None);
    let first = plan(&table, 0, None, 5, 10).await;
    assert!(matches!(table.commit(&first).await.unwrap(), Committed::Committed { version: 1, attempts: 1 }));
    let mut second = plan(&table, 0, Some(9), 10, 13).await;
    second.ranges[0].sum.join(&sum(13, 15));
    second.ranges[0].quarantined = 2;
    table.commit(&second).await.unwrap();

    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(table.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(14));
    assert_eq!(table.position(&TopicPartition::new("a.pin", 1)).await.unwrap(), None);
    let totals = table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].clone();
    assert_eq!((totals.sum, totals.latest), (sum(5, 15), sum(10, 15)));
    assert_eq!((totals.clean, totals.quarantined, totals.generation.as_deref()), (8, 2, Some("g1")));
    assert_eq!(count(&table, &lake).await, once(0, 5..13));
    let first_rows = read(&table, &lake).await.into_iter().find(|batch| batch.num_rows() == 5).unwrap();
    let titles = first_rows.column(1).as_string::<i32>();
    assert!(titles.is_null(1));
    assert_eq!(titles.value(2), "title 7, rather long");
    assert!(table.files().unwrap().iter().all(|file| file.file.as_ref().unwrap().is_file()));
    assert!(Table::open(&lake, "batch/other").await.unwrap().is_none());
}

#[tokio::test]
async fn the_same_position_with_other_records_is_refused_not_skipped() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let mut plan = plan(&table, 0, None, 0, 10).await;
    table.commit(&plan).await.unwrap();
    plan.ranges[0].sum.hash ^= 1;
    assert!(matches!(table.commit(&plan).await, Err(Error::Fenced { .. })));
}

#[tokio::test]
async fn a_topic_made_anew_stops_the_commit() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let first = plan(&table, 0, None, 0, 10).await;
    table.commit(&first).await.unwrap();
    let mut next = plan(&table, 0, Some(9), 10, 12).await;
    next.ranges[0].generation = Some("g2".into());
    let error = table.commit(&next).await.unwrap_err();
    assert!(matches!(&error, Error::Generation { .. }), "{error}");
}

#[tokio::test]
async fn a_plan_that_does_not_add_up_is_refused() {
    let lake = FaultyStore::new().lake();
    let mut table = open(&lake).await;
    let good = plan(&table, 0, None, 3, 10).await;
    let breakages: [fn(&mut CommitPlan); 7] = [
        |plan| plan.ranges[0].clean -= 1,
        |plan| plan.ranges[0].sum = RangeSum::default(),
        |plan| plan.ranges[0].after = Some(3),
        |plan| plan.ranges[0].sum.count = 99,
        |plan| plan.ranges[0].sum.last = u64::MAX,
        |plan| plan.ranges.push(plan.ranges[0].clone()),
        |plan| plan.files.clear(),
    ];
    for (index, breakage) in breakages.into_iter().enumerate() {
        let mut plan = good.clone();
        breakage(&mut plan);
        assert!(matches!(table.commit(&plan).await, Err(Error::TableLog { .. })), "breakage {index}");
    }
    assert_eq!(table.version(), 0);
    table.commit(&good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_other_batch_boundaries_after_any_crash_gives_each_row_once() {
    let mut random = pinmill_testkit::rng();
    for round in 0..100 {
        let store = FaultyStore::new();
        let lake = store.lake();
        const END: u64 = 40;
        loop {
            // A life of the process: it opens the table, goes on where the table is, and dies sooner or later.
            let mut table = open(&lake).await;
            let fault =
                [Fault::Refused, Fault::AnswerLost, Fault::AnswerLostThenExists][random.random_range(0..3)];
            store.fail("_delta_log/0", fault, random.random_range(0..3));
            for _ in 0..random.random_range(1..4) {
                let after = table.position(&TopicPartition::new("a.pin", 0)).await.unwrap();
                let first = after.map_or(0, |after| after + 1);
                if first == END {
                    break;
                }
                let end = END.min(first + random.random_range(1..25));
                let plan = plan(&table, 0, after, first, end).await;
                if random.random_bool(0.2) {
                    // Dies after the data files were written.
                    break;
                }
                table.commit(&plan).await.unwrap();
            }
            store.heal();
            if table.position(&TopicPartition::new("a.pin", 0)).await.unwrap() == Some(END - 1) {
                break;
            }
        }
        let mut table = open(&lake).await;
        assert_eq!(count(&table, &lake).await, once(0, 0..END as i64), "round {round}");
        assert_eq!(table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].sum, sum(0, END));
    }
}

/// A table with rows of two topics at the same offsets: of `b.pin` offset 3 is a row, and offset 4 was rejected.
async fn of_two_topics(lake: &Lake, named: bool) -> Table {
    let mut table = open(lake).await;
    let topic = |topic| Some(topic).filter(|_| named);
    let first = plan_rows(&table, &rows_of(topic("a.pin"), 0, 0..10), 0, None, 0, 10).await;
    table.commit(&first).await.unwrap();
    let mut other = plan_rows(&table, &rows_of(topic("b.pin"), 0, 3..4), 0, None, 3, 4).await;
    other.ranges[0].place.topic = "b.pin".into();
    other.ranges[0].sum.join(&sum(4, 5));
    other.ranges[0].quarantined = 1;
    table.commit(&other).await.unwrap();
    table
}

fn id(topic: &str, partition: u32, offset: u64) -> RecordId {
    RecordId::new(TopicPartition::new(topic, partition), offset)
}

#[tokio::test]
async fn a_table_tells_of_which_records_it_has_rows_by_topic_and_lineage() {
    let mut table = of_two_topics(&FaultyStore::new().lake(), true).await;
    let ids =
        [("a.pin", 3), ("b.pin", 3), ("a.pin", 4), ("b.pin", 4), ("a.pin", 5)].map(|(t, o)| id(t, 0, o));
    let [a3, b3, a4, _, a5] = ids.clone();
    assert_eq!(table.present(&ids).await.unwrap(), [a3.clone(), b3, a4, a5]);
    let later = RecordId { place: a3.place.in_lineage(1), ..a3 };
    assert_eq!(table.present(&[later, id("a.pin", 0, 10), id("a.pin", 1, 3)]).await.unwrap(), []);
    assert_eq!(table.present(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_row_of_0_1_that_may_be_another_topics_is_taken_for_nobodys() {
    let mut table = of_two_topics(&FaultyStore::new().lake(), false).await;
    let ids =
        [("a.pin", 3), ("b.pin", 3), ("a.pin", 4), ("b.pin", 4), ("a.pin", 5)].map(|(t, o)| id(t, 0, o));
    let [a3, b3, _, _, a5] = ids.clone();
    assert_eq!(table.present(&ids).await.unwrap(), [a3, b3, a5]);
}

#[tokio::test]
async fn positions_and_totals_live_on_in_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    for index in 0..52_u64 {
        let plan = plan(&table, 0, index.checked_sub(1), index, index + 1).await;
        table.commit(&plan).await.unwrap();
    }
    let log = dir.path().join("batch/pin/_delta_log");
    assert!(log.join("_last_checkpoint").is_file());
    for version in 0..45 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let mut fresh = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(fresh.position(&TopicPartition::new("a.pin", 0)).await.unwrap(), Some(51));
    assert_eq!(fresh.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].sum, sum(0, 52));
    assert_eq!(count(&fresh, &lake).await, once(0, 0..52));
}

/// Another Delta writer makes a checkpoint and takes away all commits behind it.
#[tokio::test]
async fn position_and_sequence_number_live_on_in_another_writers_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let mut table = open(&lake).await;
    let place = TopicPartition::new("a.pin", 0);
    assert_eq!(table.sequence(&place).await.unwrap(), None);
    let (first, second) = (
        "49590338271490256608559692538361571095921575989136588898",
        "49590338271490256608559692540925702759324208523137515618",
    );
    for (offset, sequence) in [(0_u64, first), (1, second)] {
        let mut plan = plan(&table, 0, offset.checked_sub(1), offset, offset + 1).await;
        plan.ranges[0].sequence = Some(sequence.parse().unwrap());
        table.commit(&plan).await.unwrap();
        assert_eq!(table.sequence(&place).await.unwrap().unwrap().to_string(), sequence);
    }
    let url = url::Url::from_directory_path(dir.path().join("batch/pin")).unwrap();
    let other = deltalake_core::open_table(url).await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&other, None).await.unwrap();
    for version in 0..=other.version().unwrap() {
        std::fs::remove_file(dir.path().join(format!("batch/pin/_delta_log/{version:020}.json"))).unwrap();
    }
    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    // The totals are gone with the commits, and say nothing of it.
    table.know_positions_of(&[&place]).await.unwrap();
    assert_eq!(table.position(&place).await.unwrap(), Some(1));
    assert_eq!(table.sequence(&place).await.unwrap().unwrap().to_string(), second);
    assert_eq!(table.history(1).await.unwrap(), []);
}
