//! Enhanced fan-out: consumers and their event streams.

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::world::{ANY_SIGNATURE, World, data, text};

async fn register(world: &World, name: &str) -> String {
    let arn = world.describe("s").await["StreamARN"].clone();
    let answer = world.ok("RegisterStreamConsumer", json!({"StreamARN": arn, "ConsumerName": name})).await;
    text(&answer["Consumer"]["ConsumerARN"])
}

#[tokio::test]
async fn consumers_are_registered_described_listed_and_removed() {
    let world = World::with(|config| config.consumer_limit = 3).await;
    world.create("s", 1).await;
    let stream = world.describe("s").await["StreamARN"].clone();
    let arn = register(&world, "b").await;
    assert!(arn.starts_with("arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/b:"), "{arn}");
    register(&world, "a").await;
    register(&world, "c").await;
    let again = json!({"StreamARN": stream, "ConsumerName": "a"});
    assert_eq!(
        world.fails("RegisterStreamConsumer", again, "ResourceInUseException").await,
        "Consumer a exists"
    );
    let more = json!({"StreamARN": stream, "ConsumerName": "d"});
    world.fails("RegisterStreamConsumer", more, "LimitExceededException").await;

    for body in [json!({"ConsumerARN": arn}), json!({"StreamARN": stream, "ConsumerName": "b"})] {
        let described = world.ok("DescribeStreamConsumer", body).await;
        let described = &described["ConsumerDescription"];
        assert_eq!(
            (&described["ConsumerName"], &described["ConsumerStatus"]),
            (&json!("b"), &json!("ACTIVE"))
        );
        assert_eq!((&described["StreamARN"], &described["ConsumerARN"]), (&stream, &json!(arn)));
    }
    let page = world.ok("ListStreamConsumers", json!({"StreamARN": stream, "MaxResults": 2})).await;
    assert_eq!(page["Consumers"][1]["ConsumerName"], "b");
    let rest =
        world.ok("ListStreamConsumers", json!({"StreamARN": stream, "NextToken": page["NextToken"]})).await;
    assert_eq!((rest["Consumers"].as_array().unwrap().len(), &rest["NextToken"]), (1, &Value::Null));
    let summary = world.ok("DescribeStreamSummary", json!({"StreamARN": stream})).await;
    assert_eq!(summary["StreamDescriptionSummary"]["ConsumerCount"], 3);

    let message = world.fails("DeleteStream", json!({"StreamName": "s"}), "ResourceInUseException").await;
    assert_eq!(
        message,
        "Consumers exist in stream s and enforceConsumerDeletion is either not set or is false"
    );
    world.ok("DeregisterStreamConsumer", json!({"ConsumerARN": arn})).await;
    world.fails("DescribeStreamConsumer", json!({"ConsumerARN": arn}), "ResourceNotFoundException").await;
    world.fails("DescribeStreamConsumer", json!({}), "ValidationException").await;
    world.ok("DeleteStream", json!({"StreamName": "s", "EnforceConsumerDeletion": true})).await;
}

/// The events of a subscription, frame by frame.
struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    kind: String,
    payload: Value,
}

impl Events {
    async fn open(world: &World, body: Value) -> Result<Self, Value> {
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "Kinesis_20131202.SubscribeToShard"),
            ("authorization", ANY_SIGNATURE),
            ("x-amz-date", "x"),
        ];
        let response = world.open(Method::POST, "/", &headers, body.to_string()).await;
        if response.status() != 200 {
            let error = response.into_body().collect().await.unwrap().to_bytes();
            return Err(serde_json::from_slice(&error).unwrap());
        }
        assert_eq!(response.headers()["content-type"], "application/vnd.amazon.eventstream");
        let mut events = Self { body: response.into_body(), buffer: Vec::new() };
        let first = events.next().await.unwrap();
        assert_eq!((first.kind.as_str(), first.payload), ("initial-response", json!({})));
        Ok(events)
    }

    /// The next frame, its checksums checked; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let number = |at: usize| Some(u32::from_be_bytes(*self.buffer.get(at..)?.first_chunk()?));
            if let Some(length) =
                number(0).map(|length| length as usize).filter(|length| self.buffer.len() >= *length)
            {
                assert_eq!(number(8).unwrap(), crc32fast::hash(&self.buffer[..8]));
                assert_eq!(number(length - 4).unwrap(), crc32fast::hash(&self.buffer[..length - 4]));
                let headers_end = 12 + number(4).unwrap() as usize;
                let kind = header(&self.buffer[12..headers_end], &[":event-type", ":exception-type"]);
                let payload = serde_json::from_slice(&self.buffer[headers_end..length - 4]).unwrap();
                self.buffer.drain(..length);
                return Some(Frame { kind, payload });
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(frame.data_ref().unwrap());
        }
    }
}

