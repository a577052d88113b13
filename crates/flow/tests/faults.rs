//! A store that fails for a while, in every way and at any moment: streamer and archiver go on by themselves, and every
//! record is in once.
//!
//! `cargo test -p pinmill-flow --features failpoints --test faults`
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pinmill_broker::Plane;
use pinmill_flow::{
    ArchiveConfig, Archiver, AuditOptions, Backoff, Half, Logs, PartState, Parts, STREAM_READER,
    StreamConfig, StreamSource, Streamer,
};
use pinmill_lake::faults::{Fault, FaultyStore, Plan};
use pinmill_lake::table::Table;
use pinmill_lake::{Lake, TopicPartition};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::support::{World, engine, small};

/// How likely a call is to fail, one phase after another, and for how many calls. After the last one nothing fails.
const PHASES: &[(f64, usize)] = &[(0.5, 60), (1.0, 40), (0.1, 150), (0.5, 60), (0.02, 200)];
/// Retries come quickly, so that the phases pass quickly.
const QUICK: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(5) };

/// The phase of a call, by its number.
fn phase(mut call: usize) -> Option<f64> {
    for (failing, calls) in PHASES {
        if call < *calls {
            return Some(*failing);
        }
        call -= calls;
    }
    None
}

/// A plan that goes through the phases, and the number of calls so far.
fn plan() -> (Plan, Arc<AtomicUsize>) {
    let (calls, rng) = (Arc::new(AtomicUsize::new(0)), Mutex::new(pinmill_testkit::rng()));
    let counted = Arc::clone(&calls);
    let plan = move |_: &'static str| {
        let failing = phase(counted.fetch_add(1, Ordering::SeqCst))?;
        let mut rng = rng.lock().unwrap();
        let fault = if rng.random_bool(0.5) { Fault::Refused } else { Fault::AnswerLost };
        rng.random_bool(failing).then_some(fault)
    };
    (Arc::new(plan), calls)
}

/// What the streamer has noted as read is in its table. Asked in this order: the table only ever moves on.
async fn assert_not_noted_ahead(world: &World, partition: u32) {
    let noted =
        world.event_log().position(STREAM_READER, "a-user", partition).await.unwrap().unwrap_or_default();
    let table = Table::open(&world.lake, &Half::Stream.table("user")).await.unwrap();
    let covered = match table {
        Some(mut table) => table.position(&TopicPartition::new("a-user", partition)).await.unwrap(),
        None => None,
    };
    let covered = covered.map_or(0, |last| last + 1);
    assert!(noted <= covered, "partition {partition} is noted to {noted}, the table covers {covered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streamer_and_archiver_outlive_a_store_that_fails_and_every_record_is_in_once() {
    let mut rng = pinmill_testkit::rng();
    let world = World::new(small());
    world.topic("t.user", 2).await;
    world.topic("a-user", 2).await;
    let parts = Parts::default();
    let (plan, calls) = plan();
    let store = Arc::new(FaultyStore::new(Arc::clone(world.lake.store()), plan));
    let lake = Lake::on(store, world.lake.url()).unwrap();

    let config = ArchiveConfig {
        max_records: 20,
        max_age: Duration::from_millis(50),
        retry: QUICK,
        ..ArchiveConfig::default()
    };
    let archiver = Arc::new(Archiver::new(world.event_log(), &lake, config).with_parts(&parts));
    let config = StreamConfig {
        commit_every: Duration::from_millis(5),
        note_every: Duration::ZERO,
        tidy_every: Duration::from_millis(100),
        retry: QUICK,
        workers: Some(2),
        ..StreamConfig::default()
    };
    let sources = vec![StreamSource { log: world.event_log(), plane: Plane::Streams }];
    let streamer = Streamer::new(world.pipeline.clone(), Arc::new(engine()), &lake, sources, config);
    let streamer = streamer.with_parts(&parts);
    let stop = CancellationToken::new();
    let archiving = tokio::spawn({
        let stop = stop.clone();
        async move { archiver.supervised(stop).await }
    });
    let streaming = tokio::spawn({
        let stop = stop.clone();
        async move { streamer.run(stop).await }
    });

    while phase(calls.load(Ordering::SeqCst)).is_some() {
        for partition in 0..2 {
            let count = rng.random_range(1..5);
            world.post_some(&mut rng, "t.user", partition, count, 5).await;
            world.post_some(&mut rng, "a-user", partition, count, 5).await;
            assert_not_noted_ahead(&world, partition).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.cancel();
    streaming.await.unwrap().unwrap();
    archiving.await.unwrap().unwrap();

    let status = parts.status();
    for name in ["archive", "stream/user"] {
        let part = status.iter().find(|part| part.part == name).unwrap();
        assert_eq!(part.state, PartState::Done, "{part:?}");
        assert!(part.restarts > 0 && part.last_error.is_some(), "{part:?}");
    }
    world.assert_settled_in(Half::Stream, "a-user").await;
    world.clean().await;
    world.assert_settled("t.user").await;
    let log = world.event_log();
    let logs = Logs { topics: Some(&*log), streams: Some(&*log) };
    let options = AuditOptions { deep: true, ..AuditOptions::default() };
    let audit =
        pinmill_flow::audit(&world.pipeline, &world.engine, logs, &world.lake, &options).await.unwrap();
    assert!(audit.balanced, "{audit:#?}");
}
