//! kill -9 and named crash points in the streaming half: nothing acknowledged is lost, nothing is stored twice.

use std::time::Duration;

use rand::RngExt;
use serde_json::json;

use crate::data::TABLES;
use crate::stream_load::{Load, STREAM, assert_each_once, assert_places_differ, gather, stream_of};
use crate::world::{Client, World, block_on};

const WRITERS: usize = 8;
/// A hash key in the middle of the first of three shards: 2^128 / 6.
const MIDDLE_OF_FIRST: &str = "56713727820156410577229101238628035242";

#[test]
fn fifty_kills_under_load_on_three_streams_of_three_shards_lose_nothing_and_double_nothing() {
    let rounds = pinmill_testkit::count("PINMILL_ROUNDS", 50);
    let mut rng = pinmill_testkit::rng();
    let (world, load) = (World::new(), Load::on(&TABLES));
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let quick = ["--commit-every", "100ms", "--set", "stream.tidy-every=300ms"];
        let server = world.serve(&[&["--batch-every", "off"], &quick[..]].concat());
        let sizes: Vec<u64> = (0..WRITERS).map(|_| rng.random_range(1..=20)).collect();
        let life = Duration::from_millis(rng.random_range(100..450));
        let client = Client::new(&server.url);
        let written = block_on(async {
            if round == 0 {
                for table in TABLES {
                    client.create_stream(&stream_of(table), 3).await.unwrap();
                }
            }
            let writers = load.start(&client, &sizes);
            if round == rounds / 2 {
                let split = json!({
                    "StreamName": STREAM,
                    "ShardToSplit": "shardId-000000000000",
                    "NewStartingHashKey": MIDDLE_OF_FIRST,
                });
                client.kinesis("SplitShard", &split).await.unwrap();
            }
            tokio::time::sleep(life).await;
            server.kill();
            load.stop();
            gather(writers).await.0
        });
        acknowledged.extend(written);
    }
    assert!(acknowledged.len() > rounds, "the load was no load: {} acknowledged", acknowledged.len());
    assert_places_differ(&acknowledged);
    world.serve(&["--batch-every", "off"]).stop();
    assert_each_once(&world, acknowledged.iter().map(|(id, _)| *id));
    for table in TABLES {
        let rows = world.stream_sql(&format!("SELECT count(*) FROM {table}_all"));
        assert_ne!(rows, [[json!(0)]], "{table} had no load");
    }
    let shards = world.stream_sql("SELECT DISTINCT _partition FROM user_all ORDER BY _partition");
    assert_eq!(shards, [[json!(0)], [json!(1)], [json!(2)], [json!(3)], [json!(4)]]);
    world.assert_balanced();
}

#[cfg(feature = "failpoints")]
mod points {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::time::Instant;

    use rustix::process::Signal;

    use super::*;
    use crate::data::user;
    use crate::stream_load::put_users;
    use crate::world::{PATIENCE, await_end};

    /// Ids that are in the stream, and not in the table, when the server starts that will die.
    const BEFORE: u64 = 200;

    /// Puts users one by one until the server is dead, and gives the ids that were acknowledged.
    async fn put_until_death(client: &Client, first: u64, point: &str) -> Vec<u64> {
        let end = Instant::now() + PATIENCE;
        let mut acknowledged = Vec::new();
        for id in first.. {
            if client.put(STREAM, &format!("key-{id}"), &user(id)).await.is_err() {
                break;
            }
            acknowledged.push(id);
            assert!(Instant::now() < end, "{point} was not passed in {PATIENCE:?}");
        }
        acknowledged
    }

    /// Lets a server die at a point, starts it again, and looks whether everything is there once.
    fn survives_death_at(point: &str) {
        let world = World::new();
        let idle = world.serve(&["--batch-every", "off", "--commit-every", "1h"]);
        block_on(put_users(&Client::new(&idle.url), 1..=BEFORE));
        idle.kill();
        let mut acknowledged: Vec<u64> = (1..=BEFORE).collect();

        // Many small commits, so that a checkpoint and a compaction come soon.
        let busy = ["--commit-every", "1ms", "--set", "stream.tidy-every=50ms", "-qq"];
        let mut armed = world.serve_with(&[&["--batch-every", "off"], &busy[..]].concat(), |command| {
            command.env("PINMILL_CRASH_AT", point).stderr(Stdio::null());
        });
        if point.starts_with("flow::stream::") {
            // The reader's position follows the table's at the end of a clean stop at the latest.
            armed.child.signal(Signal::TERM).unwrap();
        } else {
            let client = Client::new(&armed.url);
            acknowledged.extend(block_on(put_until_death(&client, BEFORE + 1, point)));
        }
        let ended = await_end(&mut armed.child, PATIENCE, point);
        assert_eq!(ended.signal(), Some(6), "{point}: {ended}");

        world.serve(&["--batch-every", "off"]).stop();
        let all = assert_each_once(&world, acknowledged);
        let counts = world.stream_sql("SELECT count(*), count(DISTINCT _offset) FROM user_all");
        assert_eq!(counts[0][0], counts[0][1], "rows and offsets after a death at {point}");
        world.ok(&["answer", "--from", "stream"]);
        let audit = world.assert_balanced();
        assert_eq!(audit["streams"][STREAM]["accepted"], json!(all), "{point}: {audit:#}");
    }

    #[test]
    fn a_death_at_any_named_crash_point_loses_nothing_and_doubles_nothing() {
        let others = ["lake::archive::", "flow::archive::", "flow::answer::", "flow::replay::"];
        let passed = |point: &&&str| !others.iter().any(|room| point.starts_with(room));
        let points: Vec<&str> = pinmill_flow::CRASH_POINTS.iter().filter(passed).copied().collect();
        assert!(points.contains(&"flow::stream::after_position"), "{points:?}");
        for point in points {
            survives_death_at(point);
        }
    }
}
