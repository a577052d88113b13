//! Mounted as a process mounts it: the façade on the gateway's port, the native protocol on a server of its own.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pinmill_broker::MemoryLog;
use pinmill_gateway::{Gateway, GatewayConfig, Limits, Server};
use pinmill_kinesis::{Kinesis, KinesisConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::world::ANY_SIGNATURE;

async fn send(
    http2: bool,
    method: Method,
    url: String,
    headers: &[(&str, &str)],
    body: Value,
) -> (u16, Value) {
    let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer =
        client.request(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_facade_stands_on_the_gateway_and_the_native_protocol_on_its_own_port() {
    let kinesis = Kinesis::open(Arc::new(MemoryLog::new()), KinesisConfig::default()).await.unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let config = GatewayConfig { listen: anywhere, ..GatewayConfig::default() };
    let gateway = Gateway::bind(config, Arc::new(MemoryLog::new())).await.unwrap();
    let gateway = gateway.with_routes(kinesis.facade_router());
    let native = Server::bind(anywhere, Limits::default(), std::time::Duration::from_secs(5)).await.unwrap();
    let (front, back) = (gateway.local_addr(), native.local_addr());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.serve(stop.clone()));
    let serving_native = tokio::spawn(native.serve(kinesis.native_router(), stop.clone()));

    let json_type = [("content-type", "application/json")];
    let post = json!({"StreamName": "x", "Data": {"index": 1}, "PartitionKey": "partition-1"});
    for stage in ["", "/dev", "/prod"] {
        let url = format!("http://{front}{stage}/streams/streaming-1-pin/record");
        let (status, answer) = send(false, Method::PUT, url, &json_type, post.clone()).await;
        assert_eq!((status, &answer["ShardId"]), (200, &json!("shardId-000000000000")), "{stage}: {answer}");
    }
    let (status, _) = send(false, Method::GET, format!("http://{front}/topics"), &[], Value::Null).await;
    assert_eq!(status, 200, "the gateway's own routes are there too");
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "Kinesis_20131202.ListStreams"),
        ("authorization", ANY_SIGNATURE),
        ("x-amz-date", "x"),
    ];
    for http2 in [false, true] {
        let (status, listed) =
            send(http2, Method::POST, format!("http://{back}/"), &headers, json!({})).await;
        assert_eq!((status, &listed["StreamNames"]), (200, &json!(["streaming-1-pin"])));
    }
    stop.cancel();
    serving.await.unwrap();
    serving_native.await.unwrap();
}
