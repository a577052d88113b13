//! Shards split, merged and counted anew, under load and read to their ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pinmill_broker::{EventLog, MemoryLog};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{World, data, text};

const MIDDLE: &str = "170141183460469231731687303715884105728";

#[tokio::test]
async fn a_split_closes_the_parent_and_readers_go_on_with_the_children() {
    let world = World::start().await;
    world.create("s", 1).await;
    let before = world.put("s", "a", "before").await;
    let waiting = world.iterator("s", "0", "LATEST").await;
    world
        .ok(
            "SplitShard",
            json!({"StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": MIDDLE}),
        )
        .await;
    let shards = world.shards("s").await;
    assert_eq!(shards.len(), 3);
    let end = text(&shards[0]["SequenceNumberRange"]["EndingSequenceNumber"]);
    assert!(end > before.1);
    for (n, child) in shards[1..].iter().enumerate() {
        assert_eq!(child["ShardId"], format!("shardId-{:012}", n + 1));
        assert_eq!(child["ParentShardId"], "shardId-000000000000");
        assert_eq!(child["AdjacentParentShardId"], Value::Null);
        assert!(text(&child["SequenceNumberRange"]["StartingSequenceNumber"]) > end);
    }
    assert_eq!(shards[2]["HashKeyRange"]["StartingHashKey"], MIDDLE);
    let after = world.put("s", "a", "after").await;
    assert_eq!(after.0, "shardId-000000000001");
    assert!(after.1 > before.1, "numbers grow across a split");

    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    let first = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
    assert_eq!(data(&first["Records"][0]), "before");
    assert_eq!(first["NextShardIterator"], Value::Null);
    let children = first["ChildShards"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[1]["ParentShards"], json!(["shardId-000000000000"]));
    assert_eq!(children[1]["HashKeyRange"]["StartingHashKey"], MIDDLE);
    let at_end = world.ok("GetRecords", json!({"ShardIterator": waiting})).await;
    assert_eq!((&at_end["Records"], &at_end["NextShardIterator"]), (&json!([]), &Value::Null));
    assert_eq!(at_end["ChildShards"], first["ChildShards"]);
    for kind in ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"] {
        let body = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": kind, "StartingSequenceNumber": end});
        let iterator = text(&world.ok("GetShardIterator", body).await["ShardIterator"]);
        let read = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
        assert_eq!(read["NextShardIterator"], Value::Null, "the end of a shard is its end");
    }
}

