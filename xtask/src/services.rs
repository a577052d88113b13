//! What tests want from the machine beyond Rust and a C compiler, and how to get it.
//!
//! Database servers are the testkit's business: tests start and stop their own, on ports and directories of their own,
//! and its program `services` lists, installs and starts them. Here they are only called for, and what is no server is
//! made: see `environments`. What cannot be had is never an error by itself: a stranger without root can run the rest.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::command::{cargo, output};
use crate::environments::Environment;

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
    services.extend(
        Environment::ALL
            .map(|environment| Service { name: environment.name().to_owned(), found: environment.current() }),
    );
    Ok(services)
}

/// Installs what is missing where that is possible, and says what is there then.
pub(crate) fn install() -> Result<Vec<Service>> {
    let mut services = list()?;
    for service in &mut services {
        if service.found.is_err() {
            let name = service.name.as_str();
            service.found = match Environment::ALL.into_iter().find(|environment| environment.name() == name)
            {
                Some(environment) => environment.made(),
                None => output(&mut testkit(&["install", name])).and_then(|said| from_line(&said).found),
            };
        }
    }
    Ok(services)
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
