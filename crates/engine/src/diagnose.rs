//! DataFusion's complaints as problems of a file: place, words, hint.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::execution::session_state::SessionState;
use datafusion::sql::sqlparser::ast::{Expr, ObjectNamePart, Statement, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Span;
use pinmill_pipeline::sql::SyntaxError;
use pinmill_pipeline::{Problem, nearest};

/// A text within a file: where its first character stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Path,
    pub(crate) start: (usize, usize),
}

impl<'a> Place<'a> {
    /// The whole of a file.
    pub(crate) fn file(file: &'a Path) -> Self {
        Self { file, start: (1, 1) }
    }

    /// Where a line and column of the text stand in the file.
    fn at(self, line: usize, column: usize) -> (usize, usize) {
        match line {
            0 | 1 => (self.start.0, self.start.1 + column.max(1) - 1),
            _ => (self.start.0 + line - 1, column),
        }
    }

    pub(crate) fn syntax(self, error: &SyntaxError) -> Problem {
        let (line, column) = error.position.unwrap_or((1, 1));
        Problem::new(self.file, self.at(line, column), error.message.clone())
    }

    pub(crate) fn problem(self, at: Span, message: impl Into<String>) -> Problem {
        let start = at.start;
        let (line, column) = (usize::try_from(start.line), usize::try_from(start.column));
        Problem::new(self.file, self.at(line.unwrap_or(1), column.unwrap_or(1)), message)
    }

    /// What the planner complains of.
    pub(crate) fn planner(self, error: &DataFusionError) -> Problem {
        let diagnostic = error.diagnostic();
        let start = diagnostic.and_then(|diagnostic| diagnostic.span).map(|span| span.start);
        let position = start.map_or(self.start, |start| {
            let (line, column) = (usize::try_from(start.line), usize::try_from(start.column));
            self.at(line.unwrap_or(1), column.unwrap_or(1))
        });
        let (message, hint) = words(error.find_root());
        let help = diagnostic.and_then(|d| d.helps.first()).map(|help| help.message.clone());
        Problem::new(self.file, position, message).with_hint_opt(hint.or(help))
    }
}

fn words(error: &DataFusionError) -> (String, Option<String>) {
    match error {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let names: BTreeSet<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                let hint = match nearest(&field.name, names.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are {}", names.iter().copied().collect::<Vec<_>>().join(", ")),
                };
                (format!("no column is called `{}`", field.flat_name()), Some(hint))
            }
            other => (other.to_string(), None),
        },
        DataFusionError::Diagnostic(_, inner) => words(inner),
        DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => (message.clone(), None),
        other => (other.strip_backtrace(), None),
    }
}

/// Names every function of a statement that the session does not have.
pub(crate) fn unknown_functions(
    state: &SessionState,
    place: Place<'_>,
    statement: &Statement,
) -> Vec<Problem> {
    let mut visitor = Functions { state, place, found: Vec::new() };
    let _ = statement.visit(&mut visitor);
    visitor.found
}

struct Functions<'a> {
    state: &'a SessionState,
    place: Place<'a>,
    found: Vec<Problem>,
}

impl Visitor for Functions<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice()
        {
            let lower = name.value.to_lowercase();
            let scalars = self.state.scalar_functions();
            let aggregates = self.state.aggregate_functions();
            let windows = self.state.window_functions();
            let known = scalars.contains_key(&lower)
                || aggregates.contains_key(&lower)
                || windows.contains_key(&lower)
                || crate::rewrite::macro_names().any(|name| name == lower);
            if !known {
                let mut all: Vec<&str> = crate::rewrite::macro_names().collect();
                all.extend(scalars.keys().chain(aggregates.keys()).chain(windows.keys()).map(String::as_str));
                let hint = nearest(&lower, all).map(|meant| format!("did you mean `{meant}`?"));
                let problem =
                    self.place.problem(name.span, format!("no function is called `{}`", name.value));
                self.found.push(problem.with_hint_opt(hint));
            }
        }
        ControlFlow::Continue(())
    }
}
