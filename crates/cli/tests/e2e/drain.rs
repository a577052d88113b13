//! SIGTERM under load: what was accepted is kept, what was open is finished.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::world::{Client, World, await_some, block_on};

#[test]
fn three_restarts_under_load_keep_every_accepted_record_and_cut_no_request() {
    let world = World::new();
    let next = Arc::new(AtomicU64::new(0));
    let mut acknowledged = 0;
    for _ in 0..3 {
        let server = world.serve(&["--batch-every", "100ms"]);
        let client = Client::new(&server.url);
        let (kept, cut) = block_on(async {
            let writers: Vec<_> = (0..16)
                .map(|_| {
                    let (client, next) = (client.clone(), Arc::clone(&next));
                    tokio::spawn(async move {
                        let mut kept = 0_u64;
                        loop {
                            let id = next.fetch_add(1, Ordering::Relaxed);
                            let row = json!({"ind": id, "first_name": "A", "last_name": "B", "age": 30, "date_joined": "2016-02-03 04:05:06"});
                            match client.post("user", &[row]).await {
                                Ok(_) => kept += 1,
                                Err(error) => return (kept, error),
                            }
                        }
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(400)).await;
            tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
            let (mut kept, mut cut) = (0, Vec::new());
            for writer in writers {
                let (more, error) = writer.await.unwrap();
                kept += more;
                // A refused connection or a 503 is an honest no; an answer cut off in the middle is not.
                if error.contains("IncompleteMessage") || error.contains("closed before message completed") {
                    cut.push(error);
                }
            }
            (kept, cut)
        });
        assert!(cut.is_empty(), "requests were cut: {cut:?}");
        assert!(kept > 0);
        acknowledged += kept;
    }
    world.ok(&["clean"]);
    let audit = world.assert_balanced();
    let accepted = audit["topics"]["user"]["accepted"].as_u64().unwrap();
    assert!(accepted >= acknowledged, "{accepted} in the log, {acknowledged} acknowledged");
    assert_eq!(world.sql("SELECT count(*) FROM user_all")[0][0], json!(accepted));
}

#[test]
fn a_second_signal_ends_the_process_at_once_and_in_no_panic() {
    let world = World::new();
    let mut server = world.serve(&["--batch-every", "off"]);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    // A request whose body is waited for, and never comes, holds up the first signal.
    let mut client = TcpStream::connect(&address).unwrap();
    let head = "POST /topics/pin HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.kafka.json.v2+json\r\n\
                Content-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let mut asked_for = [0; 12];
    client.read_exact(&mut asked_for).unwrap();
    assert_eq!(&asked_for, b"HTTP/1.1 100");
    server.child.signal(Signal::INT).unwrap();
    await_some("the end of listening", || TcpStream::connect(&address).err());
    server.child.signal(Signal::INT).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}
