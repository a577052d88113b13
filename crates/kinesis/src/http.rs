//! HTTP: the native protocol, the façade, and the frames of event streams.

pub(crate) mod eventstream;
pub(crate) mod facade;
pub(crate) mod native;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};

use crate::config::MAX_BODY_BYTES;

/// The whole body; `Err` holds the status to answer where there is none.
async fn collect(body: Body) -> Result<Bytes, StatusCode> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        // The client went away or broke its own framing.
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

/// An answer with the ids that every answer of the service has.
fn respond(status: u16, content_type: Option<&'static str>, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
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
