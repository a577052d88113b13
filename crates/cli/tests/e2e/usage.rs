//! Exit codes, words, and the conventions that scripts rely on.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pinmill_testkit::KillOnDrop;
use serde_json::json;

use crate::data::{TABLES, row};
use crate::world::{Client, World, await_some, block_on, pinmill, write};

/// What standard error says of a command that must fail with this exit code, and make no data folder.
fn refusal_without_a_folder(args: &[&str], code: i32) -> String {
    let world = World::new();
    let output = world.output(args);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
    assert!(!world.data().exists(), "{args:?} made a data folder");
    words
}

#[test]
fn an_unknown_setting_ends_with_78_and_a_suggestion() {
    let world = World::new();
    write(&world.path("pinmill.toml"), "batch-evry = \"5s\"\n");
    let output = world.output(&["config", "show"]);
    assert_eq!(output.status.code(), Some(78));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("pinmill.toml: line 1") && words.contains("did you mean `batch-every`?"),
        "{words}"
    );
}

#[test]
fn config_show_origin_says_where_each_value_came_from() {
    let world = World::new();
    write(&world.path("pinmill.toml"), "[archive]\nmax-records = 7\n");
    let mut command = world.command(&["config", "show", "--origin", "--format", "json"]);
    let output = command.env("PINMILL_BATCH_EVERY", "9s").output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row =
        |name: &str| document["rows"].as_array().unwrap().iter().find(|row| row[0] == name).unwrap().clone();
    assert_eq!(row("archive.max-records"), json!(["archive.max-records", "7", "file pinmill.toml"]));
    assert_eq!(row("batch-every"), json!(["batch-every", "9s", "environment PINMILL_BATCH_EVERY"]));
    assert_eq!(row("data")[2], json!("flag"));
    assert_eq!(row("durability"), json!(["durability", "fsync", "default"]));
}

