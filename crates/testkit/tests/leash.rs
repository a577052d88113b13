//! A server dies with the process that started it, even when that process is killed.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pinmill_testkit::KillOnDrop;
use pinmill_testkit::services::Service;

#[test]
fn a_server_does_not_outlive_a_process_that_was_killed() {
    Service::Postgres.install().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_services"));
    let mut process =
        KillOnDrop::spawn_piped(command.args(["start", "postgres"]).stdin(Stdio::piped())).unwrap();
    let url = process.read_line().unwrap();
    let address = url.split(['@', '/']).nth(3).unwrap().to_owned();
    TcpStream::connect(&address).unwrap();

    process.kill().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < patience, "{address} still listens");
        // nobody can be told when another process's child is gone
        std::thread::sleep(Duration::from_millis(20));
    }
}
