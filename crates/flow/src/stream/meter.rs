//! What the streaming half tells about itself while it runs, for Prometheus.
//!
//! | metric | labels | meaning |
//! | --- | --- | --- |
//! | `pinmill_stream_records_total` | dataset, outcome (`clean`, `quarantined`) | records committed |
//! | `pinmill_stream_commits_total` | dataset | commits made |
//! | `pinmill_stream_freshness_seconds` | dataset | age of the oldest record of the latest commit, when it was made |
//! | `pinmill_stream_stopped` | dataset | 1 when its loop has ended because of an error, which stderr tells |
//! | `pinmill_stream_lag_records` | dataset | records accepted and not committed yet, at the latest look |

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::load::Loaded;

/// Says what the numbers mean; once a process is enough.
pub(super) fn describe() {
    describe_counter!(
        "pinmill_stream_records_total",
        "Records of streams committed, by what became of them."
    );
    describe_counter!("pinmill_stream_commits_total", "Commits of the streaming half.");
    describe_gauge!(
        "pinmill_stream_freshness_seconds",
        "Age of the oldest record of the latest commit, when it was made."
    );
    describe_gauge!(
        "pinmill_stream_stopped",
        "1 when a dataset is not loaded any longer because of an error."
    );
    describe_gauge!("pinmill_stream_lag_records", "Records accepted and not committed yet.");
}

/// Counts a commit. `oldest_us` is when the log took its oldest record, in microseconds since the Unix epoch.
pub(super) fn committed(dataset: &str, loaded: &Loaded, oldest_us: Option<i64>) {
    if loaded.ranges.is_empty() {
        return;
    }
    let records = |outcome: &'static str, count: u64| {
        let dataset = dataset.to_owned();
        counter!("pinmill_stream_records_total", "dataset" => dataset, "outcome" => outcome).increment(count);
    };
    records("clean", loaded.ranges.iter().map(|range| range.clean).sum());
    records("quarantined", loaded.ranges.iter().map(|range| range.quarantined).sum());
    counter!("pinmill_stream_commits_total", "dataset" => dataset.to_owned()).increment(1);
    if let Some(oldest_us) = oldest_us {
        let age_us = (chrono::Utc::now().timestamp_micros() - oldest_us).max(0);
        gauge!("pinmill_stream_freshness_seconds", "dataset" => dataset.to_owned()).set(age_us as f64 / 1e6);
    }
}

/// Whether a dataset's loop has ended because of an error.
pub(super) fn stopped(dataset: &str, stopped: bool) {
    gauge!("pinmill_stream_stopped", "dataset" => dataset.to_owned()).set(if stopped { 1.0 } else { 0.0 });
}

/// How far the table is behind the streams.
pub(super) fn lag(dataset: &str, records: u64) {
    gauge!("pinmill_stream_lag_records", "dataset" => dataset.to_owned()).set(records as f64);
}
