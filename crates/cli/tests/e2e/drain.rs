//! SIGTERM under load: what was accepted is kept, what was open is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::world::{Client, World, block_on};

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
