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
    world.pass(3_600_000);
    world.ok("DeleteStream", json!({"StreamName": "s"})).await;
    assert_eq!(world.describe("s").await["StreamStatus"], "DELETING");
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
    for second in [json!({"StreamName": "t", "StreamModeDetails": on_demand}), json!({"StreamName": "t"})] {
        world.fails("CreateStream", second, "LimitExceededException").await;
    }
    world.create("t", 1).await;
    let another =
        json!({"StreamARN": world.describe("t").await["StreamARN"], "StreamModeDetails": on_demand});
    world.fails("UpdateStreamMode", another, "LimitExceededException").await;
    let mode =
        json!({"StreamARN": described["StreamARN"], "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    world.ok("UpdateStreamMode", mode).await;
    world
        .ok("MergeShards", json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"}))
        .await;
}

#[tokio::test]
async fn a_stream_that_says_neither_count_nor_mode_has_four_shards_on_demand() {
    let world = World::start().await;
    world.ok("CreateStream", json!({"StreamName": "s"})).await;
    let described = world.describe("s").await;
    assert_eq!(described["StreamModeDetails"], json!({"StreamMode": "ON_DEMAND"}));
    assert_eq!(described["Shards"].as_array().unwrap().len(), 4);
    let provisioned = json!({"StreamName": "t", "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    world.fails("CreateStream", provisioned, "ValidationException").await;
    world.create("t", 1).await;
    assert_eq!(world.describe("t").await["StreamModeDetails"], json!({"StreamMode": "PROVISIONED"}));
}

#[tokio::test]
async fn no_page_is_larger_than_at_amazon() {
    let world = World::with(|config| config.shard_limit = 2000).await;
    world.create("s", 1001).await;
    for limit in [json!(null), json!(100), json!(101), json!(10_000)] {
        let page = world.ok("DescribeStream", json!({"StreamName": "s", "Limit": limit})).await;
        let page = &page["StreamDescription"];
        assert_eq!((page["Shards"].as_array().unwrap().len(), &page["HasMoreShards"]), (100, &json!(true)));
    }
    for limit in [json!(null), json!(1000), json!(1001), json!(10_000)] {
        let page = world.ok("ListShards", json!({"StreamName": "s", "MaxResults": limit})).await;
        assert_eq!(page["Shards"].as_array().unwrap().len(), 1000, "{limit}");
        let rest = world.ok("ListShards", json!({"NextToken": page["NextToken"], "MaxResults": limit})).await;
        assert_eq!(rest["Shards"].as_array().unwrap().len(), 1);
    }
    for n in 0..101 {
        world.kinesis.create_stream(&format!("n{n:03}"), 1).await.unwrap();
    }
    for limit in [json!(null), json!(100), json!(101), json!(10_000)] {
        let page = world.ok("ListStreams", json!({"Limit": limit})).await;
        assert_eq!(
            (page["StreamNames"].as_array().unwrap().len(), &page["HasMoreStreams"]),
            (100, &json!(true))
        );
    }
}

#[tokio::test]
async fn a_page_of_consumers_has_a_hundred_at_the_most() {
    let world = World::with(|config| config.consumer_limit = 101).await;
    world.create("s", 1).await;
    let arn = world.describe("s").await["StreamARN"].clone();
    for n in 0..101 {
        let body = json!({"StreamARN": arn, "ConsumerName": format!("c{n}")});
        world.ok("RegisterStreamConsumer", body).await;
    }
    for limit in [json!(null), json!(100), json!(101), json!(10_000)] {
        let page = world.ok("ListStreamConsumers", json!({"StreamARN": arn, "MaxResults": limit})).await;
        assert_eq!(page["Consumers"].as_array().unwrap().len(), 100);
        assert!(page["NextToken"].is_string());
    }
}

#[tokio::test]
async fn a_listing_of_shards_takes_what_goes_together() {
    let world = World::start().await;
    world.create("s", 3).await;
    let described = world.describe("s").await;
    let (arn, created) = (&described["StreamARN"], described["StreamCreationTimestamp"].as_f64().unwrap());
    let token =
        world.ok("ListShards", json!({"StreamName": "s", "MaxResults": 1})).await["NextToken"].clone();
    for (member, value) in [
        ("StreamName", json!("s")),
        ("StreamARN", arn.clone()),
        ("ExclusiveStartShardId", json!("shardId-000000000000")),
        ("StreamCreationTimestamp", json!(created)),
        ("ShardFilter", json!({"Type": "AT_LATEST"})),
    ] {
        let mut body = json!({"NextToken": token});
        body[member] = value;
        let message = world.fails("ListShards", body, "InvalidArgumentException").await;
        assert_eq!(message, format!("NextToken and {member} cannot be provided together."));
    }
    for (created, is_meant) in
        [(created, true), (created.floor(), true), (created - 1.0, false), (0.0, false)]
    {
        for (operation, mut body) in
            [("ListShards", json!({"StreamName": "s"})), ("ListStreamConsumers", json!({"StreamARN": arn}))]
        {
            body["StreamCreationTimestamp"] = json!(created);
            if is_meant {
                world.ok(operation, body).await;
            } else {
                world.fails(operation, body, "ResourceNotFoundException").await;
            }
        }
    }
    for (filter, is_right) in [
        (json!({"Type": "AFTER_SHARD_ID", "ShardId": "0"}), true),
        (json!({"Type": "AFTER_SHARD_ID"}), false),
        (json!({"Type": "AFTER_SHARD_ID", "ShardId": "0", "Timestamp": created}), false),
        (json!({"Type": "AT_TIMESTAMP", "Timestamp": created}), true),
        (json!({"Type": "FROM_TIMESTAMP", "Timestamp": created}), true),
        (json!({"Type": "AT_TIMESTAMP"}), false),
        (json!({"Type": "FROM_TIMESTAMP", "Timestamp": created, "ShardId": "0"}), false),
        (json!({"Type": "AT_LATEST"}), true),
        (json!({"Type": "AT_LATEST", "ShardId": "0"}), false),
        (json!({"Type": "AT_TRIM_HORIZON", "Timestamp": created}), false),
        (json!({"Type": "FROM_TRIM_HORIZON", "Timestamp": created}), false),
    ] {
        let body = json!({"StreamName": "s", "ShardFilter": filter});
        if is_right {
            world.ok("ListShards", body).await;
        } else {
            world.fails("ListShards", body, "InvalidArgumentException").await;
        }
    }
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
        let key = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/mine"});
        world.ok("StartStreamEncryption", key).await;
        world.ok("EnableEnhancedMonitoring", json!({"StreamName": "s", "ShardLevelMetrics": ["ALL"]})).await;
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

#[tokio::test]
async fn streams_under_ever_new_names_leave_nothing_to_be_read_at_the_next_start() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    let world = World::on(Arc::clone(&log), |_| {}).await;
    for n in 0..1000 {
        let name = format!("n{n}");
        world.kinesis.create_stream(&name, 1).await.unwrap();
        world.ok("DeleteStream", json!({"StreamName": name})).await;
    }
    let topic = pinmill_kinesis::catalog::TOPIC;
    let position = log.position(pinmill_kinesis::catalog::READER, topic, 0).await.unwrap().unwrap();
    let end = log.offsets(topic, 0).await.unwrap().end;
    assert!(end >= 3000 && end - position < 1100, "{position} to {end}");
    assert_eq!(log.topics().await.unwrap(), [topic]);
}

#[tokio::test]
async fn a_catalog_of_the_first_version_is_opened_and_gone_on_with() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    log.create_topic(pinmill_kinesis::catalog::TOPIC, 1).await.unwrap();
    log.create_topic("s", 3).await.unwrap();
    let now_ms = 1_733_333_333_123_i64;
    let (all, middle) = (u128::MAX.to_string(), u128::MAX / 2);
    let shard = |start: u128, end: String, rest: Value| {
        let mut shard = json!({"range": {"start": start.to_string(), "end": end}, "created_s": 1_733_333_334, "opened_ms": now_ms});
        shard.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        shard
    };
    let state = json!({
        "name": "s", "created_ms": now_ms, "mode": "PROVISIONED", "retention_hours": 8760, "tags": {"a": "b"},
        "consumers": {"c": {"created_ms": now_ms, "tags": {}}}, "is_deleting": false,
        "shards": [
            shard(0, all.clone(), json!({"closed": {"at_ms": now_ms + 5, "end_offset": 0}})),
            shard(0, middle.to_string(), json!({"parent": 0})),
            shard(middle + 1, all, json!({"parent": 0})),
        ],
    });
    let record = pinmill_broker::Record {
        key: Some("s".into()),
        value: Some(state.to_string().into()),
        ..pinmill_broker::Record::default()
    };
    log.append(pinmill_kinesis::catalog::TOPIC, 0, vec![record]).await.unwrap();
    let before = {
        let world = World::on(Arc::clone(&log), |_| {}).await;
        assert_eq!(world.ok("ListTagsForStream", json!({"StreamName": "s"})).await["Tags"][0]["Value"], "b");
        world.ok("AddTagsToStream", json!({"StreamName": "s", "Tags": {"c": "d"}})).await;
        world
            .ok("MergeShards", json!({"StreamName": "s", "ShardToMerge": "1", "AdjacentShardToMerge": "2"}))
            .await;
        assert_eq!(world.put("s", "k", "data").await.0, "shardId-000000000003");
        world.kinesis.streams()
    };
    let world = World::on(log, |_| {}).await;
    assert_eq!(world.kinesis.streams(), before);
    assert_eq!(world.read_shard("s", "3").await, ["data"]);
}
