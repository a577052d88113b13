//! A server that cannot outlive the test, nor the process of the test.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::tail;
use crate::{KillOnDrop, free_port};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many ports are tried: another program may take one between its being found free and the server's binding it.
const PORTS: usize = 5;
/// What a server says, in whatever words before it, whose port is another program's.
const TAKEN: &str = "Address already in use";

/// A server that runs. When this value is dropped it is stopped and its directory removed; when the process ends without
/// dropping it (a shared one, or a killed test), a watcher does the same.
#[derive(Debug)]
pub struct Running {
    url: String,
    process: KillOnDrop,
    leash: Leash,
    dir: TempDir,
}

/// A shell that waits for the end of its input, which comes when this process ends in whatever way.
#[derive(Debug)]
struct Leash(Child);

impl Running {
    /// Starts what `command` gives for a port, with its output in `dir`/log, and waits until `ready` says so, which is given
    /// what it has said and the port. Where the port is taken meanwhile, the next one is tried.
    pub(super) fn start(
        dir: TempDir,
        command: impl Fn(u16) -> Command,
        url: impl Fn(u16) -> String,
        ready: impl Fn(&str, u16) -> bool,
    ) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..PORTS {
            let port = free_port();
            match start(&mut command(port), dir.path(), |said| ready(said, port)) {
                Ok((process, leash)) => return Ok(Self { url: url(port), process, leash, dir }),
                Err(why) if why.contains(TAKEN) => last = why,
                Err(why) => return Err(why),
            }
        }
        Err(last)
    }

    /// The URL of its database, with user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its temporary directory, with its files and its `log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // PostgreSQL's immediate stop, which takes its children along; MariaDB does not mind
        let _ = self.process.signal(Signal::QUIT);
        std::thread::sleep(Duration::from_millis(50));
        let _ = self.process.kill();
        self.leash.cut();
    }
}

impl Leash {
    fn tie(pid: u32, dir: &Path) -> io::Result<Self> {
        let script =
            "trap '' INT TERM HUP; read -r _; kill -QUIT $1; sleep 0.2; kill -KILL $1; rm -rf \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &pid.to_string()]).arg(dir);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    fn cut(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one server and waits for it; one that does not start is gone when this returns.
fn start(
    command: &mut Command,
    dir: &Path,
    ready: impl Fn(&str) -> bool,
) -> Result<(KillOnDrop, Leash), String> {
    let log_path = dir.join("log");
    let log = File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log)));
    let (out, err) = log.map_err(|e| format!("{}: {e}", log_path.display()))?;
    let spawned = KillOnDrop::spawn(command.stdin(Stdio::null()).stdout(out).stderr(err));
    let mut process = spawned.map_err(|e| e.to_string())?;
    let mut leash = Leash::tie(process.id(), dir).map_err(|e| format!("its watcher: {e}"))?;
    match await_ready(&mut process, &log_path, ready) {
        Ok(()) => Ok((process, leash)),
        Err(why) => {
            // The directory is not the watcher's to remove: the server may be tried again in it.
            leash.cut();
            Err(why)
        }
    }
}

fn await_ready(
    process: &mut KillOnDrop,
    log_path: &Path,
    ready: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let said = read(log_path);
        if ready(&said) {
            return Ok(());
        }
        if let Ok(Some(status)) = process.try_wait() {
            return Err(format!("it ended with {status}: {}", tail(&read(log_path))));
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("it was not ready within {} s: {}", PATIENCE.as_secs(), tail(&said)));
        }
        // a server tells nobody when it is ready
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Whether a server that speaks first has spoken on a port of the loopback address.
pub(super) fn speaks(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a shell in a directory of its own, which is ready when it says that it is at your service.
    fn shell(script: &str) -> Result<Running, String> {
        let dir = crate::temp_dir();
        let place = dir.path().to_path_buf();
        let command = |port: u16| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", &port.to_string()]).current_dir(&place);
            command
        };
        Running::start(dir, command, |port| format!("at {port}"), |said, _| said.contains("at your service"))
    }

    #[test]
    fn a_server_whose_port_was_taken_is_started_on_another_in_the_same_directory() {
        let running = shell(
            "echo $1 >> ports; [ $(wc -l < ports) = 3 ] || { echo 'bind: Address already in use'; exit 1; }; \
             echo at your service; exec sleep 600",
        )
        .unwrap();
        let ports = std::fs::read_to_string(running.dir().join("ports")).unwrap();
        let ports: Vec<&str> = ports.lines().collect();
        assert_eq!(ports.len(), 3);
        assert_eq!(running.url(), format!("at {}", ports[2]));
    }

    #[test]
    fn a_server_that_finds_no_port_or_fails_otherwise_says_why() {
        let why = shell("echo 'bind: Address already in use'; exit 1").unwrap_err();
        assert!(why.contains(TAKEN), "{why}");
        let why = shell("[ -e here ] && echo again; : > here; echo 'no space'; exit 7").unwrap_err();
        assert!(why.contains("no space") && why.contains('7') && !why.contains("again"), "{why}");
    }
}
