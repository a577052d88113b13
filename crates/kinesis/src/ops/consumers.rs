//! Enhanced fan-out consumers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::ids::{arn, token};
use crate::model::{Consumer, Status, StreamState};
use crate::ops::{Answer, Outcome, tags};
use crate::service::Service;
use crate::value::Value;

const DEFAULT_MAX_RESULTS: i64 = 100;

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
    tags::check_new(service, &stream, &tags, 0)?;
    let consumer = Consumer { created_ms: now_ms, tags };
    let answer = describe_one(service, &stream, &name, &consumer, "CREATING", false);
    let limit = service.config.consumer_limit;
    let account = service.config.account_id.clone();
    let change = move |state: &mut StreamState| {
        let status = state.status(now_ms);
        if !matches!(status, Status::Active | Status::Updating) {
            let (name, status) = (&state.name, status.name());
            let message =
                format!("Stream {name} under account {account} not ACTIVE, instead in state {status}");
            return Err(ApiError::in_use(message));
        }
        if state.consumers.contains_key(&name) {
            return Err(ApiError::in_use(format!("Consumer {name} exists")));
        }
        if state.consumers.len() >= limit {
            let message = format!("Stream {} cannot have more than {limit} consumers.", state.name);
            return Err(ApiError::limit(message));
        }
        state.consumers.insert(name, consumer);
        Ok(())
    };
    service.catalog.update(&stream, change).await?;
    Ok(Answer::Value(Value::map([("Consumer", answer)])))
}

pub(crate) async fn deregister(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let found = find(service, input)?;
    let name = found.name;
    let change = move |state: &mut StreamState| {
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
    let state = service.live(input)?.state();
    let page: Option<Page> = input.str("NextToken").map(|token| token::decode(token, now_ms)).transpose()?;
    if page.as_ref().is_some_and(|page| page.stream != state.name) {
        return Err(ApiError::invalid("Invalid NextToken."));
    }
    let limit = usize::try_from(input.int("MaxResults").unwrap_or(DEFAULT_MAX_RESULTS)).unwrap_or(usize::MAX);
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

/// The consumer that a request names: by its ARN, or by its name and its stream's ARN.
pub(crate) fn find(service: &Service, input: &Value<'_>) -> Result<Found, ApiError> {
    let (stream, name, created_s) = match input.str("ConsumerARN") {
        Some(given) => {
            let parsed = arn::parse(given).and_then(|arn| Some((arn.stream, arn.consumer?)));
            let (stream, (name, created_s)) =
                parsed.ok_or_else(|| ApiError::invalid(format!("{given} is not the ARN of a consumer.")))?;
            (stream, name, Some(created_s))
        }
        None => (service.stream_name(input)?, input.str("ConsumerName").unwrap_or_default(), None),
    };
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
