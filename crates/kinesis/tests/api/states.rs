//! What may be asked of a stream that is being made, changed or deleted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, text};

const DELAY_MS: i64 = 3_600_000;

async fn settling() -> World {
    World::with(|config| config.creation_delay = Duration::from_millis(DELAY_MS.unsigned_abs())).await
}

/// Every operation on a stream, with a request that its active self would take, and what becomes of it while the stream
/// is `CREATING`, `UPDATING` and `DELETING`; nothing where it is carried out.
fn operations(arn: &str, consumer: &str) -> Vec<(&'static str, Value, [&'static str; 3])> {
    const OK: [&str; 3] = ["", "", ""];
    const ACTIVE: [&str; 3] = ["ResourceInUseException"; 3];
    const SETTLED: [&str; 3] = ["ResourceInUseException", "", "ResourceInUseException"];
    const DATA: [&str; 3] = ["ResourceNotFoundException", "", "ResourceNotFoundException"];
    let kms = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"});
    let metrics = json!({"StreamName": "s", "ShardLevelMetrics": ["ALL"]});
    vec![
        ("DescribeStream", json!({"StreamName": "s"}), OK),
        ("DescribeStreamSummary", json!({"StreamName": "s"}), OK),
        ("ListStreams", json!({}), OK),
        ("ListTagsForStream", json!({"StreamName": "s"}), OK),
        ("ListTagsForResource", json!({"ResourceARN": arn}), OK),
        ("PutRecord", json!({"StreamName": "s", "PartitionKey": "k", "Data": ""}), DATA),
        ("PutRecords", json!({"StreamName": "s", "Records": [{"PartitionKey": "k", "Data": ""}]}), DATA),
        (
            "GetShardIterator",
            json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"}),
            DATA,
        ),
        ("ListShards", json!({"StreamName": "s"}), SETTLED),
        ("ListStreamConsumers", json!({"StreamARN": arn}), SETTLED),
        ("RegisterStreamConsumer", json!({"StreamARN": arn, "ConsumerName": consumer}), SETTLED),
        ("AddTagsToStream", json!({"StreamName": "s", "Tags": {"a": "b"}}), SETTLED),
        ("RemoveTagsFromStream", json!({"StreamName": "s", "TagKeys": ["a"]}), SETTLED),
        ("TagResource", json!({"ResourceARN": arn, "Tags": {"a": "b"}}), SETTLED),
        ("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["a"]}), SETTLED),
        ("SplitShard", json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "5"}), ACTIVE),
        ("MergeShards", json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"}), ACTIVE),
        (
            "UpdateShardCount",
            json!({"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}),
            ACTIVE,
        ),
        ("IncreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 48}), ACTIVE),
        ("DecreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 24}), ACTIVE),
        (
            "UpdateStreamMode",
            json!({"StreamARN": arn, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
            ACTIVE,
        ),
        ("UpdateMaxRecordSize", json!({"StreamARN": arn, "MaxRecordSizeInKiB": 2048}), ACTIVE),
        ("StartStreamEncryption", kms.clone(), ACTIVE),
        ("StopStreamEncryption", kms, ACTIVE),
        ("EnableEnhancedMonitoring", metrics.clone(), ACTIVE),
        ("DisableEnhancedMonitoring", metrics, ACTIVE),
        (
            "UpdateStreamRecordDistributionStrategy",
            json!({"StreamARN": arn, "RecordDistributionStrategy": "USER_PARTITION_KEY"}),
            ACTIVE,
        ),
        ("DeleteStream", json!({"StreamName": "s", "EnforceConsumerDeletion": true}), ACTIVE),
    ]
}

#[tokio::test]
async fn each_state_of_a_stream_takes_what_it_takes_at_amazon() {
    for (n, state) in ["CREATING", "UPDATING", "DELETING"].into_iter().enumerate() {
        let world = settling().await;
        world.create("s", 2).await;
        let arn = text(&world.describe("s").await["StreamARN"]);
        if n > 0 {
            world.pass(DELAY_MS);
            let leave = match state {
                "UPDATING" => {
                    ("IncreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 25}))
                }
                _ => ("DeleteStream", json!({"StreamName": "s"})),
            };
            world.ok(leave.0, leave.1).await;
        }
        for (operation, body, expected) in operations(&arn, "c") {
            assert_eq!(world.describe("s").await["StreamStatus"], state, "before {operation}");
            if expected[n].is_empty() {
                world.ok(operation, body).await;
                continue;
            }
            let message = world.fails(operation, body, expected[n]).await;
            if expected[n] == "ResourceInUseException" {
                let says =
                    format!("Stream s under account 000000000000 not ACTIVE, instead in state {state}");
                assert_eq!(message, says, "{operation}");
            }
        }
    }
}

#[tokio::test]
async fn a_changed_stream_is_updating_and_an_unchanged_one_is_not() {
    let world = settling().await;
    world.create("s", 2).await;
    world.pass(DELAY_MS);
    let arn = text(&world.describe("s").await["StreamARN"]);
    let same = json!({"StreamName": "s", "RetentionPeriodHours": 24});
    world.ok("DecreaseStreamRetentionPeriod", same).await;
    assert_eq!(world.describe("s").await["StreamStatus"], "ACTIVE", "nothing was changed");
    let kms = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"});
    let metrics = json!({"StreamName": "s", "ShardLevelMetrics": ["IncomingBytes"]});
    for (operation, body) in [
        ("IncreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 48})),
        ("UpdateMaxRecordSize", json!({"StreamARN": arn, "MaxRecordSizeInKiB": 2048})),
        ("StartStreamEncryption", kms.clone()),
        ("StopStreamEncryption", kms),
        ("EnableEnhancedMonitoring", metrics.clone()),
        ("DisableEnhancedMonitoring", metrics),
        ("SplitShard", json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "5"})),
        ("UpdateStreamMode", json!({"StreamARN": arn, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}})),
    ] {
        world.ok(operation, body).await;
        assert_eq!(world.describe("s").await["StreamStatus"], "UPDATING", "after {operation}");
        world.pass(DELAY_MS);
        assert_eq!(world.describe("s").await["StreamStatus"], "ACTIVE");
    }
}

#[tokio::test]
async fn five_consumers_may_be_made_at_a_time() {
    let world = settling().await;
    world.create("s", 1).await;
    world.pass(DELAY_MS);
    let arn = world.describe("s").await["StreamARN"].clone();
    let register = |n: usize| json!({"StreamARN": arn, "ConsumerName": format!("c{n}")});
    for n in 0..5 {
        world.ok("RegisterStreamConsumer", register(n)).await;
    }
    world.fails("RegisterStreamConsumer", register(5), "LimitExceededException").await;
    world.pass(DELAY_MS);
    world.ok("RegisterStreamConsumer", register(5)).await;
}
