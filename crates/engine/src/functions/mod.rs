//! Spark functions that DataFusion and datafusion-spark do not have, or have with other semantics.
//!
//! Semantics are those of Spark 4 as it comes, with `spark.sql.ansi.enabled`: a cast, a date or a division that
//! cannot be done is an error, which in a clean SELECT puts that row into quarantine with the error as its reason;
//! the `try_` forms give NULL. Times are UTC (`spark.sql.session.timeZone` = UTC). One difference stays: sums and
//! products of integers wrap around where Spark reports an overflow.

mod bounded;
mod dates;
mod divide;
mod java_time;
mod mode;
mod strings;
mod udf;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// Registers them all.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for function in dates::functions().into_iter().chain(strings::functions()) {
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    state.register_udaf(Arc::new(AggregateUDF::from(mode::Mode::new())))?;
    bounded::register(state)
}

/// `||` between texts: NULL where one of them is.
pub(crate) fn concat() -> ScalarUDF {
    bounded::bounded(datafusion_spark::function::string::concat())
}

/// `/` between numbers.
pub(crate) fn divide() -> ScalarUDF {
    ScalarUDF::from(divide::divide())
}

/// True for the types of text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    *data_type != DataType::Null && udf::is_text(data_type)
}
