//! Every limit one below, at, and one above; and each place of a bad record among good ones.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use pinmill_broker::{EventLog, MemoryLog};
use serde_json::{Value, json};

use crate::world::World;

const MIB: usize = 1024 * 1024;

fn record(key: &str, bytes: usize) -> Value {
    json!({"PartitionKey": key, "Data": STANDARD.encode(vec![b'x'; bytes])})
}

#[tokio::test]
async fn a_record_may_have_one_mebibyte_with_its_key() {
    let world = World::start().await;
    world.create("s", 1).await;
    for bytes in [MIB - 2, MIB - 1] {
        let mut body = record("k", bytes);
        body["StreamName"] = json!("s");
        world.ok("PutRecord", body).await;
        world.ok("PutRecords", json!({"StreamName": "s", "Records": [record("k", bytes)]})).await;
    }
    for (bytes, kind, says) in [
        (
            MIB,
            "InvalidArgumentException",
            "The data and the partition key of a record have 1048577 bytes together, the limit of the stream is 1048576.",
        ),
        (
            MIB + 1,
            "ValidationException",
            "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1048577 cap=1048577]' at 'data' failed to \
             satisfy constraint: Member must have length less than or equal to 1048576",
        ),
    ] {
        let mut body = record("k", bytes);
        body["StreamName"] = json!("s");
        assert_eq!(world.fails("PutRecord", body, kind).await, says);
        let many = json!({"StreamName": "s", "Records": [record("k", 1), record("k", bytes)]});
        let expected = says.replace("at 'data'", "at 'records.2.member.data'");
        assert_eq!(world.fails("PutRecords", many, kind).await, expected);
    }
    assert_eq!(world.read_shard("s", "0").await.len(), 4, "a refused request stores nothing");
}

/// A record in CBOR, whose data need no base64.
fn cbor_record(bytes: usize) -> Vec<u8> {
    let mut record = b"\x6cPartitionKey\x61k\x64Data\x5a".to_vec();
    record.extend_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
    record.resize(record.len() + bytes, b'x');
    record
}

/// Puts one record, or many, and returns the exception if there is one.
async fn put_cbor(world: &World, records: &[usize]) -> Option<String> {
    let (operation, mut body) = match records {
        [_] => ("PutRecord", b"\xa3\x6aStreamName\x61s".to_vec()),
        _ => ("PutRecords", b"\xa2\x6aStreamName\x61s\x67Records\x9f".to_vec()),
    };
    for bytes in records {
        if records.len() > 1 {
            body.push(0xa2);
        }
        body.extend(cbor_record(*bytes));
    }
    if records.len() > 1 {
        body.push(0xff);
    }
    let answer = world.call_as("application/x-amz-cbor-1.1", operation, body).await;
    let kind = answer.headers.get("x-amzn-errortype").map(|kind| kind.to_str().unwrap().to_owned());
    assert_eq!(answer.status == 200, kind.is_none());
    kind
}

