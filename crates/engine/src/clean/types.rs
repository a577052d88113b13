//! The types that a clean column may have: those that a Delta table can hold and every reader knows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use crate::decode::timestamp_type;

/// The type a column is stored with; `None` when there is none.
pub(crate) fn stored_type(found: &DataType) -> Option<DataType> {
    Some(match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(..) => timestamp_type(),
        DataType::Date64 => DataType::Date32,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            // Delta calls it so.
            DataType::List(Arc::new(Field::new("element", inner_type(item.data_type())?, true)))
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Some(Field::new(field.name(), inner_type(field.data_type())?, true)))
                .collect::<Option<_>>()?,
        ),
        DataType::Dictionary(_, value) => stored_type(value)?,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => found.clone(),
        _ => return None,
    })
}

/// Inside of lists and structs, plain text: not every writer takes views there.
fn inner_type(found: &DataType) -> Option<DataType> {
    match stored_type(found)? {
        DataType::Utf8View => Some(DataType::Utf8),
        other => Some(other),
    }
}