#[test]
fn a_second_process_on_the_same_data_is_refused_with_words_that_help() {
    let world = World::new();
    let server = world.serve(&["--batch-every", "off"]);
    let output = world.output(&["run", "--posts", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("another process") && words.contains("log"), "{words}");
    server.stop();
}

#[test]
fn audit_and_status_work_beside_a_running_server() {
    let world = World::new();
    let server = world.serve(&["--batch-every", "off"]);
    let status = world.json(&["status"]);
    assert_eq!(
        (&status["topics"], &status["streams"], &status["tables"]),
        (&json!({}), &json!({}), &json!([]))
    );
    let audit = world.json(&["audit", "--allow-pending"]);
    assert_eq!(audit["balanced"], json!(true));
    server.stop();
}

#[test]
fn a_put_to_a_server_without_streams_is_an_error_and_no_silence() {
    let world = World::new();
    let server = world.serve(&["--batch-every", "off", "--streams", "off"]);
    let put = json!({"StreamName": "a", "Data": "YQ==", "PartitionKey": "k"});
    let error = block_on(Client::new(&server.url).kinesis("PutRecord", &put)).unwrap_err();
    assert!(error.starts_with("400") && error.contains("UnknownOperationException"), "{error}");
    assert!(error.contains("--streams off"), "{error}");
    server.stop();
}

/// In a folder that they would make themselves all would be well.
#[test]
fn commands_that_look_at_data_refuse_a_folder_that_is_not_there_and_make_none() {
    let world = World::new();
    let refused = |args: &[&str], words: &str| {
        let output = world.output(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(words) && said.contains("hint: "), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    };
    for args in [
        &["audit"][..],
        &["answer"],
        &["clean"],
        &["clean", "--from", "stream"],
        &["quarantine", "list"],
        &["quarantine", "replay"],
        &["quarantine", "show", "t", "0", "0"],
        &["sql", "SELECT 1"],
        &["status"],
        &["tables", "compact"],
        &["tables", "history", "batch/pin"],
        &["tables", "vacuum"],
        &["tail", "x"],
    ] {
        refused(args, "no data folder");
        assert!(!world.data().exists(), "{args:?}");
    }
    let typo = world.path("typo");
    refused(&["clean", "--archive", typo.to_str().unwrap()], "no archive at");
    assert!(!typo.exists() && !world.data().exists());

    std::fs::create_dir(world.data()).unwrap();
    for args in [&["audit"][..], &["clean"], &["status"]] {
        refused(args, "no lake at");
    }
    refused(&["clean", "--from", "stream"], "no streams");
    assert_eq!(std::fs::read_dir(world.data()).unwrap().count(), 0, "a folder of somebody else's");
}

#[test]
fn an_archive_without_topics_is_told() {
    let world = World::new();
    let empty = world.path("empty");
    write(&empty.join("other/a.json"), "{}");
    for command in ["clean", "audit"] {
        let output = world.output(&[command, "--archive", empty.to_str().unwrap()]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words}");
        assert!(words.contains("no topic is in") && words.contains("`topics/`"), "{words}");
    }
}

/// `accepted = clean + quarantined` was said of records that are in no table.
#[test]
fn records_that_no_dataset_takes_are_told_once_by_the_server_and_named_by_the_audit() {
    let world = World::new();
    let words = world.path("words");
    let server = world.serve_telling(&["--batch-every", "50ms", "--set", "archive.max-age=10ms"], &words);
    let said = || std::fs::read_to_string(&words).unwrap();
    let client = Client::new(&server.url);
    block_on(async {
        client.post("124dpin", &[json!({"index": 1}), json!({"index": 2})]).await.unwrap();
        client.put("talk", "k", &json!({"n": 1})).await.unwrap();
    });
    for name in ["topic `124dpin`", "stream `talk`"] {
        await_some(name, || said().contains(name).then_some(()));
    }
    for id in 1..3 {
        block_on(client.post("a.geo", &[row("geo", id)])).unwrap();
        await_some("a round of the batch half", || {
            let status = world.json(&["status"]);
            let tables = status["tables"].as_array().unwrap().clone();
            tables.into_iter().find(|table| {
                (&table["half"], &table["dataset"], &table["rows"])
                    == (&json!("batch"), &json!("geo"), &json!(id))
            })
        });
    }
    server.stop();
    let said = said();
    assert_eq!(said.matches("124dpin").count(), 1, "{said}");
    assert!(said.contains("*.pin") && said.contains("*-pin"), "{said}");

    world.ok(&["clean"]);
    let text = world.ok(&["audit"]);
    assert!(text.contains("balanced") && text.contains("but for 3 records that no dataset takes"), "{text}");
    assert!(text.ends_with(": 124dpin, talk\n"), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    let mut child =
        world.command(&["config", "show"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn listening_beyond_loopback_needs_a_flag_that_says_so() {
    let words = refusal_without_a_folder(&["serve", "--listen", "0.0.0.0:0"], 78);
    assert!(words.contains("--allow-unauthenticated-remote") && words.contains("`listen`"), "{words}");
}

#[test]
fn the_server_may_be_told_to_listen_on_a_name() {
    let world = World::new();
    let mut serve = world.command(&["serve", "--listen", "localhost:0", "-q"]);
    let mut server = KillOnDrop::spawn_piped(&mut serve).unwrap();
    let url = server.read_line().unwrap();
    assert!(["http://127.0.0.1:", "http://[::1]:"].iter().any(|start| url.starts_with(start)), "{url}");
}

#[test]
fn settings_that_cannot_be_used_are_refused_by_their_own_names() {
    for (key, value) in [
        ("gateway.max-json-depth", "0"),
        ("gateway.max-connections", "0"),
        ("gateway.default-partitions", "0"),
        ("kinesis.account-id", "abc"),
        ("lake", "s3://bucket/lake"),
        ("engine.memory", "1"),
    ] {
        let words = refusal_without_a_folder(&["run", "--set", &format!("{key}={value}")], 78);
        assert!(words.contains(key), "{key}: {words}");
    }
}

#[test]
fn what_cannot_be_done_leaves_no_folder_behind() {
    for command in ["run", "emulate"] {
        let words = refusal_without_a_folder(&[command, "--connections", "0"], 2);
        assert!(words.contains("--connections"), "{words}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = refusal_without_a_folder(&["serve", "--listen", &address], 1);
    assert!(words.contains(&address) && words.contains("--listen"), "{words}");
    let output = pinmill().args(["status", "--data", ""]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("setting `data`"));
}

#[test]
fn variables_of_others_may_hold_any_bytes_and_a_stray_one_gets_a_suggestion() {
    let world = World::new();
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    let mut command = world.command(&["config", "show"]);
    let output = command.env("OTHER", bytes).env(bytes, "x").env("PINMILL_LISTN", "a:1").output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("PINMILL_LISTN") && words.contains("did you mean `PINMILL_LISTEN`?"), "{words}");
    let output = world.command(&["config", "show"]).env("PINMILL_LAKE", bytes).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(words.contains("`lake`") && words.contains("PINMILL_LAKE is not valid UTF-8"), "{words}");
}

#[test]
fn an_emulator_that_reaches_nobody_says_why_at_its_first_try() {
    let world = World::new();
    let (_nobody, address) = pinmill_testkit::nobody();
    let (summary, words) = (world.path("summary"), world.path("words"));
    let url = format!("http://{address}");
    let mut emulate = world.command(&["emulate", "--url", &url, "--posts", "1", "--pace", "max"]);
    emulate.stdout(File::create(&summary).unwrap()).stderr(File::create(&words).unwrap());
    let _emulate = KillOnDrop::spawn(&mut emulate).unwrap();
    let words = await_some("the reason", || {
        let words = std::fs::read_to_string(&words).unwrap();
        words.contains("Connection refused").then_some(words)
    });
    assert!(std::fs::read(&summary).unwrap().is_empty(), "it was told at the end only: {words}");
    assert!(words.contains(&url), "{words}");
}

#[test]
fn completions_and_help_name_every_command() {
    let help = pinmill().arg("--help").output().unwrap();
    let bash = pinmill().args(["completions", "bash"]).output().unwrap();
    for command in [
        "run",
        "serve",
        "emulate",
        "clean",
        "answer",
        "sql",
        "audit",
        "status",
        "quarantine",
        "log",
        "init",
        "validate",
        "test",
        "config",
    ] {
        assert!(String::from_utf8_lossy(&help.stdout).contains(command), "{command}");
        assert!(String::from_utf8_lossy(&bash.stdout).contains(command), "{command}");
    }
}

#[test]
fn help_says_what_is_so() {
    for (command, words) in [
        ("tail", "[default: ndjson]"),
        ("answer", "instead of stdout"),
        ("emulate", "--features databases"),
        ("run", "one of user"),
    ] {
        let help = pinmill().args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let line = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(line.contains(words), "{command}: {help}");
    }
}

#[test]
fn log_verify_passes_on_a_sound_log_and_names_the_place_of_a_broken_one() {
    let world = World::new();
    world.ok(&["run", "--posts", "40"]);
    let sound = world.json(&["log", "verify"]);
    assert_eq!(sound["records"], json!(120), "three topics with 40 posts each");
    assert!(sound["positions"].as_u64().unwrap() >= 3, "the archiver's: {sound}");
    let segment = walk(&world.data().join("log/topics/pin"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = world.output(&["log", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    assert!(words.contains(segment.to_str().unwrap()), "{}: {words}", segment.display());
    let copy = world.path("repaired");
    let repaired = world.json(&["log", "repair", "--to", copy.to_str().unwrap()]);
    assert!(repaired["records"].as_u64().unwrap() < 120, "{repaired}");
    assert_eq!(repaired["positions"], sound["positions"]);
    assert!(copy.is_dir());
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn an_emulation_draws_from_the_rows_there_are_and_is_no_success_where_it_posts_nothing() {
    let world = World::new();
    let (rows, empty) = (world.path("rows"), world.path("empty"));
    for table in TABLES {
        write(&rows.join(format!("{table}.jsonl")), format!("{}\n{}\n", row(table, 8), row(table, 9)));
        write(&empty.join(format!("{table}.jsonl")), "");
    }
    write(&world.path("ids"), "99\n");
    let server = world.serve(&["--batch-every", "off"]);
    let source = |folder: &std::path::Path| format!("jsonl:{}", folder.display());
    let (few, none) = (source(&rows), source(&empty));
    let (few, none) = (few.as_str(), none.as_str());
    let emulate = ["emulate", "--url", &server.url, "--pace", "max", "--source"];
    let summary = world.json(&[&emulate[..], &[few, "--posts", "5"]].concat());
    assert_eq!(summary["summary"]["acknowledged"], json!(15), "{summary}");
    for args in [[few, "--ids", "ids"], [none, "--posts", "5"]] {
        let output = world.output(&[&emulate[..], &args].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("nothing was posted"), "{args:?}");
    }
    server.stop();
}
