//! Real servers for tests: each in its own temporary directory, on its own free port, gone with the test. And the one
//! other program that tests want from the system.

mod mariadb;
mod postgres;
mod running;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::{fmt, io};

pub use running::Running;

/// A server that tests can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// MariaDB, the reference's database but for the name.
    MariaDb,
    /// PostgreSQL.
    Postgres,
    /// Strace, which is not a server: it is installed, and [`strace`] says where it is.
    Strace,
}

/// Why a server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It is not installed, and cannot be installed by who runs the tests.
    #[error(
        "{program} is not installed; install it with `apt-get install {package}`, or run `services install` as root"
    )]
    Missing {
        /// What was looked for.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Installing it failed.
    #[error("installing {package} failed: {why}")]
    Install {
        /// The Debian package.
        package: &'static str,
        /// The end of what apt-get said.
        why: String,
    },
    /// It did not start.
    #[error("{name} did not start: {why}")]
    Start {
        /// Which one.
        name: &'static str,
        /// What failed, with the end of its log.
        why: String,
    },
}

impl Service {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::MariaDb, Self::Postgres, Self::Strace];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
            Self::Strace => "strace",
        }
    }

    /// The Debian package that brings it.
    pub fn package(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb-server",
            Self::Postgres => "postgresql",
            Self::Strace => "strace",
        }
    }

    /// The folder of its programs, when it is installed.
    pub fn programs(self) -> Option<PathBuf> {
        match self {
            Self::MariaDb => mariadb::programs(),
            Self::Postgres => postgres::programs(),
            Self::Strace => find("strace"),
        }
    }

    /// Installs it with apt-get unless it is there already.
    ///
    /// # Errors
    /// When it is missing and apt-get is too, or this is not root, or apt-get fails.
    pub fn install(self) -> Result<PathBuf, ServiceError> {
        if let Some(programs) = self.programs() {
            return Ok(programs);
        }
        let package = self.package();
        let missing = ServiceError::Missing { program: self.name(), package };
        if !is_root() || find("apt-get").is_none() {
            return Err(missing);
        }
        let failed = |why: String| ServiceError::Install { package, why };
        // A machine whose lists of packages are old or absent needs the update; on others it costs seconds, once.
        apt_get(&["update"])
            .and_then(|()| apt_get(&["install", "--yes", "--no-install-recommends", package]))
            .map_err(failed)?;
        self.programs().ok_or(missing)
    }

    /// Installs it if need be, and starts one that dies when the value is dropped, or with this process.
    ///
    /// # Errors
    /// When it cannot be installed or does not start within a minute.
    pub fn start(self) -> Result<Running, ServiceError> {
        let programs = self.install()?;
        let started = match self {
            Self::MariaDb => mariadb::start(&programs),
            Self::Postgres => postgres::start(&programs),
            Self::Strace => Err("it is not a server".to_owned()),
        };
        started.map_err(|why| ServiceError::Start { name: self.name(), why })
    }

    /// The one that all tests of this process share; started on first use.
    ///
    /// # Errors
    /// As [`start`](Self::start); every caller gets the same error.
    pub fn shared(self) -> Result<&'static Running, &'static ServiceError> {
        static SHARED: [OnceLock<Result<Running, ServiceError>>; Service::ALL.len()] =
            [const { OnceLock::new() }; Service::ALL.len()];
        SHARED[self as usize].get_or_init(|| self.start()).as_ref()
    }

    /// The [`shared`](Self::shared) one, for a test that is left out where there is none: `None` when it is not installed
    /// and cannot be installed here, and then this has said so.
    ///
    /// # Panics
    /// When it is installed and does not start: that is a failure, not an absence.
    #[expect(clippy::panic, reason = "a server that does not start fails the test")]
    pub fn for_test(self) -> Option<&'static Running> {
        match self.shared() {
            Ok(running) => Some(running),
            Err(missing @ ServiceError::Missing { .. }) => {
                crate::left_out(&missing.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Strace, for a test that is left out where it is not installed and cannot be installed here, or may not trace: `None`
/// then, and this has said so.
pub fn strace() -> Option<PathBuf> {
    let program = match Service::Strace.install() {
        Ok(folder) => folder.join("strace"),
        Err(error) => {
            crate::left_out(&error.to_string());
            return None;
        }
    };
    if let Err(why) = run(Command::new(&program).args(["-f", "-o", "/dev/null", "true"])) {
        crate::left_out(&format!("no process may be traced here: {why}"));
        return None;
    }
    Some(program)
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|service| service.name() == text)
            .ok_or_else(|| format!("no service `{text}`; there are {}", names()))
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    // another test binary may be installing at this moment
    let wait = ["-o", "DPkg::Lock::Timeout=300", "--quiet"];
    let mut command = Command::new("apt-get");
    command.args(wait).args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    run(&mut command)
}

/// Runs a program to its end; what it said is the error if it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{name} {}: {}", output.status, tail(&String::from_utf8_lossy(&said))))
}

/// The last lines of what a program said.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// The folder of the search path, or of the system's own programs, that holds `program`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.into_iter().find(|folder| folder.join(program).is_file())
}

/// A command that is not run as root: database servers refuse to be. Its files must belong to [`give_away`]'s user.
fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"])
        .arg(program);
    command
}

/// Lets the user of [`as_nobody`] have a directory.
fn give_away(path: &Path) -> io::Result<()> {
    if is_root() { std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)) } else { Ok(()) }
}

/// The user and group without rights, which have this number on every Linux distribution in use.
const NOBODY: u32 = 65_534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_names() {
        for service in Service::ALL {
            assert_eq!(service.name().parse(), Ok(service));
        }
        assert!("oracle".parse::<Service>().unwrap_err().contains("mariadb, postgres, strace"));
    }

    #[test]
    fn what_a_program_said_is_its_error() {
        let error = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err();
        assert!(error.contains("one\ntwo") && error.contains('3'), "{error}");
    }

    #[test]
    fn long_talk_is_cut_to_its_end() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert!(tail(&text).starts_with("85\n") && tail(&text).ends_with("99"));
    }
}
