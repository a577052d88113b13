//! What may go: a pure decision, from the front, in whole segments.

/// A segment as retention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Offset after its last record.
    pub(crate) end: u64,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Newest time stamp up to its end, in milliseconds.
    pub(crate) newest_ms: i64,
}

/// What the settings say; `None` keeps all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) keep_bytes: Option<u64>,
    /// Segments whose newest record is older than this may go.
    pub(crate) keep_from_ms: Option<i64>,
    /// The least position of all registered readers: nothing from it on may go.
    pub(crate) passed: Option<u64>,
}

/// How many of the complete segments may go (invariant I6), oldest first; `newest_bytes` is the segment that is being written.
pub(crate) fn removable(complete: &[Candidate], newest_bytes: u64, rule: &Rule) -> usize {
    let mut left: u64 = newest_bytes + complete.iter().map(|segment| segment.bytes).sum::<u64>();
    let may_go = |segment: &&Candidate| {
        left -= segment.bytes;
        let passed = rule.passed.is_none_or(|passed| segment.end <= passed);
        let too_much = rule.keep_bytes.is_some_and(|keep| left >= keep);
        let too_old = rule.keep_from_ms.is_some_and(|from| segment.newest_ms < from);
        passed && (too_much || too_old)
    };
    complete.iter().take_while(may_go).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<Candidate> {
        (1..=4).map(|n| Candidate { end: n * 10, bytes: 100, newest_ms: n as i64 * 1_000 }).collect()
    }

    const NONE: Rule = Rule { keep_bytes: None, keep_from_ms: None, passed: None };

    #[test]
    fn nothing_goes_without_a_rule() {
        assert_eq!(removable(&segments(), 50, &NONE), 0);
    }

    #[test]
    fn by_size_at_least_the_wanted_bytes_stay() {
        let rule = |keep| Rule { keep_bytes: Some(keep), ..NONE };
        assert_eq!(removable(&segments(), 50, &rule(0)), 4);
        assert_eq!(removable(&segments(), 50, &rule(150)), 3);
        assert_eq!(removable(&segments(), 50, &rule(151)), 2);
        assert_eq!(removable(&segments(), 50, &rule(451)), 0);
    }

    #[test]
    fn by_age_only_wholly_old_segments_go() {
        let rule = |from| Rule { keep_from_ms: Some(from), ..NONE };
        assert_eq!(removable(&segments(), 50, &rule(1_000)), 0);
        assert_eq!(removable(&segments(), 50, &rule(2_001)), 2);
    }

    #[test]
    fn what_a_reader_has_not_passed_stays() {
        let rule = |passed| Rule { keep_bytes: Some(0), passed: Some(passed), ..NONE };
        assert_eq!(removable(&segments(), 50, &rule(0)), 0);
        assert_eq!(removable(&segments(), 50, &rule(19)), 1);
        assert_eq!(removable(&segments(), 50, &rule(20)), 2);
    }
}
