//! Tokens of the listings: base64 of a small JSON object with all that the next page needs, good for five minutes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

const LIFETIME_MS: i64 = 300_000;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    created_ms: i64,
    next: T,
}

/// The token that carries `next` to the following page.
pub(crate) fn encode<T: Serialize>(next: T, now_ms: i64) -> Result<String, ApiError> {
    let envelope = Envelope { created_ms: now_ms, next };
    let json = serde_json::to_vec(&envelope).map_err(|error| ApiError::internal(Some(error.to_string())))?;
    Ok(STANDARD.encode(json))
}

/// What a token carries.
pub(crate) fn decode<T: DeserializeOwned>(token: &str, now_ms: i64) -> Result<T, ApiError> {
    let bytes = STANDARD.decode(token).ok();
    let envelope = bytes.and_then(|bytes| serde_json::from_slice::<Envelope<T>>(&bytes).ok());
    let envelope = envelope.ok_or_else(|| ApiError::invalid("Invalid NextToken."))?;
    if now_ms.saturating_sub(envelope.created_ms) > LIFETIME_MS {
        let message = "NextToken expired. It is valid for 300 seconds.";
        return Err(ApiError::client("ExpiredNextTokenException", message));
    }
    Ok(envelope.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_what_it_was_given_for_five_minutes() {
        let token = encode(("stream".to_owned(), 5_u32), 1000).unwrap();
        assert_eq!(decode::<(String, u32)>(&token, 301_000).unwrap(), ("stream".to_owned(), 5));
        assert_eq!(decode::<(String, u32)>(&token, 301_001).unwrap_err().kind, "ExpiredNextTokenException");
        for token in ["", "x", "AAAA", &token[..8]] {
            assert_eq!(decode::<(String, u32)>(token, 1000).unwrap_err().kind, "InvalidArgumentException");
        }
    }
}
