//! Byte for byte what known clients get for what they send.

use crate::support::{get, serve};

/// What `requests` sends for the emulation script of the reference system; its two writes come as two segments.
fn requests_post(path: &str, body: &str) -> (String, String) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:8082\r\nUser-Agent: python-requests/2.32.3\r\n\
         Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\
         Content-Type: application/vnd.kafka.json.v2+json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head, body.to_owned())
}

/// What curl sends with `-H 'Content-Type: …' --data`.
fn curl_post(path: &str, content_type: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:8082\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn the_reference_script_gets_the_proxys_bytes() {
    let served = serve(|_| {}).await;
    let body =
        r#"{"records": [{"value": {"index": 7528, "title": "a \u00e9 b", "follower_count": "124k"}}]}"#;
    let mut client = served.connect().await;
    for (offset, path) in
        ["/topics/124df56aef51.pin", "/dev/topics/124df56aef51.pin", "/topics/124df56aef51.pin/"]
            .into_iter()
            .enumerate()
    {
        let (head, body) = requests_post(path, body);
        client.send(head).await;
        let answer = client.ask(body).await;
        let expected = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.kafka.v2+json\r\ncontent-length: 115\r\n\r\n\
             {{\"offsets\":[{{\"partition\":0,\"offset\":{offset},\"error_code\":null,\"error\":null}}],\
             \"key_schema_id\":null,\"value_schema_id\":null}}"
        );
        assert_eq!(answer.golden(), expected);
    }
    let stored = r#"{"index":7528,"title":"a \u00e9 b","follower_count":"124k"}"#;
    assert_eq!(served.values("124df56aef51.pin"), [vec![stored; 3]]);
}

#[tokio::test]
async fn curl_without_a_content_type_is_told_that_it_is_unsupported() {
    let served = serve(|_| {}).await;
    let request = curl_post("/topics/t", "application/x-www-form-urlencoded", r#"{"records":[{"value":1}]}"#);
    let mut client = served.connect().await;
    let expected = "HTTP/1.1 415 Unsupported Media Type\r\ncontent-type: application/json\r\n\
                    content-length: 62\r\n\r\n{\"error_code\":415,\"message\":\"HTTP 415 Unsupported Media Type\"}";
    assert_eq!(client.ask(&request).await.golden(), expected);
    // The connection is still good.
    assert_eq!(client.ask(request).await.golden(), expected);
    assert!(served.log.records("t").is_empty());
}

#[tokio::test]
async fn curl_posts_binary_records_with_keys() {
    let served = serve(|_| {}).await;
    let body = r#"{"records":[{"key":"a2V5","value":"S2Fma2E="},{"value":null}]}"#;
    let answer = served.ask(curl_post("/topics/b", "application/vnd.kafka.binary.v2+json", body)).await;
    assert_eq!(
        answer.text(),
        "{\"offsets\":[{\"partition\":0,\"offset\":0,\"error_code\":null,\"error\":null},\
         {\"partition\":0,\"offset\":1,\"error_code\":null,\"error\":null}],\"key_schema_id\":null,\"value_schema_id\":null}"
    );
    let stored = &served.log.records("b")[0];
    assert_eq!(
        (stored[0].key.as_deref(), stored[0].value.as_deref()),
        (Some(&b"key"[..]), Some(&b"Kafka"[..]))
    );
    assert_eq!((stored[1].key.as_deref(), stored[1].value.as_deref()), (None, None));
}

#[tokio::test]
async fn metadata_has_the_proxys_bytes() {
    let served = serve(|_| {}).await;
    served.make_topic("b.pin", 1).await;
    served.make_topic("a.pin", 2).await;
    served.ask(curl_post("/topics/b.pin", "application/json", r#"{"records":[{"value":1}]}"#)).await;
    let replica = r#""replicas":[{"broker":0,"leader":true,"in_sync":true}]"#;
    let (zero, one) = (
        format!(r#"{{"partition":0,"leader":0,{replica}}}"#),
        format!(r#"{{"partition":1,"leader":0,{replica}}}"#),
    );
    for (path, body) in [
        ("/", "{}".to_owned()),
        ("/brokers", r#"{"brokers":[0]}"#.to_owned()),
        ("/topics", r#"["a.pin","b.pin"]"#.to_owned()),
        ("/topics/a.pin", format!(r#"{{"name":"a.pin","configs":{{}},"partitions":[{zero},{one}]}}"#)),
        ("/topics/a.pin/partitions", format!("[{zero},{one}]")),
        ("/topics/a.pin/partitions/1", one.clone()),
        ("/topics/b.pin/partitions/0/offsets", r#"{"beginning_offset":0,"end_offset":1}"#.to_owned()),
        ("/topics/a.pin/partitions/1/offsets", r#"{"beginning_offset":0,"end_offset":0}"#.to_owned()),
    ] {
        let expected = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.kafka.v2+json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(served.ask(get(path)).await.golden(), expected, "{path}");
        if path != "/" {
            assert_eq!(
                served.ask(get(&format!("/prod{path}/"))).await.golden(),
                expected,
                "{path} behind a stage"
            );
        }
    }
}

#[tokio::test]
async fn errors_have_the_proxys_bytes() {
    let served = serve(|config| config.auto_create_topics = false).await;
    served.make_topic("t", 1).await;
    for (request, status, body) in [
        (get("/nothing"), "404 Not Found", r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
        (get("/topics/u"), "404 Not Found", r#"{"error_code":40401,"message":"Topic not found."}"#),
        (
            get("/topics/u/partitions"),
            "404 Not Found",
            r#"{"error_code":40401,"message":"Topic not found."}"#,
        ),
        (
            get("/topics/u/partitions/0"),
            "404 Not Found",
            r#"{"error_code":40401,"message":"Topic not found."}"#,
        ),
        (
            get("/topics/u/partitions/0/offsets"),
            "404 Not Found",
            r#"{"error_code":40401,"message":"Topic not found."}"#,
        ),
        (
            get("/topics/t/partitions/1"),
            "404 Not Found",
            r#"{"error_code":40402,"message":"Partition not found."}"#,
        ),
        (
            get("/topics/t/partitions/-1"),
            "404 Not Found",
            r#"{"error_code":40402,"message":"Partition not found."}"#,
        ),
        (
            get("/topics/t/partitions/1/offsets"),
            "404 Not Found",
            r#"{"error_code":40402,"message":"Partition not found."}"#,
        ),
        (
            get("/topics/t/partitions/x"),
            "404 Not Found",
            r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#,
        ),
        (
            curl_post("/topics/t", "application/json", r#"{"records":[]}"#),
            "422 Unprocessable Entity",
            r#"{"error_code":422,"message":"records is empty"}"#,
        ),
        (
            curl_post("/topics/t", "application/json", r#"{"recs":[]}"#),
            "422 Unprocessable Entity",
            r#"{"error_code":422,"message":"Unrecognized field: recs"}"#,
        ),
        (
            curl_post("/topics/u", "application/json", r#"{"records":[{"value":1}]}"#),
            "404 Not Found",
            r#"{"error_code":40401,"message":"Topic not found."}"#,
        ),
        (
            curl_post("/topics/t/partitions/7", "application/json", r#"{"records":[{"value":1}]}"#),
            "404 Not Found",
            r#"{"error_code":40402,"message":"Partition not found."}"#,
        ),
        (
            get("/topics").replace("\r\n\r\n", "\r\nAccept: text/html\r\n\r\n"),
            "406 Not Acceptable",
            r#"{"error_code":406,"message":"HTTP 406 Not Acceptable"}"#,
        ),
    ] {
        let expected = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(served.ask(&request).await.golden(), expected, "{request}");
    }
    let answer = served.ask("DELETE /topics/t HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(
        answer.golden(),
        "HTTP/1.1 405 Method Not Allowed\r\ncontent-type: application/json\r\nallow: GET,HEAD,POST\r\n\
         content-length: 58\r\n\r\n{\"error_code\":405,\"message\":\"HTTP 405 Method Not Allowed\"}"
    );
}
