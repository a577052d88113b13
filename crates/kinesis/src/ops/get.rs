//! Reading a shard: iterators, and the records at them.

use std::time::Duration;

use bytes::Bytes;
use pinmill_broker::{Error, ReadLimit, StoredRecord};
use pinmill_http::Reservation;

use crate::error::ApiError;
use crate::ids::iterator::{LIFETIME_MS, ShardIterator};
use crate::ids::sequence::{Sequence, encoded_shard_id, parse_shard_id, sequence_number, shard_id};
use crate::model::{Shard, Status, StreamState};
use crate::ops::put::ENCRYPTION_TYPE;
use crate::ops::{Answer, Outcome, check_dry_run, page_size, shards};
use crate::service::Service;
use crate::value::Value;

/// Most data that one call answers, in bytes.
const MAX_BYTES: usize = 10 * 1024 * 1024;
const MAX_RECORDS: usize = 10_000;
/// Memory for one page: data, the same in base64, what describes the records, and a record that was read and is over.
pub(crate) const PAGE_MEMORY: usize = 4 * MAX_BYTES;
/// Memory for an answer without records.
const EMPTY_MEMORY: usize = 4096;
/// What a record is taken to have when a small limit is asked for, so that little is read in vain.
const TYPICAL_RECORD_BYTES: usize = 4096;

/// Where a client wants to begin.
pub(crate) struct Start<'a> {
    /// One of the five types.
    pub(crate) kind: &'a str,
    pub(crate) sequence_number: Option<&'a str>,
    pub(crate) timestamp_ms: Option<i64>,
}

pub(crate) async fn iterator(service: &Service, input: &Value<'_>) -> Outcome {
    let name = service.stream_name(input)?;
    let given = input.str("ShardId").unwrap_or_default();
    let index = parse_shard_id(given).ok_or_else(|| shards::unknown(service, given, name))?;
    let (state, _) = shard(service, name, index)?;
    let start = Start {
        kind: input.str("ShardIteratorType").unwrap_or_default(),
        sequence_number: input.str("StartingSequenceNumber"),
        timestamp_ms: input.time("Timestamp"),
    };
    let offset = find_start(service, &state, index, &start).await?;
    check_dry_run(input)?;
    Ok(Answer::Value(Value::map([("ShardIterator", Value::text(encode(service, &state, index, offset)))])))
}

fn encode(service: &Service, state: &StreamState, shard: u32, offset: u64) -> String {
    let iterator = ShardIterator {
        created_ms: service.now_ms(),
        stream: state.name.clone(),
        stream_created_ms: state.created_ms,
        shard,
        offset,
    };
    iterator.encode(rand::random())
}

fn no_shard(service: &Service, index: u32, stream: &str) -> ApiError {
    ApiError::not_found(format!("Shard {} in {} does not exist", shard_id(index), service.named(stream)))
}

/// A shard that can be read: its stream is there, and not all of its records are too old.
pub(crate) fn shard(
    service: &Service,
    stream: &str,
    index: u32,
) -> Result<(std::sync::Arc<StreamState>, Shard), ApiError> {
    let missing = || no_shard(service, index, stream);
    let state = service.catalog.get(stream).ok_or_else(missing)?.state();
    if matches!(state.status(service.now_ms()), Status::Creating | Status::Deleting) {
        return Err(missing());
    }
    let horizon_ms = state.horizon_ms(service.now_ms());
    let shard = state.shard(index).filter(|shard| !shard.is_expired(horizon_ms)).cloned();
    let shard = shard.ok_or_else(missing)?;
    Ok((state, shard))
}

