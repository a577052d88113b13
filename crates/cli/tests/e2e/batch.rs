//! The batch half of a running server.

use serde_json::{Value, json};

use crate::data::row;
use crate::world::{Client, World, await_some, block_on, write};

/// Another program's object stands where the archiver is to put its first one of a topic.
#[test]
fn a_topic_that_cannot_be_archived_does_not_keep_the_others_from_being_cleaned_and_answered() {
    let world = World::new().expecting(&["archiving failed", "the batch half failed"]);
    let lake = world.data().join("lake");
    let obstacle = "topics/bad.user/partition=0/bad.user+0+0000000000.json";
    write(&lake.join(obstacle), "{\"something\":\"else\"}\n");
    let server = world.serve(&["--batch-every", "50ms", "-qq"]);
    block_on(async {
        let client = Client::new(&server.url);
        client.post("bad.user", &[row("user", 1)]).await.unwrap();
        client.post("good.pin", &[row("pin", 2)]).await.unwrap();
    });
    await_some("a row in batch/pin", || {
        let status = world.json(&["status"]);
        let mut tables = status["tables"].as_array().unwrap().iter();
        let is_pin = |table: &&Value| table["half"] == json!("batch") && table["dataset"] == json!("pin");
        tables.find(is_pin).filter(|table| table["rows"] == json!(1)).cloned()
    });
    await_some("answers", || Some(lake.join("answers")).filter(|answers| answers.is_dir()));
    // A stop would end with the error of what is still not archived.
    server.kill();
}
