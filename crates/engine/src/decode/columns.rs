//! Arrow columns built row by row.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, NullBufferBuilder, PrimitiveArray, StringViewArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int32Type, Int64Type};
use pinmill_pipeline::RawType;

/// A value of one field in the row being read. Nothing reaches a column before the whole row is known to be good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// No member of that name.
    Missing,
    /// JSON null.
    Null,
    /// A string view into the chunk or into the scratch buffer.
    Text(u128),
    /// INT.
    Int(i32),
    /// BIGINT.
    BigInt(i64),
    /// DOUBLE.
    Double(f64),
    /// BOOLEAN.
    Boolean(bool),
}

/// The Arrow type of a raw field.
pub(crate) fn arrow_type(raw: RawType) -> DataType {
    match raw {
        RawType::String => DataType::Utf8View,
        RawType::Int => DataType::Int32,
        RawType::BigInt => DataType::Int64,
        RawType::Double => DataType::Float64,
        RawType::Boolean => DataType::Boolean,
    }
}

/// One column under construction.
#[derive(Debug)]
pub(super) struct Column {
    values: Values,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Text(Vec<u128>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Double(Vec<f64>),
    Boolean(Vec<bool>),
}

impl Column {
    pub(super) fn new(raw: RawType) -> Self {
        let values = match raw {
            RawType::String => Values::Text(Vec::new()),
            RawType::Int => Values::Int(Vec::new()),
            RawType::BigInt => Values::BigInt(Vec::new()),
            RawType::Double => Values::Double(Vec::new()),
            RawType::Boolean => Values::Boolean(Vec::new()),
        };
        Self { values, nulls: NullBufferBuilder::new(1024) }
    }

    /// Appends a cell; one that is not of the column's type counts as NULL.
    pub(super) fn push(&mut self, cell: Cell) {
        let filled = match (&mut self.values, cell) {
            (Values::Text(values), Cell::Text(view)) => push(values, view),
            (Values::Int(values), Cell::Int(value)) => push(values, value),
            (Values::BigInt(values), Cell::BigInt(value)) => push(values, value),
            (Values::Double(values), Cell::Double(value)) => push(values, value),
            (Values::Boolean(values), Cell::Boolean(value)) => push(values, value),
            (values, _) => {
                values.push_default();
                false
            }
        };
        self.nulls.append(filled);
    }

    /// The column's array; the builder is empty afterwards. `buffers` are what string views point into.
    pub(super) fn finish(&mut self, buffers: &Arc<[Buffer]>) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Text(values) => {
                let views = ScalarBuffer::from(std::mem::take(values));
                text(views, Arc::clone(buffers), nulls)
            }
            Values::Int(values) => primitive::<Int32Type>(values, nulls),
            Values::BigInt(values) => primitive::<Int64Type>(values, nulls),
            Values::Double(values) => primitive::<Float64Type>(values, nulls),
            Values::Boolean(values) => Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls)),
        }
    }
}

impl Values {
    fn push_default(&mut self) {
        match self {
            Self::Text(values) => values.push(0),
            Self::Int(values) => values.push(0),
            Self::BigInt(values) => values.push(0),
            Self::Double(values) => values.push(0.0),
            Self::Boolean(values) => values.push(false),
        }
    }
}

fn push<T>(values: &mut Vec<T>, value: T) -> bool {
    values.push(value);
    true
}

#[allow(
    unsafe_code,
    reason = "checking all text for UTF-8 once more would cost a tenth of the time of decoding"
)]
fn text(
    views: ScalarBuffer<u128>,
    buffers: Arc<[Buffer]>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> ArrayRef {
    // In tests the check is made all the same.
    #[cfg(debug_assertions)]
    if let Err(error) = StringViewArray::try_new(views.clone(), Arc::clone(&buffers), nulls.clone()) {
        unreachable!("a view of text is wrong: {error}");
    }
    // SAFETY: every view is either 0, the empty text, or was made by `Text` of a `&str` that lies, at the offset
    // and in the buffer that the view names, in one of `buffers`: the chunks are never changed, and the scratch
    // buffer is only cut back behind views that were thrown away with their row.
    Arc::new(unsafe { StringViewArray::new_unchecked(views, buffers, nulls) })
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(std::mem::take(values)), nulls))
}
