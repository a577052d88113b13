//! Limits on what a function may make of its arguments.
//!
//! The memory of a query is accounted for where its operators keep rows, not where an expression makes a value. So a
//! function whose result can be much larger than its arguments is asked beforehand how large, from the lengths and
//! numbers that it is given, and refused where that is too much. Where the arguments that decide are constants,
//! planning refuses it already.

use std::cell::OnceCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// The largest value that a function may make, in bytes: above every record that the gateway takes.
pub(super) const MAX_VALUE: u128 = 64 << 20;
/// What a call may make for all rows of a batch, in bytes.
const MAX_CALL: u128 = 256 << 20;
/// A call whose arguments hold more than that may make as much as they hold, up to this. Offsets of text end at twice it.
const MAX_LARGE_CALL: u128 = 1 << 30;
/// A width or precision above this is more than Rust's formatting takes.
const MAX_WIDTH: u128 = 65_535;

/// At most how many bytes a call makes for a row; the error says what is wrong with the arguments.
type Size = fn(&[Column], usize) -> Result<u128, String>;

/// What can grow, and how.
const RULES: &[(&str, Size)] = &[
    ("repeat", |args, row| Ok(bytes(args, 0, row) * count(args, 1, row))),
    ("space", |args, row| Ok(count(args, 0, row))),
    ("lpad", padded),
    ("rpad", padded),
    ("replace", replaced),
    ("concat", all),
    ("concat_ws", joined_by_first),
    ("format_string", formatted),
    ("array_repeat", |args, row| Ok((bytes(args, 0, row) + ITEM) * count(args, 1, row))),
    ("array_resize", |args, row| Ok((bytes(args, 2, row) + ITEM) * count(args, 1, row))),
    ("array_to_string", joined),
    ("array_concat", all),
    ("range", series),
    ("generate_series", series),
    // These only multiply by a few; nested into each other they have no end.
    ("hex", |args, row| Ok(2 * bytes(args, 0, row).max(ITEM))),
    ("base64", |args, row| Ok(2 * bytes(args, 0, row))),
    ("encode", |args, row| Ok(2 * bytes(args, 0, row))),
    ("url_encode", |args, row| Ok(3 * bytes(args, 0, row))),
    ("quote", |args, row| Ok(2 * bytes(args, 0, row) + 2)),
    ("overlay", all),
];

/// Bytes of a list's item beside its text.
const ITEM: u128 = 8;

/// Puts the limits around the functions of a session.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    for (name, size) in RULES {
        let function = state.scalar_functions().get(*name).map(Arc::clone);
        if let Some(inner) = function {
            state.register_udf(Arc::new(ScalarUDF::from(Bounded { inner, size: *size })))?;
        }
    }
    Ok(())
}

/// A function with its limit.
pub(super) fn bounded(inner: Arc<ScalarUDF>) -> ScalarUDF {
    let size = RULES.iter().find(|(name, _)| *name == inner.name()).map_or(all as Size, |(_, size)| *size);
    ScalarUDF::from(Bounded { inner, size })
}

/// A function that is asked how much it makes before it is called.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    size: Size,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

// What is not handed on lets the planner simplify calls, into calls of the function without its limit among others.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if args.scalar_arguments.iter().any(Option::is_some) {
            let arg = |(field, constant): (&FieldRef, &Option<&ScalarValue>)| match constant {
                Some(constant) => constant.to_array(),
                // Nothing is known of it, so it counts nothing.
                None => Ok(new_null_array(field.data_type(), 1)),
            };
            let args: Result<Vec<ArrayRef>> =
                args.arg_fields.iter().zip(args.scalar_arguments).map(arg).collect();
            let args: Vec<Column> = args?.into_iter().map(Column::constant).collect();
            if let Err(reason) = self.check(&args, 1) {
                return plan_err!("{reason}");
            }
        }
        self.inner.return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::from(Self { inner, size: self.size }))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let columns: Result<Vec<Column>> = args.args.iter().map(Column::of).collect();
        match self.check(&columns?, if constant { 1 } else { args.number_rows }) {
            Ok(()) => self.inner.invoke_with_args(args),
            Err(reason) => exec_err!("{reason}"),
        }
    }
}