fn header(mut headers: &[u8], wanted: &[&str]) -> String {
    while let Some((length, rest)) = headers.split_first() {
        let (name, rest) = rest.split_at(usize::from(*length));
        assert_eq!(rest[0], 7, "a header of text");
        let (value, rest) = rest[3..].split_at(usize::from(u16::from_be_bytes([rest[1], rest[2]])));
        if wanted.contains(&std::str::from_utf8(name).unwrap()) {
            return String::from_utf8(value.to_vec()).unwrap();
        }
        headers = rest;
    }
    panic!("none of {wanted:?}");
}

fn subscription(arn: &str, shard: &str, position: Value) -> Value {
    json!({"ConsumerARN": arn, "ShardId": shard, "StartingPosition": position})
}

#[tokio::test]
async fn a_subscription_pushes_records_and_ends_with_the_children() {
    for is_http2 in [false, true] {
        let world = World::start().await;
        let world = if is_http2 { world.http2() } else { world };
        world.create("s", 1).await;
        world.put("s", "k", "before").await;
        let arn = register(&world, "c").await;
        let body = subscription(&arn, "shardId-000000000000", json!({"Type": "TRIM_HORIZON"}));
        let mut events = Events::open(&world, body).await.unwrap();
        let event = events.next().await.unwrap();
        assert_eq!(event.kind, "SubscribeToShardEvent");
        assert_eq!(data(&event.payload["Records"][0]), "before");
        assert_eq!(
            event.payload["ContinuationSequenceNumber"],
            event.payload["Records"][0]["SequenceNumber"]
        );
        let (_, number) = world.put("s", "k", "pushed").await;
        let event = events.next().await.unwrap();
        assert_eq!(data(&event.payload["Records"][0]), "pushed");
        assert_eq!(
            (&event.payload["ContinuationSequenceNumber"], &event.payload["MillisBehindLatest"]),
            (&json!(number), &json!(0))
        );
        world
            .ok("SplitShard", json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "99"}))
            .await;
        let last = events.next().await.unwrap();
        assert_eq!(last.payload["ChildShards"].as_array().unwrap().len(), 2);
        assert_eq!(last.payload["ContinuationSequenceNumber"], Value::Null);
        assert!(events.next().await.is_none());
        let position = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": event.payload["ContinuationSequenceNumber"]});
        let mut again = Events::open(&world, subscription(&arn, "0", position)).await.unwrap();
        assert_eq!(again.next().await.unwrap().payload["Records"], json!([]));
    }
}

#[tokio::test]
async fn there_is_one_subscription_of_a_consumer_to_a_shard() {
    let world = World::start().await;
    world.create("s", 2).await;
    let arn = register(&world, "c").await;
    let latest = |shard: &str| subscription(&arn, shard, json!({"Type": "LATEST"}));
    let mut first = Events::open(&world, latest("0")).await.unwrap();
    let error = Events::open(&world, latest("0")).await.err().unwrap();
    assert_eq!(error["__type"], "ResourceInUseException");
    Events::open(&world, latest("1")).await.unwrap();
    world.pass(5000);
    let mut second = Events::open(&world, latest("0")).await.unwrap();
    assert!(first.next().await.is_none(), "the second one took over");
    world
        .ok(
            "PutRecord",
            json!({"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": "eA=="}),
        )
        .await;
    assert_eq!(data(&second.next().await.unwrap().payload["Records"][0]), "x");
    world.ok("DeleteStream", json!({"StreamName": "s", "EnforceConsumerDeletion": true})).await;
    assert_eq!(second.next().await.unwrap().kind, "ResourceNotFoundException");
    assert!(second.next().await.is_none());
    let error = Events::open(&world, latest("0")).await.err().unwrap();
    assert_eq!(error["__type"], "ResourceNotFoundException");
}

#[tokio::test]
async fn a_server_that_stops_ends_event_streams_without_waiting_for_their_time() {
    let world = World::start().await;
    world.create("s", 1).await;
    let arn = register(&world, "c").await;
    let latest = subscription(&arn, "0", json!({"Type": "LATEST"}));
    let mut events = Events::open(&world, latest).await.unwrap();
    world.kinesis.end_subscriptions();
    assert!(events.next().await.is_none());
}