#[tokio::test]
async fn a_stream_may_take_ten_mebibytes_a_record() {
    let world = World::start().await;
    let body = json!({"StreamName": "s", "ShardCount": 1, "MaxRecordSizeInKiB": 10_240});
    world.ok("CreateStream", body).await;
    for (bytes, kind) in [
        (10 * MIB - 2, None),
        (10 * MIB - 1, None),
        (10 * MIB, Some("InvalidArgumentException")),
        (10 * MIB + 1, Some("ValidationException")),
    ] {
        assert_eq!(put_cbor(&world, &[bytes]).await.as_deref(), kind, "{bytes}");
    }
    let arn = world.describe("s").await["StreamARN"].clone();
    world.ok("UpdateMaxRecordSize", json!({"StreamARN": arn, "MaxRecordSizeInKiB": 2048})).await;
    assert_eq!(put_cbor(&world, &[2 * MIB - 1]).await, None);
    assert_eq!(put_cbor(&world, &[2 * MIB]).await.as_deref(), Some("InvalidArgumentException"));
    assert_eq!(world.kinesis.log().offsets("s", 0).await.unwrap().end, 3);
    // A page ends after the record that fills it.
    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    let page = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
    assert_eq!(page["Records"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_may_have_500_records_and_ten_mebibytes() {
    let world = World::start().await;
    world.create("s", 1).await;
    for count in [1, 499, 500] {
        let records = vec![record("k", 1); count];
        let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
        assert_eq!(answer["Records"].as_array().unwrap().len(), count);
    }
    for count in [0, 501] {
        let records = vec![record("k", 1); count];
        world
            .fails("PutRecords", json!({"StreamName": "s", "Records": records}), "ValidationException")
            .await;
    }
    // Nine records of one mebibyte with their keys, and two that are one together, but for what is left out here.
    for (last, kind) in [(8, None), (9, None), (10, Some("InvalidArgumentException"))] {
        let mut records = vec![MIB - 1; 9];
        records.extend([MIB - 11, last]);
        assert_eq!(put_cbor(&world, &records).await.as_deref(), kind, "{last}");
    }
    assert_eq!(world.kinesis.log().offsets("s", 0).await.unwrap().end, 1000 + 22);
}

#[tokio::test]
async fn keys_names_and_counts_have_their_bounds() {
    let world = World::start().await;
    world.create(&"n".repeat(128), 1).await;
    world.create("s", 1).await;
    let put = |key: &str| json!({"StreamName": "s", "PartitionKey": key, "Data": ""});
    for key in ["k", &"ü".repeat(255), &"ü".repeat(256)] {
        world.ok("PutRecord", put(key)).await;
    }
    for key in ["", &"ü".repeat(257)] {
        world.fails("PutRecord", put(key), "ValidationException").await;
    }
    for (operation, body) in [
        ("CreateStream", json!({"StreamName": "n".repeat(129), "ShardCount": 1})),
        ("CreateStream", json!({"StreamName": "", "ShardCount": 1})),
        ("CreateStream", json!({"StreamName": "t", "ShardCount": 0})),
        ("CreateStream", json!({"StreamName": "t", "ShardCount": 100_001})),
        ("CreateStream", json!({"StreamName": "t", "ShardCount": 1, "MaxRecordSizeInKiB": 1023})),
        ("CreateStream", json!({"StreamName": "t", "ShardCount": 1, "MaxRecordSizeInKiB": 10_241})),
        ("ListStreams", json!({"Limit": 0})),
        ("ListStreams", json!({"Limit": 10_001})),
        ("ListShards", json!({"StreamName": "s", "MaxResults": 10_001})),
        ("ListTagsForStream", json!({"StreamName": "s", "Limit": 51})),
        ("GetRecords", json!({"ShardIterator": "x".repeat(513)})),
        ("GetRecords", json!({"ShardIterator": "x", "Limit": 10_001})),
        ("RemoveTagsFromStream", json!({"StreamName": "s", "TagKeys": vec!["k"; 51]})),
        ("AddTagsToStream", json!({"StreamName": "s", "Tags": {"k": "v".repeat(257)}})),
        ("AddTagsToStream", json!({"StreamName": "s", "Tags": {"k".repeat(129): "v"}})),
        ("PutRecord", json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": "01"})),
        (
            "PutRecord",
            json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": "1".repeat(40)}),
        ),
    ] {
        world.fails(operation, body, "ValidationException").await;
    }
    world
        .ok("GetRecords", json!({"ShardIterator": world.iterator("s", "0", "LATEST").await, "Limit": 10_000}))
        .await;
    let dry = json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "DryRun": true});
    world.fails("PutRecord", dry, "DryRunOperationException").await;
    let ordering = json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": "1".repeat(50)});
    let message = world.fails("PutRecord", ordering, "InvalidArgumentException").await;
    assert!(message.starts_with("ExclusiveMinimumSequenceNumber 1111"), "{message}");
    assert!(
        message.ends_with(" used in PutRecord on stream s under account 000000000000 is invalid."),
        "{message}"
    );
}

#[tokio::test]
async fn a_body_over_14_mebibytes_is_cut_off() {
    let world = World::start().await;
    let headers = [("content-type", "application/x-amz-json-1.1")];
    for (bytes, status) in [(14 * MIB, 400), (14 * MIB + 1, 413)] {
        let answer = world.send(Method::POST, "/", &headers, vec![b' '; bytes]).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_bad_record_at_any_place_refuses_the_call_and_stores_nothing() {
    let world = World::start().await;
    world.create("s", 2).await;
    let bad = [
        (json!({"PartitionKey": "", "Data": ""}), "ValidationException"),
        (json!({"PartitionKey": "k"}), "ValidationException"),
        (json!({"PartitionKey": "k", "Data": "?"}), "SerializationException"),
        (json!({"PartitionKey": 5, "Data": ""}), "SerializationException"),
        (
            json!({"PartitionKey": "k", "Data": "", "ExplicitHashKey": "9".repeat(39)}),
            "InvalidArgumentException",
        ),
        (json!([]), "SerializationException"),
    ];
    for count in [1, 2, 7] {
        for place in 0..count {
            for (bad, kind) in &bad {
                let mut records = vec![record("k", 1); count];
                records[place] = bad.clone();
                world.fails("PutRecords", json!({"StreamName": "s", "Records": records}), kind).await;
            }
        }
    }
    assert!(world.read_all("s").await.values().all(Vec::is_empty));
}

#[tokio::test]
async fn a_throttled_record_at_any_place_fails_alone() {
    // On a clock that stands still: what two calls put is put in the same second.
    let world = World::with(|config| {
        config.enforce_throughput = true;
        config.clock = config.clock.clone().stopped();
    })
    .await;
    world.create("s", 2).await;
    let of_shard = |shard: usize, bytes: usize| {
        let hash_key = if shard == 0 { "0" } else { "340282366920938463463374607431768211455" };
        let mut record = record("k", bytes);
        record["ExplicitHashKey"] = json!(hash_key);
        record
    };
    for place in 0..10 {
        // A second of its own: shard 0 is used up by one large record, shard 1 has room.
        world.pass(10_000);
        let mut used_up = of_shard(0, MIB - 1);
        used_up["StreamName"] = json!("s");
        world.ok("PutRecord", used_up.clone()).await;
        let mut records = vec![of_shard(1, 1); 10];
        records[place] = of_shard(0, 1);
        let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
        assert_eq!(answer["FailedRecordCount"], 1);
        for (n, record) in answer["Records"].as_array().unwrap().iter().enumerate() {
            if n == place {
                let message =
                    "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.";
                assert_eq!(
                    record,
                    &json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": message})
                );
            } else {
                assert_eq!(record["ShardId"], "shardId-000000000001");
            }
        }
    }
}

#[tokio::test]
async fn a_record_that_the_log_would_not_take_is_refused_by_name() {
    let log = Arc::new(MemoryLog::new());
    let world = World::on(Arc::clone(&log) as Arc<dyn EventLog>, |_| {}).await;
    world.create("s", 1).await;
    log.set_max_record_bytes(100);
    for (bytes, is_taken) in [(99, true), (100, false)] {
        let mut body = record("k", bytes);
        body["StreamName"] = json!("s");
        if is_taken {
            world.ok("PutRecord", body).await;
        } else {
            let message = world.fails("PutRecord", body, "InvalidArgumentException").await;
            assert_eq!(message, "A record takes 101 bytes in the log of the streams, whose limit is 100.");
        }
    }
}

#[tokio::test]
async fn a_shard_is_read_five_times_and_two_mebibytes_a_second() {
    let world = World::with(|config| {
        config.enforce_throughput = true;
        config.record_size_limit = 10 * MIB;
        config.clock = config.clock.clone().stopped();
    })
    .await;
    world.create("s", 2).await;
    let iterator = |shard: &'static str| world.iterator("s", shard, "TRIM_HORIZON");
    let (busy, other) = (iterator("0").await, iterator("1").await);
    let read = async |iterator: &str| {
        let answer = world.call("GetRecords", json!({"ShardIterator": iterator}).to_string()).await;
        if answer.status != 200 {
            assert_eq!(answer.json()["__type"], "ProvisionedThroughputExceededException");
        }
        answer.status == 200
    };
    for _ in 0..5 {
        assert!(read(&busy).await);
    }
    assert!(!read(&busy).await, "the sixth in a second");
    assert!(read(&other).await, "another shard has its own");
    world.pass(1000);
    let put = async |bytes: usize| {
        let mut body = record("k", bytes);
        body["StreamName"] = json!("s");
        body["ExplicitHashKey"] = json!("0");
        world.ok("PutRecord", body).await;
        world.pass(1000);
    };
    put(10 * MIB - 1).await;
    assert!(read(&busy).await);
    for (passed, is_free) in [(0, false), (4999, false), (1, true)] {
        world.pass(passed);
        assert_eq!(read(&busy).await, is_free, "10 MiB are five seconds' worth");
    }
}
