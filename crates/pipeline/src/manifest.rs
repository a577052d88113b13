//! `pipeline.toml`: its shape, and what is wrong with one.
//!
//! ```toml
//! name = "pinterest"
//!
//! [[dataset]]
//! name = "geo"                       # raw_geo, geo, geo_all in SQL; clean/geo.sql
//! key = "ind"                        # column of the clean row that names what a record is about
//! topics = ["geo", "*.geo"]          # default: <name> and *.<name>
//! streams = ["geo", "*-geo"]         # default: <name> and *-<name>
//! unknown_fields = "warn"            # warn (default), quarantine or stop
//! fields = [
//!     { name = "ind", type = "INT", aliases = ["index"], required = true },
//!     { name = "latitude", type = "DOUBLE" },
//! ]
//!
//! [[dataset.expect]]
//! name = "latitude_in_range"
//! sql = "latitude BETWEEN -90 AND 90"
//! action = "quarantine"              # quarantine (default), warn or stop
//! reason = "latitude {latitude} is outside -90 to 90"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::model::{Action, Dataset, DriftPolicy, Expectation, RawField, RawType, SourceFile};
use crate::problem::{Problem, Problems, line_and_column, nearest};

/// pipeline.toml as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: Spanned<String>,
    #[serde(default)]
    dataset: Vec<DatasetEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetEntry {
    name: Spanned<String>,
    key: Spanned<String>,
    topics: Option<Vec<String>>,
    streams: Option<Vec<String>>,
    #[serde(default)]
    unknown_fields: DriftPolicy,
    fields: Vec<FieldEntry>,
    #[serde(default)]
    expect: Vec<ExpectEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldEntry {
    name: Spanned<String>,
    #[serde(rename = "type")]
    data_type: RawType,
    #[serde(default)]
    aliases: Vec<Spanned<String>>,
    #[serde(default)]
    required: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectEntry {
    name: Spanned<String>,
    sql: Spanned<String>,
    #[serde(default)]
    action: Action,
    reason: Option<String>,
}

/// What pipeline.toml says, the SQL files not yet put in.
pub(crate) struct Parsed {
    pub(crate) name: String,
    pub(crate) datasets: Vec<Dataset>,
}

/// Reads pipeline.toml; problems that leave something to go on with are added to `problems`.
pub(crate) fn parse(file: &SourceFile, problems: &mut Problems) -> Option<Parsed> {
    let manifest: Manifest = match toml::from_str(&file.text) {
        Ok(manifest) => manifest,
        Err(error) => {
            problems.0.push(toml_problem(file, &error));
            return None;
        }
    };
    let mut check = Check { file, problems };
    check.identifier("the pipeline's name", &manifest.name);
    if manifest.dataset.is_empty() {
        let hint = "add a [[dataset]] section; `pinmill init` writes an example";
        check.at(0, "no dataset is declared".to_owned(), Some(hint.to_owned()));
    }
    let mut seen = BTreeMap::new();
    for entry in &manifest.dataset {
        check.unique("dataset", &entry.name, &mut seen);
    }
    check.views(&manifest.dataset);
    let datasets = manifest.dataset.into_iter().map(|entry| check.dataset(entry)).collect();
    Some(Parsed { name: manifest.name.into_inner(), datasets })
}

/// Collects problems with their places in one file.
struct Check<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn at(&mut self, byte: usize, message: String, hint: Option<String>) {
        let position = line_and_column(&self.file.text, byte);
        self.problems.0.push(Problem::new(&self.file.path, position, message).with_hint_opt(hint));
    }

    fn dataset(&mut self, entry: DatasetEntry) -> Dataset {
        self.identifier("a dataset's name", &entry.name);
        let position = line_and_column(&self.file.text, entry.name.span().start + 1);
        let name = entry.name.get_ref().clone();
        if entry.fields.is_empty() {
            self.at(entry.name.span().start, format!("dataset `{name}` has no fields"), None);
        }
        let fields = self.fields(entry.fields);
        self.identifier("a key", &entry.key);
        let mut seen = BTreeMap::new();
        for expect in &entry.expect {
            self.unique("expectation", &expect.name, &mut seen);
        }
        Dataset {
            topics: entry.topics.unwrap_or_else(|| vec![name.clone(), format!("*.{name}")]),
            streams: entry.streams.unwrap_or_else(|| vec![name.clone(), format!("*-{name}")]),
            key: entry.key.into_inner(),
            unknown_fields: entry.unknown_fields,
            clean: SourceFile { path: Path::new("clean").join(format!("{name}.sql")), text: String::new() },
            expectations: entry.expect.into_iter().map(|expect| self.expectation(expect)).collect(),
            fields,
            name,
            position,
        }
    }

    /// `<name>`, `<name>_all` and `raw_<name>` of all datasets are names in one SQL.
    fn views(&mut self, entries: &[DatasetEntry]) {
        for entry in entries {
            let name = entry.name.get_ref();
            let stem = name.strip_suffix("_all").map(|stem| (stem, "every record"));
            let stem = stem.or_else(|| name.strip_prefix("raw_").map(|stem| (stem, "the raw rows")));
            if let Some((stem, what)) = stem
                && entries.iter().any(|other| other.name.get_ref() == stem)
            {
                let message = format!("`{name}` already means {what} of `{stem}`");
                self.at(entry.name.span().start, message, Some("give the dataset another name".into()));
            }
        }
    }

    fn fields(&mut self, entries: Vec<FieldEntry>) -> Vec<RawField> {
        let mut seen = BTreeMap::new();
        for entry in &entries {
            self.identifier("a field's name", &entry.name);
            self.unique("field", &entry.name, &mut seen);
        }
        for alias in entries.iter().flat_map(|entry| &entry.aliases) {
            self.unique("field or alias", alias, &mut seen);
        }
        entries
            .into_iter()
            .map(|entry| RawField {
                name: entry.name.into_inner(),
                data_type: entry.data_type,
                aliases: entry.aliases.into_iter().map(Spanned::into_inner).collect(),
                required: entry.required,
            })
            .collect()
    }

    fn expectation(&mut self, entry: ExpectEntry) -> Expectation {
        let start = entry.sql.span().start;
        // The span begins with the quotes: one, or three and perhaps a line break.
        let text = self.file.text.get(start..).unwrap_or_default();
        let quotes = text.chars().take_while(|c| matches!(c, '"' | '\'')).count();
        let skipped = if quotes >= 3 { 3 + usize::from(text.get(3..4) == Some("\n")) } else { 1 };
        let reason = entry.reason.unwrap_or_else(|| format!("it violates `{}`", entry.name.get_ref()));
        Expectation {
            position: line_and_column(&self.file.text, start + skipped),
            name: entry.name.into_inner(),
            sql: entry.sql.into_inner(),
            action: entry.action,
            reason,
        }
    }

    fn identifier(&mut self, what: &str, name: &Spanned<String>) {
        let text = name.get_ref();
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let reserved = text.starts_with('_') && what.contains("field");
        if !starts_well && !text.starts_with(|c: char| c.is_ascii_uppercase()) || !plain || text.len() > 128 {
            let message = format!("`{text}` cannot be {what}");
            self.at(name.span().start, message, Some("use letters, digits and `_`, a letter first".into()));
        } else if reserved {
            let message =
                format!("`{text}` cannot be {what}: names with a leading `_` are the pipeline's own");
            let hint = format!("call it `{}` and give `{text}` as an alias", text.trim_start_matches('_'));
            self.at(name.span().start, message, Some(hint));
        }
    }

    fn unique(&mut self, what: &str, name: &Spanned<String>, seen: &mut BTreeMap<String, (usize, usize)>) {
        let place = line_and_column(&self.file.text, name.span().start);
        let lower = name.get_ref().to_lowercase();
        match seen.get(&lower) {
            Some((line, _)) => {
                let message = format!("{what} `{}` is declared twice, first in line {line}", name.get_ref());
                self.at(name.span().start, message, Some("names are compared without case".into()));
            }
            None => {
                seen.insert(lower, place);
            }
        }
    }
}

/// Says of a TOML error where it is, and what was probably meant.
fn toml_problem(file: &SourceFile, error: &toml::de::Error) -> Problem {
    let place = line_and_column(&file.text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim().replace('\n', "; ");
    let hint = suggestion(&message);
    Problem::new(&file.path, place, message).with_hint_opt(hint)
}

/// serde says "unknown field `x`, expected one of `a`, `b`": finds the one that was meant.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let word = quoted.next()?;
    nearest(word, quoted).map(|meant| format!("did you mean `{meant}`?"))
}
