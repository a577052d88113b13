//! Parts of dates, dates from text, and text from dates.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, StringViewArray, StringViewBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, DatePart, cast_with_options, date_part};
use arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_datafusion_err};
use datafusion::logical_expr::ColumnarValue;

use super::java_time::{Pattern, weekday_name};
use super::udf::{SparkFunction, constant_text, is_text};
use crate::decode::timestamp_type;

const MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * MICROS;

pub(super) fn functions() -> Vec<SparkFunction> {
    let part = |name, body| SparkFunction::new(name, one_time, DataType::Int32, body);
    let from_text = |name, returns, body| {
        SparkFunction::new(name, text_and_pattern, returns, body).with_check(check_pattern)
    };
    vec![
        part("year", |args, rows| parts(args, rows, DatePart::Year, |part| part)),
        part("quarter", |args, rows| parts(args, rows, DatePart::Quarter, |part| part)),
        part("month", |args, rows| parts(args, rows, DatePart::Month, |part| part)),
        part("day", |args, rows| parts(args, rows, DatePart::Day, |part| part)),
        part("dayofyear", |args, rows| parts(args, rows, DatePart::DayOfYear, |part| part)),
        part("weekofyear", |args, rows| parts(args, rows, DatePart::Week, |part| part)),
        // Sunday is the first day.
        part("dayofweek", |args, rows| parts(args, rows, DatePart::DayOfWeekSunday0, |part| part + 1)),
        part("hour", |args, rows| parts(args, rows, DatePart::Hour, |part| part)),
        part("minute", |args, rows| parts(args, rows, DatePart::Minute, |part| part)),
        part("second", |args, rows| parts(args, rows, DatePart::Second, |part| part)),
        SparkFunction::new("dayname", one_time, DataType::Utf8View, dayname),
        from_text("to_timestamp", timestamp_type(), |args, rows| read(args, rows, true)),
        from_text("try_to_timestamp", timestamp_type(), |args, rows| read(args, rows, false)),
        from_text("to_date", DataType::Date32, |args, rows| read_date(args, rows, true)),
        from_text("try_to_date", DataType::Date32, |args, rows| read_date(args, rows, false)),
        from_text("unix_timestamp", DataType::Int64, unix_timestamp),
        SparkFunction::new("date_format", time_and_pattern, DataType::Utf8View, date_format)
            .with_check(check_pattern),
        SparkFunction::new("from_unixtime", seconds_and_pattern, DataType::Utf8View, from_unixtime)
            .with_check(check_pattern),
        SparkFunction::new("timestamp_seconds", one_integer, timestamp_type(), |args, rows| {
            scaled(args, rows, MICROS)
        }),
        SparkFunction::new("timestamp_millis", one_integer, timestamp_type(), |args, rows| {
            scaled(args, rows, 1000)
        }),
        SparkFunction::new("timestamp_micros", one_integer, timestamp_type(), |args, rows| {
            scaled(args, rows, 1)
        }),
    ]
}

/// The type that a time or the text of one is taken as.
fn time_type(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Date32 | DataType::Date64 => Some(DataType::Date32),
        DataType::Timestamp(..) => Some(timestamp_type()),
        text if is_text(text) => Some(timestamp_type()),
        _ => None,
    }
}

fn one_time(found: &[DataType]) -> Result<Vec<DataType>, String> {
    match found {
        [time] => time_type(time).map(|time| vec![time]).ok_or(()),
        _ => Err(()),
    }
    .map_err(|()| "one date or timestamp".to_owned())
}

fn time_and_pattern(found: &[DataType]) -> Result<Vec<DataType>, String> {
    match found {
        [time, pattern] if is_text(pattern) && time_type(time).is_some() => {
            Ok(vec![timestamp_type(), DataType::Utf8])
        }
        _ => Err("a timestamp and a pattern".to_owned()),
    }
}

fn text_and_pattern(found: &[DataType]) -> Result<Vec<DataType>, String> {
    let input = |data_type: &DataType| match data_type {
        text if is_text(text) => Some(DataType::Utf8View),
        other => time_type(other),
    };
    match found {
        [text] => input(text).map(|input| vec![input]),
        [text, pattern] if is_text(pattern) => input(text).map(|input| vec![input, DataType::Utf8]),
        _ => None,
    }
    .ok_or_else(|| "a text, and a pattern such as 'yyyy-MM-dd'".to_owned())
}

fn seconds_and_pattern(found: &[DataType]) -> Result<Vec<DataType>, String> {
    match found {
        [number] if number.is_numeric() => Ok(vec![DataType::Int64]),
        [number, pattern] if number.is_numeric() && is_text(pattern) => {
            Ok(vec![DataType::Int64, DataType::Utf8])
        }
        _ => Err("seconds since 1970, and a pattern such as 'yyyy-MM-dd'".to_owned()),
    }
}

fn one_integer(found: &[DataType]) -> Result<Vec<DataType>, String> {
    match found {
        [number] if number.is_integer() => Ok(vec![DataType::Int64]),
        _ => Err("one integer".to_owned()),
    }
}

fn check_pattern(args: &[Option<&ScalarValue>]) -> Result<()> {
    match args.get(1).copied().flatten().and_then(constant_text) {
        Some(text) => Pattern::parse(text).map(|_| ()).map_err(|error| plan_datafusion_err!("{error}")),
        None => Ok(()),
    }
}

/// An argument as an array.
fn array(args: &[ColumnarValue], index: usize, rows: usize) -> Result<ArrayRef> {
    match args.get(index) {
        Some(value) => value.clone().into_array(rows),
        None => exec_err!("argument {} is missing", index + 1),
    }
}

