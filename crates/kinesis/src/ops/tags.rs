//! Tags of streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ApiError;
use crate::model::StreamState;
use crate::ops::{Answer, Outcome};
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

/// Checks new tags of a stream that has `others` besides.
pub(crate) fn check_new(
    service: &Service,
    stream: &str,
    tags: &BTreeMap<String, String>,
    others: usize,
) -> Result<(), ApiError> {
    check_characters(
        service,
        stream,
        "add tags to",
        tags.iter().flat_map(|(key, value)| [key.as_str(), value]),
    )?;
    if others + tags.len() > MAX_TAGS {
        return Err(ApiError::invalid(format!(
            "Failed to add tags to {} because a given stream cannot have more than 10 tags associated with it.",
            service.named(stream)
        )));
    }
    Ok(())
}

fn check_characters<'a>(
    service: &Service,
    stream: &str,
    action: &str,
    mut texts: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), ApiError> {
    let is_valid = |character: char| {
        matches!(character, '\u{c0}'..='\u{1fff}' | '\u{2c00}'..='\u{d7ff}' | '.' | '/' | '-' | '=' | '+' | '_' | ' ' | '@' | '%')
            || character.is_ascii_alphanumeric()
    };
    if texts.clone().any(|text| !text.chars().all(is_valid)) {
        let valid = "Unicode letters, digits, white space, _ . / = + - % @.";
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

pub(crate) async fn add(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let name = service.live(input)?.state().name.clone();
    let tags = of(input);
    let shared = Arc::clone(service);
    let change = move |state: &mut StreamState| {
        let others = state.tags.keys().filter(|key| !tags.contains_key(*key)).count();
        check_new(&shared, &state.name, &tags, others)?;
        state.tags.extend(tags);
        Ok(())
    };
    service.catalog.update(&name, change).await?;
    Ok(Answer::Empty)
}

pub(crate) async fn remove(service: &Arc<Service>, input: &Value<'_>) -> Outcome {
    let name = service.live(input)?.state().name.clone();
    let Some(Value::List(keys)) = input.get("TagKeys") else { return Ok(Answer::Empty) };
    let text = |key: &Value<'_>| match key {
        Value::Text(key) => Some(key.to_string()),
        _ => None,
    };
    let keys: Vec<String> = keys.iter().filter_map(text).collect();
    check_characters(service, &name, "remove tags from", keys.iter().map(String::as_str))?;
    let change = move |state: &mut StreamState| {
        state.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    };
    service.catalog.update(&name, change).await?;
    Ok(Answer::Empty)
}

pub(crate) fn list(service: &Service, input: &Value<'_>) -> Outcome {
    let state = service.live(input)?.state();
    let after = input.str("ExclusiveStartTagKey");
    let limit = input.int("Limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_TAGS);
    let mut tags = state.tags.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let tag = |(key, value): (&String, &String)| {
        Value::map([("Key", Value::text(key.clone())), ("Value", Value::text(value.clone()))])
    };
    let listed = tags.by_ref().take(limit).map(tag).collect();
    let has_more = tags.next().is_some();
    Ok(Answer::Value(Value::map([("Tags", Value::List(listed)), ("HasMoreTags", Value::Bool(has_more))])))
}
