//! DataFusion set up to speak Spark SQL, and the way from a text to a plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo, Statement};
use datafusion_spark::SessionStateBuilderSpark;

use crate::{decode, functions, rewrite};

/// A session state with Spark's functions, types and operators.
pub(crate) fn spark_state(runtime: Arc<RuntimeEnv>, target_partitions: usize) -> Result<SessionState> {
    let mut config =
        SessionConfig::new().with_target_partitions(target_partitions).with_information_schema(false);
    let options = config.options_mut();
    // Names are matched by `rewrite` without regard to case, as Spark does, and otherwise kept as they are.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.enable_ansi_mode = true;
    // Spark's ORDER BY … DESC puts NULLs last, ASC puts them first.
    options.sql_parser.default_null_ordering = "nulls_min".to_owned();
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_spark_features()
        .with_type_planner(Arc::new(SparkTypes))
        .build();
    functions::register(&mut state)?;
    Ok(state)
}

/// Plans a statement that was parsed as Spark SQL. The plan is not yet optimised.
pub(crate) async fn plan(state: &SessionState, mut statement: Statement) -> Result<LogicalPlan> {
    rewrite::to_datafusion(&mut statement)?;
    state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await
}

/// SQL type names where Spark and DataFusion differ.
#[derive(Debug)]
struct SparkTypes;

impl TypePlanner for SparkTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let data_type = match sql_type {
            SqlType::Timestamp(..) => decode::timestamp_type(),
            SqlType::TimestampNtz(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Decimal(ExactNumberInfo::None)
            | SqlType::Dec(ExactNumberInfo::None)
            | SqlType::Numeric(ExactNumberInfo::None) => DataType::Decimal128(10, 0),
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}
