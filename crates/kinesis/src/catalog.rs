//! The streams that there are, kept durably in the log itself.
//!
//! # Format
//! Topic [`TOPIC`], one partition; the key of a record is the stream's name, its value what `records` describes, or none
//! where the stream is gone. Reading records twice, or from before a compaction, gives the same. As the reader [`READER`],
//! the catalog's position is the first record that is still needed; it keeps retention off them.
//!
//! Compaction: when there are many more records than streams, the states of all streams are appended once more, the
//! position moves to the first of them, and the log lets go what lies before it. A crash before the position moved leaves
//! records that say the same twice; one after it leaves records that nobody reads until the next compaction.
//!
//! # Order of steps, and what a crash between them leaves
//! | change | steps | after a crash |
//! | --- | --- | --- |
//! | create | topic made, **record** | an empty topic without a stream; the next stream of that name replaces it |
//! | split, merge, scale | partitions added, writes held, **record**, writes go on | spare empty partitions, which the next change uses |
//! | others | **record** | nothing |
//! | delete | **record** `is_deleting`, topic deleted, **record** without a value | the deletion is finished when the catalog is opened |
//!
//! The record in bold is the moment of the change. When its append fails in a way that leaves open whether it was stored, the
//! client is told that the change failed and memory keeps the state before it; a restart may show the change done.

mod records;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pinmill_broker::{Error, EventLog, ReadLimit};
use tokio::sync::watch;

use crate::error::{ApiError, OpenError};
use crate::model::StreamState;
use crate::throttle::Throttle;

/// The catalog's topic. No stream can have this name.
pub const TOPIC: &str = "__pinmill_streams";
/// The reader whose position says where the catalog begins.
pub const READER: &str = "pinmill-streams";
/// Records beyond four a stream after which the catalog is compacted.
const SPARE_RECORDS: usize = 1000;
const READ_BYTES: usize = 4 * 1024 * 1024;

/// A stream in use: its state now, and what holds writes back while its shards change.
#[derive(Debug)]
pub(crate) struct Live {
    /// Writers hold it shared while they append; a change of shards takes it alone, so that a shard's end is its end.
    pub(crate) gate: tokio::sync::RwLock<()>,
    pub(crate) throttle: Throttle,
    state: RwLock<Arc<StreamState>>,
}

impl Live {
    fn new(state: StreamState) -> Arc<Self> {
        let state = RwLock::new(Arc::new(state));
        Arc::new(Self { gate: tokio::sync::RwLock::new(()), throttle: Throttle::default(), state })
    }

    pub(crate) fn state(&self) -> Arc<StreamState> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, state: StreamState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }
}

/// What all streams have together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) open_shards: u32,
    /// Closed ones included.
    pub(crate) all_shards: usize,
    pub(crate) on_demand: u32,
    pub(crate) creating: usize,
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Catalog {
    log: Arc<dyn EventLog>,
    streams: RwLock<BTreeMap<String, Arc<Live>>>,
    /// One change at a time; counts the records since the last compaction.
    writer: tokio::sync::Mutex<usize>,
    changes: watch::Sender<u64>,
}

impl Catalog {
    /// Reads the catalog out of its log, makes it where there is none, and finishes deletions that a crash cut short.
    pub(crate) async fn open(log: Arc<dyn EventLog>) -> Result<Arc<Self>, OpenError> {
        match log.create_topic(TOPIC, 1).await {
            Ok(()) | Err(Error::TopicExists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let begin = match log.position(READER, TOPIC, 0).await? {
            Some(begin) => begin,
            None => {
                let begin = log.offsets(TOPIC, 0).await?.beginning;
                log.commit_position(READER, TOPIC, 0, begin).await?;
                begin
            }
        };
        let (states, records) = load(log.as_ref(), Some(begin)).await?;
        let deleting: Vec<_> =
            states.values().filter(|state| state.is_deleting).map(|state| state.name.clone()).collect();
        let catalog = Arc::new(Self::of(log, states, records));
        for name in deleting {
            tracing::info!(stream = name, "finishing a deletion that was cut short");
            let mut written = catalog.writer.lock().await;
            catalog.finish_deletion(&name, &mut written).await?;
        }
        Ok(catalog)
    }

    /// Reads the catalog of a log that was opened as a read-only view; there may be none yet.
    pub(crate) async fn view(log: Arc<dyn EventLog>) -> Result<Arc<Self>, OpenError> {
        let (states, records) = match log.offsets(TOPIC, 0).await {
            Err(Error::UnknownTopic(_)) => Default::default(),
            _ => {
                let begin = log.position(READER, TOPIC, 0).await?;
                load(log.as_ref(), begin).await?
            }
        };
        Ok(Arc::new(Self::of(log, states, records)))
    }

    fn of(log: Arc<dyn EventLog>, states: BTreeMap<String, StreamState>, records: usize) -> Self {
        Self {
            log,
            streams: RwLock::new(states.into_iter().map(|(name, state)| (name, Live::new(state))).collect()),
            writer: tokio::sync::Mutex::new(records),
            changes: watch::Sender::new(0),
        }
    }

    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Live>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All streams by name.
    pub(crate) fn all(&self) -> Vec<Arc<StreamState>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.values().map(|live| live.state()).collect()
    }

    /// Counts the changes; a reader that sees it move looks at the streams again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn totals(&self, now_ms: i64) -> Totals {
        let mut totals = Totals::default();
        for state in self.all() {
            totals.open_shards += u32::try_from(state.open_shards().count()).unwrap_or(u32::MAX / 2);
            totals.all_shards += state.shards.len();
            totals.on_demand += u32::from(state.mode == crate::model::Mode::OnDemand);
            totals.creating += usize::from(state.status(now_ms) == crate::model::Status::Creating);
        }
        totals
    }

