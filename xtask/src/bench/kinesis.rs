//! Puts to the native Kinesis API, against the same puts to the emulator `kinesis-local`.
//!
//! The emulator comes from npm, where it is published as the Node.js build of kinesis-mock. It keeps records in memory and
//! answers before anything is on a disk; ours answers after an fsync. Its artificial delays (of making and deleting a stream)
//! are set to zero and its log says errors only. It limits how often streams are made and described, but no puts and no shard,
//! so nothing else is to be switched off; its limit of all shards together is raised, as every round makes a stream.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::micro::{example, report};
use super::report::{Report, Target};
use super::{Context, text};
use crate::Result;
use crate::command::{cache, cannot_start, run as run_command};

/// The version that numbers are comparable for.
const VERSION: &str = "0.6.2";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(60);

/// `crates/kinesis/examples/bench.rs`, with the emulator as the other side.
pub(super) fn run(context: &Context) -> Result<Report> {
    let emulator = Emulator::start(&install()?, &context.data)?;
    let url = emulator.url();
    let (rounds, seconds) = if context.quick { ("1", "2") } else { ("3", "5") };
    let numbers = example(
        "pinmill-kinesis",
        &["--against", &url, "--data", text(&context.data)?, "--rounds", rounds, "--seconds", seconds],
    )?;
    drop(emulator);
    let rate = "/records_per_second";
    report(
        &numbers,
        &[
            (
                &format!("/put_records/ours{rate}"),
                "PutRecords of 500, durable",
                1.0,
                "records/s",
                Target::None,
            ),
            (
                &format!("/put_records/theirs{rate}"),
                "PutRecords of 500, kinesis-local",
                1.0,
                "records/s",
                Target::None,
            ),
            ("/put_records/ratio", "PutRecords, ours / kinesis-local", 1.0, "", Target::AtLeast(20.0)),
            ("/put_records/ours/p99_ms", "PutRecords, 99 % within", 1.0, "ms", Target::None),
            (&format!("/put_record/ours{rate}"), "PutRecord, durable", 1.0, "records/s", Target::None),
            (
                &format!("/put_record/theirs{rate}"),
                "PutRecord, kinesis-local",
                1.0,
                "records/s",
                Target::None,
            ),
            ("/put_record/ratio", "PutRecord, ours / kinesis-local", 1.0, "", Target::AtLeast(10.0)),
            ("/put_record/ours/p99_ms", "PutRecord, 99 % within", 1.0, "ms", Target::None),
        ],
    )
}

/// The folder of the emulator, which is fetched once.
fn install() -> Result<PathBuf> {
    let prefix = cache()?.join("kinesis-local");
    let folder = prefix.join("node_modules/kinesis-local");
    let manifest = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    let installed: Option<serde_json::Value> = serde_json::from_str(&manifest).ok();
    if installed.is_some_and(|manifest| manifest.get("version").is_some_and(|version| version == VERSION)) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&prefix).map_err(|e| format!("{} cannot be made: {e}", prefix.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&prefix);
    npm.arg(format!("kinesis-local@{VERSION}"));
    run_command(&mut npm)
        .map_err(|why| format!("{why}\nthis bench wants Node.js 20 with npm, and a network once"))?;
    Ok(folder)
}

/// The emulator, running; it ends with this value.
struct Emulator {
    process: Child,
    address: SocketAddr,
}

impl Emulator {
    /// Starts it on a free port and waits until it listens. What it prints goes to a file beside the data.
    fn start(folder: &Path, data: &Path) -> Result<Self> {
        let said = data.join("kinesis-local.txt");
        let cannot = |e: std::io::Error| format!("{} cannot be written: {e}", said.display());
        let out = std::fs::File::create(&said).map_err(cannot)?;
        let errors = out.try_clone().map_err(cannot)?;
        let [plain, tls] = free_ports()?;
        let mut node = Command::new("node");
        // It looks for its certificate in the folder it is started in.
        node.arg("main.js").current_dir(folder).stdin(Stdio::null()).stdout(out).stderr(errors);
        for (name, value) in [
            ("KINESIS_MOCK_PLAIN_PORT", plain.to_string().as_str()),
            ("KINESIS_MOCK_TLS_PORT", tls.to_string().as_str()),
            ("CREATE_STREAM_DURATION", "0ms"),
            ("DELETE_STREAM_DURATION", "0ms"),
            ("SHARD_LIMIT", "1000"),
            ("LOG_LEVEL", "ERROR"),
        ] {
            node.env(name, value);
        }
        let process = node.spawn().map_err(|e| cannot_start(&node, &e))?;
        let mut emulator = Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, plain)) };
        emulator.wait(&said)?;
        Ok(emulator)
    }

    fn wait(&mut self, said: &Path) -> Result {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || begun.elapsed() > START {
                let text = std::fs::read_to_string(said).unwrap_or_default();
                return Err(format!(
                    "kinesis-local does not listen on {}:\n{}",
                    self.address,
                    text.trim_end()
                ));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // One that ended by itself cannot be ended again.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two ports that were free a moment ago: the emulator takes only numbers.
fn free_ports() -> Result<[u16; 2]> {
    let none = |e: std::io::Error| format!("there is no free port: {e}");
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [free().map_err(none)?, free().map_err(none)?];
    let [one, two] = held.each_ref().map(TcpListener::local_addr);
    Ok([one.map_err(none)?.port(), two.map_err(none)?.port()])
}
