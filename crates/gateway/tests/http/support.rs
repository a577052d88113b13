//! A gateway on a log in memory, and a client that sends bytes and reads what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EventLog, MemoryLog};
use pinmill_gateway::{Drained, Gateway, GatewayConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No step of a test takes this long; a test that waits for something that never comes fails after it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) stop: CancellationToken,
    serving: JoinHandle<Drained>,
}

/// A gateway with default settings, changed by `change`, on a free port.
pub(crate) async fn serve(change: impl FnOnce(&mut GatewayConfig)) -> Served {
    let log = Arc::new(MemoryLog::new());
    over(Arc::<MemoryLog>::clone(&log), log, change).await
}

/// A gateway over another log than the one in memory.
pub(crate) async fn serve_over(log: Arc<dyn EventLog>) -> Served {
    over(log, Arc::new(MemoryLog::new()), |_| {}).await
}

async fn over(
    below: Arc<dyn EventLog>,
    log: Arc<MemoryLog>,
    change: impl FnOnce(&mut GatewayConfig),
) -> Served {
    let mut config = GatewayConfig::default();
    config.listen.set_port(0);
    change(&mut config);
    let gateway = Gateway::bind(config, below).await.unwrap();
    let (address, stop) = (gateway.local_addr(), CancellationToken::new());
    let serving = tokio::spawn(gateway.serve(stop.clone()));
    Served { address, log, stop, serving }
}

impl Served {
    pub(crate) async fn connect(&self) -> Client {
        Client { stream: within(TcpStream::connect(self.address)).await.unwrap(), received: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.ask(request).await
    }

    /// A topic's values, by partition, as text.
    pub(crate) fn values(&self, topic: &str) -> Vec<Vec<String>> {
        let text = |value: Option<bytes::Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        let partitions = self.log.records(topic).into_iter();
        partitions.map(|records| records.into_iter().map(|record| text(record.value)).collect()).collect()
    }

    /// How many records a topic has, over all partitions.
    pub(crate) fn count(&self, topic: &str) -> usize {
        self.log.records(topic).iter().map(Vec::len).sum()
    }

    /// The value of a line of `/metrics`.
    pub(crate) async fn metric(&self, line: &str) -> Option<f64> {
        let text = self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.text();
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// Waits until a line of `/metrics` has a value.
    pub(crate) async fn until_metric(&self, line: &str, wanted: f64) {
        within(async {
            while self.metric(line).await != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn stopped(self) -> Drained {
        self.stop.cancel();
        within(self.serving).await.unwrap()
    }

    pub(crate) async fn make_topic(&self, topic: &str, partitions: u32) {
        self.log.create_topic(topic, partitions).await.unwrap();
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("what the test waits for did not come")
}

/// A produce request as bytes.
pub(crate) fn post(path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(crate) const JSON: &str = "application/vnd.kafka.json.v2+json";

/// A produce request of JSON records.
pub(crate) fn post_json(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post(path, JSON, body)
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        self.send(request).await;
        self.answer(request.starts_with(b"HEAD ")).await.expect("an answer, not a hang-up")
    }

    /// The next answer; `None` when the server hung up before one began.
    pub(crate) async fn answer(&mut self, without_body: bool) -> Option<Answer> {
        loop {
            if let Some((answer, length)) = Answer::parse(&self.received, without_body) {
                self.received.drain(..length);
                return Some(answer);
            }
            let received = within(self.stream.read_buf(&mut self.received)).await.unwrap_or(0);
            if received == 0 {
                assert!(self.received.is_empty(), "cut off: {:?}", String::from_utf8_lossy(&self.received));
                return None;
            }
        }
    }

    /// Waits for the server to hang up; everything it sent until then.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        // A reset is a hang-up too.
        while within(self.stream.read_buf(&mut self.received)).await.is_ok_and(|received| received > 0) {}
        std::mem::take(&mut self.received)
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The answer that `bytes` begin with and its length, once it is whole.
    fn parse(bytes: &[u8], without_body: bool) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..end]).unwrap().to_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|l| l.parse().unwrap());
        let length = if without_body { 0 } else { length.unwrap_or(0) };
        let body = bytes.get(end..end + length)?.to_vec();
        Some((Self { status, head, body }, end + length))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}{}", self.head, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| Some((line.split_once(": ")?.0 == name, line.find(": ")? + 2));
        self.head.lines().find_map(|line| value(line).filter(|(found, _)| *found).map(|(_, at)| &line[at..]))
    }

    /// All bytes, the date left out.
    pub(crate) fn golden(&self) -> String {
        let head: Vec<_> = self.head.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
        head.join("\r\n") + &self.text()
    }

    /// Asserts that this is an error in the proxy's shape, and gives its code.
    pub(crate) fn error_code(&self) -> u64 {
        let json = self.json();
        assert!(self.status >= 400, "{}{json}", self.head);
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        let members: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(members, ["error_code", "message"], "{json}");
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        json["error_code"].as_u64().unwrap()
    }
}
