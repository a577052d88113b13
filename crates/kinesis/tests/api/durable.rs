//! On the embedded log: what was acknowledged is there after a restart, under the same numbers.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinmill_broker::EmbeddedLog;
use pinmill_log::sim::{PowerLoss, SimDisk};
use pinmill_log::{Durability, Health, Log, LogConfig};
use serde_json::{Value, json};

use crate::world::{World, text};

fn config() -> LogConfig {
    LogConfig {
        max_record_bytes: pinmill_kinesis::LOG_RECORD_BYTES,
        max_batch_bytes: pinmill_kinesis::LOG_BATCH_BYTES,
        max_partitions: pinmill_kinesis::LOG_PARTITIONS,
        // What a power cut would leave is not looked at here.
        durability: Durability::Os,
        ..LogConfig::default()
    }
}

async fn open(dir: &Path) -> World {
    let (log, _) = Log::open(dir, config()).unwrap();
    World::on(Arc::new(EmbeddedLog::new(Arc::new(log))), |_| {}).await
}

/// Every record of a stream with its number, by shard.
async fn numbered(world: &World) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for shard in world.shards("s").await {
        let id = text(&shard["ShardId"]);
        let iterator = world.iterator("s", &id, "TRIM_HORIZON").await;
        let answer = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
        for record in answer["Records"].as_array().unwrap() {
            all.push((id.clone(), text(&record["SequenceNumber"]), crate::world::data(record)));
        }
    }
    all
}

