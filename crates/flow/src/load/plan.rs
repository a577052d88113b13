//! When a commit is due, and how many workers share a step: pure decisions, no I/O.

/// How much goes into one commit: a large backlog is committed in steps, so that memory stays flat and a crash
/// costs little; a small one in a single commit, so that it makes few files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimit {
    /// Raw bytes (uncompressed JSON).
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Raw bytes of records that are rejected: they wait for the commit in memory.
    pub rejected_bytes: u64,
}

impl Default for StepLimit {
    fn default() -> Self {
        Self { bytes: 256 << 20, records: 2_000_000, rejected_bytes: 64 << 20 }
    }
}

impl StepLimit {
    /// Whether a step that holds this much is to be committed now.
    pub(crate) fn reached(&self, bytes: u64, records: u64, rejected_bytes: u64) -> bool {
        bytes >= self.bytes || records >= self.records || rejected_bytes >= self.rejected_bytes
    }
}

/// Whether one more worker is worth starting when `bytes` were given to `running` ones. Each writes a file of its
/// own, and a small backlog shall not be torn into small files.
pub(crate) fn one_more_worker(bytes: u64, running: usize, at_most: usize) -> bool {
    const BYTES_PER_WORKER: u64 = 8 << 20;
    running == 0 || (running < at_most && bytes >= BYTES_PER_WORKER.saturating_mul(running as u64))
}

/// A topic whose records nearly all went into one of its partitions: the share of that partition in percent.
pub(crate) fn skew(records: &[u64]) -> Option<u64> {
    const ENOUGH: u64 = 1000;
    let total: u64 = records.iter().sum();
    let share = records.iter().max()?.saturating_mul(100) / total.max(1);
    (records.len() > 1 && total >= ENOUGH && share >= 90).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_full_at_any_limit() {
        let limit = StepLimit { bytes: 10, records: 3, rejected_bytes: 5 };
        assert!(!limit.reached(9, 2, 4));
        assert!(limit.reached(10, 1, 0));
        assert!(limit.reached(1, 3, 0));
        assert!(limit.reached(1, 1, 5));
    }

    #[test]
    fn a_small_backlog_gets_one_worker() {
        assert!(one_more_worker(0, 0, 4));
        assert!(!one_more_worker((8 << 20) - 1, 1, 4));
        assert!(one_more_worker(8 << 20, 1, 4));
        assert!(!one_more_worker(u64::MAX, 4, 4));
    }

    #[test]
    fn skew_is_told_where_one_of_several_partitions_has_nearly_all() {
        assert_eq!(skew(&[5000]), None);
        assert_eq!(skew(&[990, 5]), None, "too few to tell");
        assert_eq!(skew(&[950, 50]), Some(95));
        assert_eq!(skew(&[800, 200]), None);
        assert_eq!(skew(&[]), None);
    }
}