    /// Makes a stream. `make` decides under the catalog's lock whether it may be, and what it is.
    pub(crate) async fn create(
        self: &Arc<Self>,
        make: impl FnOnce(&Self) -> Result<StreamState, ApiError> + Send + 'static,
    ) -> Result<(), ApiError> {
        let catalog = Arc::clone(self);
        detached(async move {
            let mut written = catalog.writer.lock().await;
            let state = make(&catalog)?;
            let partitions = u32::try_from(state.shards.len()).unwrap_or(u32::MAX);
            catalog.make_topic(&state.name, partitions).await?;
            catalog.record(None, &state, &mut written).await?;
            let mut streams = catalog.streams.write().unwrap_or_else(PoisonError::into_inner);
            streams.insert(state.name.clone(), Live::new(state));
            drop(streams);
            catalog.changed();
            Ok(())
        })
        .await
    }

    /// An empty topic that has no stream is what a crash left; one with records is somebody else's.
    async fn make_topic(&self, name: &str, partitions: u32) -> Result<(), ApiError> {
        match self.log.create_topic(name, partitions).await {
            Err(Error::TopicExists(_)) => {}
            other => return Ok(other?),
        }
        for partition in self.log.describe(name).await?.partitions {
            if self.log.offsets(name, partition.partition).await?.end != 0 {
                tracing::error!(
                    topic = name,
                    "the log of the streams has a topic with records that no stream knows"
                );
                return Err(ApiError::in_use(format!(
                    "Stream {name} cannot be made: its log has records already."
                )));
            }
        }
        self.log.delete_topic(name).await?;
        Ok(self.log.create_topic(name, partitions).await?)
    }

