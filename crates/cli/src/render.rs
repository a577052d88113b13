//! Data on stdout: tables for people, JSON, NDJSON, CSV and Markdown for programs and pages.

use std::collections::HashSet;
use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use crate::error::{Failure, OrFail};

/// Version of every JSON document on stdout. Members may be added under the same number.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// Shape of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
    /// A Markdown table.
    Markdown,
}

/// Bytes as text, or, where they are none, as base64: one of two columns is NULL.
pub(crate) fn text_or_base64(bytes: Option<&[u8]>) -> [Value; 2] {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => [Value::Null, Value::Null],
        Some((Ok(text), _)) => [json!(text), Value::Null],
        Some((Err(_), bytes)) => [Value::Null, json!(STANDARD.encode(bytes))],
    }
}

/// Rows with named columns, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    /// Column names, in order.
    pub(crate) columns: Vec<String>,
    /// One value a column.
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Rows from names and values.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Rows from what a query gave.
    pub(crate) fn from_batches(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Self, Failure> {
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut rows = Vec::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                rows.push(batch.columns().iter().map(|column| cell(column, row)).collect::<Result<_, _>>()?);
            }
        }
        Ok(Self { columns, rows })
    }

    /// `{"columns": […], "rows": [[…]]}`.
    pub(crate) fn to_json(&self) -> Value {
        json!({"columns": self.columns, "rows": self.rows})
    }

    /// The same rows with a column before the others that says one thing of them all.
    pub(crate) fn labelled(mut self, column: &str, label: &str) -> Self {
        self.columns.insert(0, column.to_owned());
        for row in &mut self.rows {
            row.insert(0, json!(label));
        }
        self
    }

    /// Writes the rows in `format`. JSON here is the document of a single result.
    pub(crate) fn write(&self, out: &mut dyn Write, format: Format) -> Result<(), Failure> {
        match format {
            Format::Table => writeln!(out, "{}", self.table(presets::UTF8_FULL_CONDENSED))?,
            Format::Markdown => writeln!(out, "{}", self.table(presets::ASCII_MARKDOWN))?,
            Format::Json => {
                let mut document = self.to_json();
                document["schema_version"] = json!(SCHEMA_VERSION);
                write_json(out, &document)?;
            }
            Format::Ndjson => self.write_ndjson(out)?,
            Format::Csv => self.write_csv(out)?,
        }
        Ok(())
    }

    fn table(&self, preset: &str) -> Table {
        let mut table = Table::new();
        let markdown = preset == presets::ASCII_MARKDOWN;
        let shown = |text: String| if markdown { in_markdown(&text) } else { text };
        table.load_preset(preset).set_header(self.columns.iter().cloned().map(shown));
        if !markdown {
            table.set_content_arrangement(arrangement(table.width()));
        }
        for row in &self.rows {
            table.add_row(row.iter().map(plain).map(shown));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            if self.rows.iter().any(|row| row.get(index).is_some_and(Value::is_number)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// One object a row, its members in the order of the columns.
    fn write_ndjson(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(name) = self.repeated_column() {
            let what =
                format!("two columns are called `{name}`, and an object has only one member of a name");
            return Err(Failure::internal(what).hint("give one of them another name with AS"));
        }
        let names: Vec<String> = self.columns.iter().map(|name| json!(name).to_string()).collect();
        for row in &self.rows {
            let members: Vec<String> =
                names.iter().zip(row).map(|(name, value)| format!("{name}:{value}")).collect();
            writeln!(out, "{{{}}}", members.join(","))?;
        }
        Ok(())
    }

    fn repeated_column(&self) -> Option<&String> {
        let mut seen = HashSet::new();
        self.columns.iter().find(|name| !seen.insert(*name))
    }

    fn write_csv(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut writer = csv::Writer::from_writer(&mut *out);
        writer.write_record(&self.columns).map_err(csv_failed)?;
        writer.flush()?;
        drop(writer);
        self.write_csv_rows(out)
    }

    /// Goes on with CSV whose header is written.
    pub(crate) fn write_csv_rows(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut writer = csv::Writer::from_writer(out);
        for row in &self.rows {
            writer.write_record(row.iter().map(plain)).map_err(csv_failed)?;
        }
        writer.flush()?;
        Ok(())
    }
}

/// A terminal that does not know its width says 0: rows are as wide as they are then.
fn arrangement(width: Option<u16>) -> ContentArrangement {
    if width == Some(0) { ContentArrangement::Disabled } else { ContentArrangement::Dynamic }
}

fn csv_failed(error: csv::Error) -> Failure {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Failure::from(error),
        other => Failure::internal(format!("{other:?}")),
    }
}

/// A document on stdout, one member a line.
pub(crate) fn write_json(out: &mut dyn Write, document: &Value) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, document).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Writes what is said about rows: below a table for people, else to stderr, so that stdout holds the rows alone.
pub(crate) fn words_beside_rows(
    out: &mut dyn Write,
    format: Format,
    words: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if format == Format::Table {
        return words(out);
    }
    let mut text = Vec::new();
    words(&mut text)?;
    crate::stderr::say(&text);
    Ok(())
}

/// A value as a person reads it; NULL is empty.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text as a cell of a Markdown table: what would end the cell, the row or the text itself is escaped.
fn in_markdown(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' | '|' | '<' => cell.extend(['\\', character]),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' | '\n' => cell.push_str("<br>"),
            other => cell.push(other),
        }
    }
    cell
}

