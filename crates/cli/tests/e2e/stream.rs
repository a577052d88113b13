//! The streaming half as it is run: beside the batch half, stopped, paused, run twice, with streams that come and go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::data::TABLES;
use crate::stream_load::{Load, STREAM, assert_each_once, assert_places_differ, gather, put_users};
use crate::world::{Client, World, block_on};

const STREAMING: &[&str] = &["--batch-every", "off", "--commit-every", "50ms"];

fn pin(id: u64) -> Value {
    json!({"index": id, "title": format!("No {id}"), "category": "art"})
}

fn place(id: u64) -> Value {
    json!({"ind": id, "country": "Peru", "latitude": 1.5, "longitude": 2.5, "timestamp": "2020-08-28 03:52:47"})
}

#[test]
fn three_restarts_under_load_leave_every_acknowledged_record_in_the_stream_tables() {
    let (world, load) = (World::new(), Load::on(&["user"]));
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        // Nothing but the stop brings the last records into the table.
        let server = world.serve(&["--batch-every", "off", "--commit-every", "1h"]);
        let client = Client::new(&server.url);
        let (written, errors) = block_on(async {
            let writers = load.start(&client, &[1; 8]);
            load.until_acknowledged(100).await;
            tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
            load.stop();
            gather(writers).await
        });
        assert!(written.len() >= 100, "{} were acknowledged: {errors:?}", written.len());
        acknowledged.extend(written);
        assert_each_once(&world, acknowledged.iter().map(|(id, _)| *id));
    }
    assert_places_differ(&acknowledged);
    let audit = world.assert_balanced();
    assert!(audit["streams"][STREAM]["accepted"].as_u64().unwrap() >= acknowledged.len() as u64, "{audit:#}");
}

/// A loop that looks for new streams now and then must look once more when it is told to stop.
#[test]
fn records_of_a_stream_that_was_made_just_before_the_stop_are_in_its_table() {
    let world = World::new();
    for life in 0..3 {
        let server = world.serve(STREAMING);
        block_on(async {
            let client = Client::new(&server.url);
            for (table, row) in [("pin", pin(life)), ("geo", place(life))] {
                client.put(&format!("life{life}-{table}"), "k", &row).await.unwrap();
            }
        });
        server.stop();
        for table in ["pin", "geo"] {
            let rows = world.stream_sql(&format!("SELECT count(*) FROM {table}_all"));
            assert_eq!(rows, [[json!(life + 1)]], "{table} after life {life}");
        }
    }
    world.assert_balanced();
}

#[test]
fn the_same_events_make_the_same_rows_in_both_halves_and_a_difference_is_told() {
    let world = World::new();
    let emulate = |to: &str, posts: &str, seed: &str| {
        let server = world.serve(STREAMING);
        let events = ["emulate", "--url", &server.url, "--to", to, "--posts", posts, "--seed", seed];
        world.ok(&[&events[..], &["--pace", "max", "--connections", "4", "-q"]].concat());
        server.stop();
        world.ok(&["clean"]);
    };
    emulate("both", "300", "100");
    let audit = world.assert_balanced_with(&["--same-rows"]);
    let halves = audit["halves"].as_array().unwrap();
    assert_eq!(halves.len(), TABLES.len(), "{audit:#}");
    for half in halves {
        assert_eq!(half["same"], json!(true), "{half}");
        assert_ne!(half["stream"]["rows"], json!(0), "{half}");
    }

    emulate("topics", "10", "7");
    let output = world.output(&["audit", "--same-rows"]);
    assert_eq!(output.status.code(), Some(4));
    let words = String::from_utf8(output.stdout).unwrap();
    for table in TABLES {
        let told = format!("{table}: the halves hold different rows");
        assert!(words.contains(&told), "`{told}` is missing from:\n{words}");
    }
    world.assert_balanced();
}

