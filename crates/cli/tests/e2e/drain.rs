//! SIGTERM under load: what was accepted is kept and acknowledged, what was open is finished.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;

use crate::world::{Client, PATIENCE, World, await_some, block_on};

const WRITERS: usize = 16;
/// How many posts of a life are acknowledged before it is told to stop.
const ENOUGH: u64 = 200;
/// A server that was told to stop is gone by then, whatever the load.
const DRAINED: Duration = Duration::from_secs(60);

/// Posts rows of fresh ids one by one until one is not acknowledged, and gives the reason.
async fn post_until_refused(
    client: Client,
    next: Arc<AtomicU64>,
    acknowledged: Arc<watch::Sender<u64>>,
) -> String {
    loop {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let row = json!({"ind": id, "first_name": "A", "last_name": "B", "age": 30, "date_joined": "2016-02-03 04:05:06"});
        if let Err(error) = client.post("user", &[row]).await {
            return error;
        }
        acknowledged.send_modify(|count| *count += 1);
    }
}

#[test]
fn three_restarts_under_load_keep_every_accepted_record_and_cut_no_request() {
    let world = World::new();
    let next = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(watch::channel(0_u64).0);
    let mut ends = Vec::new();
    for _ in 0..3 {
        let server = world.serve(&["--batch-every", "100ms"]);
        let client = Client::new(&server.url);
        let enough = *acknowledged.borrow() + ENOUGH;
        ends.extend(block_on(async {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    let (next, acknowledged) = (Arc::clone(&next), Arc::clone(&acknowledged));
                    tokio::spawn(post_until_refused(client.clone(), next, acknowledged))
                })
                .collect();
            let mut seen = acknowledged.subscribe();
            let loaded = tokio::time::timeout(PATIENCE, seen.wait_for(|count| *count >= enough));
            loaded.await.expect("posts are acknowledged").unwrap();
            tokio::task::spawn_blocking(move || server.stop_within(DRAINED)).await.unwrap();
            let mut ends = Vec::new();
            for writer in writers {
                ends.push(writer.await.unwrap());
            }
            ends
        }));
    }
    world.ok(&["clean"]);
    let audit = world.assert_balanced();
    // A refused connection or a 503 is an honest no. An answer that was cut off would be of a record that is stored.
    let (accepted, acknowledged) = (&audit["topics"]["user"]["accepted"], *acknowledged.borrow());
    assert_eq!(*accepted, json!(acknowledged), "stored is acknowledged, and nothing else: {ends:?}");
    assert_eq!(world.sql("SELECT count(*) FROM user_all"), [[json!(acknowledged)]]);
}

#[test]
fn a_second_signal_ends_the_process_at_once_and_in_no_panic() {
    let world = World::new();
    let mut server = world.serve(&["--batch-every", "off"]);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    // A request whose body is waited for, and never comes, holds up the first signal.
    let mut client = TcpStream::connect(&address).unwrap();
    let head = "POST /topics/pin HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/vnd.kafka.json.v2+json\r\n\
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
