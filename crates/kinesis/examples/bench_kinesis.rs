//! How many records a second the native Kinesis API takes when each is on the disk before its answer, and how many another
//! endpoint takes from the same load.
//!
//! ```text
//! cargo run --release -p pinmill-kinesis --example bench_kinesis [-- --against URL --seconds S --rounds N --connections N
//!     --shards N --workers N --data DIR --only batches|singles]
//! ```
//!
//! Two loads, each over keep-alive connections that wait for their answer before they send again: PutRecords of 500
//! records, and PutRecord. A record has about 600 bytes, and its key is one of thousands. The bodies are made beforehand;
//! the load comes from a process of its own (this program again), one thread, for so many seconds after a warm-up on
//! another stream. Every answer's status is looked at, and that no record of it failed.
//!
//! An endpoint may get slower the more records it keeps. So a round has a second number, the best that the endpoint can
//! do: the fastest of a few calls made alone on streams that are empty. `ratio_to_best` sets our rate under load against it.
//!
//! Our server stands on a fresh embedded log with fsync, in a runtime with one thread less than there are cores, as the
//! log writes and flushes on threads of its own. Every round has a new stream of the same number of shards on both sides;
//! rounds alternate, the median counts. One JSON line on stdout.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a bench ends at the first thing that goes wrong, and its output is its purpose"
)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pinmill_broker::EmbeddedLog;
use pinmill_gateway::{Limits, Server};
use pinmill_kinesis::{Kinesis, KinesisConfig, LOG_BATCH_BYTES, LOG_RECORD_BYTES};
use pinmill_log::{Durability, Log, LogConfig};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Records of one PutRecords: the most that the API takes.
const BATCH: usize = 500;
/// Different bodies of PutRecords, and of PutRecord.
const BATCHES: usize = 32;
const SINGLES: usize = 4096;
/// How long a stream that is then deleted is put to before the one that counts, in seconds: compilers at run time get warm.
const WARM_UP_S: f64 = 2.0;
/// Empty streams on which calls are made alone. No more: emulators keep Amazon's limit of five new streams a second.
const EMPTY_STREAMS: usize = 3;
/// Records put alone to each of them, in calls of one record.
const SINGLES_ALONE: usize = 50;

/// Which call the load makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Batches,
    Singles,
}

