//! Shard iterators: opaque to clients, without state in the service, good for five minutes.
//!
//! Base64 of: eight bytes `00…01` | 16 bytes of SHA-256 over the rest | version (1) | created, ms (8) | offset (8) | the
//! stream's creation, ms (8) | shard (4) | salt (8), so that no two are the same | length of the name (1) | name |
//! zeros, up to the length that Amazon's have. All numbers are big-endian. The digest finds damage; it is no signature,
//! as an iterator gives nothing that its bearer could not ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// How long an iterator lives, in milliseconds.
pub(crate) const LIFETIME_MS: i64 = 300_000;
const HEADER: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];
const VERSION: u8 = 1;

/// Where a read of a shard goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardIterator {
    /// When it was made, milliseconds.
    pub(crate) created_ms: i64,
    /// The stream's name.
    pub(crate) stream: String,
    /// When the stream was made, milliseconds: an iterator does not outlive its stream.
    pub(crate) stream_created_ms: i64,
    /// The shard's index.
    pub(crate) shard: u32,
    /// The log's offset of the next record.
    pub(crate) offset: u64,
}

impl ShardIterator {
    /// The text a client gets; another one for every salt.
    pub(crate) fn encode(&self, salt: u64) -> String {
        // Names are at most 128 bytes of ASCII; the length of every text follows from that.
        let name = self.stream.as_bytes();
        let total = 152 + (name.len() + 2) / 16 * 16;
        let mut payload = Vec::with_capacity(total);
        payload.push(VERSION);
        payload.extend_from_slice(&self.created_ms.to_be_bytes());
        payload.extend_from_slice(&self.offset.to_be_bytes());
        payload.extend_from_slice(&self.stream_created_ms.to_be_bytes());
        payload.extend_from_slice(&self.shard.to_be_bytes());
        payload.extend_from_slice(&salt.to_be_bytes());
        payload.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        payload.extend_from_slice(name);
        payload.resize(total - 24, 0);
        let mut bytes = HEADER.to_vec();
        bytes.extend_from_slice(&digest(&payload));
        bytes.extend_from_slice(&payload);
        STANDARD.encode(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else. Quotes around it are forgiven: there are
    /// clients that pass the JSON text of an iterator on.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let bytes = STANDARD.decode(text).ok()?;
        if !(152..=280).contains(&bytes.len()) {
            return None;
        }
        let payload = bytes.strip_prefix(&HEADER)?.strip_prefix(&digest(bytes.get(24..)?))?;
        let payload = payload.strip_prefix(&[VERSION])?;
        let (created_ms, payload) = payload.split_first_chunk()?;
        let (offset, payload) = payload.split_first_chunk()?;
        let (stream_created_ms, payload) = payload.split_first_chunk()?;
        let (shard, payload) = payload.split_first_chunk()?;
        let (_salt, payload) = payload.split_first_chunk::<8>()?;
        let (length, payload) = payload.split_first()?;
        let name = payload.get(..usize::from(*length))?;
        Some(Self {
            created_ms: i64::from_be_bytes(*created_ms),
            stream: String::from_utf8(name.to_vec()).ok()?,
            stream_created_ms: i64::from_be_bytes(*stream_created_ms),
            shard: u32::from_be_bytes(*shard),
            offset: u64::from_be_bytes(*offset),
        })
    }

    /// True where it is older than five minutes.
    pub(crate) fn has_expired(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.created_ms) > LIFETIME_MS
    }
}

fn digest(payload: &[u8]) -> [u8; 16] {
    let whole: [u8; 32] = Sha256::digest(payload).into();
    let mut short = [0; 16];
    short.copy_from_slice(whole.first_chunk::<16>().unwrap_or(&[0; 16]));
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iterator(stream: &str) -> ShardIterator {
        ShardIterator {
            created_ms: 1_733_333_333_123,
            stream: stream.to_owned(),
            stream_created_ms: 1_700_000_000_000,
            shard: 7,
            offset: 123_456_789_012,
        }
    }

    #[test]
    fn an_iterator_reads_back_and_is_as_long_as_amazons() {
        for length in [1, 13, 14, 29, 30, 128] {
            let iterator = iterator(&"n".repeat(length));
            let text = iterator.encode(1);
            assert_ne!(text, iterator.encode(2));
            assert_eq!(STANDARD.decode(&text).unwrap().len(), 152 + (length + 2) / 16 * 16);
            assert!(text.len() <= 512);
            assert_eq!(ShardIterator::decode(&text).as_ref(), Some(&iterator));
            assert_eq!(ShardIterator::decode(&format!("\"{text}\"")), Some(iterator));
        }
    }

    #[test]
    fn any_change_of_it_is_refused() {
        let bytes = STANDARD.decode(iterator("s").encode(1)).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(ShardIterator::decode(&STANDARD.encode(changed)), None, "byte {at}");
        }
        for text in ["", "x", "AAAA", &STANDARD.encode([0; 152]), &STANDARD.encode(&bytes[..151])] {
            assert_eq!(ShardIterator::decode(text), None, "{text}");
        }
    }

    #[test]
    fn it_lives_for_five_minutes() {
        let iterator = iterator("s");
        assert!(!iterator.has_expired(iterator.created_ms + 300_000));
        assert!(iterator.has_expired(iterator.created_ms + 300_001));
    }
}
