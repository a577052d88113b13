//! Streams: making, describing, listing and deleting them.

use std::sync::Arc;

use crate::catalog::{Catalog, Totals};
use crate::config::MAX_OPEN_SHARDS;
use crate::error::ApiError;
use crate::ids::{sequence::parse_shard_id, token};
use crate::model::{Mode, Pending, Status, StreamState};
use crate::ops::{Answer, Outcome, page_size, settings, shards, tags};
use crate::service::Service;
use crate::value::Value;

/// Shards of an on-demand stream that does not say how many.
const ON_DEMAND_SHARDS: u32 = 4;
/// Most streams of a listing, and most shards of a description.
const PAGE: usize = 100;

pub(crate) async fn create_stream(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let name = input.str("StreamName").unwrap_or_default();
    let asked = input.int("ShardCount").and_then(|count| u32::try_from(count).ok());
    // Whoever says neither leaves the shards to the service.
    let mode = mode_of(input).unwrap_or(if asked.is_some() { Mode::Provisioned } else { Mode::OnDemand });
    let count = asked.unwrap_or(ON_DEMAND_SHARDS);
    settings::check_warm_throughput(input)?;
    settings::check_distribution(input)?;
    let tags = tags::of(input);
    tags::check_new(service, name, &tags)?;
    let limit = record_size(input);
    make(service, name, count, mode, service.config.delay_ms(), move |state| {
        state.tags = tags;
        state.record_size_limit = limit;
    })
    .await?;
    Ok(Answer::Empty)
}

/// Makes a stream that is active at once.
pub(crate) async fn create(
    service: &Arc<Service>,
    name: &str,
    shards: u32,
    mode: Mode,
) -> Result<(), ApiError> {
    make(service, name, shards, mode, 0, |_| {}).await
}

async fn make(
    service: &Arc<Service>,
    name: &str,
    count: u32,
    mode: Mode,
    delay_ms: i64,
    finish: impl FnOnce(&mut StreamState) + Send + 'static,
) -> Result<(), ApiError> {
    let (service, name) = (Arc::clone(service), name.to_owned());
    let catalog = Arc::clone(&service.catalog);
    let decide = move |catalog: &Catalog| {
        let now_ms = service.now_ms();
        if catalog.get(&name).is_some() {
            let account = &service.config.account_id;
            return Err(ApiError::in_use(format!("Stream {name} under account {account} already exists.")));
        }
        service.check_new_name(&name)?;
        let totals = catalog.totals(now_ms);
        check_shard_limit(&service, &totals, count)?;
        check_open_shards(count)?;
        check_all_shards(&service, &totals, count as usize)?;
        if mode == Mode::OnDemand {
            check_on_demand_limit(&service, &totals)?;
        }
        if delay_ms > 0 && totals.creating >= service.config.creating_limit {
            let limit = service.config.creating_limit;
            return Err(ApiError::limit(format!(
                "At most {limit} streams may be in state CREATING at a time."
            )));
        }
        let mut state = StreamState::new(&name, count, mode, now_ms);
        if delay_ms > 0 {
            state.pending = Some(Pending { status: Status::Creating, until_ms: now_ms + delay_ms });
        }
        finish(&mut state);
        Ok(state)
    };
    catalog.create(decide).await
}

/// Refuses one more stream in on-demand mode where there are as many as may be.
pub(crate) fn check_on_demand_limit(service: &Service, totals: &Totals) -> Result<(), ApiError> {
    let limit = service.config.on_demand_limit;
    if totals.on_demand < limit {
        return Ok(());
    }
    Err(ApiError::limit(format!("There may be at most {limit} streams in on-demand mode.")))
}

/// Refuses more open shards than one stream may have.
pub(crate) fn check_open_shards(count: u32) -> Result<(), ApiError> {
    if count <= MAX_OPEN_SHARDS {
        return Ok(());
    }
    Err(ApiError::limit(format!("A stream may have at most {MAX_OPEN_SHARDS} open shards, not {count}.")))
}

/// Refuses more shards than there may be in all, which is more than there may be open: each stays for as long as its
/// stream does.
pub(crate) fn check_all_shards(
    service: &Service,
    totals: &Totals,
    additional: usize,
) -> Result<(), ApiError> {
    let (limit, current) = (service.config.all_shards_limit, totals.all_shards);
    if current.saturating_add(additional) <= limit as usize {
        return Ok(());
    }
    Err(ApiError::limit(format!(
        "There may be at most {limit} shards in all, those that were split or merged included, and there are {current}; \
         deleting a stream frees its shards."
    )))
}

/// Refuses what would open more shards than the account may have.
pub(crate) fn check_shard_limit(service: &Service, totals: &Totals, additional: u32) -> Result<(), ApiError> {
    let (config, current) = (&service.config, totals.open_shards);
    if current.saturating_add(additional) <= config.shard_limit {
        return Ok(());
    }
    Err(ApiError::limit(format!(
        "This request would exceed the shard limit for the account {} in {}. Current shard count for the account: {current}. \
         Limit: {}. Number of additional shards that would have resulted from this request: {additional}. \
         Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current \
         limits and how to request higher limits.",
        config.account_id, service.region, config.shard_limit
    )))
}

pub(crate) async fn delete(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let name = live.state().name.clone();
    let is_enforced = input.is_true("EnforceConsumerDeletion");
    let shared = Arc::clone(service);
    let check = move |state: &StreamState| {
        shared.check_status(state, &[Status::Active])?;
        if state.consumers.is_empty() || is_enforced {
            return Ok(());
        }
        let message = "enforceConsumerDeletion is either not set or is false";
        Err(ApiError::in_use(format!("Consumers exist in stream {} and {message}", state.name)))
    };
    service.catalog.delete(&name, service.config.creation_delay, check).await?;
    Ok(Answer::Empty)
}

