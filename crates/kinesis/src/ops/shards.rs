//! Shards: listing, splitting, merging, and having another number of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Live};
use crate::error::ApiError;
use crate::ids::hash::{HashRange, parse_hash_key};
use crate::ids::sequence::{parse_shard_id, shard_id};
use crate::ids::token;
use crate::model::{Mode, Shard, Status, StreamState};
use crate::ops::streams::{check_all_shards, check_open_shards, check_shard_limit};
use crate::ops::{Answer, Outcome, page_size};
use crate::reshard::{self, Refusal};
use crate::service::Service;
use crate::value::Value;

/// Most shards of a page.
const PAGE: usize = 1000;

/// The shards that a client may see: none while the stream is being made, and none whose records are all too old.
pub(crate) fn readable(state: &StreamState, now_ms: i64) -> impl Iterator<Item = (u32, &Shard)> {
    let is_creating = state.status(now_ms) == Status::Creating;
    let horizon_ms = state.horizon_ms(now_ms);
    (0..).zip(&state.shards).filter(move |(_, shard)| !is_creating && !shard.is_expired(horizon_ms))
}

pub(crate) fn describe(index: u32, shard: &Shard) -> Value<'static> {
    let mut described = Value::map([("ShardId", Value::text(shard_id(index)))]);
    if let Some(parent) = shard.parent {
        described.push("ParentShardId", Value::text(shard_id(parent)));
    }
    if let Some(parent) = shard.adjacent_parent {
        described.push("AdjacentParentShardId", Value::text(shard_id(parent)));
    }
    described.push("HashKeyRange", range(shard.range));
    let mut numbers =
        Value::map([("StartingSequenceNumber", Value::text(shard.starting_sequence_number(index)))]);
    if let Some(end) = shard.ending_sequence_number(index) {
        numbers.push("EndingSequenceNumber", Value::text(end));
    }
    described.push("SequenceNumberRange", numbers);
    described
}

fn range(range: HashRange) -> Value<'static> {
    Value::map([
        ("StartingHashKey", Value::text(range.start.to_string())),
        ("EndingHashKey", Value::text(range.end.to_string())),
    ])
}

/// What a reader of a closed shard goes on with.
pub(crate) fn children(state: &StreamState, index: u32) -> Value<'static> {
    let child = |(index, shard): (u32, &Shard)| {
        let parents = [shard.parent, shard.adjacent_parent].into_iter().flatten();
        Value::map([
            ("ShardId", Value::text(shard_id(index))),
            ("ParentShards", Value::List(parents.map(|parent| Value::text(shard_id(parent))).collect())),
            ("HashKeyRange", range(shard.range)),
        ])
    };
    Value::List(state.children(index).map(child).collect())
}

pub(crate) fn unknown(service: &Service, id: &str, stream: &str) -> ApiError {
    ApiError::not_found(format!("Could not find shard {id} in {}.", service.named(stream)))
}

/// Where a listing goes on, in its token.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    stream: String,
    created_ms: i64,
    after: Option<u32>,
    filter: Filter,
}

/// Which shards a listing has.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Filter {
    All,
    After(u32),
    OpenAt(i64),
    OpenFrom(i64),
    OpenNow,
}

impl Filter {
    fn takes(self, index: u32, shard: &Shard) -> bool {
        match self {
            Self::All => true,
            Self::After(after) => index > after,
            Self::OpenAt(ms) => shard.was_open_at(ms),
            Self::OpenFrom(ms) => shard.closed.is_none_or(|closed| closed.at_ms >= ms),
            Self::OpenNow => shard.closed.is_none(),
        }
    }
}

pub(crate) fn list(service: &Service, input: &Value<'_>) -> Outcome {
    let now_ms = service.now_ms();
    let mut page = match input.str("NextToken") {
        None => first_page(service, input, now_ms)?,
        Some(token) => {
            check_token_stands_alone(input)?;
            token::decode(token, now_ms)?
        }
    };
    let live = service.catalog.get(&page.stream).filter(|live| live.state().created_ms == page.created_ms);
    let state = live.ok_or_else(|| service.no_stream(&page.stream))?.state();
    service.check_status(&state, &[Status::Active, Status::Updating])?;
    let limit = page_size(input, "MaxResults", PAGE);
    let listed = readable(&state, now_ms).filter(|(index, shard)| {
        page.after.is_none_or(|after| *index > after) && page.filter.takes(*index, shard)
    });
    let mut listed: Vec<_> = listed.take(limit.saturating_add(1)).collect();
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let last = listed.last().map(|(index, _)| *index);
    let described = listed.into_iter().map(|(index, shard)| describe(index, shard)).collect();
    let mut answer = Value::map([("Shards", Value::List(described))]);
    if has_more {
        page.after = last;
        answer.push("NextToken", Value::text(token::encode(page, now_ms)?));
    }
    Ok(Answer::Value(answer))
}

