//! The streaming half: a backlog into tables against the same records from files, and how fresh tables are under load.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::batch::{Draw, Setup};
use super::report::{Report, Target};
use super::{Context, Cost, measure, pinmill, text};
use crate::Result;
use crate::command::{output, run as run_command};

/// 3,000,000 records of streams, loaded at once; the same records from an archive; and memory at a tenth of them.
pub(super) fn backlog(context: &Context) -> Result<Report> {
    let events = context.scaled(1_000_000);
    let setup = Setup::new(context, Draw::Distinct, events)?;
    let (files, _) = setup.clean_only()?;
    let bench = Stream { program: pinmill()?, work: context.data.join("stream") };
    let small = bench.load(events / 10)?;
    let large = bench.load(events)?;
    let records = events as f64 * 3.0;
    let mut report = Report::default();
    report.add("records", records, "", Target::None);
    report.add("clean from files", records / files.seconds, "records/s", Target::None);
    report.add("load from streams", records / large.seconds, "records/s", Target::None);
    report.add("streams / files", files.seconds / large.seconds, "", Target::AtLeast(0.5));
    report.add("most memory, a tenth of them", small.max_rss_bytes / 1048576.0, "MiB", Target::None);
    report.add("most memory, all of them", large.max_rss_bytes / 1048576.0, "MiB", Target::None);
    let growth = large.max_rss_bytes / small.max_rss_bytes;
    report.add("memory, all / a tenth", growth, "", Target::AtMost(1.2));
    Ok(report)
}

/// 5,000 records a second for two minutes, with a commit a second.
pub(super) fn freshness(context: &Context) -> Result<Report> {
    let bench = Stream { program: pinmill()?, work: context.data.join("freshness") };
    let events = context.scaled(200_000);
    let seconds = bench.post_at_pace(events)?;
    let found = bench.freshness()?;
    let number = |name: &str| found.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut report = Report::default();
    report.add("records/s posted", events as f64 * 3.0 / seconds, "/s", Target::AtLeast(4_900.0));
    report.add("rows looked at", number("rows"), "", Target::None);
    report.add("half in their table within", number("p50_seconds"), "s", Target::None);
    report.add("99 % in their table within", number("p99_seconds"), "s", Target::AtMost(1.5));
    report.add("all in their table within", number("max_seconds"), "s", Target::None);
    Ok(report)
}

/// A pinmill with a data folder of its own.
struct Stream {
    program: PathBuf,
    work: PathBuf,
}

impl Stream {
    fn data(&self) -> PathBuf {
        self.work.join("data")
    }

    fn fresh(&self) -> Result<()> {
        if self.work.is_dir() {
            fs::remove_dir_all(&self.work).map_err(|e| format!("{}: {e}", self.work.display()))?;
        }
        fs::create_dir_all(&self.work).map_err(|e| format!("{}: {e}", self.work.display()))
    }

    /// Puts events to streams that nobody loads, then loads them in a process of its own.
    fn load(&self, events: u64) -> Result<Cost> {
        self.fresh()?;
        let server = Server::start(&self.program, &self.data(), &["--set", "stream.from=off"])?;
        let posts = events.to_string();
        let mut emulate = self.emulate(&server.url, &posts);
        emulate.args(["--pace", "max", "--records-per-request", "500", "--connections", "16"]);
        run_command(&mut emulate)?;
        server.stop()?;
        let data = self.data();
        let load = [
            text(&self.program)?,
            "clean",
            "--from",
            "stream",
            "--format",
            "json",
            "--data",
            text(&data)?,
            "--no-progress",
            "--quiet",
        ];
        let out = self.work.join("load.json");
        let cost = measure(&load, &out)?;
        let said = fs::read_to_string(&out).map_err(|e| format!("{}: {e}", out.display()))?;
        let said: Value = serde_json::from_str(&said).map_err(|e| format!("{}: {e}", out.display()))?;
        let loaded = said.get("records").and_then(Value::as_u64);
        if loaded != Some(events * 3) {
            return Err(format!("{loaded:?} records were loaded of {}", events * 3));
        }
        Ok(cost)
    }

    /// Posts at the pace of 5,000 records a second while a server loads; how long that took, in seconds.
    fn post_at_pace(&self, events: u64) -> Result<f64> {
        self.fresh()?;
        let server = Server::start(&self.program, &self.data(), &["--batch-every", "off"])?;
        let posts = events.to_string();
        let start = std::time::Instant::now();
        let mut emulate = self.emulate(&server.url, &posts);
        emulate.args(["--pace", "1667/s", "--records-per-request", "10", "--connections", "8"]);
        run_command(&mut emulate)?;
        let seconds = start.elapsed().as_secs_f64();
        server.stop()?;
        Ok(seconds)
    }

    fn emulate(&self, url: &str, posts: &str) -> Command {
        let mut emulate = Command::new(&self.program);
        emulate.args(["emulate", "--to", "streams", "--url", url, "--posts", posts, "--draw", "sequence"]);
        emulate.args(["--quiet", "--no-progress"]).stdout(Stdio::null());
        emulate
    }

    fn freshness(&self) -> Result<Value> {
        let mut freshness = Command::new(&self.program);
        freshness.args(["tables", "freshness", "--since", "1h", "--format", "ndjson", "--data"]);
        let said = output(freshness.arg(self.data()))?;
        serde_json::from_str(said.trim()).map_err(|e| format!("tables freshness: {e}: {said}"))
    }
}

/// A `pinmill serve` on a free port.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(program: &Path, data: &Path, more: &[&str]) -> Result<Self> {
        let mut serve = Command::new(program);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--quiet", "--data"]).arg(data).args(more);
        let mut process = serve.stdout(Stdio::piped()).spawn().map_err(|e| format!("pinmill serve: {e}"))?;
        let mut url = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut url).map_err(|e| format!("pinmill serve: {e}"))?;
        }
        Ok(Self { process, url: url.trim().to_owned() })
    }

    /// SIGTERM, and waits until all is drained.
    fn stop(mut self) -> Result<()> {
        run_command(Command::new("kill").arg(self.process.id().to_string()))?;
        let status = self.process.wait().map_err(|e| format!("pinmill serve: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("pinmill serve ended with {status}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already where it was stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
