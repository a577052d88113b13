//! Clients as they come: boto3 and the AWS command line, where this machine has them.
//!
//! `PINMILL_PYTHON` names the Python to use, else `python3`. A client that is missing is left out, and that is said.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pinmill_testkit::left_out;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::world::World;

fn python() -> PathBuf {
    std::env::var_os("PINMILL_PYTHON").unwrap_or_else(|| "python3".into()).into()
}

/// True where this machine's Python has a module.
async fn has_module(module: &str) -> bool {
    let mut command = Command::new(python());
    command.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// A command with credentials that nobody checks, for a service of a test.
fn client(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_PAGER", ""),
        ("NO_PROXY", "127.0.0.1"),
    ] {
        command.env(name, value);
    }
    command.kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// A Python program of this workspace that is to be run against a service.
fn boto3_program(program: &str, world: &World) -> Command {
    let mut command = client(python());
    command.arg(pinmill_testkit::workspace_root().join(program)).arg(format!("http://{}", world.address));
    command
}

/// Runs a Python program of this workspace against a service and returns what it prints.
async fn run_boto3(program: &str, world: &World) -> String {
    output(boto3_program(program, world)).await
}

/// How long a stream shows `CREATING` to a program that says itself when it is to settle, in milliseconds.
const SETTLING_MS: i64 = 60_000;

/// Runs one of the programs beside this file, which say at their end that they got there. Where one says `settle`, the
/// service's clock runs ahead, and the program is told so.
async fn run_beside(script: &str, world: &World) {
    run_beside_in("us-east-1", script, world).await;
}

async fn run_beside_in(region: &str, script: &str, world: &World) {
    let mut command = boto3_program(&format!("crates/kinesis/tests/api/{script}"), world);
    command.env("AWS_DEFAULT_REGION", region);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut answers = child.stdin.take().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = String::new();
    while let Some(line) = said.next_line().await.unwrap() {
        if line == "settle" {
            world.pass(SETTLING_MS);
            answers.write_all(b"\n").await.unwrap();
        }
        last = line;
    }
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(last, "done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomers_boto3_program_gets_each_record_back_once_over_a_split() {
    if !has_module("boto3").await {
        return left_out("this machine's Python has no boto3");
    }
    let world = World::with(|config| config.creation_delay = Duration::from_millis(300)).await;
    let said = run_boto3("testing/boto3/streams.py", &world).await;
    let counts: Value = serde_json::from_str(&said).unwrap();
    let expected = json!({
        "put": 10_000, "put_again": 0, "read": 10_000, "keys": 500, "shards": 4, "closed_shards": 1,
    });
    assert_eq!(counts, expected);
    assert!(world.kinesis.streams().is_empty());
}

/// With the limit of 1,000 records a second and shard, a part of the batches is refused and put again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomers_boto3_program_loses_nothing_to_a_busy_shard() {
    if !has_module("boto3").await {
        return left_out("this machine's Python has no boto3");
    }
    let world = World::with(|config| config.enforce_throughput = true).await;
    let said = run_boto3("testing/boto3/streams.py", &world).await;
    let counts: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&counts["put"], &counts["read"]), (&json!(10_000), &json!(10_000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_reads_pages_waits_tags_and_subscribes() {
    if !has_module("boto3").await {
        return left_out("this machine's Python has no boto3");
    }
    let settling = Duration::from_millis(SETTLING_MS.unsigned_abs());
    let world = World::with(|config| config.creation_delay = settling).await;
    run_beside("boto3_everything.py", &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_of_botocores_model_is_kept_and_reported() {
    // Another version has another model.
    if !has_module("botocore; assert botocore.__version__.startswith('1.44.')").await {
        return left_out("this machine's Python has no botocore 1.44");
    }
    let world = World::start().await;
    run_beside("boto3_model.py", &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_proves_who_it_is_and_a_wrong_secret_is_refused() {
    if !has_module("boto3").await {
        return left_out("this machine's Python has no boto3");
    }
    for (setting, region) in [("us-east-1", "us-east-1"), ("any", "eu-central-1"), ("any", "us-gov-west-1")] {
        let secret = pinmill_kinesis::Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let keys = std::collections::BTreeMap::from([("AKIDEXAMPLE".to_owned(), secret)]);
        let world = World::with(|config| {
            config.credentials = pinmill_kinesis::Credentials::Verify(keys);
            config.region = setting.to_owned();
        })
        .await;
        run_beside_in(region, "boto3_signed.py", &world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_aws_command_line_works_as_it_comes() {
    let beside_python = python().with_file_name("aws");
    let aws = if beside_python.is_file() { beside_python } else { PathBuf::from("aws") };
    let found =
        Command::new(&aws).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if !found.is_ok_and(|status| status.success()) {
        return left_out("this machine has no AWS command line");
    }
    let world = World::start().await;
    let url = format!("http://{}", world.address);
    let call = async |arguments: &[&str]| -> Value {
        let mut command = client(&aws);
        command.args(["--endpoint-url", &url, "--output", "json", "kinesis"]).args(arguments);
        let said = output(command).await;
        if said.trim().is_empty() { Value::Null } else { serde_json::from_str(&said).unwrap() }
    };
    assert_eq!(call(&["create-stream", "--stream-name", "s", "--shard-count", "2"]).await, Value::Null);
    assert_eq!(call(&["list-streams"]).await["StreamNames"], json!(["s"]));
    // Version 1 takes data as text, version 2 as base64; both as a file of bytes.
    let file = std::env::temp_dir().join(format!("pinmill-kinesis-{}.txt", std::process::id()));
    std::fs::write(&file, "from a shell").unwrap();
    let data = format!("fileb://{}", file.display());
    let put = call(&["put-record", "--stream-name", "s", "--partition-key", "k", "--data", &data]).await;
    std::fs::remove_file(&file).unwrap();
    let shard = put["ShardId"].as_str().unwrap();
    let iterator = call(&[
        "get-shard-iterator",
        "--stream-name",
        "s",
        "--shard-id",
        shard,
        "--shard-iterator-type",
        "TRIM_HORIZON",
    ])
    .await;
    let read = call(&["get-records", "--shard-iterator", iterator["ShardIterator"].as_str().unwrap()]).await;
    assert_eq!(crate::world::data(&read["Records"][0]), "from a shell");
    assert_eq!(read["Records"][0]["SequenceNumber"], put["SequenceNumber"]);
    let described = call(&["describe-stream", "--stream-name", "s"]).await;
    assert_eq!(described["StreamDescription"]["Shards"].as_array().unwrap().len(), 2);
    assert_eq!(call(&["delete-stream", "--stream-name", "s"]).await, Value::Null);
}

/// Maven fetches the SDK once; without a network and without a copy of it the test is left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_java_client_speaks_cbor_over_http_2_and_subscribes() {
    let project = pinmill_testkit::workspace_root().join("testing/java-kinesis");
    let maven = |arguments: &[&str]| {
        let mut command = Command::new("mvn");
        command.current_dir(&project).args(["-B", "-q"]).args(arguments).kill_on_drop(true);
        command
    };
    match maven(&["compile"]).output().await {
        Err(_) => return left_out("this machine has no Maven"),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(!said.contains("COMPILATION ERROR"), "{said}");
            return left_out("Maven cannot fetch the AWS SDK for Java, or there is no JDK 17");
        }
        Ok(_) => {}
    }
    let world = World::start().await;
    let url = format!("-Dexec.args=http://{}", world.address);
    let said = output(maven(&["exec:java", &url])).await;
    assert!(said.contains("done"), "{said}");
    assert!(world.kinesis.streams().is_empty());
}