    /// Changes a stream in ways that leave its shards alone, and returns what it was before.
    pub(crate) async fn update(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&Self, &mut StreamState) -> Result<(), ApiError> + Send + 'static,
    ) -> Result<Arc<StreamState>, ApiError> {
        let (catalog, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let mut written = catalog.writer.lock().await;
            let live = catalog.get(&name).ok_or_else(|| gone(&name))?;
            let before = live.state();
            let mut state = StreamState::clone(&before);
            change(&catalog, &mut state)?;
            catalog.record(Some(&before), &state, &mut written).await?;
            live.set(state);
            catalog.changed();
            Ok(before)
        })
        .await
    }

    /// Changes a stream's shards. Writes to the stream wait meanwhile, so the ends of closed shards are settled.
    pub(crate) async fn reshard(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&Self, &mut StreamState) -> Result<(), ApiError> + Send + 'static,
    ) -> Result<(), ApiError> {
        let (catalog, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let mut written = catalog.writer.lock().await;
            let live = catalog.get(&name).ok_or_else(|| gone(&name))?;
            let before = live.state();
            let mut state = StreamState::clone(&before);
            change(&catalog, &mut state)?;
            let partitions = u32::try_from(state.shards.len()).unwrap_or(u32::MAX);
            catalog.log.add_partitions(&name, partitions).await?;
            let _alone = live.gate.write().await;
            for (index, (shard, old)) in (0..).zip(state.shards.iter_mut().zip(&before.shards)) {
                if let (Some(closed), None) = (&mut shard.closed, old.closed) {
                    closed.end_offset = catalog.log.offsets(&name, index).await?.end;
                }
            }
            catalog.record(Some(&before), &state, &mut written).await?;
            live.set(state);
            catalog.changed();
            Ok(())
        })
        .await
    }

    /// Deletes a stream: it shows `DELETING` for the delay, then its records go.
    pub(crate) async fn delete(
        self: &Arc<Self>,
        name: &str,
        delay: Duration,
        check: impl FnOnce(&StreamState) -> Result<(), ApiError> + Send + 'static,
    ) -> Result<(), ApiError> {
        let (catalog, name) = (Arc::clone(self), name.to_owned());
        detached(async move {
            let mut written = catalog.writer.lock().await;
            let live = catalog.get(&name).ok_or_else(|| gone(&name))?;
            let before = live.state();
            check(&before)?;
            let state = StreamState { is_deleting: true, ..StreamState::clone(&before) };
            catalog.record(Some(&before), &state, &mut written).await?;
            // Records that were accepted before are in the log; none is accepted after.
            let alone = live.gate.write().await;
            live.set(state);
            drop(alone);
            catalog.changed();
            if delay.is_zero() {
                return Ok(catalog.finish_deletion(&name, &mut written).await?);
            }
            drop(written);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let mut written = catalog.writer.lock().await;
                if let Err(error) = catalog.finish_deletion(&name, &mut written).await {
                    tracing::error!(stream = name, %error, "the deletion is finished when the streams are opened next");
                }
            });
            Ok(())
        })
        .await
    }

    async fn finish_deletion(&self, name: &str, written: &mut usize) -> Result<(), Error> {
        match self.log.delete_topic(name).await {
            Ok(()) | Err(Error::UnknownTopic(_)) => {}
            Err(error) => return Err(error),
        }
        self.log.append(TOPIC, 0, vec![records::of_no_stream(name)]).await?;
        *written += 1;
        self.streams.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.changed();
        self.compact_in_time(None, written).await;
        Ok(())
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Writes what is new of a stream's state; the change is done when this returns.
    async fn record(
        &self,
        before: Option<&StreamState>,
        state: &StreamState,
        written: &mut usize,
    ) -> Result<(), ApiError> {
        let records = records::of_change(before, state)?;
        let count = records.len();
        self.log.append(TOPIC, 0, records).await?;
        *written += count;
        self.compact_in_time(Some(state), written).await;
        Ok(())
    }

    /// Compacts where it is due. A compaction that fails changes nothing, and the next change tries again.
    async fn compact_in_time(&self, newest: Option<&StreamState>, written: &mut usize) {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner).len();
        if *written <= SPARE_RECORDS + 4 * streams {
            return;
        }
        match self.compact(newest).await {
            Ok(records) => *written = records,
            Err(error) => tracing::warn!(%error, "the catalog of the streams could not be compacted"),
        }
    }

    /// `newest` is not in memory yet, and stands for its stream.
    async fn compact(&self, newest: Option<&StreamState>) -> Result<usize, ApiError> {
        let mut states = self.all();
        if let Some(newest) = newest {
            states.retain(|state| state.name != newest.name);
            states.push(Arc::new(newest.clone()));
        }
        let (mut first, mut count) = (None, 0);
        for state in &states {
            // One at a time: together they may be more than the log takes at once.
            for record in records::of_change(None, state)? {
                let offsets = self.log.append(TOPIC, 0, vec![record]).await?;
                first = first.or(offsets.first().copied());
                count += 1;
            }
        }
        let first = match first {
            Some(first) => first,
            None => self.log.offsets(TOPIC, 0).await?.end,
        };
        self.log.commit_position(READER, TOPIC, 0, first).await?;
        // What is not let go now is let go with the next compaction.
        if let Err(error) = self.log.forget_before(TOPIC, 0, first).await {
            tracing::warn!(%error, "old records of the catalog of the streams stay on disk for now");
        }
        Ok(count)
    }
}

fn gone(name: &str) -> ApiError {
    ApiError::not_found(format!("Stream {name} not found."))
}

/// Runs a change to its end even when the client that asked for it goes away meanwhile: log and memory must not part.
pub(crate) async fn detached<T: Send + 'static>(
    change: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change of the streams ended abnormally");
        Err(ApiError::internal(None))
    })
}

/// The last state of every stream from offset `begin` on, and how many records were read.
async fn load(
    log: &dyn EventLog,
    begin: Option<u64>,
) -> Result<(BTreeMap<String, StreamState>, usize), OpenError> {
    let range = log.offsets(TOPIC, 0).await?;
    let mut next = begin.unwrap_or(range.beginning).max(range.beginning);
    let damaged = |offset, reason| OpenError::Catalog { topic: TOPIC.to_owned(), offset, reason };
    let (mut streams, mut records) = (BTreeMap::new(), 0);
    while next < range.end {
        let limit = ReadLimit { max_bytes: READ_BYTES, max_wait: Duration::ZERO };
        let read = log.read(TOPIC, 0, next, limit).await?;
        let Some(last) = read.last() else { break };
        next = last.offset + 1;
        records += read.len();
        for record in read {
            records::apply(&record, &mut streams).map_err(|reason| damaged(record.offset, reason))?;
        }
    }
    let complete = |(name, stream): (String, records::Partial)| match stream.complete() {
        Ok(state) => Ok((name, state)),
        Err(incomplete) => Err(damaged(incomplete.offset, incomplete.reason)),
    };
    let states = streams.into_iter().map(complete).collect::<Result<_, OpenError>>()?;
    Ok((states, records))
}
