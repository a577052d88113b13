//! Tags by ARN, metrics of shards, encryption, regions; and what is asked of things that are not there.

use std::sync::Arc;

use pinmill_broker::MemoryLog;
use pinmill_gateway::Memory;
use pinmill_kinesis::{Kinesis, KinesisConfig, LEAST_ANSWER_MEMORY, OpenError};
use serde_json::{Value, json};

use crate::world::{World, text};

#[tokio::test]
async fn streams_and_consumers_are_tagged_by_their_arn() {
    let world = World::start().await;
    world.create("s", 1).await;
    let stream = text(&world.describe("s").await["StreamARN"]);
    let made = json!({"StreamARN": stream, "ConsumerName": "c", "Tags": {"made": "so"}});
    let consumer = text(&world.ok("RegisterStreamConsumer", made).await["Consumer"]["ConsumerARN"]);
    let tags =
        async |arn: &str| world.ok("ListTagsForResource", json!({"ResourceARN": arn})).await["Tags"].clone();
    assert_eq!(tags(&stream).await, json!([]));
    assert_eq!(tags(&consumer).await, json!([{"Key": "made", "Value": "so"}]));
    for arn in [&stream, &consumer] {
        world
            .ok("TagResource", json!({"ResourceARN": arn, "Tags": {"a:b": "ü /_=+-@.", "made": "anew"}}))
            .await;
        world.ok("TagResource", json!({"ResourceARN": arn, "Tags": {"gone": ""}})).await;
        world.ok("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["gone", "none"]})).await;
        let expected = json!([{"Key": "a:b", "Value": "ü /_=+-@."}, {"Key": "made", "Value": "anew"}]);
        assert_eq!(tags(arn).await, expected);
        for (bad, kind) in [
            (json!({"a%": "v"}), "InvalidArgumentException"),
            (json!({"aws:x": "v"}), "InvalidArgumentException"),
            (json!({"": "v"}), "ValidationException"),
        ] {
            world.fails("TagResource", json!({"ResourceARN": arn, "Tags": bad}), kind).await;
        }
        let many: serde_json::Map<_, _> = (0..49).map(|n| (format!("k{n}"), json!("v"))).collect();
        let too_many = json!({"ResourceARN": arn, "Tags": many});
        world.fails("TagResource", too_many, "InvalidArgumentException").await;
        assert_eq!(tags(arn).await, expected, "what was refused changed nothing");
    }
    assert_eq!(world.ok("ListTagsForStream", json!({"StreamName": "s"})).await["Tags"], tags(&stream).await);
    for arn in [
        "arn:aws:kinesis:us-east-1:000000000000:stream/none",
        "arn:aws:kinesis:us-east-1:000000000001:stream/s",
        "arn:aws:kinesis:eu-west-1:000000000000:stream/s",
        "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1",
        "arn:aws:kinesis:us-east-1:000000000000:queue/q",
        "arn:aws:kinesis:us-east-1:000000000000:channel/c",
    ] {
        for (operation, body) in [
            ("ListTagsForResource", json!({"ResourceARN": arn})),
            ("TagResource", json!({"ResourceARN": arn, "Tags": {"a": "b"}})),
            ("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["a"]})),
        ] {
            world.fails(operation, body, "ResourceNotFoundException").await;
        }
    }
}

#[tokio::test]
async fn metrics_of_shards_are_switched_and_shown() {
    let world = World::start().await;
    world.create("s", 1).await;
    let body = |metrics: Value| json!({"StreamName": "s", "ShardLevelMetrics": metrics});
    let on = world.ok("EnableEnhancedMonitoring", body(json!(["OutgoingBytes", "IncomingBytes"]))).await;
    assert_eq!(on["StreamARN"], "arn:aws:kinesis:us-east-1:000000000000:stream/s");
    assert_eq!(on["CurrentShardLevelMetrics"], json!([]));
    assert_eq!(on["DesiredShardLevelMetrics"], json!(["IncomingBytes", "OutgoingBytes"]));
    let all = world.ok("EnableEnhancedMonitoring", body(json!(["ALL"]))).await;
    assert_eq!(all["CurrentShardLevelMetrics"], on["DesiredShardLevelMetrics"]);
    assert_eq!(all["DesiredShardLevelMetrics"].as_array().unwrap().len(), 7);
    let off = world.ok("DisableEnhancedMonitoring", body(json!(["IncomingBytes"]))).await;
    assert_eq!(off["DesiredShardLevelMetrics"].as_array().unwrap().len(), 6);
    let shown = json!([{"ShardLevelMetrics": off["DesiredShardLevelMetrics"]}]);
    assert_eq!(world.describe("s").await["EnhancedMonitoring"], shown);
    for metrics in [json!([]), json!(["Other"]), json!(vec!["ALL"; 8])] {
        world.fails("EnableEnhancedMonitoring", body(metrics), "ValidationException").await;
    }
    let none = world.ok("DisableEnhancedMonitoring", body(json!(["ALL"]))).await;
    assert_eq!(none["DesiredShardLevelMetrics"], json!([]));
}

#[tokio::test]
async fn encryption_is_shown_by_the_stream_its_puts_and_its_records() {
    let world = World::start().await;
    world.create("s", 1).await;
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": "eA=="});
    let many = json!({"StreamName": "s", "Records": [{"PartitionKey": "k", "Data": "eA=="}]});
    assert_eq!(world.ok("PutRecord", put.clone()).await["EncryptionType"], Value::Null);
    let key = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/mine"});
    world.ok("StartStreamEncryption", key.clone()).await;
    let described = world.describe("s").await;
    assert_eq!((&described["EncryptionType"], &described["KeyId"]), (&json!("KMS"), &json!("alias/mine")));
    assert_eq!(world.ok("PutRecord", put.clone()).await["EncryptionType"], "KMS");
    assert_eq!(world.ok("PutRecords", many).await["EncryptionType"], "KMS");
    world.ok("StopStreamEncryption", key).await;
    let described = world.describe("s").await;
    assert_eq!((&described["EncryptionType"], &described["KeyId"]), (&json!("NONE"), &Value::Null));
    world.ok("PutRecord", put).await;
    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    let read = world.ok("GetRecords", json!({"ShardIterator": iterator})).await;
    let shown: Vec<_> =
        read["Records"].as_array().unwrap().iter().map(|record| record["EncryptionType"].clone()).collect();
    assert_eq!(shown, [Value::Null, json!("KMS"), json!("KMS"), Value::Null]);
    for (body, kind) in [
        (json!({"StreamName": "s", "EncryptionType": "NONE", "KeyId": "k"}), "InvalidArgumentException"),
        (json!({"StreamName": "s", "EncryptionType": "AES", "KeyId": "k"}), "ValidationException"),
        (json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": ""}), "ValidationException"),
        (json!({"StreamName": "s", "EncryptionType": "KMS"}), "ValidationException"),
    ] {
        world.fails("StartStreamEncryption", body, kind).await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_and_not_dropped() {
    let world = World::start().await;
    world.create("s", 1).await;
    let on_demand = json!({"StreamMode": "ON_DEMAND"});
    world.ok("CreateStream", json!({"StreamName": "o", "StreamModeDetails": on_demand})).await;
    let arn = |name: &str| format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}");
    let (invalid, validation) = ("InvalidArgumentException", "ValidationException");
    for (operation, body, kind) in [
        ("CreateStream", json!({"StreamName": "t", "RecordDistributionStrategy": "AUTO"}), invalid),
        ("CreateStream", json!({"StreamName": "t", "RecordDistributionStrategy": "OTHER"}), validation),
        ("CreateStream", json!({"StreamName": "t", "WarmThroughputMiBps": 10}), validation),
        (
            "UpdateStreamMode",
            json!({"StreamARN": arn("s"), "StreamModeDetails": on_demand, "WarmThroughputMiBps": 10}),
            validation,
        ),
        ("UpdateStreamWarmThroughput", json!({"StreamName": "o", "WarmThroughputMiBps": 10}), validation),
        ("UpdateStreamWarmThroughput", json!({"StreamName": "s", "WarmThroughputMiBps": 0}), validation),
        (
            "UpdateStreamWarmThroughput",
            json!({"StreamName": "none", "WarmThroughputMiBps": 1}),
            "ResourceNotFoundException",
        ),
        (
            "UpdateStreamRecordDistributionStrategy",
            json!({"StreamARN": arn("o"), "RecordDistributionStrategy": "AUTO"}),
            invalid,
        ),
        ("PutResourcePolicy", json!({"ResourceARN": arn("s"), "Policy": "{}"}), invalid),
        ("GetResourcePolicy", json!({"ResourceARN": arn("s")}), "ResourceNotFoundException"),
        ("DeleteResourcePolicy", json!({"ResourceARN": arn("s")}), "ResourceNotFoundException"),
        (
            "UpdateAccountSettings",
            json!({"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}}),
            invalid,
        ),
        ("CreateChannel", json!({"ChannelName": "c"}), invalid),
        ("CreateQueue", json!({"QueueName": "q"}), invalid),
        ("ReceiveQueueRecords", json!({"QueueARN": "q"}), invalid),
        ("DescribeStream", json!({"StreamName": "s", "StreamId": "abcdefghij0123456789-abc"}), invalid),
        ("DescribeStream", json!({"StreamName": "s", "StreamId": "x"}), validation),
    ] {
        world.fails(operation, body, kind).await;
    }
    assert_eq!(world.kinesis.streams().len(), 2);
    assert_eq!(world.ok("ListChannels", json!({})).await, json!({"ChannelSummaries": []}));
    assert_eq!(world.ok("ListQueues", json!({"MaxResults": 5})).await, json!({"QueueSummaries": []}));
    let account = json!({"MinimumThroughputBillingCommitment": {"Status": "DISABLED"}});
    assert_eq!(world.ok("DescribeAccountSettings", json!({})).await, account);
    assert_eq!(world.ok("UpdateAccountSettings", account.clone()).await, account);
    let summary = async |name: &str| {
        world.ok("DescribeStreamSummary", json!({"StreamName": name})).await["StreamDescriptionSummary"]
            .clone()
    };
    assert_eq!(summary("o").await["RecordDistributionStrategy"], "USER_PARTITION_KEY");
    assert_eq!(
        (&summary("s").await["ChannelCount"], &summary("s").await["QueueCount"]),
        (&json!(0), &json!(0))
    );
}

#[tokio::test]
async fn a_name_and_an_arn_must_agree() {
    let world = World::start().await;
    world.create("s", 1).await;
    world.create("t", 1).await;
    let arn = |name: &str| format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}");
    let both = |other: &str| json!({"StreamName": "s", "StreamARN": arn(other)});
    world.ok("DescribeStream", both("s")).await;
    let message = world.fails("DescribeStream", both("t"), "InvalidArgumentException").await;
    assert_eq!(
        message,
        "StreamName s and StreamARN arn:aws:kinesis:us-east-1:000000000000:stream/t do not name the same stream."
    );
    let put = json!({"StreamName": "s", "StreamARN": arn("t"), "PartitionKey": "k", "Data": ""});
    world.fails("PutRecord", put, "InvalidArgumentException").await;
    let split =
        json!({"StreamName": "s", "StreamARN": arn("t"), "ShardToSplit": "0", "NewStartingHashKey": "5"});
    world.fails("SplitShard", split, "InvalidArgumentException").await;

    let iterator = world.iterator("s", "0", "LATEST").await;
    world.ok("GetRecords", json!({"ShardIterator": iterator, "StreamARN": arn("s")})).await;
    let other = json!({"ShardIterator": iterator, "StreamARN": arn("t")});
    world.fails("GetRecords", other, "InvalidArgumentException").await;

    let registered = json!({"StreamARN": arn("s"), "ConsumerName": "c"});
    let consumer = text(&world.ok("RegisterStreamConsumer", registered).await["Consumer"]["ConsumerARN"]);
    let described = |stream: &str, name: &str| json!({"ConsumerARN": consumer, "StreamARN": arn(stream), "ConsumerName": name});
    world.ok("DescribeStreamConsumer", described("s", "c")).await;
    for operation in ["DescribeStreamConsumer", "DeregisterStreamConsumer"] {
        world.fails(operation, described("t", "c"), "InvalidArgumentException").await;
        world.fails(operation, described("s", "d"), "InvalidArgumentException").await;
    }
    let elsewhere = consumer.replace("us-east-1", "eu-west-1");
    for arn in [elsewhere.clone(), consumer.replace("000000000000", "000000000001")] {
        world.fails("DescribeStreamConsumer", json!({"ConsumerARN": arn}), "ResourceNotFoundException").await;
    }
    world.ok("DescribeStreamConsumer", json!({"ConsumerARN": consumer})).await;
}

#[tokio::test]
async fn an_arn_that_is_none_is_named_with_the_models_pattern() {
    let world = World::start().await;
    world.create("s", 1).await;
    let message = world.fails("DescribeStream", json!({"StreamARN": "s"}), "ValidationException").await;
    assert_eq!(
        message,
        r"1 validation error detected: Value 's' at 'streamARN' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\d{12}:stream/\S+"
    );
    for (operation, body) in [
        ("DescribeStream", json!({"StreamName": "s", "StreamARN": "arn:aws:s3:::b"})),
        ("DescribeStream", json!({"StreamARN": "arn:aws:kinesis:us-east-1:00000000000:stream/s"})),
        ("ListTagsForResource", json!({"ResourceARN": "arn:aws:kinesis:us-east-1:000000000000:table/x"})),
        ("DescribeStreamConsumer", json!({"ConsumerARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s"})),
        ("RegisterStreamConsumer", json!({"StreamARN": "x", "ConsumerName": "c"})),
    ] {
        world.fails(operation, body, "ValidationException").await;
    }
}

#[tokio::test]
async fn with_any_region_arns_have_the_one_that_the_request_was_signed_for() {
    let world = World::with(|config| config.region = "any".to_owned()).await;
    world.create("s", 1).await;
    let arn_in = async |region: &str, body: Value| {
        let answer = world.call_in(region, "DescribeStream", body.to_string()).await;
        assert_eq!(answer.status, 200, "{region} {body}: {:?}", answer.body);
        text(&answer.json()["StreamDescription"]["StreamARN"])
    };
    let frankfurt = arn_in("eu-central-1", json!({"StreamName": "s"})).await;
    assert_eq!(frankfurt, "arn:aws:kinesis:eu-central-1:000000000000:stream/s");
    let by_arn = arn_in("eu-central-1", json!({"StreamARN": frankfurt})).await;
    assert_eq!(by_arn, frankfurt);
    assert_eq!(
        arn_in("us-west-2", json!({"StreamARN": frankfurt})).await,
        "arn:aws:kinesis:us-west-2:000000000000:stream/s",
        "there is one set of streams for all regions"
    );
    for strange in ["", "Üs", "a:b", "us_east", &"a".repeat(33)] {
        let arn = arn_in(strange, json!({"StreamName": "s"})).await;
        assert_eq!(arn, "arn:aws:kinesis:us-east-1:000000000000:stream/s", "{strange}");
    }
    let register = json!({"StreamARN": frankfurt, "ConsumerName": "c"}).to_string();
    let consumer = world.call_in("eu-central-1", "RegisterStreamConsumer", register).await.json();
    assert!(text(&consumer["Consumer"]["ConsumerARN"]).starts_with(&frankfurt));
}

#[tokio::test]
async fn with_one_region_arns_have_it_whatever_was_signed() {
    let world = World::start().await;
    world.create("s", 1).await;
    let answer = world.call_in("eu-central-1", "DescribeStream", r#"{"StreamName":"s"}"#).await;
    let arn = answer.json()["StreamDescription"]["StreamARN"].clone();
    assert_eq!(arn, "arn:aws:kinesis:us-east-1:000000000000:stream/s");
}

#[tokio::test]
async fn memory_that_is_too_small_for_the_largest_request_or_answer_is_refused() {
    const LEAST_BODY_MEMORY: usize = 16 * 1024 * 1024;
    for (bodies, answers, refused) in [
        (LEAST_BODY_MEMORY, LEAST_ANSWER_MEMORY, None),
        (LEAST_BODY_MEMORY - 1, LEAST_ANSWER_MEMORY, Some("body_memory")),
        (LEAST_BODY_MEMORY, LEAST_ANSWER_MEMORY - 1, Some("answer_memory")),
    ] {
        let config = KinesisConfig {
            body_memory: Memory::new(bodies),
            answer_memory: Memory::new(answers),
            ..KinesisConfig::default()
        };
        let opened = Kinesis::open(Arc::new(MemoryLog::new()), config).await;
        let setting = opened.err().map(|error| match error {
            OpenError::Setting { setting, .. } => setting,
            error => panic!("{error}"),
        });
        assert_eq!(setting, refused);
    }
}