/// One cell of a column as JSON. Types JSON has no form for are their SQL text.
fn cell(column: &dyn Array, row: usize) -> Result<Value, Failure> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Int8 => json!(column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => json!(column.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => json!(column.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => json!(column.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => json!(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(column.as_string::<i64>().value(row)),
        DataType::Utf8View => json!(column.as_string_view().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(_, _) => list(&column.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = column.as_struct();
            let mut object = Map::new();
            for (field, inner) in fields.iter().zip(columns.columns()) {
                object.insert(field.name().clone(), cell(inner, row)?);
            }
            Value::Object(object)
        }
        _ => {
            let formatter = ArrayFormatter::try_new(column, &FormatOptions::default()).or_fail()?;
            json!(formatter.value(row).try_to_string().or_fail()?)
        }
    })
}

/// A number; what is none is a word, as JSON has no form for it and NULL means something else.
fn float<T: Copy + Into<f64> + Into<Value>>(value: T) -> Value {
    let number: f64 = value.into();
    if number.is_finite() {
        return value.into();
    }
    let word = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    json!(word)
}

fn list(values: &dyn Array) -> Result<Value, Failure> {
    (0..values.len()).map(|index| cell(values, index)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Float32Array, Float64Array, Int64Array, ListArray, StringViewArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Float64Type;

    use super::*;

    fn rows() -> Rows {
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(StringViewArray::from(vec![Some("a,\"b\""), None])) as Arc<dyn Array>),
            ("n", Arc::new(Int64Array::from(vec![1, 2]))),
            ("median", Arc::new(Float64Array::from(vec![1.5, 2.0]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_000_000]).with_timezone("UTC"))),
            (
                "coordinates",
                Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([
                    Some([Some(1.0), None]),
                    None,
                ])),
            ),
        ])
        .unwrap();
        Rows::from_batches(&batch.schema(), &[batch]).unwrap()
    }

    fn text(format: Format) -> String {
        let mut out = Vec::new();
        rows().write(&mut out, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_keeps_types_columns_and_nulls() {
        let document: Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!(document["columns"], json!(["name", "n", "median", "at", "coordinates"]));
        assert_eq!(
            document["rows"],
            json!([
                ["a,\"b\"", 1, 1.5, "1970-01-01T00:00:00Z", [1.0, null]],
                [null, 2, 2.0, "1970-01-01T00:00:01Z", null]
            ])
        );
        assert_eq!(document["schema_version"], json!(1));
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            text(Format::Csv),
            "name,n,median,at,coordinates\n\"a,\"\"b\"\"\",1,1.5,1970-01-01T00:00:00Z,\"[1.0,null]\"\n,2,2.0,1970-01-01T00:00:01Z,\n"
        );
    }

    #[test]
    fn ndjson_is_one_object_a_line() {
        let lines = text(Format::Ndjson);
        let second: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
        assert_eq!(second["n"], json!(2));
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn ndjson_keeps_the_order_of_columns() {
        let lines = text(Format::Ndjson);
        let first =
            r#"{"name":"a,\"b\"","n":1,"median":1.5,"at":"1970-01-01T00:00:00Z","coordinates":[1.0,null]}"#;
        assert_eq!(lines.lines().next().unwrap(), first);
        let mut out = Vec::new();
        rows().labelled("answer", "06").write(&mut out, Format::Ndjson).unwrap();
        assert!(out.starts_with(br#"{"answer":"06","name":"#));
    }

    #[test]
    fn columns_of_one_name_are_refused_where_one_would_be_lost() {
        let mut rows = Rows::new(&["ind", "title", "ind"]);
        rows.rows.push(vec![json!(1), json!("a"), json!(2)]);
        let failure = rows.write(&mut Vec::<u8>::new(), Format::Ndjson).unwrap_err();
        assert!(failure.message.contains("`ind`") && failure.hints[0].contains("AS"), "{failure:?}");
        let mut out = Vec::new();
        rows.write(&mut out, Format::Csv).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ind,title,ind\n1,a,2\n");
    }

    #[test]
    fn numbers_that_are_none_are_words_and_not_null() {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5];
        let floats = values.map(|value| value as f32).to_vec();
        let batch = RecordBatch::try_from_iter([
            ("double", Arc::new(Float64Array::from(values.to_vec())) as Arc<dyn Array>),
            ("float", Arc::new(Float32Array::from(floats))),
        ])
        .unwrap();
        let rows = Rows::from_batches(&batch.schema(), &[batch]).unwrap();
        let word = |word: &str| vec![json!(word), json!(word)];
        let expected = vec![word("NaN"), word("Infinity"), word("-Infinity"), vec![json!(0.5), json!(0.5)]];
        assert_eq!(rows.rows, expected);
        let mut out = Vec::new();
        rows.write(&mut out, Format::Csv).unwrap();
        assert!(out.starts_with(b"double,float\nNaN,NaN\nInfinity,Infinity\n"));
    }

    #[test]
    fn a_terminal_without_a_width_wraps_nothing() {
        let narrow = |width| format!("{:?}", arrangement(width));
        assert_eq!(narrow(Some(0)), "Disabled");
        assert_eq!((narrow(Some(80)), narrow(None)), ("Dynamic".to_owned(), "Dynamic".to_owned()));
    }

    #[test]
    fn a_cell_of_markdown_stays_one_cell_whatever_is_in_it() {
        let mut rows = Rows::new(&["a|b"]);
        rows.rows.push(vec![json!("x|y\r\nz\n\\|<b>")]);
        let mut out = Vec::new();
        rows.write(&mut out, Format::Markdown).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains(r"| a\|b "), "{text}");
        assert!(lines[2].contains(r"| x\|y<br>z<br>\\\|\<b> |"), "{text}");
    }

    #[test]
    fn markdown_and_table_have_a_header_and_a_row_a_row() {
        assert!(text(Format::Markdown).starts_with("| name"));
        assert_eq!(text(Format::Markdown).lines().count(), 4);
        assert!(text(Format::Table).contains("median"));
    }
}
