//! Records: put, routed, read from everywhere.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinmill_broker::{EventLog, Health, MemoryLog};
use serde_json::{Value, json};

use crate::world::{World, data, text};

#[tokio::test]
async fn records_of_a_shard_are_read_in_order_with_ascending_numbers() {
    let world = World::start().await;
    world.create("s", 1).await;
    let mut numbers = Vec::new();
    for n in 0..10 {
        let (shard, number) = world.put("s", "key ü", &n.to_string()).await;
        assert_eq!(shard, "shardId-000000000000");
        numbers.push(number);
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    let answer = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
    let records = answer["Records"].as_array().unwrap();
    let read: Vec<_> = records.iter().map(|record| text(&record["SequenceNumber"])).collect();
    assert_eq!(read, numbers, "the numbers that the puts answered");
    assert_eq!(records[3]["PartitionKey"], "key ü");
    assert_eq!(data(&records[3]), "3");
    let arrival = records[3]["ApproximateArrivalTimestamp"].as_f64().unwrap();
    assert!((arrival * 1000.0 - world.now_ms() as f64).abs() < 60_000.0);
    assert_eq!(answer["MillisBehindLatest"], 0);
    let start = text(&world.shards("s").await[0]["SequenceNumberRange"]["StartingSequenceNumber"]);
    assert!(start < numbers[0]);
}

#[tokio::test]
async fn every_kind_of_iterator_begins_where_it_says() {
    let world = World::start().await;
    world.create("s", 1).await;
    let mut numbers = Vec::new();
    for n in 0..5 {
        numbers.push(world.put("s", "k", &n.to_string()).await.1);
    }
    let at = |kind: &str, number: &str| json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": kind, "StartingSequenceNumber": number});
    let start = text(&world.shards("s").await[0]["SequenceNumberRange"]["StartingSequenceNumber"]);
    for (kind, number, expected) in [
        ("AT_SEQUENCE_NUMBER", &numbers[2], &["2", "3", "4"][..]),
        ("AFTER_SEQUENCE_NUMBER", &numbers[2], &["3", "4"]),
        ("AFTER_SEQUENCE_NUMBER", &numbers[4], &[]),
        ("AT_SEQUENCE_NUMBER", &start, &["0", "1", "2", "3", "4"]),
        ("AFTER_SEQUENCE_NUMBER", &start, &["0", "1", "2", "3", "4"]),
    ] {
        let iterator = text(&world.ok("GetShardIterator", at(kind, number)).await["ShardIterator"]);
        assert_eq!(world.read_from(iterator).await, expected, "{kind}");
    }
    let latest = world.iterator("s", "0", "LATEST").await;
    assert!(world.read_from(latest.clone()).await.is_empty());
    let after =
        text(&world.ok("GetShardIterator", at("AFTER_SEQUENCE_NUMBER", &numbers[4])).await["ShardIterator"]);
    world.put("s", "k", "5").await;
    assert_eq!(world.read_from(latest).await, ["5"]);
    assert_eq!(world.read_from(after).await, ["5"]);

    let all = world
        .ok("GetRecords", json!({"ShardIterator": world.iterator("s", "0", "TRIM_HORIZON").await}))
        .await;
    let arrival = all["Records"][3]["ApproximateArrivalTimestamp"].clone();
    let first_of_that_time = all["Records"]
        .as_array()
        .unwrap()
        .iter()
        .position(|record| record["ApproximateArrivalTimestamp"] == arrival)
        .unwrap();
    let timestamp = |value: Value| json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": value});
    let iterator = text(&world.ok("GetShardIterator", timestamp(arrival)).await["ShardIterator"]);
    assert_eq!(world.read_from(iterator).await.len(), 6 - first_of_that_time);
    let iterator = text(&world.ok("GetShardIterator", timestamp(json!(1))).await["ShardIterator"]);
    assert_eq!(world.read_from(iterator).await.len(), 6, "before the horizon is the horizon");
    world.pass(60_000);
    let past_the_end = json!((world.now_ms() - 1000) as f64 / 1000.0);
    let iterator = text(&world.ok("GetShardIterator", timestamp(past_the_end)).await["ShardIterator"]);
    assert!(world.read_from(iterator).await.is_empty());
}

#[tokio::test]
async fn bad_iterators_are_refused_in_amazons_words() {
    let world = World::start().await;
    world.create("s", 2).await;
    let number = world.put("s", "k", "x").await;
    let other_shard = if number.0.ends_with('0') { 1 } else { 0 };
    let ask = |shard: &str, kind: &str, number: Option<&str>| {
        let mut body = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": kind});
        if let Some(number) = number {
            body["StartingSequenceNumber"] = json!(number);
        }
        body
    };
    let either = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
                  TRIM_HORIZON or LATEST and no StartingSequenceNumber.";
    let invalid = "InvalidArgumentException";
    for (body, kind, message) in [
        (ask("0", "LATEST", Some("5")), invalid, format!("{either} Request specified LATEST and also a StartingSequenceNumber.")),
        (ask("0", "AT_SEQUENCE_NUMBER", None), invalid, format!("{either} Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.")),
        (
            ask("0", "AT_TIMESTAMP", None),
            invalid,
            "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.".to_owned(),
        ),
        (
            ask("0", "AT_SEQUENCE_NUMBER", Some("12345678901234567890123456789012345678901234567890")),
            invalid,
            "StartingSequenceNumber 12345678901234567890123456789012345678901234567890 used in GetShardIterator on shard \
             shardId-000000000000 in stream s under account 000000000000 is invalid.".to_owned(),
        ),
        (
            ask(&other_shard.to_string(), "AT_SEQUENCE_NUMBER", Some(&number.1)),
            invalid,
            format!(
                "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with shardId-{other_shard:012}",
                number.0
            ),
        ),
        (
            ask("9", "LATEST", None),
            "ResourceNotFoundException",
            "Shard shardId-000000000009 in stream s under account 000000000000 does not exist".to_owned(),
        ),
        (
            ask("x-y", "LATEST", None),
            "ResourceNotFoundException",
            "Could not find shard x-y in stream s under account 000000000000.".to_owned(),
        ),
    ] {
        assert_eq!(world.fails("GetShardIterator", body, kind).await, message);
    }
    let missing = json!({"StreamName": "none", "ShardId": "0", "ShardIteratorType": "LATEST"});
    let message = world.fails("GetShardIterator", missing, "ResourceNotFoundException").await;
    assert_eq!(
        message,
        "Shard shardId-000000000000 in stream none under account 000000000000 does not exist"
    );
    let future = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 99_999_999_999_i64});
    let message = world.fails("GetShardIterator", future, invalid).await;
    assert!(message.starts_with("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: 99999999999000, currentTimestampInMillis: "), "{message}");
    let old = world.call("GetShardIterator", ask("0", "AT_SEQUENCE_NUMBER", Some("0")).to_string()).await;
    assert_eq!((old.status, old.json()), (500, json!({"__type": "InternalFailure"})));
}

