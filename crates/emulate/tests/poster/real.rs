//! Posts to the gateway as it is served: topics and the streams' façade on one port, each kept in a log in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pinmill_broker::{EventLog, MemoryLog};
use pinmill_emulate::{DateForm, DrawOrder, Generator, Options, Table, Target, To};
use pinmill_gateway::{Drained, Gateway, GatewayConfig};
use pinmill_kinesis::{Kinesis, KinesisConfig, sequence_number};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twox_hash::XxHash3_64;

use crate::{assert_complete, run};

/// A gateway with both halves.
struct World {
    url: String,
    topics: Arc<MemoryLog>,
    streams: Arc<MemoryLog>,
    kinesis: Kinesis,
    stop: CancellationToken,
    serving: JoinHandle<Drained>,
}

impl World {
    async fn start(config: KinesisConfig) -> Self {
        let (topics, streams) = (Arc::new(MemoryLog::new()), Arc::new(MemoryLog::new()));
        let kinesis = Kinesis::open(Arc::clone(&streams) as Arc<dyn EventLog>, config).await.unwrap();
        let config = GatewayConfig { listen: "127.0.0.1:0".parse().unwrap(), ..GatewayConfig::default() };
        let gateway = Gateway::bind(config, Arc::clone(&topics) as Arc<dyn EventLog>).await.unwrap();
        let gateway = gateway.with_routes(kinesis.facade_router());
        let (url, stop) = (format!("http://{}", gateway.local_addr()), CancellationToken::new());
        let serving = tokio::spawn(gateway.serve(stop.clone()));
        Self { url, topics, streams, kinesis, stop, serving }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// The values of a topic or of a stream's shards: sorted, repeats and all.
fn values(log: &MemoryLog, name: &str) -> Vec<String> {
    let records = log.records(name).into_iter().flatten();
    let text = |value: Option<bytes::Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    let mut values: Vec<_> = records.map(|record| text(record.value)).collect();
    values.sort_unstable();
    values
}

/// The rows of these ids as the source writes them, sorted.
fn rows(table: Table, ids: impl IntoIterator<Item = u64>) -> Vec<String> {
    let generator = Generator::new(100);
    let mut rows: Vec<_> =
        ids.into_iter().map(|id| generator.json(table, id, DateForm::Us).unwrap()).collect();
    rows.sort_unstable();
    rows
}

fn options(targets: Vec<Target>, posts: u64) -> Options {
    Options { posts: Some(posts), draw: DrawOrder::Sequence, connections: 4, ..Options::new(targets) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_put_one_by_one_arrive_byte_for_byte_and_once_each() {
    let world = World::start(KinesisConfig::default()).await;
    let url = format!("{}/dev/streams/streaming-124df56aef51-", world.url);
    let targets = vec![Target::streams(&url, None).unwrap()];
    let summary = run(options(targets, 60)).await;
    assert_complete(&summary, 60);
    assert_eq!((summary.retried, summary.ambiguous), (0, 0), "{:?}", summary.errors);
    for table in Table::ALL {
        let stream = format!("streaming-124df56aef51-{table}");
        assert_eq!(values(&world.streams, &stream), rows(table, 0..60));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_put_in_batches_spread_over_the_shards_and_those_of_an_id_stay_in_one() {
    let world = World::start(KinesisConfig::default()).await;
    world.kinesis.create_stream("me-pin", 3).await.unwrap();
    let targets = vec![Target::streams(&world.url, Some("me")).unwrap()];
    let ids: Vec<u64> = (0..700).map(|n| n % 97).collect();
    let draw = DrawOrder::Ids(ids.clone());
    let summary = run(Options { draw, records_per_request: 500, ..options(targets, 700) }).await;
    assert_complete(&summary, 700);
    assert_eq!(summary.requests, 6);
    for table in Table::ALL {
        assert_eq!(values(&world.streams, &format!("me-{table}")), rows(table, ids.iter().copied()));
    }
    let shards = world.streams.records("me-pin");
    assert!(shards.len() == 3 && shards.iter().all(|shard| !shard.is_empty()), "all shards take their part");
    let keys = |shard: &Vec<pinmill_broker::StoredRecord>| -> BTreeSet<_> {
        shard.iter().map(|record| record.key.clone().unwrap()).collect()
    };
    let keys: Vec<_> = shards.iter().map(keys).collect();
    assert_eq!(keys.iter().map(BTreeSet::len).sum::<usize>(), 97, "no id is in two shards");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_over_a_shards_rate_are_put_again_until_each_is_there_once() {
    let config = KinesisConfig { enforce_throughput: true, ..KinesisConfig::default() };
    let world = World::start(config).await;
    let targets = vec![Target::streams(&world.url, None).unwrap()];
    // More than the thousand records that a shard takes in a second: some of a batch are refused.
    let summary = run(Options { records_per_request: 400, ..options(targets, 1_200) }).await;
    assert_complete(&summary, 1_200);
    assert_eq!(summary.ambiguous, 0, "{:?}", summary.errors);
    for table in Table::ALL {
        assert_eq!(values(&world.streams, table.short_name()), rows(table, 0..1_200));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_halves_get_every_row_and_the_log_of_acknowledgements_leads_to_each() {
    let dir = pinmill_testkit::temp_dir();
    let path = dir.path().join("acks.tsv");
    let world = World::start(KinesisConfig::default()).await;
    world.kinesis.create_stream("geo", 2).await.unwrap();
    let targets = To::Both.targets(Some(&world.url), None, None).unwrap();
    for records_per_request in [1, 7] {
        let options =
            Options { ack_log: Some(path.clone()), records_per_request, ..options(targets.clone(), 40) };
        let summary = run(options).await;
        assert_eq!((summary.records, summary.acknowledged), (240, 240), "{summary} {:?}", summary.errors);
    }
    for table in Table::ALL {
        let twice = rows(table, (0..40).chain(0..40));
        assert_eq!(values(&world.topics, table.short_name()), twice);
        assert_eq!(values(&world.streams, table.short_name()), twice);
    }
    let acked = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = acked.lines().map(str::to_owned).collect();
    let mut expected = places(&world).await;
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    world.stop().await;
}

/// A line of the log of acknowledgements for every record that is stored.
async fn places(world: &World) -> Vec<String> {
    let generator = Generator::new(100);
    let mut lines = Vec::new();
    for table in Table::ALL {
        let name = table.short_name();
        let ids: BTreeMap<_, _> =
            (0..40).map(|id| (generator.json(table, id, DateForm::Us).unwrap(), id)).collect();
        let mut line = |name: &str, partition: usize, offset: String, value: &[u8]| {
            let id = ids[std::str::from_utf8(value).unwrap()];
            lines.push(format!("{name}\t{partition}\t{offset}\t{id}\t{:016x}", XxHash3_64::oneshot(value)));
        };
        for (partition, records) in world.topics.records(name).iter().enumerate() {
            for record in records {
                line(name, partition, record.offset.to_string(), record.value.as_ref().unwrap());
            }
        }
        let stream = world.kinesis.stream(name).unwrap();
        for (shard, records) in world.streams.records(name).iter().enumerate() {
            for record in records {
                let created_s = stream.shards[shard].created_s;
                let number = sequence_number(created_s, u32::try_from(shard).unwrap(), record.offset);
                line(&format!("stream:{name}"), shard, number, record.value.as_ref().unwrap());
            }
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_exist_ends_the_run_where_none_are_made() {
    let config = KinesisConfig { auto_create_streams: false, ..KinesisConfig::default() };
    let world = World::start(config).await;
    let targets = vec![Target::streams(&world.url, Some("me")).unwrap()];
    let summary = run(options(targets, 1_000_000)).await;
    assert_eq!((summary.acknowledged, summary.unacknowledged), (0, summary.records), "{summary}");
    let why = summary.gave_up.unwrap_or_default();
    assert!(why.contains("ResourceNotFoundException") && why.contains("Stream me-"), "{why}");
    world.stop().await;
}
