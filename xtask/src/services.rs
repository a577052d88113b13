//! What tests want from the machine beyond Rust and a C compiler, and how to get it.
//!
//! Database servers are the testkit's business: tests start and stop their own, on ports and directories of their own,
//! and its program `services` lists, installs and starts them. Here they are only called for, and a Python is made
//! that has the packages of testing/requirements.txt. What cannot be had is never an error by itself: a stranger
//! without root can run the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{cache, cargo, output, root, run as run_command, works};

/// Something tests want, and where it was found, or why it is not there and what to do.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) found: Result<PathBuf>,
}

/// `cargo xtask services [list|install|start NAME]`.
pub(crate) fn run(arguments: &[String]) -> Result {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let services = match words.as_slice() {
        [] | ["list"] => list()?,
        ["install"] => install()?,
        ["start", name] => {
            println!("the URL of the server's database; it is there until ctrl-c:");
            let status =
                testkit(&["start", name]).status().map_err(|e| format!("cargo cannot be started: {e}"))?;
            return if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) };
        }
        _ => return Err("cargo xtask services [list|install|start NAME]".to_owned()),
    };
    for service in services {
        match service.found {
            Ok(path) => println!("{:<12}{}", service.name, path.display()),
            Err(why) => println!("{:<12}missing: {why}", service.name),
        }
    }
    Ok(())
}

/// What is there now.
pub(crate) fn list() -> Result<Vec<Service>> {
    let said = output(&mut testkit(&["list"]))?;
    let mut services: Vec<Service> = said.lines().map(from_line).collect();
    services.push(python_service(current_python()));
    Ok(services)
}

/// Installs what is missing where that is possible, and says what is there then.
pub(crate) fn install() -> Result<Vec<Service>> {
    let mut services = list()?;
    for service in &mut services {
        if service.found.is_err() {
            service.found = match service.name.as_str() {
                "python" => make_python(),
                name => output(&mut testkit(&["install", name])).and_then(|said| from_line(&said).found),
            };
        }
    }
    Ok(services)
}

/// The Python with the packages of testing/requirements.txt.
pub(crate) fn python() -> Result<PathBuf> {
    current_python().or_else(|_| make_python())
}

/// The testkit's program for servers.
fn testkit(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "pinmill-testkit", "--bin", "services", "--"])
        .args(arguments);
    command
}

/// A line of that program: name, tab, perhaps the package, tab, where it is.
fn from_line(line: &str) -> Service {
    let mut parts = line.trim_end().split('\t');
    let name = parts.next().unwrap_or_default().to_owned();
    let found = match parts.next_back() {
        Some(place) if place.starts_with('/') => Ok(PathBuf::from(place)),
        _ => Err(format!("not installed: {line}")),
    };
    Service { name, found }
}

fn python_service(found: Result<PathBuf>) -> Service {
    Service { name: "python".to_owned(), found }
}

fn requirements() -> PathBuf {
    root().join("testing/requirements.txt")
}

/// The Python made earlier, if it was made from the requirements of this clone.
fn current_python() -> Result<PathBuf> {
    let dir = cache()?.join("python");
    let python = dir.join("bin/python");
    let wanted = read(&requirements())?;
    let made_from = std::fs::read_to_string(dir.join("requirements.txt"));
    if python.is_file() && made_from.is_ok_and(|made_from| made_from == wanted) {
        return Ok(python);
    }
    Err("its packages are not installed (cargo xtask services install)".to_owned())
}

fn make_python() -> Result<PathBuf> {
    if !works(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        // Debian keeps both in a package of their own.
        let install = ["-c", "apt-get -q update && apt-get -q -y install python3 python3-venv"];
        run_command(Command::new("sh").args(install).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    let dir = cache()?.join("python");
    run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let python = dir.join("bin/python");
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--requirement"];
    run_command(Command::new(&python).args(pip).arg(requirements()))?;
    // Written last: a half-made environment is made again.
    let stamp = dir.join("requirements.txt");
    std::fs::write(&stamp, read(&requirements())?).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_testkit_says_where_a_server_is_or_that_it_is_not() {
        let service = from_line("mariadb\tmariadb-server\t/usr/sbin\n");
        assert_eq!((service.name.as_str(), service.found), ("mariadb", Ok(PathBuf::from("/usr/sbin"))));
        assert_eq!(
            from_line("postgres\t/usr/lib/postgresql/15/bin").found,
            Ok("/usr/lib/postgresql/15/bin".into())
        );
        assert!(from_line("postgres\tpostgresql\tnot installed").found.unwrap_err().contains("postgresql"));
    }
}