#[tokio::test]
async fn iterators_expire_and_do_not_outlive_their_stream() {
    let world = World::with(|config| config.clock = config.clock.clone().stopped()).await;
    world.create("s", 1).await;
    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    world.ok("GetRecords", json!({"ShardIterator": format!("\"{iterator}\"")})).await;
    let message =
        world.fails("GetRecords", json!({"ShardIterator": "garbage"}), "InvalidArgumentException").await;
    assert_eq!(message, "Invalid ShardIterator.");
    world.pass(300_000);
    world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
    world.pass(1);
    let message =
        world.fails("GetRecords", json!({"ShardIterator": iterator}), "ExpiredIteratorException").await;
    assert!(message.starts_with("Iterator expired. The iterator was created at time "), "{message}");
    assert!(
        message.ends_with(" which is further in the future than the tolerated delay of 300000 milliseconds.")
    );

    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    world.ok("DeleteStream", json!({"StreamName": "s"})).await;
    for _ in 0..2 {
        let message =
            world.fails("GetRecords", json!({"ShardIterator": iterator}), "ResourceNotFoundException").await;
        assert_eq!(
            message,
            "Shard shardId-000000000000 in stream s under account 000000000000 does not exist"
        );
        // Its namesake is another stream.
        if world.kinesis.stream("s").is_none() {
            world.pass(1);
            world.create("s", 1).await;
        }
    }
}

