//! Named points at which tests let a flow die.
//!
//! They stand on both sides of every step that makes something durable. Without the Cargo feature `failpoints` they
//! are nothing at all.

#[cfg(feature = "failpoints")]
use crate::Error;
use crate::Result;

/// Every crash point on the way from the log to the answers, in the order in which a run passes them.
pub const CRASH_POINTS: &[&str] = &[
    "lake::archive::before_data",
    "lake::store::before_name",
    "lake::store::after_name",
    "lake::archive::before_manifest",
    "lake::archive::after_manifest",
    "flow::archive::before_position",
    "flow::archive::after_position",
    "lake::table::before_data_file",
    "flow::load::files_written",
    "lake::table::before_commit",
    "lake::table::after_commit",
    "flow::load::quarantine_committed",
    "flow::load::table_committed",
    "lake::table::before_checkpoint",
    "flow::stream::before_position",
    "flow::stream::after_position",
    "lake::table::before_compaction",
    "lake::table::after_compaction",
    "flow::answer::computed",
    "flow::answer::written",
    "flow::replay::files_written",
    "flow::replay::table_committed",
    "flow::replay::quarantine_committed",
];

/// Dies here when a test asked for it.
#[allow(clippy::unnecessary_wraps, reason = "it fails only where crash points are compiled in")]
pub(crate) fn crash_point(name: &'static str) -> Result<()> {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is missing from CRASH_POINTS");
    fail::fail_point!(name, |_| Err(Error::CrashPoint(name)));
    Ok(())
}
