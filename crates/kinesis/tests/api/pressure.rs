//! On the gateway's port: clients that hold memory, and web pages, against those who only put and read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pinmill_broker::MemoryLog;
use pinmill_gateway::{Gateway, GatewayConfig, Memory};
use pinmill_kinesis::{Kinesis, KinesisConfig, LEAST_ANSWER_MEMORY};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::world::ANY_SIGNATURE;

const MIB: usize = 1024 * 1024;
const JSON: &str = "application/x-amz-json-1.1";
const LONG: Duration = Duration::from_secs(3600);
/// No step of a test takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Mounted {
    address: SocketAddr,
    kinesis: Kinesis,
    bodies: Memory,
    answers: Memory,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn mount(change: impl FnOnce(&mut GatewayConfig)) -> Mounted {
    let (bodies, answers) = (Memory::new(20 * MIB), Memory::new(LEAST_ANSWER_MEMORY));
    let mut config = GatewayConfig { listen: "127.0.0.1:0".parse().unwrap(), ..GatewayConfig::default() };
    config.limits.body_memory = bodies.clone();
    config.limits.answer_memory = answers.clone();
    change(&mut config);
    let kinesis = KinesisConfig {
        body_timeout: config.limits.body_timeout,
        body_memory: bodies.clone(),
        answer_memory: answers.clone(),
        ..KinesisConfig::default()
    };
    let kinesis = Kinesis::open(Arc::new(MemoryLog::new()), kinesis).await.unwrap();
    let gateway = Gateway::bind(config, Arc::new(MemoryLog::new())).await.unwrap();
    let gateway = gateway.with_routes(kinesis.facade_router()).with_native(kinesis.native_router());
    let (address, stop) = (gateway.local_addr(), CancellationToken::new());
    tokio::spawn(gateway.serve(stop.clone()));
    let client = Client::builder(TokioExecutor::new()).build_http();
    Mounted { address, kinesis, bodies, answers, client, stop }
}

impl Mounted {
    fn native(&self, operation: &str, body: &Value) -> Request<Full<Bytes>> {
        Request::post(format!("http://{}/", self.address))
            .header("content-type", JSON)
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .header("authorization", ANY_SIGNATURE)
            .header("x-amz-date", "20260101T000000Z")
            .body(Full::from(body.to_string()))
            .unwrap()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, Value) {
        let answer = within(self.client.request(request)).await.unwrap();
        let status = answer.status().as_u16();
        let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        (status, body)
    }

