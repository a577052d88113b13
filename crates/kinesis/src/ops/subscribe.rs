//! `SubscribeToShard`: a consumer's own event stream of a shard, for up to five minutes.
//!
//! There is one subscription of a consumer to a shard at a time. A new one within five seconds of the one before is
//! refused; later it takes over, and the one before ends. Subscriptions are bounded by consumers times shards.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use pinmill_http::Reservation;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::http::eventstream;
use crate::ids::sequence::{parse_shard_id, sequence_number, shard_id, starting};
use crate::model::StreamState;
use crate::ops::get::{self, Start};
use crate::ops::{Answer, Outcome, consumers, dry_run, shards};
use crate::service::Service;
use crate::value::{Value, json};

/// How long a subscription lives.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long a subscription cannot be taken over.
const GRACE_MS: i64 = 5000;
/// Longest time without an event.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Most data of one event, in bytes, and most records.
const EVENT_BYTES: usize = 1024 * 1024;
/// Memory for an event while it is made: data, the same in base64, and what describes the records.
const EVENT_MEMORY: usize = 4 * EVENT_BYTES;
/// How much is read at the end of a shard, where it is not known yet whether anything comes.
const TAIL_BYTES: usize = 32 * 1024;
const EVENT_RECORDS: usize = 10_000;

/// Stream, consumer, when the consumer was registered, shard.
type Key = (String, String, i64, u32);

/// The subscriptions there are.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    held: Arc<Mutex<HashMap<Key, Held>>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Held {
    id: u64,
    since_ms: i64,
    taken_over: Arc<Notify>,
}

/// The right to a subscription; given back when it is dropped.
#[derive(Debug)]
struct Ticket {
    id: u64,
    key: Key,
    taken_over: Arc<Notify>,
    held: Arc<Mutex<HashMap<Key, Held>>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever took over keeps what is his.
        if held.get(&self.key).is_some_and(|held| held.id == self.id) {
            held.remove(&self.key);
        }
    }
}

impl Subscriptions {
    /// Ends all that there are; their clients find the end of their event streams.
    pub(crate) fn end_all(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.values().for_each(|held| held.taken_over.notify_one());
    }

    /// Whether there is no subscription that is younger than five seconds.
    fn may_take(held: &HashMap<Key, Held>, key: &Key, now_ms: i64) -> bool {
        held.get(key).is_none_or(|before| now_ms - before.since_ms >= GRACE_MS)
    }

    /// Whether [`take`](Self::take) would give a ticket.
    fn is_free(&self, key: &Key, now_ms: i64) -> bool {
        Self::may_take(&self.held.lock().unwrap_or_else(PoisonError::into_inner), key, now_ms)
    }

    /// A ticket for a consumer and a shard, unless there is one that is younger than five seconds.
    fn take(&self, key: Key, now_ms: i64) -> Option<Ticket> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !Self::may_take(&held, &key, now_ms) {
            return None;
        }
        if let Some(before) = held.get(&key) {
            before.taken_over.notify_one();
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let taken_over = Arc::new(Notify::new());
        held.insert(key.clone(), Held { id, since_ms: now_ms, taken_over: Arc::clone(&taken_over) });
        Some(Ticket { id, key, taken_over, held: Arc::clone(&self.held) })
    }
}

