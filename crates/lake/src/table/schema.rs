//! Arrow and Delta schemas, and how they may differ. Pure.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::{StructField, StructType};

/// Columns that every clean row has beside its own: `_topic STRING, _lineage INT, _partition INT, _offset BIGINT, _sub INT,
/// _ingested_at TIMESTAMP`. Rows of 0.1 have NULL in `_topic`, `_lineage` and `_sub`.
pub fn system_columns() -> [Field; 6] {
    [
        Field::new(TOPIC, DataType::Utf8, true),
        Field::new("_lineage", DataType::Int32, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_sub", DataType::Int32, true),
        Field::new("_ingested_at", timestamp(), true),
    ]
}

/// The column of a clean row that names its topic.
pub(super) const TOPIC: &str = "_topic";

/// TIMESTAMP: microseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A schema as tables have it: strings as `Utf8`, timestamps as microseconds UTC, list elements called `element`,
/// every column nullable.
///
/// # Errors
/// Names the column whose type no table column can have.
pub fn table_schema(schema: &Schema) -> Result<SchemaRef, String> {
    let field = |field: &FieldRef| match plain_type(field.data_type()) {
        Some(data_type) => Ok(Field::new(field.name(), data_type, true)),
        None => Err(format!(
            "column `{}` has type {}, which a table column cannot have",
            field.name(),
            field.data_type()
        )),
    };
    let fields: Vec<Field> = schema.fields().iter().map(field).collect::<Result<_, _>>()?;
    for (index, field) in fields.iter().enumerate() {
        let same = |other: &Field| other.name().eq_ignore_ascii_case(field.name());
        if fields.iter().take(index).any(same) {
            return Err(format!("two columns are called `{}` (case does not count)", field.name()));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The table's type for a row's type; several encodings of one SQL type become one.
fn plain_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, values) => plain_type(values)?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(..) => data_type.clone(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => timestamp(),
        DataType::List(element) | DataType::LargeList(element) => {
            DataType::List(Arc::new(Field::new("element", plain_type(element.data_type())?, true)))
        }
        DataType::Struct(fields) => {
            let plain =
                |field: &FieldRef| Some(Field::new(field.name(), plain_type(field.data_type())?, true));
            DataType::Struct(fields.iter().map(plain).collect::<Option<Vec<_>>>()?.into())
        }
        _ => return None,
    })
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z" | "Etc/UTC")
}

pub(super) fn to_delta(schema: &Schema) -> Result<Vec<StructField>, String> {
    let delta: StructType = schema.try_into_kernel().map_err(|e| e.to_string())?;
    Ok(delta.fields().cloned().collect())
}

pub(super) fn to_arrow(schema: &StructType) -> Result<SchemaRef, String> {
    let arrow: Schema = schema.try_into_arrow().map_err(|e| e.to_string())?;
    table_schema(&arrow)
}

/// What must happen to a table before rows of another schema can go into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Evolution {
    /// Nothing.
    Same,
    /// These columns must be added.
    Add(Vec<Field>),
}

/// Rows may lack no column, may not change a type, and may have new columns. Order does not matter.
pub(super) fn evolution(table: &Schema, rows: &Schema) -> Result<Evolution, String> {
    for column in table.fields() {
        let Ok(new) = rows.field_with_name(column.name()) else {
            return Err(format!("column `{}` is in the table and not in the rows", column.name()));
        };
        if new.data_type() != column.data_type() {
            let (there, given) = (column.data_type(), new.data_type());
            return Err(format!(
                "column `{}` is {there} in the table and {given} in the rows",
                column.name()
            ));
        }
    }
    let is_new = |field: &&FieldRef| table.field_with_name(field.name()).is_err();
    let added: Vec<Field> = rows.fields().iter().filter(is_new).map(|field| field.as_ref().clone()).collect();
    for field in &added {
        if table.fields().iter().any(|column| column.name().eq_ignore_ascii_case(field.name())) {
            return Err(format!("column `{}` is in the table in other case", field.name()));
        }
    }
    Ok(if added.is_empty() { Evolution::Same } else { Evolution::Add(added) })
}
