//! Looking at streams and their tables: tail, tables, status.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinmill_testkit::KillOnDrop;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::world::{Client, Server, World, await_some, block_on, pinmill, rows, write};

/// What `tail` prints of a record: its offset, its text, and its bytes in base64 where they are no text.
fn printed(line: &str) -> (Value, Value, Value) {
    let record: Value = serde_json::from_str(line).unwrap();
    (record["offset"].clone(), record["value"].clone(), record["value_base64"].clone())
}

fn tail(world: &World, args: &[&str]) -> Vec<(Value, Value, Value)> {
    world.ok(&[&["tail"], args].concat()).lines().map(printed).collect()
}

/// What standard error says of a command that must fail with this exit code.
fn refusal(world: &World, args: &[&str], code: i32) -> String {
    let output = world.output(args);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
    words
}

#[test]
fn tail_prints_what_was_put_byte_for_byte_and_follows() {
    let world = World::new().expecting(&["no dataset takes stream `talk`"]);
    let server = world.serve(&["--batch-every", "off"]);
    let client = Client::new(&server.url);
    let texts =
        [" {\"a\" : 1.0,\t\"b\":\"\u{1F3DD}\\u00e9\"}\n", "\"quoted \\\" text\"", "no JSON at all", ""];
    let bytes = [0xff_u8, 0x00, 0xfe, b'x'];
    block_on(async {
        client.kinesis("CreateStream", &json!({"StreamName": "talk", "ShardCount": 1})).await.unwrap();
        for data in texts.iter().map(|text| text.as_bytes()).chain([&bytes[..]]) {
            let record = json!({"StreamName": "talk", "PartitionKey": "k", "Data": STANDARD.encode(data)});
            client.kinesis("PutRecord", &record).await.unwrap();
        }
    });
    let mut expected: Vec<_> =
        texts.iter().enumerate().map(|(at, text)| (json!(at), json!(text), Value::Null)).collect();
    expected.push((json!(texts.len()), Value::Null, json!(STANDARD.encode(bytes))));
    assert_eq!(tail(&world, &["talk", "--from", "beginning"]), expected);
    assert_eq!(tail(&world, &["talk", "-n", "2"]), expected[3..]);
    assert_eq!(tail(&world, &["streams/talk", "--from", "2"]), expected[2..]);
    assert_eq!(tail(&world, &["talk"]), expected, "ten where nothing is said");

    let mut following = world.command(&["tail", "talk", "-n", "1", "--follow"]);
    let mut following = KillOnDrop::spawn_piped(&mut following).unwrap();
    assert_eq!(printed(&following.read_line().unwrap()), expected[4]);
    block_on(client.put("talk", "k", &json!({"n": [1.5, "a  b", null]}))).unwrap();
    let next = (json!(5), json!("{\"n\":[1.5,\"a  b\",null]}"), Value::Null);
    assert_eq!(printed(&following.read_line().unwrap()), next);
    following.signal(Signal::INT).unwrap();
    assert!(following.wait().unwrap().success());
    server.stop();
}

#[test]
fn tail_of_a_name_that_is_none_or_two_says_what_to_do() {
    let world = World::new().expecting(&["no dataset takes stream `talk`", "no dataset takes topic `talk`"]);
    let server = world.serve(&["--batch-every", "off"]);
    let client = Client::new(&server.url);
    block_on(async {
        client.put("talk", "k", &json!({"half": "stream"})).await.unwrap();
        client.post("talk", &[json!({"half": "batch"})]).await.unwrap();
        client.put("x-geo", "k", &json!({"ind": 1})).await.unwrap();
    });
    let words = refusal(&world, &["tail", "x-ego"], 1);
    assert!(
        words.contains("no topic or stream `x-ego`") && words.contains("did you mean `x-geo`?"),
        "{words}"
    );
    let words = refusal(&world, &["tail", "x-geo", "--partition", "4"], 1);
    assert!(words.contains("`x-geo` has no partition 4") && words.contains("it has 1,"), "{words}");
    let words = refusal(&world, &["tail", "talk"], 2);
    assert!(words.contains("topics/talk") && words.contains("streams/talk"), "{words}");
    for (name, half) in [("topics/talk", "batch"), ("streams/talk", "stream")] {
        let value = json!({"half": half}).to_string();
        assert_eq!(tail(&world, &[name]), [(json!(0), json!(value), Value::Null)]);
    }
    server.stop();
}

#[test]
fn a_data_folder_that_cannot_be_read_is_not_called_empty() {
    let world = World::new();
    write(&world.path("file"), "no folder");
    let file = world.path("file");
    let output = pinmill().args(["tail", "talk", "--data"]).arg(&file).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains(file.to_str().unwrap()) && !words.contains("nothing was posted"), "{words}");
    std::fs::create_dir(world.data()).unwrap();
    let words = refusal(&world, &["tail", "talk"], 1);
    assert!(
        words.contains("nothing was posted") && words.contains(world.data().to_str().unwrap()),
        "{words}"
    );
}

#[test]
fn the_quarantine_of_a_dataset_that_is_none_names_those_that_are() {
    let world = World::new();
    world.ok(&["run", "--posts", "5", "--to", "topics"]);
    for command in ["list", "replay"] {
        let words = refusal(&world, &["quarantine", command, "--dataset", "nosuch"], 1);
        assert!(words.contains("`nosuch`") && words.contains("pin, geo, user"), "{words}");
    }
    world.ok(&["quarantine", "list", "--dataset", "pin"]);
}

