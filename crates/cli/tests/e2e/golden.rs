//! The golden answers, over HTTP, with and without a kill -9 in the middle, from the tables of either half.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use serde_json::Value;

use crate::data::{TABLES, assert_answers, by_id, golden, rows};
use crate::world::{Client, World, block_on};

/// A row to be posted, and the short name of its table.
type Post = (&'static str, Value);

/// Where rows are posted, and from whose tables the answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To topics, fifty a request.
    Topics,
    /// To streams, one a request.
    Record,
    /// To streams, fifty a request.
    Records,
}

impl Way {
    /// Topics and streams as the reference names them.
    fn name(self, table: &str) -> String {
        match self {
            Self::Topics => format!("124df56aef51.{table}"),
            Self::Record | Self::Records => format!("streaming-124df56aef51-{table}"),
        }
    }

    fn serve(self) -> &'static [&'static str] {
        match self {
            Self::Topics => &["--batch-every", "300ms", "--set", "archive.max-age=200ms"],
            Self::Record | Self::Records => &["--batch-every", "off", "--commit-every", "200ms"],
        }
    }

    /// Requests of one table at a time. Posts of one row each wait for the disk together; in which order they come makes
    /// no difference, for every post of an id has the very same row.
    fn lanes(self) -> usize {
        if self == Self::Record { 8 } else { 1 }
    }

    fn values_a_request(self) -> usize {
        if self == Self::Record { 1 } else { 50 }
    }

    async fn post(self, client: &Client, table: &str, values: &[Value]) -> Result<(), String> {
        let name = self.name(table);
        match self {
            Self::Topics => client.post(&name, values).await.map(drop),
            Self::Record => {
                for value in values {
                    client.put(&name, "desired-name", value).await?;
                }
                Ok(())
            }
            Self::Records => {
                let keyed: Vec<_> =
                    values.iter().map(|value| ("desired-name".to_owned(), value.clone())).collect();
                client.put_all(&name, &keyed).await.map(drop)
            }
        }
    }
}

/// Posts everything in order, killing and restarting the server once in the middle when asked.
fn post_all(world: &World, posts: &[Post], kill: bool, way: Way) {
    let server = world.serve(way.serve());
    let half = if kill { posts.len() / 2 } else { posts.len() };
    let left = post_in_order(&server.url, &posts[..half], way, None);
    assert!(left.is_empty(), "{} posts failed", left.len());
    if !kill {
        server.stop();
        return;
    }
    // The second half is posted to a server that dies in the middle of it; what was not acknowledged is posted again.
    let requests = (posts.len() - half) / way.values_a_request();
    let unacknowledged = std::thread::scope(|scope| {
        let url = server.url.clone();
        let (tell, acknowledged) = sync_channel(requests + TABLES.len());
        let posting = scope.spawn(move || post_in_order(&url, &posts[half..], way, Some(tell)));
        assert_eq!(acknowledged.iter().take(requests / 3).count(), requests / 3, "requests of a live server");
        server.kill();
        posting.join().unwrap()
    });
    let server = world.serve(way.serve());
    let failed = post_in_order(&server.url, &unacknowledged, way, None);
    assert!(failed.is_empty(), "{} posts failed after the restart", failed.len());
    server.stop();
}

/// Posts each table's rows in their order, and gives back those that were not acknowledged. Each acknowledged request is
/// told.
fn post_in_order(url: &str, posts: &[Post], way: Way, tell: Option<SyncSender<()>>) -> Vec<Post> {
    let client = Client::new(url);
    block_on(async {
        let mut posting = Vec::new();
        for table in TABLES {
            let values: Vec<Value> =
                posts.iter().filter(|(of, _)| *of == table).map(|(_, value)| value.clone()).collect();
            for lane in 0..way.lanes() {
                let requests = values.chunks(way.values_a_request()).skip(lane).step_by(way.lanes());
                let requests: Vec<Vec<Value>> = requests.map(<[Value]>::to_vec).collect();
                posting.push(tokio::spawn(post_lane(client.clone(), table, requests, way, tell.clone())));
            }
        }
        drop(tell);
        let mut failed = Vec::new();
        for lane in posting {
            failed.extend(lane.await.unwrap());
        }
        failed
    })
}

async fn post_lane(
    client: Client,
    table: &'static str,
    requests: Vec<Vec<Value>>,
    way: Way,
    tell: Option<SyncSender<()>>,
) -> Vec<Post> {
    let mut failed = Vec::new();
    for values in requests {
        match way.post(&client, table, &values).await {
            // There is room for all, and a listener that has heard enough is gone.
            Ok(()) => {
                let _ = tell.as_ref().map(|tell| tell.try_send(()));
            }
            Err(_) => failed.extend(values.into_iter().map(|value| (table, value))),
        }
    }
    failed
}

