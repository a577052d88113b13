//! One pinmill on one data directory, driven by its command line and its HTTP port.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pinmill_testkit::KillOnDrop;
use serde_json::Value;

/// A data directory and the binary that works on it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    extra: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: pinmill_testkit::temp_dir(), extra: Vec::new() }
    }

    /// Options that every command of this world gets.
    pub(crate) fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|text| (*text).to_owned()));
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
        let document = self.json(&["sql", query]);
        serde_json::from_value(document["rows"].clone()).unwrap()
    }

    /// `pinmill serve` on a free port.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        self.serve_with(args, |_| {})
    }

    /// `pinmill serve` on a free port, with a last word on its environment.
    pub(crate) fn serve_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0", "-q"], args].concat());
        change(&mut command);
        let mut child = KillOnDrop::spawn_piped(&mut command).unwrap();
        let url = child.read_line().unwrap();
        assert!(
            url.starts_with("http://127.0.0.1:"),
            "the first line of `serve` must be its URL, not {url:?}"
        );
        Server { child, url }
    }

    /// The audit's document; it must be balanced.
    pub(crate) fn assert_balanced(&self) -> Value {
        let output = self.output(&["audit", "--format", "json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let audit: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(audit["balanced"], Value::Bool(true), "{audit:#}");
        audit
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
}

impl Server {
    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
    }

    /// SIGTERM, and waits for the end, which must be a clean one.
    pub(crate) fn stop(mut self) {
        self.child.signal(rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "serve ended with {status} after SIGTERM");
    }
}

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
        let records: Vec<Value> = values.iter().map(|value| serde_json::json!({"value": value})).collect();
        let body = serde_json::json!({"records": records}).to_string();
        let answer = self
            .http
            .post(format!("{}/topics/{topic}", self.url))
            .header("Content-Type", "application/vnd.kafka.json.v2+json")
            .body(body)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let offsets = answer["offsets"].as_array().ok_or("no offsets")?;
        offsets
            .iter()
            .map(|entry| match (entry["partition"].as_i64(), entry["offset"].as_i64()) {
                (Some(partition), Some(offset)) => Ok((partition, offset)),
                _ => Err(entry.to_string()),
            })
            .collect()
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