/// A token says the stream, the place and the filter; nothing else may.
fn check_token_stands_alone(input: &Value<'_>) -> Result<(), ApiError> {
    let others =
        ["StreamName", "StreamARN", "ExclusiveStartShardId", "StreamCreationTimestamp", "ShardFilter"];
    match others.into_iter().find(|member| input.get(member).is_some()) {
        None => Ok(()),
        Some(member) => {
            Err(ApiError::invalid(format!("NextToken and {member} cannot be provided together.")))
        }
    }
}

/// The stream that a listing is of, where it is the one that was made at the time given.
pub(crate) fn live_of_listing(service: &Service, input: &Value<'_>) -> Result<Arc<StreamState>, ApiError> {
    let state = service.live(input)?.state();
    // Clients know the time as a description has it, with or without its fraction of a second.
    let is_meant = |ms: i64| ms == state.created_ms || ms == state.created_ms.div_euclid(1000) * 1000;
    if input.time("StreamCreationTimestamp").is_some_and(|ms| !is_meant(ms)) {
        return Err(service.no_stream(&state.name));
    }
    Ok(state)
}

fn first_page(service: &Service, input: &Value<'_>, now_ms: i64) -> Result<Page, ApiError> {
    if input.get("StreamName").is_none() && input.get("StreamARN").is_none() {
        return Err(ApiError::invalid("Either NextToken or StreamName should be provided."));
    }
    let state = live_of_listing(service, input)?;
    let index_of = |id: &str| parse_shard_id(id).ok_or_else(|| unknown(service, id, &state.name));
    let after = input.str("ExclusiveStartShardId").map(index_of).transpose()?;
    let filter = match input.get("ShardFilter") {
        None => Filter::All,
        Some(filter) => {
            check_filter(filter)?;
            let horizon_ms = state.horizon_ms(now_ms).max(state.created_ms);
            // There where the type takes one, which was just checked.
            let at_ms = filter.time("Timestamp").unwrap_or(horizon_ms).max(horizon_ms);
            match filter.str("Type").unwrap_or_default() {
                "AFTER_SHARD_ID" => Filter::After(index_of(filter.str("ShardId").unwrap_or_default())?),
                "AT_TRIM_HORIZON" | "AT_TIMESTAMP" => Filter::OpenAt(at_ms),
                "FROM_TRIM_HORIZON" | "FROM_TIMESTAMP" => Filter::OpenFrom(at_ms),
                _ => Filter::OpenNow,
            }
        }
    };
    Ok(Page { stream: state.name.clone(), created_ms: state.created_ms, after, filter })
}

/// A filter has what its type takes, and nothing else.
fn check_filter(filter: &Value<'_>) -> Result<(), ApiError> {
    let kind = filter.str("Type").unwrap_or_default();
    let taken = match kind {
        "AFTER_SHARD_ID" => Some("ShardId"),
        "AT_TIMESTAMP" | "FROM_TIMESTAMP" => Some("Timestamp"),
        _ => None,
    };
    for member in ["ShardId", "Timestamp"] {
        let is_given = filter.get(member).is_some();
        if taken == Some(member) && !is_given {
            return Err(ApiError::invalid(format!("{member} must be provided for ShardFilter type {kind}.")));
        }
        if taken != Some(member) && is_given {
            return Err(ApiError::invalid(format!(
                "{member} cannot be provided for ShardFilter type {kind}."
            )));
        }
    }
    Ok(())
}

pub(crate) async fn split(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let name = service.stream_name(input)?.to_owned();
    let index = parse(service, input, "ShardToSplit", &name)?;
    let key_text = input.str("NewStartingHashKey").unwrap_or_default().to_owned();
    let live = service.catalog.get(&name).ok_or_else(|| service.no_stream(&name))?;
    change(service, &live, move |service, catalog, state, now_ms| {
        check_exists(service, state, index)?;
        check_shard_limit(service, &catalog.totals(now_ms), 1)?;
        check_open_shards(u32::try_from(state.open_shards().count() + 1).unwrap_or(u32::MAX))?;
        // Beyond 128 bits is outside of every shard.
        let key = parse_hash_key(&key_text).unwrap_or(u128::MAX);
        reshard::split(&state.shards, index, key, now_ms).map_err(|refusal| match refusal {
            Refusal::KeyOutside(range) => ApiError::invalid(format!(
                "NewStartingHashKey {key_text} used in SplitShard() on shard {} in {} is not both greater than one plus the \
                 shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
                shard_id(index),
                service.named(&state.name),
                range.start,
                range.end
            )),
            other => refused(service, state, other),
        })
    })
    .await?;
    Ok(Answer::Empty)
}

