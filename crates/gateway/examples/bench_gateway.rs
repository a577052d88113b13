//! How much of a bare HTTP handler's speed is left when every record is on the disk before its answer.
//!
//! ```text
//! cargo run --release -p pinmill-gateway --example bench_gateway [-- --requests N --connections N --rounds N --workers N --data DIR]
//! ```
//!
//! Two servers of the same stack take the same posts, one record each, over keep-alive connections: a bare handler that
//! reads the body and answers 200, and the gateway on an embedded log with fsync. Rounds alternate, the median counts.
//! Both run on a runtime with one thread less than there are cores, as the log writes and flushes on threads of its own.
//! The load comes from a process of its own (this program again), one thread, a bounded number of requests. One JSON line
//! on stdout.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench ends at the first thing that goes wrong, and its output is its purpose"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::{Buf, BytesMut};
use pinmill_broker::EmbeddedLog;
use pinmill_gateway::{Gateway, GatewayConfig, Limits, Server};
use pinmill_log::{Log, LogConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

struct Options {
    requests: usize,
    connections: usize,
    rounds: usize,
    /// Threads of the runtime.
    workers: usize,
    data: PathBuf,
    /// For a profiler: `bare` or `durable` runs only that.
    only: Option<String>,
}

/// What one round of load measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Round {
    rps: f64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    connections: usize,
    requests: usize,
    workers: usize,
    value_bytes: usize,
    bare_rps: f64,
    durable_rps: f64,
    ratio: f64,
    bare_p50_ms: f64,
    bare_p99_ms: f64,
    durable_p50_ms: f64,
    durable_p99_ms: f64,
    appends_per_fsync: f64,
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "client") {
        let number = |index: usize| arguments[index].parse().expect("a number");
        let round = load(arguments[1].parse().expect("an address"), number(2), number(3));
        println!("{}", serde_json::to_string(&round).unwrap());
        return;
    }
    arguments.retain(|argument| argument != "--bench");
    let options = options(&arguments);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(options.workers).enable_all().build().unwrap();
    match options.only.as_deref() {
        Some("bare") => return println!("{:?}", runtime.block_on(bare_round(&options))),
        Some(_) => return println!("{:?}", runtime.block_on(durable_round(&options))),
        None => {}
    }
    let report = runtime.block_on(compare(&options));
    println!("{}", serde_json::to_string(&report).unwrap());
}

fn options(arguments: &[String]) -> Options {
    let value = |name: &str| {
        arguments.iter().position(|argument| argument == name).map(|at| arguments[at + 1].clone())
    };
    let number = |name: &str, default| value(name).map_or(default, |text| text.parse().expect("a number"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Options {
        requests: number("--requests", 100_000),
        connections: number("--connections", 64),
        rounds: number("--rounds", 3),
        workers: number("--workers", cores.saturating_sub(1).max(1)),
        data: value("--data").map_or_else(|| PathBuf::from("target"), PathBuf::from),
        only: value("--only"),
    }
}

async fn compare(options: &Options) -> Report {
    let (mut bare, mut durable) = (Vec::new(), Vec::new());
    let (mut appends, mut fsyncs) = (0, 0);
    for round in 0..options.rounds {
        bare.push(bare_round(options).await);
        let (measured, stats) = durable_round(options).await;
        durable.push(measured);
        appends += stats.appends;
        fsyncs += stats.fsyncs;
        eprintln!("round {}: bare {:.0}/s, durable {:.0}/s", round + 1, bare[round].rps, measured.rps);
    }
    let (bare, durable) = (median(bare), median(durable));
    Report {
        bench: "gateway",
        connections: options.connections,
        requests: options.requests,
        workers: options.workers,
        value_bytes: value().len(),
        bare_rps: bare.rps.round(),
        durable_rps: durable.rps.round(),
        ratio: (durable.rps / bare.rps * 1000.0).round() / 1000.0,
        bare_p50_ms: bare.p50_ms,
        bare_p99_ms: bare.p99_ms,
        durable_p50_ms: durable.p50_ms,
        durable_p99_ms: durable.p99_ms,
        appends_per_fsync: (appends as f64 / f64::max(fsyncs as f64, 1.0) * 10.0).round() / 10.0,
    }
}

/// The round whose speed is in the middle.
fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.rps.total_cmp(&b.rps));
    rounds[rounds.len() / 2]
}