/// Posts rows; the tables' answers must be the golden ones, and the audit balanced.
fn check(posts: &[Post], golden: &Value, kill: bool, way: Way) {
    let world = World::new();
    post_all(&world, posts, kill, way);
    let answers = if way == Way::Topics {
        world.ok(&["clean"]);
        world.json(&["answer"])
    } else {
        world.json(&["answer", "--from", "stream"])
    };
    assert_answers(&answers, golden);
    world.assert_balanced();
}

/// The real rows, each once.
fn sample(shared: &Path) -> Vec<Post> {
    TABLES
        .iter()
        .flat_map(|table| rows(shared, table).into_iter().map(move |(_, row)| (*table, row)))
        .collect()
}

/// The real rows as the reference draws them, with repeats.
fn draws(shared: &Path) -> Vec<Post> {
    let ids: Vec<i64> = serde_json::from_value(golden(shared, "first_1008_draws.ids.json")).unwrap();
    let tables: Vec<_> = TABLES.iter().map(|table| (*table, by_id(shared, table))).collect();
    ids.iter().flat_map(|id| tables.iter().map(|(table, rows)| (*table, rows[id].clone()))).collect()
}

#[test]
fn the_real_rows_posted_over_http_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&sample(&shared), &golden(&shared, "sample.json"), false, Way::Topics);
}

#[test]
fn the_real_rows_give_the_golden_answers_after_kill_9_in_the_middle() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&sample(&shared), &golden(&shared, "sample.json"), true, Way::Topics);
}

#[test]
fn the_1008_draws_posted_over_http_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&draws(&shared), &golden(&shared, "first_1008_draws.json"), false, Way::Topics);
}

#[test]
fn the_1008_draws_give_the_golden_answers_after_kill_9_in_the_middle() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&draws(&shared), &golden(&shared, "first_1008_draws.json"), true, Way::Topics);
}

#[test]
fn the_real_rows_put_to_streams_one_by_one_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&sample(&shared), &golden(&shared, "sample.json"), false, Way::Record);
}

#[test]
fn the_real_rows_put_to_streams_give_the_golden_answers_after_kill_9_in_the_middle() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&sample(&shared), &golden(&shared, "sample.json"), true, Way::Record);
}

#[test]
fn the_1008_draws_put_to_streams_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&draws(&shared), &golden(&shared, "first_1008_draws.json"), false, Way::Records);
}

#[test]
fn the_1008_draws_put_to_streams_give_the_golden_answers_after_kill_9_in_the_middle() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    check(&draws(&shared), &golden(&shared, "first_1008_draws.json"), true, Way::Record);
}

/// A server that is loading streams dies at a named point; what comes after makes no difference to the answers.
#[cfg(feature = "failpoints")]
mod crash_points {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::time::Instant;

    use rustix::process::Signal;

    use super::*;
    use crate::world::{PATIENCE, await_end};

    fn answers_after_death_at(point: &str, posts: &[Post], golden: &Value) {
        let world = World::new();
        let (first, second) = posts.split_at(posts.len() / 2);
        // Half of the rows wait in the streams for the server that will die.
        let idle = world.serve(&["--batch-every", "off", "--commit-every", "1h"]);
        assert!(post_in_order(&idle.url, first, Way::Records, None).is_empty());
        idle.kill();
        let busy =
            ["--batch-every", "off", "--commit-every", "1ms", "--set", "stream.tidy-every=50ms", "-qq"];
        let mut armed = world.serve_with(&busy, |command| {
            command.env("PINMILL_CRASH_AT", point).stderr(Stdio::null());
        });
        let mut left = second.to_vec();
        if point.starts_with("flow::stream::") {
            // The reader's position follows the table's at the end of a clean stop at the latest.
            armed.child.signal(Signal::TERM).unwrap();
        } else {
            let end = Instant::now() + PATIENCE;
            loop {
                left = post_in_order(&armed.url, second, Way::Record, None);
                if !left.is_empty() {
                    break;
                }
                assert!(Instant::now() < end, "{point} was not passed in {PATIENCE:?}");
            }
        }
        let ended = await_end(&mut armed.child, PATIENCE, point);
        assert_eq!(ended.signal(), Some(6), "{point}: {ended}");

        let server = world.serve(&["--batch-every", "off"]);
        assert!(post_in_order(&server.url, &left, Way::Records, None).is_empty());
        server.stop();
        assert_answers(&world.json(&["answer", "--from", "stream"]), golden);
        world.assert_balanced();
    }

    #[test]
    fn the_draws_put_to_streams_give_the_golden_answers_after_a_death_at_each_named_point() {
        let Some(shared) = pinmill_testkit::shared_dir() else { return };
        let (posts, golden) = (draws(&shared), golden(&shared, "first_1008_draws.json"));
        let others = ["lake::archive::", "flow::archive::", "flow::answer::", "flow::replay::"];
        let passed = |point: &&&str| !others.iter().any(|room| point.starts_with(room));
        let points: Vec<&str> = pinmill_flow::CRASH_POINTS.iter().filter(passed).copied().collect();
        assert!(points.len() > 10, "{points:?}");
        for point in points {
            answers_after_death_at(point, &posts, &golden);
        }
    }
}
