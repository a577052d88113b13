//! `cargo xtask check`: all that can be said of the code without running it.

use std::process::Command;

use crate::Result;
use crate::command::{FEATURES, cargo, output, root, run as run_command};

/// Rust files longer than this are listed: not an error, a question.
const LONG_FILE: usize = 600;

type Check = fn() -> Result;

/// Runs every check and names those that failed at the end, so that one run shows all there is to mend.
pub(crate) fn run(arguments: &[String]) -> Result {
    if !arguments.is_empty() {
        return Err("cargo xtask check takes no arguments".to_owned());
    }
    let checks: [(&str, Check); 4] = [
        ("format", format),
        ("house rules", house_rules),
        ("lints", lints),
        ("documentation", documentation),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(message) = check() {
            eprintln!("{message}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("\nall checks passed");
        return Ok(());
    }
    Err(format!("\nfailed: {}", failed.join(", ")))
}

fn format() -> Result {
    run_command(cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result {
    let scope = ["clippy", "--workspace", "--all-targets", "--features", FEATURES];
    run_command(cargo().args(scope).args(["--", "-D", "warnings"]))
}

fn documentation() -> Result {
    let scope = ["doc", "--workspace", "--no-deps", "--features", FEATURES];
    run_command(cargo().args(scope).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Rules that no compiler knows: nothing of one machine in the files, and files that a person can read through.
fn house_rules() -> Result {
    println!("\n$ house rules");
    for (lines, file) in long_files()? {
        println!("over {LONG_FILE} lines: {file} ({lines})");
    }
    let found = one_machines_own()?;
    if found.is_empty() {
        return Ok(());
    }
    Err(format!("hosts of package registries, or paths of one machine, in tracked files:\n{found}"))
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(root());
    command
}

fn long_files() -> Result<Vec<(usize, String)>> {
    let files = output(git().args(["ls-files", "*.rs"]))?;
    let lengths = files.lines().filter_map(|file| {
        // A file that is deleted but not yet committed has no length.
        let text = std::fs::read_to_string(root().join(file)).ok()?;
        Some((text.lines().count(), file.to_owned()))
    });
    let mut long: Vec<(usize, String)> = lengths.filter(|(lines, _)| *lines > LONG_FILE).collect();
    long.sort();
    long.reverse();
    Ok(long)
}

/// Lines of tracked files that only make sense on the machine where they were written.
fn one_machines_own() -> Result<String> {
    let mut pattern =
        r"crates\.io/api|registry\.npmjs|repo1?\.maven|proxy\.golang|files\.pythonhosted|pypi\.org/simple"
            .to_owned();
    let home = std::env::home_dir();
    for place in home.iter().chain([&root()]) {
        pattern.push_str(&format!("|{}/", place.display()));
    }
    let mut search = git();
    search.args(["grep", "-nIE", &pattern, "--", ".", ":!*.lock"]);
    let found = search.output().map_err(|error| format!("git cannot be started: {error}"))?;
    match found.status.code() {
        Some(0 | 1) => Ok(String::from_utf8_lossy(&found.stdout).into_owned()),
        _ => Err(format!("git grep failed: {}", String::from_utf8_lossy(&found.stderr))),
    }
}
