//! The REST façade: the routes of the well-known API Gateway templates in front of Kinesis.
//!
//! | route | operation |
//! | --- | --- |
//! | `GET /streams` | `ListStreams` (`Limit`, `ExclusiveStartStreamName` from the query) |
//! | `GET`, `POST`, `DELETE /streams/{name}` | `DescribeStream`, `CreateStream` (`{"ShardCount": n}`, 5 when absent), `DeleteStream` |
//! | `PUT /streams/{name}/record` | `PutRecord` (`{"Data": any JSON, "PartitionKey": "…"}`) |
//! | `PUT /streams/{name}/records` | `PutRecords` (`{"records":[{"data":…,"partition-key":"…"}]}`, or in Amazon's spelling) |
//! | `GET /streams/{name}/sharditerator?shard-id=…` | `GetShardIterator` from the oldest record on |
//! | `GET /streams/{name}/records`, header `Shard-Iterator` | `GetRecords` |
//!
//! The path names the stream, whatever the body says. A record is the JSON text of its data, without blanks between its
//! tokens: text keeps its quotes, numbers their digits. A record for a stream that does not exist makes the stream, with one
//! shard, unless that is switched off. Errors are JSON with their true status, unless that is switched off. Requests are not
//! signed: who may come here is the business of whoever serves these routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::response::Response;
use axum::routing::{get, put};
use bytes::Bytes;
use http::HeaderMap;
use pinmill_http::{Received, without_bom};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::http::{closing, respond, respond_reserved, respond_within, unreadable};
use crate::ops::{self, Answer, Operation, Outcome};
use crate::service::Service;
use crate::sigv4::query_pairs;
use crate::value::{Value, json};

const JSON: &str = "application/json";
/// Shards of a stream that is made without saying how many; the templates' default.
const DEFAULT_SHARDS: i64 = 5;

type Shared = State<Arc<Service>>;

/// The routes.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    let known = Router::new()
        .route("/streams", get(list))
        .route("/streams/{name}", get(describe).post(create).delete(delete))
        .route("/streams/{name}/record", put(put_record))
        .route("/streams/{name}/records", put(put_records).get(get_records))
        .route("/streams/{name}/sharditerator", get(shard_iterator));
    known.method_not_allowed_fallback(method_not_allowed).with_state(Arc::clone(service))
}

async fn method_not_allowed() -> Response {
    let error = ApiError {
        status: 405,
        kind: "MethodNotAllowed",
        message: Some("This route takes other methods.".to_owned()),
    };
    respond(405, Some(JSON), json::write(&error.body()))
}