pub(crate) async fn subscribe(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let arn = input.str("ConsumerARN").unwrap_or_default();
    let found = consumers::find(service, input)?;
    if consumers::status(service, &found.consumer) != "ACTIVE" {
        return Err(ApiError::in_use(format!("Consumer {} is not ACTIVE", found.name)));
    }
    let stream = &found.stream.name;
    let given = input.str("ShardId").unwrap_or_default();
    let index = parse_shard_id(given).ok_or_else(|| shards::unknown(service, given, stream))?;
    let (state, _) = get::shard(service, stream, index)?;
    let position = input.get("StartingPosition").cloned().unwrap_or(Value::Null);
    let start = Start {
        kind: position.str("Type").unwrap_or_default(),
        sequence_number: position.str("SequenceNumber"),
        timestamp_ms: position.time("Timestamp"),
    };
    let offset = get::find_start(service, &state, index, &start).await?;
    let in_use = || {
        let shard = shard_id(index);
        ApiError::in_use(format!("Another active subscription exists for consumer {arn} on shard {shard}"))
    };
    // The ARN of one consumer can be written in several ways.
    let key = (stream.clone(), found.name.clone(), found.consumer.created_ms, index);
    if input.is_true("DryRun") {
        let is_free = service.subscriptions.is_free(&key, service.now_ms());
        return Err(if is_free { dry_run() } else { in_use() });
    }
    let ticket = service.subscriptions.take(key, service.now_ms()).ok_or_else(in_use)?;
    let subscription = Subscription {
        service: Arc::clone(service),
        state,
        index,
        next: offset,
        until: Instant::now() + LIFETIME,
        step: Step::Opening,
        ticket,
    };
    let events = stream::unfold(subscription, |subscription| async {
        let (frame, subscription) = subscription.advance().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), subscription))
    });
    Ok(Answer::Events(Body::from_stream(events)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The initial response comes next.
    Opening,
    /// Events follow.
    Reading,
    /// Nothing follows.
    Ended,
}

struct Subscription {
    service: Arc<Service>,
    state: Arc<StreamState>,
    index: u32,
    next: u64,
    until: Instant,
    step: Step,
    ticket: Ticket,
}

impl Subscription {
    /// The next frame; `None` at the end.
    async fn advance(mut self) -> Option<(Bytes, Self)> {
        match self.step {
            Step::Opening => {
                self.step = Step::Reading;
                Some((eventstream::initial_response(), self))
            }
            Step::Ended => None,
            Step::Reading => {
                let frame = self.event().await?;
                Some((frame, self))
            }
        }
    }

    async fn event(&mut self) -> Option<Bytes> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let taken_over = Arc::clone(&self.ticket.taken_over);
        let mut changes = self.service.catalog.changes();
        let (page, memory) = loop {
            let (wait, bytes, memory) = match self.memory_for_backlog().await {
                Ok(Some(memory)) => (Duration::ZERO, EVENT_BYTES, Some(memory)),
                Ok(None) if self.is_at_the_end() => (Duration::ZERO, TAIL_BYTES, None),
                Ok(None) => (HEARTBEAT.min(left), TAIL_BYTES, None),
                Err(error) => return Some(self.fail(&error)),
            };
            let (service, state) = (&self.service, &self.state);
            let read = get::read(service, state, self.index, self.next, EVENT_RECORDS, bytes, wait);
            tokio::select! {
                () = taken_over.notified() => return None,
                // The shard may have been closed, or the stream deleted: look again.
                Ok(()) = changes.changed() => continue,
                page = read => break (page, memory),
            }
        };
        let is_same = |now: &Arc<StreamState>| now.created_ms == self.state.created_ms && !now.is_deleting;
        let now = self.service.catalog.get(&self.state.name).map(|live| live.state()).filter(is_same);
        let page = match (page, now) {
            (Ok(page), Some(now)) => {
                self.state = now;
                page
            }
            (Ok(_), None) => return Some(self.fail(&self.service.no_stream(&self.state.name))),
            (Err(error), _) => return Some(self.fail(&error)),
        };
        self.next = page.next;
        let behind = page.millis_behind(self.service.now_ms());
        let is_finished = page.is_finished;
        let mut event = Value::map([("Records", get::describe(page.records, &self.state, self.index))]);
        event.push("MillisBehindLatest", Value::Int(behind));
        if is_finished {
            self.step = Step::Ended;
            event.push("ChildShards", shards::children(&self.state, self.index));
        } else {
            event.push("ContinuationSequenceNumber", Value::text(self.continuation()));
        }
        let frame = eventstream::event("SubscribeToShardEvent", &json::write(&event));
        let memory = match memory {
            Some(memory) => Some(memory),
            None => self.service.config.answer_memory.reserve(frame.len()).await,
        };
        match memory {
            Some(memory) => Some(memory.hold(frame)),
            None => Some(self.fail(&no_memory())),
        }
    }

    /// The last frame.
    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.step = Step::Ended;
        eventstream::exception(error)
    }

    /// Memory for an event, where there are records to be sent.
    async fn memory_for_backlog(&self) -> Result<Option<Reservation>, ApiError> {
        let range = self.service.catalog.log().offsets(&self.state.name, self.index).await;
        // A stream that is gone is found out when it is read.
        if range.is_ok_and(|range| range.end <= self.next) {
            return Ok(None);
        }
        let memory = self.service.config.answer_memory.reserve(EVENT_MEMORY).await;
        memory.map(Some).ok_or_else(no_memory)
    }

    /// True where the shard is closed and all of it was sent, so that waiting would be in vain.
    fn is_at_the_end(&self) -> bool {
        let now = self.service.catalog.get(&self.state.name).map(|live| live.state());
        let closed = now.as_deref().and_then(|state| state.shard(self.index)?.closed);
        closed.is_some_and(|closed| self.next >= closed.end_offset)
    }

    /// The number after which a new subscription goes on.
    fn continuation(&self) -> String {
        let created_s = self.state.shard(self.index).map_or(0, |shard| shard.created_s);
        match self.next.checked_sub(1) {
            Some(last) => sequence_number(created_s, self.index, last),
            None => starting(created_s, self.index),
        }
    }
}

/// The subscription ends; its client begins another one where this one ended.
fn no_memory() -> ApiError {
    ApiError::internal(Some("No memory is left for events that clients have not read yet.".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_taken_over_after_five_seconds_and_given_back() {
        let subscriptions = Subscriptions::default();
        let of_shard = |shard| ("s".to_owned(), "c".to_owned(), 1, shard);
        let key = of_shard(0);
        let first = subscriptions.take(key.clone(), 1000).unwrap();
        assert!(subscriptions.take(key.clone(), 5999).is_none());
        let _other_shard = subscriptions.take(of_shard(1), 1000).unwrap();
        assert!(subscriptions.is_free(&key, 6000) && !subscriptions.is_free(&key, 5999));
        let second = subscriptions.take(key.clone(), 6000).unwrap();
        drop(first);
        assert!(subscriptions.take(key.clone(), 6001).is_none(), "the second one is held");
        drop(second);
        let _third = subscriptions.take(key, 6002).unwrap();
    }
}
