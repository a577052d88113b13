//! Settings of a stream: retention, mode, largest record, metrics of shards, encryption, and those that are not had here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Catalog, Live};
use crate::error::ApiError;
use crate::model::{MAX_RETENTION_HOURS, MIN_RETENTION_HOURS, Mode, Status, StreamState};
use crate::ops::{Answer, Outcome, streams};
use crate::service::Service;
use crate::value::Value;

/// Stands for all metrics in a request.
const ALL_METRICS: &str = "ALL";
/// The metrics that a shard has.
const METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "IteratorAgeMilliseconds",
    "OutgoingBytes",
    "OutgoingRecords",
    "ReadProvisionedThroughputExceeded",
    "WriteProvisionedThroughputExceeded",
];

/// Changes a stream that is active, and returns what it was before; where that changed anything, it shows `UPDATING` for
/// the delay.
async fn change(
    service: &Arc<Service>,
    live: &Live,
    change: impl FnOnce(&Service, &Catalog, &mut StreamState) -> Result<(), ApiError> + Send + 'static,
) -> Result<Arc<StreamState>, ApiError> {
    let shared = Arc::clone(service);
    let update = move |catalog: &Catalog, state: &mut StreamState| {
        shared.check_status(state, &[Status::Active])?;
        let before = state.clone();
        change(&shared, catalog, state)?;
        if *state != before {
            shared.begin_update(state);
        }
        Ok(())
    };
    service.catalog.update(&live.state().name, update).await
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
    change(service, &live, move |_, _, state| {
        if let Some((what, existing, hint)) = wrong_way(state, hours) {
            let name = &state.name;
            return Err(ApiError::invalid(format!(
                "Requested retention period ({hours} hours) for stream {name} can not be {what} than existing retention period \
                 ({existing} hours). {hint}"
            )));
        }
        state.retention_hours = hours;
        Ok(())
    })
    .await?;
    Ok(Answer::Empty)
}

pub(crate) async fn update_mode(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let mode = streams::mode_of(input).unwrap_or(Mode::Provisioned);
    check_warm_throughput(input)?;
    change(service, &live, move |service, catalog, state| {
        if mode == Mode::OnDemand && state.mode != mode {
            streams::check_on_demand_limit(service, &catalog.totals(service.now_ms()))?;
        }
        state.mode = mode;
        Ok(())
    })
    .await?;
    Ok(Answer::Empty)
}

pub(crate) async fn update_max_record_size(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let limit = streams::record_size(input);
    change(service, &live, move |_, _, state| {
        state.record_size_limit = limit;
        Ok(())
    })
    .await?;
    Ok(Answer::Empty)
}

pub(crate) async fn enable_monitoring(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    change_monitoring(service, input, |now, asked| now.union(asked).cloned().collect()).await
}

pub(crate) async fn disable_monitoring(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    change_monitoring(service, input, |now, asked| now.difference(asked).cloned().collect()).await
}

type Metrics = BTreeSet<String>;

async fn change_monitoring(
    service: &Arc<Service>,
    input: &Value<'_>,
    combine: fn(&Metrics, &Metrics) -> Metrics,
) -> Outcome {
    let live = service.live(input)?;
    let asked = metrics_of(input);
    let added = asked.clone();
    let before = change(service, &live, move |_, _, state| {
        state.shard_metrics = combine(&state.shard_metrics, &added);
        Ok(())
    })
    .await?;
    let after = combine(&before.shard_metrics, &asked);
    Ok(Answer::Value(Value::map([
        ("StreamName", Value::text(before.name.clone())),
        ("CurrentShardLevelMetrics", list(&before.shard_metrics)),
        ("DesiredShardLevelMetrics", list(&after)),
        ("StreamARN", Value::text(service.stream_arn(&before.name))),
    ])))
}

fn metrics_of(input: &Value<'_>) -> Metrics {
    let Some(Value::List(asked)) = input.get("ShardLevelMetrics") else { return Metrics::new() };
    let is_asked = |name: &str| {
        asked.iter().any(|metric| matches!(metric, Value::Text(text) if text == name || text == ALL_METRICS))
    };
    METRICS.into_iter().filter(|name| is_asked(name)).map(str::to_owned).collect()
}

pub(crate) fn list(metrics: &Metrics) -> Value<'static> {
    Value::List(metrics.iter().map(|metric| Value::text(metric.clone())).collect())
}

pub(crate) async fn start_encryption(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    change_encryption(service, input, true).await
}

pub(crate) async fn stop_encryption(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    change_encryption(service, input, false).await
}

async fn change_encryption(service: &Arc<Service>, input: &Value<'_>, is_on: bool) -> Outcome {
    let live = service.live(input)?;
    if input.str("EncryptionType") != Some("KMS") {
        return Err(ApiError::invalid("EncryptionType must be KMS."));
    }
    let key = input.str("KeyId").map(str::to_owned).filter(|_| is_on);
    change(service, &live, move |_, _, state| {
        state.encryption_key = key;
        Ok(())
    })
    .await?;
    Ok(Answer::Empty)
}

/// Warm throughput is for accounts with a billing commitment; there is none here.
pub(crate) fn check_warm_throughput(input: &Value<'_>) -> Result<(), ApiError> {
    match input.int("WarmThroughputMiBps") {
        None | Some(0) => Ok(()),
        Some(_) => Err(ApiError::validation(
            "Request is invalid. Warm throughput is not supported: the account has no minimum throughput billing commitment.",
        )),
    }
}

pub(crate) fn update_warm_throughput(service: &Service, input: &Value<'_>) -> Outcome {
    let state = service.live(input)?.state();
    service.check_status(&state, &[Status::Active])?;
    if state.mode == Mode::Provisioned {
        let (name, account) = (&state.name, &service.config.account_id);
        return Err(ApiError::validation(format!(
            "Request is invalid. Stream {name} under account {account} is in Provisioned mode."
        )));
    }
    check_warm_throughput(input)?;
    Ok(Answer::Value(Value::map([
        ("StreamARN", Value::text(service.stream_arn(&state.name))),
        ("StreamName", Value::text(state.name.clone())),
        ("WarmThroughput", Value::map([("TargetMiBps", Value::Int(0)), ("CurrentMiBps", Value::Int(0))])),
    ])))
}

/// Records go where their keys say, always.
pub(crate) fn check_distribution(input: &Value<'_>) -> Result<(), ApiError> {
    if input.str("RecordDistributionStrategy") != Some("AUTO") {
        return Ok(());
    }
    Err(ApiError::invalid("RecordDistributionStrategy AUTO is not supported; USER_PARTITION_KEY is."))
}

pub(crate) fn update_distribution(service: &Service, input: &Value<'_>) -> Outcome {
    let state = service.live(input)?.state();
    service.check_status(&state, &[Status::Active])?;
    check_distribution(input)?;
    Ok(Answer::Empty)
}
