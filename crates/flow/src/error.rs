//! What can stop a flow.

use pinmill_lake::{RecordId, TopicPartition, words};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can stop a flow. Messages say what, where and why; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event log failed.
    #[error("{topic}/{partition}: {source}")]
    Log {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The log's error.
        source: pinmill_broker::Error,
    },
    /// The event log failed as a whole.
    #[error(transparent)]
    Topics(#[from] pinmill_broker::Error),
    /// The lake failed.
    #[error(transparent)]
    Lake(#[from] pinmill_lake::Error),
    /// SQL failed.
    #[error(transparent)]
    Engine(#[from] pinmill_engine::Error),
    /// What a dataset's rules say must stop the run: nothing of the batch was committed.
    #[error("{dataset}: stopped at {id}: {reason}")]
    Stopped {
        /// The dataset.
        dataset: String,
        /// The first offender.
        id: RecordId,
        /// The rule it broke.
        reason: String,
    },
    /// The log's positions and the log do not fit each other.
    #[error("{place} was read up to offset {position}, but the log ends at {end}")]
    LogShrank {
        /// The partition.
        place: TopicPartition,
        /// Where reading goes on.
        position: u64,
        /// Where the log ends.
        end: u64,
    },
    /// A data file of a table does not say how many rows it has.
    #[error("table {table}: {file} has no row count in the table's log; another program wrote it")]
    NoStatistics {
        /// The table.
        table: String,
        /// The file.
        file: String,
    },
    /// An answer or a dataset was asked for that the pipeline does not have.
    #[error("there is no {kind} `{name}`; there are: {known}")]
    Unknown {
        /// "answer" or "dataset".
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is, comma-separated.
        known: String,
    },
    /// Something that can only be a mistake in pinmill itself.
    #[error("{0}; this is a mistake in pinmill, nothing was committed")]
    Internal(String),
    /// A part of the process died of a defect of its own.
    #[error("panicked: {0}; this is a mistake in pinmill, what was not committed is read again")]
    Panicked(String),
    /// A crash point was told to fail.
    #[error("crash point {0}")]
    CrashPoint(&'static str),
}

impl Error {
    /// The error and its causes on one line, each said once: many errors leave it to their cause to say why.
    pub(crate) fn chain(&self) -> String {
        let mut said = words(self);
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let cause_says = words(error);
            if !said.contains(&cause_says) {
                said = format!("{said}: {cause_says}");
            }
            cause = error.source();
        }
        said
    }

    /// True where another attempt at the same work would only repeat the error, or would be wrong: a rule says stop, or
    /// somebody else is at work on the same place. Everything else may pass.
    pub(crate) fn is_final(&self) -> bool {
        use pinmill_lake::Error as Lake;
        match self {
            Self::Lake(error) => matches!(
                error,
                Lake::Fenced { .. }
                    | Lake::Generation { .. }
                    | Lake::ArchiveConflict { .. }
                    | Lake::Schema { .. }
            ),
            Self::Stopped { .. } | Self::LogShrank { .. } | Self::Unknown { .. } | Self::CrashPoint(_) => {
                true
            }
            Self::Log { .. }
            | Self::Topics(_)
            | Self::Engine(_)
            | Self::NoStatistics { .. }
            | Self::Internal(_)
            | Self::Panicked(_) => false,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lake(error) => error.hint(),
            Self::Stopped { .. } => Some(
                "correct the SQL or the rule in pipeline.toml, or set its action to `quarantine`, and clean again",
            ),
            Self::LogShrank { .. } => Some(
                "the log was replaced by an older copy of itself: put the newer one back, or archive and load into another \
                 lake",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let full = "cannot write /lake/stream/pin/x.parquet: No space left on device (os error 28)";
        let source = object_store::Error::Generic { store: "local directory", source: full.into() };
        let error = pinmill_lake::Error::Store { doing: "write", path: "stream/pin/x".to_owned(), source };
        let said = Error::from(error).chain();
        assert_eq!(said, format!("cannot write stream/pin/x: Generic local directory error: {full}"));
        let source = pinmill_broker::Error::Unavailable("the disk is full".to_owned());
        let error = Error::Log { topic: "pin".to_owned(), partition: 0, source };
        assert_eq!(error.chain(), error.to_string());
    }
}
