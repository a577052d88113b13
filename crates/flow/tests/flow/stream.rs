//! Streams into tables: each record once, whatever the boundaries, deaths, shards and rivals.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pinmill_broker::{
    EventLog, Health, MemoryLog, OffsetRange, PartitionDescription, Plane, ReadLimit, Record, StoredRecord,
    TopicDescription,
};
use pinmill_flow::quarantine::{self, Filter};
use pinmill_flow::{
    AuditOptions, AuditReport, CleanReport, Error, Half, Logs, StepLimit, StreamConfig, StreamSource,
    Streamer,
};
use pinmill_lake::TopicPartition;
use pinmill_lake::table::Table;
use pinmill_pipeline::Pipeline;
use rand::RngExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{World, bad, engine, good, pipeline, small};

type Result<T> = pinmill_broker::Result<T>;

/// A shard's parents, and where it ends.
type Lineage = (Vec<u32>, Option<u64>);

/// A log in memory whose partitions may be closed and have parents, as shards do, and lose their oldest records.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    inner: MemoryLog,
    beginning: Mutex<BTreeMap<(String, u32), u64>>,
    lineage: Mutex<BTreeMap<(String, u32), Lineage>>,
    /// How many records one read gives at most; 0 for as many as its bytes allow.
    portion: AtomicUsize,
}

impl Shards {
    /// What retention does.
    pub(crate) fn drop_before(&self, topic: &str, partition: u32, offset: u64) {
        self.beginning.lock().unwrap().insert((topic.to_owned(), partition), offset);
    }

    pub(crate) async fn put(&self, topic: &str, partition: u32, values: std::ops::Range<u64>) {
        let records = values.map(|n| Record { value: good(n), ..Record::default() }).collect();
        self.inner.append(topic, partition, records).await.unwrap();
    }

    /// From now on one read gives no more records than this; 0 for as many as its bytes allow.
    pub(crate) fn read_at_most(&self, records: usize) {
        self.portion.store(records, Ordering::SeqCst);
    }

    /// Closes shards where they are and opens a child of them.
    pub(crate) async fn reshard(&self, stream: &str, parents: &[u32]) -> u32 {
        let child = self.inner.describe(stream).await.unwrap().partitions.len() as u32;
        for &parent in parents {
            let end = self.inner.offsets(stream, parent).await.unwrap().end;
            self.lineage.lock().unwrap().entry((stream.to_owned(), parent)).or_default().1 = Some(end);
        }
        // Before the child is there: nobody ever sees it without its parents.
        self.lineage.lock().unwrap().entry((stream.to_owned(), child)).or_default().0 = parents.to_vec();
        self.inner.add_partitions(stream, child + 1).await.unwrap();
        child
    }
}