impl Bounded {
    /// Whether a call may be made; the error says why not.
    fn check(&self, args: &[Column], rows: usize) -> Result<(), String> {
        let name = self.inner.name();
        let (mut made, mut given) = (0, 0);
        for row in 0..rows {
            let size = (self.size)(args, row).map_err(|reason| format!("{name}: {reason}"))?;
            if size > MAX_VALUE {
                return Err(format!(
                    "{name} would make a value of {} bytes; the limit is {} MiB",
                    shown(size),
                    MAX_VALUE >> 20
                ));
            }
            made += size;
            given += (0..args.len()).map(|index| bytes(args, index, row)).sum::<u128>();
        }
        let most = given.clamp(MAX_CALL, MAX_LARGE_CALL);
        if made > most {
            return Err(format!(
                "{name} would make {} bytes for {rows} rows; the limit is {} MiB",
                shown(made),
                most >> 20
            ));
        }
        Ok(())
    }
}

fn shown(bytes: u128) -> String {
    const COUNTLESS: u128 = 1 << 64;
    if bytes >= COUNTLESS { "more than 2^64".to_owned() } else { bytes.to_string() }
}

/// An argument over the rows of a batch.
struct Column {
    values: ArrayRef,
    constant: bool,
    numbers: OnceCell<Option<Int64Array>>,
}

