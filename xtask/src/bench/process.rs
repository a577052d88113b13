//! What a person at a terminal waits for.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::report::{Report, Target};
use super::{Context, measure, pinmill, text};
use crate::Result;
use crate::command::{cargo, root, run as run_command};

/// `pinmill run` with every event of the reference, and how long `--help` takes.
pub(super) fn run(context: &Context) -> Result<Report> {
    let program = pinmill()?;
    let data = context.data.join("run");
    let _ = std::fs::remove_dir_all(&data);
    let posts = context.scaled(11_154).to_string();
    let mut report = Report::default();
    let out = context.data.join("run.txt");
    let whole =
        measure(&[text(&program)?, "run", "--posts", &posts, "--data", text(&data)?, "--no-progress"], &out)?;
    report.add(format!("pinmill run --posts {posts}"), whole.seconds, "s", Target::AtMost(10.0));
    report.add("pinmill run, most memory", whole.max_rss_bytes / 1048576.0, "MiB", Target::None);

    let mut helps = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        let said =
            Command::new(&program).arg("--help").output().map_err(|e| format!("pinmill --help: {e}"))?;
        if !said.status.success() {
            return Err("pinmill --help failed".to_owned());
        }
        helps.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    helps.sort_by(f64::total_cmp);
    let middle = helps.get(helps.len() / 2).copied().unwrap_or(f64::NAN);
    report.add("pinmill --help, middle of 21", middle, "ms", Target::AtMost(50.0));
    Ok(report)
}

/// What a newcomer does: a clone of what is committed, built with nothing built before (the dependencies are downloaded
/// already), and the main job run from it.
pub(super) fn build(context: &Context) -> Result<Report> {
    let clone = context.data.join("newcomer");
    let _ = std::fs::remove_dir_all(&clone);
    run_command(Command::new("git").args(["clone", "--quiet", text(&root())?, text(&clone)?]))?;
    let target = clone.join("target");
    let in_clone = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).current_dir(&clone).env("CARGO_TARGET_DIR", &target);
        run_command(&mut command)
    };
    in_clone(&["fetch"])?;
    let start = Instant::now();
    in_clone(&["build", "--release", "--timings"])?;
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let start = Instant::now();
    in_clone(&["run", "--release", "--", "run"])?;
    let seconds = start.elapsed().as_secs_f64();
    let size = binary_size(&target.join("release/pinmill"))?;
    let timings = context.data.join("build-timings.html");
    std::fs::copy(target.join("cargo-timings/cargo-timing.html"), &timings)
        .map_err(|e| format!("{}: {e}", timings.display()))?;
    println!("what each crate took: {}", timings.display());
    let _ = std::fs::remove_dir_all(&clone);
    let mut report = Report::default();
    report.add("cargo build --release, cold", minutes, "min", Target::AtMost(15.0));
    report.add("cargo run --release -- run, then", seconds, "s", Target::None);
    report.add("size of the binary", size, "MB", Target::None);
    Ok(report)
}

#[allow(clippy::cast_precision_loss, reason = "a binary of 2^53 bytes does not fit a disk")]
fn binary_size(path: &Path) -> Result<f64> {
    let length = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len();
    Ok(length as f64 / 1e6)
}
