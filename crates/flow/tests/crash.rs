//! Death at every named point: after a restart the tables hold exactly what was accepted, once. And two cleans at once,
//! one of which waits at such a point for the other.
//!
//! Crash points are global, so these tests have a process of their own and run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fail::FailScenario;
use pinmill_broker::Plane;
use pinmill_flow::stream::tidy;
use pinmill_flow::{
    ArchiveConfig, AuditOptions, CRASH_POINTS, CleanOptions, CleanReport, Half, Logs, StepLimit,
    StreamConfig, StreamSource, Streamer,
};
use pinmill_lake::Lake;
use pinmill_lake::table::CompactPolicy;
use rand::RngExt;
use support::{World, bad, good, is_tolerable, small, tolerant};
use tokio::runtime::Handle;

const CRASH: &str = "died at a crash point";

/// How a point fails: the task that comes there dies, or gets an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Panic,
    Error,
}

impl Mode {
    /// How often each point is tried with other records and other boundaries.
    fn seeds(self) -> u64 {
        match self {
            Self::Panic => 3,
            Self::Error => 1,
        }
    }
}

/// Makes a point fail at its nth passing, once. The counter tells how often it was passed.
fn arm(point: &str, nth: u64, mode: Mode) -> Arc<AtomicU64> {
    let passed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&passed);
    match mode {
        Mode::Panic => fail::cfg_callback(point, move || {
            if counter.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                std::panic::panic_any(CRASH);
            }
        })
        .unwrap(),
        Mode::Error => fail::cfg(point, &format!("{}*off->1*return", nth - 1)).unwrap(),
    }
    passed
}

/// Which passing of a point is the fatal one. A first life dies at the first, as some points are passed but once a
/// life; later lives die anywhere.
fn nth_passing(round: u32, rng: &mut impl rand::Rng) -> u64 {
    if round == 0 { 1 } else { rng.random_range(1..4) }
}

/// Archive, clean, answer and replay, as one life of a process. Whatever happens to it, it is over then.
async fn live(world: &Arc<World>, config: ArchiveConfig, options: CleanOptions) -> Result<(), String> {
    let world = Arc::clone(world);
    let life = tokio::spawn(async move {
        world.archive_with(config).await?;
        world.clean_with(&options).await?;
        let answers =
            pinmill_flow::answer(&world.pipeline, &world.engine, &world.lake, &Default::default()).await?;
        if let Some(failure) = answers.failures.first() {
            return Err(pinmill_flow::Error::Internal(failure.to_string()));
        }
        world.replay().await.map(drop)
    });
    match life.await {
        Ok(lived) => lived.map_err(|error: pinmill_flow::Error| error.to_string()),
        Err(death) => Err(death.to_string()),
    }
}

/// A crash is no news: only other panics are told.
fn hush() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&CRASH) {
            usual(panic);
        }
    }));
}

async fn a_life_cut_short(point: &'static str, mode: Mode, rng: &mut impl rand::Rng) -> bool {
    let world = World::new(small());
    world.topic("t.user", 2).await;
    let mut world = Arc::new(world);
    let mut died = false;
    for round in 0..3 {
        for partition in 0..2 {
            let count = rng.random_range(1..40);
            world.post_some(rng, "t.user", partition, count, 4).await;
        }
        // Other boundaries in every life.
        let config = ArchiveConfig { max_records: rng.random_range(3..40), ..ArchiveConfig::default() };
        let step = StepLimit { records: rng.random_range(1..60), ..StepLimit::default() };
        let options = CleanOptions { step, workers: Some(2), ..CleanOptions::default() };
        let nth = nth_passing(round, rng);
        let passed = arm(point, nth, mode);
        let lived = live(&world, config, options).await;
        died |= lived.is_err() || passed.load(Ordering::SeqCst) >= nth;
        fail::remove(point);
        Arc::get_mut(&mut world)
            .unwrap_or_else(|| panic!("{point}, round {round}: a task outlived its run"))
            .restarted();
    }
    let lived = live(&world, ArchiveConfig::default(), CleanOptions::default()).await;
    assert_eq!(lived, Ok(()), "{point}: a life without a crash failed");
    world.assert_settled("t.user").await;
    world.assert_balanced().await;
    died
}

