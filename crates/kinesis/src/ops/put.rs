//! Putting records: routed by hash key to the open shards, appended shard by shard at the same time, acknowledged once
//! the log has made them durable.
//!
//! A record's partition key is the key of the log's record, its data the value as received; an explicit hash key is kept
//! as the header [`EXPLICIT_HASH_KEY`], and that the stream was to be encrypted as [`ENCRYPTION_TYPE`].

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use pinmill_broker::{Health, Record};

use crate::catalog::{Live, detached};
use crate::error::ApiError;
use crate::ids::hash::{hash_key, parse_hash_key};
use crate::ids::sequence::{Sequence, sequence_number, shard_id};
use crate::model::{Status, StreamState, seconds};
use crate::ops::{Answer, Outcome, dry_run};
use crate::schema::validate::{breach, exception};
use crate::service::Service;
use crate::value::Value;

/// Header of a log record that was put with an explicit hash key: the key, in decimal.
pub(crate) const EXPLICIT_HASH_KEY: &str = "kinesis.explicit-hash-key";
/// Header of a log record that was put while its stream was to be encrypted: `KMS`. The record is as it came.
pub(crate) const ENCRYPTION_TYPE: &str = "kinesis.encryption-type";
/// Most data and partition keys of one `PutRecords`, in bytes.
const MAX_TOTAL_BYTES: usize = 10 * 1024 * 1024;
/// About what a record takes in memory besides its data and key, in bytes.
const RECORD_OVERHEAD: usize = 512;

/// A record on its way to a shard.
struct Entry {
    hash_key: u128,
    bytes: usize,
    record: Record,
}

/// What became of a record.
#[derive(Debug, Clone)]
enum Fate {
    /// Stored at this offset of this shard.
    Stored { shard: u32, created_s: u64, offset: u64 },
    /// Refused, because the shard had its share of this second.
    Throttled { shard: u32 },
    /// The log failed.
    Failed,
}

pub(crate) async fn one(service: &Arc<Service>, input: Value<'_>) -> Outcome {
    let live = writable(service, &input)?;
    let state = live.state();
    if let Some(number) = input.str("SequenceNumberForOrdering") {
        let latest_s = latest_s(&state, service.now_ms());
        if Sequence::parse(number).is_none_or(|sequence| sequence.time_s > latest_s) {
            let message = format!("ExclusiveMinimumSequenceNumber {number} used in PutRecord on");
            return Err(ApiError::invalid(format!("{message} {} is invalid.", service.named(&state.name))));
        }
    }
    let is_dry = input.is_true("DryRun");
    let entry = entry(input, &state)?;
    check_size(service, &entry, service.record_size_limit(&state), &|| "data".to_owned())?;
    if is_dry {
        return match try_only(service, &live, &entry)? {
            Some(shard) => Err(ApiError::throughput(rate_exceeded(service, &state, shard))),
            None => Err(dry_run()),
        };
    }
    match store(service, live, vec![entry]).await?.first() {
        Some(Fate::Stored { shard, created_s, offset }) => {
            let answer = Value::map([
                ("ShardId", Value::text(shard_id(*shard))),
                ("SequenceNumber", Value::text(sequence_number(*created_s, *shard, *offset))),
            ]);
            Ok(Answer::Value(with_encryption(answer, &state)))
        }
        Some(Fate::Throttled { shard }) => Err(ApiError::throughput(rate_exceeded(service, &state, *shard))),
        Some(Fate::Failed) | None => Err(ApiError::internal(Some("Internal Service Failure.".to_owned()))),
    }
}

pub(crate) async fn many(service: &Arc<Service>, mut input: Value<'_>) -> Outcome {
    let live = writable(service, &input)?;
    let state = live.state();
    let records = take_records(&mut input).into_iter();
    let entries = records.map(|record| entry(record, &state)).collect::<Result<Vec<_>, _>>()?;
    let limit = service.record_size_limit(&state);
    for (n, entry) in entries.iter().enumerate() {
        check_size(service, entry, limit, &|| format!("records.{}.member.data", n + 1))?;
    }
    if entries.iter().map(|entry| entry.bytes).sum::<usize>() > MAX_TOTAL_BYTES {
        return Err(ApiError::invalid("Records size exceeds 10 MB limit"));
    }
    if input.is_true("DryRun") {
        for entry in &entries {
            // A record that is refused for its shard's sake does not make the call fail.
            try_only(service, &live, entry)?;
        }
        return Err(dry_run());
    }
    let fates = store(service, live, entries).await?;
    let failed = fates.iter().filter(|fate| !matches!(fate, Fate::Stored { .. })).count();
    let records = fates.into_iter().map(|fate| match fate {
        Fate::Stored { shard, created_s, offset } => Value::map([
            ("SequenceNumber", Value::text(sequence_number(created_s, shard, offset))),
            ("ShardId", Value::text(shard_id(shard))),
        ]),
        Fate::Throttled { shard } => Value::map([
            ("ErrorCode", Value::text("ProvisionedThroughputExceededException")),
            ("ErrorMessage", Value::text(rate_exceeded(service, &state, shard))),
        ]),
        Fate::Failed => Value::map([
            ("ErrorCode", Value::text("InternalFailure")),
            ("ErrorMessage", Value::text("Internal Service Failure.")),
        ]),
    });
    let answer = Value::map([
        ("FailedRecordCount", super::streams::count(failed)),
        ("Records", Value::List(records.collect())),
    ]);
    Ok(Answer::Value(with_encryption(answer, &state)))
}

