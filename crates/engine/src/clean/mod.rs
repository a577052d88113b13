//! Cleaning: a dataset's SELECT and expectations, planned once and run over batch after batch.

mod reason;
mod run;
mod select;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use pinmill_pipeline::{Action, Dataset, Expectation, Problem, Problems, nearest, sql};

use self::reason::Reason;
pub(crate) use self::run::SqlCleaner;
pub(crate) use self::types::stored_type;
use crate::decode::{POSITION_COLUMNS, raw_schema};
use crate::diagnose::{Place, unknown_functions};
use crate::session;
use crate::steps::Steps;

/// Name of the clean row in the queries that expectations become.
const CLEAN_ROW: &str = "clean_row";

/// A dataset's cleaning, planned.
#[derive(Debug, Clone)]
pub(crate) struct CleanPlan {
    dataset: String,
    clean_file: String,
    raw: SchemaRef,
    /// Raw row to all columns of the SELECT, the position columns and `_row`.
    steps: Steps,
    /// What `steps` give, in the types they are stored with.
    full: SchemaRef,
    expectations: Vec<Verdict>,
    /// Indices in `full` of the columns of the clean row, the position columns last.
    stored: Vec<usize>,
    output: SchemaRef,
}

/// An expectation, ready to be used.
#[derive(Debug, Clone)]
struct Verdict {
    name: String,
    action: Action,
    reason: Reason,
    /// The full row to one column: the condition.
    steps: Steps,
}

