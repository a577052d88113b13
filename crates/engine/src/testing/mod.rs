//! A pipeline's own tests: raw records in, clean rows or reasons out, as text files under `tests/`.
//!
//! ```text
//! # Lines that begin with # are for people.
//!
//! --- a title of nothing but blanks is NULL
//! raw: {"index": 7, "title": "  "}
//! row: {"ind": 7, "title": null}
//!
//! --- a latitude beyond the pole is not on earth
//! dataset: geo
//! raw: {"ind": 1, "latitude": 91}
//! quarantine: latitude 91.0 is outside -90 to 90
//! ```
//!
//! A case begins with `---` and its name. `dataset:` says what the records are; without it, the file's name does.
//! Then come records, each followed by what becomes of it:
//!
//! - `raw:` a record, exactly as it arrives, to the end of the line; `raw base64:` one that cannot be written so;
//! - `row:` a JSON object: the columns that the clean row must have. Columns that it does not name may be anything.
//!   A number written without a point must be equal as an integer, times are written `2020-08-28T03:52:47Z`;
//! - `quarantine:` the reason, whole;
//! - `warns:` after `row:`, the name of an expectation that the row violates without being quarantined.

mod cases;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use pinmill_pipeline::{Pipeline, Problem, Problems, SourceFile, nearest};
use serde_json::{Map, Value};

use self::cases::{Case, Expected, Step};
use crate::decode::{Decoder, Position, RawValue};
use crate::error::{Error, Result};
use crate::{Cleaner, Engine};

/// What became of a pipeline's tests.
#[derive(Debug, Clone, Default)]
pub struct TestReport {
    /// The cases, in the order of the files.
    pub cases: Vec<CaseResult>,
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Where it is written, relative to the folder.
    pub file: PathBuf,
    /// The line of its name, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// What differs, line by line; `None` when it passed.
    pub difference: Option<String>,
}