pub(crate) fn describe(service: &Service, input: &Value<'_>) -> Outcome {
    let state = service.live(input)?.state();
    let now_ms = service.now_ms();
    let after = match input.str("ExclusiveStartShardId") {
        None => None,
        Some(id) => Some(parse_shard_id(id).ok_or_else(|| shards::unknown(service, id, &state.name))?),
    };
    let limit = page_size(input, "Limit", PAGE);
    let listed =
        shards::readable(&state, now_ms).filter(|(index, _)| after.is_none_or(|after| *index > after));
    let mut listed: Vec<_> = listed.take(limit.saturating_add(1)).collect();
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let listed = listed.into_iter().map(|(index, shard)| shards::describe(index, shard)).collect();
    let mut description = common(service, &state, now_ms);
    description.push("Shards", Value::List(listed));
    description.push("HasMoreShards", Value::Bool(has_more));
    Ok(Answer::Value(Value::map([("StreamDescription", description)])))
}

pub(crate) fn summarize(service: &Service, input: &Value<'_>) -> Outcome {
    let state = service.live(input)?.state();
    let now_ms = service.now_ms();
    let is_creating = state.status(now_ms) == Status::Creating;
    let open = if is_creating { 0 } else { state.open_shards().count() };
    let mut summary = common(service, &state, now_ms);
    summary.push("OpenShardCount", count(open));
    summary.push("ConsumerCount", count(state.consumers.len()));
    summary.push("MaxRecordSizeInKiB", count(service.record_size_limit(&state) / 1024));
    summary.push("ChannelCount", count(0));
    summary.push("QueueCount", count(0));
    if state.mode == Mode::OnDemand {
        summary.push("RecordDistributionStrategy", Value::text("USER_PARTITION_KEY"));
    }
    Ok(Answer::Value(Value::map([("StreamDescriptionSummary", summary)])))
}

/// What both descriptions have.
fn common(service: &Service, state: &StreamState, now_ms: i64) -> Value<'static> {
    let metrics = Value::map([("ShardLevelMetrics", settings::list(&state.shard_metrics))]);
    let mut common = Value::map([
        ("StreamName", Value::text(state.name.clone())),
        ("StreamARN", Value::text(service.stream_arn(&state.name))),
        ("StreamStatus", Value::text(state.status(now_ms).name())),
        ("StreamModeDetails", mode_details(state)),
        ("RetentionPeriodHours", Value::Int(state.retention_hours)),
        ("StreamCreationTimestamp", Value::Time(state.created_ms)),
        ("EnhancedMonitoring", Value::List(vec![metrics])),
        ("EncryptionType", Value::text(if state.encryption_key.is_some() { "KMS" } else { "NONE" })),
    ]);
    if let Some(key) = &state.encryption_key {
        common.push("KeyId", Value::text(key.clone()));
    }
    common
}

fn mode_details(state: &StreamState) -> Value<'static> {
    Value::map([("StreamMode", Value::text(state.mode.name()))])
}

pub(crate) fn count(number: usize) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(crate) fn list(service: &Service, input: &Value<'_>) -> Outcome {
    let now_ms = service.now_ms();
    let token: Option<String> =
        input.str("NextToken").map(|token| token::decode(token, now_ms)).transpose()?;
    let after = token.as_deref().or(input.str("ExclusiveStartStreamName"));
    let limit = page_size(input, "Limit", PAGE);
    let all = service.catalog.all();
    let listed = all.iter().filter(|state| after.is_none_or(|after| state.name.as_str() > after));
    let mut listed: Vec<_> = listed.take(limit.saturating_add(1)).collect();
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let summary = |state: &&Arc<StreamState>| {
        Value::map([
            ("StreamName", Value::text(state.name.clone())),
            ("StreamARN", Value::text(service.stream_arn(&state.name))),
            ("StreamStatus", Value::text(state.status(now_ms).name())),
            ("StreamModeDetails", mode_details(state)),
            ("StreamCreationTimestamp", Value::Time(state.created_ms)),
        ])
    };
    let mut answer = Value::map([
        ("StreamNames", Value::List(listed.iter().map(|state| Value::text(state.name.clone())).collect())),
        ("HasMoreStreams", Value::Bool(has_more)),
        ("StreamSummaries", Value::List(listed.iter().map(summary).collect())),
    ]);
    if let Some(last) = listed.last().filter(|_| has_more) {
        answer.push("NextToken", Value::text(token::encode(&last.name, now_ms)?));
    }
    Ok(Answer::Value(answer))
}

pub(crate) fn limits(service: &Service) -> Answer {
    let totals = service.catalog.totals(service.now_ms());
    Answer::Value(Value::map([
        ("ShardLimit", Value::Int(i64::from(service.config.shard_limit))),
        ("OpenShardCount", Value::Int(i64::from(totals.open_shards))),
        ("OnDemandStreamCount", Value::Int(i64::from(totals.on_demand))),
        ("OnDemandStreamCountLimit", Value::Int(i64::from(service.config.on_demand_limit))),
        ("ChannelCount", Value::Int(0)),
        ("ChannelCountLimit", Value::Int(0)),
    ]))
}

pub(crate) fn mode_of(input: &Value<'_>) -> Option<Mode> {
    input.get("StreamModeDetails").and_then(|details| details.str("StreamMode")).map(Mode::parse)
}

pub(crate) fn record_size(input: &Value<'_>) -> Option<usize> {
    let kib = input.int("MaxRecordSizeInKiB")?;
    usize::try_from(kib).ok().map(|kib| kib * 1024)
}
