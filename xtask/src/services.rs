//! What tests want from the machine beyond Rust and a C compiler, and how to get it.
//!
//! Tests start and stop their servers by themselves, on ports and directories of their own; here only the programs are
//! looked for and installed. What cannot be had is never an error by itself: a stranger without root can run the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{cache, output, root, run as run_command, works};

/// Something tests want, and where it was found.
pub(crate) struct Service {
    /// What a person calls it.
    pub(crate) name: &'static str,
    /// What is left out without it.
    pub(crate) wanted_for: &'static str,
    /// Where it is, or why it is not there and what to do.
    pub(crate) found: Result<PathBuf>,
}

struct Server {
    name: &'static str,
    wanted_for: &'static str,
    /// Any of these is enough.
    programs: &'static [&'static str],
    /// Debian's packages that bring it. `-core` packages bring the programs without a service that starts by itself.
    packages: &'static [&'static str],
}

const SERVERS: [Server; 2] = [
    Server {
        name: "MariaDB",
        wanted_for: "the tests that read a real MySQL database",
        programs: &["mariadbd", "mysqld"],
        packages: &["mariadb-server-core"],
    },
    Server {
        name: "PostgreSQL",
        wanted_for: "the tests that read a real PostgreSQL database",
        programs: &["initdb"],
        packages: &["postgresql"],
    },
];

/// `cargo xtask services [list|install]`.
pub(crate) fn run(arguments: &[String]) -> Result {
    let services = match arguments {
        [] => list(),
        [word] if word == "list" => list(),
        [word] if word == "install" => install(),
        _ => return Err("cargo xtask services [list|install]".to_owned()),
    };
    for service in services {
        match service.found {
            Ok(path) => println!("{:<12} {}", service.name, path.display()),
            Err(why) => println!("{:<12} missing: {why}", service.name),
        }
    }
    Ok(())
}

/// What is there now.
pub(crate) fn list() -> Vec<Service> {
    let mut services: Vec<Service> = SERVERS
        .iter()
        .map(|server| {
            let found = find(server.programs).ok_or_else(|| {
                format!(
                    "none of {} is in PATH or a usual place (Debian: apt-get install {})",
                    server.programs.join(", "),
                    server.packages.join(" ")
                )
            });
            Service { name: server.name, wanted_for: server.wanted_for, found }
        })
        .collect();
    services.push(python_service(current_python()));
    services
}

/// Installs what is missing where that is possible, and says what is there then.
pub(crate) fn install() -> Vec<Service> {
    let missing = SERVERS.iter().filter(|server| find(server.programs).is_none());
    let packages: Vec<&str> = missing.flat_map(|server| server.packages.iter().copied()).collect();
    let refused = if packages.is_empty() { None } else { apt_install(&packages).err() };

    let python = current_python().or_else(|_| make_python());
    let mut services = list();
    if let Some(service) = services.last_mut() {
        *service = python_service(python);
    }
    if let Some(why) = refused {
        for service in &mut services {
            if let Err(message) = &mut service.found {
                message.push_str(&format!("; installing did not work: {why}"));
            }
        }
    }
    services
}

/// The Python with the packages of testing/oracle/requirements.txt.
pub(crate) fn python() -> Result<PathBuf> {
    current_python().or_else(|_| make_python())
}

fn python_service(found: Result<PathBuf>) -> Service {
    Service { name: "Python", wanted_for: "the DuckDB oracle and the clients written with `requests`", found }
}

/// Looks in PATH, then where Debian and others put servers that users do not call.
fn find(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    places.iter().flat_map(|dir| programs.iter().map(|name| dir.join(name))).find(|file| file.is_file())
}

/// Installs Debian packages as root or by a sudo that asks no password.
fn apt_install(packages: &[&str]) -> Result {
    if !works(Command::new("apt-get").arg("--version")) {
        return Err("this machine has no apt-get".to_owned());
    }
    let is_root = output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root && !works(Command::new("sudo").args(["-n", "true"])) {
        return Err("not root, and sudo asks for a password".to_owned());
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if is_root { "env" } else { "sudo" });
        if !is_root {
            command.args(["-n", "env"]);
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]).args(arguments);
        run_command(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], packages].concat())
}

fn requirements() -> PathBuf {
    root().join("testing/oracle/requirements.txt")
}

/// The Python made earlier, if it was made from the requirements of this clone.
fn current_python() -> Result<PathBuf> {
    let dir = cache()?.join("python");
    let stamp = dir.join("requirements.txt");
    let python = dir.join("bin/python");
    let wanted = read(&requirements())?;
    if python.is_file() && std::fs::read_to_string(stamp).is_ok_and(|made_from| made_from == wanted) {
        return Ok(python);
    }
    Err("its packages are not installed yet (cargo xtask services install)".to_owned())
}

fn make_python() -> Result<PathBuf> {
    let dir = cache()?.join("python");
    let venv = || run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
    if !works(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        apt_install(&["python3", "python3-venv"])?;
    }
    venv()?;
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
