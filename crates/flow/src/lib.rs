//! The two halves, and the audit over all of it.
//!
//! Batch: log -> archive -> clean -> tables -> answers. Stream: log -> clean -> tables, as records come.
//!
//! Each step reads what the step before it has made durable, makes its own result durable, and only then moves its
//! position on. So any step can die at any moment and be started again.
//!
//! - [`Archiver`] moves records from an event log into archive objects.
//! - [`clean`] cleans new objects into Delta tables and quarantine.
//! - [`Runner`] does one after another what the batch half does, once or by the clock.
//! - [`Streamer`] cleans records of streams into Delta tables and quarantine, a commit a second.
//! - [`answer`] asks the pipeline's questions over the tables, [`sql`] any other.
//! - [`go_on_behind_readers`] keeps a log that lost records from giving their offsets again.
//! - [`audit()`] compares what every stage holds.
//! - [`Parts`] shows how each part of a process is, and how often it had to begin again.
//! - [`quarantine`] lists, shows and replays what could not be cleaned.

mod answer;
mod archive;
pub mod audit;
mod clean;
mod crash;
mod error;
mod half;
mod lineage;
mod load;
pub mod quarantine;
mod runner;
mod shrunk;
mod status;
pub mod stream;
mod supervise;
mod warnings;

pub use answer::{
    AnswerFailure, AnswerOptions, AnswerReport, AnswerResult, Kept, answer, register_tables, sql,
};
pub use archive::{ARCHIVE_READER, ArchiveConfig, ArchiveReport, Archiver, RollPolicy};
pub use audit::{AuditOptions, AuditReport, Logs, audit, given_alike};
pub use clean::{CleanOptions, CleanReport, DatasetReport, PartitionReport, clean};
pub use crash::CRASH_POINTS;
pub use error::{Error, Result};
pub use half::Half;
pub use load::StepLimit;
pub use runner::{RunReport, Runner};
pub use shrunk::{LogGap, go_on_behind_readers};
pub use status::{TableStatus, TopicStatus, status, topics};
pub use stream::{STREAM_READER, StreamConfig, StreamSource, Streamer};
pub use supervise::{Backoff, Part, PartState, PartStatus, Parts};
pub use warnings::{Warning, Warnings};

/// A name for a run: the time in UTC, and something random, so that names sort and never meet.
fn run_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", chrono::Utc::now().format("%Y%m%dT%H%M%SZ"), random.get(..8).unwrap_or_default())
}