#[async_trait]
impl EventLog for Shards {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        self.inner.create_topic(topic, partitions).await
    }
    async fn add_partitions(&self, topic: &str, total: u32) -> Result<()> {
        self.inner.add_partitions(topic, total).await
    }
    async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.inner.delete_topic(topic).await
    }
    async fn topics(&self) -> Result<Vec<String>> {
        self.inner.topics().await
    }
    async fn describe(&self, topic: &str) -> Result<TopicDescription> {
        let described = self.inner.describe(topic).await?;
        let lineage = self.lineage.lock().unwrap();
        let of = |partition: PartitionDescription| {
            let known = lineage.get(&(topic.to_owned(), partition.partition)).cloned();
            let (parents, closed_at) = known.unwrap_or_default();
            PartitionDescription { parents, closed_at, ..partition }
        };
        Ok(TopicDescription { partitions: described.partitions.into_iter().map(of).collect(), ..described })
    }
    async fn append(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Vec<u64>> {
        self.inner.append(topic, partition, records).await
    }
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>> {
        let OffsetRange { beginning, end } = self.offsets(topic, partition).await?;
        if offset < beginning {
            let topic = topic.to_owned();
            return Err(pinmill_broker::Error::OffsetOutOfRange { topic, partition, offset, beginning, end });
        }
        let mut records = self.inner.read(topic, partition, offset, limit).await?;
        match self.portion.load(Ordering::SeqCst) {
            0 => {}
            portion => records.truncate(portion),
        }
        Ok(records)
    }
    async fn offsets(&self, topic: &str, partition: u32) -> Result<OffsetRange> {
        let held = self.inner.offsets(topic, partition).await?;
        let dropped = self.beginning.lock().unwrap().get(&(topic.to_owned(), partition)).copied();
        Ok(OffsetRange { beginning: dropped.unwrap_or(held.beginning), ..held })
    }
    async fn offset_at(&self, topic: &str, partition: u32, ms: i64) -> Result<Option<u64>> {
        self.inner.offset_at(topic, partition, ms).await
    }
    async fn position(&self, reader: &str, topic: &str, partition: u32) -> Result<Option<u64>> {
        self.inner.position(reader, topic, partition).await
    }
    async fn commit_position(&self, reader: &str, topic: &str, partition: u32, next: u64) -> Result<()> {
        self.inner.commit_position(reader, topic, partition, next).await
    }
    fn health(&self) -> Health {
        self.inner.health()
    }
}

/// The small house, with its log as streams.
impl World {
    pub(crate) fn streamer(&self, log: Arc<dyn EventLog>, config: StreamConfig) -> Streamer {
        let sources = vec![StreamSource { log, plane: Plane::Streams }];
        Streamer::new(self.pipeline.clone(), Arc::new(engine()), &self.lake, sources, config)
    }

    pub(crate) async fn stream(&self) -> CleanReport {
        self.streamer(self.event_log(), quick()).run_once().await.unwrap()
    }

    pub(crate) async fn stream_audit(&self, log: &dyn EventLog, options: AuditOptions) -> AuditReport {
        let topics = self.event_log();
        let logs = Logs { topics: Some(&*topics).filter(|_| options.same_rows), streams: Some(log) };
        pinmill_flow::audit(&self.pipeline, &self.engine, logs, &self.lake, &options).await.unwrap()
    }

    pub(crate) async fn assert_streamed(&self, log: &dyn EventLog) {
        let report = self.stream_audit(log, AuditOptions::default()).await;
        assert!(report.balanced, "{report:#?}");
    }

    pub(crate) async fn stream_table(&self) -> Table {
        Table::open(&self.lake, &Half::Stream.table("user")).await.unwrap().unwrap()
    }
}

