//! A server one of whose parts cannot work: it takes posts all the same, says which part and why, goes on by itself when
//! the cause is gone, and loses nothing.

use std::process::Command;

use serde_json::{Value, json};

use crate::data::user;
use crate::full_disk::small_disk;
use crate::metrics::{metric, part, readyz};
use crate::stream_load::STREAM;
use crate::world::{Client, Server, World, await_some, block_on};

const TOPIC: &str = "load.user";
const QUICK: &[&str] = &["--batch-every", "100ms", "--commit-every", "50ms"];

/// What a server says while one of its parts cannot work.
const TROUBLE: &[&str] = &[
    "archiving failed",
    "failed, retrying in",
    "the batch half failed",
    "was not cleaned",
    "were not cleaned",
    "could not be compared with the lake",
    "leftovers of killed processes were not removed",
    "new shards may lose records to retention",
    "tidying failed",
    "no checkpoint of the table's log",
];

/// A world whose servers may say that they are in trouble.
fn troubled() -> World {
    World::new().expecting(TROUBLE)
}

/// Posts a row to both halves; it must be accepted. Multiples of 7 cannot be cleaned, so its id is not one.
fn post(server: &Server, n: u64) {
    let client = Client::new(&server.url);
    let row = user(7 * n + 1);
    block_on(client.put(STREAM, "k", &row)).unwrap();
    block_on(client.post(TOPIC, &[row])).unwrap();
}

/// Waits until `/readyz` names a part that does not work, and why.
fn await_broken(server: &Server, name: &str, why: &str) {
    await_some(&format!("{name} does not work"), || {
        let (status, ready) = readyz(&server.url, "");
        let is_named = ready["message"].as_str().is_some_and(|message| message.contains(name));
        let error = part(&ready, name)["last_error"].as_str().unwrap_or_default();
        (status == 503 && is_named && error.contains(why)).then_some(())
    });
    assert_eq!(readyz(&server.url, "?part=gateway").0, 200);
    assert_eq!(readyz(&server.url, &format!("?part={name}")).0, 503);
}

fn await_ready(server: &Server) {
    await_some("readiness", || (readyz(&server.url, "").0 == 200).then_some(()));
}

/// What `status` says of the server, whether it can look at the tables or not.
fn status(world: &World) -> Value {
    let output = world.output(&["status", "--format", "json"]);
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["server"].take()
}

/// Ends the server, and every row is in both halves, once.
fn assert_whole(world: &World, server: Server, rows: u64) {
    world.await_rows("user", rows);
    server.stop();
    world.ok(&["clean"]);
    world.assert_balanced_with(&["--same-rows"]);
    assert_eq!(world.sql("SELECT count(*) FROM user_all"), [[json!(rows)]]);
}

#[test]
fn a_server_starts_while_its_lake_is_out_of_reach_and_loads_when_it_is_there() {
    let world = troubled();
    std::fs::create_dir(world.data()).unwrap();
    let lake = world.data().join("lake");
    std::fs::write(&lake, "in the way").unwrap();
    let server = world.serve(QUICK);
    post(&server, 1);
    for name in ["stream/user", "stream/pin", "archive"] {
        await_broken(&server, name, "lake");
    }
    let said = status(&world);
    assert_eq!((&said["status"], &said["url"]), (&json!("not ready"), &json!(server.url)));
    assert!(part(&said, "stream/user")["restarts"].as_u64() > Some(0), "{said:#}");
    let of_user = &["loop=\"stream/user\""];
    assert!(metric(&server.url, "pinmill_loop_restarts_total", of_user) > Some(0.0));

    std::fs::remove_file(&lake).unwrap();
    await_ready(&server);
    assert_eq!(status(&world)["status"], json!("ready"));
    assert_eq!(metric(&server.url, "pinmill_loop_working", of_user), Some(1.0));
    post(&server, 2);
    assert_whole(&world, server, 2);
    assert_eq!(status(&world), Value::Null, "no server is running any more");
}

#[test]
fn a_server_that_is_stopped_while_its_lake_is_out_of_reach_ends_with_1_and_loses_nothing() {
    let world =
        troubled().expecting(&["stopped; fix the cause", "stopped before everything was done", "error: "]);
    std::fs::create_dir(world.data()).unwrap();
    let lake = world.data().join("lake");
    std::fs::write(&lake, "in the way").unwrap();
    let server = world.serve(QUICK);
    post(&server, 1);
    await_broken(&server, "stream/user", "lake");
    assert_eq!(server.stop_with_code(), Some(1));
    std::fs::remove_file(&lake).unwrap();
    let server = world.serve(QUICK);
    assert_whole(&world, server, 1);
}

