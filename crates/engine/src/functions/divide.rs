//! Division of floating point numbers, which in Spark does not give infinity.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::try_binary;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;

use super::udf::SparkFunction;

pub(super) fn divide() -> SparkFunction {
    SparkFunction::new("divide", |_| Ok(vec![DataType::Float64; 2]), DataType::Float64, quotients)
}

fn quotients(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let [left, right] = args else { return exec_err!("a division takes two numbers") };
    let (left, right) = (left.clone().into_array(rows)?, right.clone().into_array(rows)?);
    let divided = try_binary::<_, _, _, Float64Type>(
        left.as_primitive::<Float64Type>(),
        right.as_primitive::<Float64Type>(),
        |left, right| if right == 0.0 { Err(ArrowError::DivideByZero) } else { Ok(left / right) },
    )?;
    Ok(Arc::new(divided))
}
