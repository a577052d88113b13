//! Enhanced fan-out consumers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::error::ApiError;
use crate::ids::{arn, token};
use crate::model::{Consumer, Status, StreamState};
use crate::ops::{Answer, Outcome, page_size, shards, tags};
use crate::service::Service;
use crate::value::Value;

/// Most consumers of a page.
const PAGE: usize = 100;

/// A consumer that a request names.
pub(crate) struct Found {
    pub(crate) stream: Arc<StreamState>,
    pub(crate) name: String,
    pub(crate) consumer: Consumer,
}

pub(crate) async fn register(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let stream = service.live(input)?.state().name.clone();
    let name = input.str("ConsumerName").unwrap_or_default().to_owned();
    let (tags, now_ms) = (tags::of(input), service.now_ms());
    tags::check_new(service, &stream, &tags)?;
    let consumer = Consumer { created_ms: now_ms, tags };
    let answer = describe_one(service, &stream, &name, &consumer, "CREATING", false);
    let limit = service.config.consumer_limit;
    let shared = Arc::clone(service);
    let change = move |catalog: &Catalog, state: &mut StreamState| {
        shared.check_status(state, &[Status::Active, Status::Updating])?;
        if state.consumers.contains_key(&name) {
            return Err(ApiError::in_use(format!("Consumer {name} exists")));
        }
        if state.consumers.len() >= limit {
            let message = format!("Stream {} cannot have more than {limit} consumers.", state.name);
            return Err(ApiError::limit(message));
        }
        check_creating(&shared, catalog)?;
        state.consumers.insert(name, consumer);
        Ok(())
    };
    service.catalog.update(&stream, change).await?;
    Ok(Answer::Value(Value::map([("Consumer", answer)])))
}

/// Refuses one more consumer where as many as may be are being made.
fn check_creating(service: &Service, catalog: &Catalog) -> Result<(), ApiError> {
    let limit = service.config.creating_limit;
    let is_creating = |consumer: &&Consumer| status(service, consumer) == "CREATING";
    let of = |state: Arc<StreamState>| state.consumers.values().filter(is_creating).count();
    if catalog.all().into_iter().map(of).sum::<usize>() < limit {
        return Ok(());
    }
    Err(ApiError::limit(format!("At most {limit} consumers may be in state CREATING at a time.")))
}

pub(crate) async fn deregister(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let found = find(service, input)?;
    let name = found.name;
    let change = move |_: &Catalog, state: &mut StreamState| {
        state.consumers.remove(&name);
        Ok(())
    };
    service.catalog.update(&found.stream.name, change).await?;
    Ok(Answer::Empty)
}

pub(crate) fn describe(service: &Service, input: &Value<'_>) -> Outcome {
    let found = find(service, input)?;
    let status = status(service, &found.consumer);
    let described = describe_one(service, &found.stream.name, &found.name, &found.consumer, status, true);
    Ok(Answer::Value(Value::map([("ConsumerDescription", described)])))
}

#[derive(Serialize, Deserialize)]
struct Page {
    stream: String,
    after: String,
}

pub(crate) fn list(service: &Service, input: &Value<'_>) -> Outcome {
    let now_ms = service.now_ms();
    let token = input.str("NextToken");
    if token.is_some() && input.get("StreamCreationTimestamp").is_some() {
        let message = "NextToken and StreamCreationTimestamp cannot be provided together.";
        return Err(ApiError::invalid(message));
    }
    let state = shards::live_of_listing(service, input)?;
    service.check_status(&state, &[Status::Active, Status::Updating])?;
    let page: Option<Page> = token.map(|token| token::decode(token, now_ms)).transpose()?;
    if page.as_ref().is_some_and(|page| page.stream != state.name) {
        return Err(ApiError::invalid("Invalid NextToken."));
    }
    let limit = page_size(input, "MaxResults", PAGE);
    let mut rest =
        state.consumers.iter().filter(|(name, _)| page.as_ref().is_none_or(|page| **name > page.after));
    let listed: Vec<_> = rest.by_ref().take(limit).collect();
    let next = listed.last().map(|(name, _)| (*name).clone()).filter(|_| rest.next().is_some());
    let described = listed.into_iter().map(|(name, consumer)| {
        describe_one(service, &state.name, name, consumer, status(service, consumer), false)
    });
    let mut answer = Value::map([("Consumers", Value::List(described.collect()))]);
    if let Some(after) = next {
        let page = Page { stream: state.name.clone(), after };
        answer.push("NextToken", Value::text(token::encode(page, now_ms)?));
    }
    Ok(Answer::Value(answer))
}

/// The consumer that a request names: by its ARN, by its name and its stream's ARN, or by all of them where they agree.
pub(crate) fn find(service: &Service, input: &Value<'_>) -> Result<Found, ApiError> {
    let stream = input.str("StreamARN").map(|arn| service.stream_of(arn)).transpose()?;
    let name = input.str("ConsumerName");
    let Some(given) = input.str("ConsumerARN") else {
        return look_up(service, stream.unwrap_or_default(), name.unwrap_or_default(), None);
    };
    let found = find_by_arn(service, given)?;
    let agrees =
        stream.is_none_or(|stream| stream == found.stream.name) && name.is_none_or(|name| name == found.name);
    if agrees {
        return Ok(found);
    }
    Err(ApiError::invalid(format!(
        "ConsumerARN {given} conflicts with the StreamARN or the ConsumerName given."
    )))
}

/// The consumer that an ARN names.
pub(crate) fn find_by_arn(service: &Service, given: &str) -> Result<Found, ApiError> {
    let wrong = || ApiError::invalid(format!("{given} is not the ARN of a consumer."));
    let arn = arn::parse(given).ok_or_else(wrong)?;
    let (name, created_s) = arn.consumer.ok_or_else(wrong)?;
    service.check_is_ours(&arn)?;
    look_up(service, arn.stream, name, Some(created_s))
}

fn look_up(service: &Service, stream: &str, name: &str, created_s: Option<i64>) -> Result<Found, ApiError> {
    let live = service.catalog.get(stream).ok_or_else(|| service.no_stream(stream))?;
    let stream = live.state();
    let is_meant = |consumer: &&Consumer| {
        created_s.is_none_or(|created_s| consumer.created_ms.div_euclid(1000) == created_s)
    };
    let consumer = stream.consumers.get(name).filter(is_meant).cloned();
    let consumer = consumer.ok_or_else(|| {
        ApiError::not_found(format!("Consumer {name}, account {} not found.", service.config.account_id))
    })?;
    Ok(Found { stream: Arc::clone(&stream), name: name.to_owned(), consumer })
}

pub(crate) fn status(service: &Service, consumer: &Consumer) -> &'static str {
    let is_settled = service.now_ms() >= consumer.created_ms + service.config.delay_ms();
    if is_settled { "ACTIVE" } else { "CREATING" }
}

fn describe_one(
    service: &Service,
    stream: &str,
    name: &str,
    consumer: &Consumer,
    status: &'static str,
    with_stream: bool,
) -> Value<'static> {
    let stream_arn = service.stream_arn(stream);
    let mut described = Value::map([
        ("ConsumerName", Value::text(name.to_owned())),
        ("ConsumerARN", Value::text(arn::consumer(&stream_arn, name, consumer.created_ms))),
        ("ConsumerStatus", Value::text(status)),
        ("ConsumerCreationTimestamp", Value::Time(consumer.created_ms)),
    ]);
    if with_stream {
        described.push("StreamARN", Value::text(stream_arn));
    }
    described
}
