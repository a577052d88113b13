//! The reasons of expectations: text with `{column}` in it, filled in from a row.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::shown;

/// How much of a value a reason shows.
const SHOWN_CHARS: usize = 60;

/// A reason, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Column(usize),
}

impl Reason {
    /// Takes a text apart; the error is the name of a column that is not there.
    pub(super) fn parse(text: &str, schema: &SchemaRef) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            let index = schema.index_of(name).map_err(|_| name.to_owned())?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Column(index));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { parts })
    }

    /// The reason for one row.
    pub(super) fn fill(&self, batch: &RecordBatch, row: usize) -> String {
        let options = FormatOptions::default().with_null("NULL");
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Column(index) => {
                    let value = ArrayFormatter::try_new(batch.column(*index).as_ref(), &options)
                        .map(|formatter| formatter.value(row).to_string());
                    let value = value.unwrap_or_default();
                    filled.push_str(&shown(&value, SHOWN_CHARS));
                }
            }
        }
        filled
    }
}
