//! Planning all of a pipeline against its declared types, without data.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement, Visit, Visitor};
use pinmill_pipeline::{Answer, Pipeline, Problem, Problems, nearest, sql};

use crate::answers;
use crate::clean::CleanPlan;
use crate::diagnose::{Place, unknown_functions};
use crate::session;
use crate::testing::problems_of_tests;

/// Every problem of a pipeline's SQL, and of its test files.
pub(crate) async fn validate(runtime: &Arc<RuntimeEnv>, pipeline: &Pipeline) -> Problems {
    let mut problems = Problems::default();
    let context = match session::spark_state(Arc::clone(runtime), 1) {
        Ok(state) => SessionContext::new_with_state(state),
        Err(error) => return Problems(vec![Place::file(&pipeline.manifest.path).planner(&error)]),
    };
    // Questions about a dataset that cannot be planned would only complain of that again.
    let mut broken = BTreeSet::new();
    for dataset in &pipeline.datasets {
        let planned = match session::spark_state(Arc::clone(runtime), 1) {
            Ok(state) => CleanPlan::new(state, dataset).await,
            Err(error) => Err(Problems(vec![Place::file(&dataset.clean.path).planner(&error)])),
        };
        match planned {
            Ok(plan) => {
                for name in [dataset.name.clone(), dataset.all_view()] {
                    let table = Arc::new(EmptyTable::new(Arc::clone(plan.output())));
                    if let Err(error) = context.register_table(TableReference::bare(name), table) {
                        problems.0.push(Place::file(&dataset.clean.path).planner(&error));
                    }
                }
            }
            Err(found) => {
                broken.extend([dataset.name.to_lowercase(), dataset.all_view().to_lowercase()]);
                problems.0.extend(found.0);
            }
        }
    }
    for answer in &pipeline.answers {
        problems.0.extend(check_answer(&context, answer, &broken).await);
    }
    problems.0.extend(problems_of_tests(pipeline));
    problems
}

async fn check_answer(context: &SessionContext, answer: &Answer, broken: &BTreeSet<String>) -> Vec<Problem> {
    let place = Place::file(&answer.source.path);
    let statement = match sql::parse_statement(&answer.source.text) {
        Ok(statement) => statement,
        Err(error) => return vec![place.syntax(&error)],
    };
    let state = context.state();
    let unknown = unknown_functions(&state, place, &statement);
    let tables = tables_of(&statement);
    if !unknown.is_empty() || tables.iter().any(|table| broken.contains(&table.to_lowercase())) {
        return unknown;
    }
    let known = tables_there(context);
    let planned = async {
        let plan = session::plan(&state, statement).await?;
        session::physical(&state, &plan).await
    };
    match planned.await {
        Ok(plan) => misfit(&plan.schema(), place).into_iter().collect(),
        Err(error) => {
            vec![missing_table(&error, &tables, &known, place).unwrap_or_else(|| place.planner(&error))]
        }
    }
}

/// The problem of a column that the answer's table could not have.
fn misfit(found: &Schema, place: Place<'_>) -> Option<Problem> {
    let misfit = answers::columns(found).err()?;
    Some(Problem::new(place.file, place.start, misfit.message).with_hint(misfit.hint))
}

/// The problem of a table that there is not, with the one that was probably meant.
fn missing_table(
    error: &DataFusionError,
    tables: &BTreeSet<String>,
    known: &[String],
    place: Place<'_>,
) -> Option<Problem> {
    if !error.find_root().strip_backtrace().contains("not found") {
        return None;
    }
    let is_there = |table: &&String| known.iter().any(|known| known.eq_ignore_ascii_case(table));
    let missing = tables.iter().find(|table| !is_there(table))?;
    let hint = match nearest(missing, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    let message = format!("no table or view is called `{missing}`");
    let position = place.planner(error).position.unwrap_or((1, 1));
    Some(Problem::new(place.file, position, message).with_hint(hint))
}

fn tables_there(context: &SessionContext) -> Vec<String> {
    let mut names: Vec<String> = context
        .catalog_names()
        .iter()
        .filter_map(|name| context.catalog(name))
        .flat_map(|catalog| catalog.schema_names().into_iter().filter_map(move |name| catalog.schema(&name)))
        .flat_map(|schema| schema.table_names())
        .collect();
    names.sort();
    names
}

/// The tables that a statement names; names it defines itself (WITH) may be among them.
fn tables_of(statement: &Statement) -> BTreeSet<String> {
    let mut tables = Tables(BTreeSet::new());
    let _ = statement.visit(&mut tables);
    tables.0
}

struct Tables(BTreeSet<String>);

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.0.insert(relation.to_string().replace('`', ""));
        ControlFlow::Continue(())
    }
}