#[tokio::test]
async fn two_neighbours_merge_into_one() {
    let world = World::start().await;
    world.create("s", 3).await;
    world
        .ok("MergeShards", json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"}))
        .await;
    let shards = world.shards("s").await;
    let merged = &shards[3];
    assert_eq!(
        (&merged["ParentShardId"], &merged["AdjacentParentShardId"]),
        (&shards[0]["ShardId"], &shards[1]["ShardId"])
    );
    assert_eq!(merged["HashKeyRange"]["StartingHashKey"], "0");
    assert_eq!(merged["HashKeyRange"]["EndingHashKey"], shards[1]["HashKeyRange"]["EndingHashKey"]);
    let read = world
        .ok("GetRecords", json!({"ShardIterator": world.iterator("s", "1", "TRIM_HORIZON").await}))
        .await;
    assert_eq!(
        read["ChildShards"][0]["ParentShards"],
        json!(["shardId-000000000000", "shardId-000000000001"])
    );
}

#[tokio::test]
async fn refused_splits_and_merges_say_why() {
    let world = World::with(|config| config.shard_limit = 3).await;
    world.create("s", 2).await;
    let split = |stream: &str, shard: &str, key: &str| json!({"StreamName": stream, "ShardToSplit": shard, "NewStartingHashKey": key});
    let merge = |first: &str, second: &str| json!({"StreamName": "s", "ShardToMerge": first, "AdjacentShardToMerge": second});
    let (invalid, missing) = ("InvalidArgumentException", "ResourceNotFoundException");
    let outside = |key: &str| {
        format!(
            "NewStartingHashKey {key} used in SplitShard() on shard shardId-000000000000 in stream s under account 000000000000 \
             is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey \
             170141183460469231731687303715884105727."
        )
    };
    let cases = [
        (split("s", "0", "1"), invalid, outside("1")),
        (split("s", "0", MIDDLE), invalid, outside(MIDDLE)),
        (split("s", "0", &"9".repeat(39)), invalid, outside(&"9".repeat(39))),
        (
            split("s", "x", "5"),
            missing,
            "Could not find shard x in stream s under account 000000000000.".to_owned(),
        ),
        (
            split("s", "7", "5"),
            missing,
            "Could not find shard shardId-000000000007 in stream s under account 000000000000.".to_owned(),
        ),
        (split("none", "0", "5"), missing, "Stream none under account 000000000000 not found.".to_owned()),
    ];
    for (body, kind, message) in cases {
        assert_eq!(world.fails("SplitShard", body, kind).await, message);
    }
    let message = world.fails("MergeShards", merge("1", "0"), invalid).await;
    assert_eq!(
        message,
        "Shards shardId-000000000001 and shardId-000000000000 in stream s under account 000000000000 are not an adjacent pair of \
         shards eligible for merging"
    );
    world.fails("MergeShards", merge("0", "9"), missing).await;
    world.ok("SplitShard", split("s", "0", "5")).await;
    let message = world.fails("SplitShard", split("s", "1", "5"), "LimitExceededException").await;
    assert!(message.contains("Current shard count for the account: 3. Limit: 3. Number of additional shards that would have resulted from this request: 1."));
    let message = world.fails("MergeShards", merge("0", "1"), invalid).await;
    assert_eq!(
        message,
        "Shard shardId-000000000000 in stream s under account 000000000000 has already been merged or split, and thus is not \
         eligible for merging or splitting."
    );
}

#[tokio::test]
async fn a_new_shard_count_is_reached_by_splits_and_merges() {
    let world = World::start().await;
    world.create("s", 4).await;
    let scale = |target: u32| json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
    let answer = world.ok("UpdateShardCount", scale(5)).await;
    assert_eq!(
        answer,
        json!({
            "StreamName": "s", "CurrentShardCount": 4, "TargetShardCount": 5,
            "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s"
        })
    );
    assert_eq!(world.shards("s").await.len(), 15);
    let open = world.ok("DescribeStreamSummary", json!({"StreamName": "s"})).await;
    assert_eq!(open["StreamDescriptionSummary"]["OpenShardCount"], 5);
    for target in [2, 11] {
        let message = world.fails("UpdateShardCount", scale(target), "InvalidArgumentException").await;
        assert!(message.contains("Current open shard count: 5"), "{message}");
    }
    world.ok("UpdateShardCount", scale(5)).await;
    assert_eq!(world.shards("s").await.len(), 15, "as many as there are changes nothing");
    world.ok("UpdateShardCount", scale(3)).await;
}

#[tokio::test]
async fn shards_are_filtered_by_when_they_were_open() {
    let world = World::start().await;
    world.create("s", 1).await;
    world.pass(10_000);
    let between = world.now_ms() - 5000;
    world
        .ok("SplitShard", json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": MIDDLE}))
        .await;
    world.pass(10_000);
    world.ok("SplitShard", json!({"StreamName": "s", "ShardToSplit": "1", "NewStartingHashKey": "99"})).await;
    let seconds = |ms: i64| json!(ms as f64 / 1000.0);
    let later = world.now_ms() - 5000;
    for (filter, expected) in [
        (json!({"Type": "AT_LATEST"}), &[2, 3, 4][..]),
        (json!({"Type": "AT_TRIM_HORIZON"}), &[0]),
        (json!({"Type": "FROM_TRIM_HORIZON"}), &[0, 1, 2, 3, 4]),
        (json!({"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000002"}), &[3, 4]),
        (json!({"Type": "AT_TIMESTAMP", "Timestamp": seconds(between)}), &[0]),
        (json!({"Type": "AT_TIMESTAMP", "Timestamp": seconds(later)}), &[1, 2]),
        (json!({"Type": "FROM_TIMESTAMP", "Timestamp": seconds(later)}), &[1, 2, 3, 4]),
    ] {
        let answer = world.ok("ListShards", json!({"StreamName": "s", "ShardFilter": filter})).await;
        let ids: Vec<_> =
            answer["Shards"].as_array().unwrap().iter().map(|shard| text(&shard["ShardId"])).collect();
        let expected: Vec<_> = expected.iter().map(|index| format!("shardId-{index:012}")).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    let page = world
        .ok("ListShards", json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}, "MaxResults": 2}))
        .await;
    let rest = world.ok("ListShards", json!({"NextToken": page["NextToken"]})).await;
    assert_eq!(rest["Shards"].as_array().unwrap().len(), 1, "the filter holds for the next page too");
    for kind in ["AFTER_SHARD_ID", "AT_TIMESTAMP"] {
        let body = json!({"StreamName": "s", "ShardFilter": {"Type": kind}});
        world.fails("ListShards", body, "InvalidArgumentException").await;
    }
    world.pass(25 * 3_600_000);
    assert_eq!(world.shards("s").await.len(), 3, "closed shards go when their records are too old");
}

