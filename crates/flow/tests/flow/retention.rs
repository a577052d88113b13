//! Streams on the embedded log, which lets records go as soon as its reader has passed them: whenever the loader dies, the
//! reader's position is not ahead of the table, so nothing goes that is not loaded.

use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EmbeddedLog, EventLog, Plane, Record};
use pinmill_flow::{Half, STREAM_READER, StreamConfig, StreamSource, Streamer};
use pinmill_lake::TopicPartition;
use pinmill_lake::table::Table;
use pinmill_log::{Log, LogConfig};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::support::{World, engine, good, small};

const STREAM: &str = "a-user";
const SHARDS: u32 = 2;

/// A log that keeps nothing that it need not keep.
fn open(dir: &std::path::Path) -> Arc<Log> {
    let config = LogConfig {
        segment_bytes: 600,
        retention_bytes: Some(0),
        retention_interval: Some(Duration::from_millis(2)),
        ..LogConfig::default()
    };
    Arc::new(Log::open(dir, config).unwrap().0)
}

fn streamer(world: &World, log: Arc<dyn EventLog>) -> Streamer {
    let sources = vec![StreamSource { log, plane: Plane::Streams }];
    let config = StreamConfig {
        commit_every: Duration::from_millis(5),
        note_every: Duration::ZERO,
        ..StreamConfig::default()
    };
    Streamer::new(world.pipeline.clone(), Arc::new(engine()), &world.lake, sources, config)
}

/// The table's next offset of a shard, as its commits say.
async fn covered(world: &World, shard: u32) -> u64 {
    let table = Table::open(&world.lake, &Half::Stream.table("user")).await.unwrap();
    let Some(mut table) = table else { return 0 };
    table.position(&TopicPartition::new(STREAM, shard)).await.unwrap().map_or(0, |last| last + 1)
}

/// Asked in this order: the table only ever moves on.
async fn assert_not_ahead(world: &World, log: &Log, what: &str) {
    for shard in 0..SHARDS {
        let noted = log.position(STREAM_READER, STREAM, shard).unwrap().unwrap_or_default();
        let beginning = log.offsets(STREAM, shard).unwrap().beginning;
        let covered = covered(world, shard).await;
        assert!(noted <= covered, "{what}: shard {shard} is noted to {noted}, the table covers {covered}");
        assert!(
            beginning <= covered,
            "{what}: shard {shard} begins at {beginning}, the table ends at {covered}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readers_position_is_never_ahead_of_the_table_whenever_the_loader_dies() {
    let mut dice = pinmill_testkit::rng();
    let world = World::new(small());
    let dir = pinmill_testkit::temp_dir();
    let lives = pinmill_testkit::count("PINMILL_LIVES", 12);
    let mut given = 0;
    for life in 0..lives {
        let log = open(dir.path());
        if life == 0 {
            log.create_topic(STREAM, SHARDS).unwrap();
            // Retention waits for readers that it knows; the loader makes itself known when it first looks.
            for shard in 0..SHARDS {
                log.commit_position(STREAM_READER, STREAM, shard, 0).await.unwrap();
            }
        }
        assert_not_ahead(&world, &log, &format!("life {life}, at its start")).await;
        let stop = CancellationToken::new();
        let streamer = streamer(&world, Arc::new(EmbeddedLog::new(Arc::clone(&log))));
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { streamer.run(stop).await.map(drop) }
        });
        for _ in 0..dice.random_range(1..30) {
            let shard = dice.random_range(0..SHARDS);
            let records = (given..given + 3).map(|n| Record { value: good(n), ..Record::default() });
            log.append(STREAM, shard, records.collect()).await.unwrap();
            given += 3;
            assert_not_ahead(&world, &log, &format!("life {life}, after {given} records")).await;
        }
        if dice.random_range(0..3) == 0 {
            stop.cancel();
            running.await.unwrap().unwrap();
        } else {
            running.abort();
            let _ = running.await;
        }
        // What runs beside it has the log for a moment longer.
        while Arc::strong_count(&log) > 1 {
            tokio::task::yield_now().await;
        }
        assert_not_ahead(&world, &log, &format!("life {life}, at its end")).await;
    }
    let log = open(dir.path());
    streamer(&world, Arc::new(EmbeddedLog::new(Arc::clone(&log)))).run_once().await.unwrap();
    let mut table = Table::open(&world.lake, &Half::Stream.table("user")).await.unwrap().unwrap();
    let totals = table.totals().await.unwrap();
    assert_eq!(
        totals.values().map(|totals| totals.sum.count).sum::<u64>(),
        given,
        "none is lost, none doubled"
    );
    log.apply_retention().unwrap();
    let gone: u64 = (0..SHARDS).map(|shard| log.offsets(STREAM, shard).unwrap().beginning).sum();
    assert!(gone > 0, "retention removed nothing, so nothing was tried");
}
