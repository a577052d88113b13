//! The state of a running server's parts: what `/readyz` shows, and how other commands read it.
//!
//! A server writes `serve.json` into its data folder: its address, and a name that no other process has. `status` asks
//! that address. A killed server leaves the file behind. A server that listens there later has another name, so its parts
//! are not mistaken for those of this data folder.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinmill_flow::{PartState, PartStatus, Parts};
use pinmill_gateway::{PartReport, Readiness};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a server may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is shorter than this.
const LONGEST_ANSWER: u64 = 4 << 20;

/// The parts of this process, for `/readyz`.
#[derive(Debug)]
pub(crate) struct Shown {
    parts: Parts,
    instance: String,
}

impl Shown {
    /// Shows these parts under a name that no other process has.
    pub(crate) fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), instance: format!("{:032x}", rand::random::<u128>()) }
    }
}

impl Readiness for Shown {
    fn instance(&self) -> &str {
        &self.instance
    }

    fn parts(&self) -> Vec<PartReport> {
        self.parts.status().into_iter().map(report).collect()
    }
}

fn report(status: PartStatus) -> PartReport {
    let state = match status.state {
        PartState::Starting => "starting",
        PartState::Working => "working",
        PartState::Failing => "failing",
        PartState::Stalled => "stalled",
        PartState::Stopped => "stopped",
        PartState::Done => "done",
    };
    PartReport {
        part: status.part,
        works: matches!(status.state, PartState::Working | PartState::Done),
        state: state.to_owned(),
        restarts: status.restarts,
        last_error: status.last_error,
    }
}

/// Where a server listens.
#[derive(Debug, Serialize, Deserialize)]
struct Listening {
    address: SocketAddr,
    instance: String,
}

/// The file that says where a data folder's server listens; removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Announced(PathBuf);

impl Announced {
    /// Says in the data folder where the server listens. That it cannot be said is reported, and changes nothing else.
    pub(crate) fn at(data: &Path, address: SocketAddr, shown: &Shown) -> Self {
        let file = file(data);
        let listening = json!(Listening { address, instance: shown.instance.clone() });
        let staged = file.with_extension("json.new");
        let written = std::fs::write(&staged, format!("{listening}\n"));
        if let Err(error) = written.and_then(|()| std::fs::rename(&staged, &file)) {
            tracing::warn!(%error, "{} cannot be written: `status` will not find this server", file.display());
        }
        Self(file)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // A file that stays behind names a server that nobody finds.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn file(data: &Path) -> PathBuf {
    data.join("serve.json")
}

/// What the server of a data folder says about itself: `url`, `status` and `parts`. `None` where none is running.
pub(crate) async fn of_server(data: &Path) -> Option<Value> {
    let listening: Listening = serde_json::from_slice(&std::fs::read(file(data)).ok()?).ok()?;
    let address = reachable(listening.address);
    let asked = tokio::task::spawn_blocking(move || ask(address)).await.ok()?;
    let url = format!("http://{address}");
    match asked {
        Ok(mut answer) if answer["instance"] == json!(listening.instance) => {
            Some(json!({"url": url, "status": answer["status"].take(), "parts": answer["parts"].take()}))
        }
        // Somebody else listens there, or nobody.
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
        Err(error) => Some(json!({"url": url, "status": format!("does not answer: {error}"), "parts": []})),
    }
}

/// An address that can be connected to, of one that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> io::Result<Value> {
    let mut server = TcpStream::connect_timeout(&address, PATIENCE)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.set_write_timeout(Some(PATIENCE))?;
    // An answer in HTTP/1.0 is never in chunks.
    write!(server, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    server.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(serde_json::from_str(body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_at_home() {
        for (listened, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.1.2.3:4", "10.1.2.3:4")]
        {
            assert_eq!(reachable(listened.parse().unwrap()).to_string(), asked);
        }
    }
}
