//! Tags of streams and of their consumers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::ApiError;
use crate::ids::arn;
use crate::model::{Status, StreamState};
use crate::ops::{Answer, Outcome, consumers, page_size};
use crate::service::Service;
use crate::value::Value;

const MAX_TAGS: usize = 50;

/// The tags in a request.
pub(crate) fn of(input: &Value<'_>) -> BTreeMap<String, String> {
    let Some(Value::Map(tags)) = input.get("Tags") else { return BTreeMap::new() };
    let tag = |(key, value): &(std::borrow::Cow<'_, str>, Value<'_>)| match value {
        Value::Text(value) => (key.to_string(), value.to_string()),
        _ => (key.to_string(), String::new()),
    };
    tags.iter().map(tag).collect()
}

/// Checks the tags of a stream or a consumer that is being made.
pub(crate) fn check_new(
    service: &Service,
    stream: &str,
    tags: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    check_characters(service, stream, "add tags to", ADDED, texts(tags))?;
    check_count(service, stream, tags.len())
}

fn texts(tags: &BTreeMap<String, String>) -> impl Iterator<Item = &str> + Clone {
    tags.iter().flat_map(|(key, value)| [key.as_str(), value])
}

fn check_count(service: &Service, stream: &str, count: usize) -> Result<(), ApiError> {
    if count <= MAX_TAGS {
        return Ok(());
    }
    // The number is that of the message at Amazon, and not the limit.
    Err(ApiError::invalid(format!(
        "Failed to add tags to {} because a given stream cannot have more than 10 tags associated with it.",
        service.named(stream)
    )))
}

/// What tags may have besides letters and digits: where they are given to a stream by its name, and to a resource by its
/// ARN.
const ADDED: &str = "_./=+-% @";
const OF_RESOURCES: &str = "_.:/=+- @";

fn check_characters<'a>(
    service: &Service,
    stream: &str,
    action: &str,
    signs: &str,
    mut texts: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), ApiError> {
    let is_valid = |character: char| {
        matches!(character, '\u{c0}'..='\u{1fff}' | '\u{2c00}'..='\u{d7ff}')
            || character.is_ascii_alphanumeric()
            || signs.contains(character)
    };
    if texts.clone().any(|text| !text.chars().all(is_valid)) {
        let signs: Vec<_> = signs.split("").filter(|sign| !sign.trim().is_empty()).collect();
        let valid = format!("Unicode letters, digits, white space, {}.", signs.join(" "));
        return Err(ApiError::invalid(format!(
            "Some tags contain invalid characters. Valid characters: {valid}"
        )));
    }
    if texts.any(|text| text.contains('%')) {
        return Err(ApiError::invalid(format!(
            "Failed to {action} {} because some tags contained illegal characters. The allowed characters are Unicode \
             letters, white-spaces, '_',',','/','=','+','-','@'.",
            service.named(stream)
        )));
    }
    Ok(())
}

/// What has tags: a stream, or one of its consumers.
pub(crate) struct Resource {
    stream: String,
    consumer: Option<String>,
}

impl Resource {
    /// The stream that a request names by its name or its ARN.
    fn of_stream(service: &Service, input: &Value<'_>) -> Result<Self, ApiError> {
        Ok(Self { stream: service.live(input)?.state().name.clone(), consumer: None })
    }

    /// The resource whose ARN a request gives.
    ///
    /// # Errors
    /// `ResourceNotFoundException` where there is none, which is so for every channel and every queue.
    pub(crate) fn find(service: &Service, input: &Value<'_>) -> Result<Self, ApiError> {
        let given = input.str("ResourceARN").unwrap_or_default();
        let missing = || ApiError::not_found(format!("Resource {given} not found."));
        let arn = arn::parse(given).ok_or_else(missing)?;
        if arn.consumer.is_some() {
            let found = consumers::find_by_arn(service, given)?;
            return Ok(Self { stream: found.stream.name.clone(), consumer: Some(found.name) });
        }
        service.check_is_ours(&arn)?;
        let live = service.catalog.get(arn.stream).ok_or_else(|| service.no_stream(arn.stream))?;
        Ok(Self { stream: live.state().name.clone(), consumer: None })
    }