async fn put(world: &World, round: usize) -> Vec<(String, String, String)> {
    let records: Vec<_> = (0..50)
        .map(|n| json!({"PartitionKey": format!("k{n}"), "Data": STANDARD.encode(format!("{round}-{n}"))}))
        .collect();
    let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
    let answered = answer["Records"].as_array().unwrap().iter().enumerate();
    answered
        .map(|(n, record)| {
            (text(&record["ShardId"]), text(&record["SequenceNumber"]), format!("{round}-{n}"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_on_the_embedded_log_outlive_the_process() {
    let dir = pinmill_testkit::temp_dir();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let world = open(dir.path()).await;
        if round == 0 {
            world.create("s", 2).await;
        }
        let mut found = numbered(&world).await;
        found.sort();
        acknowledged.sort();
        assert_eq!(found, acknowledged, "round {round}");
        acknowledged.extend(put(&world, 2 * round).await);
        let open = world.kinesis.stream("s").unwrap().open_shards().count();
        let target = if round % 2 == 0 { open * 2 } else { open / 2 };
        let body = json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
        world.ok("UpdateShardCount", body).await;
        acknowledged.extend(put(&world, 2 * round + 1).await);
        world.stop().await;
    }
    let world = open(dir.path()).await;
    world.ok("DeleteStream", json!({"StreamName": "s"})).await;
    world.stop().await;
    let world = open(dir.path()).await;
    assert_eq!(world.ok("ListStreams", json!({})).await["StreamNames"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_call_of_the_api_fits_into_one_shard() {
    let dir = pinmill_testkit::temp_dir();
    let world = open(dir.path()).await;
    world.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1, "MaxRecordSizeInKiB": 10_240})).await;
    let largest = 10 * 1024 * 1024 - 1;
    // {"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "7", "Data": …} in CBOR.
    let mut body =
        b"\xa4\x6aStreamName\x61s\x6cPartitionKey\x61k\x6fExplicitHashKey\x617\x64Data\x5a".to_vec();
    body.extend_from_slice(&u32::try_from(largest).unwrap().to_be_bytes());
    body.resize(body.len() + largest, b'x');
    let answer = world.call_as("application/x-amz-cbor-1.1", "PutRecord", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    // 500 records of 10 MiB together with their keys.
    let each = 10 * 1024 * 1024 / 500 - 1;
    let mut body = b"\xa2\x6aStreamName\x61s\x67Records\x9f".to_vec();
    for _ in 0..500 {
        body.extend_from_slice(b"\xa2\x6cPartitionKey\x61k\x64Data\x5a");
        body.extend_from_slice(&u32::try_from(each).unwrap().to_be_bytes());
        body.resize(body.len() + each, b'x');
    }
    body.push(0xff);
    let answer = world.call_as("application/x-amz-cbor-1.1", "PutRecords", body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(b"\xa2\x71FailedRecordCount\x00"), "none of them failed");
    assert_eq!(world.kinesis.log().offsets("s", 0).await.unwrap().end, 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_of_streams_that_come_and_go_does_not_grow_on_disk() {
    let dir = pinmill_testkit::temp_dir();
    let world = open(dir.path()).await;
    world.create("kept", 1).await;
    let mut sizes = Vec::new();
    for round in 0..5 {
        let name = format!("round-{round}");
        world.create(&name, 1).await;
        for n in 0..600 {
            let body = json!({"StreamName": name, "Tags": {"n": n.to_string()}});
            world.ok("AddTagsToStream", body).await;
        }
        world.ok("DeleteStream", json!({"StreamName": name})).await;
        sizes.push(bytes_of(dir.path()));
    }
    let before = world.kinesis.log().offsets(pinmill_kinesis::catalog::TOPIC, 0).await.unwrap();
    assert!(before.beginning > 1000, "of {} records the first is still there", before.end);
    assert!(sizes[4] < 2 * sizes[1], "the folder grew: {sizes:?} bytes");
    world.stop().await;
    let world = open(dir.path()).await;
    assert_eq!(world.ok("ListStreams", json!({})).await["StreamNames"], json!(["kept"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_is_read_from_before_its_compactions_is_whole() {
    let dir = pinmill_testkit::temp_dir();
    let world = open(dir.path()).await;
    world.create("s", 2).await;
    let scale = json!({"StreamName": "s", "TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"});
    world.ok("UpdateShardCount", scale).await;
    // Twice as many as are kept before a compaction: the second one has the log let go what lies before the first.
    for n in 0..2100 {
        world.ok("AddTagsToStream", json!({"StreamName": "s", "Tags": {"n": n.to_string()}})).await;
    }
    let before = world.kinesis.stream("s").unwrap();
    let log = world.kinesis.log();
    let (topic, reader) = (pinmill_kinesis::catalog::TOPIC, pinmill_kinesis::catalog::READER);
    let beginning = log.offsets(topic, 0).await.unwrap().beginning;
    assert!(beginning > 0 && log.position(reader, topic, 0).await.unwrap().unwrap() > beginning);
    log.commit_position(reader, topic, 0, 0).await.unwrap();
    world.stop().await;
    let world = open(dir.path()).await;
    assert_eq!(world.kinesis.stream("s").unwrap(), before);
}

/// Bytes of all files in a folder and below it.
fn bytes_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| {
        let is_dir = entry.file_type().unwrap().is_dir();
        if is_dir { bytes_of(&entry.path()) } else { entry.metadata().unwrap().len() }
    });
    bytes.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_more_shards_than_a_topic_has_by_default_comes_back() {
    let dir = pinmill_testkit::temp_dir();
    let world = open(dir.path()).await;
    world.create("s", 350).await;
    let scale = json!({"StreamName": "s", "TargetShardCount": 700, "ScalingType": "UNIFORM_SCALING"});
    world.ok("UpdateShardCount", scale).await;
    let before = world.kinesis.stream("s").unwrap();
    assert_eq!(before.shards.len(), 1050);
    let (shard, _) = world.put("s", "k", "far out").await;
    world.stop().await;
    let world = open(dir.path()).await;
    assert_eq!(world.kinesis.stream("s").unwrap(), before);
    assert_eq!(world.read_shard("s", &shard).await, ["far out"]);
}

/// Flushed, and by one committer, so that shards are flushed in their order.
async fn on(disk: &SimDisk) -> (World, Arc<Log>) {
    let config = LogConfig { committers: 1, durability: Durability::Fsync, ..config() };
    let log = Arc::new(Log::open_on(Arc::new(disk.clone()), "/data/streams", config).unwrap().0);
    (World::on(Arc::new(EmbeddedLog::new(Arc::clone(&log))), |_| {}).await, log)
}

/// What `PutRecord` answers.
async fn status_of_put(world: &World, data: &str) -> (u16, Value) {
    let body = json!({"StreamName": "s", "PartitionKey": "k", "Data": STANDARD.encode(data)});
    let answer = world.call("PutRecord", body.to_string()).await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_flush_every_put_fails_until_a_restart_that_finds_all_that_was_acknowledged() {
    let disk = SimDisk::new();
    let (world, log) = on(&disk).await;
    world.create("s", 1).await;
    world.put("s", "k", "kept").await;
    disk.fail_sync(1);
    for data in ["unknown", "refused", "refused"] {
        let (status, error) = status_of_put(&world, data).await;
        assert_eq!((status, error["__type"].as_str()), (500, Some("InternalFailure")), "{data}: {error}");
    }
    let records = json!([{"PartitionKey": "k", "Data": STANDARD.encode("refused")}]);
    let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
    assert_eq!(answer["FailedRecordCount"], json!(1));
    assert_eq!(answer["Records"][0]["ErrorCode"], json!("InternalFailure"));
    assert!(matches!(log.health(), Health::Poisoned { .. }));
    world.stop().await;

    for disk in [disk.after_kill(), disk.restart(PowerLoss::LoseAll), disk.restart(PowerLoss::Random(7))] {
        let (world, _) = on(&disk).await;
        let found: Vec<String> = world.read_all("s").await.into_values().flatten().collect();
        assert!(found == ["kept"] || found == ["kept", "unknown"], "{found:?}");
        assert_eq!(status_of_put(&world, "again").await.0, 200);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_of_two_shards_was_flushed_its_records_alone_are_acknowledged() {
    let disk = SimDisk::new();
    let (world, _) = on(&disk).await;
    world.create("s", 2).await;
    disk.fail_sync(2);
    // The lowest hash key lies in the first shard, the highest in the second.
    let record = |hash: &str, data: &str| json!({"PartitionKey": "k", "ExplicitHashKey": hash, "Data": STANDARD.encode(data)});
    let records = [record("0", "first"), record("340282366920938463463374607431768211455", "second")];
    let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
    assert_eq!(answer["FailedRecordCount"], json!(1), "{answer}");
    let is_acknowledged = |place: usize| answer["Records"][place]["SequenceNumber"].is_string();
    assert!(is_acknowledged(0) && !is_acknowledged(1), "{answer}");
    world.stop().await;
    for disk in [disk.after_kill(), disk.restart(PowerLoss::LoseAll)] {
        let (world, _) = on(&disk).await;
        let found = world.read_all("s").await;
        let shards: Vec<&Vec<String>> = found.values().collect();
        assert_eq!(shards[0], &["first"]);
        assert!(shards[1].is_empty() || shards[1] == &["second"], "{found:?}");
        world.stop().await;
    }
}