    async fn call(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.send(self.native(operation, &body)).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    async fn put(&self, bytes: usize) -> (u16, Value) {
        let data = STANDARD.encode(vec![b'x'; bytes]);
        let put = self.native("PutRecord", &json!({"StreamName": "s", "PartitionKey": "k", "Data": data}));
        self.send(put).await
    }

    /// Puts until there is memory for it, as a client does that is told to come again.
    async fn put_until_taken(&self, bytes: usize) {
        within(async {
            loop {
                let (status, answer) = self.put(bytes).await;
                if status == 200 {
                    return;
                }
                assert_eq!((status, &answer["__type"]), (503, &json!("ServiceUnavailable")), "{answer}");
            }
        })
        .await;
    }

    async fn iterator(&self) -> Value {
        let body = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
        self.call("GetShardIterator", body).await["ShardIterator"].clone()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_chunked_requests_do_not_hold_up_a_put() {
    let mounted = mount(|config| config.limits.body_timeout = LONG).await;
    mounted.kinesis.create_stream("s", 1).await.unwrap();
    // Some have sent nothing, some have sent as much as there is memory for.
    for sent in [0, MIB] {
        let mut idle = Vec::new();
        for _ in 0..40 {
            let mut stream = TcpStream::connect(mounted.address).await.unwrap();
            let head = format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\nX-Amz-Target: Kinesis_20131202.PutRecord\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            if sent > 0 {
                let chunk = format!("{sent:x}\r\n{}\r\n", " ".repeat(sent));
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
            idle.push(stream);
        }
        until(|| sent == 0 || mounted.bodies.used() > 10 * MIB).await;
        for bytes in [4096, MIB - 1] {
            mounted.put_until_taken(bytes).await;
        }
        assert!(mounted.bodies.used() <= mounted.bodies.total());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_never_answered_by_a_refusal_and_a_refused_read_says_so_in_its_own_shape() {
    let mounted = mount(|_| {}).await;
    mounted.kinesis.create_stream("s", 200).await.unwrap();
    let all_but_a_byte = mounted.answers.charge(mounted.answers.total() - 1);
    assert_eq!(mounted.put(100).await.0, 200);
    let records = vec![json!({"Data": "eA==", "PartitionKey": "k"}); 500];
    let put = mounted.call("PutRecords", json!({"StreamName": "s", "Records": records})).await;
    assert_eq!(put["Records"].as_array().unwrap().len(), 500, "an answer of any length");
    let described =
        Request::get(format!("http://{}/streams/s", mounted.address)).body(Full::default()).unwrap();
    let (native, facade, short) = tokio::join!(
        mounted.send(mounted.native("ListShards", &json!({"StreamName": "s"}))),
        mounted.send(described),
        mounted.send(mounted.native("DescribeStreamSummary", &json!({"StreamName": "s"}))),
    );
    assert_eq!((native.0, &native.1["__type"]), (400, &json!("LimitExceededException")));
    assert_eq!((facade.0, &facade.1["__type"]), (429, &json!("LimitExceededException")));
    assert_eq!(short.0, 200);
    let metrics = Request::get(format!("http://{}/metrics", mounted.address)).body(Full::default()).unwrap();
    let metrics = within(mounted.client.request(metrics)).await.unwrap().into_body().collect().await.unwrap();
    let metrics = String::from_utf8(metrics.to_bytes().to_vec()).unwrap();
    for line in [
        r#"pinmill_gateway_requests_total{route="kinesis",status="400"} 1"#,
        r#"pinmill_gateway_requests_total{route="/streams",status="429"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    drop(all_but_a_byte);
    mounted.call("ListShards", json!({"StreamName": "s"})).await;
}

/// A client of HTTP/2 that takes nothing of its answers.
async fn deaf(mounted: &Mounted) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(mounted.address).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (sender, connection) = builder.handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_a_client_does_not_take_stay_within_their_memory_and_others_read() {
    let mounted = mount(|config| config.limits.write_timeout = LONG).await;
    mounted.kinesis.create_stream("s", 1).await.unwrap();
    for _ in 0..4 {
        assert_eq!(mounted.put(MIB - 1).await.0, 200);
    }
    let iterator = mounted.iterator().await;
    let mut sender = deaf(&mounted).await;
    let mut unread: Vec<Response<Incoming>> = Vec::new();
    for _ in 0..128 {
        let request = mounted.native("GetRecords", &json!({"ShardIterator": iterator}));
        // It is hung up on when its own requests need what it holds.
        let Ok(answer) = within(sender.send_request(request)).await else { break };
        assert!(mounted.answers.used() <= mounted.answers.total());
        unread.push(answer);
    }
    assert!(!unread.is_empty() && unread.len() < 128, "{} answers in memory", unread.len());
    let read = mounted.call("GetRecords", json!({"ShardIterator": iterator})).await;
    assert_eq!(read["Records"].as_array().unwrap().len(), 4);
    until(|| mounted.answers.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_does_not_read_is_hung_up_on() {
    let mounted = mount(|config| config.limits.write_timeout = Duration::from_millis(300)).await;
    mounted.kinesis.create_stream("s", 1).await.unwrap();
    assert_eq!(mounted.put(MIB - 1).await.0, 200);
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let consumer =
        mounted.call("RegisterStreamConsumer", json!({"StreamARN": arn, "ConsumerName": "c"})).await;
    let subscribe = json!({
        "ConsumerARN": consumer["Consumer"]["ConsumerARN"],
        "ShardId": "shardId-000000000000",
        "StartingPosition": {"Type": "TRIM_HORIZON"},
    });
    let mut sender = deaf(&mounted).await;
    let answer = within(sender.send_request(mounted.native("SubscribeToShard", &subscribe))).await.unwrap();
    assert_eq!(answer.status(), 200);
    // The connection is cut.
    within(answer.into_body().collect()).await.unwrap_err();
    until(|| mounted.answers.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_puts_records_and_changes_nothing_else() {
    let mounted = mount(|_| {}).await;
    mounted.kinesis.create_stream("s", 1).await.unwrap();
    let of_page = |mut request: Request<Full<Bytes>>| {
        request.headers_mut().insert("origin", "https://page.example".parse().unwrap());
        request
    };
    let facade = |method: Method, path: &str, body: &Value| {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", mounted.address))
            .header("content-type", "text/plain")
            .body(Full::from(body.to_string()))
            .unwrap()
    };
    let record = json!({"StreamName": "s", "Data": "eA==", "PartitionKey": "k"});
    let records = json!({"StreamName": "s", "Records": [{"Data": "eA==", "PartitionKey": "k"}]});
    for allowed in [
        facade(Method::PUT, "/dev/streams/s/record", &record),
        facade(
            Method::PUT,
            "/dev//streams//s//records",
            &json!({"records": [{"data": 1, "partition-key": "k"}]}),
        ),
        mounted.native("PutRecord", &record),
        mounted.native("PutRecords", &records),
    ] {
        let answer = within(mounted.client.request(of_page(allowed))).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    }
    for refused in [
        facade(Method::DELETE, "/streams/s", &Value::Null),
        facade(Method::DELETE, "/dev//streams//s", &Value::Null),
        facade(Method::POST, "/streams/new", &json!({"ShardCount": 1})),
        facade(Method::GET, "/streams", &Value::Null),
        facade(Method::GET, "/streams/s/records", &Value::Null),
        mounted.native("DeleteStream", &json!({"StreamName": "s"})),
        mounted.native("CreateStream", &json!({"StreamName": "new", "ShardCount": 1})),
        mounted.native("ListStreams", &json!({})),
    ] {
        let context = format!("{refused:?}");
        let (status, error) = mounted.send(of_page(refused)).await;
        assert_eq!((status, &error["__type"]), (403, &json!("AccessDeniedException")), "{context}");
    }
    let mut elsewhere = mounted.native("ListStreams", &json!({}));
    elsewhere.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(mounted.send(elsewhere).await.0, 421);
    let names: Vec<_> = mounted.kinesis.streams().iter().map(|stream| stream.name.clone()).collect();
    assert_eq!(names, ["s"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_order_mark_before_a_body_is_left_out() {
    let mounted = mount(|_| {}).await;
    mounted.kinesis.create_stream("s", 1).await.unwrap();
    let marked = |text: &str| Full::from(format!("\u{feff}{text}"));
    let record = r#"{"StreamName":"s","Data":"eA==","PartitionKey":"k"}"#;
    let put = mounted.native("PutRecord", &Value::Null).map(|_| marked(record));
    assert_eq!(mounted.send(put).await.0, 200);
    for (method, path, body) in [
        (Method::PUT, "/streams/s/record", r#"{"Data":{"a":1},"PartitionKey":"k"}"#),
        (Method::PUT, "/streams/s/records", r#"{"records":[{"data":1,"partition-key":"k"}]}"#),
        (Method::POST, "/streams/new", r#"{"ShardCount":1}"#),
    ] {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", mounted.address));
        let request = request.header("content-type", "application/json").body(marked(body)).unwrap();
        assert_eq!(mounted.send(request).await.0, 200, "{path}");
    }
}
