//! Data on stdout: tables for people, JSON, NDJSON, CSV and Markdown for programs and pages.

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

    /// One object a row.
    fn objects(&self) -> impl Iterator<Item = Value> {
        self.rows.iter().map(|row| {
            Value::Object(
                self.columns.iter().cloned().zip(row.iter().cloned()).collect::<Map<String, Value>>(),
            )
        })
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
            Format::Ndjson => {
                for object in self.objects() {
                    serde_json::to_writer(&mut *out, &object).map_err(std::io::Error::from)?;
                    writeln!(out)?;
                }
            }
            Format::Csv => self.write_csv(out)?,
        }
        Ok(())
    }

    fn table(&self, preset: &str) -> Table {
        let mut table = Table::new();
        table.load_preset(preset).set_header(&self.columns);
        if preset != presets::ASCII_MARKDOWN {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for row in &self.rows {
            table.add_row(row.iter().map(plain));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            if self.rows.iter().any(|row| row.get(index).is_some_and(Value::is_number)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
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

/// A value as a person reads it; NULL is empty.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
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
        DataType::Float32 => json!(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(row)),
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

fn list(values: &dyn Array) -> Result<Value, Failure> {
    (0..values.len()).map(|index| cell(values, index)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray, StringViewArray, TimestampMicrosecondArray};
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
    fn markdown_and_table_have_a_header_and_a_row_a_row() {
        assert!(text(Format::Markdown).starts_with("| name"));
        assert_eq!(text(Format::Markdown).lines().count(), 4);
        assert!(text(Format::Table).contains("median"));
    }
}
