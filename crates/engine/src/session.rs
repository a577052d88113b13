//! DataFusion set up to speak Spark SQL, and the way from a text to a plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType as SqlType, ExactNumberInfo, Statement};
use datafusion_spark::SessionStateBuilderSpark;

use crate::rewrite::Names;
use crate::{decode, functions, limits, rewrite};

/// A session state with Spark's functions, types and operators.
pub(crate) fn spark_state(runtime: Arc<RuntimeEnv>, target_partitions: usize) -> Result<SessionState> {
    let mut config =
        SessionConfig::new().with_target_partitions(target_partitions).with_information_schema(true);
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
    state.register_expr_planner(Arc::new(SparkOperators))?;
    functions::register(&mut state)?;
    Ok(state)
}

/// Plans a statement that was parsed as Spark SQL. The plan is not yet optimised.
pub(crate) async fn plan(state: &SessionState, statement: Statement) -> Result<LogicalPlan> {
    limits::on_large_stack(plan_here(state, statement)).await
}

/// Plans for running.
pub(crate) async fn physical(state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    limits::on_large_stack(state.create_physical_plan(plan)).await
}

async fn plan_here(state: &SessionState, mut statement: Statement) -> Result<LogicalPlan> {
    rewrite::to_datafusion(&mut statement, names(state).await)?;
    let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await?;
    limits::check_plan(&plan)?;
    // Nothing but questions: no CREATE, no INSERT, no SET.
    let only_questions =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_questions.verify_plan(&plan)?;
    Ok(plan)
}

/// The tables and columns that a session knows.
async fn names(state: &SessionState) -> Names {
    let mut names = Names::default();
    let options = &state.config_options().catalog;
    let schema = state
        .catalog_list()
        .catalog(&options.default_catalog)
        .and_then(|catalog| catalog.schema(&options.default_schema));
    let Some(schema) = schema else { return names };
    for name in schema.table_names() {
        names.add(&name);
        if let Ok(Some(table)) = schema.table(&name).await {
            table.schema().fields().iter().for_each(|field| names.add(field.name()));
        }
    }
    names
}

/// Operators where Spark and DataFusion differ: `/` of integers is a DOUBLE, `div` is a BIGINT, and dividing by
/// zero is an error for every type.
#[derive(Debug)]
struct SparkOperators;

impl ExprPlanner for SparkOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let kinds = (expr.left.get_type(schema), expr.right.get_type(schema));
        let (Ok(left), Ok(right)) = kinds else { return Ok(PlannerResult::Original(expr)) };
        let decimal =
            |data_type: &DataType| matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..));
        let to = |expr: Expr, data_type: DataType| Expr::Cast(Cast::new(Box::new(expr), data_type));
        match expr.op {
            BinaryOperator::Divide if !decimal(&left) && !decimal(&right) => {
                let args = vec![to(expr.left, DataType::Float64), to(expr.right, DataType::Float64)];
                let divide = Arc::new(functions::divide());
                Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(divide, args))))
            }
            BinaryOperator::MyIntegerDivide => {
                let (left, right) = (to(expr.left, DataType::Int64), to(expr.right, DataType::Int64));
                let divide = BinaryExpr::new(Box::new(left), Operator::Divide, Box::new(right));
                Ok(PlannerResult::Planned(Expr::BinaryExpr(divide)))
            }
            BinaryOperator::StringConcat if functions::is_text(&left) && functions::is_text(&right) => {
                Ok(PlannerResult::Planned(concatenated(expr.left, expr.right)))
            }
            _ => Ok(PlannerResult::Original(expr)),
        }
    }
}

/// `left || right`, with the parts of `left` where it is such a call: a chain of a hundred is one call of a hundred
/// parts, whose length is limited, and no tree of a hundred levels.
fn concatenated(left: Expr, right: Expr) -> Expr {
    let concat = functions::concat();
    let mut parts = match left {
        Expr::ScalarFunction(call) if *call.func == concat => call.args,
        other => vec![other],
    };
    parts.push(right);
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(concat), parts))
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
