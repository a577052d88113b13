//! What a bench found: a table for people, and a file that is kept.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::Result;
use crate::command::{output, root};

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// It is only recorded.
    None,
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    fn reached_by(self, value: f64) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// One number.
#[derive(Debug)]
struct Measure {
    what: String,
    value: f64,
    unit: &'static str,
    target: Target,
}

/// All numbers of a bench.
#[derive(Debug, Default)]
pub(crate) struct Report {
    measures: Vec<Measure>,
}

impl Report {
    /// Adds a number.
    pub(crate) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str, target: Target) {
        self.measures.push(Measure { what: what.into(), value, unit, target });
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\n{:<56}{:>14} {:<10}{:>12}", "", "measured", "", "target");
        for Measure { what, value, unit, target } in &self.measures {
            let verdict = match target.reached_by(*value) {
                None => "",
                Some(true) => "  reached",
                Some(false) => "  MISSED",
            };
            println!("{what:<56}{:>14} {unit:<10}{:>12}{verdict}", round(*value), target.shown());
        }
    }

    /// Writes `bench/results/<date>-<name>.json` and says where; a quick run is not worth keeping and goes to the cache.
    pub(crate) fn save(&self, name: &str, quick: bool) -> Result<PathBuf> {
        let date = output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
        let folder =
            if quick { crate::command::cache()?.join("bench") } else { root().join("bench/results") };
        std::fs::create_dir_all(&folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
        let path = folder.join(format!("{}-{name}.json", date.trim()));
        let measures: Vec<Value> = self.measures.iter().map(as_json).collect();
        let whole = json!({
            "bench": name,
            "date": date.trim(),
            "quick": quick,
            "commit": commit(),
            "machine": machine(&folder),
            "measures": measures,
        });
        std::fs::write(&path, format!("{whole:#}\n"))
            .map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
        Ok(path)
    }
}

fn as_json(measure: &Measure) -> Value {
    let mut object = json!({"what": measure.what, "value": measure.value, "unit": measure.unit});
    if let (Some(reached), Some(members)) = (measure.target.reached_by(measure.value), object.as_object_mut())
    {
        members.insert("target".to_owned(), json!(measure.target.shown()));
        members.insert("reached".to_owned(), json!(reached));
    }
    object
}

/// Three digits are all that a bench can tell.
fn round(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The commit measured, with a mark where the tree holds more than that.
fn commit() -> String {
    let mut describe = Command::new("git");
    describe.current_dir(root()).args(["describe", "--always", "--dirty", "--exclude", "*"]);
    output(&mut describe).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// What the numbers were measured on.
fn machine(folder: &Path) -> Value {
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": first_field("/proc/cpuinfo", "model name"),
        "memory": first_field("/proc/meminfo", "MemTotal"),
        "disk": disk(folder),
        "kernel": said(Command::new("uname").arg("-sr")),
        "rustc": said(Command::new("rustc").arg("--version")),
        "load_before_1m": load(),
    })
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn first_field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// File system, and whether its device turns.
fn disk(folder: &Path) -> Option<String> {
    let mut find = Command::new("findmnt");
    find.args(["--noheadings", "--output", "FSTYPE,SOURCE", "--target"]).arg(folder);
    let mount = said(&mut find)?;
    let device = mount.rsplit('/').next()?.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let turns = std::fs::read_to_string(format!("/sys/block/{device}/queue/rotational")).ok();
    let kind = match turns.as_deref().map(str::trim) {
        Some("0") => "no rotating disk",
        Some("1") => "rotating disk, or one that says so",
        _ => "unknown kind",
    };
    Some(format!("{mount}, {kind}"))
}

fn said(command: &mut Command) -> Option<String> {
    output(command).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_from_its_own_side() {
        assert_eq!(Target::AtLeast(0.6).reached_by(0.6), Some(true));
        assert_eq!(Target::AtLeast(0.6).reached_by(0.59), Some(false));
        assert_eq!(Target::AtMost(2.0).reached_by(2.5), Some(false));
        assert_eq!(Target::None.reached_by(1.0), None);
    }
}
