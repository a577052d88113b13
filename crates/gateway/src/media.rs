//! Media types: what a client sends, and what it is willing to read.

use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::error::ApiError;

/// The media type of every answer that is no error.
pub(crate) const KAFKA_V2: HeaderValue = HeaderValue::from_static("application/vnd.kafka.v2+json");
/// Plain JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How keys and values stand in a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Embedded {
    /// Any JSON.
    Json,
    /// Strings of base64.
    Binary,
}

/// The embedded format that a request's `Content-Type` names.
///
/// Clients of the reference system also call JSON `application/vnd.kafka.v2+json` or `application/json`. Avro and its
/// like need a schema registry, which there is not, so they are as unsupported as text.
pub(crate) fn embedded(headers: &HeaderMap) -> Result<Embedded, ApiError> {
    let unsupported = || ApiError::generic(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let identity = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| !identity(encoding)) {
        return Err(unsupported());
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = essence(content_type);
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    if is("application/vnd.kafka.json.v2+json")
        || is("application/vnd.kafka.v2+json")
        || is("application/json")
    {
        Ok(Embedded::Json)
    } else if is("application/vnd.kafka.binary.v2+json") {
        Ok(Embedded::Binary)
    } else {
        Err(unsupported())
    }
}

/// The media type of an answer that the client's `Accept` allows: the proxy's own, or plain JSON for who wants only that.
///
/// The embedded formats are taken for the proxy's type: many clients send the same type as `Accept` and
/// `Content-Type`. Of several acceptable types the proxy's own is taken, whatever their weights, as it is what every
/// client of the proxy reads.
pub(crate) fn acceptable(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let mut plain = false;
    let mut asked = false;
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            asked |= !range.trim().is_empty();
            if is_refused(range) {
                continue;
            }
            let essence = essence(range);
            let is = |name: &str| essence.eq_ignore_ascii_case(name);
            if is("*/*") || is("application/*") || is_proxy_type(essence) {
                return Ok(KAFKA_V2);
            }
            plain |= is("application/json");
        }
    }
    match (asked, plain) {
        (false, _) => Ok(KAFKA_V2),
        (true, true) => Ok(JSON),
        (true, false) => Err(ApiError::generic(StatusCode::NOT_ACCEPTABLE)),
    }
}

/// `application/vnd.kafka+json`, `application/vnd.kafka.v2+json`, `application/vnd.kafka.json.v2+json` and so on.
fn is_proxy_type(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    let format = essence.strip_prefix("application/vnd.kafka").and_then(|rest| rest.strip_suffix("+json"));
    format.is_some_and(|format| matches!(format, "" | ".v2" | ".json.v2" | ".binary.v2"))
}

/// A media type without its parameters.
fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// Whether a range's weight is 0: explicitly not wanted.
fn is_refused(range: &str) -> bool {
    let weight = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
    };
    range.split(';').skip(1).filter_map(weight).any(|weight| weight <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn what_clients_of_the_reference_send_is_taken() {
        for json in [
            "application/vnd.kafka.json.v2+json",
            "application/vnd.kafka.v2+json",
            "application/json",
            "Application/JSON; charset=utf-8",
        ] {
            assert_eq!(embedded(&with(CONTENT_TYPE, json)), Ok(Embedded::Json), "{json}");
        }
        let binary = with(CONTENT_TYPE, "application/vnd.kafka.binary.v2+json");
        assert_eq!(embedded(&binary), Ok(Embedded::Binary));
    }

    #[test]
    fn other_types_and_encodings_are_unsupported() {
        for other in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/vnd.kafka.avro.v2+json",
            "application/vnd.kafka.json.v1+json",
            "application/jsonp",
        ] {
            let error = embedded(&with(CONTENT_TYPE, other)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (415, 415), "{other}");
        }
        assert!(embedded(&HeaderMap::new()).is_err());
        let mut packed = with(CONTENT_TYPE, "application/json");
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(embedded(&packed).is_err());
    }

    #[test]
    fn an_answer_is_the_proxys_type_unless_only_plain_json_is_wanted() {
        for accept in [
            "*/*",
            "",
            "application/*;q=0.1",
            "application/vnd.kafka.v2+json, application/vnd.kafka+json, application/json",
            "text/html, application/vnd.kafka.json.v2+json;q=0.5",
            "application/json, */*;q=0.1",
        ] {
            assert_eq!(acceptable(&with(ACCEPT, accept)), Ok(KAFKA_V2), "{accept}");
        }
        assert_eq!(acceptable(&HeaderMap::new()), Ok(KAFKA_V2));
        assert_eq!(acceptable(&with(ACCEPT, "application/json")), Ok(JSON));
        for accept in ["text/html", "image/*", "application/json;q=0", "application/vnd.kafka.avro.v2+json"] {
            let error = acceptable(&with(ACCEPT, accept)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (406, 406), "{accept}");
        }
    }
}
