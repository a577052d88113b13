//! Errors: of the gateway to its caller, and of a request to its client in the proxy's shape.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;

use axum::body::Body;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use pinmill_http::BodyError;

/// Why a gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not loopback and nobody would be asked who they are.
    #[error(
        "listening on {0} lets every machine that reaches it write, without authentication; listen on 127.0.0.1, or \
         set `allow_unauthenticated_remote` to say that this is meant"
    )]
    RemoteWithoutAuthentication(SocketAddr),
    /// A setting cannot work.
    #[error("gateway setting `{setting}` is wrong: {reason}")]
    Config {
        /// Its name.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Seconds that a client is told to wait when the log refuses writes: it looks for space about that often.
pub(crate) const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The message of a request that was refused at once because no memory is left for its answer.
pub(crate) const NO_MEMORY_FOR_ANSWERS: &str =
    "nothing was done: no memory is left for answers that clients have not read yet; try again later";

/// An answer that is an error: a status, and `{"error_code":…,"message":…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: u32,
    pub(crate) message: Cow<'static, str>,
    /// The rest of the request stays unread, so the connection cannot be used again.
    pub(crate) close: bool,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), close: false }
    }

    /// An error whose code is its status, as the proxy gives where Kafka has no say.
    pub(crate) fn plain(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, u32::from(status.as_u16()), message)
    }

    /// `HTTP 404 Not Found` and the like.
    pub(crate) fn generic(status: StatusCode) -> Self {
        Self::plain(
            status,
            format!("HTTP {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()),
        )
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unprocessable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::plain(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(crate) fn topic_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, 40401, "Topic not found.")
    }

    pub(crate) fn partition_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, 40402, "Partition not found.")
    }

    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 50302, message)
    }

    /// A read, or a write of which nothing was done, that found no memory for its answer.
    pub(crate) fn no_memory_for_answers() -> Self {
        Self::unavailable(NO_MEMORY_FOR_ANSWERS)
    }

    /// Ends the connection after the answer, because the rest of the request is not read.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub(crate) fn body(&self) -> String {
        // A string always serializes.
        let message = serde_json::to_string(&*self.message).unwrap_or_else(|_| "\"\"".to_owned());
        format!(r#"{{"error_code":{},"message":{message}}}"#, self.code)
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The rest of such a body is unread.
impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::NoMemory => Self::unavailable(message).closing(),
            error => Self::plain(error.status(), message).closing(),
        }
    }
}

impl From<pinmill_broker::Error> for ApiError {
    fn from(error: pinmill_broker::Error) -> Self {
        use pinmill_broker::Error as Log;
        match error {
            Log::UnknownTopic(_) => Self::topic_not_found(),
            Log::UnknownPartition { .. } => Self::partition_not_found(),
            Log::InvalidTopic { .. } | Log::TopicExists(_) => {
                Self::new(StatusCode::BAD_REQUEST, 40002, error.to_string())
            }
            Log::OffsetOutOfRange { .. } => Self::new(StatusCode::BAD_REQUEST, 40002, error.to_string()),
            Log::RecordTooLarge { .. } => Self::plain(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            // Retriable for a client that accepts a record twice; silence would lose it.
            Log::Unavailable(_) | Log::Failed(_) => Self::unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_proxys_shape_and_escape_what_they_quote() {
        assert_eq!(
            ApiError::generic(StatusCode::NOT_FOUND).body(),
            r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#
        );
        assert_eq!(
            ApiError::bad_request("a \"b\"\n\u{1}").body(),
            r#"{"error_code":400,"message":"a \"b\"\n\u0001"}"#
        );
    }

    #[test]
    fn a_refusing_log_asks_the_client_to_come_again() {
        let refused = pinmill_broker::Error::Unavailable("the disk is full".to_owned());
        let response = ApiError::from(refused).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
