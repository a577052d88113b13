//! What can go wrong in an engine.

use datafusion::common::DataFusionError;
use pinmill_pipeline::Problems;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in an engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline's SQL or expectations are wrong; every problem found is listed.
    #[error("{0}")]
    Invalid(Problems),
    /// A dataset's policy for unknown fields is `stop`, and there was one.
    #[error(
        "dataset `{dataset}` stops at unknown fields, and a record of partition {partition}, offset {offset} has `{field}`; \
         declare it in pipeline.toml or choose another policy"
    )]
    UnknownField {
        /// The dataset.
        dataset: String,
        /// The member that no field declares.
        field: String,
        /// Where the record is.
        partition: i32,
        /// Where the record is.
        offset: i64,
    },
    /// An expectation with `action = "stop"` was violated.
    #[error(
        "dataset `{dataset}` stops where `{expectation}` is violated: {reason} (partition {partition}, offset {offset})"
    )]
    Stopped {
        /// The dataset.
        dataset: String,
        /// The expectation's name.
        expectation: String,
        /// Its reason, filled in for the row.
        reason: String,
        /// Where the record is.
        partition: i32,
        /// Where the record is.
        offset: i64,
    },
    /// A query failed.
    #[error("{what}: {source}")]
    Query {
        /// Which query.
        what: String,
        /// Why.
        source: Box<DataFusionError>,
    },
    /// A query needs more memory than the engine may use, though it spilled what it could.
    #[error("{what}: it needs more memory than SQL may use, the setting `engine.memory`: {why}")]
    Memory {
        /// Which query.
        what: String,
        /// What could not be had.
        why: String,
    },
    /// The clean rows of a batch would take too much memory together: it must be cleaned in parts, as [`clean_parts`]
    /// does. One row alone never gives this.
    ///
    /// [`clean_parts`]: crate::clean_parts
    #[error("the clean rows of a batch of dataset `{dataset}` are too large to be held together")]
    TooLarge {
        /// The dataset.
        dataset: String,
    },
    /// A batch did not have the shape that was agreed.
    #[error("{0}")]
    Shape(String),
}

impl Error {
    pub(crate) fn query(what: impl Into<String>, source: DataFusionError) -> Self {
        // Its own words tell of settings that only DataFusion has.
        if let DataFusionError::ResourcesExhausted(why) = source.find_root() {
            return Self::Memory { what: what.into(), why: why.clone() };
        }
        Self::Query { what: what.into(), source: Box::new(source) }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Shape(error.to_string())
    }
}

/// The beginning of a text on one line, for a reason.
pub(crate) fn shown(text: &str, most_chars: usize) -> String {
    let mut start = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == most_chars {
            start.push('…');
            break;
        }
        match c.is_control() {
            true => start.extend(c.escape_default()),
            false => start.push(c),
        }
    }
    start
}
