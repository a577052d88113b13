//! A small HTTP server that does what a script says, request by request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Stores its records and answers with their positions.
    Store,
    /// The same, says that the connection will be closed, and closes it.
    StoreAndClose,
    /// Stores its records and never answers.
    StoreInSilence,
    /// Answers with a position for each 0 and an error for each error code.
    PerRecord(&'static [i64]),
    /// The same for a stream, with an error's code or nothing for each.
    PerRecordOfStream(&'static [&'static str]),
    /// Answers with a status and some headers.
    Status(u16, &'static str),
    /// Answers with a status and this body.
    Say(u16, &'static str),
    /// Resets the connection instead of answering.
    Reset,
    /// Closes the connection instead of answering.
    Close,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn records(&self) -> usize {
        let body = self.json();
        // one record that is put by itself is in no list
        body["records"].as_array().map_or(1, Vec::len)
    }

    pub(crate) fn is_for_stream(&self) -> bool {
        self.line.starts_with("PUT ")
    }

    /// The partition keys of what is put, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let records = self.json()["records"].as_array().unwrap().clone();
        records.iter().map(|record| record["partition-key"].as_str().unwrap().to_owned()).collect()
    }
}

type Script = Box<dyn Fn(usize) -> Act + Send + Sync>;

struct State {
    script: Script,
    requests: Mutex<Vec<Request>>,
    seen: watch::Sender<usize>,
    connections: AtomicUsize,
    stored: AtomicUsize,
    offset: AtomicI64,
    stop: CancellationToken,
}

pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    pub(crate) async fn start_on(
        address: SocketAddr,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(128).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            requests: Mutex::default(),
            seen: watch::channel(0).0,
            connections: AtomicUsize::new(0),
            stored: AtomicUsize::new(0),
            offset: AtomicI64::new(0),
            stop: CancellationToken::new(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// Records stored.
    pub(crate) fn stored(&self) -> usize {
        self.state.stored.load(SeqCst)
    }

    /// Waits for so many requests.
    pub(crate) async fn wait_for(&self, requests: usize) {
        self.state.seen.subscribe().wait_for(|&seen| seen >= requests).await.unwrap();
    }

    /// Cuts all connections and closes the port; tells how many records were stored.
    pub(crate) async fn stop(self) -> usize {
        self.state.stop.cancel();
        self.accepting.await.unwrap();
        self.state.stored.load(SeqCst)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Some(Ok((stream, _))) = state.stop.run_until_cancelled(listener.accept()).await {
        state.connections.fetch_add(1, SeqCst);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let stop = state.stop.clone();
            stop.run_until_cancelled(serve(stream, &state)).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, state: &State) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut requests = state.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let act = (state.script)(number);
        let answer = answer(act, &request, state);
        state.seen.send_replace(number + 1);
        match act {
            Act::Reset => return stream.into_inner().set_zero_linger().unwrap(),
            Act::Close => return,
            Act::StoreInSilence => std::future::pending().await,
            _ => {}
        }
        if stream.write_all(answer.as_bytes()).await.is_err() || matches!(act, Act::StoreAndClose) {
            return;
        }
    }
}

fn answer(act: Act, request: &Request, state: &State) -> String {
    let (status, headers, body) = match act {
        Act::Store | Act::StoreInSilence => (200, "", stored(request, state)),
        Act::StoreAndClose => (200, "Connection: close\r\n", stored(request, state)),
        Act::PerRecord(codes) => (200, "", of_topic(codes, state)),
        Act::PerRecordOfStream(codes) => (200, "", of_stream(codes, state).to_string()),
        Act::Status(status, headers) => (status, headers, of_topic(&[], state)),
        Act::Say(status, body) => (status, "", body.to_owned()),
        Act::Reset | Act::Close => return String::new(),
    };
    format!(
        "HTTP/1.1 {status} As Told\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Stores all records of a request.
fn stored(request: &Request, state: &State) -> String {
    let records = request.records();
    if !request.is_for_stream() {
        return of_topic(&vec![0; records], state);
    }
    let answer = of_stream(&vec![""; records], state);
    if request.line.contains("/records ") { answer.to_string() } else { answer["Records"][0].to_string() }
}

fn of_topic(codes: &[i64], state: &State) -> String {
    let offset = |&code: &i64| match code {
        0 => json!({"partition": 0, "offset": state.store(), "error_code": null, "error": null}),
        code => json!({"partition": null, "offset": null, "error_code": code, "error": "as told"}),
    };
    let offsets: Vec<_> = codes.iter().map(offset).collect();
    json!({"offsets": offsets, "key_schema_id": null, "value_schema_id": null}).to_string()
}

fn of_stream(codes: &[&str], state: &State) -> Value {
    let record = |&code: &&str| match code {
        "" => json!({"SequenceNumber": format!("{:056}", state.store()), "ShardId": "shardId-000000000003"}),
        code => json!({"ErrorCode": code, "ErrorMessage": "as told"}),
    };
    let failed = codes.iter().filter(|code| !code.is_empty()).count();
    json!({"FailedRecordCount": failed, "Records": codes.iter().map(record).collect::<Vec<_>>()})
}

impl State {
    /// Stores a record and gives its offset.
    fn store(&self) -> i64 {
        self.stored.fetch_add(1, SeqCst);
        self.offset.fetch_add(1, SeqCst)
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|&n| n > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request =
        Request { line: line.trim_end().to_owned(), headers, body: String::new(), at: Instant::now() };
    let mut body = vec![0; request.header("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}
