//! What the routes do beyond the bytes of their answers.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinmill_broker::{EventLog as _, Health, MemoryLog};
use pinmill_gateway::{Gateway, GatewayConfig};

use crate::support::{JSON, get, post, post_json, serve};

#[tokio::test]
async fn every_content_type_of_json_is_taken() {
    let served = serve(|_| {}).await;
    for content_type in
        [JSON, "application/vnd.kafka.v2+json", "application/json", "application/json; charset=utf-8"]
    {
        let answer = served.ask(post("/topics/t", content_type, r#"{"records":[{"value":1}]}"#)).await;
        assert_eq!(answer.status, 200, "{content_type}");
        assert_eq!(answer.header("content-type"), Some("application/vnd.kafka.v2+json"));
    }
    for content_type in ["application/vnd.kafka.avro.v2+json", "text/plain", ""] {
        let answer = served.ask(post("/topics/t", content_type, r#"{"records":[{"value":1}]}"#)).await;
        assert_eq!((answer.status, answer.error_code()), (415, 415), "{content_type}");
    }
    assert_eq!(served.count("t"), 4);
}

#[tokio::test]
async fn keyed_records_go_where_kafkas_partitioner_puts_them() {
    let served = serve(|config| config.default_partitions = 50).await;
    // murmur2 of the raw bytes 21, foobar and abc, as Kafka's own tests have it.
    for (key, hash) in [("MjE=", -973_932_308_i32), ("Zm9vYmFy", -790_332_482), ("YWJj", 479_470_107)] {
        let body = format!(r#"{{"records":[{{"key":"{key}","value":""}}]}}"#);
        let answer = served.ask(post("/topics/t", "application/vnd.kafka.binary.v2+json", body)).await;
        assert_eq!(answer.json()["offsets"][0]["partition"], (hash & 0x7fff_ffff) % 50, "{key}");
    }
}

#[tokio::test]
async fn records_without_a_key_go_round_the_partitions_and_keep_their_order() {
    let served = serve(|config| config.default_partitions = 3).await;
    let records: Vec<_> = (0..9).map(|n| format!("{{\"value\":{n}}}")).collect();
    let answer = served.ask(post_json("/topics/t", format!("{{\"records\":[{}]}}", records.join(",")))).await;
    let partitions: Vec<_> = answer.json()["offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["partition"].as_u64().unwrap())
        .collect();
    assert_eq!(partitions, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(served.values("t"), [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]);
}

#[tokio::test]
async fn a_records_own_partition_beats_the_paths() {
    let served = serve(|_| {}).await;
    served.make_topic("t", 3).await;
    let body = r#"{"records":[{"value":"path"},{"value":"own","partition":2},{"value":"key","key":"abc"}]}"#;
    assert_eq!(served.ask(post_json("/topics/t/partitions/1", body)).await.status, 200);
    assert_eq!(served.values("t"), [vec![], vec!["\"path\"", "\"key\""], vec!["\"own\""]]);
}

#[tokio::test]
async fn names_that_leave_the_log_are_refused() {
    let served = serve(|_| {}).await;
    for name in ["..", ".", "..%2F..%2Fetc%2Fpasswd", "a%2Fb", "a%00", "%20", "caf%C3%A9", &"x".repeat(250)] {
        let answer = served.ask(post_json(&format!("/topics/{name}"), r#"{"records":[{"value":1}]}"#)).await;
        assert_eq!((answer.status, answer.error_code()), (400, 40002), "{name}");
    }
    let answer = served.ask(post_json("/topics/%ff", r#"{"records":[{"value":1}]}"#)).await;
    assert_eq!((answer.status, answer.error_code()), (400, 400));
    let escaped = served.ask(post_json("/topics/a%2Epin", r#"{"records":[{"value":1}]}"#)).await;
    assert_eq!(escaped.status, 200);
    assert_eq!(served.log.topics().await.unwrap(), ["a.pin"]);
}

#[tokio::test]
async fn a_log_that_refuses_is_a_503_with_retry_after_and_not_ready_until_it_recovers() {
    let served = serve(|_| {}).await;
    served.make_topic("t", 1).await;
    let record = post_json("/topics/t", r#"{"records":[{"value":1},{"value":2}]}"#);
    assert_eq!(served.ask(get("/readyz")).await.status, 200);
    for health in [
        Health::ReadOnly { reason: "the disk is full".to_owned() },
        Health::Poisoned { reason: "an fsync failed".to_owned() },
    ] {
        served.log.set_health(health);
        let refused = served.ask(&record).await;
        assert_eq!((refused.status, refused.error_code()), (503, 50302));
        assert_eq!(refused.header("retry-after"), Some("1"));
        let ready = served.ask(get("/readyz")).await;
        let told = ready.json();
        assert_eq!(
            (ready.status, &told["error_code"], &told["status"]),
            (503, &503.into(), &"not ready".into())
        );
        assert_eq!(
            (&told["parts"][0]["part"], &told["parts"][0]["works"]),
            (&"gateway".into(), &false.into())
        );
        assert_eq!(served.ask(get("/healthz")).await.status, 200);
        assert_eq!(served.ask(get("/topics")).await.status, 200, "reading goes on");
    }
    assert_eq!(served.count("t"), 0);
    served.log.set_health(Health::Writable);
    let ready = served.ask(get("/readyz")).await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &serde_json::json!("ready")));
    assert_eq!(served.ask(&record).await.status, 200);
    assert_eq!(served.count("t"), 2);
}

#[tokio::test]
async fn a_topic_that_was_deleted_or_grew_is_looked_up_again() {
    let served = serve(|_| {}).await;
    let record = post_json("/topics/t", r#"{"records":[{"value":1}]}"#);
    assert_eq!(served.ask(&record).await.status, 200);
    served.log.delete_topic("t").await.unwrap();
    let missed = served.ask(&record).await.json();
    assert_eq!(missed["offsets"][0]["error_code"], 50003, "worth another try: {missed}");
    let again = served.ask(&record).await.json();
    assert_eq!(again["offsets"][0]["offset"], 0, "the topic is made again: {again}");
}

#[tokio::test]
async fn no_more_topics_are_made_than_the_cap() {
    let served = serve(|config| config.max_topics = 2).await;
    for topic in ["a", "b", "a"] {
        assert_eq!(
            served.ask(post_json(&format!("/topics/{topic}"), r#"{"records":[{"value":1}]}"#)).await.status,
            200
        );
    }
    let refused = served.ask(post_json("/topics/c", r#"{"records":[{"value":1}]}"#)).await;
    assert_eq!((refused.status, refused.error_code()), (400, 40002));
}

/// Kafka's `POST /` says `{}`, which an SDK of Amazon's takes for a put that was done.
#[tokio::test]
async fn a_put_to_kinesis_is_refused_in_its_own_shape_where_no_streams_are_kept() {
    let served = serve(|_| {}).await;
    for path in ["/", "/dev/", "/topics/t"] {
        let body = r#"{"StreamName":"a","Data":"YQ==","PartitionKey":"k"}"#;
        let put = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://page.example\r\nContent-Length: {}\r\n\
             Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Kinesis_20131202.PutRecord\r\n\r\n{body}",
            body.len()
        );
        let answer = served.ask(put).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
        assert_eq!(answer.header("x-amzn-errortype"), Some("UnknownOperationException"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let error = answer.json();
        assert_eq!(error["__type"], "UnknownOperationException");
        assert!(error["message"].as_str().unwrap().contains("--streams"), "{error}");
    }
    let count = r#"pinmill_gateway_requests_total{route="kinesis",status="400"}"#;
    assert_eq!(served.metric(count).await, Some(3.0));
    assert_eq!(served.log.topics().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body_and_pipelined_requests_in_order() {
    let served = serve(|_| {}).await;
    served.make_topic("t", 1).await;
    let mut client = served.connect().await;
    let head = client.ask("HEAD /topics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));

    let posts: Vec<_> =
        (0..20).map(|n| post_json("/topics/t", format!(r#"{{"records":[{{"value":{n}}}]}}"#))).collect();
    client.send(posts.concat()).await;
    for offset in 0..20 {
        let answer = client.answer(false).await.unwrap();
        assert_eq!(answer.json()["offsets"][0]["offset"], offset);
    }
}

#[tokio::test]
async fn http_2_is_taken_on_the_same_port() {
    let served = serve(|_| {}).await;
    let stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for offset in 0..3 {
        let request = http::Request::post(format!("http://{}/dev/topics/t", served.address))
            .header("content-type", JSON)
            .body(Full::new(Bytes::from_static(br#"{"records":[{"value":{"a":1}}]}"#)))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["offsets"][0]["offset"], offset);
    }
    drop(sender);
    assert_eq!(served.stopped().await.cut, 0);
}

#[tokio::test]
async fn requests_records_and_bytes_are_counted() {
    let served = serve(|config| config.limits.record_bytes = 10).await;
    served.ask(post_json("/topics/t", r#"{"records":[{"value":"12345678"},{"value":"123456789"}]}"#)).await;
    served.ask(get("/nothing")).await;
    for (line, value) in [
        (r#"pinmill_gateway_requests_total{route="/topics/{topic}",status="200"}"#, 1.0),
        (r#"pinmill_gateway_requests_total{route="other",status="404"}"#, 1.0),
        (r#"pinmill_gateway_records_total{outcome="stored"}"#, 1.0),
        (r#"pinmill_gateway_records_total{outcome="refused"}"#, 1.0),
        ("pinmill_gateway_record_bytes_total", 10.0),
        ("pinmill_gateway_ack_seconds_count", 1.0),
    ] {
        assert_eq!(served.metric(line).await, Some(value), "{line}");
    }
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_word_that_it_is_meant() {
    let log = || std::sync::Arc::new(MemoryLog::new());
    let mut config = GatewayConfig { listen: "0.0.0.0:0".parse().unwrap(), ..GatewayConfig::default() };
    let error = Gateway::bind(config.clone(), log()).await.unwrap_err();
    assert!(error.to_string().contains("allow_unauthenticated_remote"), "{error}");
    config.allow_unauthenticated_remote = true;
    let gateway = Gateway::bind(config.clone(), log()).await.unwrap();
    config.listen = gateway.local_addr();
    let taken = Gateway::bind(config, log()).await.unwrap_err();
    assert!(taken.to_string().starts_with("cannot listen on 0.0.0.0:"), "{taken}");
}

#[tokio::test]
async fn what_is_posted_to_the_root_must_have_a_type_that_is_taken() {
    let served = serve(|_| {}).await;
    let mut client = served.connect().await;
    for (content_type, status) in [
        (JSON, 200),
        ("application/json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ] {
        for body in ["", "{}"] {
            let answer = served.ask(post("/", content_type, body)).await;
            assert_eq!(answer.status, status, "{content_type}");
            if status == 415 {
                assert_eq!(answer.error_code(), 415);
            }
        }
    }
    let bare = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(client.ask(bare).await.text(), "{}");
    assert_eq!(client.ask(post("/", "text/plain", "")).await.status, 415);
    assert_eq!(client.ask(get("/")).await.text(), "{}", "the connection is still good");
}

#[tokio::test]
async fn slashes_in_a_row_are_one_on_every_route() {
    let served = serve(|_| {}).await;
    let body = r#"{"records":[{"value":1}]}"#;
    for path in [
        "/dev//topics/x",
        "//topics//x",
        "/dev///topics/x//",
        "//dev//topics//x//partitions//0",
        "/topics/x//",
    ] {
        let answer = served.ask(post_json(path, body)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    assert_eq!(served.count("x"), 5);
    for path in ["//topics", "/dev//brokers", "//healthz", "/dev//topics//x//partitions", "//metrics//"] {
        assert_eq!(served.ask(get(path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_key_has_one_partition_however_it_is_written() {
    let served = serve(|_| {}).await;
    served.make_topic("t", 50).await;
    let mut client = served.connect().await;
    for spellings in [
        &[r#""user-17""#, r#""\u0075ser-17""#, r#""user\u002d17""#][..],
        &["17", "17.0", "1.7e1", "170e-1", "17.00"],
        &["0.5", "5e-1", "0.50"],
        &[r#"{"id":17,"a":"\u00e9"}"#, r#"{ "id": 17.0, "a": "é" }"#],
    ] {
        let mut partitions = Vec::new();
        for key in spellings {
            let body = format!(r#"{{"records":[{{"key":{key},"value":1}}]}}"#);
            let answer = client.ask(post_json("/topics/t", body)).await.json();
            partitions.push(answer["offsets"][0]["partition"].clone());
        }
        assert!(
            partitions.iter().all(|partition| *partition == partitions[0]),
            "{spellings:?}: {partitions:?}"
        );
    }
    let stored: Vec<_> =
        served.log.records("t").into_iter().flatten().filter_map(|record| record.key).collect();
    assert!(stored.iter().any(|key| key == "1.7e1"), "a key is stored as it was sent: {stored:?}");
}
