//! HTTP: the native protocol, the façade, and the frames of event streams.

pub(crate) mod eventstream;
pub(crate) mod facade;
pub(crate) mod native;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::MAX_BODY_BYTES;

/// Reads bodies, within bounds of time and of memory for all of them together.
#[derive(Debug)]
pub(crate) struct Bodies {
    /// Room in KiB.
    room: Arc<Semaphore>,
    timeout: Duration,
}

/// A body, and the room it takes until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(crate) fn new(memory: usize, timeout: Duration) -> Self {
        Self { room: room(memory), timeout }
    }

    /// The whole body; `Err` holds the status to answer where there is none.
    pub(crate) async fn read(&self, body: Body) -> Result<Received, StatusCode> {
        // A body that does not say its length may have the most.
        let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let length = length.unwrap_or(MAX_BODY_BYTES);
        if length > MAX_BODY_BYTES {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let kib = u32::try_from(length / 1024).unwrap_or(u32::MAX);
        let room = tokio::time::timeout(self.timeout, Arc::clone(&self.room).acquire_many_owned(kib)).await;
        let Ok(Ok(room)) = room else { return Err(StatusCode::SERVICE_UNAVAILABLE) };
        match tokio::time::timeout(self.timeout, Limited::new(body, MAX_BODY_BYTES).collect()).await {
            Ok(Ok(collected)) => Ok(Received { bytes: collected.to_bytes(), _room: room }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
            // The client went away or broke its own framing.
            Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
            Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        }
    }
}

/// So much memory to be shared out, in KiB. With less than one body takes, that could never be read.
pub(crate) fn room(memory: usize) -> Arc<Semaphore> {
    let kib = (memory.max(MAX_BODY_BYTES) / 1024).min(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(kib))
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
