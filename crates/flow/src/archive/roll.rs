//! When an archive object is finished: pure decisions, no I/O and no clock of their own.
//!
//! By records and bytes the cut is a function of the records alone, so a replay after a crash cuts at the same
//! places. By age it is not; the archive makes up for it by adopting an object that a replay finds already there.

use std::time::Duration;

/// The bounds of one archive object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollPolicy {
    /// Most records in one object.
    pub max_records: u64,
    /// An object is finished by the record that brings it to this many bytes of lines, before compression.
    pub max_bytes: usize,
    /// A record waits no longer than this for its object.
    pub max_age: Duration,
}

/// The two clocks at one moment. Age is measured on both, because either can mislead: the wall clock is set
/// back and forth, the other one starts anew with each process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Time since some fixed moment of this process; never goes backwards.
    pub uptime: Duration,
}

/// When the first record that waits for its object came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The record's time stamp in the log, in milliseconds since the Unix epoch.
    pub stamped_ms: i64,
    /// When this process first saw it.
    pub seen: Duration,
}

impl RollPolicy {
    /// Whether an object that holds this much is finished.
    pub fn full(&self, records: u64, bytes: usize) -> bool {
        records >= self.max_records || bytes >= self.max_bytes
    }

    /// Whether a record that waits since `first` has waited long enough, by either clock.
    pub fn old(&self, first: Waiting, now: Now) -> bool {
        let by_stamp = u64::try_from(now.wall_ms.saturating_sub(first.stamped_ms)).unwrap_or(0);
        let by_uptime = now.uptime.saturating_sub(first.seen);
        Duration::from_millis(by_stamp) >= self.max_age || by_uptime >= self.max_age
    }
}

/// Which buffers to write out early so that all of them together fit into `budget` bytes: the largest first,
/// because that frees the most with the fewest small objects.
pub(super) fn relieve(sizes: &[usize], budget: usize) -> Vec<usize> {
    let mut total: usize = sizes.iter().sum();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sizes[index]));
    let mut chosen = Vec::new();
    for index in order {
        if total <= budget {
            break;
        }
        total -= sizes[index];
        chosen.push(index);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RollPolicy =
        RollPolicy { max_records: 3, max_bytes: 100, max_age: Duration::from_secs(60) };

    #[test]
    fn an_object_is_full_at_either_bound() {
        assert!(!POLICY.full(2, 99));
        assert!(POLICY.full(3, 0));
        assert!(POLICY.full(1, 100));
    }

    #[test]
    fn a_record_is_old_by_either_clock() {
        let first = Waiting { stamped_ms: 1_000_000, seen: Duration::from_secs(10) };
        let at = |wall_ms, secs| Now { wall_ms, uptime: Duration::from_secs(secs) };
        assert!(!POLICY.old(first, at(1_059_999, 69)));
        assert!(POLICY.old(first, at(1_060_000, 11)), "a restart forgets uptime, the stamp does not");
        assert!(POLICY.old(first, at(0, 70)), "the wall clock was set back, uptime was not");
        assert!(!POLICY.old(first, at(0, 11)));
    }

    #[test]
    fn the_largest_buffers_go_first_and_no_more_than_needed() {
        assert_eq!(relieve(&[10, 50, 30], 90), Vec::<usize>::new());
        assert_eq!(relieve(&[10, 50, 30], 89), vec![1]);
        assert_eq!(relieve(&[10, 50, 30], 39), vec![1, 2]);
        assert_eq!(relieve(&[], 0), Vec::<usize>::new());
    }
}
