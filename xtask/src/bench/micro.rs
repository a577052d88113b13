//! Benches that stand in a crate as an example: it prints one JSON object of numbers as its last line.

use serde_json::Value;

use super::Context;
use super::report::{Report, Target};
use crate::Result;
use crate::command::{cargo, output};

/// crates/log/examples/bench.rs
pub(super) fn log(context: &Context) -> Result<Report> {
    let numbers = example("pinmill-log", context)?;
    let mut report = Report::default();
    for (what, value) in &numbers {
        report.add(what, *value, "", Target::None);
    }
    Ok(report)
}

/// crates/gateway/examples/bench.rs
pub(super) fn gateway(context: &Context) -> Result<Report> {
    let numbers = example("pinmill-gateway", context)?;
    let mut report = Report::default();
    for (what, value) in &numbers {
        report.add(what, *value, "", Target::None);
    }
    Ok(report)
}

fn example(package: &str, context: &Context) -> Result<Vec<(String, f64)>> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", package, "--example", "bench", "--"]);
    if context.quick {
        command.arg("--quick");
    }
    let said = output(&mut command)?;
    let last = said.lines().last().unwrap_or_default();
    let numbers: Value =
        serde_json::from_str(last).map_err(|e| format!("{package}'s bench printed `{last}`: {e}"))?;
    let members = numbers.as_object().into_iter().flatten();
    Ok(members.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
}