impl Load {
    fn parse(name: &str) -> Self {
        match name {
            "batches" => Self::Batches,
            "singles" => Self::Singles,
            other => panic!("there is no load `{other}`: batches or singles"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Singles => "singles",
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Batches => "PutRecords",
            Self::Singles => "PutRecord",
        }
    }

    fn records_a_call(self) -> usize {
        match self {
            Self::Batches => BATCH,
            Self::Singles => 1,
        }
    }
}

struct Options {
    /// `host:port` of the other endpoint, which speaks plain HTTP.
    against: Option<String>,
    seconds: f64,
    rounds: usize,
    connections: usize,
    shards: u32,
    /// Threads of our server's runtime.
    workers: usize,
    data: PathBuf,
    /// For a profiler: only this load.
    only: Option<Load>,
}

/// What one round measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Round {
    records_per_second: f64,
    /// Of the fastest call made alone on an empty stream.
    #[serde(default)]
    best_records_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Both sides of one load.
#[derive(Serialize)]
struct Compared {
    ours: Round,
    theirs: Option<Round>,
    /// Ours to theirs, in records a second under the same load.
    ratio: Option<f64>,
    /// Ours under load to the best of theirs.
    ratio_to_best: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    connections: usize,
    shards: u32,
    workers: usize,
    value_bytes: usize,
    put_records: Option<Compared>,
    put_record: Option<Compared>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [first, address, stream, load, connections, seconds] = arguments.as_slice()
        && first == "client"
    {
        let (load, connections) = (Load::parse(load), connections.parse().expect("a number"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let round = measure(address, stream, load, connections, seconds.parse().expect("seconds"));
        return println!("{}", serde_json::to_string(&runtime.block_on(round)).unwrap());
    }
    let options = options(&arguments);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(options.workers).enable_all().build().unwrap();
    let wanted = |load| options.only.is_none_or(|only| only == load);
    let compared = |load| wanted(load).then(|| runtime.block_on(compare(&options, load)));
    let report = Report {
        bench: "kinesis",
        connections: options.connections,
        shards: options.shards,
        workers: options.workers,
        value_bytes: value(0).len(),
        put_records: compared(Load::Batches),
        put_record: compared(Load::Singles),
    };
    println!("{}", serde_json::to_string(&report).unwrap());
}

fn options(arguments: &[String]) -> Options {
    let value = |name: &str| {
        arguments.iter().position(|argument| argument == name).map(|at| arguments[at + 1].clone())
    };
    let number = |name: &str, default| value(name).map_or(default, |text| text.parse().expect("a number"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let against = value("--against").map(|url| {
        let address = url.strip_prefix("http://").expect("--against wants http://HOST:PORT");
        address.trim_end_matches('/').to_owned()
    });
    Options {
        against,
        seconds: value("--seconds").map_or(5.0, |text| text.parse().expect("seconds")),
        rounds: number("--rounds", 3),
        connections: number("--connections", 16),
        shards: u32::try_from(number("--shards", 4)).expect("few shards"),
        workers: number("--workers", cores.saturating_sub(1).max(1)),
        data: value("--data").map_or_else(|| PathBuf::from("target"), PathBuf::from),
        only: value("--only").map(|name| Load::parse(&name)),
    }
}

async fn compare(options: &Options, load: Load) -> Compared {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let measured = our_round(options, load).await;
        eprintln!("{} {}: ours {:.0} records/s", load.operation(), round + 1, measured.records_per_second);
        ours.push(measured);
        if let Some(address) = &options.against {
            let stream = format!("bench-{}-{}-{round}", std::process::id(), load.name());
            let measured = round_on(address, &stream, options, load).await;
            let (rate, best) = (measured.records_per_second, measured.best_records_per_second);
            eprintln!("{} {}: theirs {rate:.0}, {best:.0} at best", load.operation(), round + 1);
            theirs.push(measured);
        }
    }
    let ours = median(ours).expect("a round");
    let best = theirs.iter().map(|round| round.best_records_per_second).reduce(f64::max);
    let theirs = median(theirs);
    let to = |theirs: f64| (ours.records_per_second / theirs * 10.0).round() / 10.0;
    Compared {
        ours,
        theirs: theirs.map(|round| Round { best_records_per_second: best.unwrap_or_default(), ..round }),
        ratio: theirs.map(|round| to(round.records_per_second)),
        ratio_to_best: best.map(to),
    }
}

/// The round whose speed is in the middle.
fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|a, b| a.records_per_second.total_cmp(&b.records_per_second));
    rounds.get(rounds.len() / 2).copied()
}

/// A round on our server, which is started for it on a log of its own.
async fn our_round(options: &Options, load: Load) -> Round {
    std::fs::create_dir_all(&options.data).unwrap();
    let folder = tempfile::Builder::new().prefix("kinesis-bench-").tempdir_in(&options.data).unwrap();
    let config = LogConfig {
        durability: Durability::Fsync,
        max_record_bytes: LOG_RECORD_BYTES,
        max_batch_bytes: LOG_BATCH_BYTES,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(folder.path(), config).unwrap();
    let log = Arc::new(log);
    let kinesis =
        Kinesis::open(Arc::new(EmbeddedLog::new(Arc::clone(&log))), KinesisConfig::default()).await.unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(anywhere, Limits::default(), Duration::from_secs(10)).await.unwrap();
    let address = server.local_addr().to_string();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(kinesis.native_router(), stop.clone()));
    let round = round_on(&address, "bench", options, load).await;
    stop.cancel();
    assert_eq!(serving.await.unwrap().cut, 0);
    let stats = log.stats();
    eprintln!(
        "  {} appends, {:.1} an fsync",
        stats.appends,
        stats.appends as f64 / stats.fsyncs.max(1) as f64
    );
    log.close().unwrap();
    round
}

/// A round on streams made for it: a warm-up, the load, and the calls made alone.
async fn round_on(address: &str, stream: &str, options: &Options, load: Load) -> Round {
    let mut control = Connection::open(address).await;
    let warm = format!("{stream}-warm");
    control.create(&warm, options.shards).await;
    load_from_outside(address, &warm, WARM_UP_S, options, load).await;
    control.delete(&warm).await;
    control.create(stream, options.shards).await;
    let mut round = load_from_outside(address, stream, options.seconds, options, load).await;
    control.delete(stream).await;
    for n in 0..EMPTY_STREAMS {
        let empty = format!("{stream}-empty-{n}");
        control.create(&empty, options.shards).await;
        let alone = alone(&mut control, &empty, load).await;
        round.best_records_per_second = round.best_records_per_second.max(alone.round());
        control.delete(&empty).await;
    }
    round
}

/// Puts a few records to an empty stream, one call after the other; returns the records a second of the fastest call.
async fn alone(connection: &mut Connection, stream: &str, load: Load) -> f64 {
    let calls = match load {
        Load::Batches => 1,
        Load::Singles => SINGLES_ALONE,
    };
    let mut fastest = Duration::MAX;
    for body in bodies(stream, load).into_iter().take(calls) {
        let sent = Instant::now();
        let answer = connection.call(load.operation(), body).await;
        fastest = fastest.min(sent.elapsed());
        assert!(is_stored(&answer, load), "not all was stored: {answer:?}");
    }
    load.records_a_call() as f64 / fastest.as_secs_f64()
}

/// Runs the load in a process of its own.
async fn load_from_outside(
    address: &str,
    stream: &str,
    seconds: f64,
    options: &Options,
    load: Load,
) -> Round {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["client", address, stream, load.name()]);
    command.args([options.connections.to_string(), seconds.to_string()]).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "the load client failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A pin as Python's `json.dumps` writes it.
fn value(n: usize) -> String {
    let mut value = String::from("{");
    for (name, text) in [
        ("unique_id", "fbe53c66-3442-4773-b19e-d3ec6f54dddf"),
        ("title", "No Title Data Available"),
        ("description", "A long description of a pin, cut where the source cuts it, with a few words more…"),
        ("poster_name", "User Info Error"),
        ("follower_count", "124k"),
        (
            "tag_list",
            "Mens Craft,Birthday Ideas,Diy Projects,Gifts For Him,Fathers Day,Paper Craft,Kids,Home",
        ),
        ("is_image_or_video", "multi-video(story page format)"),
        ("image_src", "https://i.pinimg.com/originals/1e/2f/41/1e2f41d0b5b9d6f1a2c3e4f5a6b7c8d9.jpg"),
        ("save_location", "Local save in /data/mens-fashion"),
        ("category", "mens-fashion"),
    ] {
        write!(value, "\"{name}\": \"{text}\", ").unwrap();
    }
    write!(value, "\"index\": {n}, \"downloaded\": 1}}").unwrap();
    value
}

/// The bodies that the load sends in turn.
fn bodies(stream: &str, load: Load) -> Vec<Bytes> {
    let record = |n: usize| format!(r#""Data":"{}","PartitionKey":"key-{n}""#, STANDARD.encode(value(n)));
    let name = format!(r#""StreamName":"{stream}""#);
    let batch = |first: usize| {
        let records: Vec<String> = (first..first + BATCH).map(|n| format!("{{{}}}", record(n))).collect();
        format!(r#"{{"Records":[{}],{name}}}"#, records.join(",")).into()
    };
    match load {
        Load::Batches => (0..BATCHES).map(|n| batch(n * BATCH)).collect(),
        Load::Singles => (0..SINGLES).map(|n| format!("{{{},{name}}}", record(n)).into()).collect(),
    }
}

/// Puts over so many connections for so long and tells how it went. What is on its way at the end is waited for and
/// counted, and so is the time it takes.
async fn measure(address: &str, stream: &str, load: Load, connections: usize, seconds: f64) -> Round {
    let bodies: Arc<[Bytes]> = bodies(stream, load).into();
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(address).await);
    }
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    let mut clients = Vec::new();
    for (index, mut connection) in opened.into_iter().enumerate() {
        let bodies = Arc::clone(&bodies);
        clients.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            // Each connection begins elsewhere, so that different bodies are on their way at a time.
            for body in bodies.iter().cycle().skip(index * bodies.len() / connections) {
                let sent = Instant::now();
                if sent >= until {
                    break;
                }
                let answer = connection.call(load.operation(), body.clone()).await;
                latencies.push(sent.elapsed());
                assert!(is_stored(&answer, load), "not all was stored: {answer:?}");
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.unwrap());
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort();
    let at = |share: f64| {
        let latency = latencies[((latencies.len() - 1) as f64 * share) as usize];
        (latency.as_secs_f64() * 1e5).round() / 100.0
    };
    let records = latencies.len() * load.records_a_call();
    Round {
        records_per_second: (records as f64 / seconds).round(),
        best_records_per_second: 0.0,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    }
}

/// True where an answer says that every record was taken.
fn is_stored(answer: &[u8], load: Load) -> bool {
    let member: &[u8] = match load {
        Load::Batches => br#""FailedRecordCount":0"#,
        Load::Singles => br#""SequenceNumber":""#,
    };
    // Both stand near the front; a count of more digits begins with another one.
    find(answer, member).is_some()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// A connection that is kept, with one call on it at a time.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host: address.to_owned() }
    }

    /// Makes a stream and waits until it takes records.
    async fn create(&mut self, stream: &str, shards: u32) {
        self.call("CreateStream", format!(r#"{{"StreamName":"{stream}","ShardCount":{shards}}}"#)).await;
        loop {
            let answer = self.call("DescribeStreamSummary", format!(r#"{{"StreamName":"{stream}"}}"#)).await;
            if find(&answer, br#""ACTIVE""#).is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn delete(&mut self, stream: &str) {
        self.call("DeleteStream", format!(r#"{{"StreamName":"{stream}"}}"#)).await;
    }

    /// Calls an operation that must succeed and returns its answer.
    async fn call(&mut self, operation: &str, body: impl Into<Bytes>) -> Bytes {
        let request = Request::post("/")
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .header("x-amz-date", "20260101T000000Z")
            .header(
                header::AUTHORIZATION,
                "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/kinesis/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature=0",
            );
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, StatusCode::OK, "{operation}: {body:?}");
        body
    }
}
