//! What can go wrong in a lake.

use crate::TopicPartition;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a lake. Messages say what, where and why; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place cannot be a lake.
    #[error("`{location}` cannot be opened as a lake: {reason}")]
    Location {
        /// What was asked for, without credentials.
        location: String,
        /// Why not.
        reason: String,
    },
    /// There is nothing at the place.
    #[error("there is nothing at `{location}`: {reason}")]
    Missing {
        /// What was asked for.
        location: String,
        /// What is there instead, or not.
        reason: String,
    },
    /// The object store failed.
    #[error("cannot {doing} {path}")]
    Store {
        /// What was being done: "read", "write", "list".
        doing: &'static str,
        /// The object or prefix.
        path: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// An object of the archive does not hold what it should.
    #[error("{path}: {reason}")]
    Corrupt {
        /// The object.
        path: String,
        /// What is wrong with it, with the record's position where one is known.
        reason: String,
    },
    /// An object of this name is there already and holds other records than those to be archived.
    #[error("{path} is there already and holds other records: {reason}")]
    ArchiveConflict {
        /// The object.
        path: String,
        /// The first difference.
        reason: String,
    },
    /// Records were given out of order, or in a number or size that an object cannot hold.
    #[error("{place} at offset {offset}: {reason}")]
    BadRecord {
        /// The partition.
        place: TopicPartition,
        /// The offset.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Delta failed.
    #[error("table {table}: cannot {doing}")]
    Delta {
        /// The table, relative to the lake.
        table: String,
        /// What was being done.
        doing: &'static str,
        /// Delta's error.
        source: Box<deltalake_core::DeltaTableError>,
    },
    /// Rows could not be made into Parquet.
    #[error("table {table}: cannot encode rows: {source}")]
    Encode {
        /// The table.
        table: String,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// The table's columns are not those of the rows.
    #[error("table {table}: {reason}")]
    Schema {
        /// The table.
        table: String,
        /// Which column, and how it differs.
        reason: String,
    },
    /// The table's log holds something that pinmill did not expect there.
    #[error("table {table} at version {version}: {reason}")]
    TableLog {
        /// The table.
        table: String,
        /// The version.
        version: u64,
        /// What is wrong.
        reason: String,
    },
    /// A commit of the table's log is there in part only.
    #[error("table {table}: commit {version} (_delta_log/{version:020}.json) is incomplete: {reason}")]
    TornCommit {
        /// The table.
        table: String,
        /// The version.
        version: u64,
        /// What is missing.
        reason: String,
    },
    /// Another writer moved the position of a partition: this one must stop.
    #[error("table {table}: another writer is at work on {place}: {reason}")]
    Fenced {
        /// The table.
        table: String,
        /// The partition; `*` where the whole table is meant.
        place: TopicPartition,
        /// What was expected and what was found.
        reason: String,
    },
    /// Files waited for their commit until a vacuum may have removed them. The work must be done again.
    #[error(
        "table {table}: {file} was written before the vacuum of version {version}, which may have removed it; nothing \
         was committed, and the rows are written again"
    )]
    Stale {
        /// The table.
        table: String,
        /// The data file, relative to the table.
        file: String,
        /// The version in which the vacuum began.
        version: u64,
    },
    /// The table holds rows that were computed from something newer.
    #[error("table {table} holds rows that were computed from newer tables")]
    Superseded {
        /// The table.
        table: String,
    },
    /// The topic was deleted and made again, and offsets mean other records now.
    #[error("{place}: topic `{topic}` was deleted and made again: generation {found} there, {given} now")]
    Generation {
        /// The table or the object.
        place: String,
        /// The topic.
        topic: String,
        /// The generation on record.
        found: String,
        /// The generation given.
        given: String,
    },
    /// The directories of a topic are of another archive.
    #[error(
        "the directories of topic `{topic}` were loaded from the archive at {found}; those at {given} are not loaded too"
    )]
    OtherArchive {
        /// The topic.
        topic: String,
        /// The archive that was loaded.
        found: String,
        /// The archive that was named now.
        given: String,
    },
    /// A commit lost against others again and again.
    #[error("table {table}: gave up a commit after {attempts} attempts; last: {last}")]
    Contention {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        last: String,
    },
    /// A background task ended abnormally.
    #[error("a background task failed while it was to {doing}: {reason}")]
    Task {
        /// What it was to do.
        doing: &'static str,
        /// How it ended.
        reason: String,
    },
}

/// What an error itself says, without the backtrace that Delta's kernel puts behind it where RUST_BACKTRACE is set.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(backtrace) = text.find("\n   0: ") {
        text.truncate(backtrace);
    }
    text
}

impl Error {
    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::ArchiveConflict { .. } => Some(
                "two archivers wrote the same topic, or the log behind it was replaced; move the object away \
                 after a look at it, or archive into another lake",
            ),
            Self::Fenced { .. } => Some(
                "stop the other pinmill that cleans this partition, then start again: nothing was written twice",
            ),
            Self::Generation { .. } => Some(
                "offsets start again in the new one; post under another name, or archive and load it into another lake",
            ),
            Self::Schema { .. } => Some(
                "columns can be added; to change or remove one, clean into another table or remove this one",
            ),
            Self::TornCommit { .. } => Some(
                "restore the file from a backup; do not delete it, since the commit may hold rows that exist nowhere else",
            ),
            Self::OtherArchive { .. } => Some(
                "an archive may grow but not move; load another one into a data folder of its own (--data)",
            ),
            Self::Contention { .. } => Some("many writers share the table; commit less often"),
            _ => None,
        }
    }

    /// Another writer has changed the table as a whole.
    pub(crate) fn fenced(table: &str, reason: impl Into<String>) -> Self {
        Self::Fenced { table: table.to_owned(), place: TopicPartition::new("*", 0), reason: reason.into() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers make the words on the spot")]
    pub(crate) fn store(doing: &'static str, path: impl ToString, source: object_store::Error) -> Self {
        Self::Store { doing, path: path.to_string(), source }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers make the words on the spot")]
    pub(crate) fn corrupt(path: impl ToString, reason: impl ToString) -> Self {
        Self::Corrupt { path: path.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn task(doing: &'static str, error: &tokio::task::JoinError) -> Self {
        Self::Task { doing, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str);

    #[test]
    fn a_backtrace_is_not_part_of_what_an_error_says() {
        assert_eq!(
            words(&Said("no\nsuch file\n   0: kernel::read\n             at ./x.rs:1")),
            "no\nsuch file"
        );
        assert_eq!(words(&Said("plain")), "plain");
    }
}
