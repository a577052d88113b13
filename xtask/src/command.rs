//! Starting other programs, and the few places that commands share.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// Features of the workspace that tests and lints turn on together, so that nothing is built twice.
///
/// All that need no more than Rust and a C compiler; a feature that needs another tool to build does not belong here.
pub(crate) const FEATURES: &str = "databases,failpoints,sim";

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // `cargo run` says where this clone is; the program itself may have been built in another one with the same target.
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = told.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Where things are kept that take long to make and belong to no clone.
pub(crate) fn cache() -> Result<PathBuf> {
    let dir = match std::env::var_os("PINMILL_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::home_dir()
            .ok_or("there is no home directory: say in PINMILL_CACHE where things may be kept")?
            .join(".cache/pinmill"),
    };
    std::fs::create_dir_all(&dir).map_err(|e| format!("{} cannot be made: {e}", dir.display()))?;
    Ok(dir)
}

/// True where a variable says yes (`1`, `true`).
pub(crate) fn says_yes(variable: &str) -> bool {
    matches!(std::env::var(variable).as_deref(), Ok("1" | "true" | "TRUE" | "yes"))
}

/// `cargo` as it was called, at the root of the workspace.
///
/// Without what `cargo run` tells this program about its own package: build scripts watch those variables, and would have
/// half of the dependencies built anew each time that cargo is called in another way than before.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(tells_of_a_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether cargo sets the variable for the programs and build scripts of a package.
fn tells_of_a_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// A command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a command with the terminal's own output; its failure is ours.
pub(crate) fn run(command: &mut Command) -> Result {
    println!("\n$ {}", shown(command));
    let status = command.stdin(Stdio::null()).status().map_err(|e| cannot_start(command, &e))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", shown(command))) }
}

/// Runs a command and gives its standard output; its failure is ours, with what it said on standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, &e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` failed: {}\n{}", shown(command), output.status, said.trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{}` printed what is no text", shown(command)))
}

/// Runs a command that must end well, and gives what it printed on standard output and then on standard error.
pub(crate) fn output_of_both(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, &e))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("`{}` failed: {}\n{}", shown(command), output.status, said.trim_end()))
    }
}

/// True where a command ends well, whatever it prints.
pub(crate) fn works(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The message of a program that is not there or cannot be started.
pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("`{}` cannot be started: {error}", shown(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cargo_that_is_called_does_not_hear_of_this_package() {
        let called = cargo();
        let removed: Vec<_> =
            called.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        // Tests are run by cargo, which tells them of their package.
        assert!(removed.iter().any(|name| *name == "CARGO_MANIFEST_DIR"), "{removed:?}");
        assert!(!tells_of_a_package("CARGO_TARGET_DIR") && !tells_of_a_package("CARGO_HOME"));
    }
}
