//! The reference system's own client: Python, `requests`, one post a table, `.json()` on every answer, no retries.

use std::process::Command;

use serde_json::json;

use crate::world::World;

const SCRIPT: &str = include_str!("reference_client.py");

#[test]
fn the_reference_script_posts_without_an_error_and_every_record_arrives() {
    let Some(python) = pinmill_testkit::python() else { return };
    let world = World::new();
    let server = world.serve(&["--batch-every", "200ms"]);
    let output = Command::new(python)
        .args(["-c", SCRIPT, &format!("{}/test/topics/124df56aef51.", server.url), "3"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let posted: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(posted > 0, "nothing was posted in three seconds");
    server.stop();
    world.ok(&["clean"]);
    let audit = world.assert_balanced();
    for table in ["pin", "geo", "user"] {
        let topic = &audit["topics"][format!("124df56aef51.{table}")];
        assert_eq!(topic["accepted"], json!(posted), "{topic}");
        assert_eq!(topic["clean"], json!(posted), "{topic}");
    }
}
