//! Streams: made, described, listed, changed, deleted.

use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EventLog, MemoryLog};
use serde_json::{Value, json};

use crate::world::{World, text};

#[tokio::test]
async fn a_stream_is_made_described_and_deleted() {
    let world = World::start().await;
    world.create("s", 3).await;
    let described = world.describe("s").await;
    assert_eq!(described["StreamARN"], "arn:aws:kinesis:us-east-1:000000000000:stream/s");
    assert_eq!(described["StreamStatus"], "ACTIVE");
    assert_eq!(described["StreamModeDetails"], json!({"StreamMode": "PROVISIONED"}));
    assert_eq!(described["RetentionPeriodHours"], 24);
    assert_eq!(described["HasMoreShards"], false);
    assert_eq!(described["EncryptionType"], "NONE");
    assert_eq!(described["EnhancedMonitoring"], json!([{"ShardLevelMetrics": []}]));
    assert!(described["StreamCreationTimestamp"].as_f64().unwrap() > 1.6e9);
    let shards = described["Shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3);
    assert_eq!(shards[1]["ShardId"], "shardId-000000000001");
    assert_eq!(
        shards[1]["HashKeyRange"],
        json!({
            "StartingHashKey": "113427455640312821154458202477256070485",
            "EndingHashKey": "226854911280625642308916404954512140969"
        })
    );
    assert_eq!(text(&shards[1]["SequenceNumberRange"]["StartingSequenceNumber"]).len(), 56);
    assert_eq!(shards[1]["SequenceNumberRange"]["EndingSequenceNumber"], Value::Null);

    let summary = world.ok("DescribeStreamSummary", json!({"StreamName": "s"})).await;
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!((&summary["OpenShardCount"], &summary["ConsumerCount"]), (&json!(3), &json!(0)));
    assert_eq!(summary["MaxRecordSizeInKiB"], 1024);

    let by_arn = json!({"StreamARN": described["StreamARN"]});
    assert_eq!(world.ok("DescribeStream", by_arn).await["StreamDescription"], described);
    assert_eq!(world.ok("DeleteStream", json!({"StreamName": "s"})).await, Value::Null);
    let message =
        world.fails("DescribeStream", json!({"StreamName": "s"}), "ResourceNotFoundException").await;
    assert_eq!(message, "Stream s under account 000000000000 not found.");
}

#[tokio::test]
async fn a_name_is_taken_once_and_reserved_ones_are_refused() {
    let world = World::start().await;
    world.create("s", 1).await;
    let message = world
        .fails("CreateStream", json!({"StreamName": "s", "ShardCount": 1}), "ResourceInUseException")
        .await;
    assert_eq!(message, "Stream s under account 000000000000 already exists.");
    for name in [".", "..", "__pinmill_streams"] {
        let body = json!({"StreamName": name, "ShardCount": 1});
        world.fails("CreateStream", body, "InvalidArgumentException").await;
    }
}

#[tokio::test]
async fn the_shard_limit_of_the_account_is_kept() {
    let world = World::with(|config| config.shard_limit = 10).await;
    world.create("s", 4).await;
    let body = json!({"StreamName": "t", "ShardCount": 100_000});
    let message = world.fails("CreateStream", body, "LimitExceededException").await;
    assert_eq!(
        message,
        "This request would exceed the shard limit for the account 000000000000 in us-east-1. Current shard count for the \
         account: 4. Limit: 10. Number of additional shards that would have resulted from this request: 100000. Refer to the \
         AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and \
         how to request higher limits."
    );
    world.fails("CreateStream", json!({"StreamName": "t", "ShardCount": 7}), "LimitExceededException").await;
    world.create("t", 6).await;
    let limits = world.ok("DescribeLimits", json!({})).await;
    assert_eq!((&limits["ShardLimit"], &limits["OpenShardCount"]), (&json!(10), &json!(10)));
    assert_eq!(
        (&limits["OnDemandStreamCount"], &limits["OnDemandStreamCountLimit"]),
        (&json!(0), &json!(50))
    );
}

#[tokio::test]
async fn streams_are_listed_by_name_in_pages() {
    let world = World::start().await;
    for name in ["c", "a", "d", "b"] {
        world.create(name, 1).await;
    }
    let page = world.ok("ListStreams", json!({"Limit": 3})).await;
    assert_eq!((&page["StreamNames"], &page["HasMoreStreams"]), (&json!(["a", "b", "c"]), &json!(true)));
    assert_eq!(page["StreamSummaries"][0]["StreamARN"], "arn:aws:kinesis:us-east-1:000000000000:stream/a");
    let token = json!({"NextToken": page["NextToken"]});
    let rest = world.ok("ListStreams", token.clone()).await;
    assert_eq!((&rest["StreamNames"], &rest["HasMoreStreams"]), (&json!(["d"]), &json!(false)));
    assert_eq!(rest["NextToken"], Value::Null);
    let after = world.ok("ListStreams", json!({"ExclusiveStartStreamName": "b"})).await;
    assert_eq!(after["StreamNames"], json!(["c", "d"]));
    world.pass(300_001);
    world.fails("ListStreams", token, "ExpiredNextTokenException").await;
}

#[tokio::test]
async fn shards_are_described_and_listed_in_pages() {
    let world = World::start().await;
    world.create("s", 5).await;
    let page = world.ok("DescribeStream", json!({"StreamName": "s", "Limit": 2})).await;
    let page = &page["StreamDescription"];
    assert_eq!((page["Shards"].as_array().unwrap().len(), &page["HasMoreShards"]), (2, &json!(true)));
    let body = json!({"StreamName": "s", "ExclusiveStartShardId": page["Shards"][1]["ShardId"]});
    let rest = world.ok("DescribeStream", body.clone()).await;
    let rest = &rest["StreamDescription"];
    assert_eq!((rest["Shards"].as_array().unwrap().len(), &rest["HasMoreShards"]), (3, &json!(false)));
    assert_eq!(world.ok("ListShards", body).await["Shards"], rest["Shards"]);

    let first = world.ok("ListShards", json!({"StreamName": "s", "MaxResults": 4})).await;
    assert_eq!(first["Shards"].as_array().unwrap().len(), 4);
    let second = world.ok("ListShards", json!({"NextToken": first["NextToken"]})).await;
    assert_eq!(second["Shards"][0]["ShardId"], "shardId-000000000004");
    assert_eq!(second["NextToken"], Value::Null);

    let neither = world.fails("ListShards", json!({}), "InvalidArgumentException").await;
    assert_eq!(neither, "Either NextToken or StreamName should be provided.");
    let both = json!({"StreamName": "s", "NextToken": first["NextToken"]});
    let message = world.fails("ListShards", both, "InvalidArgumentException").await;
    assert_eq!(message, "NextToken and StreamName cannot be provided together.");
    world.fails("ListShards", json!({"NextToken": "x"}), "InvalidArgumentException").await;
    world.pass(300_001);
    world.fails("ListShards", json!({"NextToken": first["NextToken"]}), "ExpiredNextTokenException").await;
}

#[tokio::test]
async fn a_stream_that_takes_its_time_shows_it() {
    let world = World::with(|config| config.creation_delay = Duration::from_secs(3600)).await;
    world.create("s", 2).await;
    let described = world.describe("s").await;
    assert_eq!((&described["StreamStatus"], &described["Shards"]), (&json!("CREATING"), &json!([])));
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": ""});
    let message = world.fails("PutRecord", put, "ResourceNotFoundException").await;
    assert_eq!(message, "Stream s under account 000000000000 not found.");
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "5"});
    let message = world.fails("SplitShard", split.clone(), "ResourceInUseException").await;
    assert_eq!(message, "Stream s under account 000000000000 not ACTIVE, instead in state CREATING");
    for name in ["t", "u", "v", "w"] {
        world.create(name, 1).await;
    }
    world.fails("CreateStream", json!({"StreamName": "x", "ShardCount": 1}), "LimitExceededException").await;

    world.pass(3_600_000);
    assert_eq!(world.describe("s").await["StreamStatus"], "ACTIVE");
    world.put("s", "k", "data").await;
    world.ok("SplitShard", split).await;
    assert_eq!(world.describe("s").await["StreamStatus"], "UPDATING");
    world.put("s", "k", "taken while it is updated").await;
    world.ok("DeleteStream", json!({"StreamName": "s"})).await;
    assert_eq!(world.describe("s").await["StreamStatus"], "DELETING");
    world.ok("DeleteStream", json!({"StreamName": "s"})).await;
}