/// Puts pins one after the other, each in a commit of its own. Gives the server that took them.
fn pins_in_commits_of_their_own(world: &World, count: u64, settings: &[&str]) -> Server {
    let server = world.serve(&[&["--batch-every", "off", "--commit-every", "1ms"], settings].concat());
    let client = Client::new(&server.url);
    for id in 0..count {
        block_on(client.put("x-pin", "k", &json!({"index": id, "title": "T"}))).unwrap();
        world.await_rows("pin", id + 1);
    }
    server
}

#[test]
fn tables_can_be_looked_through_put_together_and_vacuumed() {
    let world = World::new();
    pins_in_commits_of_their_own(&world, 3, &[]).stop();
    let history = |limit: &str| {
        let document = world.json(&["tables", "history", "stream/pin", "--limit", limit]);
        let columns: Vec<String> = serde_json::from_value(document["columns"].clone()).unwrap();
        let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
        let (operation, covers) = (at("operation"), at("covers"));
        let rows = rows(&document).into_iter();
        rows.map(|row| (row[operation].clone(), row[covers].clone())).collect::<Vec<_>>()
    };
    let covered: Vec<Value> =
        history("20").into_iter().map(|(_, covers)| covers).filter(|covers| *covers != json!("")).collect();
    assert_eq!(covered, ["x-pin/0 2-2", "x-pin/0 1-1", "x-pin/0 0-0"]);
    assert_eq!(history("1").len(), 1);

    let compacted = world.json(&["tables", "compact", "stream/pin"]);
    assert_eq!(rows(&compacted)[0][..4], [json!("stream/pin"), json!(3), json!(1), json!(1)], "{compacted}");
    assert_eq!(history("1")[0], (json!("OPTIMIZE"), json!("")));
    let again = world.json(&["tables", "compact", "stream/pin"]);
    assert_eq!(rows(&again)[0][..4], [json!("stream/pin"), json!(1), json!(1), json!(0)], "{again}");

    let vacuum = |args: &[&str]| {
        let vacuum = ["tables", "vacuum", "stream/pin", "--older-than"];
        rows(&world.json(&[&vacuum[..], args].concat()))
    };
    assert!(vacuum(&["1h", "--dry-run"]).is_empty(), "what was replaced just now stays");
    let named = vacuum(&["0s", "--dry-run"]);
    assert_eq!(named.len(), 3);
    let table = world.data().join("lake/stream/pin");
    assert!(named.iter().all(|row| table.join(row[1].as_str().unwrap()).is_file()), "{named:?}");
    assert_eq!(data_files(&world), 4, "a dry run removes nothing");
    assert_eq!(vacuum(&["0s"]), [[json!("stream/pin"), json!(3)]]);
    assert_eq!(data_files(&world), 1);
    let pins = world.stream_sql("SELECT ind FROM pin_all ORDER BY ind");
    assert_eq!(pins, [[json!(0)], [json!(1)], [json!(2)]]);
    world.assert_balanced();

    let words = refusal(&world, &["tables", "history", "stream/pni"], 1);
    assert!(words.contains("stream/pni") && words.contains("stream/pin"), "{words}");
}

/// Nothing but a vacuum removes files, and nobody asks for one here. However short the history is, it is one of what
/// commits have replaced: a file that waits for its commit, for longer than that on a slow machine, stays.
#[test]
fn files_that_were_put_together_are_removed_by_the_server_itself_when_their_time_is_over() {
    const PINS: u64 = 20;
    let world = World::new().expecting(&["commits came and went while files were listed"]);
    let often = ["--set", "stream.tidy-every=50ms", "--set", "stream.history=200ms"];
    let server = pins_in_commits_of_their_own(&world, PINS, &often);
    await_some("a vacuum", || (data_files(&world) < PINS as usize).then_some(()));
    server.stop();
    assert_eq!(world.stream_sql("SELECT count(DISTINCT ind) FROM pin_all"), [[json!(PINS)]]);
    world.assert_balanced();
}

fn data_files(world: &World) -> usize {
    let table = world.data().join("lake/stream/pin");
    let files = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")).count()
}

#[test]
fn status_shows_the_lag_of_a_slow_commit_and_none_after_a_stop() {
    let world = World::new();
    let server = world.serve(&["--batch-every", "off", "--commit-every", "1h"]);
    let pins: Vec<(String, Value)> =
        (0..3).map(|id| (format!("key-{id}"), json!({"index": id, "title": "T"}))).collect();
    block_on(Client::new(&server.url).put_all("x-pin", &pins)).unwrap();
    let behind = await_some("the table of pins", || world.stream_table("pin"));
    assert_eq!((&behind["lag"], &behind["rows"]), (&json!(3), &json!(0)), "{behind}");
    server.stop();
    let level = world.stream_table("pin").unwrap();
    assert_eq!((&level["lag"], &level["rows"]), (&json!(0), &json!(3)), "{level}");
    assert!(level["freshness_seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{level}");
    let text = world.ok(&["status"]);
    assert!(text.contains("stream/pin") && text.contains("freshness"), "{text}");
    let lines = world.ok(&["status", "--format", "ndjson"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |member: &str, name: &str| {
        lines.iter().find(|line| line[member] == json!(name)).unwrap_or_else(|| panic!("{name}: {lines:?}"))
    };
    assert_eq!(
        (&of("log", "streams")["name"], &of("log", "streams")["records"]),
        (&json!("x-pin"), &json!(3))
    );
    assert!(of("table", "stream/pin")["freshness_seconds"].is_number(), "{lines:?}");
    let csv = world.ok(&["status", "--format", "csv"]);
    assert!(csv.starts_with("table,rows,quarantined,lag,freshness_seconds,"), "{csv}");
    assert!(world.ok(&["status", "--format", "markdown"]).contains("| streams"));
}
