//! Clients as they come: the reference system's own (Python, `requests`, `.json()` on every answer, no retries), and a
//! newcomer's first boto3 program.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::World;

const SCRIPT: &str = include_str!("reference_client.py");

#[test]
fn the_reference_scripts_post_without_an_error_and_every_record_arrives_in_both_halves() {
    let Some(python) = pinmill_testkit::python() else { return };
    let world = World::new();
    let server = world.serve(&["--batch-every", "200ms", "--commit-every", "100ms"]);
    let topics = format!("{}/test/topics/124df56aef51.", server.url);
    let streams = format!("{}/test/streams/streaming-124df56aef51-", server.url);
    let output = Command::new(python).args(["-c", SCRIPT, &topics, &streams, "3"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let posted: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(posted > 0, "nothing was posted in three seconds");
    server.stop();
    world.ok(&["clean"]);
    let audit = world.assert_balanced_with(&["--same-rows"]);
    for table in ["pin", "geo", "user"] {
        let topic = &audit["topics"][format!("124df56aef51.{table}")];
        let stream = &audit["streams"][format!("streaming-124df56aef51-{table}")];
        for half in [topic, stream] {
            assert_eq!((&half["accepted"], &half["clean"]), (&json!(posted), &json!(posted)), "{half}");
        }
    }
}

/// The Python of the other clients where there is one, else this machine's own.
fn any_python() -> PathBuf {
    std::env::var_os("PINMILL_PYTHON").unwrap_or_else(|| "python3".into()).into()
}

fn has_boto3() -> bool {
    let mut command = Command::new(any_python());
    command.args(["-c", "import boto3"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_newcomers_boto3_program_gets_each_record_back_once_from_serve() {
    if !has_boto3() {
        return pinmill_testkit::left_out("this machine's Python has no boto3");
    }
    let world = World::new().expecting(&["no dataset takes stream `first-"]);
    let server = world.serve(&["--batch-every", "off"]);
    let mut program = Command::new(any_python());
    program.arg(pinmill_testkit::workspace_root().join("testing/boto3/streams.py")).arg(&server.url);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("NO_PROXY", "127.0.0.1"),
    ] {
        program.env(name, value);
    }
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&counts["put"], &counts["read"]), (&json!(10_000), &json!(10_000)), "{counts}");
    server.stop();
    world.assert_balanced();
}