#[tokio::test]
async fn retention_grows_and_shrinks_within_its_bounds() {
    let world = World::start().await;
    world.create("s", 1).await;
    let body = |hours: i64| json!({"StreamName": "s", "RetentionPeriodHours": hours});
    let (increase, decrease) = ("IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod");
    world.ok(increase, body(48)).await;
    world.ok(increase, body(48)).await;
    assert_eq!(world.describe("s").await["RetentionPeriodHours"], 48);
    for (operation, hours, message) in [
        (
            increase,
            23,
            "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.",
        ),
        (
            decrease,
            -1,
            "Minimum allowed retention period is 24 hours. Requested retention period (-1 hours) is too short.",
        ),
        (
            increase,
            8761,
            "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.",
        ),
        (
            increase,
            47,
            "Requested retention period (47 hours) for stream s can not be shorter than existing retention period (48 hours). \
             Use DecreaseRetentionPeriod API.",
        ),
        (
            decrease,
            49,
            "Requested retention period (49 hours) for stream s can not be longer than existing retention period (48 hours). \
             Use IncreaseRetentionPeriod API.",
        ),
    ] {
        assert_eq!(world.fails(operation, body(hours), "InvalidArgumentException").await, message);
    }
    world.ok(decrease, body(24)).await;
}

#[tokio::test]
async fn tags_are_added_listed_in_pages_and_removed() {
    let world = World::start().await;
    world.create("s", 1).await;
    let tags: serde_json::Map<_, _> = (10..60).map(|n| (format!("k{n}"), json!(format!("v{n}")))).collect();
    world.ok("AddTagsToStream", json!({"StreamName": "s", "Tags": tags})).await;
    world.ok("AddTagsToStream", json!({"StreamName": "s", "Tags": {"k10": "ü /_=+-@."}})).await;
    let page = world.ok("ListTagsForStream", json!({"StreamName": "s", "Limit": 2})).await;
    let expected = json!([{"Key": "k10", "Value": "ü /_=+-@."}, {"Key": "k11", "Value": "v11"}]);
    assert_eq!(page, json!({"Tags": expected, "HasMoreTags": true}));
    let rest = world.ok("ListTagsForStream", json!({"StreamName": "s", "ExclusiveStartTagKey": "k58"})).await;
    assert_eq!(rest, json!({"Tags": [{"Key": "k59", "Value": "v59"}], "HasMoreTags": false}));

    let add = |tags: Value| json!({"StreamName": "s", "Tags": tags});
    for (tags, message) in [
        (
            json!({"one more": "v"}),
            "Failed to add tags to stream s under account 000000000000 because a given stream cannot have more than 10 tags \
             associated with it.",
        ),
        (
            json!({"a;": "v"}),
            "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.",
        ),
        (
            json!({"a": "100%"}),
            "Failed to add tags to stream s under account 000000000000 because some tags contained illegal characters. The \
             allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.",
        ),
    ] {
        assert_eq!(world.fails("AddTagsToStream", add(tags), "InvalidArgumentException").await, message);
    }
    world.ok("RemoveTagsFromStream", json!({"StreamName": "s", "TagKeys": ["k10", "k11", "none"]})).await;
    world.ok("AddTagsToStream", add(json!({"one more": "v"}))).await;
    let message = world.fails(
        "RemoveTagsFromStream",
        json!({"StreamName": "s", "TagKeys": ["%"]}),
        "InvalidArgumentException",
    );
    assert!(
        message.await.starts_with("Failed to remove tags from stream s under account 000000000000 because")
    );
}