/// The offset at which a client wants to begin.
pub(crate) async fn find_start(
    service: &Service,
    state: &StreamState,
    index: u32,
    start: &Start<'_>,
) -> Result<u64, ApiError> {
    const EITHER: &str = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or \
                          (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber.";
    let (kind, now_ms) = (start.kind, service.now_ms());
    let log = service.catalog.log();
    let range = log.offsets(&state.name, index).await.map_err(|error| lost(service, state, index, error))?;
    match (kind, start.sequence_number) {
        ("TRIM_HORIZON" | "LATEST", Some(_)) => Err(ApiError::invalid(format!(
            "{EITHER} Request specified {kind} and also a StartingSequenceNumber."
        ))),
        ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER", None) => Err(ApiError::invalid(format!(
            "{EITHER} Request specified {kind} and no StartingSequenceNumber."
        ))),
        ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER", Some(number)) => {
            let sequence = parse_sequence(service, state, index, number)?;
            let offset =
                if kind == "AT_SEQUENCE_NUMBER" { sequence.at_offset() } else { sequence.after_offset() };
            Ok(offset.min(range.end))
        }
        ("AT_TIMESTAMP", _) => {
            let at_ms = start.timestamp_ms.ok_or_else(|| {
                ApiError::invalid(
                    "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no \
                     timestamp parameter.",
                )
            })?;
            if at_ms > now_ms {
                return Err(ApiError::invalid(format!(
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                     timestampInMillis: {at_ms}, currentTimestampInMillis: {now_ms}"
                )));
            }
            Ok(log.offset_at(&state.name, index, at_ms).await?.unwrap_or(range.end))
        }
        ("LATEST", None) => Ok(range.end),
        _ => trim_horizon(service, state, index).await,
    }
}

fn parse_sequence(
    service: &Service,
    state: &StreamState,
    index: u32,
    number: &str,
) -> Result<Sequence, ApiError> {
    let invalid = |reason: &str| {
        ApiError::invalid(format!(
            "StartingSequenceNumber {number} used in GetShardIterator on shard {} in {} is invalid{reason}.",
            shard_id(index),
            service.named(&state.name)
        ))
    };
    let sequence = Sequence::parse(number).ok_or_else(|| invalid(""))?;
    if sequence.shard != i64::from(index) {
        return Err(ApiError::invalid(format!(
            "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {}",
            encoded_shard_id(sequence.shard),
            shard_id(index)
        )));
    }
    let created_s = state.shard(index).map(|shard| shard.created_s);
    match sequence.version {
        2 if Some(sequence.created_s) == created_s => Ok(sequence),
        0 => Err(ApiError::internal(None)),
        _ => Err(invalid(" because it did not come from this stream")),
    }
}

/// The first offset that can still be read.
async fn trim_horizon(service: &Service, state: &StreamState, index: u32) -> Result<u64, ApiError> {
    let log = service.catalog.log();
    let range = log.offsets(&state.name, index).await?;
    let horizon_ms = state.horizon_ms(service.now_ms());
    if state.created_ms >= horizon_ms {
        return Ok(range.beginning);
    }
    Ok(log.offset_at(&state.name, index, horizon_ms).await?.unwrap_or(range.end))
}

/// A log that no longer knows a stream has lost it to a deletion a moment ago.
fn lost(service: &Service, state: &StreamState, index: u32, error: Error) -> ApiError {
    match error {
        Error::UnknownTopic(_) | Error::UnknownPartition { .. } => no_shard(service, index, &state.name),
        error => error.into(),
    }
}

/// A piece of a shard.
pub(crate) struct Page {
    pub(crate) records: Vec<StoredRecord>,
    /// Where the shard goes on.
    pub(crate) next: u64,
    /// The offset after the shard's last record at the time.
    pub(crate) end: u64,
    /// True where the shard is closed and has no more records.
    pub(crate) is_finished: bool,
}

impl Page {
    /// How far the last of the records lies behind the newest, in milliseconds.
    pub(crate) fn millis_behind(&self, now_ms: i64) -> i64 {
        if self.next >= self.end {
            return 0;
        }
        self.records.last().map_or(0, |last| (now_ms - last.timestamp_ms).max(0))
    }
}