/// A replay dies, the next life replays again, and cleans what came meanwhile.
async fn a_replay_cut_short(point: &'static str, mode: Mode, nth: u64, rng: &mut impl rand::Rng) -> u64 {
    let mut world = World::new(small());
    world.topic("t.user", 1).await;
    world.post_some(rng, "t.user", 0, 60, 2).await;
    world.archive().await;
    world.clean().await;
    world.pipeline = tolerant();
    let world = Arc::new(world);
    let passed = arm(point, nth, mode);
    let life = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.replay().await }
    });
    let died = !matches!(life.await, Ok(Ok(_)));
    fail::remove(point);
    let mut world = Arc::into_inner(world).unwrap_or_else(|| panic!("{point}: a task outlived its run"));
    world.restarted();
    // What is left half done is hidden from those who look.
    let quarantined = world.quarantined().await.len() as u64;
    let rows = world.sql("SELECT count(*), count(DISTINCT _offset) FROM user_all").await.remove(0);
    assert_eq!((rows[0].as_u64(), rows[0].as_u64()), (rows[1].as_u64(), Some(60 - quarantined)), "{point}");
    world.assert_balanced().await;
    if rng.random_bool(0.5) {
        world.post_some(rng, "t.user", 0, 20, 2).await;
        world.archive().await;
        world.clean().await;
    }
    world.replay().await.unwrap();
    world.archive().await;
    world.clean().await;
    world.assert_settled_as("t.user", is_tolerable).await;
    world.assert_balanced().await;
    u64::from(died).max(passed.load(Ordering::SeqCst))
}

#[test]
fn death_at_any_point_of_a_replay_neither_loses_nor_doubles_a_record() {
    let scenario = FailScenario::setup();
    hush();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rng = pinmill_testkit::rng();
    let tables = ["lake::table::before_data_file", "lake::table::before_commit", "lake::table::after_commit"];
    let points =
        CRASH_POINTS.iter().filter(|point| point.starts_with("flow::replay") || tables.contains(point));
    for &point in points {
        for mode in [Mode::Panic, Mode::Error] {
            let mut passed = 0;
            // The second commit is the quarantine's.
            for nth in 1..=2 {
                for _ in 0..mode.seeds() {
                    passed += runtime.block_on(a_replay_cut_short(point, mode, nth, &mut rng));
                }
            }
            assert!(passed > 0 || mode == Mode::Error, "{point} was never passed");
        }
    }
    scenario.teardown();
}

/// Points that only the streaming half passes.
fn of_streams(point: &str) -> bool {
    point.starts_with("flow::stream::") || point.ends_with("_compaction")
}

/// Streams into tables, files put together, as one life of a process.
async fn stream(world: &Arc<World>, step: StepLimit) -> Result<(), String> {
    let world = Arc::clone(world);
    let life = tokio::spawn(async move {
        let sources = vec![StreamSource { log: world.event_log(), plane: Plane::Streams }];
        let commit_every = Duration::from_millis(1);
        let config = StreamConfig {
            step,
            commit_every,
            fetch_bytes: 200,
            workers: Some(2),
            ..StreamConfig::default()
        };
        let engine = Arc::new(support::engine());
        Streamer::new(world.pipeline.clone(), engine, &world.lake, sources, config).run_once().await?;
        let policy = CompactPolicy { fan_in: 3, ..CompactPolicy::default() };
        for table in tidy::tables(&world.pipeline, Half::Stream) {
            tidy::tidy(&world.lake, &table, &policy, None).await?;
        }
        Ok(())
    });
    match life.await {
        Ok(lived) => lived.map_err(|error: pinmill_flow::Error| error.to_string()),
        Err(death) => Err(death.to_string()),
    }
}

async fn a_stream_cut_short(point: &'static str, mode: Mode, rng: &mut impl rand::Rng) -> bool {
    let world = World::new(small());
    world.topic("a-user", 2).await;
    let mut world = Arc::new(world);
    let mut died = false;
    for round in 0..3 {
        for partition in 0..2 {
            let count = rng.random_range(20..60);
            world.post_some(rng, "a-user", partition, count, 4).await;
        }
        let step = StepLimit { records: rng.random_range(5..20), ..StepLimit::default() };
        // Positions are noted at the end, and each table has one or two merges.
        let nth = if of_streams(point) { 1 } else { nth_passing(round, rng) };
        let passed = arm(point, nth, mode);
        let lived = stream(&world, step).await;
        died |= lived.is_err() || passed.load(Ordering::SeqCst) >= nth;
        fail::remove(point);
        Arc::get_mut(&mut world)
            .unwrap_or_else(|| panic!("{point}, round {round}: a task outlived its run"))
            .restarted();
    }
    let lived = stream(&world, StepLimit::default()).await;
    assert_eq!(lived, Ok(()), "{point}: a life without a crash failed");
    world.assert_settled_in(Half::Stream, "a-user").await;
    let log = world.event_log();
    let logs = Logs { topics: None, streams: Some(&*log) };
    let options = AuditOptions::default();
    let report = pinmill_flow::audit(&world.pipeline, &world.engine, logs, &world.lake, &options).await;
    let report = report.unwrap();
    assert!(report.balanced, "{point}: {report:#?}");
    died
}