/// Root may write everywhere but where nobody may.
#[test]
fn a_server_whose_lake_may_not_be_written_goes_on_when_it_may() {
    let world = troubled();
    let place = world.path("lake");
    let world = world.with(&["--lake", place.to_str().unwrap()]);
    let Some(disk) = small_disk(&place) else { return };
    let remount = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(&place);
        assert!(mount.status().unwrap().success());
    };
    remount("ro");
    let server = world.serve(QUICK);
    post(&server, 1);
    await_broken(&server, "stream/user", "Read-only");
    await_broken(&server, "archive", "Read-only");
    remount("rw");
    await_ready(&server);
    post(&server, 2);
    assert_whole(&world, server, 2);
    drop(disk);
}

#[test]
fn a_server_whose_lake_is_on_a_full_disk_goes_on_when_there_is_room() {
    let world = troubled();
    let place = world.path("lake");
    let world = world.with(&["--lake", place.to_str().unwrap()]);
    let Some(disk) = small_disk(&place) else { return };
    let server = world.serve(QUICK);
    await_ready(&server);
    disk.fill();
    post(&server, 1);
    await_broken(&server, "stream/user", "No space left");
    await_broken(&server, "archive", "No space left");
    disk.free();
    await_ready(&server);
    post(&server, 2);
    assert_whole(&world, server, 2);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_server_whose_store_fails_for_a_while_goes_on_when_it_does_not() {
    let world = troubled();
    let faults = world.path("faults");
    let server = world.serve_with(QUICK, |command| {
        command.env("PINMILL_STORE_FAULTS", &faults);
    });
    post(&server, 1);
    await_ready(&server);
    std::fs::write(&faults, "refused").unwrap();
    post(&server, 2);
    await_broken(&server, "stream/user", "was to fail");
    await_broken(&server, "archive", "was to fail");
    await_broken(&server, "batch", "was to fail");
    assert_eq!(status(&world)["status"], json!("not ready"));
    std::fs::remove_file(&faults).unwrap();
    await_ready(&server);
    assert_whole(&world, server, 2);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_store_that_does_not_answer_holds_up_the_end_no_longer_than_the_drain_timeout() {
    let world = troubled();
    let (faults, words) = (world.path("faults"), world.path("words"));
    let said = std::fs::File::create(&words).unwrap();
    let args = [QUICK, &["--set", "gateway.drain-timeout=2s"]].concat();
    let server = world.serve_with(&args, |command| {
        command.env("PINMILL_STORE_FAULTS", &faults).stderr(said);
    });
    await_ready(&server);
    std::fs::write(&faults, "hangs").unwrap();
    post(&server, 1);
    // It would be for ever.
    assert_eq!(server.stop_with_code(), Some(1));
    let words = std::fs::read_to_string(words).unwrap();
    for expected in ["stream/user", "archive", "gateway.drain-timeout", "nothing is lost"] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    std::fs::remove_file(&faults).unwrap();
    let server = world.serve(QUICK);
    assert_whole(&world, server, 1);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_panic_in_one_loop_touches_no_other_and_the_loop_begins_again() {
    let world = troubled();
    let words = world.path("words");
    let said = std::fs::File::create(&words).unwrap();
    let args = ["--batch-every", "off", "--commit-every", "50ms"];
    let server = world.serve_with(&args, |command| {
        command.env("PINMILL_PANIC_AT", "flow::load::files_written").stderr(said);
    });
    post(&server, 1);
    world.await_rows("user", 1);
    await_ready(&server);
    let ready = readyz(&server.url, "").1;
    let of_user = part(&ready, "stream/user");
    assert_eq!(of_user["restarts"], json!(1));
    assert!(of_user["last_error"].as_str().unwrap().contains("asked for"), "{of_user}");
    for other in ["stream/pin", "stream/geo", "archive", "tidy"] {
        assert_eq!(part(&ready, other)["restarts"], json!(0), "{ready:#}");
    }
    assert_eq!(metric(&server.url, "pinmill_loop_restarts_total", &["loop=\"stream/user\""]), Some(1.0));
    assert_eq!(part(&status(&world), "stream/user")["restarts"], json!(1));
    let words = std::fs::read_to_string(words).unwrap();
    assert!(words.contains("panicked") && words.contains("asked for"), "{words}");
    post(&server, 2);
    assert_whole(&world, server, 2);
}