/// Commits when a step is full or nothing is left, and never by time.
pub(crate) fn quick() -> StreamConfig {
    StreamConfig { commit_every: Duration::from_secs(3600), workers: Some(2), ..StreamConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_a_stream_is_in_its_table_once_or_in_quarantine() {
    let mut rng = pinmill_testkit::rng();
    let world = World::new(small());
    world.topic("a-user", 3).await;
    world.topic("other", 1).await;
    for partition in 0..3 {
        world.post_some(&mut rng, "a-user", partition, 200, 5).await;
    }
    world.post("other", 0, [good(1)]).await;
    let report = world.stream().await;
    assert_eq!(report.records(), 600);
    assert_eq!(report.unclaimed, ["other"]);
    world.assert_settled_in(Half::Stream, "a-user").await;
    world.assert_streamed(&*world.log).await;
    // What is there is not loaded again, and what comes is.
    assert_eq!(world.stream().await.records(), 0);
    world.post_some(&mut rng, "a-user", 1, 50, 5).await;
    assert_eq!(world.stream().await.records(), 50);
    world.assert_settled_in(Half::Stream, "a-user").await;
    assert_eq!(world.log.position(pinmill_flow::STREAM_READER, "a-user", 1).await.unwrap(), Some(250));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_lives_with_other_boundaries_give_the_same_rows() {
    let mut rng = pinmill_testkit::rng();
    let mut world = World::new(small());
    world.topic("a-user", 2).await;
    for life in 0..100 {
        for partition in 0..2 {
            let count = rng.random_range(0..30);
            world.post_some(&mut rng, "a-user", partition, count, 4).await;
        }
        let step = StepLimit { records: rng.random_range(1..40), ..StepLimit::default() };
        let config = StreamConfig { step, fetch_bytes: 1, workers: Some(rng.random_range(1..4)), ..quick() };
        let streamer = world.streamer(world.event_log(), config);
        if life % 3 == 0 {
            // Killed somewhere in its work.
            let life = Duration::from_micros(rng.random_range(0..20_000));
            let _ = tokio::time::timeout(life, streamer.run_once()).await;
        } else {
            // A task of a life before may still be at its commit: then it is fenced, or this one is.
            let _ = streamer.run_once().await;
        }
        world.restarted();
    }
    // A task of the last life may still be at its commit, once.
    let mut left = Err("never run".to_owned());
    for _ in 0..10 {
        left = world.streamer(world.event_log(), quick()).run_once().await.map_err(|error| error.to_string());
        if left.as_ref().is_ok_and(|report| report.records() == 0) {
            break;
        }
    }
    assert_eq!(left.map(|report| report.records()), Ok(0));
    world.assert_settled_in(Half::Stream, "a-user").await;
    world.assert_streamed(&*world.log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_with_different_rows_are_told_apart_and_are_a_problem_only_where_they_should_not_be() {
    let world = World::new(small());
    world.topic("user", 1).await;
    world.post("user", 0, (0..10).map(good)).await;
    world.stream().await;
    world.post("user", 0, [good(10)]).await;
    world.archive().await;
    world.clean().await;
    let options = |same_rows| AuditOptions { same_rows, allow_pending: true, ..AuditOptions::default() };
    let report = world.stream_audit(&*world.log, options(false)).await;
    assert!(report.balanced && !report.halves[0].same, "{report:#?}");
    let report = world.stream_audit(&*world.log, options(true)).await;
    assert!(!report.balanced);
    assert!(report.problems[0].to_string().contains("11 in batch, 10 in stream"), "{report:#?}");
}

/// The table's commits tell the order in which records were taken.
#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_split_or_a_merge_are_read_only_after_their_parents() {
    let world = World::new(small());
    let log = Arc::new(Shards::default());
    log.create_topic("a-user", 2).await.unwrap();
    log.put("a-user", 0, 0..30).await;
    log.put("a-user", 1, 30..40).await;
    // Shard 0 is split into 2 and 3, of which 3 is merged with 1 into 4.
    assert_eq!(log.reshard("a-user", &[0]).await, 2);
    assert_eq!(log.reshard("a-user", &[0]).await, 3);
    log.put("a-user", 2, 40..50).await;
    log.put("a-user", 3, 50..60).await;
    assert_eq!(log.reshard("a-user", &[1, 3]).await, 4);
    log.put("a-user", 4, 60..70).await;
    let config =
        StreamConfig { step: StepLimit { records: 7, ..StepLimit::default() }, fetch_bytes: 1, ..quick() };
    world.streamer(Arc::<Shards>::clone(&log), config).run_once().await.unwrap();
    world.assert_streamed(&*log).await;

    let mut finished = BTreeMap::new();
    let mut history = world.stream_table().await.history(usize::MAX).await.unwrap();
    history.reverse();
    for entry in &history {
        for range in &entry.ranges {
            let parents: &[u32] = match range.place.partition {
                2 | 3 => &[0],
                4 => &[1, 3],
                _ => &[],
            };
            for parent in parents {
                let covered = finished.get(parent).copied();
                let end = log.offsets("a-user", *parent).await.unwrap().end;
                assert_eq!(
                    covered,
                    Some(end - 1),
                    "shard {} before the end of {parent}",
                    range.place.partition
                );
            }
            finished.insert(range.place.partition, range.sum.last);
        }
    }
    assert_eq!(finished.len(), 5);
    assert!(history.len() > 6, "{} commits cannot tell an order", history.len());
}

/// Twenty-five times two at once, as a process that was taken for dead and its successor. How far each comes before it meets
/// the other is left to chance here; `fence` makes them meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_that_load_the_same_stream_at_once_none_doubles_a_record() {
    let mut rng = pinmill_testkit::rng();
    for _ in 0..25 {
        let world = World::new(small());
        world.topic("a-user", 1).await;
        world.post_some(&mut rng, "a-user", 0, 120, 5).await;
        let config = |records| StreamConfig {
            step: StepLimit { records, ..StepLimit::default() },
            fetch_bytes: 1,
            ..quick()
        };
        let one = world.streamer(world.event_log(), config(rng.random_range(5..30)));
        let other = world.streamer(world.event_log(), config(rng.random_range(5..30)));
        let (one, other) = futures::join!(one.run_once(), other.run_once());
        for error in [one, other].into_iter().filter_map(std::result::Result::err) {
            // By the table or by the quarantine, whichever tells first.
            assert!(matches!(&error, Error::Lake(pinmill_lake::Error::Fenced { .. })), "{error}");
        }
        world.stream().await;
        world.assert_settled_in(Half::Stream, "a-user").await;
        world.assert_streamed(&*world.log).await;
    }
}

fn renamed(n: u64) -> Option<Bytes> {
    Some(format!(r#"{{"ind":{n},"name":"renamed","age":30}}"#).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_is_another_life_of_its_name_and_the_others_go_on() {
    let world = World::new(small());
    world.topic("a-user", 1).await;
    world.topic("b-user", 1).await;
    world.post("a-user", 0, (0..20).map(good).chain([bad(7)])).await;
    world.stream().await;
    world.log.delete_topic("a-user").await.unwrap();
    world.topic("a-user", 1).await;
    assert_eq!(world.stream().await.records(), 0);
    let lives =
        || world.sql_from(Half::Stream, "SELECT DISTINCT _topic, _lineage FROM user_all ORDER BY 1, 2");
    assert_eq!(lives().await, [[json!("a-user"), json!(0)]]);
    // Key 0 once more, at the offset and in the partition that it had.
    world.post("a-user", 0, [renamed(0)].into_iter().chain((100..130).map(good)).chain([bad(7)])).await;
    world.post("b-user", 0, (200..210).map(good)).await;
    assert_eq!(world.stream().await.records(), 32 + 10);
    assert_eq!(
        lives().await,
        [("a-user", 0), ("a-user", 1), ("b-user", 0)].map(|(t, l)| vec![json!(t), json!(l)])
    );
    let rows = world.sql_from(Half::Stream, "SELECT count(*), max(ind) FROM user_all").await;
    assert_eq!(rows, [[json!(20 + 31 + 10), json!(209)]]);
    let newest = world.sql_from(Half::Stream, "SELECT name, _lineage FROM user WHERE ind = 0").await;
    assert_eq!(newest, [[json!("renamed"), json!(1)]], "its offset is 0, and it is the newest");
    let rejected = quarantine::list(&world.pipeline, &world.lake, Half::Stream, &Filter::default(), 10).await;
    let rejected: Vec<String> = rejected.unwrap().iter().map(|record| record.id.to_string()).collect();
    assert_eq!(rejected, ["a-user/0 offset 20", "a-user~1/0 offset 31"]);
    world.assert_streamed(&*world.log).await;
}

/// Loads the world's log as streams, and another one as topics.
fn of_both(world: &World, topics: &Arc<MemoryLog>, config: StreamConfig) -> Streamer {
    let streams = StreamSource { log: world.event_log(), plane: Plane::Streams };
    let topics = StreamSource { log: Arc::<MemoryLog>::clone(topics), plane: Plane::Topics };
    Streamer::new(world.pipeline.clone(), Arc::new(engine()), &world.lake, vec![streams, topics], config)
}

async fn put_good(log: &MemoryLog, topic: &str, values: std::ops::Range<u64>) {
    let records = values.map(|n| Record { value: good(n), ..Record::default() }).collect();
    log.append(topic, 0, records).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stream_and_a_topic_of_one_name_the_stream_is_loaded_and_all_others_are() {
    let world = World::new(small());
    let topics = Arc::new(MemoryLog::new());
    world.topic("user", 1).await;
    for topic in ["t.user", "user", "v.user"] {
        topics.create_topic(topic, 1).await.unwrap();
        put_good(&topics, topic, 100..103).await;
    }
    for life in 0..2 {
        put_good(&world.log, "user", 0..5).await;
        let report = of_both(&world, &topics, quick()).run_once().await.unwrap();
        assert_eq!(report.records(), if life == 0 { 5 + 3 + 3 } else { 5 });
    }
    let mut table = world.stream_table().await;
    assert_eq!(
        table.position(&TopicPartition::new("user", 0)).await.unwrap(),
        Some(9),
        "the offsets are those of the stream"
    );
}

/// Anybody can post to a stream of any name.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_the_name_of_a_loaded_topic_does_not_stop_it() {
    let world = World::new(small());
    let topics = Arc::new(MemoryLog::new());
    topics.create_topic("user", 1).await.unwrap();
    put_good(&topics, "user", 0..3).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let config = StreamConfig { commit_every: Duration::from_millis(1), ..quick() };
        let (streamer, stop) = (of_both(&world, &topics, config), stop.clone());
        async move { streamer.run(stop).await }
    });
    await_position(&world, "user", 2).await;
    // So that the stream's generation is another one than the topic's.
    world.topic("other", 1).await;
    world.topic("user", 1).await;
    put_good(&world.log, "user", 50..60).await;
    put_good(&topics, "user", 3..4).await;
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap().records(), 4);
    // A new process finds the stream first.
    put_good(&topics, "user", 4..6).await;
    assert_eq!(of_both(&world, &topics, quick()).run_once().await.unwrap().records(), 2);
    assert_eq!(world.stream_table().await.position(&TopicPartition::new("user", 0)).await.unwrap(), Some(5));
}

/// Waits until the streaming table covers a partition up to an offset.
async fn await_position(world: &World, topic: &str, offset: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let table = Table::open(&world.lake, &Half::Stream.table("user")).await.unwrap();
        let position = match table {
            Some(mut table) => table.position(&TopicPartition::new(topic, 0)).await.unwrap(),
            None => None,
        };
        if position == Some(offset) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "offset {offset} of {topic} is not in the table");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_loaded_as_they_come_until_it_is_told_to_stop() {
    let world = World::new(small());
    world.topic("a-user", 1).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let config = StreamConfig { commit_every: Duration::from_millis(1), ..quick() };
        let (streamer, stop) = (world.streamer(world.event_log(), config), stop.clone());
        async move { streamer.run(stop).await }
    });
    for n in 0..5 {
        world.post("a-user", 0, [good(n)]).await;
        await_position(&world, "a-user", n).await;
    }
    // A stream that is made while it runs is found, also when it is to stop at once.
    world.topic("b-user", 1).await;
    world.post("b-user", 0, (10..20).map(good)).await;
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap().records(), 15);
    world.assert_streamed(&*world.log).await;
}

