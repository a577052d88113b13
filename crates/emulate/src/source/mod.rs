//! Where rows come from: the generator, files, or a database.

#[cfg(any(feature = "sqlite", feature = "mysql", feature = "postgres"))]
mod database;
mod form;
mod jsonl;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod server;
mod spec;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;

pub use form::DateForm;
pub use jsonl::Jsonl;
pub use spec::{DatabaseUrl, SourceSpec};

/// One of the three tables; row n of each belongs to the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// `pinterest_data`: the post.
    Pin,
    /// `geolocation_data`: when and where.
    Geo,
    /// `user_data`: by whom.
    User,
}

impl Table {
    /// All three, in the order in which an event's rows are posted.
    pub const ALL: [Self; 3] = [Self::Pin, Self::Geo, Self::User];

    /// `pin`, `geo` or `user`: what ends a topic's name, and the name of a file of rows.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Geo => "geo",
            Self::User => "user",
        }
    }

    /// The table's name in the database.
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Pin => "pinterest_data",
            Self::Geo => "geolocation_data",
            Self::User => "user_data",
        }
    }

    /// The column that counts the rows.
    pub fn key(self) -> &'static str {
        match self {
            Self::Pin => "index",
            Self::Geo | Self::User => "ind",
        }
    }

    /// The column of date-times, where rows come from text and their types do not tell.
    pub fn date_column(self) -> Option<&'static str> {
        match self {
            Self::Pin => None,
            Self::Geo => Some("timestamp"),
            Self::User => Some("date_joined"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short_name())
    }
}

/// Gives rows of the three tables by id.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// Row `id` of `table`: one JSON object on one line, its members in the order of the table's columns, date-times in
    /// `form`. `None` when the table has no such row.
    ///
    /// What an id means is the source's: the generator and files go by the key, a database by the row's place in the order
    /// of keys (`LIMIT 1 OFFSET id`, as the reference does).
    async fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError>;

    /// Ids from this one on have no rows in any table; `None` when there is no end.
    fn rows(&self) -> Option<u64>;

    /// The ids that have a row in some table, rising; `None` where all below [`Source::rows`] have, or it is not known.
    fn held_ids(&self) -> Option<Vec<u64>> {
        None
    }
}

/// What can go wrong with rows before they are posted.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `--source` says something that is no source.
    #[error(
        "source `{given}` {why}; use generator, jsonl:DIR, sqlite:FILE, mysql://USER@HOST/DATABASE or postgres://USER@HOST/DATABASE"
    )]
    Spec {
        /// What was given, without a password.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A database whose client was left out of this build.
    #[error(
        "this build has no {what} client, which keeps the default build small; build it with `cargo build --release --features databases`"
    )]
    NotBuilt {
        /// Which one.
        what: &'static str,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file is no row.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The database refused or failed.
    #[error("{database}: {what}: {why}")]
    Database {
        /// Which one, without a password.
        database: String,
        /// What was asked of it.
        what: String,
        /// Its answer.
        why: String,
    },
    /// A row could not be written as JSON.
    #[error("row {id} of {table} cannot be written as JSON: {source}")]
    Encode {
        /// The table.
        table: Table,
        /// The row.
        id: u64,
        /// Why.
        source: serde_json::Error,
    },
}