#[tokio::test]
async fn keys_go_to_the_shard_of_their_hash() {
    let world = World::start().await;
    world.create("s", 4).await;
    // md5("a") begins with 0c, md5("d") with 82, md5("foo") with ac, md5("") is not a key.
    for (key, shard) in [("a", 0), ("d", 2), ("foo", 2), ("h", 0)] {
        assert_eq!(world.put("s", key, "x").await.0, format!("shardId-{shard:012}"), "{key}");
    }
    let explicit =
        |key: &str| json!({"StreamName": "s", "PartitionKey": "a", "Data": "", "ExplicitHashKey": key});
    for (key, shard) in [
        ("0", 0),
        ("85070591730234615865843651857942052863", 0),
        ("85070591730234615865843651857942052864", 1),
        ("340282366920938463463374607431768211455", 3),
    ] {
        let answer = world.ok("PutRecord", explicit(key)).await;
        assert_eq!(answer["ShardId"], format!("shardId-{shard:012}"), "{key}");
    }
    let beyond = "340282366920938463463374607431768211456";
    let message = world.fails("PutRecord", explicit(beyond), "InvalidArgumentException").await;
    let expected =
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was";
    assert_eq!(message, format!("{expected} {beyond}"));
    let log = world.kinesis.log();
    let limit = pinmill_broker::ReadLimit { max_bytes: 1 << 20, max_wait: std::time::Duration::ZERO };
    let stored = log.read("s", 3, 0, limit).await.unwrap();
    assert_eq!(stored[0].key.as_deref(), Some(&b"a"[..]));
    assert_eq!(stored[0].headers[0].0, "kinesis.explicit-hash-key");
}

#[tokio::test]
async fn many_records_keep_their_order_and_answer_in_it() {
    let world = World::start().await;
    world.create("s", 3).await;
    let records: Vec<_> = (0..500)
        .map(|n| json!({"PartitionKey": format!("k{}", n % 7), "Data": STANDARD.encode(n.to_string())}))
        .collect();
    let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
    assert_eq!(answer["FailedRecordCount"], 0);
    let mut expected = std::collections::BTreeMap::<String, Vec<(String, String)>>::new();
    for (n, record) in answer["Records"].as_array().unwrap().iter().enumerate() {
        let shard = expected.entry(text(&record["ShardId"])).or_default();
        shard.push((text(&record["SequenceNumber"]), n.to_string()));
    }
    assert_eq!(expected.len(), 3, "seven keys reach three shards");
    for (shard, records) in expected {
        let iterator = world.iterator("s", &shard, "TRIM_HORIZON").await;
        let read = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
        let read = read["Records"].as_array().unwrap().iter();
        let read: Vec<_> = read.map(|record| (text(&record["SequenceNumber"]), data(record))).collect();
        assert_eq!(read, records);
    }
}

#[tokio::test]
async fn a_log_that_refuses_fails_each_record_and_stores_none() {
    let log = Arc::new(MemoryLog::new());
    let world = World::on(Arc::clone(&log) as Arc<dyn EventLog>, |_| {}).await;
    world.create("s", 2).await;
    log.set_health(Health::ReadOnly { reason: "the disk is full".to_owned() });
    let records = json!([{"PartitionKey": "a", "Data": "YQ=="}, {"PartitionKey": "d", "Data": "Yg=="}]);
    let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
    let failed = json!({"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure."});
    assert_eq!(answer, json!({"FailedRecordCount": 2, "Records": [failed, failed]}));
    let single = json!({"StreamName": "s", "PartitionKey": "a", "Data": "YQ=="}).to_string();
    let answer = world.call("PutRecord", single).await;
    assert_eq!((answer.status, answer.json()["__type"].clone()), (500, json!("InternalFailure")));
    log.set_health(Health::Writable);
    assert!(world.read_all("s").await.values().all(Vec::is_empty));
}

#[tokio::test]
async fn what_is_older_than_the_retention_is_no_longer_read() {
    let world = World::start().await;
    world.create("s", 1).await;
    world.put("s", "k", "old").await;
    world.pass(23 * 3_600_000);
    assert_eq!(world.read_shard("s", "0").await, ["old"]);
    world.pass(2 * 3_600_000);
    assert!(world.read_shard("s", "0").await.is_empty());
    world.ok("IncreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 48})).await;
    assert_eq!(world.read_shard("s", "0").await, ["old"], "as long as the log has it");
}

#[tokio::test]
async fn a_reader_learns_how_far_behind_it_is() {
    let world = World::start().await;
    world.create("s", 1).await;
    for n in 0..10 {
        world.put("s", "k", &n.to_string()).await;
    }
    world.pass(5000);
    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    let some = world.ok("GetRecords", json!({"ShardIterator": iterator, "Limit": 4})).await;
    assert_eq!(some["Records"].as_array().unwrap().len(), 4);
    assert!(some["MillisBehindLatest"].as_i64().unwrap() >= 5000);
    let rest = world.ok("GetRecords", json!({"ShardIterator": some["NextShardIterator"], "Limit": 6})).await;
    assert_eq!(rest["MillisBehindLatest"], 0);
    let end = world.ok("GetRecords", json!({"ShardIterator": rest["NextShardIterator"]})).await;
    assert_eq!((&end["Records"], &end["MillisBehindLatest"]), (&json!([]), &json!(0)));
    assert_ne!(end["NextShardIterator"], rest["NextShardIterator"]);
}
