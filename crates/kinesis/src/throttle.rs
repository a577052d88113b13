//! The throughput limits of a shard, where they are switched on: what is used up in the present second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const WRITE_BYTES: usize = 1024 * 1024;
const WRITE_RECORDS: usize = 1000;
const READ_BYTES: usize = 2 * 1024 * 1024;
const READ_CALLS: usize = 5;

/// What each shard of one stream has used up. Bounded by the number of shards.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    writes: Mutex<HashMap<u32, Window>>,
    reads: Mutex<HashMap<u32, Reads>>,
}

/// One second of a shard.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    second: i64,
    bytes: usize,
    count: usize,
}

impl Window {
    /// Whether `bytes` and one more of the count fit.
    fn fits(&self, now_ms: i64, bytes: usize, limit_bytes: usize, limit_count: usize) -> bool {
        // The first of a second always fits, or a record of 10 MiB could never be written.
        now_ms.div_euclid(1000) != self.second
            || self.count == 0
            || (self.bytes + bytes <= limit_bytes && self.count < limit_count)
    }

    /// Takes `bytes` and one more of the count, where both fit.
    fn take(&mut self, now_ms: i64, bytes: usize, limit_bytes: usize, limit_count: usize) -> bool {
        let fits = self.fits(now_ms, bytes, limit_bytes, limit_count);
        let second = now_ms.div_euclid(1000);
        if second != self.second {
            *self = Self { second, ..Self::default() };
        }
        if fits {
            self.bytes += bytes;
            self.count += 1;
        }
        fits
    }
}

/// What was read of a shard since a time. One read may answer more than a second's share; the shard then rests for as many
/// seconds as that would have taken.
#[derive(Debug, Default, Clone, Copy)]
struct Reads {
    since_ms: i64,
    bytes: usize,
    count: usize,
}

impl Reads {
    /// The reads that count now.
    fn at(self, now_ms: i64) -> Self {
        let seconds = (self.bytes / READ_BYTES).max(1);
        let until_ms = self.since_ms.saturating_add(i64::try_from(seconds * 1000).unwrap_or(i64::MAX));
        // A clock that went back starts anew too.
        if (self.since_ms..until_ms).contains(&now_ms) {
            self
        } else {
            Self { since_ms: now_ms, ..Self::default() }
        }
    }

    fn may_go_on(self) -> bool {
        self.count < READ_CALLS && self.bytes < READ_BYTES
    }
}

impl Throttle {
    /// Takes one more record of this size in the present second, where the shard has room for it.
    pub(crate) fn take_write(&self, shard: u32, bytes: usize, now_ms: i64) -> bool {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.entry(shard).or_default().take(now_ms, bytes, WRITE_BYTES, WRITE_RECORDS)
    }

    /// Whether [`take_write`](Self::take_write) would.
    pub(crate) fn may_write(&self, shard: u32, bytes: usize, now_ms: i64) -> bool {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.get(&shard).is_none_or(|window| window.fits(now_ms, bytes, WRITE_BYTES, WRITE_RECORDS))
    }

    /// Takes one more read, where the shard may be read now.
    pub(crate) fn take_read(&self, shard: u32, now_ms: i64) -> bool {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let of_shard = reads.entry(shard).or_default();
        *of_shard = of_shard.at(now_ms);
        let may_go_on = of_shard.may_go_on();
        of_shard.count += usize::from(may_go_on);
        may_go_on
    }

    /// Whether [`take_read`](Self::take_read) would.
    pub(crate) fn may_read(&self, shard: u32, now_ms: i64) -> bool {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.get(&shard).is_none_or(|of_shard| of_shard.at(now_ms).may_go_on())
    }

    /// Notes what a read answered.
    pub(crate) fn note_read(&self, shard: u32, bytes: usize) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let of_shard = reads.entry(shard).or_default();
        of_shard.bytes = of_shard.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_takes_so_many_records_and_bytes_and_the_next_one_anew() {
        let throttle = Throttle::default();
        assert!((0..1000).all(|_| throttle.take_write(0, 1, 5_000)));
        assert!(!throttle.may_write(0, 1, 5_999));
        assert!(!throttle.take_write(0, 1, 5_999));
        assert!(throttle.take_write(1, 1, 5_999), "another shard has its own");
        assert!(throttle.take_write(0, WRITE_BYTES, 6_000));
        assert!(!throttle.take_write(0, 1, 6_001));
        assert!(throttle.take_write(0, 10 * WRITE_BYTES, 7_000), "one record always passes");
    }

    #[test]
    fn five_reads_a_second_are_let_through() {
        let throttle = Throttle::default();
        assert!((0..5).all(|_| throttle.take_read(0, 5_500)));
        assert!(!throttle.take_read(0, 6_499), "the second began with the first read");
        assert!(throttle.take_read(1, 5_500));
        assert!(throttle.take_read(0, 6_500));
        assert!(throttle.take_read(0, 1_000), "a clock that goes back locks nobody out");
    }

    #[test]
    fn two_mebibytes_a_second_are_read_and_a_larger_answer_is_rested_for() {
        let throttle = Throttle::default();
        for (now_ms, bytes, is_free_at_ms) in
            [(0, READ_BYTES, 1_000), (1_000, 5 * READ_BYTES, 6_000), (6_000, READ_BYTES * 5 / 2, 8_000)]
        {
            assert!(throttle.take_read(0, now_ms));
            throttle.note_read(0, bytes);
            assert!(!throttle.may_read(0, is_free_at_ms - 1));
            assert!(throttle.may_read(0, is_free_at_ms));
        }
        assert!(throttle.take_read(0, 8_000));
        throttle.note_read(0, READ_BYTES - 1);
        assert!(throttle.take_read(0, 8_001), "what is less leaves room for more");
    }
}
