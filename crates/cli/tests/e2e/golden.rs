//! The golden answers, over HTTP, with and without a kill -9 in the middle.

use serde_json::Value;

use crate::data::{TABLES, assert_answers, by_id, golden, rows};
use crate::world::{Client, World, block_on};

/// Topics as the reference names them.
fn topic(table: &str) -> String {
    format!("124df56aef51.{table}")
}

/// Posts everything in order, killing and restarting the server once in the middle when asked.
fn post_all(world: &World, posts: &[(String, Value)], kill: bool) {
    let server = world.serve(&["--batch-every", "300ms", "--set", "archive.max-age=200ms"]);
    let half = if kill { posts.len() / 2 } else { posts.len() };
    let client = Client::new(&server.url);
    let mut left = Vec::new();
    for table in TABLES {
        left.extend(post_in_order(&client, posts.iter().take(half), &topic(table)));
    }
    assert!(left.is_empty(), "{} posts failed", left.len());
    if !kill {
        server.stop();
        return;
    }
    // The second half is posted to a server that dies at some point of it; what was not acknowledged is posted again.
    let second: Vec<(String, Value)> = posts.iter().skip(half).cloned().collect();
    let unacknowledged = std::thread::scope(|scope| {
        let posting = scope.spawn(|| {
            TABLES
                .iter()
                .flat_map(|table| {
                    post_in_order(&client, second.iter(), &topic(table))
                        .into_iter()
                        .map(|value| (topic(table), value))
                        .collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        });
        std::thread::sleep(std::time::Duration::from_millis(150));
        server.kill();
        posting.join().unwrap()
    });
    let server = world.serve(&["--batch-every", "300ms"]);
    let client = Client::new(&server.url);
    for table in TABLES {
        let failed = post_in_order(&client, unacknowledged.iter(), &topic(table));
        assert!(failed.is_empty(), "{} posts failed after the restart", failed.len());
    }
    server.stop();
}

/// Posts the values of one topic in their order, fifty a request, and gives back those that were not acknowledged.
fn post_in_order<'a>(
    client: &Client,
    posts: impl Iterator<Item = &'a (String, Value)>,
    topic: &str,
) -> Vec<Value> {
    let values: Vec<Value> =
        posts.filter(|(name, _)| name == topic).map(|(_, value)| value.clone()).collect();
    block_on(async {
        let mut failed = Vec::new();
        for chunk in values.chunks(50) {
            if client.post(topic, chunk).await.is_err() {
                failed.extend_from_slice(chunk);
            }
        }
        failed
    })
}

fn check(posts: &[(String, Value)], golden: &Value, kill: bool) {
    let world = World::new();
    post_all(&world, posts, kill);
    world.ok(&["clean"]);
    assert_answers(&world.json(&["answer"]), golden);
    world.assert_balanced();
}

fn sample(shared: &std::path::Path) -> Vec<(String, Value)> {
    TABLES
        .iter()
        .flat_map(|table| rows(shared, table).into_iter().map(move |(_, row)| (topic(table), row)))
        .collect()
}

fn draws(shared: &std::path::Path) -> Vec<(String, Value)> {
    let ids: Vec<i64> = serde_json::from_value(golden(shared, "first_1008_draws.ids.json")).unwrap();
    let tables: Vec<_> = TABLES.iter().map(|table| (topic(table), by_id(shared, table))).collect();
    ids.iter().flat_map(|id| tables.iter().map(|(topic, rows)| (topic.clone(), rows[id].clone()))).collect()
}

#[test]
fn the_real_rows_posted_over_http_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&sample(&shared), &golden(&shared, "sample.json"), false);
}

#[test]
fn the_real_rows_give_the_golden_answers_after_kill_9_in_the_middle() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&sample(&shared), &golden(&shared, "sample.json"), true);
}

#[test]
fn the_1008_draws_posted_over_http_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&draws(&shared), &golden(&shared, "first_1008_draws.json"), false);
}

#[test]
fn the_1008_draws_give_the_golden_answers_after_kill_9_in_the_middle() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&draws(&shared), &golden(&shared, "first_1008_draws.json"), true);
}