/// Bytes of a record's data and partition key.
fn bytes_of(record: &StoredRecord) -> usize {
    record.value.as_ref().map_or(0, Bytes::len) + record.key.as_ref().map_or(0, Bytes::len)
}

/// Reads a shard from an offset on, up to `max_records` and about `max_bytes`; waits for a first record at its end.
pub(crate) async fn read(
    service: &Service,
    state: &StreamState,
    index: u32,
    offset: u64,
    max_records: usize,
    max_bytes: usize,
    max_wait: Duration,
) -> Result<Page, ApiError> {
    let (mut next, mut records, mut bytes) = (offset, Vec::new(), 0);
    let mut wait = max_wait;
    'pages: while records.len() < max_records && bytes < max_bytes {
        let room =
            (max_bytes - bytes).min((max_records - records.len()).saturating_mul(TYPICAL_RECORD_BYTES));
        let limit = ReadLimit { max_bytes: room, max_wait: wait };
        let read = read_once(service, state, index, next, limit).await?;
        wait = Duration::ZERO;
        if read.is_empty() {
            break;
        }
        for record in read {
            let size = bytes_of(&record);
            // A log gives one record whatever its size; only as the first of a page may it be over the limit.
            let is_over = !records.is_empty() && bytes + size > max_bytes;
            if is_over || records.len() == max_records {
                break 'pages;
            }
            bytes += size;
            next = record.offset + 1;
            records.push(record);
        }
    }
    let end = service
        .catalog
        .log()
        .offsets(&state.name, index)
        .await
        .map_err(|error| lost(service, state, index, error))?
        .end;
    // The state of now: the shard may have been closed while this waited.
    let now = service.catalog.get(&state.name).map(|live| live.state());
    let closed = now.as_deref().unwrap_or(state).shard(index).and_then(|shard| shard.closed);
    let is_finished = closed.is_some_and(|closed| next >= closed.end_offset);
    Ok(Page { records, next, end, is_finished })
}

async fn read_once(
    service: &Service,
    state: &StreamState,
    index: u32,
    offset: u64,
    limit: ReadLimit,
) -> Result<Vec<StoredRecord>, ApiError> {
    let log = service.catalog.log();
    let read = match log.read(&state.name, index, offset, limit).await {
        // Retention was faster than the reader: it goes on with what there is.
        Err(Error::OffsetOutOfRange { beginning, .. }) if offset < beginning => {
            log.read(&state.name, index, beginning, limit).await
        }
        other => other,
    };
    let read = read.map_err(|error| lost(service, state, index, error))?;
    let horizon_ms = state.horizon_ms(service.now_ms());
    if read.first().is_none_or(|first| first.timestamp_ms >= horizon_ms) {
        return Ok(read);
    }
    let horizon = trim_horizon(service, state, index).await?;
    let at_once = ReadLimit { max_wait: Duration::ZERO, ..limit };
    log.read(&state.name, index, horizon.max(offset), at_once)
        .await
        .map_err(|error| lost(service, state, index, error))
}