/// A timestamp without its zone: all are UTC, and calendar arithmetic is quicker so.
fn in_utc(times: &ArrayRef) -> ArrayRef {
    match times.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => Arc::new(times.clone().with_timezone_opt(None::<Arc<str>>)),
        None => Arc::clone(times),
    }
}

fn parts(args: &[ColumnarValue], rows: usize, part: DatePart, change: fn(i32) -> i32) -> Result<ArrayRef> {
    let numbers = date_part(&in_utc(&array(args, 0, rows)?), part)?;
    let numbers = numbers.as_primitive::<Int32Type>().unary::<_, Int32Type>(change);
    Ok(Arc::new(numbers))
}

/// Microseconds since the epoch of an argument that is a date or a timestamp.
fn micros(args: &[ColumnarValue], rows: usize) -> Result<TimestampMicrosecondArray> {
    let times = in_utc(&array(args, 0, rows)?);
    let times = arrow::compute::cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().clone())
}

fn dayname(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let names = micros(args, rows)?;
    let names = names.iter().map(|time| {
        let day = DateTime::from_timestamp_micros(time?)?.weekday();
        weekday_name(day).get(..3)
    });
    Ok(Arc::new(names.collect::<StringViewArray>()))
}

/// The patterns of a call: one for all rows, compiled once, or one a row.
enum Patterns {
    None,
    One(Pattern),
    Each(Vec<Option<Pattern>>),
}

impl Patterns {
    fn of(args: &[ColumnarValue], index: usize) -> Result<Self> {
        let compile = |text: &str| Pattern::parse(text).map_err(DataFusionError::Execution);
        match args.get(index) {
            None => Ok(Self::None),
            Some(ColumnarValue::Scalar(value)) => match constant_text(value) {
                Some(text) => compile(text).map(Self::One),
                None => Ok(Self::Each(Vec::new())),
            },
            Some(ColumnarValue::Array(texts)) => {
                let texts = texts.as_string::<i32>();
                texts.iter().map(|text| text.map(compile).transpose()).collect::<Result<_>>().map(Self::Each)
            }
        }
    }

    fn get(&self, row: usize) -> Option<&Pattern> {
        match self {
            Self::None => None,
            Self::One(pattern) => Some(pattern),
            Self::Each(patterns) => patterns.get(row).and_then(Option::as_ref),
        }
    }
}

/// to_timestamp and try_to_timestamp.
fn read(args: &[ColumnarValue], rows: usize, strict: bool) -> Result<ArrayRef> {
    let texts = array(args, 0, rows)?;
    let patterns = Patterns::of(args, 1)?;
    let (Some(texts), false) = (texts.as_string_view_opt(), matches!(patterns, Patterns::None)) else {
        let options = CastOptions { safe: !strict, ..CastOptions::default() };
        return Ok(cast_with_options(&texts, &timestamp_type(), &options)?);
    };
    let mut times = TimestampMicrosecondArray::builder(texts.len());
    for (row, text) in texts.iter().enumerate() {
        let (Some(text), Some(pattern)) = (text, patterns.get(row)) else {
            times.append_null();
            continue;
        };
        match pattern.read(text) {
            Some(time) => times.append_value(time),
            None if strict => {
                return exec_err!("'{text}' does not fit the date pattern; try_to_timestamp gives NULL");
            }
            None => times.append_null(),
        }
    }
    Ok(Arc::new(times.finish().with_timezone("UTC")))
}

/// to_date and try_to_date.
fn read_date(args: &[ColumnarValue], rows: usize, strict: bool) -> Result<ArrayRef> {
    if let (1, Some(text)) = (args.len(), args.first())
        && text.data_type() == DataType::Utf8View
    {
        let options = CastOptions { safe: !strict, ..CastOptions::default() };
        return Ok(cast_with_options(&array(args, 0, rows)?, &DataType::Date32, &options)?);
    }
    let times = read(args, rows, strict)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let days = times.unary_opt::<_, Date32Type>(|time| i32::try_from(time.div_euclid(DAY_MICROS)).ok());
    Ok(Arc::new(Date32Array::from(days)))
}

fn unix_timestamp(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let times = read(args, rows, true)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(times.unary::<_, Int64Type>(|time| time.div_euclid(MICROS))))
}

fn written(times: impl Iterator<Item = Option<i64>>, patterns: &Patterns) -> ArrayRef {
    let mut texts = StringViewBuilder::new();
    for (row, time) in times.enumerate() {
        texts.append_option(time.and_then(|time| patterns.get(row)?.write(time)));
    }
    Arc::new(texts.finish())
}

fn date_format(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    Ok(written(micros(args, rows)?.iter(), &Patterns::of(args, 1)?))
}

fn from_unixtime(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let patterns = match Patterns::of(args, 1)? {
        Patterns::None => {
            Patterns::One(Pattern::parse("yyyy-MM-dd HH:mm:ss").map_err(DataFusionError::Execution)?)
        }
        patterns => patterns,
    };
    let seconds = array(args, 0, rows)?;
    let times = seconds.as_primitive::<Int64Type>().iter().map(|seconds| seconds?.checked_mul(MICROS));
    Ok(written(times, &patterns))
}

fn scaled(args: &[ColumnarValue], rows: usize, factor: i64) -> Result<ArrayRef> {
    let numbers = array(args, 0, rows)?;
    let numbers: &Int64Array = numbers.as_primitive();
    let times = numbers.try_unary::<_, TimestampMicrosecondType, DataFusionError>(|number| {
        number
            .checked_mul(factor)
            .ok_or_else(|| DataFusionError::Execution(format!("{number} is out of range")))
    })?;
    Ok(Arc::new(times.with_timezone("UTC")))
}
