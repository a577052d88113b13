//! Errors as a Kinesis client sees them, and those of opening the service.

use std::borrow::Cow;

use crate::value::Value;

/// An error of the API: an exception's name and its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {}", message.as_deref().unwrap_or("no message"))]
pub struct ApiError {
    /// HTTP status: 400, or 500 where the fault is the service's.
    pub status: u16,
    /// The exception's name, such as `ResourceNotFoundException`.
    pub kind: &'static str,
    /// The message, where the exception has one.
    pub message: Option<String>,
}

impl ApiError {
    /// An exception of status 400.
    pub(crate) fn client(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, kind, message: Some(message.into()) }
    }

    /// An exception of status 400 without a message.
    pub(crate) fn bare(kind: &'static str) -> Self {
        Self { status: 400, kind, message: None }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::client("ResourceNotFoundException", message)
    }

    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::client("ResourceInUseException", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::client("InvalidArgumentException", message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::client("LimitExceededException", message)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::client("ValidationException", message)
    }

    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::client("SerializationException", message)
    }

    pub(crate) fn throughput(message: impl Into<String>) -> Self {
        Self::client("ProvisionedThroughputExceededException", message)
    }

    /// The service's own fault: clients try again.
    pub(crate) fn internal(message: Option<String>) -> Self {
        Self { status: 500, kind: "InternalFailure", message }
    }

    /// The error body. `SerializationException` alone spells its message with a capital letter.
    pub(crate) fn body(&self) -> Value<'static> {
        let mut members = vec![(Cow::Borrowed("__type"), Value::text(self.kind))];
        if let Some(message) = &self.message {
            let name = if self.kind == "SerializationException" { "Message" } else { "message" };
            members.push((Cow::Borrowed(name), Value::text(message.clone())));
        }
        Value::Map(members)
    }
}

impl From<pinmill_broker::Error> for ApiError {
    /// A log that fails is the service's fault, whatever it says; the log's words go to the operator, not to the client.
    fn from(error: pinmill_broker::Error) -> Self {
        tracing::error!(%error, "the log of the streams failed a request");
        Self::internal(Some("Internal Service Failure.".to_owned()))
    }
}

/// Why the service could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The log that keeps the streams failed.
    #[error("the log of the streams failed while its catalog was read: {0}")]
    Log(#[from] pinmill_broker::Error),
    /// A catalog record is not one that this version reads.
    #[error(
        "catalog record {offset} of topic `{topic}` cannot be read: {reason}; it was written by a newer version or damaged, \
         and nothing was changed"
    )]
    Catalog {
        /// The catalog's topic.
        topic: String,
        /// The record's offset.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("setting `{setting}` of the Kinesis API is `{value}`, but {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        reason: String,
    },
}
