//! Frames of `application/vnd.amazon.eventstream`:
//! length of all (4) | length of the headers (4) | CRC-32 of those 8 bytes | headers | payload | CRC-32 of all before.
//! A header: length of the name (1) | name | 7, for text (1) | length of the value (2) | value. Numbers are big-endian.

use bytes::Bytes;

use crate::error::ApiError;
use crate::value::json;

/// The type of the whole answer.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
const JSON: &str = "application/x-amz-json-1.1";

/// The first frame of every stream; Python's client fails without it.
pub(crate) fn initial_response() -> Bytes {
    event("initial-response", b"{}")
}

/// A frame with an event.
pub(crate) fn event(kind: &str, payload: &[u8]) -> Bytes {
    frame(&[(":message-type", "event"), (":event-type", kind), (":content-type", JSON)], payload)
}

/// A frame with an exception, after which nothing follows.
pub(crate) fn exception(error: &ApiError) -> Bytes {
    let kind = if error.kind == "InternalFailure" { "InternalFailureException" } else { error.kind };
    let headers = [(":message-type", "exception"), (":exception-type", kind), (":content-type", JSON)];
    frame(&headers, &json::write(&error.body()))
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let mut head = Vec::new();
    for (name, value) in headers {
        // Names and values are ours and short.
        head.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let total = 12 + head.len() + payload.len() + 4;
    let mut frame = Vec::with_capacity(total);
    frame.extend_from_slice(&u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_lengths_and_checksums() {
        let frame = event("initial-response", b"{}");
        let number = |at: usize| u32::from_be_bytes(*frame[at..].first_chunk().unwrap());
        assert_eq!(number(0) as usize, frame.len());
        assert_eq!(number(8), crc32fast::hash(&frame[..8]));
        let end = frame.len() - 4;
        assert_eq!(number(end), crc32fast::hash(&frame[..end]));
        let headers = number(4) as usize;
        assert_eq!(&frame[12 + headers..end], b"{}");
        assert!(
            frame[12..].starts_with(
                b"\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x10initial-response"
            )
        );
    }
}