pub(crate) async fn merge(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let name = service.stream_name(input)?.to_owned();
    let first = parse(service, input, "ShardToMerge", &name)?;
    let second = parse(service, input, "AdjacentShardToMerge", &name)?;
    let live = service.catalog.get(&name).ok_or_else(|| service.no_stream(&name))?;
    change(service, &live, move |service, _, state, now_ms| {
        check_exists(service, state, first)?;
        check_exists(service, state, second)?;
        reshard::merge(&state.shards, first, second, now_ms).map_err(|refusal| match refusal {
            Refusal::NotAdjacent => ApiError::invalid(format!(
                "Shards {} and {} in {} are not an adjacent pair of shards eligible for merging",
                shard_id(first),
                shard_id(second),
                service.named(&state.name)
            )),
            other => refused(service, state, other),
        })
    })
    .await?;
    Ok(Answer::Empty)
}

pub(crate) async fn update_count(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let live = service.live(input)?;
    let state = live.state();
    let target =
        input.int("TargetShardCount").and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
    let current = u32::try_from(state.open_shards().count()).unwrap_or(u32::MAX);
    change(service, &live, move |service, catalog, state, now_ms| {
        let open = u32::try_from(state.open_shards().count()).unwrap_or(u32::MAX);
        let cannot = |direction: &str| {
            ApiError::invalid(format!(
                "UpdateShardCount cannot scale {direction} your current open shard count. Current open shard count: {open} \
                 Target shard count: {target}"
            ))
        };
        if target > open.saturating_mul(2) {
            return Err(cannot("up over double"));
        }
        if target < open.div_ceil(2) {
            return Err(cannot("down below half"));
        }
        check_shard_limit(service, &catalog.totals(now_ms), target.saturating_sub(open))?;
        check_open_shards(target)?;
        reshard::scale(&state.shards, target, now_ms).map_err(|refusal| refused(service, state, refusal))
    })
    .await?;
    Ok(Answer::Value(Value::map([
        ("StreamName", Value::text(state.name.clone())),
        ("CurrentShardCount", Value::Int(i64::from(current))),
        ("TargetShardCount", Value::Int(i64::from(target))),
        ("StreamARN", Value::text(service.stream_arn(&state.name))),
    ])))
}

fn parse(service: &Service, input: &Value<'_>, member: &str, stream: &str) -> Result<u32, ApiError> {
    let id = input.str(member).unwrap_or_default();
    parse_shard_id(id).ok_or_else(|| unknown(service, id, stream))
}

fn check_exists(service: &Service, state: &StreamState, index: u32) -> Result<(), ApiError> {
    match state.shard(index) {
        Some(_) => Ok(()),
        None => Err(unknown(service, &shard_id(index), &state.name)),
    }
}

fn refused(service: &Service, state: &StreamState, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Closed(index) => ApiError::invalid(format!(
            "Shard {} in {} has already been merged or split, and thus is not eligible for merging or splitting.",
            shard_id(index),
            service.named(&state.name)
        )),
        Refusal::KeyOutside(_) | Refusal::NotAdjacent => ApiError::invalid(format!(
            "The shards of {} are too narrow to be split.",
            service.named(&state.name)
        )),
    }
}

/// Changes the shards of a stream that is active and provisioned, to what `plan` makes of them.
async fn change(
    service: &Arc<Service>,
    live: &Live,
    plan: impl FnOnce(&Service, &Catalog, &StreamState, i64) -> Result<Vec<Shard>, ApiError> + Send + 'static,
) -> Result<(), ApiError> {
    let (catalog, service) = (Arc::clone(&service.catalog), Arc::clone(service));
    let change = move |catalog: &Catalog, state: &mut StreamState| {
        let now_ms = service.now_ms();
        let account = &service.config.account_id;
        service.check_status(state, &[Status::Active])?;
        if state.mode == Mode::OnDemand {
            let message = format!("Stream {} under account {account} is in On-Demand mode.", state.name);
            return Err(ApiError::validation(format!("Request is invalid. {message}")));
        }
        let shards = plan(&service, catalog, state, now_ms)?;
        check_all_shards(&service, &catalog.totals(now_ms), shards.len() - state.shards.len())?;
        if shards != state.shards {
            service.begin_update(state);
        }
        state.shards = shards;
        Ok(())
    };
    catalog.reshard(&live.state().name, change).await
}
