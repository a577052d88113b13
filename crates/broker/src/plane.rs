//! The two planes that records come in by.

use std::fmt;
use std::str::FromStr;

/// What the topics of a log are to the rest of pinmill: topics of the Kafka REST API, or streams of the Kinesis API. Each
/// plane has a log of its own, and names of its own: a topic and a stream of one name have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// Streams and their shards.
    Streams,
    /// Topics and their partitions.
    Topics,
}

impl Plane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Topics, Self::Streams];

    /// Its name, as it stands in paths: `topics` or `streams`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Streams => "streams",
        }
    }

    /// What one of its logs' topics is called: `topic` or `stream`.
    pub fn one(self) -> &'static str {
        match self {
            Self::Topics => "topic",
            Self::Streams => "stream",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Topics => Self::Streams,
            Self::Streams => Self::Topics,
        }
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Plane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|plane| plane.name() == text);
        found.ok_or_else(|| format!("`{text}` is neither topics nor streams"))
    }
}
