//! When a partition that could not be archived is tried again: pure decisions, no clock of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use pinmill_lake::TopicPartition;

use crate::Backoff;

/// The partitions that could not be archived, by their places. Each rests for itself, so that the others go on at
/// full speed.
#[derive(Debug, Default)]
pub(super) struct Rests(BTreeMap<TopicPartition, Rest>);

/// How long one partition rests, and until when, by the uptime of the process.
#[derive(Debug)]
struct Rest {
    pause: Duration,
    until: Duration,
    /// It has not been tried again since.
    pausing: bool,
}

impl Rests {
    /// Whether a partition is to be left alone now.
    pub(super) fn holds(&self, key: &TopicPartition, uptime: Duration) -> bool {
        self.0.get(key).is_some_and(|rest| uptime < rest.until)
    }

    /// A partition has failed: it rests, longer than the last time. Gives how long.
    pub(super) fn failed(&mut self, key: &TopicPartition, uptime: Duration, backoff: Backoff) -> Duration {
        let pause = backoff.after(self.0.get(key).map(|rest| rest.pause));
        self.0.insert(key.clone(), Rest { pause, until: uptime + pause, pausing: true });
        pause
    }

    /// True where a partition that does not rest any more is tried for the first time after it failed.
    pub(super) fn begins_again(&mut self, key: &TopicPartition) -> bool {
        self.0.get_mut(key).is_some_and(|rest| std::mem::take(&mut rest.pausing))
    }

    /// True where none has failed and not recovered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A partition is archived again: its next failure is a first one.
    pub(super) fn recovered(&mut self, key: &TopicPartition) {
        self.0.remove(key);
    }

    /// Forgets the partitions that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&TopicPartition) -> bool) {
        self.0.retain(|key, _| is_there(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_secs(1);
    const BACKOFF: Backoff = Backoff { first: SHORTEST, longest: Duration::from_secs(30) };

    type Forget = fn(&mut Rests, &TopicPartition);

    #[test]
    fn a_partition_that_fails_rests_alone_and_longer_each_time() {
        let [bad, good] = [TopicPartition::new("bad", 0), TopicPartition::new("good", 0)];
        let mut rests = Rests::default();
        let mut uptime = Duration::from_secs(100);
        for secs in [1, 2, 4, 8, 16, 30, 30] {
            let pause = Duration::from_secs(secs);
            assert_eq!(rests.failed(&bad, uptime, BACKOFF), pause);
            assert!(rests.holds(&bad, uptime + pause - Duration::from_millis(1)));
            assert!(!rests.holds(&bad, uptime + pause));
            assert!(!rests.holds(&good, uptime));
            assert!(rests.begins_again(&bad) && !rests.begins_again(&bad) && !rests.begins_again(&good));
            uptime += pause;
        }
    }

    #[test]
    fn a_partition_that_has_recovered_or_is_gone_begins_anew() {
        let key = TopicPartition::new("pin", 3);
        let mut rests = Rests::default();
        let ways: [Forget; 2] = [Rests::recovered, |rests, _| rests.retain(|_| false)];
        for forget in ways {
            rests.failed(&key, Duration::ZERO, BACKOFF);
            assert_eq!(rests.failed(&key, Duration::ZERO, BACKOFF), SHORTEST * 2);
            forget(&mut rests, &key);
            assert!(!rests.holds(&key, Duration::ZERO));
            assert_eq!(rests.failed(&key, Duration::ZERO, BACKOFF), SHORTEST);
            rests.recovered(&key);
        }
    }
}
