//! Where a keyed record goes: Kafka's default partitioner, so that one key is in one partition whether it comes over HTTP
//! or from a native producer.

/// Java's murmur2 as Kafka's `Utils.murmur2` has it.
fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    #[expect(clippy::cast_possible_truncation, reason = "the hash is defined on the length's low 32 bits")]
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (shift, byte) in [0, 8, 16].into_iter().zip(tail) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of a key among `partitions` (at least one) of them.
pub(crate) fn of_key(key: &[u8], partitions: u32) -> u32 {
    let positive = (murmur2(key) & 0x7fff_ffff).cast_unsigned();
    positive % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kafkas_own() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for partitions in [1, 2, 3, 50] {
            for key in 0..1000_u32 {
                assert!(of_key(&key.to_be_bytes()[..key as usize % 5], partitions) < partitions);
            }
        }
        assert_eq!(of_key(b"foobar", 50), u32::try_from((-790_332_482 & 0x7fff_ffff) % 50).unwrap());
    }
}
