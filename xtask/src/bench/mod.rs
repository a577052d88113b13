//! `cargo xtask bench`: how fast it is, against what, on which machine.
//!
//! A bench measures ratios within one run (against a plain write, a bare handler, DuckDB on the same files), because
//! absolute numbers say more of the machine than of the program. Nothing here fails where a target is missed: the table
//! says so, and the file under bench/results keeps it.

mod batch;
mod kinesis;
mod micro;
mod process;
mod report;
mod stream;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::command::{cache, cargo, output, root, run as run_command};
use crate::environments::Environment;
use report::Report;

/// One bench: its name on the command line, what it measures, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Context) -> Result<Report>,
    /// Left out unless it is named: it takes too long to be run by the way.
    only_when_named: bool,
}

const BENCHES: [Bench; 10] = [
    Bench { name: "log", about: "appends against plain writes", run: micro::log, only_when_named: false },
    Bench {
        name: "gateway",
        about: "posts against a bare handler",
        run: micro::gateway,
        only_when_named: false,
    },
    Bench {
        name: "kinesis",
        about: "puts to the Kinesis API against kinesis-local",
        run: kinesis::run,
        only_when_named: false,
    },
    Bench {
        name: "small",
        about: "clean + answer of 11,154 events",
        run: batch::small,
        only_when_named: false,
    },
    Bench {
        name: "batch",
        about: "clean + answer of 1,000,000 events, drawn",
        run: batch::drawn,
        only_when_named: false,
    },
    Bench {
        name: "batch-distinct",
        about: "clean + answer of 1,000,000 events, all different",
        run: batch::distinct,
        only_when_named: false,
    },
    Bench {
        name: "stream",
        about: "3,000,000 records of streams into tables",
        run: stream::backlog,
        only_when_named: false,
    },
    Bench {
        name: "freshness",
        about: "how fresh tables are at 5,000 records/s",
        run: stream::freshness,
        only_when_named: false,
    },
    Bench {
        name: "process",
        about: "`pinmill run` and `pinmill --help`",
        run: process::run,
        only_when_named: false,
    },
    Bench {
        name: "build",
        about: "a newcomer's cold release build",
        run: process::build,
        only_when_named: true,
    },
];

/// What every bench gets.
pub(crate) struct Context {
    /// A tenth of the data: to see that it works.
    pub(crate) quick: bool,
    /// Where data may be put that is made once.
    pub(crate) data: PathBuf,
}

impl Context {
    /// `n`, or a tenth of it where quick results are wanted.
    pub(crate) fn scaled(&self, n: u64) -> u64 {
        if self.quick { n / 10 } else { n }
    }
}

/// `cargo xtask bench [NAME…] [--quick] [--build]`.
pub(crate) fn run(arguments: &[String]) -> Result {
    let (options, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| word.starts_with("--"));
    for option in &options {
        if !["--quick", "--build"].contains(&option.as_str()) {
            return Err(format!(
                "there is no option `{option}`: cargo xtask bench [NAME…] [--quick] [--build]"
            ));
        }
    }
    for name in &names {
        if !BENCHES.iter().any(|bench| bench.name == name.as_str()) {
            return Err(format!("there is no bench `{name}`; there are:\n{}", list()));
        }
    }
    let asked = |option: &str| options.iter().any(|given| given.as_str() == option);
    let context = Context { quick: asked("--quick"), data: cache()?.join("bench") };
    std::fs::create_dir_all(&context.data)
        .map_err(|e| format!("{} cannot be made: {e}", context.data.display()))?;
    let chosen = BENCHES.iter().filter(|bench| {
        names.iter().any(|name| name.as_str() == bench.name)
            || (names.is_empty() && !bench.only_when_named)
            || (bench.name == "build" && asked("--build"))
    });
    let mut failed = Vec::new();
    for bench in chosen {
        println!("\n== {}: {}", bench.name, bench.about);
        match (bench.run)(&context) {
            Ok(report) => {
                report.print();
                println!("kept in {}", report.save(bench.name, context.quick)?.display());
            }
            Err(why) => {
                eprintln!("{why}");
                failed.push(bench.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("did not run to the end: {}", failed.join(", "))) }
}

fn list() -> String {
    let lines: Vec<String> =
        BENCHES.iter().map(|bench| format!("  {:<16}{}", bench.name, bench.about)).collect();
    lines.join("\n")
}

/// Builds the release binary and says where it is.
fn pinmill() -> Result<PathBuf> {
    run_command(cargo().args(["build", "--release", "--bin", "pinmill"]))?;
    Ok(target_directory()?.join("release/pinmill"))
}

/// Where cargo puts what it builds.
fn target_directory() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let directory = metadata.get("target_directory").and_then(Value::as_str);
    directory.map(PathBuf::from).ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

/// What one process cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Wall clock.
    seconds: f64,
    /// Time on all cores, in user space and in the kernel.
    cpu_seconds: f64,
    max_rss_bytes: f64,
}

impl Cost {
    /// One after the other.
    fn then(self, next: Self) -> Self {
        Self {
            seconds: self.seconds + next.seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            max_rss_bytes: self.max_rss_bytes.max(next.max_rss_bytes),
        }
    }
}

/// Runs a command by bench/measure.py, its standard output into `out`.
fn measure(command: &[&str], out: &Path) -> Result<Cost> {
    let mut measured = Command::new(Environment::Python.made()?);
    measured.arg(root().join("bench/measure.py")).arg("--out").arg(out).arg("--").args(command);
    let said = output(&mut measured)?;
    let said: Value = serde_json::from_str(&said).map_err(|e| format!("measure.py: {e}"))?;
    let number = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    if number("exit") != 0.0 {
        return Err(format!("`{}` ended with {}; see {}", command.join(" "), number("exit"), out.display()));
    }
    let (seconds, cpu_seconds) = (number("seconds"), number("cpu_seconds"));
    Ok(Cost { seconds, cpu_seconds, max_rss_bytes: number("max_rss_bytes") })
}

/// A path as text, which is what commands and JSON take.
fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is no UTF-8", path.display()))
}