/// The log takes a record to its end whether or not its client waits for the answer.
#[tokio::test]
async fn a_record_whose_client_has_gone_is_in_its_shard_before_that_is_closed() {
    let log = Arc::new(MemoryLog::new());
    let world = World::on(Arc::<MemoryLog>::clone(&log), |_| {}).await;
    world.create("s", 1).await;
    log.hold_appends(true);
    let body = Full::new(Bytes::from(r#"{"Data": 1, "PartitionKey": "k"}"#));
    let request = Request::builder().method("PUT").uri("/streams/s/record").body(body).unwrap();
    let service = TowerToHyperService::new(world.kinesis.router());
    let until_it_waits = async {
        while log.waiting_appends() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = service.call(request) => panic!("it was answered before it was stored: {answer:?}"),
        () = until_it_waits => {}
    }
    // The request is dropped here, as a server does when a client hangs up.
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": MIDDLE});
    let (_, ()) = tokio::join!(world.ok("SplitShard", split), async { log.hold_appends(false) });
    let shards = world.kinesis.shards_log().describe("s").await.unwrap().partitions;
    assert_eq!(shards[0].closed_at, Some(1));
    assert_eq!(log.records("s")[0].len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resharding_under_load_loses_nothing_and_keeps_the_order_of_each_key() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 40;
    let world = Arc::new(World::start().await);
    world.create("s", 2).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let world = Arc::clone(&world);
        writers.spawn(async move {
            for round in 0..ROUNDS {
                let records: Vec<_> = (0..5)
                    .map(|n| json!({"PartitionKey": format!("{writer}-{n}"), "Data": STANDARD.encode(format!("{writer}-{n}:{round:03}"))}))
                    .collect();
                let answer = world.ok("PutRecords", json!({"StreamName": "s", "Records": records})).await;
                assert_eq!(answer["FailedRecordCount"], 0);
            }
        });
    }
    for target in [4, 3, 6, 3, 2, 4] {
        world
            .ok(
                "UpdateShardCount",
                json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}),
            )
            .await;
    }
    writers.join_all().await;

    // Parents stand before their children, so shards in their order are the order of each key.
    let mut by_key = BTreeMap::<String, Vec<String>>::new();
    for shard in world.shards("s").await {
        for record in world.read_shard("s", &text(&shard["ShardId"])).await {
            let (key, round) = record.split_once(':').unwrap();
            by_key.entry(key.to_owned()).or_default().push(round.to_owned());
        }
    }
    let rounds: Vec<_> = (0..ROUNDS).map(|round| format!("{round:03}")).collect();
    assert_eq!(by_key.len(), WRITERS * 5);
    for (key, read) in by_key {
        assert_eq!(read, rounds, "{key}");
    }
}

