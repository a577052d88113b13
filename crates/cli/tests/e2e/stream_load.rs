//! Rows put to streams by several writers, and whether each of them is in the streaming half once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::data::{TABLES, row, user};
use crate::world::{Client, PATIENCE, Place, World};

/// The stream of users.
pub(crate) const STREAM: &str = "load-user";

/// The stream of a table's rows.
pub(crate) fn stream_of(table: &str) -> String {
    format!("load-{table}")
}

/// What is shared by all writers of all lives of a server: ids that were not given out yet, how many were acknowledged
/// since the last start, and the word to stop.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    tables: &'static [&'static str],
    next: Arc<AtomicU64>,
    acknowledged: Arc<watch::Sender<usize>>,
    stop: Arc<AtomicBool>,
}

/// Ids that were acknowledged, and in which table's stream and where in it each is kept.
pub(crate) type Acknowledged = Vec<(u64, (&'static str, Place))>;

impl Load {
    /// Load for the streams of these tables.
    pub(crate) fn on(tables: &'static [&'static str]) -> Self {
        let acknowledged = Arc::new(watch::channel(0).0);
        Self { tables, next: Arc::new(AtomicU64::new(1)), acknowledged, stop: Arc::default() }
    }

    /// Starts one writer for each size, which take turns at the tables: it puts so many fresh ids a request, with keys that
    /// vary, until it is told to stop or a request fails. It gives what was acknowledged, and why it ended before it was
    /// told to.
    pub(crate) fn start(
        &self,
        client: &Client,
        sizes: &[u64],
    ) -> Vec<JoinHandle<(Acknowledged, Option<String>)>> {
        self.stop.store(false, Ordering::Relaxed);
        self.acknowledged.send_replace(0);
        let writers = sizes.iter().zip(self.tables.iter().cycle());
        writers.map(|(size, table)| tokio::spawn(self.clone().write(client.clone(), table, *size))).collect()
    }

    async fn write(self, client: Client, table: &'static str, size: u64) -> (Acknowledged, Option<String>) {
        let mut acknowledged = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let first = self.next.fetch_add(size, Ordering::Relaxed);
            let rows: Vec<(String, Value)> =
                (first..first + size).map(|id| (format!("key-{id}"), row(table, id))).collect();
            match client.put_all(&stream_of(table), &rows).await {
                Ok(places) => {
                    self.acknowledged.send_modify(|count| *count += places.len());
                    acknowledged.extend((first..).zip(places.into_iter().map(|at| (table, at))));
                }
                Err(error) => return (acknowledged, Some(error)),
            }
        }
        (acknowledged, None)
    }

    /// Waits until so many ids were acknowledged since the last start.
    pub(crate) async fn until_acknowledged(&self, enough: usize) {
        let mut seen = self.acknowledged.subscribe();
        let loaded = tokio::time::timeout(PATIENCE, seen.wait_for(|count| *count >= enough));
        loaded.await.expect("records are acknowledged").unwrap();
    }

    /// Lets the writers end after the request that they are at.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What the writers got acknowledged, and what ended them early.
pub(crate) async fn gather(
    writers: Vec<JoinHandle<(Acknowledged, Option<String>)>>,
) -> (Acknowledged, Vec<String>) {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for writer in writers {
        let (acknowledged, error) = writer.await.unwrap();
        all.extend(acknowledged);
        errors.extend(error);
    }
    (all, errors)
}

/// Puts some ids in one request.
pub(crate) async fn put_users(client: &Client, ids: impl Iterator<Item = u64>) {
    let rows: Vec<(String, Value)> = ids.map(|id| (format!("key-{id}"), user(id))).collect();
    client.put_all(STREAM, &rows).await.unwrap();
}

/// Fails where a stream gave one place to two records.
pub(crate) fn assert_places_differ(acknowledged: &[(u64, (&str, Place))]) {
    let mut given = HashMap::new();
    for (id, place) in acknowledged {
        let before = given.insert(place, id);
        assert_eq!(before, None, "{place:?} was given out again for {id}");
    }
}

/// Fails unless each of these ids stands in a table or the quarantine of the streaming half, where it belongs, and no id at
/// all stands there twice. Gives how many stand there.
pub(crate) fn assert_each_once(world: &World, acknowledged: impl IntoIterator<Item = u64>) -> u64 {
    let mut found = HashSet::new();
    for table in TABLES {
        for row in world.stream_sql(&format!("SELECT ind FROM {table}_all")) {
            let id = row[0].as_u64().unwrap();
            assert!(!id.is_multiple_of(7), "{id} is in {table}");
            assert!(found.insert(id), "{id} stands in the tables twice, now in {table}");
        }
    }
    for row in world.quarantined("stream") {
        let id = row[1].as_u64().unwrap();
        assert!(id.is_multiple_of(7), "{id} is in quarantine");
        assert!(found.insert(id), "{id} stands in quarantine twice");
    }
    let lost: Vec<u64> = acknowledged.into_iter().filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "{} acknowledged records are lost: {lost:?}", lost.len());
    found.len() as u64
}
