//! What the databases have in common: the statement of the reference, and rows of text made into JSON.
//!
//! Rows are asked for in the databases' text protocols, where each value arrives as its own SQL text, which is what the
//! Python drivers of the reference see as well: a FLOAT column with -88.8298 in it gives `-88.8298` and not the nearest
//! binary fraction's seventeen digits.

use std::fmt::Display;

use super::{DateForm, SourceError, Table};

/// What a column's values are in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number, as it is written.
    Number,
    /// A number of a column that may hold fractions: 122 is 122.0, as in Python.
    Float,
    /// A string.
    Text,
    /// A string in the form of date-times asked for.
    DateTime,
    /// `true` where the database says `t`.
    Bool,
    /// JSON already.
    Json,
}

/// `SELECT * FROM t LIMIT id, 1` of the reference with an order, without which a database may answer any row.
pub(crate) fn row_statement(table: Table, id: u64, quote: char) -> String {
    let (name, key) = (table.sql_name(), table.key());
    format!("SELECT * FROM {name} ORDER BY {quote}{key}{quote} LIMIT 1 OFFSET {id}")
}

pub(crate) fn count_statement(table: Table) -> String {
    format!("SELECT COUNT(*) FROM {}", table.sql_name())
}

/// An error of `database`, while it was asked for rows of `table`.
pub(crate) fn failed(database: &dyn Display, table: Table, error: &dyn Display) -> SourceError {
    SourceError::Database {
        database: database.to_string(),
        what: format!("reading {}", table.sql_name()),
        why: error.to_string(),
    }
}

/// A JSON object, member by member.
pub(crate) struct Object {
    text: String,
    form: DateForm,
}

impl Object {
    pub(crate) fn new(form: DateForm) -> Self {
        Self { text: String::with_capacity(800), form }
    }

    /// Adds a column; `None` is NULL.
    pub(crate) fn push(&mut self, name: &str, kind: Kind, value: Option<&str>) -> Result<(), String> {
        let written = match value {
            None => "null".to_owned(),
            Some(value) => match kind {
                Kind::Text => quoted(value)?,
                Kind::DateTime => quoted(self.form.rewrite(value).as_deref().unwrap_or(value))?,
                Kind::Bool => if matches!(value, "t" | "true" | "1") { "true" } else { "false" }.to_owned(),
                Kind::Float if is_number(value) && !value.contains(['.', 'e', 'E']) => format!("{value}.0"),
                Kind::Number | Kind::Float if is_number(value) => value.to_owned(),
                Kind::Number | Kind::Float => {
                    return Err(format!("column {name} holds {value}, which JSON has no number for"));
                }
                Kind::Json => value.to_owned(),
            },
        };
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        self.text.push_str(&quoted(name)?);
        self.text.push(':');
        self.text.push_str(&written);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

fn quoted(text: &str) -> Result<String, String> {
    serde_json::to_string(text).map_err(|e| e.to_string())
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Value>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_the_references_with_an_order() {
        assert_eq!(
            row_statement(Table::Pin, 7528, '`'),
            "SELECT * FROM pinterest_data ORDER BY `index` LIMIT 1 OFFSET 7528"
        );
        assert_eq!(
            row_statement(Table::User, 0, '"'),
            "SELECT * FROM user_data ORDER BY \"ind\" LIMIT 1 OFFSET 0"
        );
    }

    #[test]
    fn values_become_json_of_their_kind() {
        let mut row = Object::new(DateForm::Iso);
        row.push("ind", Kind::Number, Some("7")).unwrap();
        row.push("latitude", Kind::Number, Some("-88.8298")).unwrap();
        row.push("longitude", Kind::Float, Some("122")).unwrap();
        row.push("at", Kind::DateTime, Some("2020-08-28 03:52:47.000000")).unwrap();
        row.push("never", Kind::DateTime, Some("0000-00-00 00:00:00")).unwrap();
        row.push("name", Kind::Text, Some("a \"b\"\u{a0}🎨")).unwrap();
        row.push("none", Kind::Text, None).unwrap();
        row.push("yes", Kind::Bool, Some("t")).unwrap();
        assert_eq!(
            row.finish(),
            "{\"ind\":7,\"latitude\":-88.8298,\"longitude\":122.0,\"at\":\"2020-08-28T03:52:47\",\"never\":\"0000-00-00 00:00:00\",\
             \"name\":\"a \\\"b\\\"\u{a0}🎨\",\"none\":null,\"yes\":true}"
        );
    }

    #[test]
    fn a_number_that_json_has_not_is_an_error_that_names_the_column() {
        for value in ["NaN", "Infinity", "007", "1;2", ""] {
            let error = Object::new(DateForm::Us).push("latitude", Kind::Number, Some(value)).unwrap_err();
            assert!(error.contains("latitude"), "{error}");
        }
    }
}
