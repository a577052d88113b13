//! Several topics of one dataset, and a topic that is deleted and made again under its name.

use std::sync::Arc;

use pinmill_broker::{EmbeddedLog, EventLog as _};
use pinmill_log::{Log, LogConfig};
use serde_json::{Value, json};

use crate::world::{Client, World, block_on};

fn geo(country: &str) -> Value {
    json!({
        "ind": 7, "timestamp": "2022-10-19T03:52:47", "latitude": 1.5, "longitude": -2.5, "country": country,
    })
}

/// A record that is rejected, and that tells which one it is.
fn bad(which: &str) -> Value {
    json!({"ind": which})
}

/// Posts to a topic, or to a stream, of a server that is started for it; what was posted is in the table afterwards.
fn load(world: &World, half: &str, name: &str, values: &[Value]) {
    let server = world.serve(&["--batch-every", "off"]);
    let client = Client::new(&server.url);
    for value in values {
        match half {
            "batch" => drop(block_on(client.post(name, std::slice::from_ref(value))).unwrap()),
            _ => drop(block_on(client.put(name, "k", value)).unwrap()),
        }
    }
    server.stop();
    if half == "batch" {
        world.ok(&["clean"]);
    }
}

fn delete(world: &World, half: &str, name: &str) {
    if half == "stream" {
        let server = world.serve(&["--batch-every", "off"]);
        let client = Client::new(&server.url);
        block_on(client.kinesis("DeleteStream", &json!({"StreamName": name}))).unwrap();
        return server.stop();
    }
    let (log, _) = Log::open(world.data().join("log"), LogConfig::default()).unwrap();
    let log = Arc::new(log);
    block_on(EmbeddedLog::new(Arc::clone(&log)).delete_topic(name)).unwrap();
    log.close().unwrap();
}

#[test]
fn the_newest_row_wins_whatever_its_topic_and_life_and_the_lives_are_told_apart() {
    for (half, a, b) in [("batch", "a.geo", "b.geo"), ("stream", "a-geo", "b-geo")] {
        let world = World::new();
        let from = ["--from", half];
        let sql = |query: &str| {
            let query = ["sql", query].into_iter().chain(from).collect::<Vec<_>>();
            serde_json::from_value::<Vec<Vec<Value>>>(world.json(&query)["rows"].clone()).unwrap()
        };
        let newest = || sql("SELECT country FROM geo WHERE ind = 7")[0][0].clone();
        let old: Vec<Value> = (0..5).map(|n| geo(&format!("Old {n}"))).chain([bad("first life")]).collect();
        load(&world, half, a, &old);
        load(&world, half, b, &[geo("Other topic")]);
        assert_eq!(newest(), json!("Other topic"), "{half}");

        delete(&world, half, a);
        let again: Vec<Value> =
            (0..5).map(|n| geo(&format!("New {n}"))).chain([bad("second life")]).collect();
        load(&world, half, a, &again[..1]);
        assert_eq!(newest(), json!("New 0"), "{half}: though its offset is 0");
        load(&world, half, a, &again[1..]);
        assert_eq!(newest(), json!("New 4"), "{half}");
        let rows = sql("SELECT _topic, _lineage, count(*) FROM geo_all GROUP BY 1, 2 ORDER BY 1, 2");
        assert_eq!(json!(rows), json!([[a, 0, 5], [a, 1, 5], [b, 0, 1]]), "{half}");

        let audit = world.assert_balanced();
        let topics = if half == "batch" { &audit["topics"] } else { &audit["streams"] };
        let lives: Vec<Value> = topics[a]["partitions"].as_array().unwrap().clone();
        let lives: Vec<Value> =
            lives.iter().map(|life| json!([life["lineage"], life["clean"], life["quarantined"]])).collect();
        assert_eq!(json!(lives), json!([[null, 5, 1], [1, 5, 1]]), "{half}");
        let show = |more: &[&str]| {
            let show =
                ["quarantine", "show", a, "0", "5"].into_iter().chain(from).chain(more.iter().copied());
            let text = world.ok(&show.collect::<Vec<_>>());
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert_eq!(show(&[]), bad("first life"), "{half}");
        assert_eq!(show(&["--lineage", "1"]), bad("second life"), "{half}");
        if half == "batch" {
            let listed =
                std::fs::read_dir(world.data().join("lake/topics").join(a).join("partition=0")).unwrap();
            let names: Vec<String> =
                listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(names.iter().filter(|name| name.ends_with(".lineage1.json")).count(), 2, "{names:?}");
        }
    }
}
