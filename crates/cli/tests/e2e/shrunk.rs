//! A log that ends before what was read of it: a copy of the data folder's logs was restored that is older than the lake. New
//! records get offsets behind those, every one of them is loaded, and what the log lost is named.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::data::user;
use crate::world::{Client, World, block_on};

const TOPIC: &str = "old.user";
const STREAM: &str = "streaming-old-user";
const SERVE: [&str; 4] = ["--batch-every", "50ms", "--set", "archive.max-age=10ms"];

/// A row that is clean: not every one is.
fn row(n: u64) -> Value {
    user(7 * n + 1)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Posts rows of these ids to a topic and puts them to a stream, and waits until both halves have `rows` of them.
fn post(world: &World, ids: std::ops::Range<u64>, rows: u64) {
    let server = world.serve(&SERVE);
    let client = Client::new(&server.url);
    block_on(async {
        if ids.start == 0 {
            client.create_stream(STREAM, 1).await.unwrap();
        }
        for id in ids {
            client.post(TOPIC, &[row(id)]).await.unwrap();
            client.put(STREAM, "k", &row(id)).await.unwrap();
        }
    });
    world.await_rows("user", rows);
    world.await_batch_rows("user", rows);
    server.stop();
}

#[test]
fn records_after_an_older_copy_of_the_logs_was_restored_are_all_loaded() {
    let world = World::new();
    let (data, kept) = (world.data(), world.path("kept"));
    std::fs::create_dir(&kept).unwrap();
    post(&world, 0..4, 4);
    for log in ["log", "streams"] {
        copy(&data.join(log), &kept.join(log));
    }
    post(&world, 4..10, 10);
    for log in ["log", "streams"] {
        std::fs::remove_dir_all(data.join(log)).unwrap();
        copy(&kept.join(log), &data.join(log));
    }

    // Fewer than were lost: each would have had an offset that the tables have passed.
    let words = world.path("words");
    let server = world.serve_telling(&SERVE, &words);
    let client = Client::new(&server.url);
    let offset = block_on(async {
        client.put(STREAM, "k", &row(10)).await.unwrap();
        client.post(TOPIC, &[row(10)]).await.unwrap()[0].1
    });
    assert_eq!(offset, 10);
    world.await_rows("user", 11);
    world.await_batch_rows("user", 11);
    server.stop();

    let said = std::fs::read_to_string(&words).unwrap();
    for name in [TOPIC, STREAM] {
        let line = said.lines().find(|line| line.contains(&format!("{name}/0 offsets 4 to 9")));
        assert!(line.is_some_and(|line| line.contains("WARN")), "{said}");
    }
    let gap = |half, topic| json!({"half": half, "topic": topic, "partition": 0, "first": 4, "last": 9});
    let audit = world.assert_balanced();
    assert_eq!(audit["gaps"], json!([gap("batch", TOPIC), gap("stream", STREAM)]));
    assert!(world.ok(&["audit"]).contains(&format!("{TOPIC}/0 offsets 4 to 9")));
    let status = world.json(&["status"]);
    assert_eq!(status["topics"][TOPIC]["gaps"], json!([gap("batch", TOPIC)]));
    assert_eq!(status["streams"][STREAM]["gaps"], json!([gap("stream", STREAM)]));
    assert_eq!(
        (&status["topics"][TOPIC]["held"], &status["topics"][TOPIC]["unread"]),
        (&json!(5), &json!(0))
    );
    assert!(world.ok(&["status"]).contains(&format!("{STREAM}/0 offsets 4 to 9")));
    assert_eq!(world.sql("SELECT max(_offset) FROM user_all"), [[json!(10)]]);
}

/// What the archive holds is read once more from the log only where that still has it.
#[test]
fn the_archive_goes_on_where_it_ends_and_not_where_an_older_log_says() {
    let world = World::new();
    let (data, kept) = (world.data(), world.path("kept"));
    post(&world, 0..3, 3);
    copy(&data.join("log"), &kept);
    // One object that begins in what the older log holds, and ends behind it, is the hard case.
    let server = world.serve(&["--set", "archive.max-age=1h"]);
    block_on(async {
        for id in 3..8 {
            Client::new(&server.url).post(TOPIC, &[row(id)]).await.unwrap();
        }
    });
    server.stop();
    std::fs::remove_dir_all(data.join("log")).unwrap();
    copy(&kept, &data.join("log"));
    let words = world.path("words");
    let server = world.serve_with(&SERVE, |command| {
        command.stderr(File::create(&words).unwrap());
    });
    let posted = block_on(Client::new(&server.url).post(TOPIC, &[row(8)])).unwrap();
    assert_eq!(posted[0].1, 8);
    world.await_batch_rows("user", 9);
    server.stop();
    let said = std::fs::read_to_string(&words).unwrap();
    assert!(!said.contains("ERROR"), "{said}");
    let audit = world.assert_balanced_with(&["--deep"]);
    assert_eq!(audit["gaps"][0]["last"], json!(7));
    assert_eq!(audit["problems"], Value::Array(Vec::new()));
}
