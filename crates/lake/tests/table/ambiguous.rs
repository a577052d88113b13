//! Puts whose answer does not say what became of them: each commit is in the table once, whatever the store said.

use std::sync::atomic::Ordering;

use pinmill_lake::table::{Committed, Table};
use pinmill_lake::{Error, TopicPartition};

use crate::common::{Fault, FaultyStore};
use crate::support::{count, once, open, plan, sum};

/// A hundred commits, each of whose first put goes wrong in this way, and how many attempts each must take.
async fn a_hundred_commits(fault: Fault, attempts: u32) {
    const COMMITS: u64 = 100;
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    for index in 0..COMMITS {
        let plan = plan(&table, 0, index.checked_sub(1), index, index + 1).await;
        store.fail("_delta_log/0", fault, 1);
        let done = table.commit(&plan).await.unwrap();
        assert_eq!(done, Committed::Committed { version: index + 1, attempts }, "{fault:?}");
    }
    store.heal();
    assert_eq!(store.faults.load(Ordering::Relaxed), COMMITS, "{fault:?}");
    assert_eq!(store.deletes.load(Ordering::Relaxed), 0, "{fault:?}: no data file is deleted");
    let mut table = Table::open(&lake, "batch/pin").await.unwrap().unwrap();
    assert_eq!(table.version(), COMMITS, "{fault:?}: no second commit");
    assert_eq!(count(&table, &lake).await, once(0, 0..COMMITS as i64), "{fault:?}");
    let totals = table.totals().await.unwrap()[&TopicPartition::new("a.pin", 0)].clone();
    assert_eq!((totals.sum, totals.clean), (sum(0, COMMITS), COMMITS), "{fault:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_commits_whose_answer_was_lost_are_known_again() {
    a_hundred_commits(Fault::AnswerLost, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_commits_that_the_store_found_there_when_it_tried_again_are_known_as_ours() {
    a_hundred_commits(Fault::AnswerLostThenExists, 1).await;
    a_hundred_commits(Fault::AnswerLostThenUnmet, 1).await;
}

/// The second attempt meets the first one's object, and the third finds out that it is ours.
#[tokio::test(start_paused = true)]
async fn a_hundred_commits_that_arrived_after_their_time_was_up_are_not_made_twice() {
    a_hundred_commits(Fault::Late, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_commits_that_arrived_twice_or_were_answered_with_nothing_but_ok_are_in_once() {
    a_hundred_commits(Fault::SentTwice, 1).await;
    a_hundred_commits(Fault::BareAnswer, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_puts_that_really_failed_are_made_again_and_land_once() {
    a_hundred_commits(Fault::Refused, 2).await;
    a_hundred_commits(Fault::RefusedAsThere, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_put_that_failed_several_times_is_made_until_it_lands() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 4).await;
    store.fail("_delta_log/0", Fault::Refused, 3);
    assert_eq!(table.commit(&plan).await.unwrap(), Committed::Committed { version: 1, attempts: 4 });
    assert_eq!(count(&table, &lake).await, once(0, 0..4));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_ends_the_commit_and_the_next_call_may_go_on() {
    let store = FaultyStore::new();
    let lake = store.lake();
    let mut table = open(&lake).await;
    let plan = plan(&table, 0, None, 0, 4).await;
    store.fail("_delta_log/0", Fault::Refused, u64::MAX);
    let error = table.commit(&plan).await.unwrap_err();
    assert!(matches!(error, Error::Contention { .. }), "{error}");
    store.heal();
    assert!(matches!(table.commit(&plan).await.unwrap(), Committed::Committed { version: 1, .. }));
    assert_eq!(table.commit(&plan).await.unwrap(), Committed::AlreadyCommitted);
    assert_eq!(count(&table, &lake).await, once(0, 0..4));
}