/// An answer to a put, with the encryption that the stream shows.
fn with_encryption(mut answer: Value<'static>, state: &StreamState) -> Value<'static> {
    if state.encryption_key.is_some() {
        answer.push("EncryptionType", Value::text("KMS"));
    }
    answer
}

/// What [`store`] would do, without doing it: the shard that would refuse a record now, if one would.
fn try_only(service: &Service, live: &Live, entry: &Entry) -> Result<Option<u32>, ApiError> {
    if service.catalog.log().health() != Health::Writable {
        return Err(ApiError::internal(Some("Internal Service Failure.".to_owned())));
    }
    let state = live.state();
    let taken_by = state.open_shards().find(|(_, shard)| shard.range.contains(entry.hash_key));
    let refuses = |shard: &u32| {
        service.config.enforce_throughput && !live.throttle.may_write(*shard, entry.bytes, service.now_ms())
    };
    Ok(taken_by.map(|(shard, _)| shard).filter(refuses))
}

/// The latest time that a sequence number of a stream can carry, seconds: that of now, or of a shard that changes of
/// shards have put ahead of the clock.
fn latest_s(state: &StreamState, now_ms: i64) -> u64 {
    state.shards.iter().map(|shard| shard.created_s).fold(seconds(now_ms), u64::max)
}

fn rate_exceeded(service: &Service, state: &StreamState, shard: u32) -> String {
    format!("Rate exceeded for shard {} in {}.", shard_id(shard), service.named(&state.name))
}

/// The stream, where it takes records now.
fn writable(service: &Service, input: &Value<'_>) -> Result<Arc<Live>, ApiError> {
    let live = service.live(input)?;
    let state = live.state();
    match state.status(service.now_ms()) {
        Status::Active | Status::Updating => Ok(live),
        Status::Creating | Status::Deleting => Err(service.no_stream(&state.name)),
    }
}

fn take_records<'a>(input: &mut Value<'a>) -> Vec<Value<'a>> {
    let Value::Map(members) = input else { return Vec::new() };
    let records = members
        .iter_mut()
        .find(|(name, _)| name == "Records")
        .map(|(_, value)| std::mem::replace(value, Value::Null));
    match records {
        Some(Value::List(records)) => records,
        _ => Vec::new(),
    }
}

/// A checked record of a request as one for the log.
fn entry(record: Value<'_>, state: &StreamState) -> Result<Entry, ApiError> {
    let Value::Map(members) = record else { return Err(ApiError::bare("SerializationException")) };
    let (mut data, mut key, mut explicit) = (Bytes::new(), None, None);
    for (name, value) in members {
        match (name.as_ref(), value) {
            ("Data", Value::Blob(bytes)) => data = bytes,
            ("PartitionKey", Value::Text(text)) => key = Some(text),
            ("ExplicitHashKey", Value::Text(text)) => explicit = Some(text),
            _ => {}
        }
    }
    let key = key.unwrap_or_default();
    let hash_key = match &explicit {
        None => hash_key(&key),
        Some(text) => parse_hash_key(text).ok_or_else(|| {
            ApiError::invalid(format!(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
            ))
        })?,
    };
    let explicit = explicit.map(|text| (EXPLICIT_HASH_KEY.to_owned(), Some(Bytes::from(text.into_owned()))));
    let is_encrypted = state.encryption_key.is_some();
    let encryption = is_encrypted.then(|| (ENCRYPTION_TYPE.to_owned(), Some(Bytes::from_static(b"KMS"))));
    let bytes = data.len() + key.len();
    let record = Record {
        key: Some(Bytes::from(key.into_owned())),
        value: Some(data),
        headers: explicit.into_iter().chain(encryption).collect(),
        timestamp_ms: None,
    };
    Ok(Entry { hash_key, bytes, record })
}

