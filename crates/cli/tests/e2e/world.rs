//! One pinmill on one data directory, driven by its command line and its HTTP port.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use pinmill_testkit::KillOnDrop;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use serde_json::{Value, json};

use crate::said::Said;

/// How long a test waits for something that will come; long, because machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A data directory and the binary that works on it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    extra: Vec<String>,
    expected: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: pinmill_testkit::temp_dir(), extra: Vec::new(), expected: Vec::new() }
    }

    /// Options that every command of this world gets.
    pub(crate) fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|text| (*text).to_owned()));
        self
    }

    /// Words of warnings and errors that the servers of this world may say on stderr. Any other fails the test.
    pub(crate) fn expecting(mut self, words: &[&str]) -> Self {
        self.expected.extend(words.iter().map(|text| (*text).to_owned()));
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A path beside the data directory, removed with it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `pinmill ARGS --data …`, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = pinmill();
        command.args(args).arg("--data").arg(self.data()).args(&self.extra).current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(
            output.status.success(),
            "pinmill {args:?} ended with {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with `--format json` that must succeed, and gives the document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--format", "json"]].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {text}"))
    }

    /// Rows of a query.
    pub(crate) fn sql(&self, query: &str) -> Vec<Vec<Value>> {
        rows(&self.json(&["sql", query]))
    }

    /// Rows of a query on the streaming half's tables.
    pub(crate) fn stream_sql(&self, query: &str) -> Vec<Vec<Value>> {
        rows(&self.json(&["sql", query, "--from", "stream"]))
    }

    /// Offset and id of every quarantined record of a half: `batch` or `stream`.
    pub(crate) fn quarantined(&self, half: &str) -> Vec<Vec<Value>> {
        let list = ["quarantine", "list", "--from", half, "--records", "--limit", "10000000"];
        let document = self.json(&list);
        let columns: Vec<String> = serde_json::from_value(document["columns"].clone()).unwrap();
        let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
        let (offset, raw) = (at("offset"), at("raw"));
        let pair = |row: Vec<Value>| {
            let value: Value = serde_json::from_str(row[raw].as_str().unwrap()).unwrap();
            vec![row[offset].clone(), value["ind"].clone()]
        };
        rows(&document).into_iter().map(pair).collect()
    }

    /// What `status` says of a table of the streaming half; `None` where there is none yet.
    pub(crate) fn stream_table(&self, dataset: &str) -> Option<Value> {
        self.table("stream", dataset)
    }

    fn table(&self, half: &str, dataset: &str) -> Option<Value> {
        let status = self.json(&["status"]);
        let mut tables = status["tables"].as_array().unwrap().iter();
        tables.find(|table| table["half"] == json!(half) && table["dataset"] == json!(dataset)).cloned()
    }

    /// Waits until a table of the batch half has so many rows.
    pub(crate) fn await_batch_rows(&self, dataset: &str, rows: u64) {
        await_some(&format!("{rows} rows in batch/{dataset}"), || {
            self.table("batch", dataset).filter(|table| table["rows"] == json!(rows))
        });
    }

    /// Waits until a table of the streaming half has so many rows.
    pub(crate) fn await_rows(&self, dataset: &str, rows: u64) {
        await_some(&format!("{rows} rows in stream/{dataset}"), || {
            self.stream_table(dataset).filter(|table| table["rows"] == json!(rows))
        });
    }

    /// `pinmill serve` on a free port.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        self.serve_with(args, |_| {})
    }

    /// `pinmill serve` on a free port, with a last word on its environment. Where its stderr is sent elsewhere, the test reads
    /// it itself.
    pub(crate) fn serve_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0", "-q"], args].concat());
        command.stderr(Stdio::piped());
        change(&mut command);
        let mut child = KillOnDrop::spawn_piped(&mut command).unwrap();
        let url = child.read_line().unwrap();
        let server = Server::heard(child, url, &self.expected);
        let url = &server.url;
        assert!(
            url.starts_with("http://127.0.0.1:"),
            "the first line of `serve` must be its URL, not {url:?}"
        );
        server
    }

    /// `pinmill serve` that tells its warnings and errors to a file.
    pub(crate) fn serve_telling(&self, args: &[&str], words: &Path) -> Server {
        let words = File::create(words).unwrap();
        self.serve_with(args, |command| {
            command.stderr(words);
        })
    }

    /// The audit's document; it must be balanced.
    pub(crate) fn assert_balanced(&self) -> Value {
        self.assert_balanced_with(&[])
    }

    /// The audit's document with more options; it must be balanced.
    pub(crate) fn assert_balanced_with(&self, args: &[&str]) -> Value {
        let output = self.output(&[&["audit", "--format", "json"], args].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let audit: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(audit["balanced"], Value::Bool(true), "{audit:#}");
        audit
    }
}

/// The rows of a document of columns and rows.
pub(crate) fn rows(document: &Value) -> Vec<Vec<Value>> {
    serde_json::from_value(document["rows"].clone()).unwrap()
}

/// Looks again and again until there is something; fails where it does not come.
pub(crate) fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The binary under test, with no settings of the tester's own environment.
pub(crate) fn pinmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinmill"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PINMILL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running `pinmill serve`.
pub(crate) struct Server {
    pub(crate) child: KillOnDrop,
    pub(crate) url: String,
    /// `None` where the test reads its stderr itself.
    said: Option<Said>,
}

impl Drop for Server {
    /// Kills it where it still lives. Fails where it has said something that the test did not expect.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let unexpected = self.said.take().map(Said::unexpected).unwrap_or_default();
        if !std::thread::panicking() {
            assert!(unexpected.is_empty(), "the server said unexpectedly:\n{}", unexpected.join("\n"));
        }
    }
}

