//! Topics by any name, as a user posts to them.

use serde_json::json;

use crate::data::user;
use crate::world::{Client, World, block_on};

#[test]
fn a_topic_is_cleaned_whatever_it_is_called_or_refused_at_the_post() {
    let world = World::new();
    let server = world.serve(&["--batch-every", "off"]);
    let client = Client::new(&server.url);
    let longest = format!("{}.user", "x".repeat(183));
    for topic in ["_x.user", ".user", "a.b-c_d.user", &longest] {
        block_on(client.post(topic, &[user(1), user(2)])).unwrap();
    }
    for length in [189, 221, 249] {
        let refused = block_on(client.post(&format!("{}.user", "x".repeat(length - 5)), &[user(1)]));
        assert!(refused.as_ref().is_err_and(|words| words.contains("188")), "{length}: {refused:?}");
    }
    server.stop();
    world.ok(&["clean"]);
    world.assert_balanced();
    assert_eq!(world.sql("SELECT count(*) FROM user_all"), [[json!(8)]]);
}
