//! Benches that stand in a crate as its example `bench_<crate>`, which prints one JSON object of numbers.

use serde_json::Value;

use super::report::{Report, Target};
use super::{Context, text};
use crate::Result;
use crate::command::{cargo, output};

/// Where a number stands in an example's object, what it means, what it is multiplied by for its unit, the unit, and
/// what it should be.
pub(super) type Wanted<'a> = (&'a str, &'static str, f64, &'static str, Target);

/// `crates/log/examples/bench_log.rs`.
pub(super) fn log(context: &Context) -> Result<Report> {
    let rounds = if context.quick { "2" } else { "10" };
    let numbers = example("log", &["--dir", text(&context.data)?, "--rounds", rounds])?;
    report(
        &numbers,
        &[
            (
                "/batches/plain_bytes_per_second",
                "plain write + fdatasync of 600 kB",
                1e-6,
                "MB/s",
                Target::None,
            ),
            (
                "/batches/log_bytes_per_second",
                "append of 1,000 records of 600 bytes",
                1e-6,
                "MB/s",
                Target::None,
            ),
            ("/batches/ratio", "append / plain write", 1.0, "", Target::AtLeast(0.6)),
            ("/batches/read_bytes_per_second", "read back", 1e-6, "MB/s", Target::None),
            ("/single_records/appends_per_second", "64 appenders of one record", 1.0, "/s", Target::None),
            (
                "/single_records/appends_a_fsync",
                "64 appenders, appends an fsync",
                1.0,
                "",
                Target::AtLeast(20.0),
            ),
            ("/single_records/p99_ms", "64 appenders, 99 % within", 1.0, "ms", Target::None),
        ],
    )
}

/// `crates/gateway/examples/bench_gateway.rs`.
pub(super) fn gateway(context: &Context) -> Result<Report> {
    let requests = if context.quick { "10000" } else { "100000" };
    let numbers = example("gateway", &["--data", text(&context.data)?, "--requests", requests])?;
    report(
        &numbers,
        &[
            ("/bare_rps", "bare handler, 64 connections", 1.0, "/s", Target::None),
            ("/durable_rps", "gateway, durable, 64 connections", 1.0, "/s", Target::None),
            ("/ratio", "gateway / bare handler", 1.0, "", Target::AtLeast(0.6)),
            ("/bare_p50_ms", "bare handler, half within", 1.0, "ms", Target::None),
            ("/durable_p50_ms", "gateway, half within", 1.0, "ms", Target::None),
            ("/durable_p99_ms", "gateway, 99 % within", 1.0, "ms", Target::None),
            ("/appends_per_fsync", "gateway, appends an fsync", 1.0, "", Target::None),
        ],
    )
}

/// Runs a crate's example and reads its numbers.
pub(super) fn example(name: &str, arguments: &[&str]) -> Result<Value> {
    let (package, example) = (format!("pinmill-{name}"), format!("bench_{name}"));
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", &package, "--example", &example, "--"])
        .args(arguments);
    let said = output(&mut command)?;
    serde_json::from_str(&said).map_err(|e| format!("the bench of {package} printed no JSON: {e}\n{said}"))
}

/// The table of an example's numbers.
pub(super) fn report(numbers: &Value, wanted: &[Wanted<'_>]) -> Result<Report> {
    let mut report = Report::default();
    for (place, what, factor, unit, target) in wanted {
        let value = numbers.pointer(place).and_then(Value::as_f64);
        let value = value.ok_or_else(|| format!("the bench printed no number at {place}: {numbers}"))?;
        report.add(*what, value * factor, unit, *target);
    }
    Ok(report)
}
