//! A stderr that takes nothing: its reader is gone, or does not read, or its disk is full. Nothing else changes.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::data::user;
use crate::metrics::metric;
use crate::world::{Client, World, await_some, block_on};

/// Every request says something.
fn talkative(command: &mut Command) {
    command.env("PINMILL_LOG", "trace");
}

/// A server with such a stderr takes posts, counts what was dropped, and ends well.
fn assert_serves(change: impl FnOnce(&mut Command)) {
    let world = World::new();
    let server = world.serve_with(&["--batch-every", "100ms", "--commit-every", "50ms"], |command| {
        talkative(command);
        change(command);
    });
    let client = Client::new(&server.url);
    for id in 1..=20 {
        block_on(client.put("streaming-user", "k", &user(7 * id + 1))).unwrap();
        block_on(client.post("user", &[user(7 * id + 1)])).unwrap();
    }
    await_some("dropped lines in the metrics", || {
        metric(&server.url, "pinmill_log_lines_dropped_total", &[]).filter(|dropped| *dropped > 0.0)
    });
    server.stop();
    world.ok(&["clean"]);
    world.assert_balanced();
    assert_eq!(world.sql("SELECT count(*) FROM user_all"), [[json!(20)]]);
}

#[test]
fn a_server_whose_stderr_has_no_reader_any_more_goes_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_serves(|command| {
        command.stderr(writer);
    });
}

#[test]
fn a_server_whose_stderr_nobody_reads_goes_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    assert_serves(|command| {
        command.stderr(writer);
    });
    drop(reader);
}

#[test]
fn a_server_whose_log_file_is_on_a_full_disk_goes_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_serves(|command| {
        command.stderr(full);
    });
}

#[test]
fn a_run_whose_stderr_has_no_reader_any_more_gives_its_answers() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = world.command(&["run", "--posts", "50", "--seed", "7", "--format", "json"]);
    talkative(&mut command);
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["audit"]["balanced"], json!(true));
}

#[test]
fn a_command_that_is_refused_ends_with_its_code_whoever_hears_of_it() {
    let world = World::new();
    for (args, code) in
        [(&["serve", "--no-such-flag"][..], 2), (&["audit"], 1), (&["run", "--set", "x=y"], 78)]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = world.command(args).stdin(Stdio::null()).stderr(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
}