async fn reply(service: &Service, operation: Operation, outcome: Outcome) -> Response {
    let answer = match outcome {
        // Scripts parse whatever they get.
        Ok(Answer::Empty) => Ok(respond(200, Some(JSON), "{}")),
        Ok(Answer::Value(value)) => respond_within(service, operation, JSON, json::write(&value)).await,
        Ok(Answer::Stored(value, memory)) => Ok(respond_reserved(JSON, json::write(&value), memory)),
        Ok(Answer::Events(events)) => Ok(respond(200, None, events)),
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(|error| refuse(service, &error))
}

fn refuse(service: &Service, error: &ApiError) -> Response {
    let status = match error.kind {
        "ResourceNotFoundException" => 404,
        "ProvisionedThroughputExceededException" | "LimitExceededException" => 429,
        "ResourceInUseException" => 409,
        _ => error.status,
    };
    let status = if service.config.facade_errors_are_200 { 200 } else { status };
    respond(status, Some(JSON), json::write(&error.body()))
}

async fn run(service: &Arc<Service>, operation: Operation, input: Value<'_>) -> Response {
    reply(service, operation, ops::run(service, operation, input).await).await
}

async fn list(State(service): Shared, OriginalUri(uri): OriginalUri) -> Response {
    let query = query_pairs(&uri);
    let mut input = Value::map([]);
    for (name, value) in query {
        match name.as_str() {
            "Limit" | "limit" => {
                // What is no number breaks the limit's own rule.
                input.push("Limit", Value::Int(value.parse().unwrap_or(0)));
            }
            "ExclusiveStartStreamName" | "exclusive-start-stream-name" => {
                input.push("ExclusiveStartStreamName", Value::text(value));
            }
            "NextToken" => input.push("NextToken", Value::text(value)),
            _ => {}
        }
    }
    run(&service, Operation::ListStreams, input).await
}

async fn describe(State(service): Shared, Path(name): Path<String>) -> Response {
    let input = Value::map([("StreamName", Value::text(name))]);
    run(&service, Operation::DescribeStream, input).await
}

async fn delete(State(service): Shared, Path(name): Path<String>) -> Response {
    let input = Value::map([("StreamName", Value::text(name))]);
    run(&service, Operation::DeleteStream, input).await
}

async fn create(State(service): Shared, Path(name): Path<String>, request: Request) -> Response {
    with_body(&service, Operation::CreateStream, request, async |body| {
        let parsed = if body.bytes.trim_ascii().is_empty() { Value::map([]) } else { parse(&body.bytes)? };
        let count = parsed.get("ShardCount").cloned().unwrap_or(Value::Int(DEFAULT_SHARDS));
        // Through the type check: the count may be anything.
        let input = Value::map([("StreamName", Value::text(name)), ("ShardCount", count)]);
        ops::call(&service, Operation::CreateStream, input).await
    })
    .await
}

async fn shard_iterator(
    State(service): Shared,
    Path(name): Path<String>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let mut input =
        Value::map([("StreamName", Value::text(name)), ("ShardIteratorType", Value::text("TRIM_HORIZON"))]);
    if let Some(shard) = query_pairs(&uri).remove("shard-id") {
        input.push("ShardId", Value::text(shard));
    }
    run(&service, Operation::GetShardIterator, input).await
}

async fn get_records(State(service): Shared, Path(_): Path<String>, headers: HeaderMap) -> Response {
    let mut input = Value::map([]);
    if let Some(iterator) = headers.get("shard-iterator").and_then(|value| value.to_str().ok()) {
        input.push("ShardIterator", Value::text(iterator.to_owned()));
    }
    run(&service, Operation::GetRecords, input).await
}

/// A record as the façade's clients write it.
#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow, rename = "Data", alias = "data")]
    data: Option<&'a RawValue>,
    #[serde(borrow, rename = "PartitionKey", alias = "partition-key")]
    partition_key: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PostedMany<'a> {
    #[serde(borrow, rename = "records", alias = "Records")]
    records: Option<Vec<Posted<'a>>>,
}

impl<'a> Posted<'a> {
    fn into_value(self) -> Result<Value<'a>, ApiError> {
        let mut record = Value::map([]);
        if let Some(data) = self.data {
            record.push("Data", Value::Blob(compact(data.get())));
        }
        if let Some(key) = self.partition_key {
            record.push("PartitionKey", partition_key(key.get())?);
        }
        Ok(record)
    }
}

/// Text is the key; the templates make text of numbers and truth values too.
fn partition_key(json: &str) -> Result<Value<'_>, ApiError> {
    match json::parse(json.as_bytes()).map_err(|_| ApiError::bare("SerializationException"))? {
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => Ok(Value::text(json)),
        Value::List(_) => Err(ApiError::serialization("Start of list found where not expected")),
        Value::Map(_) => Err(ApiError::serialization("Start of structure or map found where not expected.")),
        key => Ok(key),
    }
}

async fn put_record(State(service): Shared, Path(name): Path<String>, request: Request) -> Response {
    with_body(&service, Operation::PutRecord, request, async |body| {
        let mut input = parse_as::<Posted<'_>>(&body.bytes)?.into_value()?;
        input.push("StreamName", Value::text(name.as_str()));
        put_or_create(&service, &name, Operation::PutRecord, input).await
    })
    .await
}