    fn tags<'s>(&self, state: &'s StreamState) -> Option<&'s BTreeMap<String, String>> {
        match &self.consumer {
            None => Some(&state.tags),
            Some(name) => state.consumers.get(name).map(|consumer| &consumer.tags),
        }
    }

    /// Changes the tags, of a stream that takes changes.
    async fn change(
        self,
        service: &Arc<Service>,
        change: impl FnOnce(&Service, &mut BTreeMap<String, String>) -> Result<(), ApiError> + Send + 'static,
    ) -> Outcome {
        let (shared, name) = (Arc::clone(service), self.stream.clone());
        let update = move |_: &Catalog, state: &mut StreamState| {
            shared.check_status(state, &[Status::Active, Status::Updating])?;
            let tags = match &self.consumer {
                None => Some(&mut state.tags),
                Some(name) => state.consumers.get_mut(name).map(|consumer| &mut consumer.tags),
            };
            let gone =
                || ApiError::not_found(format!("A consumer of {} not found.", shared.named(&self.stream)));
            change(&shared, tags.ok_or_else(gone)?)
        };
        service.catalog.update(&name, update).await?;
        Ok(Answer::Empty)
    }
}

pub(crate) async fn add(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    add_to(service, Resource::of_stream(service, input)?, input, ADDED).await
}

pub(crate) async fn add_resource(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    add_to(service, Resource::find(service, input)?, input, OF_RESOURCES).await
}

async fn add_to(service: &Arc<Service>, resource: Resource, input: &Value<'_>, signs: &str) -> Outcome {
    let (tags, stream) = (of(input), resource.stream.clone());
    check_characters(service, &stream, "add tags to", signs, texts(&tags))?;
    if let Some(key) = tags.keys().find(|key| key.starts_with("aws:")) {
        return Err(ApiError::invalid(format!(
            "Tag key {key} is invalid: those that begin with aws: are reserved."
        )));
    }
    let add = move |service: &Service, present: &mut BTreeMap<String, String>| {
        present.extend(tags);
        check_count(service, &stream, present.len())
    };
    resource.change(service, add).await
}

pub(crate) async fn remove(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    remove_from(service, Resource::of_stream(service, input)?, input, ADDED).await
}

pub(crate) async fn remove_resource(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    remove_from(service, Resource::find(service, input)?, input, OF_RESOURCES).await
}

async fn remove_from(service: &Arc<Service>, resource: Resource, input: &Value<'_>, signs: &str) -> Outcome {
    let Some(Value::List(keys)) = input.get("TagKeys") else { return Ok(Answer::Empty) };
    let text = |key: &Value<'_>| match key {
        Value::Text(key) => Some(key.to_string()),
        _ => None,
    };
    let keys: Vec<String> = keys.iter().filter_map(text).collect();
    check_characters(service, &resource.stream, "remove tags from", signs, keys.iter().map(String::as_str))?;
    let remove = move |_: &Service, present: &mut BTreeMap<String, String>| {
        present.retain(|key, _| !keys.contains(key));
        Ok(())
    };
    resource.change(service, remove).await
}

pub(crate) fn list(service: &Service, input: &Value<'_>) -> Outcome {
    let state = service.live(input)?.state();
    let after = input.str("ExclusiveStartTagKey");
    let limit = page_size(input, "Limit", MAX_TAGS);
    let mut tags = state.tags.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let listed = tags.by_ref().take(limit).map(describe).collect();
    let has_more = tags.next().is_some();
    Ok(Answer::Value(Value::map([("Tags", Value::List(listed)), ("HasMoreTags", Value::Bool(has_more))])))
}

pub(crate) fn list_resource(service: &Service, input: &Value<'_>) -> Outcome {
    let resource = Resource::find(service, input)?;
    let state =
        service.catalog.get(&resource.stream).ok_or_else(|| service.no_stream(&resource.stream))?.state();
    let listed = resource.tags(&state).into_iter().flatten().map(describe).collect();
    Ok(Answer::Value(Value::map([("Tags", Value::List(listed))])))
}

fn describe((key, value): (&String, &String)) -> Value<'static> {
    Value::map([("Key", Value::text(key.clone())), ("Value", Value::text(value.clone()))])
}