impl TestReport {
    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.cases.iter().filter(|case| case.difference.is_none()).count()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| case.difference.is_some())
    }

    /// True when none failed.
    pub fn all_passed(&self) -> bool {
        self.failures().next().is_none()
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in self.failures() {
            writeln!(f, "failed: {} ({}:{})", case.name, case.file.display(), case.line)?;
            for line in case.difference.iter().flat_map(|difference| difference.lines()) {
                writeln!(f, "    {line}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{} passed, {} failed", self.passed(), self.failures().count())
    }
}

/// Runs all tests of a pipeline.
///
/// # Errors
/// [`Error::Invalid`] when a test file cannot be read as one, or a dataset's SQL cannot be planned.
pub async fn run_tests(pipeline: &Pipeline, engine: &dyn Engine) -> Result<TestReport> {
    let mut problems = Problems::default();
    let mut report = TestReport::default();
    let mut runners: HashMap<String, Runner> = HashMap::new();
    let names = || pipeline.datasets.iter().map(|dataset| dataset.name.as_str());
    for file in pipeline.tests.iter().filter(|file| is_test(file)) {
        let (cases, found) = cases::parse(file);
        problems.0.extend(found);
        for case in cases {
            let Some(dataset) = pipeline.dataset(&case.dataset) else {
                let hint = nearest(&case.dataset, names()).map(|meant| format!("did you mean `{meant}`?"));
                let message = format!("no dataset is called `{}`", case.dataset);
                problems.0.push(
                    Problem::new(&file.path, (case.line, 1), message)
                        .with_hint("write dataset: and a name after the name of the case")
                        .with_hint_opt(hint),
                );
                continue;
            };
            let runner = match runners.entry(case.dataset.clone()) {
                std::collections::hash_map::Entry::Occupied(runner) => runner.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => place.insert(Runner {
                    decoder: Decoder::new(dataset),
                    cleaner: engine.cleaner(dataset).await?,
                }),
            };
            let difference = runner.run(&case)?;
            report.cases.push(CaseResult {
                file: file.path.clone(),
                line: case.line,
                name: case.name,
                difference,
            });
        }
    }
    match problems.0.is_empty() {
        true => Ok(report),
        false => Err(Error::Invalid(problems)),
    }
}

/// What cannot be understood in a pipeline's test files.
pub(crate) fn problems_of_tests(pipeline: &Pipeline) -> Vec<Problem> {
    pipeline.tests.iter().filter(|file| is_test(file)).flat_map(|file| cases::parse(file).1).collect()
}

fn is_test(file: &SourceFile) -> bool {
    file.path.extension().is_some_and(|extension| extension == "test")
}

/// What became of a record.
#[derive(Debug, PartialEq)]
enum Outcome {
    Row(Map<String, Value>, Vec<String>),
    Quarantine(String),
    Stopped(String),
}

struct Runner {
    decoder: Decoder,
    cleaner: Box<dyn Cleaner>,
}

impl Runner {
    /// Runs a case; what differs, if anything.
    fn run(&mut self, case: &Case) -> Result<Option<String>> {
        let mut difference = String::new();
        for (index, step) in case.steps.iter().enumerate() {
            let outcome = self.outcome(step, index)?;
            difference.push_str(&compare(&step.expected, &outcome));
        }
        Ok((!difference.is_empty()).then_some(difference))
    }

    fn outcome(&mut self, step: &Step, index: usize) -> Result<Outcome> {
        let offset = i64::try_from(index).unwrap_or(i64::MAX);
        self.decoder
            .push(RawValue::Bytes(&step.raw), Position { partition: 0, offset, sub: 0, ingested_at_us: 0 });
        let decoded = match self.decoder.finish() {
            Ok(decoded) => decoded,
            Err(error @ Error::UnknownField { .. }) => return Ok(Outcome::Stopped(error.to_string())),
            Err(error) => return Err(error),
        };
        if let Some(rejected) = decoded.rejected.into_iter().next() {
            return Ok(Outcome::Quarantine(rejected.reason));
        }
        let cleaned = match self.cleaner.clean(&decoded.batch) {
            Ok(cleaned) => cleaned,
            Err(error @ Error::Stopped { .. }) => return Ok(Outcome::Stopped(error.to_string())),
            Err(error) => return Err(error),
        };
        if let Some(rejected) = cleaned.rejected.into_iter().next() {
            return Ok(Outcome::Quarantine(rejected.reason));
        }
        let warned = cleaned.warned.into_iter().map(|(name, _)| name).collect();
        Ok(Outcome::Row(as_json(&cleaned.rows)?.into_iter().next().unwrap_or_default(), warned))
    }
}

/// A batch's rows as JSON objects, NULLs included.
fn as_json(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    serde_json::Deserializer::from_slice(&bytes)
        .into_iter()
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::Shape(format!("a row cannot be written as JSON: {error}")))
}

/// What differs, a line each for what was expected (-) and what was found (+); empty when nothing does.
fn compare(expected: &Expected, found: &Outcome) -> String {
    match (expected, found) {
        (Expected::Quarantine(expected), Outcome::Quarantine(found)) if expected == found => String::new(),
        (Expected::Row(expected, warns), Outcome::Row(found, warned)) => {
            let mut difference = String::new();
            for (column, value) in expected {
                match found.get(column) {
                    Some(found) if same(value, found) => {}
                    Some(found) => {
                        difference.push_str(&format!("- {column}: {value}\n+ {column}: {found}\n"));
                    }
                    None => {
                        let hint = nearest(column, found.keys().map(String::as_str));
                        let hint = hint.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
                        difference.push_str(&format!(
                            "- {column}: {value}\n+ there is no column `{column}`{hint}\n"
                        ));
                    }
                }
            }
            if warns != warned {
                difference.push_str(&format!(
                    "- warns: {}\n+ warns: {}\n",
                    warns.join(", "),
                    warned.join(", ")
                ));
            }
            difference
        }
        (expected, found) => format!("- {}\n+ {}\n", expected.words(), words(found)),
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Row(row, _) => {
            let shown = row.iter().filter(|(name, _)| !name.starts_with('_'));
            format!(
                "row: {}",
                Value::Object(shown.map(|(name, value)| (name.clone(), value.clone())).collect())
            )
        }
        Outcome::Quarantine(reason) => format!("quarantine: {reason}"),
        Outcome::Stopped(reason) => format!("stops: {reason}"),
    }
}

/// Equal values; 1 and 1.0 are.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(expected), Value::Number(found)) => {
            expected == found
                || (!(expected.is_i64() && found.is_i64()) && expected.as_f64() == found.as_f64())
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| same(expected, found))
        }
        _ => expected == found,
    }
}
