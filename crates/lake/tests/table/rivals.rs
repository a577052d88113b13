//! Several writers of one table: of the same records one lands, of different ones all.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use pinmill_lake::table::Committed;
use pinmill_lake::{Error, TopicPartition};
use rand::RngExt;

use crate::common::{Fault, FaultyStore};
use crate::support::{count, once, open, plan, sum};

#[tokio::test]
async fn a_second_writer_is_fenced_and_the_same_work_is_not_done_twice() {
    let lake = FaultyStore::new().lake();
    let (mut one, mut zombie) = (open(&lake).await, open(&lake).await);
    let [ours, same, longer] = [
        plan(&one, 0, None, 0, 10).await,
        plan(&zombie, 0, None, 0, 10).await,
        plan(&zombie, 0, None, 0, 15).await,
    ];
    one.commit(&ours).await.unwrap();
    let error = zombie.commit(&longer).await.unwrap_err();
    assert!(matches!(&error, Error::Fenced { place, .. } if place.partition == 0), "{error}");
    assert!(error.to_string().contains("was to be at nothing covered and is at offset 9"), "{error}");
    assert_eq!(zombie.commit(&same).await.unwrap(), Committed::AlreadyCommitted);
    assert_eq!(count(&zombie, &lake).await, once(0, 0..10));
}

/// Two processes that each take themselves for the only one read the same version, and their puts are made at the same
/// moment: the store lets none of them go on before both are there.
#[tokio::test(start_paused = true)]
async fn of_two_that_commit_the_same_version_at_the_same_moment_one_lands_and_the_other_is_fenced() {
    const ROUNDS: u64 = 50;
    let mut random = pinmill_testkit::rng();
    let store = FaultyStore::new();
    let lake = store.lake();
    let (mut one, mut zombie) = (open(&lake).await, open(&lake).await);
    let mut next = 0_u64;
    for round in 0..ROUNDS {
        assert_eq!((one.version(), zombie.version()), (round, round), "both have read the same version");
        // The same records, cut elsewhere.
        let mut ends = [next + random.random_range(1..5), next + random.random_range(5..9)];
        if random.random_bool(0.5) {
            ends.reverse();
        }
        let after = next.checked_sub(1);
        let plans = [plan(&one, 0, after, next, ends[0]).await, plan(&zombie, 0, after, next, ends[1]).await];
        store.fail("_delta_log/0", Fault::Together, 2);
        let (landed, fenced, end) = match tokio::join!(one.commit(&plans[0]), zombie.commit(&plans[1])) {
            (Ok(landed), Err(fenced)) => (landed, fenced, ends[0]),
            (Err(fenced), Ok(landed)) => (landed, fenced, ends[1]),
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(landed, Committed::Committed { version: round + 1, attempts: 1 }, "round {round}");
        assert!(
            matches!(&fenced, Error::Fenced { place, .. } if place.partition == 0),
            "round {round}: {fenced}"
        );
        let found = format!("and is at offset {}", end - 1);
        let words = fenced.to_string();
        assert!(words.contains("batch/pin: another writer is at work on a.pin/0"), "{words}");
        assert!(words.ends_with(&found), "`{found}` is missing from: {words}");
        assert!(fenced.hint().is_some(), "{words}");
        next = end;
    }
    assert_eq!(store.faults.load(Ordering::Relaxed), 2 * ROUNDS, "both were at their put in every round");
    assert_eq!(store.deletes.load(Ordering::Relaxed), 0, "no data file is deleted");
    let mut table = open(&lake).await;
    assert_eq!(table.version(), ROUNDS);
    assert_eq!(count(&table, &lake).await, once(0, 0..next as i64));
    assert_eq!(table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].sum, sum(0, next));
}

/// The number of commits is each writer's; `PINMILL_COMMITS=1000` is the long form.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_writers_of_different_partitions_all_land() {
    const WRITERS: u32 = 16;
    let commits = pinmill_testkit::count("PINMILL_COMMITS", 15) as u64;
    let lake = FaultyStore::new().lake();
    open(&lake).await;
    let writers = (0..WRITERS).map(|partition| {
        let lake = lake.clone();
        tokio::spawn(async move {
            let mut table = open(&lake).await;
            for index in 0..commits {
                let plan = plan(&table, partition, index.checked_sub(1), index, index + 1).await;
                // Giving up is allowed when others are always quicker; then it is tried again.
                while let Err(error) = table.commit(&plan).await {
                    assert!(matches!(error, Error::Contention { .. }), "{error}");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut table = open(&lake).await;
    let all: BTreeMap<_, _> =
        (0..WRITERS as i32).flat_map(|partition| once(partition, 0..commits as i64)).collect();
    assert_eq!(count(&table, &lake).await, all);
    let totals = table.totals().await.unwrap();
    let covered: BTreeMap<u32, _> =
        totals.values().map(|totals| (totals.place.partition, totals.sum)).collect();
    assert_eq!(covered, (0..WRITERS).map(|partition| (partition, sum(0, commits))).collect());
    assert_eq!(table.version(), u64::from(WRITERS) * commits, "one commit for each");
}