/// A file of the streaming table that no commit names, which is some minutes old.
fn orphan(world: &World, name: &str, minutes: u64) -> std::path::PathBuf {
    let path = world.dir.path().join("stream/user").join(name);
    std::fs::write(&path, "x").unwrap();
    let written = std::time::SystemTime::now() - Duration::from_secs(60 * minutes);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn tidying_takes_what_is_older_than_the_streams_history_and_nothing_else() {
    let world = World::new(small());
    world.topic("a-user", 1).await;
    world.post("a-user", 0, (0..5).map(good)).await;
    world.stream().await;
    let (old, young) = (orphan(&world, "part-old.parquet", 50), orphan(&world, "part-young.parquet", 30));
    let config = StreamConfig { history: Duration::from_secs(40 * 60), ..StreamConfig::default() };
    for (vacuum, is_there) in [(false, true), (true, false)] {
        pinmill_flow::stream::tidy::round(&world.pipeline, &world.lake, &config, vacuum).await;
        assert_eq!((old.exists(), young.exists()), (is_there, true), "vacuum: {vacuum}");
    }
    world.assert_streamed(&*world.log).await;
}

/// SQL that cannot be planned ends the loop before it has looked at any stream.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_new_shards_of_a_dataset_that_is_not_loaded_any_longer() {
    let world = World::new(pipeline(str::to_owned, "SELECT ind, no_such_field AS name FROM raw_user\n"));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (streamer, stop) = (world.streamer(world.event_log(), quick()), stop.clone());
        async move { streamer.run(stop).await }
    });
    world.topic("a-user", 1).await;
    await_registered(&world, 0).await;
    world.log.add_partitions("a-user", 2).await.unwrap();
    await_registered(&world, 1).await;
    stop.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Engine(_)), "{error}");
}

