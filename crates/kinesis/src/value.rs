//! The value model that both wire formats share: what JSON 1.1 and CBOR 1.1 can say, borrowed from the request where that
//! saves a copy.

pub(crate) mod cbor;
pub(crate) mod json;

use std::borrow::Cow;

use bytes::Bytes;

/// Deepest nesting that is read; the deepest request of the API has four levels.
pub(crate) const MAX_DEPTH: usize = 32;

/// A value of a request or an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// Nothing; the same as an absent member.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes: base64 text in JSON, a byte string in CBOR.
    Blob(Bytes),
    /// Milliseconds since the Unix epoch: seconds with a fraction in JSON, tag 1 and whole milliseconds in CBOR.
    Time(i64),
    /// A list.
    List(Vec<Value<'a>>),
    /// Members in their order. Names may repeat in a request; the last one counts.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// What is wrong with a body that is neither JSON nor CBOR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body cannot be parsed: {0}")]
pub(crate) struct ParseError(pub(crate) String);

impl<'a> Value<'a> {
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A map of members named at compile time.
    pub(crate) fn map<const N: usize>(members: [(&'static str, Value<'a>); N]) -> Self {
        Self::Map(members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// Adds a member to a map; nothing else has members.
    pub(crate) fn push(&mut self, name: &'static str, value: Value<'a>) {
        if let Self::Map(members) = self {
            members.push((Cow::Borrowed(name), value));
        }
    }

    /// A member of a map; `None` where it is absent or null, or this is no map.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let Self::Map(members) = self else { return None };
        let found = members.iter().rev().find(|(member, _)| member == name).map(|(_, value)| value);
        found.filter(|value| !matches!(value, Self::Null))
    }

    /// A member that is text.
    pub(crate) fn str(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A member that is a whole number.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Self::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// A member that is a time, in milliseconds.
    pub(crate) fn time(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Self::Time(ms)) => Some(*ms),
            _ => None,
        }
    }

    /// A member that is true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Self::Bool(true)))
    }
}

/// The two encodings of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/x-amz-json-1.1`.
    Json,
    /// `application/x-amz-cbor-1.1`.
    Cbor,
}

impl Encoding {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    pub(crate) fn parse(self, body: &[u8]) -> Result<Value<'_>, ParseError> {
        match self {
            Self::Json => json::parse(body),
            Self::Cbor => cbor::parse(body),
        }
    }

    pub(crate) fn write(self, value: &Value<'_>) -> Vec<u8> {
        match self {
            Self::Json => json::write(value),
            Self::Cbor => cbor::write(value),
        }
    }
}
