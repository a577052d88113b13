//! The throughput limits of a shard, where they are switched on: what is used up in the present second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const WRITE_BYTES: usize = 1024 * 1024;
const WRITE_RECORDS: usize = 1000;
const READ_CALLS: usize = 5;

/// What each shard of one stream has used up. Bounded by the number of shards.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    writes: Mutex<HashMap<u32, Window>>,
    reads: Mutex<HashMap<u32, Window>>,
}

/// One second of a shard.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    second: i64,
    bytes: usize,
    count: usize,
}

impl Window {
    /// Takes `bytes` and one more of the count, where both fit.
    fn take(&mut self, now_ms: i64, bytes: usize, limit_bytes: usize, limit_count: usize) -> bool {
        let second = now_ms.div_euclid(1000);
        if second != self.second {
            *self = Self { second, ..Self::default() };
        }
        // The first of a second always fits, or a record of 10 MiB could never be written.
        let fits = self.count == 0 || (self.bytes + bytes <= limit_bytes && self.count < limit_count);
        if fits {
            self.bytes += bytes;
            self.count += 1;
        }
        fits
    }
}

impl Throttle {
    /// Whether a shard takes one more record of this size in the present second.
    pub(crate) fn may_write(&self, shard: u32, bytes: usize, now_ms: i64) -> bool {
        take(&self.writes, shard, |window| window.take(now_ms, bytes, WRITE_BYTES, WRITE_RECORDS))
    }

    /// Whether a shard is read once more in the present second.
    pub(crate) fn may_read(&self, shard: u32, now_ms: i64) -> bool {
        take(&self.reads, shard, |window| window.take(now_ms, 0, usize::MAX, READ_CALLS))
    }
}

/// A window is whole between any two statements, so a poisoned mutex is taken over.
fn take(windows: &Mutex<HashMap<u32, Window>>, shard: u32, take: impl FnOnce(&mut Window) -> bool) -> bool {
    take(windows.lock().unwrap_or_else(PoisonError::into_inner).entry(shard).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_takes_so_many_records_and_bytes_and_the_next_one_anew() {
        let throttle = Throttle::default();
        assert!((0..1000).all(|_| throttle.may_write(0, 1, 5_000)));
        assert!(!throttle.may_write(0, 1, 5_999));
        assert!(throttle.may_write(1, 1, 5_999), "another shard has its own");
        assert!(throttle.may_write(0, WRITE_BYTES, 6_000));
        assert!(!throttle.may_write(0, 1, 6_001));
        assert!(throttle.may_write(0, 10 * WRITE_BYTES, 7_000), "one record always passes");
        assert!((0..5).all(|_| throttle.may_read(0, 5_000)));
        assert!(!throttle.may_read(0, 5_000));
    }
}
