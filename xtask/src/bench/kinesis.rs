//! Puts to the native Kinesis API, against the same puts to the emulator `kinesis-local`.
//!
//! The emulator comes from npm, where it is published as the Node.js build of kinesis-mock. It keeps records in memory and
//! answers before anything is on a disk; ours answers after an fsync. Its artificial delays (of making and deleting a stream)
//! are set to zero and its log says errors only. It limits how often streams are made and described, but no puts and no shard,
//! so nothing else is to be switched off; its limit of all shards together is raised, as every round makes a stream.
//!
//! Its PutRecords gets slower with every record that the stream holds (100 ms a call on an empty one, 600 ms after 10,000
//! records, where this was written), so a rate under load says as much about the length of the load as about the emulator.
//! The ratio to its best, the fastest call made alone on an empty stream, does not depend on that; it has the same target.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::micro::{example, report};
use super::report::{Report, Target};
use super::{Context, text};
use crate::Result;
use crate::command::{cache, cannot_start, root, run as run_command};

/// The version that numbers are comparable for.
const VERSION: &str = "0.6.2";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(60);

/// `crates/kinesis/examples/bench_kinesis.rs`, with the emulator as the other side.
pub(super) fn run(context: &Context) -> Result<Report> {
    let emulator = Emulator::start(&install()?, &context.data)?;
    let url = emulator.url();
    let (rounds, seconds) = if context.quick { ("1", "2") } else { ("3", "5") };
    let numbers = example(
        "kinesis",
        &["--against", &url, "--data", text(&context.data)?, "--rounds", rounds, "--seconds", seconds],
    )?;
    drop(emulator);
    let mut wanted = Vec::new();
    for (load, least, what) in [
        (
            "put_records",
            20.0,
            Texts {
                ours: "PutRecords of 500, durable",
                theirs: "PutRecords of 500, kinesis-local",
                best: "PutRecords of 500, kinesis-local, alone, empty stream",
                ratio: "PutRecords, ours / kinesis-local",
                ratio_to_best: "PutRecords, ours / kinesis-local at its best",
                p99: "PutRecords, durable, 99 % within",
            },
        ),
        (
            "put_record",
            10.0,
            Texts {
                ours: "PutRecord, durable",
                theirs: "PutRecord, kinesis-local",
                best: "PutRecord, kinesis-local, alone, empty stream",
                ratio: "PutRecord, ours / kinesis-local",
                ratio_to_best: "PutRecord, ours / kinesis-local at its best",
                p99: "PutRecord, durable, 99 % within",
            },
        ),
    ] {
        let (rate, target) = ("records/s", Target::AtLeast(least));
        wanted.extend([
            (format!("/{load}/ours/records_per_second"), what.ours, rate, Target::None),
            (format!("/{load}/theirs/records_per_second"), what.theirs, rate, Target::None),
            (format!("/{load}/theirs/best_records_per_second"), what.best, rate, Target::None),
            (format!("/{load}/ratio"), what.ratio, "", target),
            (format!("/{load}/ratio_to_best"), what.ratio_to_best, "", target),
            (format!("/{load}/ours/p99_ms"), what.p99, "ms", Target::None),
        ]);
    }
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(place, what, unit, target)| (place.as_str(), *what, 1.0, *unit, *target))
        .collect();
    report(&numbers, &wanted)
}

/// What the rows of one load are called.
struct Texts {
    ours: &'static str,
    theirs: &'static str,
    best: &'static str,
    ratio: &'static str,
    ratio_to_best: &'static str,
    p99: &'static str,
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
        node.arg("--require").arg(root().join("testing/kinesis-local/loopback.cjs"));
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
        emulator.check_loopback()?;
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

    /// Refuses an emulator that listens on more than 127.0.0.1: it has no setting for its address, and a later version may
    /// get round loopback.cjs.
    fn check_loopback(&self) -> Result {
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), self.address.port()));
        match TcpStream::connect(elsewhere) {
            Ok(_) => Err(format!("kinesis-local listens on more than {}", self.address)),
            Err(_) => Ok(()),
        }
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
