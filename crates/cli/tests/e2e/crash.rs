//! kill -9 under load: nothing acknowledged is lost, nothing is stored twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
#[cfg(feature = "failpoints")]
use serde_json::json;

use crate::data::user;
use crate::world::{Client, World, block_on};
#[cfg(feature = "failpoints")]
use crate::world::{PATIENCE, await_end};

const WRITERS: usize = 8;

/// Posts batches of fresh ids until told to stop; gives what was acknowledged.
async fn write(client: Client, next: Arc<AtomicU64>, stop: Arc<AtomicBool>, size: u64) -> Vec<(u64, i64)> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(size, Ordering::Relaxed);
        let rows: Vec<Value> = (first..first + size).map(user).collect();
        match client.post("load.user", &rows).await {
            Ok(offsets) => acknowledged.extend((first..).zip(offsets.iter().map(|(_, offset)| *offset))),
            Err(_) => break,
        }
    }
    acknowledged
}

/// Readers of the archive find objects there and nothing else, and no file waits for its name.
fn assert_nothing_is_left_of_killed_puts(world: &World) {
    for (folder, is_right) in [
        ("topics", (|name| name.ends_with(".json")) as fn(&str) -> bool),
        ("_pinmill/staging", |name| name == "lock"),
        ("batch", |name| [".json", ".parquet", "_last_checkpoint"].iter().any(|end| name.ends_with(end))),
    ] {
        let mut folders = vec![world.data().join("lake").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => {
                        let name = entry.file_name().into_string().unwrap();
                        assert!(is_right(&name), "{} is left", entry.path().display());
                    }
                }
            }
        }
    }
}

#[test]
fn fifty_kills_under_load_lose_nothing_and_double_nothing() {
    let rounds = pinmill_testkit::count("PINMILL_ROUNDS", 50);
    let mut rng = pinmill_testkit::rng();
    let world = World::new();
    let next = Arc::new(AtomicU64::new(1));
    let mut acknowledged: HashMap<i64, u64> = HashMap::new();
    for round in 0..rounds {
        let server = world.serve(&[
            "--batch-every",
            "100ms",
            "--set",
            "archive.max-age=50ms",
            "--set",
            "archive.max-records=200",
        ]);
        let stop = Arc::new(AtomicBool::new(false));
        let sizes: Vec<u64> = (0..WRITERS).map(|_| rng.random_range(1..=20)).collect();
        let life = Duration::from_millis(rng.random_range(100..400));
        let client = Client::new(&server.url);
        let written = block_on(async {
            let writers: Vec<_> = sizes
                .iter()
                .map(|size| tokio::spawn(write(client.clone(), Arc::clone(&next), Arc::clone(&stop), *size)))
                .collect();
            tokio::time::sleep(life).await;
            server.kill();
            stop.store(true, Ordering::Relaxed);
            let mut written = Vec::new();
            for writer in writers {
                written.extend(writer.await.unwrap());
            }
            written
        });
        for (id, offset) in written {
            let before = acknowledged.insert(offset, id);
            assert_eq!(before, None, "offset {offset} was given out twice (round {round})");
        }
    }
    assert!(acknowledged.len() > rounds, "the load was no load: {} acknowledged", acknowledged.len());
    world.serve(&["--batch-every", "off"]).stop();
    world.ok(&["clean"]);
    world.assert_balanced();
    assert_nothing_is_left_of_killed_puts(&world);

    let mut found: HashMap<i64, u64> = HashMap::new();
    for rows in [world.sql("SELECT _offset, ind FROM user_all"), world.quarantined("batch")] {
        for row in rows {
            let (offset, id) = (row[0].as_i64().unwrap(), row[1].as_u64().unwrap());
            assert_eq!(
                found.insert(offset, id),
                None,
                "offset {offset} stands twice in table and quarantine"
            );
        }
    }
    for (offset, id) in &acknowledged {
        assert_eq!(found.get(offset), Some(id), "acknowledged record {id} at offset {offset}");
    }
}

/// Every crash point of archive, clean and answers that the binary knows.
#[cfg(feature = "failpoints")]
#[test]
fn a_death_at_any_named_crash_point_changes_no_answer() {
    // A checkpoint comes after fifty commits, and a replay moves nothing that this pipeline cannot clean: the tests of
    // lake and flow die there. Only the streaming half keeps positions of its own and compacts its tables:
    // stream_crash.rs dies there.
    let elsewhere = |point: &str| {
        ["flow::replay::", "flow::stream::"].iter().any(|room| point.starts_with(room))
            || point.ends_with("_compaction")
            || point == "lake::table::before_checkpoint"
    };
    for point in pinmill_flow::CRASH_POINTS.iter().filter(|point| !elsewhere(point)) {
        let world = World::new();
        let server = world.serve(&["--batch-every", "off"]);
        let client = Client::new(&server.url);
        block_on(async {
            for first in [1, 101] {
                let rows: Vec<Value> = (first..first + 100).map(user).collect();
                client.post("load.user", &rows).await.unwrap();
            }
        });
        server.kill();
        let quick = ["--batch-every", "50ms", "--set", "archive.max-age=10ms", "-qq"];
        let mut armed = world.serve_with(&quick, |command| {
            command.env("PINMILL_CRASH_AT", point).stderr(std::process::Stdio::null());
        });
        let ended = await_end(&mut armed.child, PATIENCE, point);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(6), "{point}: {ended}");
        world.serve(&["--batch-every", "off"]).stop();
        world.ok(&["clean"]);
        world.ok(&["answer"]);
        world.assert_balanced();
        assert_nothing_is_left_of_killed_puts(&world);
        let counts = world.sql("SELECT count(*), count(DISTINCT _offset) FROM user_all");
        assert_eq!(counts, [[json!(172), json!(172)]], "rows after a death at {point}");
    }
}
