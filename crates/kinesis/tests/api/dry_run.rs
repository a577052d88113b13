//! `DryRun` says what would really happen, and nothing happens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinmill_broker::{EventLog, Health, MemoryLog};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::world::{World, text};

/// The exception that a request gets with `DryRun`, and without it (nothing where it succeeds).
async fn both(world: &World, operation: &str, body: Value) -> (String, String) {
    let mut dry = body.clone();
    dry["DryRun"] = json!(true);
    let mut kinds = [dry, body].into_iter().map(async |body| {
        let answer = world.call(operation, body.to_string()).await;
        if answer.status == 200 { String::new() } else { text(&answer.json()["__type"]) }
    });
    (kinds.next().unwrap().await, kinds.next().unwrap().await)
}

#[tokio::test]
async fn a_dry_run_meets_what_the_request_itself_would_meet() {
    let world = World::start().await;
    world.create("s", 1).await;
    let big = STANDARD.encode(vec![b'x'; 1024 * 1024]);
    let good_iterator = world.iterator("s", "0", "LATEST").await;
    let arn = text(&world.describe("s").await["StreamARN"]);
    let consumer = world.ok("RegisterStreamConsumer", json!({"StreamARN": arn, "ConsumerName": "c"})).await;
    let consumer = text(&consumer["Consumer"]["ConsumerARN"]);
    let put = |stream: &str, data: &str| json!({"StreamName": stream, "PartitionKey": "k", "Data": data});
    let many = |stream: &str, data: &str| json!({"StreamName": stream, "Records": [{"PartitionKey": "k", "Data": ""}, {"PartitionKey": "k", "Data": data}]});
    let iterator =
        |stream: &str, kind: &str| json!({"StreamName": stream, "ShardId": "0", "ShardIteratorType": kind});
    let subscribe = |shard: &str| json!({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": {"Type": "LATEST"}});
    for (operation, body, expected) in [
        ("PutRecord", put("s", ""), ""),
        ("PutRecord", put("none", ""), "ResourceNotFoundException"),
        ("PutRecord", put("s", &big), "InvalidArgumentException"),
        ("PutRecord", put("s", "?"), "SerializationException"),
        ("PutRecords", many("s", ""), ""),
        ("PutRecords", many("none", ""), "ResourceNotFoundException"),
        ("PutRecords", many("s", &big), "InvalidArgumentException"),
        ("GetShardIterator", iterator("s", "LATEST"), ""),
        ("GetShardIterator", iterator("none", "LATEST"), "ResourceNotFoundException"),
        ("GetShardIterator", iterator("s", "AT_SEQUENCE_NUMBER"), "InvalidArgumentException"),
        ("GetRecords", json!({"ShardIterator": good_iterator}), ""),
        ("GetRecords", json!({"ShardIterator": "x"}), "InvalidArgumentException"),
        ("SubscribeToShard", subscribe("9"), "ResourceNotFoundException"),
    ] {
        let (dry, real) = both(&world, operation, body).await;
        assert_eq!(real, expected, "{operation}");
        let expected = if expected.is_empty() { "DryRunOperationException" } else { expected };
        assert_eq!(dry, expected, "{operation}");
    }
    assert_eq!(world.kinesis.log().offsets("s", 0).await.unwrap().end, 3, "what was tried stored nothing");
    let mut dry = subscribe("0");
    dry["DryRun"] = json!(true);
    world.fails("SubscribeToShard", dry.clone(), "DryRunOperationException").await;
    world.fails("SubscribeToShard", dry, "DryRunOperationException").await;
    world.pass(300_001);
    let expired = json!({"ShardIterator": good_iterator, "DryRun": true});
    world.fails("GetRecords", expired, "ExpiredIteratorException").await;
    let told_not_to = json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "DryRun": false});
    world.ok("PutRecord", told_not_to).await;
}

#[tokio::test]
async fn a_dry_run_knows_a_busy_shard_and_does_not_make_it_busier() {
    let world = World::with(|config| {
        config.enforce_throughput = true;
        config.clock = config.clock.clone().stopped();
    })
    .await;
    world.create("s", 2).await;
    let data = STANDARD.encode(vec![b'x'; 1024 * 1024 - 1]);
    let put = json!({"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": data});
    let read = json!({"ShardIterator": world.iterator("s", "1", "LATEST").await});
    for (operation, body, times) in [("PutRecord", put, 1), ("GetRecords", read, 5)] {
        let mut dry = body.clone();
        dry["DryRun"] = json!(true);
        for _ in 0..10 {
            world.fails(operation, dry.clone(), "DryRunOperationException").await;
        }
        for _ in 0..times {
            world.ok(operation, body.clone()).await;
        }
        world.fails(operation, dry, "ProvisionedThroughputExceededException").await;
        world.fails(operation, body, "ProvisionedThroughputExceededException").await;
    }
}

#[tokio::test]
async fn a_dry_run_knows_a_log_that_takes_nothing() {
    let log = Arc::new(MemoryLog::new());
    let world = World::on(Arc::clone(&log) as Arc<dyn EventLog>, |_| {}).await;
    world.create("s", 1).await;
    log.set_health(Health::ReadOnly { reason: "full".to_owned() });
    let dry = json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "DryRun": true});
    let answer = world.call("PutRecord", dry.to_string()).await;
    assert_eq!((answer.status, answer.json()["__type"].as_str()), (500, Some("InternalFailure")));
}