#[test]
fn death_at_any_point_of_streaming_neither_loses_nor_doubles_a_record() {
    let scenario = FailScenario::setup();
    hush();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rng = pinmill_testkit::rng();
    let elsewhere = |point: &str| {
        ["lake::archive", "flow::archive", "flow::answer", "flow::replay"]
            .iter()
            .any(|p| point.starts_with(p))
    };
    for &point in CRASH_POINTS.iter().filter(|point| !elsewhere(point)) {
        for mode in [Mode::Panic, Mode::Error] {
            let mut died = false;
            for _ in 0..mode.seeds() {
                died |= runtime.block_on(a_stream_cut_short(point, mode, &mut rng));
            }
            // Nobody makes fifty commits here. Lake's test `failpoints` does, and makes sure that it dies there.
            let rare = point == "lake::table::before_checkpoint";
            assert!(died || mode == Mode::Error || rare, "{point} was never passed");
        }
    }
    scenario.teardown();
}

#[test]
fn death_at_any_point_neither_loses_nor_doubles_a_record() {
    let scenario = FailScenario::setup();
    hush();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rng = pinmill_testkit::rng();
    for &point in CRASH_POINTS {
        for mode in [Mode::Panic, Mode::Error] {
            let mut died = false;
            for _ in 0..mode.seeds() {
                died |= runtime.block_on(a_life_cut_short(point, mode, &mut rng));
            }
            // A point that nothing passes would prove nothing. Checkpoints have lake's test `failpoints`, which makes the
            // fifty commits that one takes; the other two have the tests above.
            let rare = point == "lake::table::before_checkpoint"
                || point.starts_with("flow::replay")
                || of_streams(point);
            assert!(died || mode == Mode::Error || rare, "{point} was never passed");
        }
    }
    scenario.teardown();
}

/// Does something at the first passing of a point.
fn at_first(point: &str, work: impl FnOnce() + Send + 'static) {
    let work = Mutex::new(Some(work));
    let passing = move || {
        let first = work.lock().unwrap().take();
        if let Some(work) = first {
            work();
        }
    };
    fail::cfg_callback(point, passing).unwrap();
}

/// Archived records on some of which [`small`] and [`tolerant`] do not agree.
async fn disputed() -> World {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..20).map(good).chain((0..20).map(bad))).await;
    world.archive().await;
    world
}

/// A clean by [`tolerant`], on a thread of its own.
fn clean_tolerantly(handle: &Handle, lake: &Lake) -> JoinHandle<pinmill_flow::Result<CleanReport>> {
    let (handle, lake) = (handle.clone(), lake.clone());
    std::thread::spawn(move || {
        let (pipeline, engine) = (tolerant(), support::engine());
        handle.block_on(pinmill_flow::clean(&pipeline, &engine, &lake, &CleanOptions::default()))
    })
}

#[test]
fn what_another_clean_has_settled_meanwhile_is_not_put_into_quarantine() {
    let scenario = FailScenario::setup();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(disputed());
    let (handle, lake) = (runtime.handle().clone(), world.lake.clone());
    at_first("flow::load::files_written", move || {
        clean_tolerantly(&handle, &lake).join().unwrap().unwrap();
    });
    runtime.block_on(async {
        world.clean().await;
        world.assert_settled_as("t.user", is_tolerable).await;
        world.assert_balanced().await;
    });
    scenario.teardown();
}

/// The tolerant clean has begun. Then the strict one comes as far as its commit of the table, and waits there until the
/// tolerant one is through, which has found in quarantine what both of them reject.
#[test]
fn what_another_clean_found_clean_is_taken_out_of_quarantine_again_and_nothing_else() {
    let scenario = FailScenario::setup();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = Arc::new(runtime.block_on(disputed()));
    let wait = |event: &Receiver<()>| event.recv_timeout(Duration::from_secs(60)).unwrap();
    let (rejected, has_rejected) = sync_channel(1);
    let (committed, has_committed) = sync_channel(1);
    let (done, is_done) = sync_channel(1);
    let (handle, strict) = (runtime.handle().clone(), Arc::clone(&world));
    at_first("flow::load::files_written", move || {
        std::thread::spawn(move || {
            done.send(handle.block_on(strict.clean_with(&CleanOptions::default()))).unwrap();
        });
        wait(&has_rejected);
    });
    at_first("flow::load::quarantine_committed", move || {
        rejected.send(()).unwrap();
        wait(&has_committed);
    });
    at_first("flow::load::table_committed", move || committed.send(()).unwrap());
    clean_tolerantly(runtime.handle(), &world.lake).join().unwrap().unwrap();
    is_done.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    runtime.block_on(async {
        world.assert_settled_as("t.user", is_tolerable).await;
        world.assert_balanced().await;
    });
    scenario.teardown();
}
