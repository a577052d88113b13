//! The REST façade, spoken to as the reference system's scripts do.

use http::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, data, text};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

async fn put(world: &World, path: &str, body: Value) -> Answer {
    world.send(Method::PUT, path, JSON, body.to_string()).await
}

#[tokio::test]
async fn every_route_does_what_its_operation_does() {
    let world = World::start().await;
    let made = world.send(Method::POST, "/streams/streaming-1-pin", JSON, r#"{"ShardCount": 2}"#).await;
    assert_eq!((made.status, made.json()), (200, json!({})), "scripts parse every answer");
    assert_eq!(world.send(Method::POST, "/streams/five", JSON, "").await.status, 200);
    assert_eq!(world.shards("five").await.len(), 5);
    let listed = world.send(Method::GET, "/streams", &[], "").await;
    assert_eq!(listed.headers["content-type"], "application/json");
    assert_eq!(listed.json()["StreamNames"], json!(["five", "streaming-1-pin"]));
    assert_eq!(listed.json()["HasMoreStreams"], false);
    let page =
        world.send(Method::GET, "/streams?Limit=1&ExclusiveStartStreamName=five", &[], "").await.json();
    assert_eq!((&page["StreamNames"], &page["HasMoreStreams"]), (&json!(["streaming-1-pin"]), &json!(false)));
    let described = world.send(Method::GET, "/streams/streaming-1-pin", &[], "").await.json();
    assert_eq!(described["StreamDescription"]["Shards"].as_array().unwrap().len(), 2);

    // The scripts always say …-pin in the body; the path counts.
    let body = json!({"StreamName": "another-pin", "Data": {"index": 7528, "title": "Grüße 🦀"}, "PartitionKey": "partition-1"});
    let answer = put(&world, "/streams/streaming-1-pin/record", body).await;
    assert_eq!(answer.status, 200);
    let (shard, number) = (text(&answer.json()["ShardId"]), text(&answer.json()["SequenceNumber"]));
    let path = format!("/streams/streaming-1-pin/sharditerator?shard-id={shard}");
    let iterator = text(&world.send(Method::GET, &path, &[], "").await.json()["ShardIterator"]);
    let headers = [("shard-iterator", iterator.as_str())];
    let read = world.send(Method::GET, "/streams/streaming-1-pin/records", &headers, "").await.json();
    assert_eq!(read["Records"][0]["SequenceNumber"], number);
    assert_eq!(data(&read["Records"][0]), r#"{"index":7528,"title":"Grüße 🦀"}"#);
    assert_eq!(read["Records"][0]["PartitionKey"], "partition-1");
    let deleted = world.send(Method::DELETE, "/streams/streaming-1-pin", &[], "").await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({})));
}