/// Waits until retention would keep what a shard of `a-user` holds.
async fn await_registered(world: &World, shard: u32) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while world.log.position(pinmill_flow::STREAM_READER, "a-user", shard).await.unwrap().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "nobody reads shard {shard}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removed_is_vouched_for_by_the_commits_and_a_loss_is_told() {
    let world = World::new(small());
    let log = Arc::new(Shards::default());
    log.create_topic("a-user", 1).await.unwrap();
    let streamer = world.streamer(
        Arc::<Shards>::clone(&log),
        StreamConfig { step: StepLimit { records: 7, ..StepLimit::default() }, fetch_bytes: 1, ..quick() },
    );
    log.put("a-user", 0, 0..20).await;
    streamer.run_once().await.unwrap();
    log.drop_before("a-user", 0, 15);
    world.assert_streamed(&*log).await;
    log.put("a-user", 0, 20..30).await;
    streamer.run_once().await.unwrap();
    world.assert_streamed(&*log).await;
    // Records that went before they were loaded are a loss, and what is left is loaded.
    log.put("a-user", 0, 30..40).await;
    log.drop_before("a-user", 0, 35);
    let report =
        world.stream_audit(&*log, AuditOptions { allow_pending: true, ..AuditOptions::default() }).await;
    assert!(!report.balanced, "{report:#?}");
    assert!(report.problems[0].to_string().contains("offsets 30 to 34"), "{report:#?}");
    assert_eq!(streamer.run_once().await.unwrap().records(), 5);
    assert_eq!(world.stream_table().await.sum_of(&["ind"]).await.unwrap().rows, 35);
    // It is told when the table has gone on behind it, too.
    let report = world.stream_audit(&*log, AuditOptions::default()).await;
    assert!(!report.balanced, "{report:#?}");
    assert!(report.problems[0].to_string().contains("offsets 30 to 34"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_answers_hold_from_the_streaming_tables() {
    let Some(shared) = pinmill_testkit::shared_dir() else {
        pinmill_testkit::left_out("the golden answers of the streaming tables: there are no shared rows");
        return;
    };
    let world = World::new(Pipeline::built_in().unwrap());
    for dataset in ["pin", "geo", "user"] {
        let stream = format!("streaming-0a4e65e909bd-{dataset}");
        let text = std::fs::read_to_string(shared.join(format!("data/{dataset}.jsonl"))).unwrap();
        world.topic(&stream, 1).await;
        world.post(&stream, 0, text.lines().map(|line| Some(Bytes::copy_from_slice(line.as_bytes())))).await;
    }
    world.stream().await;
    world.assert_streamed(&*world.log).await;
    crate::golden::assert_answers_of(&world, Half::Stream, &shared.join("golden/sample.json")).await;
}
