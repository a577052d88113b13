//! A stream of nothing but bad records: what there is to see of it.

use serde_json::json;

use crate::data::user;
use crate::metrics::metric;
use crate::stream_load::{STREAM, put_users};
use crate::world::{Client, World, await_some, block_on};

#[test]
fn nothing_but_bad_records_is_told_by_status_and_metrics_and_does_not_stop_or_spin_the_loader() {
    const BAD: u64 = 30;
    let world = World::new();
    let server = world.serve(&["--batch-every", "off", "--commit-every", "50ms"]);
    let client = Client::new(&server.url);
    // Every seventh user cannot be cleaned.
    block_on(put_users(&client, (1..=BAD).map(|n| 7 * n)));
    let count = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        metric(&server.url, "pinmill_stream_records_total", &["dataset=\"user\"", &outcome])
    };
    await_some("a count of bad records", || count("quarantined").filter(|n| *n == BAD as f64));
    assert_eq!(count("clean"), Some(0.0));
    assert_eq!(metric(&server.url, "pinmill_stream_stopped", &["dataset=\"user\""]), Some(0.0));
    let table = world.stream_table("user").unwrap();
    let told = [&table["rows"], &table["quarantined"], &table["lag"]];
    assert_eq!(told, [&json!(0), &json!(BAD), &json!(0)], "{table:#}");

    block_on(client.put(STREAM, "key-1", &user(1))).unwrap();
    world.await_rows("user", 1);
    server.stop();
    assert_eq!(world.quarantined("stream").len() as u64, BAD);
    // Each commit has taken a record at least: none was made for records that had been put aside before.
    let version = world.stream_table("user").unwrap()["version"].as_u64().unwrap();
    assert!(version <= BAD + 1, "{version} versions");
    world.assert_balanced();
}
