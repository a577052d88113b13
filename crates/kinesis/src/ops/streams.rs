//! Streams: making, describing, listing, changing and deleting them.

use std::sync::Arc;

use crate::catalog::{Catalog, Totals};
use crate::error::ApiError;
use crate::ids::{sequence::parse_shard_id, token};
use crate::model::{MAX_RETENTION_HOURS, MIN_RETENTION_HOURS, Mode, Pending, Status, StreamState};
use crate::ops::{Answer, Outcome, shards, tags};
use crate::service::Service;
use crate::value::Value;

/// Shards of an on-demand stream that does not say how many.
const ON_DEMAND_SHARDS: u32 = 4;
const DEFAULT_LIMIT: i64 = 100;

pub(crate) async fn create_stream(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let name = input.str("StreamName").unwrap_or_default();
    let mode = mode_of(input).unwrap_or(Mode::Provisioned);
    let count =
        input.int("ShardCount").and_then(|count| u32::try_from(count).ok()).unwrap_or(ON_DEMAND_SHARDS);
    let tags = tags::of(input);
    tags::check_new(service, name, &tags, 0)?;
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
        if mode == Mode::OnDemand && totals.on_demand >= service.config.on_demand_limit {
            let limit = service.config.on_demand_limit;
            return Err(ApiError::limit(format!("There may be at most {limit} streams in on-demand mode.")));
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
        config.account_id, config.region, config.shard_limit
    )))
}

pub(crate) async fn delete(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let name = live.state().name.clone();
    let is_enforced = input.is_true("EnforceConsumerDeletion");
    let check = move |state: &StreamState| {
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
    let limit = usize::try_from(input.int("Limit").unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX);
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
    Ok(Answer::Value(Value::map([("StreamDescriptionSummary", summary)])))
}

/// What both descriptions have.
fn common(service: &Service, state: &StreamState, now_ms: i64) -> Value<'static> {
    let metrics = Value::map([("ShardLevelMetrics", Value::List(Vec::new()))]);
    Value::map([
        ("StreamName", Value::text(state.name.clone())),
        ("StreamARN", Value::text(service.stream_arn(&state.name))),
        ("StreamStatus", Value::text(state.status(now_ms).name())),
        ("StreamModeDetails", mode_details(state)),
        ("RetentionPeriodHours", Value::Int(state.retention_hours)),
        ("StreamCreationTimestamp", Value::Time(state.created_ms)),
        ("EnhancedMonitoring", Value::List(vec![metrics])),
        ("EncryptionType", Value::text("NONE")),
    ])
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
    let limit = usize::try_from(input.int("Limit").unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX);
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
    ]))
}

pub(crate) async fn increase_retention(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    change_retention(service, input, |state, hours| {
        let now = state.retention_hours;
        (hours < now).then_some(("shorter", now, "Use DecreaseRetentionPeriod API."))
    })
    .await
}

pub(crate) async fn decrease_retention(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    change_retention(service, input, |state, hours| {
        let now = state.retention_hours;
        (hours > now).then_some(("longer", now, "Use IncreaseRetentionPeriod API."))
    })
    .await
}

type WrongWay = fn(&StreamState, i64) -> Option<(&'static str, i64, &'static str)>;

async fn change_retention(service: &Arc<Service>, input: &Value<'_>, wrong_way: WrongWay) -> Outcome {
    let live = service.live(input)?;
    let hours = input.int("RetentionPeriodHours").unwrap_or_default();
    let out_of_range = |limit: &str, bound: i64, what: &str| {
        ApiError::invalid(format!(
            "{limit} allowed retention period is {bound} hours. Requested retention period ({hours} hours) is too {what}."
        ))
    };
    if hours < MIN_RETENTION_HOURS {
        return Err(out_of_range("Minimum", MIN_RETENTION_HOURS, "short"));
    }
    if hours > MAX_RETENTION_HOURS {
        return Err(out_of_range("Maximum", MAX_RETENTION_HOURS, "long"));
    }
    let change = move |state: &mut StreamState| {
        if let Some((what, existing, hint)) = wrong_way(state, hours) {
            let name = &state.name;
            return Err(ApiError::invalid(format!(
                "Requested retention period ({hours} hours) for stream {name} can not be {what} than existing retention period \
                 ({existing} hours). {hint}"
            )));
        }
        state.retention_hours = hours;
        Ok(())
    };
    service.catalog.update(&live.state().name, change).await?;
    Ok(Answer::Empty)
}

pub(crate) async fn update_mode(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let mode = mode_of(input).unwrap_or(Mode::Provisioned);
    let change = move |state: &mut StreamState| {
        state.mode = mode;
        Ok(())
    };
    service.catalog.update(&live.state().name, change).await?;
    Ok(Answer::Empty)
}

pub(crate) async fn update_max_record_size(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let limit = record_size(input);
    let change = move |state: &mut StreamState| {
        state.record_size_limit = limit;
        Ok(())
    };
    service.catalog.update(&live.state().name, change).await?;
    Ok(Answer::Empty)
}

fn mode_of(input: &Value<'_>) -> Option<Mode> {
    input.get("StreamModeDetails").and_then(|details| details.str("StreamMode")).map(Mode::parse)
}

fn record_size(input: &Value<'_>) -> Option<usize> {
    let kib = input.int("MaxRecordSizeInKiB")?;
    usize::try_from(kib).ok().map(|kib| kib * 1024)
}
