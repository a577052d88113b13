//! Shards that are split and merged while they are loaded: each record once, and those of a key in their order.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EventLog, Record};
use pinmill_flow::{Half, StepLimit, StreamConfig};
use pinmill_lake::table::Table;
use rand::{Rng, RngExt};
use tokio_util::sync::CancellationToken;

use crate::stream::{Shards, quick};
use crate::support::{World, small};

const STREAM: &str = "a-user";
const KEYS: u64 = 16;

/// What puts records: it knows which shard takes which keys.
struct Producer<R> {
    dice: R,
    log: Arc<Shards>,
    /// Open shards and their keys.
    open: Vec<(u32, Vec<u64>)>,
    /// The key of each record, in the order in which they were put.
    put: Vec<u64>,
}

impl<R: Rng> Producer<R> {
    /// Puts records with keys at random. A record says its number and its key.
    async fn put(&mut self, count: usize) {
        for _ in 0..count {
            let (number, key) = (self.put.len(), self.dice.random_range(0..KEYS));
            let shard = self.open.iter().find(|(_, keys)| keys.contains(&key)).unwrap().0;
            let value = format!(r#"{{"ind":{number},"name":"key {key}","age":30}}"#);
            let record = Record { value: Some(value.into()), ..Record::default() };
            self.log.append(STREAM, shard, vec![record]).await.unwrap();
            self.put.push(key);
        }
    }

    /// Splits an open shard that has several keys, or merges two.
    async fn reshard(&mut self) {
        let splittable: Vec<usize> = (0..self.open.len()).filter(|at| self.open[*at].1.len() > 1).collect();
        if self.open.len() < 2 || (!splittable.is_empty() && self.dice.random_bool(0.6)) {
            let at = splittable[self.dice.random_range(0..splittable.len())];
            let (parent, keys) = self.open.remove(at);
            let (low, high) = keys.split_at(keys.len() / 2);
            for keys in [low, high] {
                let child = self.log.reshard(STREAM, &[parent]).await;
                self.open.push((child, keys.to_vec()));
            }
        } else {
            let one = self.dice.random_range(0..self.open.len());
            let (one, mut keys) = self.open.remove(one);
            let other = self.dice.random_range(0..self.open.len());
            let (other, more) = self.open.remove(other);
            keys.extend(more);
            let child = self.log.reshard(STREAM, &[one, other]).await;
            self.open.push((child, keys));
        }
    }
}

/// Waits until the loader has committed something after a version of the table; gives the version it is at then.
async fn await_commit(world: &World, after: u64) -> u64 {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let table = Table::open(&world.lake, &Half::Stream.table("user")).await.unwrap();
        if let Some(version) = table.map(|table| table.version()).filter(|version| *version > after) {
            return version;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing was committed after version {after}");
        tokio::task::yield_now().await;
    }
}

/// Offsets that were committed together, and as which version of the table.
type Commits = Vec<(RangeInclusive<u64>, u64)>;

/// The commits of each shard.
async fn commits_by_shard(world: &World) -> BTreeMap<u32, Commits> {
    let mut shards: BTreeMap<u32, Commits> = BTreeMap::new();
    for entry in world.stream_table().await.history(usize::MAX).await.unwrap() {
        for range in &entry.ranges {
            let offsets = range.sum.first..=range.sum.last;
            shards.entry(range.place.partition).or_default().push((offsets, entry.version));
        }
    }
    shards
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_are_split_and_merged_under_load_keep_each_record_once_and_each_key_in_order() {
    const ROUNDS: usize = 12;
    let world = World::new(small());
    let log = Arc::new(Shards::default());
    log.create_topic(STREAM, 2).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        // Many small commits, so that the table's history tells of order.
        let step = StepLimit { records: 7, ..StepLimit::default() };
        let config = StreamConfig { commit_every: Duration::from_millis(1), step, fetch_bytes: 1, ..quick() };
        let (streamer, stop) = (world.streamer(Arc::<Shards>::clone(&log), config), stop.clone());
        async move { streamer.run(stop).await }
    });
    let open = vec![(0, (0..KEYS / 2).collect()), (1, (KEYS / 2..KEYS).collect())];
    let mut producer =
        Producer { dice: pinmill_testkit::rng(), log: Arc::clone(&log), open, put: Vec::new() };
    let mut seen = 0;
    for _ in 0..ROUNDS {
        // More than one commit takes, so that shards are closed that are not loaded to their end.
        producer.put(30).await;
        producer.reshard().await;
        producer.put(10).await;
        seen = await_commit(&world, seen).await;
    }
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap().records(), 40 * ROUNDS as u64);
    world.assert_streamed(&*log).await;

    let rows = world
        .sql_from(Half::Stream, "SELECT ind, name, _partition, _offset FROM user_all ORDER BY ind")
        .await;
    assert_eq!(rows.len(), producer.put.len());
    let shards = commits_by_shard(&world).await;
    let mut latest = BTreeMap::new();
    for (number, (row, key)) in rows.iter().zip(&producer.put).enumerate() {
        assert_eq!(row[..2], [serde_json::json!(number), serde_json::json!(format!("key {key}"))]);
        let (shard, offset) = (row[2].as_u64().unwrap() as u32, row[3].as_u64().unwrap());
        let commits = shards[&shard].iter().filter(|(offsets, _)| offsets.contains(&offset));
        let commits: Vec<u64> = commits.map(|(_, version)| *version).collect();
        assert_eq!(commits.len(), 1, "record {number}, shard {shard} offset {offset}");
        // In a later commit than the record of the key before it, or behind it in the same shard.
        let place = (commits[0], shard, offset);
        if let Some((version, before, at)) = latest.insert(*key, place) {
            let in_order = version < commits[0] || (version == commits[0] && before == shard && at < offset);
            assert!(in_order, "key {key}: record {number} at {place:?} after {:?}", (version, before, at));
        }
    }
}
