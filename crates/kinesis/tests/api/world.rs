//! A service on a port of its own, and a client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use pinmill_broker::{EventLog, MemoryLog};
use pinmill_kinesis::{Clock, Kinesis, KinesisConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// A signature of the right form that nobody checks.
pub(crate) const ANY_SIGNATURE: &str =
    "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";

/// A running service.
pub(crate) struct World {
    pub(crate) kinesis: Kinesis,
    pub(crate) address: String,
    /// What the service's clock is ahead, in milliseconds.
    ahead: Arc<AtomicI64>,
    clock: Clock,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Arc<Notify>,
    server: JoinHandle<()>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

impl World {
    /// A service with the default settings on a log in memory.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(set: impl FnOnce(&mut KinesisConfig)) -> Self {
        Self::on(Arc::new(MemoryLog::new()), set).await
    }

    pub(crate) async fn on(log: Arc<dyn EventLog>, set: impl FnOnce(&mut KinesisConfig)) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let mut config =
            KinesisConfig { clock: Clock::shifted(Arc::clone(&ahead)), ..KinesisConfig::default() };
        set(&mut config);
        let clock = config.clock.clone();
        let kinesis = Kinesis::open(log, config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = kinesis.router();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let socket = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = stopped.notified() => return connections.shutdown().await,
                };
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away in the middle is not the test's concern.
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { kinesis, address, ahead, clock, client, stop, server }
    }

    /// Ends the service with all its connections, so that nothing holds its log any more.
    pub(crate) async fn stop(self) {
        self.stop.notify_one();
        self.server.await.unwrap();
    }

    /// Speaks HTTP/2 by prior knowledge from now on.
    pub(crate) fn http2(mut self) -> Self {
        self.client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        self
    }

    /// Lets the service's clock run ahead.
    pub(crate) fn pass(&self, ms: i64) {
        self.ahead.fetch_add(ms, Ordering::SeqCst);
    }

    /// The service's time, in milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Calls an operation with a body in JSON.
    pub(crate) async fn call(&self, operation: &str, body: impl Into<Bytes>) -> Answer {
        self.call_as("application/x-amz-json-1.1", operation, body).await
    }

    pub(crate) async fn call_as(
        &self,
        content_type: &str,
        operation: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        self.call_with(content_type, ANY_SIGNATURE, operation, body).await
    }

    /// Calls an operation with a body in JSON, signed for a region.
    pub(crate) async fn call_in(&self, region: &str, operation: &str, body: impl Into<Bytes>) -> Answer {
        let signature = ANY_SIGNATURE.replace("us-east-1", region);
        self.call_with("application/x-amz-json-1.1", &signature, operation, body).await
    }

    async fn call_with(
        &self,
        content_type: &str,
        signature: &str,
        operation: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let target = format!("Kinesis_20131202.{operation}");
        let headers = [
            ("content-type", content_type),
            ("x-amz-target", &target),
            ("authorization", signature),
            ("x-amz-date", "20260101T000000Z"),
        ];
        self.send(Method::POST, "/", &headers, body).await
    }

    /// Calls an operation that must succeed; an empty answer is null.
    pub(crate) async fn ok(&self, operation: &str, body: Value) -> Value {
        let answer = self.call(operation, body.to_string()).await;
        assert_eq!(answer.status, 200, "{operation} {body}: {:?}", answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Calls an operation that must fail with this exception; returns its message.
    pub(crate) async fn fails(&self, operation: &str, body: Value, kind: &str) -> String {
        let answer = self.call(operation, body.to_string()).await;
        let error = answer.json();
        assert_eq!(
            (answer.status, error["__type"].as_str()),
            (400, Some(kind)),
            "{operation} {body}: {error}"
        );
        error["message"].as_str().or(error["Message"].as_str()).unwrap_or_default().to_owned()
    }

    pub(crate) async fn create(&self, name: &str, shards: u32) {
        self.ok("CreateStream", json!({"StreamName": name, "ShardCount": shards})).await;
    }

    /// Puts one record and returns its shard and sequence number.
    pub(crate) async fn put(&self, stream: &str, key: &str, data: &str) -> (String, String) {
        let body = json!({"StreamName": stream, "PartitionKey": key, "Data": STANDARD.encode(data)});
        let answer = self.ok("PutRecord", body).await;
        (text(&answer["ShardId"]), text(&answer["SequenceNumber"]))
    }

    pub(crate) async fn iterator(&self, stream: &str, shard: &str, kind: &str) -> String {
        let body = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": kind});
        text(&self.ok("GetShardIterator", body).await["ShardIterator"])
    }

    /// Reads on from an iterator until there is nothing more; returns the data of the records.
    pub(crate) async fn read_from(&self, iterator: String) -> Vec<String> {
        let (mut next, mut all) = (Some(iterator), Vec::new());
        while let Some(iterator) = next {
            let answer = self.ok("GetRecords", json!({"ShardIterator": iterator, "Limit": 1000})).await;
            let records = answer["Records"].as_array().unwrap();
            all.extend(records.iter().map(data));
            next = answer["NextShardIterator"].as_str().map(str::to_owned).filter(|_| !records.is_empty());
        }
        all
    }

    pub(crate) async fn read_shard(&self, stream: &str, shard: &str) -> Vec<String> {
        self.read_from(self.iterator(stream, shard, "TRIM_HORIZON").await).await
    }

    /// All records of a stream: by shard, in order.
    pub(crate) async fn read_all(&self, stream: &str) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        for shard in self.shards(stream).await {
            let id = text(&shard["ShardId"]);
            let records = self.read_shard(stream, &id).await;
            all.insert(id, records);
        }
        all
    }

    pub(crate) async fn shards(&self, stream: &str) -> Vec<Value> {
        let answer = self.ok("ListShards", json!({"StreamName": stream})).await;
        answer["Shards"].as_array().unwrap().clone()
    }

    pub(crate) async fn describe(&self, stream: &str) -> Value {
        self.ok("DescribeStream", json!({"StreamName": stream})).await["StreamDescription"].clone()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A record's data as text.
pub(crate) fn data(record: &Value) -> String {
    String::from_utf8(STANDARD.decode(record["Data"].as_str().unwrap()).unwrap()).unwrap()
}