async fn bare_round(options: &Options) -> Round {
    let loopback = GatewayConfig::default().listen.ip();
    let server = Server::bind(SocketAddr::from((loopback, 0)), Limits::default(), Duration::from_secs(10))
        .await
        .unwrap();
    let address = server.local_addr();
    let handler = |body: bytes::Bytes| async move { if body.is_empty() { "no" } else { "ok" } };
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(server.serve(Router::new().route("/topics/{topic}", post(handler)), stop.clone()));
    let round = client(address, options).await;
    stop.cancel();
    assert_eq!(serving.await.unwrap().cut, 0);
    round
}

async fn durable_round(options: &Options) -> (Round, pinmill_log::Stats) {
    std::fs::create_dir_all(&options.data).unwrap();
    let folder = tempfile::Builder::new().prefix("gateway-bench-").tempdir_in(&options.data).unwrap();
    let (log, _) = Log::open(folder.path(), LogConfig::default()).unwrap();
    let log = Arc::new(log);
    let mut config = GatewayConfig::default();
    config.listen.set_port(0);
    let gateway = Gateway::bind(config, Arc::new(EmbeddedLog::new(Arc::clone(&log)))).await.unwrap();
    let address = gateway.local_addr();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.serve(stop.clone()));
    let round = client(address, options).await;
    stop.cancel();
    assert_eq!(serving.await.unwrap().cut, 0);
    let stored = log.offsets("bench.pin", 0).unwrap().end;
    assert_eq!(stored, options.requests as u64, "every acknowledged record is in the log");
    let stats = log.stats();
    log.close().unwrap();
    (round, stats)
}

/// Runs the load in a process of its own.
async fn client(address: SocketAddr, options: &Options) -> Round {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("client").arg(address.to_string());
    command.arg(options.connections.to_string()).arg(options.requests.to_string()).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "the load client failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A pin as Python's `json.dumps` writes it.
fn value() -> String {
    let mut value = String::from("{");
    for (name, text) in [
        ("unique_id", "fbe53c66-3442-4773-b19e-d3ec6f54dddf"),
        ("title", "No Title Data Available"),
        (
            "description",
            "A long description of a pin, cut where the source cuts it, with a few words more than needed…",
        ),
        ("poster_name", "User Info Error"),
        ("follower_count", "124k"),
        (
            "tag_list",
            "Mens Craft,Birthday Ideas,Diy Projects,Gifts For Him,Fathers Day,Paper Craft,Easy Crafts,Kids,Home",
        ),
        ("is_image_or_video", "multi-video(story page format)"),
        ("image_src", "https://i.pinimg.com/originals/1e/2f/41/1e2f41d0b5b9d6f1a2c3e4f5a6b7c8d9.jpg"),
        ("save_location", "Local save in /data/mens-fashion"),
        ("category", "mens-fashion"),
    ] {
        write!(value, "\"{name}\": \"{text}\", ").unwrap();
    }
    value.push_str("\"index\": 7528, \"downloaded\": 1}");
    value
}

/// Posts `requests` records over `connections` connections, each waiting for its answer before it sends again.
fn load(address: SocketAddr, connections: usize, requests: usize) -> Round {
    let body = format!("{{\"records\": [{{\"value\": {}}}]}}", value());
    let request = format!(
        "POST /topics/bench.pin HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n\
         Content-Type: application/vnd.kafka.json.v2+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let share = |index: usize| requests / connections + usize::from(index < requests % connections);
        let clients: Vec<_> = (0..connections)
            .map(|index| tokio::spawn(one_client(address, Arc::clone(&request), share(index))))
            .collect();
        let mut latencies = Vec::with_capacity(requests);
        for client in clients {
            latencies.extend(client.await.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        latencies.sort();
        let at =
            |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        Round { rps: requests as f64 / seconds, p50_ms: at(0.5), p99_ms: at(0.99) }
    })
}

async fn one_client(address: SocketAddr, request: Arc<[u8]>, requests: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = Vec::with_capacity(requests);
    let mut buffer = BytesMut::with_capacity(4096);
    for _ in 0..requests {
        let sent = Instant::now();
        stream.write_all(&request).await.unwrap();
        loop {
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the server hung up");
            if let Some(length) = answer_length(&buffer) {
                buffer.advance(length);
                break;
            }
        }
        latencies.push(sent.elapsed());
    }
    latencies
}

/// Length of the answer that `buffer` begins with, once it is whole.
fn answer_length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.parse().unwrap())
        .unwrap_or(0);
    (buffer.len() >= head + length).then_some(head + length)
}