/// A record may have as many bytes of data and partition key together as its stream takes.
fn check_size(
    service: &Service,
    entry: &Entry,
    limit: usize,
    path: &dyn Fn() -> String,
) -> Result<(), ApiError> {
    let data = entry.record.value.as_ref().map_or(0, Bytes::len);
    if data > limit {
        let printed = format!("java.nio.HeapByteBuffer[pos=0 lim={data} cap={data}]");
        let must = format!("have length less than or equal to {limit}");
        return Err(exception(&[breach(Some(&printed), &path(), &must)]));
    }
    if entry.bytes > limit {
        return Err(ApiError::invalid(format!(
            "The data and the partition key of a record have {} bytes together, the limit of the stream is {limit}.",
            entry.bytes
        )));
    }
    // What the log would refuse would take the other records of the shard along.
    let header = |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
    let stored = entry.bytes + entry.record.headers.iter().map(header).sum::<usize>();
    let most = service.catalog.log().max_record_bytes();
    if stored > most {
        return Err(ApiError::invalid(format!(
            "A record takes {stored} bytes in the log of the streams, whose limit is {most}."
        )));
    }
    Ok(())
}

/// The records for one shard, and their places in the request.
struct Batch {
    shard: u32,
    created_s: u64,
    places: Vec<usize>,
    records: Vec<Record>,
}

/// Appends records to their shards and tells what became of each, in order. An error means that none was stored.
///
/// The log takes records to its end whether or not their client still waits. As long, the gate must be held: a record that
/// lands behind the end that a change of shards has noted would never be read.
async fn store(service: &Arc<Service>, live: Arc<Live>, entries: Vec<Entry>) -> Result<Vec<Fate>, ApiError> {
    // Whoever goes away while it waits here takes its records along.
    let bytes = entries.iter().map(|entry| entry.bytes + RECORD_OVERHEAD).sum();
    let memory = service.memory_to_append(bytes).await?;
    let service = Arc::clone(service);
    detached(async move {
        let fates = append(&service, &live, entries).await;
        drop(memory);
        fates
    })
    .await
}

async fn append(service: &Service, live: &Live, entries: Vec<Entry>) -> Result<Vec<Fate>, ApiError> {
    let _shared = live.gate.read().await;
    // Looked at again: the stream may have changed while a change of its shards held this request back.
    let state = live.state();
    if state.is_deleting {
        return Err(service.no_stream(&state.name));
    }
    let mut fates = vec![Fate::Failed; entries.len()];
    let mut open: Vec<_> = state.open_shards().collect();
    open.sort_by_key(|(_, shard)| shard.range.start);
    let mut batches: Vec<Option<Batch>> = open.iter().map(|_| None).collect();
    let now_ms = service.now_ms();
    for (place, entry) in entries.into_iter().enumerate() {
        // Ranges leave no gap, so the last one that starts at or below the key holds it.
        let at = open.partition_point(|(_, shard)| shard.range.start <= entry.hash_key).saturating_sub(1);
        let (Some((index, shard)), Some(batch)) = (open.get(at), batches.get_mut(at)) else { continue };
        if service.config.enforce_throughput && !live.throttle.take_write(*index, entry.bytes, now_ms) {
            if let Some(fate) = fates.get_mut(place) {
                *fate = Fate::Throttled { shard: *index };
            }
            continue;
        }
        let empty =
            || Batch { shard: *index, created_s: shard.created_s, places: Vec::new(), records: Vec::new() };
        let batch = batch.get_or_insert_with(empty);
        batch.places.push(place);
        batch.records.push(entry.record);
    }
    let log = service.catalog.log();
    let appends = batches.into_iter().flatten().map(|batch| {
        let state = &state;
        async move {
            let stored = log.append(&state.name, batch.shard, batch.records).await;
            (batch.shard, batch.created_s, batch.places, stored)
        }
    });
    for (shard, created_s, places, stored) in join_all(appends).await {
        match stored {
            Ok(offsets) => {
                for (place, offset) in places.into_iter().zip(offsets) {
                    if let Some(fate) = fates.get_mut(place) {
                        *fate = Fate::Stored { shard, created_s, offset };
                    }
                }
            }
            Err(error) => {
                tracing::error!(stream = state.name, shard, records = places.len(), %error, "records could not be stored");
            }
        }
    }
    Ok(fates)
}
