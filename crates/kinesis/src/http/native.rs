//! The native protocol: `X-Amz-Target` on any path, and the order in which Amazon checks a request: body size, method, empty
//! body, content type, parsing, operation, signature, types, limits, and at last the action. Whoever serves these routes
//! decides which web pages may call, and answers preflight requests.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

use crate::config::Credentials;
use crate::error::ApiError;
use crate::http::{closing, eventstream, respond, respond_reserved, respond_within, set, unreadable};
use crate::ops::{self, Answer, Operation, Outcome};
use crate::service::Service;
use crate::sigv4;
use crate::value::{Encoding, Value, json};

const API: &str = "Kinesis_20131202";
const XML: &str = "application/xml";
const UNDETERMINED: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized\
                            </Message>\n</AccessDeniedException>\n";

/// Every path and method.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    Router::new().fallback(handle).with_state(Arc::clone(service))
}

async fn handle(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match service.bodies.read(body).await {
        Ok(body) => body,
        Err(error) => return closing(refuse(Encoding::of(&parts.headers), &unreadable(&error))),
    };
    answer(&service, &parts, &body.bytes).await
}

async fn answer(service: &Arc<Service>, parts: &Parts, body: &[u8]) -> Response {
    if parts.method != Method::POST {
        return respond(403, Some(XML), UNDETERMINED);
    }
    let content_type = content_type(&parts.headers);
    let target = Target::of(parts);
    if body.is_empty() {
        let kind =
            if target.operation.is_some() { "SerializationException" } else { "UnknownOperationException" };
        return refuse(Encoding::of(&parts.headers), &ApiError::bare(kind));
    }
    let encoding = match content_type.as_str() {
        "application/x-amz-json-1.1" => Encoding::Json,
        "application/x-amz-cbor-1.1" => Encoding::Cbor,
        "application/json" => return refuse_plain_json(body),
        _ if !target.is_named => return respond(403, Some(XML), UNDETERMINED),
        _ => return respond(404, Some(XML), "<UnknownOperationException/>\n"),
    };
    let request = match encoding.parse(body) {
        Ok(request @ (Value::Map(_) | Value::List(_))) => request,
        _ => return refuse(encoding, &ApiError::bare("SerializationException")),
    };
    let Some(operation) = target.operation else {
        return refuse(encoding, &ApiError::bare("UnknownOperationException"));
    };
    let outcome = match authenticate(service, parts, body) {
        Ok(authorization) => {
            let service = service.in_region(authorization.region());
            ops::call(&service, operation, request).await
        }
        Err(error) => Err(error),
    };
    reply(service, operation, encoding, outcome).await
}

impl Encoding {
    /// The encoding of a request, and of an error where nothing else is known of it.
    fn of(headers: &HeaderMap) -> Self {
        if content_type(headers) == Self::Json.content_type() { Self::Json } else { Self::Cbor }
    }
}

/// The type without its parameters.
fn content_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_owned()
}

/// What a request asks for.
struct Target {
    /// True where a service and an operation are named at all.
    is_named: bool,
    operation: Option<Operation>,
}

impl Target {
    fn of(parts: &Parts) -> Self {
        if let Some(target) = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()) {
            let mut names = target.split('.');
            let (service, operation) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
            let is_named = !service.is_empty() && !operation.is_empty();
            return Self { is_named, operation: Operation::parse(operation).filter(|_| service == API) };
        }
        // The legacy form.
        let action = sigv4::query_pairs(&parts.uri).remove("Action");
        Self { is_named: action.is_some(), operation: action.as_deref().and_then(Operation::parse) }
    }
}

fn authenticate(service: &Service, parts: &Parts, body: &[u8]) -> Result<sigv4::Authorization, ApiError> {
    let authorization = sigv4::read(&parts.uri, &parts.headers)?;
    if let Credentials::Verify(keys) = &service.config.credentials {
        let signed = sigv4::Signed { method: &parts.method, uri: &parts.uri, headers: &parts.headers, body };
        let region = Some(service.config.region.as_str()).filter(|_| !service.config.takes_any_region());
        sigv4::verify(&signed, &authorization, keys, region, service.now_ms())?;
    }
    Ok(authorization)
}

/// `application/json` gets no further than this at Amazon.
fn refuse_plain_json(body: &[u8]) -> Response {
    let (status, kind) = match json::parse(body) {
        Ok(Value::Map(_) | Value::List(_)) => (404, "UnknownOperationException"),
        _ => (400, "SerializationException"),
    };
    let output = Value::map([("__type", Value::text(format!("com.amazon.coral.service#{kind}")))]);
    let body = Value::map([("Output", output), ("Version", Value::text("1.0"))]);
    respond(status, Some("application/json"), json::write(&body))
}

fn refuse(encoding: Encoding, error: &ApiError) -> Response {
    let mut response = respond(error.status, Some(encoding.content_type()), encoding.write(&error.body()));
    set(response.headers_mut(), "x-amzn-errortype", error.kind);
    response
}

async fn reply(service: &Service, operation: Operation, encoding: Encoding, outcome: Outcome) -> Response {
    let (status, kind) = (StatusCode::OK.as_u16(), encoding.content_type());
    let answer = match outcome {
        Ok(Answer::Empty) => Ok(respond(status, Some(kind), Body::empty())),
        Ok(Answer::Value(value)) => respond_within(service, operation, kind, encoding.write(&value)).await,
        Ok(Answer::Stored(value, memory)) => Ok(respond_reserved(kind, encoding.write(&value), memory)),
        Ok(Answer::Events(events)) => Ok(respond(status, Some(eventstream::CONTENT_TYPE), events)),
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(|error| refuse(encoding, &error))
}
