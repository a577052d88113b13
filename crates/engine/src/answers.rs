//! The columns of an answer. An answer is kept as a table, so they are such as a table can have.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::clean::stored_type;

/// A column that no table can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Which, and why.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: &'static str,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.hint)
    }
}

/// The columns that a query finds, in the types in which they are given.
///
/// # Errors
/// The first column that no table can have.
pub(crate) fn columns(found: &Schema) -> Result<SchemaRef, Misfit> {
    let mut given: Vec<FieldRef> = Vec::with_capacity(found.fields().len());
    for field in found.fields() {
        if given.iter().any(|other| other.name().eq_ignore_ascii_case(field.name())) {
            return Err(Misfit {
                message: format!("two columns are called `{}` (case does not count)", field.name()),
                hint: "give one of them another name with AS",
            });
        }
        given.push(given_as(field)?);
    }
    Ok(Arc::new(Schema::new(given)))
}

fn given_as(field: &FieldRef) -> Result<FieldRef, Misfit> {
    let found = field.data_type();
    match given_type(found) {
        Some(given) if given == *found => Ok(Arc::clone(field)),
        Some(given) => Ok(Arc::new(Field::new(field.name(), given, field.is_nullable()))),
        None => Err(Misfit {
            message: format!("column `{}` is of type {found}, which no table holds", field.name()),
            hint: "CAST it to another type",
        }),
    }
}

/// A table takes strings and bytes in every form that the engine has them in; the rest is given as it is stored.
fn given_type(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Some(found.clone()),
        other => stored_type(other),
    }
}

/// The rows in these columns. A value that does not fit is an error, and never NULL.
pub(crate) fn given(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut arrays = Vec::with_capacity(rows.num_columns());
    for (column, field) in rows.columns().iter().zip(columns.fields()) {
        arrays.push(match column.data_type() == field.data_type() {
            true => Arc::clone(column),
            false => cast_with_options(column, field.data_type(), &options)?,
        });
    }
    RecordBatch::try_new(Arc::clone(columns), arrays)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, UInt64Array};
    use arrow::datatypes::{Int64Type, IntervalUnit};

    use super::*;

    #[test]
    fn a_column_that_no_table_can_have_is_named() {
        let column = |name: &str, data_type| Field::new(name, data_type, true);
        let refused = |fields: Vec<Field>| columns(&Schema::new(fields)).unwrap_err().to_string();
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        for data_type in [DataType::Null, interval, DataType::Decimal256(50, 2)] {
            let words = refused(vec![column("a", DataType::Int32), column("b", data_type)]);
            assert!(words.contains("`b`") && words.contains("CAST"), "{words}");
        }
        let words = refused(vec![column("ind", DataType::Int32), column("Ind", DataType::Int32)]);
        assert!(words.contains("`Ind`") && words.contains("AS"), "{words}");
    }

    #[test]
    fn numbers_that_a_table_has_no_type_for_are_given_in_one_that_holds_them() {
        let rows = |numbers: Vec<u64>| {
            let field = Field::new("n", DataType::UInt64, false);
            let array: ArrayRef = Arc::new(UInt64Array::from(numbers));
            RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
        };
        let few = rows(vec![1, 2]);
        let columns = columns(few.schema_ref()).unwrap();
        let found = given(&few, &columns).unwrap();
        assert_eq!(found.column(0).as_primitive::<Int64Type>().values().to_vec(), [1, 2]);
        assert!(given(&rows(vec![u64::MAX]), &columns).is_err());
    }
}