impl CleanPlan {
    /// Plans a dataset's SELECT and expectations; the error has every problem found.
    pub(crate) async fn new(state: SessionState, dataset: &Dataset) -> Result<Self, Problems> {
        let context = SessionContext::new_with_state(state);
        let raw = raw_schema(dataset);
        let (steps, full) = plan_select(&context, dataset, &raw).await?;
        let mut problems: Vec<Problem> = check_key(dataset, &full).into_iter().collect();
        let mut expectations = Vec::new();
        for expectation in &dataset.expectations {
            match plan_expectation(&context, expectation, &full).await {
                Ok(verdict) => expectations.push(verdict),
                Err(found) => problems.extend(found.0),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let is_stored = |name: &str| !name.starts_with('_') || POSITION_COLUMNS.contains(&name);
        let (stored, fields): (Vec<usize>, Vec<Arc<Field>>) = full
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| is_stored(field.name()))
            .map(|(index, field)| (index, Arc::clone(field)))
            .unzip();
        Ok(Self {
            dataset: dataset.name.clone(),
            clean_file: dataset.clean.path.display().to_string(),
            raw,
            steps,
            full,
            expectations,
            stored,
            output: Arc::new(Schema::new(fields)),
        })
    }

    /// Schema of the clean rows.
    pub(crate) fn output(&self) -> &SchemaRef {
        &self.output
    }
}

/// Plans the clean SELECT: its steps, and the schema of what they give once cast to the types that are stored.
async fn plan_select(
    context: &SessionContext,
    dataset: &Dataset,
    raw: &SchemaRef,
) -> Result<(Steps, SchemaRef), Problems> {
    let place = Place::file(&dataset.clean.path);
    let one = |problem: Problem| Problems(vec![problem]);
    let mut statement =
        sql::parse_statement(&dataset.clean.text).map_err(|error| one(place.syntax(&error)))?;
    select::prepare(&mut statement, dataset, place).map_err(one)?;
    let plan = plan_statement(context, statement, &dataset.raw_table(), raw, place).await?;
    let (steps, found) = row_wise(context, &plan, raw, place).await.map_err(one)?;
    let own = found.fields().len().saturating_sub(POSITION_COLUMNS.len() + 1);
    let mut fields = Vec::with_capacity(found.fields().len());
    for (index, field) in found.fields().iter().enumerate() {
        let Some(stored) = stored_type(field.data_type()) else {
            let message =
                format!("column `{}` is of type {}, which no table holds", field.name(), field.data_type());
            return Err(one(Problem::new(place.file, (1, 1), message).with_hint("CAST it to another type")));
        };
        // Positions are always there and keep the types they have.
        let field = match index < own {
            true => Arc::new(Field::new(field.name(), stored, true)),
            false => Arc::clone(field),
        };
        fields.push(field);
    }
    Ok((steps, Arc::new(Schema::new(fields))))
}

/// Plans one statement over one table, and checks what a row-wise SELECT must not have.
async fn plan_statement(
    context: &SessionContext,
    statement: Statement,
    table: &str,
    schema: &SchemaRef,
    place: Place<'_>,
) -> Result<LogicalPlan, Problems> {
    let unknown = unknown_functions(&context.state(), place, &statement);
    if !unknown.is_empty() {
        return Err(Problems(unknown));
    }
    let one = |error: &datafusion::common::DataFusionError| Problems(vec![place.planner(error)]);
    let provider = Arc::new(EmptyTable::new(Arc::clone(schema)));
    let reference = datafusion::common::TableReference::bare(table);
    context.deregister_table(reference.clone()).map_err(|error| one(&error))?;
    context.register_table(reference, provider).map_err(|error| one(&error))?;
    let plan = session::plan(&context.state(), statement).await.map_err(|error| one(&error))?;
    match not_repeatable(&plan) {
        Some(name) => Err(Problems(vec![
            Problem::new(place.file, place.start, format!("{name} gives another value each time")).with_hint(
                "a record must be cleaned to the same row whenever it is; use _ingested_at for a time",
            ),
        ])),
        None => Ok(plan),
    }
}

/// The first function that does not give the same value each time, if there is one.
fn not_repeatable(plan: &LogicalPlan) -> Option<String> {
    let mut found = None;
    let _ = plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            if let Expr::ScalarFunction(call) = expr
                && call.func.signature().volatility != Volatility::Immutable
            {
                found = Some(format!("{}()", call.func.name()));
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found
}

/// The steps of a planned row-wise SELECT over rows of `input`, and the schema of what they give.
async fn row_wise(
    context: &SessionContext,
    plan: &LogicalPlan,
    input: &SchemaRef,
    place: Place<'_>,
) -> Result<(Steps, SchemaRef), Problem> {
    let physical = session::physical(&context.state(), plan).await.map_err(|error| place.planner(&error))?;
    let steps = Steps::of_plan(&physical, input).map_err(|operator| {
        Problem::new(place.file, place.start, format!("it is not row-wise: it needs a {operator}"))
            .with_hint("use expressions over the columns of one row only")
    })?;
    Ok((steps, physical.schema()))
}

/// Checks that the clean row has its key.
fn check_key(dataset: &Dataset, full: &SchemaRef) -> Option<Problem> {
    let names: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
    if names.contains(&dataset.key.as_str()) {
        return None;
    }
    let hint = match nearest(&dataset.key, names.iter().copied()) {
        Some(meant) => format!("did you mean key = \"{meant}\" in pipeline.toml?"),
        None => "select a column of that name, or set another key in pipeline.toml".to_owned(),
    };
    let message = format!("the clean row has no column `{}`, the key of `{}`", dataset.key, dataset.name);
    Some(Problem::new(&dataset.clean.path, (1, 1), message).with_hint(hint))
}

/// Plans an expectation over the clean row.
async fn plan_expectation(
    context: &SessionContext,
    expectation: &Expectation,
    full: &SchemaRef,
) -> Result<Verdict, Problems> {
    let file = std::path::Path::new("pipeline.toml");
    let place = Place { file, start: expectation.position };
    let one = |problem: Problem| Problems(vec![problem]);
    let expr = sql::parse_expression(&expectation.sql).map_err(|error| one(place.syntax(&error)))?;
    let statement = select::condition(expr, CLEAN_ROW);
    let plan = plan_statement(context, statement, CLEAN_ROW, full, place).await?;
    let (steps, schema) = row_wise(context, &plan, full, place).await.map_err(one)?;
    if schema.fields().len() != 1 || schema.field(0).data_type() != &DataType::Boolean {
        let message = format!("expectation `{}` is not a condition", expectation.name);
        return Err(one(Problem::new(file, expectation.position, message)
            .with_hint("write something that is true or false, such as age >= 0")));
    }
    let reason = Reason::parse(&expectation.reason, full).map_err(|name| {
        let names = full.fields().iter().map(|field| field.name().as_str());
        let hint = nearest(&name, names).map(|meant| format!("did you mean {{{meant}}}?"));
        let message =
            format!("the reason of `{}` names `{name}`, which no column is called", expectation.name);
        one(Problem::new(file, expectation.position, message).with_hint_opt(hint))
    })?;
    Ok(Verdict { name: expectation.name.clone(), action: expectation.action, reason, steps })
}