async fn put_records(State(service): Shared, Path(name): Path<String>, request: Request) -> Response {
    with_body(&service, Operation::PutRecords, request, async |body| {
        let posted = parse_as::<PostedMany<'_>>(&body.bytes)?;
        let mut input = Value::map([("StreamName", Value::text(name.as_str()))]);
        if let Some(records) = posted.records {
            let records = records.into_iter().map(Posted::into_value).collect::<Result<_, _>>()?;
            input.push("Records", Value::List(records));
        }
        put_or_create(&service, &name, Operation::PutRecords, input).await
    })
    .await
}

/// Puts, and where the stream is missing and may be made, makes it and puts again. The request was refused as a whole then.
async fn put_or_create(
    service: &Arc<Service>,
    name: &str,
    operation: Operation,
    input: Value<'_>,
) -> Outcome {
    if service.config.auto_create_streams && service.catalog.get(name).is_none() {
        crate::schema::validate::validate(&input, operation.fields())?;
        match ops::streams::create(service, name, 1, crate::model::Mode::Provisioned).await {
            Ok(()) => tracing::info!(stream = name, "made for a record that was put to it"),
            // Another request was quicker.
            Err(error) if error.kind == "ResourceInUseException" => {}
            Err(error) => return Err(error),
        }
    }
    ops::run(service, operation, input).await
}

/// Reads a request's body and replies with what comes of it.
async fn with_body(
    service: &Service,
    operation: Operation,
    request: Request,
    answer: impl AsyncFnOnce(Received) -> Outcome,
) -> Response {
    match service.bodies.read(request.into_body()).await {
        Ok(body) => reply(service, operation, answer(body).await).await,
        Err(error) => closing(refuse(service, &unreadable(&error))),
    }
}

fn parse(body: &[u8]) -> Result<Value<'_>, ApiError> {
    json::parse(body).map_err(|error| ApiError::serialization(error.to_string()))
}

fn parse_as<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(without_bom(body))
        .map_err(|error| ApiError::serialization(format!("The body is not what this route takes: {error}")))
}

/// JSON text without blanks between its tokens. Nothing else of it changes: not the digits of a number, not the escapes of a
/// text, not the order of members.
fn compact(json: &str) -> Bytes {
    let mut compacted = Vec::with_capacity(json.len());
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        if is_text {
            is_text = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            is_text = byte == b'"';
        }
        compacted.push(byte);
    }
    compacted.into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use pinmill_broker::MemoryLog;

    use super::*;
    use crate::config::MAX_BODY_BYTES;
    use crate::{Kinesis, KinesisConfig};

    #[tokio::test]
    async fn only_a_body_that_was_not_read_closes_its_connection() {
        let kinesis = Kinesis::open(Arc::new(MemoryLog::new()), KinesisConfig::default()).await.unwrap();
        for (bytes, closes) in [(1, false), (MAX_BODY_BYTES + 1, true)] {
            for status in [408, 413, 503] {
                let request = Request::new(Body::from(vec![b' '; bytes]));
                let failed = Err(ApiError { status, kind: "Failed", message: None });
                let response =
                    with_body(&kinesis.service, Operation::PutRecord, request, async |_| failed).await;
                let is_closed = response.headers().contains_key("connection");
                assert_eq!(is_closed, closes, "{status} after {bytes} bytes");
            }
        }
    }

    #[test]
    fn compacting_removes_blanks_between_tokens_alone() {
        for (given, compacted) in [
            ("{ \"a\" : [ 1.0 , 2e+3 ] }", "{\"a\":[1.0,2e+3]}"),
            (r#"" a \" b \\" "#, r#"" a \" b \\""#),
            ("{\n\t\"ü 🦀\": \"\\u00fc \"}", "{\"ü 🦀\":\"\\u00fc \"}"),
            ("12345678901234567890.10", "12345678901234567890.10"),
        ] {
            assert_eq!(compact(given), compacted.as_bytes());
        }
    }

    #[test]
    fn partition_keys_of_any_scalar_are_text() {
        assert_eq!(partition_key("\"k\"").unwrap(), Value::text("k"));
        assert_eq!(partition_key("7528").unwrap(), Value::text("7528"));
        assert_eq!(partition_key("null").unwrap(), Value::Null);
        partition_key("{}").unwrap_err();
    }
}
