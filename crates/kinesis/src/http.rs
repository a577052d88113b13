//! HTTP: the native protocol, the façade, and the frames of event streams.

pub(crate) mod eventstream;
pub(crate) mod facade;
pub(crate) mod native;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pinmill_http::{BodyError, Reservation, Reserved, SHORT};

use crate::error::ApiError;
use crate::ops::Operation;
use crate::service::Service;

/// Least memory for answers with which the service can do its work, in bytes: one page of the largest size.
pub const LEAST_ANSWER_MEMORY: usize = crate::ops::PAGE_MEMORY / 7 * 8 + 8;

/// Seconds that a client is asked to wait when there is no memory for its request.
const RETRY_AFTER: &str = "1";

/// What a client is told whose body was not read.
fn unreadable(error: &BodyError) -> ApiError {
    let kind = match error {
        BodyError::NoMemory => "ServiceUnavailable",
        BodyError::TooLarge(_) => "RequestEntityTooLargeException",
        BodyError::TooSlow(_) => "RequestTimeoutException",
        BodyError::BrokeOff(_) => "SerializationException",
    };
    ApiError { status: error.status().as_u16(), kind, message: Some(error.to_string()) }
}

/// An answer after a body that was not read to its end: nothing more can come over its connection.
fn closing(mut response: Response) -> Response {
    set(response.headers_mut(), "connection", "close");
    response
}

/// An answer whose body holds this memory until it is sent.
fn respond_reserved(content_type: &'static str, body: Vec<u8>, memory: Reservation) -> Response {
    let mut response = respond(StatusCode::OK.as_u16(), Some(content_type), memory.into_bytes(body));
    response.extensions_mut().insert(Reserved);
    response
}

/// The answer of an operation that did not reserve memory for it. A read whose answer is long is refused where there is no
/// memory for it. A change was made, and is never denied: its answer is charged when it is sent.
async fn respond_within(
    service: &Service,
    operation: Operation,
    content_type: &'static str,
    body: Vec<u8>,
) -> Result<Response, ApiError> {
    if body.len() <= SHORT || !is_read(operation) {
        return Ok(respond(StatusCode::OK.as_u16(), Some(content_type), body));
    }
    match service.config.answer_memory.reserve(body.len()).await {
        Some(memory) => Ok(respond_reserved(content_type, body, memory)),
        None => Err(ApiError::limit(
            "Rate exceeded: no memory is left for answers that clients have not read yet.",
        )),
    }
}

/// Whether an operation changes nothing, and its answer grows with what there is.
fn is_read(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::DescribeStream
            | Operation::ListShards
            | Operation::ListStreamConsumers
            | Operation::ListStreams
            | Operation::ListTagsForResource
            | Operation::ListTagsForStream
    )
}

/// An answer with the ids that every answer of the service has.
fn respond(status: u16, content_type: Option<&'static str>, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        set(headers, "retry-after", RETRY_AFTER);
    }
    set(headers, "x-amzn-requestid", &uuid::Uuid::new_v4().to_string());
    let mut random = [0_u8; 72];
    rand::fill(&mut random);
    set(headers, "x-amz-id-2", &STANDARD.encode(random));
    response
}

/// Sets a header whose value is known to be printable; any other is left out.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