#[tokio::test]
async fn numbers_of_children_are_above_those_of_their_parents_within_one_second() {
    let world = World::with(|config| config.clock = config.clock.clone().stopped()).await;
    world.create("s", 1).await;
    // Down the leftmost shards: each is split, and each takes a record of the same key.
    let mut numbers = Vec::new();
    let mut end = u128::MAX;
    for _ in 0..6 {
        let put = json!({"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": ""});
        let stored = world.ok("PutRecord", put).await;
        numbers.push(text(&stored["SequenceNumber"]));
        end /= 2;
        let split = json!({"StreamName": "s", "ShardToSplit": stored["ShardId"], "NewStartingHashKey": end.to_string()});
        world.ok("SplitShard", split).await;
        let next = json!({
            "StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": "",
            "SequenceNumberForOrdering": numbers.last(),
        });
        numbers.push(text(&world.ok("PutRecord", next).await["SequenceNumber"]));
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:#?}");
    let shards = world.shards("s").await;
    let range = |id: &Value| {
        let shard = shards.iter().find(|shard| shard["ShardId"] == *id).unwrap();
        shard["SequenceNumberRange"].clone()
    };
    for child in shards.iter().filter(|shard| shard["ParentShardId"].is_string()) {
        let (own, parents) = (range(&child["ShardId"]), range(&child["ParentShardId"]));
        assert!(text(&own["StartingSequenceNumber"]) > text(&parents["EndingSequenceNumber"]), "{child}");
    }
}

#[tokio::test]
async fn a_stream_is_resharded_past_a_thousand_shards_in_its_life() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    let world = World::on(Arc::clone(&log), |_| {}).await;
    world.create("s", 1).await;
    for target in [2, 1].repeat(400) {
        let body = json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
        world.ok("UpdateShardCount", body).await;
    }
    let before = world.kinesis.stream("s").unwrap();
    assert_eq!(before.shards.len(), 1 + 400 * 3);
    world.put("s", "k", "after it all").await;
    assert_eq!(world.read_shard("s", "1200").await, ["after it all"]);
    let bytes: usize = log_bytes(log.as_ref()).await;
    assert!(bytes < 1024 * 1024, "a change is written, not every shard with it: {bytes} bytes");
    let again = World::on(log, |_| {}).await;
    assert_eq!(again.kinesis.stream("s").unwrap(), before);

    // A day later only what can still hold records is listed.
    world.pass(24 * 3_600_000 + 1000);
    assert_eq!(world.shards("s").await.len(), 1);
    assert_eq!(world.describe("s").await["Shards"].as_array().unwrap().len(), 1);
    for filter in ["AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST"] {
        let body = json!({"StreamName": "s", "ShardFilter": {"Type": filter}});
        assert_eq!(world.ok("ListShards", body).await["Shards"].as_array().unwrap().len(), 1, "{filter}");
    }
    let expired = json!({"StreamName": "s", "ShardId": "7", "ShardIteratorType": "TRIM_HORIZON"});
    world.fails("GetShardIterator", expired, "ResourceNotFoundException").await;
}

async fn log_bytes(log: &dyn EventLog) -> usize {
    let limit = pinmill_broker::ReadLimit { max_bytes: usize::MAX, max_wait: std::time::Duration::ZERO };
    let records = log.read(pinmill_kinesis::catalog::TOPIC, 0, 0, limit).await.unwrap();
    records.iter().map(|record| record.value.as_ref().map_or(0, Bytes::len)).sum()
}

#[tokio::test]
async fn a_stream_has_its_limits_of_shards() {
    let world = World::with(|config| {
        config.shard_limit = 100_000;
        config.all_shards_limit = 5;
    })
    .await;
    let many = json!({"StreamName": "t", "ShardCount": 10_001});
    let message = world.fails("CreateStream", many, "LimitExceededException").await;
    assert_eq!(message, "A stream may have at most 10000 open shards, not 10001.");
    world.create("s", 1).await;
    let scale = |target: u32| json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
    world.ok("UpdateShardCount", scale(2)).await;
    world.ok("UpdateShardCount", scale(1)).await;
    let message = world.fails("UpdateShardCount", scale(2), "LimitExceededException").await;
    assert_eq!(
        message,
        "There may be at most 5 shards in all, those that were split or merged included, and there are 4; deleting a stream \
         frees its shards."
    );
    let many = json!({"StreamName": "t", "ShardCount": 2});
    world.fails("CreateStream", many, "LimitExceededException").await;
    world.create("t", 1).await;
    world.ok("DeleteStream", json!({"StreamName": "s"})).await;
    world.create("u", 4).await;
}
