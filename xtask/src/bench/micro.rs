//! Benches that stand in a crate as its example `bench`: the last line it prints is one JSON object of numbers.

use serde_json::Value;

use super::report::{Report, Target};
use super::{Context, text};
use crate::Result;
use crate::command::{cargo, output};

/// A member of an example's object, what it means, its unit, and what it should be.
type Wanted = (&'static str, &'static str, &'static str, Target);

/// `crates/log/examples/bench.rs`.
pub(super) fn log(context: &Context) -> Result<Report> {
    let quick: &[&str] = if context.quick { &["--quick"] } else { &[] };
    let numbers = example("pinmill-log", context, quick)?;
    report(
        &numbers,
        &[
            ("plain_mb_s", "plain write + fdatasync", "MB/s", Target::None),
            ("append_mb_s", "append, 1,000 records of 600 bytes a batch", "MB/s", Target::None),
            ("ratio", "append / plain write", "", Target::AtLeast(0.6)),
            ("appends_per_fsync", "appends an fsync, 64 appenders of one record", "", Target::AtLeast(20.0)),
        ],
    )
}

/// `crates/gateway/examples/bench.rs`.
pub(super) fn gateway(context: &Context) -> Result<Report> {
    let quick: &[&str] = if context.quick { &["--requests", "10000"] } else { &[] };
    let numbers = example("pinmill-gateway", context, quick)?;
    report(
        &numbers,
        &[
            ("bare_rps", "bare handler, 64 connections", "/s", Target::None),
            ("durable_rps", "gateway, durable, 64 connections", "/s", Target::None),
            ("ratio", "gateway / bare handler", "", Target::AtLeast(0.6)),
            ("bare_p50_ms", "bare handler, half of the answers within", "ms", Target::None),
            ("durable_p50_ms", "gateway, half of the answers within", "ms", Target::None),
            ("durable_p99_ms", "gateway, 99 % of the answers within", "ms", Target::None),
            ("appends_per_fsync", "appends an fsync", "", Target::None),
        ],
    )
}

/// Runs a crate's example and reads its numbers.
fn example(package: &str, context: &Context, arguments: &[&str]) -> Result<Value> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", package, "--example", "bench", "--"]);
    command.args(["--data", text(&context.data)?]).args(arguments);
    let said = output(&mut command)?;
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|e| format!("the bench of {package} printed `{last}`: {e}"))
}

fn report(numbers: &Value, wanted: &[Wanted]) -> Result<Report> {
    let mut report = Report::default();
    for (member, what, unit, target) in wanted {
        let value = numbers.get(member).and_then(Value::as_f64);
        report.add(
            *what,
            value.ok_or_else(|| format!("the bench printed no `{member}`: {numbers}"))?,
            unit,
            *target,
        );
    }
    Ok(report)
}
