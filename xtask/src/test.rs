//! `cargo xtask test`: all tests of the workspace, with what they need set up first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::command::{FEATURES, cache, cannot_start, cargo, says_yes, shown};
use crate::environments::Environment;
use crate::services::{self, Service};

/// What the closing lines of test binaries add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Total {
    /// Adds what one line of `cargo test` says, if it is a closing line.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.binaries += 1;
        for part in counts.split("; ") {
            let mut words = part.split(' ');
            let Some(count) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// Sets up, runs `cargo test --workspace` with `arguments` after it, and says what was left out.
pub(crate) fn run(arguments: &[String]) -> Result {
    let services = services::install()?;
    let missing: Vec<&Service> = services.iter().filter(|service| service.found.is_err()).collect();
    for service in &missing {
        if let Err(why) = &service.found {
            println!("{} is missing: {why}", service.name);
        }
    }
    let all_must_run = says_yes("CI") && !says_yes("PINMILL_ALLOW_MISSING");
    if !missing.is_empty() && all_must_run {
        return Err(
            "with CI=true nothing that tests want may be missing (PINMILL_ALLOW_MISSING=1 allows it)"
                .to_owned(),
        );
    }

    // Tests that leave themselves out write a line here: cargo shows the output of failed tests only.
    let left_out = cache()?.join(format!("left-out-{}.txt", std::process::id()));
    let mut command = cargo();
    let own = arguments.strip_prefix(&["--".to_owned()]).unwrap_or(arguments);
    command.args(["test", "--no-fail-fast"]);
    // Of packages that are named, not every one has every feature.
    let named = own.iter().any(|word| word == "-p" || word.starts_with("--package"));
    command
        .args(if named { &["--all-features"][..] } else { &["--workspace", "--features", FEATURES] })
        .args(own);
    command.env("PINMILL_LEFT_OUT", &left_out);
    tell_of_environments(&mut command)?;
    let ran = stream(&mut command);
    let said = said_left_out(&left_out);
    let (ended_well, total) = ran?;

    if !missing.is_empty() || !said.is_empty() {
        println!("\nLeft out:");
        for service in missing {
            println!("  what needs {}, which is not there", service.name);
        }
        for line in &said {
            println!("  {line}");
        }
    }
    println!("\n{} test binaries, {} tests ignored", total.binaries, total.ignored);
    println!("{} passed ({} of them left out), {} failed", total.passed, said.len(), total.failed);
    verdict(ended_well, said.len(), all_must_run)
}

/// Whether the run as a whole is a success. A test that left itself out has passed, as cargo sees it.
fn verdict(ended_well: bool, left_out: usize, all_must_run: bool) -> Result {
    if !ended_well {
        return Err("the tests failed".to_owned());
    }
    if left_out > 0 && all_must_run {
        return Err(format!(
            "{left_out} tests left themselves out, and with CI=true none may (PINMILL_ALLOW_MISSING=1 allows it)"
        ));
    }
    Ok(())
}

/// Tells tests where the environments are that could be had.
fn tell_of_environments(command: &mut Command) -> Result {
    for environment in Environment::ALL {
        let Ok(place) = environment.current() else { continue };
        if environment == Environment::Python {
            // Tests that call `python3` as a user would get this one.
            let mut path = place.parent().map(Path::to_path_buf).into_iter().collect::<Vec<_>>();
            path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
            command.env("PATH", std::env::join_paths(path).map_err(|e| format!("PATH: {e}"))?);
        }
        command.env(environment.variable(), place);
    }
    Ok(())
}

/// Runs `cargo test`, shows what it prints and counts it.
fn stream(command: &mut Command) -> Result<(bool, Total)> {
    println!("\n$ {}", shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo test cannot be started: {error}"))?;
    let mut total = Total::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|error| format!("the output of cargo test cannot be read: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            total.add(&line);
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| cannot_start(command, &error))?;
    Ok((status.success(), total))
}

/// What tests said they left out, each once.
fn said_left_out(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // A file that stays behind does no harm: it has the process id in its name.
    let _ = std::fs::remove_file(file);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_leaves_itself_out_fails_the_run_only_where_all_must_run() {
        assert_eq!(verdict(true, 0, true), Ok(()));
        assert_eq!(verdict(true, 3, false), Ok(()));
        assert!(verdict(true, 3, true).unwrap_err().contains("3 tests left themselves out"));
        for (left_out, all_must_run) in [(0, false), (3, true)] {
            assert_eq!(verdict(false, left_out, all_must_run), Err("the tests failed".to_owned()));
        }
    }

    #[test]
    fn closing_lines_add_up() {
        let mut total = Total::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
        ] {
            total.add(line);
        }
        assert_eq!(total, Total { binaries: 2, passed: 4, failed: 2, ignored: 1 });
    }
}
