//! Columns whose values are all different: a dictionary of them is built, found to be of no use and thrown away, row
//! group by row group. Pure.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use parquet::schema::types::ColumnPath;

/// Fewer values than this say nothing.
const ENOUGH: usize = 4096;
/// More values than this are not looked at.
const MOST: usize = 16_384;

/// The columns of a file, by its first rows, that are better written without a dictionary.
pub(super) fn without_dictionary(schema: &Schema, columns: &[ArrayRef]) -> Vec<ColumnPath> {
    let mut found = Vec::new();
    for (field, column) in schema.fields().iter().zip(columns) {
        let (path, values) = match column.data_type() {
            // What Parquet calls the items of a list.
            DataType::List(_) => (
                vec![field.name().clone(), "list".into(), "element".into()],
                column.as_list::<i32>().values(),
            ),
            _ => (vec![field.name().clone()], column),
        };
        if !values.data_type().is_nested() && are_different(values) {
            found.push(ColumnPath::new(path));
        }
    }
    found
}

/// Whether nearly all values are different. Of values drawn from some tens of thousands, which a dictionary still makes
/// smaller, enough are equal.
fn are_different(values: &ArrayRef) -> bool {
    let values = values.slice(0, values.len().min(MOST));
    let filled = values.len() - values.null_count();
    if filled < ENOUGH {
        return false;
    }
    let Ok(converter) = RowConverter::new(vec![SortField::new(values.data_type().clone())]) else {
        return false;
    };
    let Ok(rows) = converter.convert_columns(&[values]) else { return false };
    // All NULLs are one value.
    let different: HashSet<_> = rows.iter().collect();
    different.len() >= filled - filled / 20
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, Int64Array, ListArray, StringViewArray};
    use arrow::datatypes::{Field, Float64Type};

    use super::*;

    #[test]
    fn only_columns_of_different_values_go_without_a_dictionary() {
        let rows = 8192;
        let text = |text: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
            Arc::new((0..rows).map(text).collect::<StringViewArray>())
        };
        let pairs = (0..rows as i64).map(|n| Some(vec![Some(n as f64), Some(-1.0 - n as f64)]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("offset", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
            ("id", text(&|n| Some(format!("id {n}")))),
            ("pairs", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(pairs))),
            ("half", text(&|n| (n % 2 == 0).then(|| format!("id {n}")))),
            ("few", text(&|n| (n % 3 == 0).then(|| format!("id {n}")))),
            ("country", text(&|n| Some(format!("country {}", n % 200)))),
            // Every key of some is there twice, as where rows are drawn with replacement.
            ("key", Arc::new(Int32Array::from_iter_values((0..rows as i32).map(|n| n % 7000)))),
            ("nothing", text(&|_| None)),
        ];
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        let columns: Vec<ArrayRef> = columns.into_iter().map(|(_, column)| column).collect();
        let found = without_dictionary(&Schema::new(fields), &columns);
        let found: Vec<String> = found.iter().map(ColumnPath::string).collect();
        assert_eq!(found, ["offset", "id", "pairs.list.element", "half"]);
    }
}
