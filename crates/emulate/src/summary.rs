//! What a run did.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Errors that are kept as they were said; the rest are only counted.
pub(crate) const KEPT_ERRORS: usize = 5;

/// What a run did. Records are counted once however often they were sent, so `records` = `acknowledged` + `unacknowledged`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Events drawn.
    pub events: u64,
    /// Records that were to be posted, to all targets together.
    pub records: u64,
    /// Rows that the source does not have, and which were therefore not posted.
    pub missing: u64,
    /// Records that the gateway answered with a position.
    pub acknowledged: u64,
    /// Records sent again, once for each time.
    pub retried: u64,
    /// Records that a try may have stored although it was not acknowledged: a later try may have stored them twice.
    pub ambiguous: u64,
    /// Records that were given up. Unless this is 0, the run has failed.
    pub unacknowledged: u64,
    /// Requests that got an answer.
    pub requests: u64,
    /// Bytes of all bodies sent, again and again.
    pub bytes: u64,
    /// From the first draw to the last answer.
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Duration,
    /// Acknowledged records a second.
    pub rate: f64,
    /// Half of the answers came within this time, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers came within this time, in milliseconds.
    pub p99_ms: f64,
    /// Why the run ended before its time, if it did.
    pub gave_up: Option<String>,
    /// The first few errors.
    pub errors: Vec<String>,
}

impl Summary {
    /// Every record was acknowledged, and nothing ended the run before its time.
    pub fn is_complete(&self) -> bool {
        self.unacknowledged == 0 && self.gave_up.is_none()
    }
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(time.as_millis())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} records in {:.1} s ({:.0}/s, {:.1} MB): {} acknowledged, {} retried, {} ambiguous, {} unacknowledged",
            self.events,
            self.records,
            self.elapsed.as_secs_f64(),
            self.rate,
            self.bytes as f64 / 1e6,
            self.acknowledged,
            self.retried,
            self.ambiguous,
            self.unacknowledged
        )?;
        if self.missing > 0 {
            write!(f, ", {} rows not in the source", self.missing)?;
        }
        write!(f, "; p50 {:.1} ms, p99 {:.1} ms", self.p50_ms, self.p99_ms)
    }
}

/// Counters that all connections share while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) missing: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) ambiguous: AtomicU64,
    pub(crate) unacknowledged: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

impl Counters {
    pub(crate) fn summary(&self, elapsed: Duration, latencies: &Latencies) -> Summary {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let acknowledged = read(&self.acknowledged);
        Summary {
            events: read(&self.events),
            records: read(&self.records),
            missing: read(&self.missing),
            acknowledged,
            retried: read(&self.retried),
            ambiguous: read(&self.ambiguous),
            unacknowledged: read(&self.unacknowledged),
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            elapsed,
            rate: if elapsed.is_zero() { 0.0 } else { acknowledged as f64 / elapsed.as_secs_f64() },
            p50_ms: latencies.at(0.5),
            p99_ms: latencies.at(0.99),
            gave_up: None,
            errors: Vec::new(),
        }
    }
}

/// Times from request to answer, in microseconds with two digits, in a few kilobytes however many there are.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    pub(crate) fn new() -> Self {
        // fails only for bounds other than these
        Self(Histogram::new(2).ok())
    }

    pub(crate) fn record(&mut self, time: Duration) {
        if let Some(histogram) = &mut self.0 {
            // an hour is longer than any time-out, and keeps the histogram at its few kilobytes
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(3_600_000_000);
            // fails only for histograms that must not grow
            let _ = histogram.record(micros);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // histograms that resize by themselves always fit
            let _ = histogram.add(other);
        }
    }

    /// In milliseconds; 0 when there was no answer.
    fn at(&self, share: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| histogram.value_at_quantile(share) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_all_connections_give_one_median() {
        let (mut all, mut slow) = (Latencies::new(), Latencies::new());
        for ms in 1..=90 {
            all.record(Duration::from_millis(ms));
        }
        for _ in 0..10 {
            slow.record(Duration::from_secs(20));
        }
        all.merge(&slow);
        let summary = Counters::default().summary(Duration::from_secs(1), &all);
        assert!((49.0..=52.0).contains(&summary.p50_ms), "{}", summary.p50_ms);
        assert!((19_800.0..=20_200.0).contains(&summary.p99_ms), "{}", summary.p99_ms);
        assert!(Counters::default().summary(Duration::ZERO, &Latencies::new()).p50_ms < 0.001);
    }

    #[test]
    fn a_summary_is_read_as_a_line_and_as_json() {
        let summary = Summary {
            events: 2,
            records: 6,
            acknowledged: 6,
            elapsed: Duration::from_millis(1500),
            rate: 4.0,
            ..Summary::default()
        };
        assert!(summary.is_complete());
        assert!(
            summary.to_string().starts_with("2 events, 6 records in 1.5 s (4/s, 0.0 MB): 6 acknowledged"),
            "{summary}"
        );
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!((json["elapsed_ms"].as_u64(), json["acknowledged"].as_u64()), (Some(1500), Some(6)));
    }
}