pub(crate) async fn records(service: &Service, input: &Value<'_>) -> Outcome {
    let now_ms = service.now_ms();
    let invalid = || ApiError::invalid("Invalid ShardIterator.");
    let iterator =
        ShardIterator::decode(input.str("ShardIterator").unwrap_or_default()).ok_or_else(invalid)?;
    if iterator.created_ms > now_ms {
        return Err(invalid());
    }
    if iterator.has_expired(now_ms) {
        return Err(ApiError::client(
            "ExpiredIteratorException",
            format!(
                "Iterator expired. The iterator was created at time {} while right now it is {} which is further in the \
                 future than the tolerated delay of {LIFETIME_MS} milliseconds.",
                amazon_utc(iterator.created_ms),
                amazon_utc(now_ms)
            ),
        ));
    }
    let (state, _) = shard(service, &iterator.stream, iterator.shard)?;
    if state.created_ms != iterator.stream_created_ms {
        return Err(no_shard(service, iterator.shard, &iterator.stream));
    }
    if input.get("StreamARN").is_some() && service.stream_name(input)? != iterator.stream {
        return Err(ApiError::invalid("The ShardIterator is not one of the stream that StreamARN names."));
    }
    let is_dry = input.is_true("DryRun");
    let live = service.catalog.get(&state.name).filter(|_| service.config.enforce_throughput);
    let throttle = live.as_ref().map(|live| &live.throttle);
    let may_read = throttle.is_none_or(|throttle| {
        if is_dry {
            throttle.may_read(iterator.shard, now_ms)
        } else {
            throttle.take_read(iterator.shard, now_ms)
        }
    });
    if !may_read {
        let shard = shard_id(iterator.shard);
        return Err(ApiError::throughput(format!(
            "Rate exceeded for shard {shard} in {}.",
            service.named(&state.name)
        )));
    }
    check_dry_run(input)?;
    let limit = page_size(input, "Limit", MAX_RECORDS);
    let memory = memory_for(service, &state, iterator.shard, iterator.offset).await?;
    let page =
        read(service, &state, iterator.shard, iterator.offset, limit, MAX_BYTES, Duration::ZERO).await?;
    if let Some(throttle) = throttle {
        throttle.note_read(iterator.shard, page.records.iter().map(bytes_of).sum());
    }
    let mut answer = Value::map([("MillisBehindLatest", Value::Int(page.millis_behind(now_ms)))]);
    if page.is_finished {
        let now = service.catalog.get(&state.name).map_or(state, |live| live.state());
        answer.push("ChildShards", shards::children(&now, iterator.shard));
        answer.push("Records", describe(page.records, &now, iterator.shard));
    } else {
        answer.push("NextShardIterator", Value::text(encode(service, &state, iterator.shard, page.next)));
        answer.push("Records", describe(page.records, &state, iterator.shard));
    }
    Ok(Answer::Stored(answer, memory))
}

/// Memory for the records from an offset on, before they are read. Most calls find none.
async fn memory_for(
    service: &Service,
    state: &StreamState,
    index: u32,
    offset: u64,
) -> Result<Reservation, ApiError> {
    let range = service.catalog.log().offsets(&state.name, index).await;
    let end = range.map_err(|error| lost(service, state, index, error))?.end;
    let bytes = if offset < end { PAGE_MEMORY } else { EMPTY_MEMORY };
    service.config.answer_memory.reserve(bytes).await.ok_or_else(|| {
        ApiError::throughput("Rate exceeded: no memory is left for answers that clients have not read yet.")
    })
}

/// Records as a client sees them.
pub(crate) fn describe(records: Vec<StoredRecord>, state: &StreamState, index: u32) -> Value<'static> {
    let created_s = state.shard(index).map_or(0, |shard| shard.created_s);
    let described = records.into_iter().map(|record| {
        let key = record.key.unwrap_or_default();
        let is_encrypted = record.headers.iter().any(|(name, _)| name == ENCRYPTION_TYPE);
        let mut described = Value::map([
            ("SequenceNumber", Value::text(sequence_number(created_s, index, record.offset))),
            ("ApproximateArrivalTimestamp", Value::Time(record.timestamp_ms)),
            ("Data", Value::Blob(record.value.unwrap_or_default())),
            ("PartitionKey", Value::text(String::from_utf8_lossy(&key).into_owned())),
        ]);
        if is_encrypted {
            described.push("EncryptionType", Value::text("KMS"));
        }
        described
    });
    Value::List(described.collect())
}

/// A time in the form `Thu Jan 22 01:22:02 UTC 2015`.
fn amazon_utc(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%a %b %d %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_messages_have_amazons_form() {
        assert_eq!(amazon_utc(1_421_889_722_999), "Thu Jan 22 01:22:02 UTC 2015");
    }
}