impl Column {
    fn of(value: &ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Array(values) => {
                Ok(Self { constant: false, ..Self::constant(Arc::clone(values)) })
            }
            ColumnarValue::Scalar(value) => Ok(Self::constant(value.to_array()?)),
        }
    }

    fn constant(values: ArrayRef) -> Self {
        Self { values, constant: true, numbers: OnceCell::new() }
    }

    fn at(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    /// The number in a row; `None` for NULL, and for what is not a number.
    fn number(&self, row: usize) -> Option<i64> {
        let numbers = self.numbers.get_or_init(|| {
            let numbers = cast(&self.values, &DataType::Int64).ok()?;
            numbers.as_primitive_opt().cloned()
        });
        let (numbers, row) = (numbers.as_ref()?, self.at(row));
        numbers.is_valid(row).then(|| numbers.value(row))
    }

    fn text(&self, row: usize) -> Option<&str> {
        let row = self.at(row);
        if self.values.is_null(row) {
            return None;
        }
        match self.values.data_type() {
            DataType::Utf8 => Some(self.values.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(self.values.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(self.values.as_string_view().value(row)),
            _ => None,
        }
    }
}

/// Bytes of an argument in a row; 0 for NULL and for an argument that is not there.
fn bytes(args: &[Column], index: usize, row: usize) -> u128 {
    args.get(index).map_or(0, |arg| value_bytes(&arg.values, arg.at(row)))
}

fn value_bytes(values: &ArrayRef, row: usize) -> u128 {
    if values.is_null(row) {
        return 0;
    }
    let length = match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => values.as_string::<i64>().value(row).len(),
        DataType::Utf8View => values.as_string_view().value(row).len(),
        DataType::Binary => values.as_binary::<i32>().value(row).len(),
        DataType::LargeBinary => values.as_binary::<i64>().value(row).len(),
        DataType::BinaryView => values.as_binary_view().value(row).len(),
        _ => {
            return list(values, row)
                .map_or(ITEM, |items| (0..items.len()).map(|item| value_bytes(&items, item) + ITEM).sum());
        }
    };
    length as u128
}

/// The items of a list in a row, where it is one.
fn list(values: &ArrayRef, row: usize) -> Option<ArrayRef> {
    match values.data_type() {
        DataType::List(_) => Some(values.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(values.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => Some(values.as_fixed_size_list().value(row)),
        _ => None,
    }
}

/// How many items a list has in a row; one for anything else.
fn items(args: &[Column], index: usize, row: usize) -> u128 {
    let items = args.get(index).and_then(|arg| list(&arg.values, arg.at(row)));
    items.map_or(1, |items| items.len() as u128)
}

/// A number that says how often; none and less than none is never.
fn count(args: &[Column], index: usize, row: usize) -> u128 {
    args.get(index)
        .and_then(|arg| arg.number(row))
        .and_then(|number| u128::try_from(number).ok())
        .unwrap_or_default()
}

fn all(args: &[Column], row: usize) -> Result<u128, String> {
    Ok((0..args.len()).map(|index| bytes(args, index, row)).sum())
}

/// Padding up to a number of characters, of at most four bytes each.
fn padded(args: &[Column], row: usize) -> Result<u128, String> {
    Ok(4 * count(args, 1, row))
}

/// Values joined by the first argument.
fn joined_by_first(args: &[Column], row: usize) -> Result<u128, String> {
    let values = 1..args.len();
    let text = values.clone().map(|index| bytes(args, index, row)).sum::<u128>();
    Ok(text + values.map(|index| items(args, index, row)).sum::<u128>() * bytes(args, 0, row))
}

/// A list's items joined by the second argument, with the third in the place of NULL.
fn joined(args: &[Column], row: usize) -> Result<u128, String> {
    let beside = bytes(args, 1, row) + bytes(args, 2, row);
    Ok(bytes(args, 0, row) + items(args, 0, row) * beside)
}

/// A text with each occurrence of another replaced.
fn replaced(args: &[Column], row: usize) -> Result<u128, String> {
    let text = |index: usize| args.get(index).and_then(|arg| arg.text(row)).unwrap_or_default();
    let (whole, from, to) = (text(0), text(1), text(2));
    if to.len() <= from.len() {
        return Ok(whole.len() as u128);
    }
    let size = |occurrences: usize| whole.len() as u128 + occurrences as u128 * to.len() as u128;
    // Counting takes as long as replacing: it is done where the guess is too much.
    let guess = size(whole.len() / from.len().max(1) + 1);
    Ok(if guess <= MAX_VALUE { guess } else { size(whole.matches(from).count()) })
}

/// A format's text, its widths and precisions, and the largest argument for each of its places.
fn formatted(args: &[Column], row: usize) -> Result<u128, String> {
    /// Digits of the largest double, and some more.
    const NUMBER: u128 = 400;
    let format = args.first().and_then(|arg| arg.text(row)).unwrap_or_default();
    let largest = (1..args.len()).map(|index| bytes(args, index, row)).max().unwrap_or_default();
    let mut size = format.len() as u128;
    for place in format.split('%').skip(1) {
        size += largest.max(NUMBER);
        let spec = place.split(|c: char| c.is_ascii_alphabetic()).next().unwrap_or_default();
        for number in spec.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
            // Too many digits for a number are too many for a width.
            let number: u128 = number.parse().unwrap_or(u128::MAX);
            if number > MAX_WIDTH {
                return Err(format!("a width or precision may be at most {MAX_WIDTH}"));
            }
            size += number;
        }
    }
    Ok(size)
}

/// The numbers or times from one to another.
fn series(args: &[Column], row: usize) -> Result<u128, String> {
    let number = |index: usize| args.get(index).and_then(|arg| arg.number(row)).map(i128::from);
    let (start, stop) = match args.len() {
        1 => (Some(0), number(0)),
        _ => (number(0), number(1)),
    };
    let (Some(start), Some(stop)) = (start, stop) else { return Ok(0) };
    let (step, unit) = match args.get(2) {
        None => (1, 1),
        Some(step) => match step_of(step, row) {
            Some(step) => (step, unit_of(args.first())),
            None => return Ok(u128::MAX),
        },
    };
    // A step of nothing is refused by the function itself.
    let span = (stop - start).unsigned_abs() * unit;
    Ok(span.checked_div(step).map_or(0, |steps| (steps + 1) * ITEM))
}

/// The least length of a step: a number, or nanoseconds; `None` where its parts go both ways.
fn step_of(step: &Column, row: usize) -> Option<u128> {
    let DataType::Interval(IntervalUnit::MonthDayNano) = step.values.data_type() else {
        return Some(step.number(row).unwrap_or_default().unsigned_abs().into());
    };
    let values = step.values.as_primitive::<IntervalMonthDayNanoType>();
    let (months, days, nanos) = IntervalMonthDayNanoType::to_parts(values.value(step.at(row)));
    let parts = [i64::from(months), i64::from(days), nanos];
    if parts.iter().any(|part| *part < 0) && parts.iter().any(|part| *part > 0) {
        return None;
    }
    let days = u128::from(months.unsigned_abs()) * 28 + u128::from(days.unsigned_abs());
    Some(days * u128::from(NANOS_PER_DAY) + u128::from(nanos.unsigned_abs()))
}

const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// What one is in the numbers behind a type: nanoseconds for times, one for numbers.
fn unit_of(start: Option<&Column>) -> u128 {
    let unit = match start.map(|start| start.values.data_type()) {
        Some(DataType::Date32) => NANOS_PER_DAY,
        Some(DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _)) => 1_000_000,
        Some(DataType::Timestamp(TimeUnit::Second, _)) => 1_000_000_000,
        Some(DataType::Timestamp(TimeUnit::Microsecond, _)) => 1000,
        _ => 1,
    };
    unit.into()
}
