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
use crate::KillOnDrop;

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Starts `command`, with its output in `dir`/log, and waits until `ready` says so.
    pub(super) fn start(
        mut command: Command,
        dir: TempDir,
        url: String,
        ready: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let log_path = dir.path().join("log");
        let log = File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|e| format!("{}: {e}", log_path.display()))?;
        let spawned = KillOnDrop::spawn(command.stdin(Stdio::null()).stdout(out).stderr(err));
        let mut process = spawned.map_err(|e| e.to_string())?;
        let leash = Leash::tie(process.id(), dir.path()).map_err(|e| format!("its watcher: {e}"))?;
        let start = Instant::now();
        loop {
            let said = read(&log_path);
            if ready(&said) {
                return Ok(Self { url, process, leash, dir });
            }
            if let Ok(Some(status)) = process.try_wait() {
                return Err(format!("it ended with {status}: {}", tail(&read(&log_path))));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("it was not ready within {} s: {}", PATIENCE.as_secs(), tail(&said)));
            }
            // a server tells nobody when it is ready
            std::thread::sleep(Duration::from_millis(20));
        }
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

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Whether a server that speaks first has spoken on a port of the loopback address.
pub(super) fn speaks(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}
