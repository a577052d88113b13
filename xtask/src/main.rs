//! The project's own commands: `cargo xtask help` lists them.
//!
//! They need nothing but what a clone has, and this crate stays quick to build: it starts other programs and reads what
//! they print, and knows nothing of pinmill's crates.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command for people at a terminal")]

mod bench;
mod check;
mod command;
mod environments;
mod mutants;
mod services;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  test [-- ARGS…]        every test of the workspace, with what they need set up first; ARGS go to `cargo test`
  check                  format, lints, documentation, and rules of the house that no compiler knows
  bench [NAME…] [--quick] [--build]
                         benches in release mode; results go to bench/results (names: see bench/README.md)
  mutants [--list] [NAME…]
                         plants each bug of testing/mutants in a clone of the last commit: its test must fail
  services [list|install|start NAME]
                         what tests want from the machine: database servers, Python packages, Delta's jars

Environment: PINMILL_CACHE (default ~/.cache/pinmill) is where Python environments, jars and bench data are kept;
PINMILL_SHARED names a folder of real rows; PINMILL_SEED repeats a random test; with CI=true nothing that tests want
may be missing, unless PINMILL_ALLOW_MISSING=1.";

/// What a command answers; the error is for a person and says what to do.
type Result<T = ()> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let done = match arguments.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("check") => check::run(rest),
        Some("bench") => bench::run(rest),
        Some("mutants") => mutants::run(rest),
        Some("services") => services::run(rest),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("there is no command `{other}`\n\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