/// The topics' log has a lock of its own, which `usage` looks at; here only the streams are somebody else's.
#[test]
fn streams_that_another_process_has_are_refused_with_words_that_help() {
    let (owner, other) = (World::new(), World::new());
    let server = owner.serve(STREAMING);
    std::fs::create_dir_all(other.data()).unwrap();
    std::os::unix::fs::symlink(owner.data().join("streams"), other.data().join("streams")).unwrap();
    let output = other.output(&["run", "--posts", "1", "--to", "streams"]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("another process") && words.contains("streams"), "{words}");
    server.stop();
    owner.assert_balanced();
}

#[test]
fn a_second_system_with_a_stream_of_the_same_name_loads_another_life_of_it() {
    let (first, second) = (World::new(), World::new());
    let lake = first.path("lake");
    let lake = ["--lake", lake.to_str().unwrap()];
    let (first, second) = (first.with(&lake), second.with(&lake));
    let server = first.serve(STREAMING);
    block_on(put_users(&Client::new(&server.url), 1..=20));
    first.await_rows("user", 18);

    let other = second.serve(STREAMING);
    block_on(put_users(&Client::new(&other.url), 1001..=1020));
    first.await_rows("user", 18 + 17);
    block_on(put_users(&Client::new(&server.url), 21..=40));
    first.await_rows("user", 35 + 17);
    other.stop();
    server.stop();
    let lives = "SELECT _lineage, count(*), min(ind), max(ind) FROM user_all GROUP BY 1 ORDER BY 1";
    assert_eq!(json!(first.stream_sql(lives)), json!([[0, 35, 1, 40], [1, 17, 1002, 1020]]));
    // Both are needed to the end: the lake is in the folder of the first.
    for world in [&first, &second] {
        world.assert_balanced();
    }
}

#[test]
fn a_server_that_stood_still_for_moments_loses_nothing_and_doubles_nothing() {
    let (world, load) = (World::new(), Load::on(&["user"]));
    let server = world.serve(STREAMING);
    let client = Client::new(&server.url);
    let (written, errors) = block_on(async {
        let writers = load.start(&client, &[1, 2, 3, 5]);
        load.until_acknowledged(1).await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.pause();
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.go_on();
        }
        // What was waiting when it went on is answered too.
        load.stop();
        gather(writers).await
    });
    assert_eq!(errors, Vec::<String>::new());
    assert!(!written.is_empty());
    block_on(put_users(&client, 1_000_001..=1_000_010));
    server.stop();
    let ids = written.iter().map(|(id, _)| *id).chain(1_000_001..=1_000_010);
    assert_eq!(assert_each_once(&world, ids), written.len() as u64 + 10);
    assert_places_differ(&written);
    world.assert_balanced();
}

/// The second life is longer than the first, so that reading could go on where it was.
#[test]
fn a_stream_that_is_made_anew_under_a_running_server_is_loaded_from_its_beginning() {
    let world = World::new();
    let server = world.serve(STREAMING);
    let client = Client::new(&server.url);
    let pins = |ids: std::ops::Range<u64>| -> Vec<(String, Value)> {
        ids.map(|id| (format!("key-{id}"), pin(id))).collect()
    };
    let create = json!({"StreamName": "x-pin", "ShardCount": 1});
    block_on(async {
        client.kinesis("CreateStream", &create).await.unwrap();
        client.put_all("x-pin", &pins(0..3)).await.unwrap();
    });
    world.await_rows("pin", 3);
    block_on(async {
        client.kinesis("DeleteStream", &json!({"StreamName": "x-pin"})).await.unwrap();
        client.kinesis("CreateStream", &create).await.unwrap();
        client.put_all("x-pin", &pins(100..120)).await.unwrap();
        client.put("x-geo", "k", &place(1)).await.unwrap();
    });
    world.await_rows("pin", 23);
    world.await_rows("geo", 1);
    server.stop();
    let kept = world
        .stream_sql("SELECT _lineage, count(*), min(ind), max(_offset) FROM pin_all GROUP BY 1 ORDER BY 1");
    assert_eq!(json!(kept), json!([[0, 3, 0, 2], [1, 20, 100, 19]]));
    world.assert_balanced();
}
