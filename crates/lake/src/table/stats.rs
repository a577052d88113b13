//! The statistics of a data file, as Delta wants them: from what Parquet counted, made safe. Pure.
//!
//! A reader skips a file when a value it looks for lies outside `minValues`..`maxValues`, so a bound may be too wide
//! but never too narrow:
//!
//! - strings: Parquet has cut them to 64 bytes, the lower bound down and the upper bound up;
//! - timestamps: Delta's JSON has milliseconds; the lower bound is rounded down and the upper bound up;
//! - doubles: no bounds for a column with a NaN (Spark sorts NaN above everything, Parquet leaves it out) or an
//!   infinity (not a JSON number);
//! - arrays, structs, binary, booleans, decimals: no bounds.
//!
//! `nullCount` is that of the column itself, also for arrays.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Number, Value, json};

/// What Parquet does not count, gathered while rows are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    rows: u64,
    nulls: Vec<u64>,
    /// Columns with a NaN or an infinity.
    unordered: Vec<bool>,
}

impl Gathered {
    pub(super) fn add(&mut self, columns: &[ArrayRef]) {
        self.nulls.resize(columns.len(), 0);
        self.unordered.resize(columns.len(), false);
        self.rows += columns.first().map_or(0, |column| column.len()) as u64;
        for ((column, nulls), unordered) in columns.iter().zip(&mut self.nulls).zip(&mut self.unordered) {
            *nulls += column.null_count() as u64;
            *unordered = *unordered || !all_finite(column);
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

fn all_finite(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite),
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite),
        _ => true,
    }
}

/// The `stats` of an Add action.
pub(super) fn stats(schema: &Schema, gathered: &Gathered, file: &ParquetMetaData) -> String {
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (index, field) in schema.fields().iter().enumerate() {
        if !matches!(field.data_type(), DataType::Struct(_)) {
            nulls.insert(field.name().clone(), json!(gathered.nulls.get(index)));
        }
        if gathered.unordered.get(index).copied().unwrap_or(true) {
            continue;
        }
        if let Some((lower, upper)) = bounds(field.name(), field.data_type(), file) {
            min.insert(field.name().clone(), lower);
            max.insert(field.name().clone(), upper);
        }
    }
    json!({"numRecords": gathered.rows, "minValues": min, "maxValues": max, "nullCount": nulls}).to_string()
}

/// Bounds of a column over all row groups; `None` when a row group with values lacks them.
fn bounds(name: &str, data_type: &DataType, file: &ParquetMetaData) -> Option<(Value, Value)> {
    let mut all: Option<(Bound, Bound)> = None;
    for group in file.row_groups() {
        let column = group.columns().iter().find(|column| column.column_path().parts() == [name])?;
        let statistics = column.statistics()?;
        if statistics.null_count_opt() == Some(group.num_rows() as u64) {
            continue;
        }
        let (low, high) = (bound(statistics, data_type, false)?, bound(statistics, data_type, true)?);
        all = Some(match all {
            None => (low, high),
            Some((lower, upper)) => (lower.min(low)?, upper.max(high)?),
        });
    }
    let (lower, upper) = all?;
    Some((lower.json(data_type, false)?, upper.json(data_type, true)?))
}

/// A bound in the type that its column sorts by.
#[derive(Debug, Clone, PartialEq)]
enum Bound {
    Int(i64),
    Float(f64),
    Text(String),
}

/// The upper or the lower one of two.
fn pick<T>(min: Option<T>, max: Option<T>, upper: bool) -> Option<T> {
    if upper { max } else { min }
}

fn bound(statistics: &Statistics, data_type: &DataType, upper: bool) -> Option<Bound> {
    Some(match (statistics, data_type) {
        (Statistics::Int32(s), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32) => {
            Bound::Int((*pick(s.min_opt(), s.max_opt(), upper)?).into())
        }
        (Statistics::Int64(s), DataType::Int64 | DataType::Timestamp(..)) => {
            Bound::Int(*pick(s.min_opt(), s.max_opt(), upper)?)
        }
        (Statistics::Float(s), DataType::Float32) => {
            Bound::Float((*pick(s.min_opt(), s.max_opt(), upper)?).into())
        }
        (Statistics::Double(s), DataType::Float64) => Bound::Float(*pick(s.min_opt(), s.max_opt(), upper)?),
        (Statistics::ByteArray(s), DataType::Utf8) => {
            let bytes = pick(s.min_bytes_opt(), s.max_bytes_opt(), upper)?;
            Bound::Text(std::str::from_utf8(bytes).ok()?.to_owned())
        }
        _ => return None,
    })
}

impl Bound {
    fn less(&self, other: &Self) -> Option<bool> {
        Some(match (self, other) {
            (Self::Int(a), Self::Int(b)) => a < b,
            (Self::Float(a), Self::Float(b)) => a < b,
            // By bytes, as Delta readers compare.
            (Self::Text(a), Self::Text(b)) => a.as_bytes() < b.as_bytes(),
            _ => return None,
        })
    }

    fn min(self, other: Self) -> Option<Self> {
        Some(if other.less(&self)? { other } else { self })
    }

    fn max(self, other: Self) -> Option<Self> {
        Some(if self.less(&other)? { other } else { self })
    }

    fn json(self, data_type: &DataType, upper: bool) -> Option<Value> {
        Some(match (self, data_type) {
            (Self::Int(micros), DataType::Timestamp(..)) => Value::String(millis(micros, upper)?),
            (Self::Int(days), DataType::Date32) => {
                let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(days)?)?;
                Value::String(date.format("%Y-%m-%d").to_string())
            }
            (Self::Int(number), _) => Value::from(number),
            (Self::Float(number), _) => Value::Number(Number::from_f64(number)?),
            (Self::Text(text), _) => Value::String(text),
        })
    }
}

/// A timestamp in Delta's form, `2022-10-19T03:52:47.000Z`.
fn millis(micros: i64, upper: bool) -> Option<String> {
    let floor = micros.div_euclid(1000);
    let rounded = if upper && micros.rem_euclid(1000) != 0 { floor + 1 } else { floor };
    let time = DateTime::from_timestamp_millis(rounded)?;
    Some(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}
