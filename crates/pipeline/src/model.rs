//! The data model of a pipeline folder. `load` makes one from files; nothing here does I/O.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::pattern;

/// A whole pipeline folder, loaded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Its name, from pipeline.toml.
    pub name: String,
    /// pipeline.toml itself.
    pub manifest: SourceFile,
    /// The datasets, in the order of pipeline.toml.
    pub datasets: Vec<Dataset>,
    /// The answers, ascending by file name.
    pub answers: Vec<Answer>,
    /// Text cases under `tests/`, ascending by file name.
    pub tests: Vec<SourceFile>,
}

impl Pipeline {
    /// The dataset of this name.
    pub fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == name)
    }

    /// The dataset that a topic feeds: the one that names it exactly, or else the first whose pattern fits.
    pub fn dataset_for_topic(&self, topic: &str) -> Option<&Dataset> {
        self.dataset_by(topic, |dataset| &dataset.topics)
    }

    /// The dataset that a stream feeds, by the same rule.
    pub fn dataset_for_stream(&self, stream: &str) -> Option<&Dataset> {
        self.dataset_by(stream, |dataset| &dataset.streams)
    }

    /// The answer of this name (its file stem).
    pub fn answer(&self, name: &str) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.name == name)
    }

    fn dataset_by(&self, name: &str, patterns: impl Fn(&Dataset) -> &Vec<String>) -> Option<&Dataset> {
        let exact = self.datasets.iter().find(|dataset| patterns(dataset).iter().any(|p| p == name));
        exact.or_else(|| {
            self.datasets.iter().find(|dataset| patterns(dataset).iter().any(|p| pattern::matches(p, name)))
        })
    }
}

/// A text file of the folder: what an error message points into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path relative to the folder, `/`-separated, such as `clean/pin.sql`.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// One kind of record: how it arrives, how it is cleaned, what must hold of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Name in SQL: `raw_<name>` is the raw row, `<name>` the current view, `<name>_all` every record.
    pub name: String,
    /// Column of the clean row that names the thing a record is about (`ind`).
    pub key: String,
    /// Topics that feed it: exact names or `*` patterns (`pin`, `*.pin`).
    pub topics: Vec<String>,
    /// Streams that feed it: exact names or `*` patterns (`pin`, `*-pin`).
    pub streams: Vec<String>,
    /// Fields of the raw row, in order.
    pub fields: Vec<RawField>,
    /// What to do with a member of the raw row that no field declares.
    pub unknown_fields: DriftPolicy,
    /// `clean/<name>.sql`.
    pub clean: SourceFile,
    /// Conditions on the clean row.
    pub expectations: Vec<Expectation>,
    /// Line and column in pipeline.toml of its name, from 1.
    pub position: (usize, usize),
}

impl Dataset {
    /// Name of its raw rows in SQL, `raw_<name>`.
    pub fn raw_table(&self) -> String {
        format!("raw_{}", self.name)
    }

    /// Name of all its clean rows in SQL, `<name>_all`.
    pub fn all_view(&self) -> String {
        format!("{}_all", self.name)
    }
}

/// A member of the raw JSON row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawField {
    /// Column name in `raw_<dataset>`.
    pub name: String,
    /// Its SQL type.
    pub data_type: RawType,
    /// Other names under which the member arrives, in order of preference after `name`.
    pub aliases: Vec<String>,
    /// True: a row without it (or with null) is quarantined.
    pub required: bool,
}

impl RawField {
    /// The names the member may have, the preferred one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

/// Types that a raw field may be declared with, called as in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RawType {
    /// STRING. A JSON number, boolean, array or object arrives as its JSON text.
    String,
    /// INT: an integral JSON number in range, or a string that holds one.
    Int,
    /// BIGINT.
    BigInt,
    /// DOUBLE: any finite JSON number, or a string that holds one.
    Double,
    /// BOOLEAN: true, false, 0, 1, or a string that holds one of them.
    Boolean,
}

impl fmt::Display for RawType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "STRING",
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Boolean => "BOOLEAN",
        })
    }
}

/// What happens to a member that is not declared. Never silent: every policy is counted and reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// Leave the member out of the clean row, count it and say so.
    #[default]
    Warn,
    /// Quarantine the record.
    Quarantine,
    /// Stop the run with an error.
    Stop,
}

/// A condition on the clean row. A row violates it when the condition is FALSE; NULL passes, as in a CHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Short name, unique in its dataset.
    pub name: String,
    /// A SQL condition over the columns of the clean row, those with a leading underscore included.
    pub sql: String,
    /// What a violation does.
    pub action: Action,
    /// The reason a quarantined row gets, for a person. `{column}` stands for the row's value of a column of the
    /// clean row.
    pub reason: String,
    /// Line and column in pipeline.toml of the first character of the condition's text, from 1.
    pub position: (usize, usize),
}

/// What a violated expectation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Put the record into quarantine.
    #[default]
    Quarantine,
    /// Keep the row, count and report it.
    Warn,
    /// Stop the run before anything of the batch is committed.
    Stop,
}

/// One question: a query over the current views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// File stem, such as `01_popular_category_by_country`.
    pub name: String,
    /// The comment on top.
    pub title: String,
    /// `answers/<name>.sql`.
    pub source: SourceFile,
}
