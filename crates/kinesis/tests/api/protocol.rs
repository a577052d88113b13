//! The protocol itself: headers, the order of checks, both encodings, both versions of HTTP.

use http::Method;
use serde_json::json;

use crate::world::{ANY_SIGNATURE, World};

const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";
const LIST: &str = "Kinesis_20131202.ListStreams";
const DENIED: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n";

#[tokio::test]
async fn every_answer_has_its_ids_and_the_type_of_the_request() {
    let world = World::start().await;
    for body in ["{}", "{\"Limit\":0}"] {
        let answer = world.call_as("application/x-amz-json-1.1; charset=utf-8", "ListStreams", body).await;
        assert_eq!(answer.headers["content-type"], JSON);
        assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
        assert_eq!(answer.headers["x-amz-id-2"].len(), 96);
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
    }
    let made = world.call("CreateStream", json!({"StreamName": "s", "ShardCount": 1}).to_string()).await;
    assert_eq!((made.status, made.body.len()), (200, 0));
}

#[tokio::test]
async fn checks_come_in_amazons_order() {
    let world = World::start().await;
    let cases: &[(Method, &[(&str, &str)], &str, u16, &str)] = &[
        (Method::GET, &[], "", 403, DENIED),
        (Method::PUT, &[("x-amz-target", LIST)], "{}", 403, DENIED),
        // Which pages may call is decided by whoever serves these routes.
        (Method::OPTIONS, &[("x-amz-target", LIST), ("origin", "http://page")], "", 403, DENIED),
        (Method::POST, &[("content-type", JSON)], "", 400, r#"{"__type":"UnknownOperationException"}"#),
        (
            Method::POST,
            &[("content-type", JSON), ("x-amz-target", LIST)],
            "",
            400,
            r#"{"__type":"SerializationException"}"#,
        ),
        (Method::POST, &[("content-type", "text/plain")], "{}", 403, DENIED),
        (
            Method::POST,
            &[("content-type", "text/plain"), ("x-amz-target", "a.b")],
            "{}",
            404,
            "<UnknownOperationException/>\n",
        ),
        (
            Method::POST,
            &[("content-type", JSON), ("x-amz-target", LIST)],
            "{",
            400,
            r#"{"__type":"SerializationException"}"#,
        ),
        (Method::POST, &[("content-type", JSON)], "{}", 400, r#"{"__type":"UnknownOperationException"}"#),
        (
            Method::POST,
            &[("content-type", JSON), ("x-amz-target", "Kinesis_20131202.Nothing")],
            "{}",
            400,
            r#"{"__type":"UnknownOperationException"}"#,
        ),
        (
            Method::POST,
            &[("content-type", JSON), ("x-amz-target", "Kinesis_2013.ListStreams")],
            "{}",
            400,
            r#"{"__type":"UnknownOperationException"}"#,
        ),
        (
            Method::POST,
            &[("content-type", "application/json"), ("x-amz-target", LIST)],
            "{}",
            404,
            r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#,
        ),
        (
            Method::POST,
            &[("content-type", "application/json"), ("x-amz-target", LIST)],
            "{",
            400,
            r#"{"Output":{"__type":"com.amazon.coral.service#SerializationException"},"Version":"1.0"}"#,
        ),
        (
            Method::POST,
            &[("content-type", JSON), ("x-amz-target", LIST)],
            r#"{"Limit":"not looked at before the signature"}"#,
            400,
            r#"{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}"#,
        ),
        (
            Method::POST,
            &[
                ("content-type", JSON),
                ("x-amz-target", LIST),
                ("authorization", ANY_SIGNATURE),
                ("x-amz-date", "x"),
            ],
            r#"{"Limit":"5","ExclusiveStartStreamName":""}"#,
            400,
            r#"{"__type":"SerializationException","Message":"class java.lang.String can not be converted to an Integer"}"#,
        ),
    ];
    for (method, headers, body, status, expected) in cases {
        let answer = world.send(method.clone(), "/any/path", headers, *body).await;
        let found = (answer.status, String::from_utf8(answer.body.to_vec()).unwrap());
        assert_eq!(found, (*status, (*expected).to_owned()), "{method} {headers:?} {body}");
        assert!(answer.headers.contains_key("x-amzn-requestid"));
    }
    let empty = world.send(Method::POST, "/", &[], "").await;
    assert_eq!(empty.headers["content-type"], CBOR);
    assert_eq!(empty.body, &b"\xa1\x66__type\x78\x19UnknownOperationException"[..]);
}

#[tokio::test]
async fn the_legacy_form_names_its_operation_in_the_query() {
    let world = World::start().await;
    let headers = [("content-type", JSON), ("authorization", ANY_SIGNATURE), ("x-amz-date", "x")];
    let answer = world.send(Method::POST, "/?Action=ListStreams&Version=2013-12-02", &headers, "{}").await;
    assert_eq!((answer.status, answer.json()["HasMoreStreams"].clone()), (200, json!(false)));
}

#[tokio::test]
async fn cbor_is_spoken_as_the_java_client_speaks_it() {
    let world = World::start().await;
    world.create("s", 1).await;
    // {"StreamName": "s", "PartitionKey": "k", "Data": h'00ff'} of indefinite length.
    let put = b"\xbf\x6aStreamName\x61s\x6cPartitionKey\x61k\x64Data\x42\x00\xff\xff";
    let answer = world.call_as(CBOR, "PutRecord", &put[..]).await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (200, &CBOR.parse().unwrap()));
    assert!(answer.body.starts_with(b"\xa2\x67ShardId\x74shardId-000000000000\x6eSequenceNumber\x78\x38"));

    let iterator = world.iterator("s", "0", "TRIM_HORIZON").await;
    let length = u16::try_from(iterator.len()).unwrap().to_be_bytes();
    let mut get = b"\xa1\x6dShardIterator\x79".to_vec();
    get.extend_from_slice(&length);
    get.extend_from_slice(iterator.as_bytes());
    let read = world.call_as(CBOR, "GetRecords", get).await;
    let holds = |part: &[u8]| read.body.windows(part.len()).any(|window| window == part);
    assert!(holds(b"\x64Data\x42\x00\xff"), "bytes are bytes");
    assert!(
        holds(b"ApproximateArrivalTimestamp\xc1\x1b\x00"),
        "times are a tag and eight bytes of milliseconds"
    );

    // {"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_TIMESTAMP","Timestamp": 1(1000 milliseconds)}
    let at = b"\xa4\x6aStreamName\x61s\x67ShardId\x610\x71ShardIteratorType\x6cAT_TIMESTAMP\x69Timestamp\xc1\x19\x03\xe8";
    assert_eq!(world.call_as(CBOR, "GetShardIterator", &at[..]).await.status, 200);
    let error = world.call_as(CBOR, "DescribeStream", &b"\xa1\x6aStreamName\x61x"[..]).await;
    assert_eq!(
        (error.status, &error.headers["x-amzn-errortype"]),
        (400, &"ResourceNotFoundException".parse().unwrap())
    );
    assert!(error.body.starts_with(b"\xa2\x66__type\x78\x19ResourceNotFoundException\x67message"));
    let broken = world.call_as(CBOR, "DescribeStream", &b"\xa1\x6a"[..]).await;
    assert_eq!(broken.body, &b"\xa1\x66__type\x76SerializationException"[..]);
}

#[tokio::test]
async fn http_2_by_prior_knowledge_works_on_the_same_port() {
    let world = World::start().await.http2();
    world.create("s", 1).await;
    world.put("s", "k", "over two").await;
    assert_eq!(world.read_shard("s", "0").await, ["over two"]);
}

#[tokio::test]
async fn hostile_bodies_are_refused_and_harm_nothing() {
    let world = World::start().await;
    world.create("s", 1).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        deep.as_bytes(),
        b"[]",
        b"{\"a\":1e999",
        b"{\"StreamName\":\"\\ud800\"}",
        b"{\"StreamName\":\"\xff\"}",
        b"null",
        b"5",
    ] {
        for operation in ["PutRecord", "DescribeStream"] {
            let answer = world.call(operation, body.to_vec()).await;
            assert_eq!(
                (answer.status, answer.json()["__type"].clone()),
                (400, json!("SerializationException")),
                "{body:?}"
            );
        }
    }
    let doubled = world.ok("DescribeStreamSummary", json!({"StreamName": "s", "Stranger": {"a": [1]}})).await;
    assert_eq!(doubled["StreamDescriptionSummary"]["StreamName"], "s");
    assert_eq!(world.call("DescribeStream", r#"{"StreamName":"x","StreamName":"s"}"#).await.status, 200);
    let traversal = json!({"StreamName": "../../etc", "ShardCount": 1});
    world.fails("CreateStream", traversal, "ValidationException").await;
}