#[tokio::test]
async fn a_record_is_the_text_of_its_data_whatever_it_is() {
    let world = World::start().await;
    let bodies = [
        (r#"{"Data": { "a" : 1.50, "b": [ 1, 2 ] }, "PartitionKey":"k"}"#, r#"{"a":1.50,"b":[1,2]}"#),
        (r#"{"Data": "{\"a\": 1}", "PartitionKey":"k"}"#, r#""{\"a\": 1}""#),
        (r#"{"Data": "eyJhIjoxfQ==", "PartitionKey":"k"}"#, r#""eyJhIjoxfQ==""#),
        (r#"{"Data": 123456789012345678901234567890, "PartitionKey":"k"}"#, "123456789012345678901234567890"),
        (r#"{"Data": [], "PartitionKey": 7528}"#, "[]"),
        (r#"{"data": true, "partition-key":"k"}"#, "true"),
    ];
    for (body, _) in &bodies {
        let answer = world.send(Method::PUT, "/streams/s/record", JSON, *body).await;
        assert_eq!(answer.status, 200, "{body}: {:?}", answer.body);
    }
    let expected: Vec<_> = bodies.iter().map(|(_, record)| *record).collect();
    assert_eq!(world.read_shard("s", "0").await, expected);
    assert_eq!(world.shards("s").await.len(), 1, "the stream was made for its first record");
}

#[tokio::test]
async fn many_records_come_in_either_spelling() {
    let world = World::start().await;
    for body in [
        json!({"records": [{"data": {"n": 1}, "partition-key": "a"}, {"data": {"n": 2}, "partition-key": "b"}]}),
        json!({"StreamName": "x", "Records": [{"Data": {"n": 3}, "PartitionKey": "a"}]}),
    ] {
        let count = body["records"].as_array().or(body["Records"].as_array()).unwrap().len();
        let answer = put(&world, "/streams/s/records", body).await.json();
        assert_eq!(answer["FailedRecordCount"], 0);
        assert_eq!(answer["Records"].as_array().unwrap().len(), count);
    }
    assert_eq!(world.read_shard("s", "0").await, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
}

#[tokio::test]
async fn errors_are_json_with_their_true_status() {
    let world = World::with(|config| config.auto_create_streams = false).await;
    world.create("s", 1).await;
    let cases: &[(Method, &str, &str, u16, &str)] = &[
        (Method::GET, "/streams/none", "", 404, "ResourceNotFoundException"),
        (Method::DELETE, "/streams/none", "", 404, "ResourceNotFoundException"),
        (
            Method::PUT,
            "/streams/none/record",
            r#"{"Data":1,"PartitionKey":"k"}"#,
            404,
            "ResourceNotFoundException",
        ),
        (Method::POST, "/streams/s", r#"{"ShardCount":1}"#, 409, "ResourceInUseException"),
        (Method::POST, "/streams/t", r#"{"ShardCount":5000}"#, 429, "LimitExceededException"),
        (Method::POST, "/streams/t", r#"{"ShardCount":"two"}"#, 400, "SerializationException"),
        (Method::POST, "/streams/t", "{", 400, "SerializationException"),
        (Method::PUT, "/streams/s/record", "{}", 400, "ValidationException"),
        (Method::PUT, "/streams/s/record", r#"{"Data":1}"#, 400, "ValidationException"),
        (Method::PUT, "/streams/s/record", r#"{"Data":1,"PartitionKey":{}}"#, 400, "SerializationException"),
        (Method::PUT, "/streams/s/record", "{\"Data\":NaN}", 400, "SerializationException"),
        (Method::PUT, "/streams/s/record", "", 400, "SerializationException"),
        (Method::PUT, "/streams/s/records", "{}", 400, "ValidationException"),
        (Method::PUT, "/streams/s/records", r#"{"records":[]}"#, 400, "ValidationException"),
        (Method::PUT, "/streams/s/records", r#"{"records":[{"data":1}]}"#, 400, "ValidationException"),
        (Method::GET, "/streams/s/records", "", 400, "ValidationException"),
        (Method::GET, "/streams/s/sharditerator", "", 400, "ValidationException"),
        (Method::GET, "/streams/s/sharditerator?shard-id=9", "", 404, "ResourceNotFoundException"),
        (Method::GET, "/streams?Limit=many", "", 400, "ValidationException"),
        (Method::PATCH, "/streams/s", "", 405, "MethodNotAllowed"),
        (Method::POST, "/streams/s/record", "{}", 405, "MethodNotAllowed"),
    ];
    for (method, path, body, status, kind) in cases {
        let answer = world.send(method.clone(), path, JSON, *body).await;
        let error = answer.json();
        assert_eq!(
            (answer.status, error["__type"].as_str()),
            (*status, Some(*kind)),
            "{method} {path} {body}: {error}"
        );
        assert!(error["message"].is_string() || error["Message"].is_string(), "{error}");
    }
    assert!(world.read_shard("s", "0").await.is_empty());
}

#[tokio::test]
async fn switches_hide_errors_and_bad_requests_make_no_streams() {
    let world = World::with(|config| config.facade_errors_are_200 = true).await;
    let answer = world.send(Method::GET, "/streams/none", &[], "").await;
    assert_eq!((answer.status, answer.json()["__type"].clone()), (200, json!("ResourceNotFoundException")));
    assert_eq!(
        put(&world, "/streams/none/record", json!({"Data": 1})).await.json()["__type"],
        "ValidationException"
    );
    assert!(world.kinesis.streams().is_empty());
}