impl Server {
    /// A server whose stderr is listened to, where it is piped.
    pub(crate) fn heard(mut child: KillOnDrop, url: String, expected: &[String]) -> Self {
        let said = child.take_stderr().map(|stderr| Said::on(stderr, expected));
        Self { child, url, said }
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
    }

    /// Stops the process until it is told to go on, and returns when it stands still.
    pub(crate) fn pause(&self) {
        self.child.signal(Signal::STOP).unwrap();
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        assert!(pid.is_some());
        let (_, status) = waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    pub(crate) fn go_on(&self) {
        self.child.signal(Signal::CONT).unwrap();
    }

    /// SIGTERM, and waits for the end, which must be a clean one.
    pub(crate) fn stop(self) {
        self.stop_within(PATIENCE);
    }

    /// SIGTERM, and waits for the end. Gives the exit code.
    pub(crate) fn stop_with_code(mut self) -> Option<i32> {
        self.child.signal(Signal::TERM).unwrap();
        await_end(&mut self.child, PATIENCE, "serve, after SIGTERM").code()
    }

    /// [`Server::stop`] for a server that must not take longer.
    pub(crate) fn stop_within(mut self, limit: Duration) {
        self.child.signal(Signal::TERM).unwrap();
        let status = await_end(&mut self.child, limit, "serve, after SIGTERM");
        assert!(status.success(), "serve ended with {status} after SIGTERM");
    }
}

/// Waits for the end of a process; fails where it does not come, and the process is killed when its value is dropped.
pub(crate) fn await_end(child: &mut KillOnDrop, limit: Duration, what: &str) -> ExitStatus {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "{what}: the process still lives after {limit:?}");
        // A wait for a child has no time limit.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where a stream keeps a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) shard: String,
    pub(crate) sequence: String,
}

impl Place {
    fn of(answer: &Value) -> Result<Self, String> {
        match (answer["ShardId"].as_str(), answer["SequenceNumber"].as_str()) {
            (Some(shard), Some(sequence)) => {
                Ok(Self { shard: shard.to_owned(), sequence: sequence.to_owned() })
            }
            _ => Err(answer.to_string()),
        }
    }
}

/// A signature of the right form that nobody checks.
const ANY_SIGNATURE: &str =
    "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";

/// A client that posts like the reference script does.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        Self { http: reqwest::Client::new(), url: url.to_owned() }
    }

    /// Posts values to a topic and gives their offsets; `Err` when the answer did not arrive or was no 200.
    pub(crate) async fn post(&self, topic: &str, values: &[Value]) -> Result<Vec<(i64, i64)>, String> {
        let records: Vec<Value> = values.iter().map(|value| json!({"value": value})).collect();
        let request = self
            .http
            .post(format!("{}/topics/{topic}", self.url))
            .header("Content-Type", "application/vnd.kafka.json.v2+json");
        let answer = send(request, &json!({"records": records})).await?;
        let offsets = answer["offsets"].as_array().ok_or("no offsets")?;
        offsets
            .iter()
            .map(|entry| match (entry["partition"].as_i64(), entry["offset"].as_i64()) {
                (Some(partition), Some(offset)) => Ok((partition, offset)),
                _ => Err(entry.to_string()),
            })
            .collect()
    }

    /// Puts one value to a stream; `Err` when the answer did not arrive or was no 200.
    pub(crate) async fn put(&self, stream: &str, key: &str, value: &Value) -> Result<Place, String> {
        let request = self.http.put(format!("{}/streams/{stream}/record", self.url));
        let body = json!({"StreamName": "of-no-meaning", "Data": value, "PartitionKey": key});
        Place::of(&send(request.header("Content-Type", "application/json"), &body).await?)
    }

    /// Puts values with their partition keys to a stream in one request; `Err` also when one of them was refused.
    pub(crate) async fn put_all(
        &self,
        stream: &str,
        values: &[(String, Value)],
    ) -> Result<Vec<Place>, String> {
        let records = values.iter().map(|(key, value)| json!({"data": value, "partition-key": key}));
        let body = json!({"records": records.collect::<Vec<_>>()});
        let request = self.http.put(format!("{}/streams/{stream}/records", self.url));
        let answer = send(request.header("Content-Type", "application/json"), &body).await?;
        let places = answer["Records"].as_array().ok_or("no records")?;
        if places.len() != values.len() {
            return Err(format!("{} values were put: {answer}", values.len()));
        }
        places.iter().map(Place::of).collect()
    }

    /// Makes a stream of so many shards through the façade.
    pub(crate) async fn create_stream(&self, stream: &str, shards: u32) -> Result<(), String> {
        let request = self.http.post(format!("{}/streams/{stream}", self.url));
        let request = request.header("Content-Type", "application/json");
        send(request, &json!({"ShardCount": shards})).await.map(drop)
    }

    /// Calls an operation of Kinesis by its native protocol; an empty answer is null.
    pub(crate) async fn kinesis(&self, operation: &str, body: &Value) -> Result<Value, String> {
        let request = self
            .http
            .post(format!("{}/", self.url))
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("Kinesis_20131202.{operation}"))
            .header("Authorization", ANY_SIGNATURE)
            .header("X-Amz-Date", "20260101T000000Z");
        send(request, body).await
    }
}

/// Sends JSON and reads JSON; an empty answer is null.
async fn send(request: reqwest::RequestBuilder, body: &Value) -> Result<Value, String> {
    let answer = request.body(body.to_string()).send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {text}"));
    }
    if text.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

/// A runtime for a test's own client.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
