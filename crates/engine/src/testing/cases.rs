//! Reading test files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinmill_pipeline::{Problem, SourceFile};
use serde_json::{Map, Value};

/// A case of a test file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) dataset: String,
    pub(super) steps: Vec<Step>,
}

/// A record and what is expected of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) raw: Vec<u8>,
    pub(super) expected: Expected,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    Row(Map<String, Value>, Vec<String>),
    Quarantine(String),
}

impl Expected {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Row(row, _) => format!("row: {}", Value::Object(row.clone())),
            Self::Quarantine(reason) => format!("quarantine: {reason}"),
        }
    }
}

/// Reads a test file; the problems are lines that cannot be understood.
pub(super) fn parse(file: &SourceFile) -> (Vec<Case>, Vec<Problem>) {
    let default = file.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut reader = Reader { file, cases: Vec::new(), raw: None, problems: Vec::new() };
    for (index, line) in file.text.lines().enumerate() {
        reader.line(index + 1, line, &default);
    }
    reader.end_of_case();
    (reader.cases, reader.problems)
}

struct Reader<'a> {
    file: &'a SourceFile,
    cases: Vec<Case>,
    /// A record whose outcome was not read yet, and its line.
    raw: Option<(usize, Vec<u8>)>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str, default: &str) {
        if line.trim().is_empty() || line.starts_with('#') {
            return;
        }
        if let Some(name) = line.strip_prefix("---") {
            self.end_of_case();
            let name = name.trim().to_owned();
            self.cases.push(Case { line: number, name, dataset: default.to_owned(), steps: Vec::new() });
            return;
        }
        let (word, rest) = line.split_once(':').unwrap_or((line, ""));
        // One blank after the colon belongs to the notation, all others to the record.
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let read = match word {
            "dataset" => self.dataset(rest.trim()),
            "raw" => self.begin(number, rest.as_bytes().to_vec()),
            "raw base64" => match STANDARD.decode(rest.trim()) {
                Ok(bytes) => self.begin(number, bytes),
                Err(error) => Err(format!("this is not base64: {error}")),
            },
            "row" => match serde_json::from_str(rest) {
                Ok(row) => self.expect(Expected::Row(row, Vec::new())),
                Err(error) => Err(format!("this is not a JSON object: {error}")),
            },
            "quarantine" => self.expect(Expected::Quarantine(rest.trim().to_owned())),
            "warns" => self.warns(rest.trim()),
            _ => Err("a line begins with ---, dataset:, raw:, raw base64:, row:, quarantine:, warns: or #"
                .to_owned()),
        };
        if let Err(message) = read {
            self.problems.push(Problem::new(&self.file.path, (number, 1), message));
        }
    }

    fn case(&mut self) -> Result<&mut Case, String> {
        self.cases.last_mut().ok_or_else(|| "a case begins with --- and its name".to_owned())
    }

    fn dataset(&mut self, name: &str) -> Result<(), String> {
        name.clone_into(&mut self.case()?.dataset);
        Ok(())
    }

    fn begin(&mut self, number: usize, raw: Vec<u8>) -> Result<(), String> {
        self.case()?;
        match self.raw.replace((number, raw)) {
            Some((line, _)) => Err(format!("the record of line {line} has no row: or quarantine: after it")),
            None => Ok(()),
        }
    }

    fn expect(&mut self, expected: Expected) -> Result<(), String> {
        let (_, raw) = self.raw.take().ok_or("there is no raw: before this")?;
        self.case()?.steps.push(Step { raw, expected });
        Ok(())
    }

    fn warns(&mut self, name: &str) -> Result<(), String> {
        match self.case()?.steps.last_mut() {
            Some(Step { expected: Expected::Row(_, warns), .. }) => {
                warns.push(name.to_owned());
                Ok(())
            }
            _ => Err("warns: stands after row:".to_owned()),
        }
    }

    fn end_of_case(&mut self) {
        let mut problem = |line: usize, message: &str| {
            self.problems.push(Problem::new(&self.file.path, (line, 1), message));
        };
        if let Some((line, _)) = self.raw.take() {
            problem(line, "this record has no row: or quarantine: after it");
        } else if let Some(case) = self.cases.last()
            && case.steps.is_empty()
        {
            problem(case.line, "this case has no records");
        }
    }
}