#[tokio::test]
async fn on_demand_streams_have_four_shards_and_are_not_split() {
    let world = World::with(|config| config.on_demand_limit = 1).await;
    let on_demand = json!({"StreamMode": "ON_DEMAND"});
    world.ok("CreateStream", json!({"StreamName": "s", "StreamModeDetails": on_demand})).await;
    let described = world.describe("s").await;
    assert_eq!(described["StreamModeDetails"], on_demand);
    assert_eq!(described["Shards"].as_array().unwrap().len(), 4);
    let message = "Request is invalid. Stream s under account 000000000000 is in On-Demand mode.";
    for (operation, body) in [
        ("SplitShard", json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "5"})),
        ("MergeShards", json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"})),
        (
            "UpdateShardCount",
            json!({"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}),
        ),
    ] {
        assert_eq!(world.fails(operation, body, "ValidationException").await, message);
    }
    let second = json!({"StreamName": "t", "StreamModeDetails": on_demand});
    world.fails("CreateStream", second, "LimitExceededException").await;
    let mode =
        json!({"StreamARN": described["StreamARN"], "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    world.ok("UpdateStreamMode", mode).await;
    world
        .ok("MergeShards", json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"}))
        .await;
}

#[tokio::test]
async fn everything_about_a_stream_survives_a_restart() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    let (before, records, position) = {
        let world = World::on(Arc::clone(&log), |_| {}).await;
        world.create("gone", 1).await;
        world.create("s", 2).await;
        for n in 0..20 {
            world.put("s", &format!("k{n}"), &n.to_string()).await;
        }
        world.ok("SplitShard", json!({"StreamName": "s", "ShardToSplit": "1", "NewStartingHashKey": "255211775190703847597530955573826158592"})).await;
        world.ok("AddTagsToStream", json!({"StreamName": "s", "Tags": {"a": "b"}})).await;
        world
            .ok("IncreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 100}))
            .await;
        let arn = world.describe("s").await["StreamARN"].clone();
        world.ok("RegisterStreamConsumer", json!({"StreamARN": arn, "ConsumerName": "c"})).await;
        world.ok("DeleteStream", json!({"StreamName": "gone"})).await;
        let state = world.kinesis.stream("s").unwrap();
        (state, world.read_all("s").await, world.iterator("s", "0", "LATEST").await)
    };
    let world = World::on(log, |_| {}).await;
    assert_eq!(world.kinesis.stream("s").unwrap(), before);
    assert_eq!(world.kinesis.streams().len(), 1);
    assert_eq!(world.read_all("s").await, records);
    world
        .ok(
            "PutRecord",
            json!({"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": "bmV3"}),
        )
        .await;
    assert_eq!(world.read_from(position).await, ["new"], "an iterator goes on after a restart");
}

#[tokio::test]
async fn a_deletion_that_was_cut_short_is_finished_at_the_next_start() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    {
        let world =
            World::on(Arc::clone(&log), |config| config.creation_delay = Duration::from_secs(3600)).await;
        world.kinesis.create_stream("s", 1).await.unwrap();
        world.put("s", "k", "old").await;
        world.ok("DeleteStream", json!({"StreamName": "s"})).await;
        assert!(log.topics().await.unwrap().contains(&"s".to_owned()), "its records are still there");
    }
    let world = World::on(Arc::clone(&log), |_| {}).await;
    assert!(world.kinesis.stream("s").is_none());
    assert!(!log.topics().await.unwrap().contains(&"s".to_owned()));
    world.create("s", 1).await;
    assert!(world.read_shard("s", "0").await.is_empty());
}

#[tokio::test]
async fn a_topic_that_a_crash_left_is_replaced_and_a_strangers_is_not() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    let world = World::on(Arc::clone(&log), |_| {}).await;
    log.create_topic("left", 1).await.unwrap();
    world.create("left", 3).await;
    assert_eq!(log.describe("left").await.unwrap().partitions.len(), 3);
    log.create_topic("strange", 1).await.unwrap();
    log.append("strange", 0, vec![pinmill_broker::Record::default()]).await.unwrap();
    world
        .fails("CreateStream", json!({"StreamName": "strange", "ShardCount": 1}), "ResourceInUseException")
        .await;
    assert_eq!(log.offsets("strange", 0).await.unwrap().end, 1);
}

#[tokio::test]
async fn the_catalog_is_compacted_and_says_the_same() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    let before = {
        let world = World::on(Arc::clone(&log), |_| {}).await;
        world.kinesis.create_stream("a", 2).await.unwrap();
        world.kinesis.create_stream("b", 1).await.unwrap();
        for n in 0..1100 {
            world.ok("AddTagsToStream", json!({"StreamName": "a", "Tags": {"n": n.to_string()}})).await;
        }
        world.kinesis.streams()
    };
    let topic = pinmill_kinesis::catalog::TOPIC;
    let position = log.position(pinmill_kinesis::catalog::READER, topic, 0).await.unwrap().unwrap();
    assert!(position > 1000, "records before {position} are no longer needed");
    let world = World::on(log, |_| {}).await;
    assert_eq!(world.kinesis.streams(), before);
}
