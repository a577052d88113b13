//! The two halves, and where each has its tables.

use pinmill_broker::Plane;
use serde::Serialize;

/// One of the two halves. They work on posts of their own with the same SQL, into tables of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// Topics, archived raw, cleaned and answered by schedule.
    #[default]
    Batch,
    /// Streams, cleaned into tables as they come.
    Stream,
}

impl Half {
    /// Both, in the order of their tables' names.
    pub const ALL: [Self; 2] = [Self::Batch, Self::Stream];

    /// The one that reads a plane, if nothing else is said.
    pub fn of(plane: Plane) -> Self {
        match plane {
            Plane::Topics => Self::Batch,
            Plane::Streams => Self::Stream,
        }
    }

    /// Its name, in paths and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Stream => "stream",
        }
    }

    /// Where a dataset's table is in the lake: `batch/pin`.
    pub fn table(self, dataset: &str) -> String {
        format!("{}/{dataset}", self.name())
    }

    /// Where the quarantine is in the lake.
    pub fn quarantine(self) -> String {
        self.table("quarantine")
    }

    /// Where an answer's table is in the lake: `answers/…` from the batch half, `live/…` from the streaming one.
    pub fn answer(self, answer: &str) -> String {
        match self {
            Self::Batch => format!("answers/{answer}"),
            Self::Stream => format!("live/{answer}"),
        }
    }
}

impl std::fmt::Display for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
