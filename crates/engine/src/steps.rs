//! A row-wise plan taken apart into expressions, so that it runs over any number of batches without being planned
//! or set up again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;

/// One step of a row-wise plan.
#[derive(Debug, Clone)]
enum Step {
    /// Columns taken by index, in this order.
    Take(Vec<usize>),
    /// Columns computed from columns.
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
    /// Rows for which a condition is TRUE.
    Filter(Arc<dyn PhysicalExpr>),
}

/// A row-wise plan: for each row in at most one row out, in order, each computed from its own row alone.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    steps: Vec<Step>,
}

impl Steps {
    /// Takes a physical plan over one empty leaf apart. `input` is the schema of the batches it will be run on; the
    /// leaf's columns are found in it by name.
    ///
    /// # Errors
    /// The name of the operator that is not row-wise.
    pub(crate) fn of_plan(plan: &Arc<dyn ExecutionPlan>, input: &SchemaRef) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut node = Arc::clone(plan);
        loop {
            let next = if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
                let exprs = projection.expr().iter().map(|item| Arc::clone(&item.expr)).collect();
                steps.push(Step::Project(exprs, projection.schema()));
                Arc::clone(projection.input())
            } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
                if let Some(projection) = filter.projection() {
                    steps.push(Step::Take(projection.iter().copied().collect()));
                }
                steps.push(Step::Filter(Arc::clone(filter.predicate())));
                Arc::clone(filter.input())
            } else if node.downcast_ref::<EmptyExec>().is_some() {
                let take = node.schema().fields().iter().map(|field| input.index_of(field.name())).collect();
                let take: Result<Vec<usize>, _> = take;
                steps.push(Step::Take(take.map_err(|error| error.to_string())?));
                break;
            } else if matches!(
                node.name(),
                "CooperativeExec" | "CoalesceBatchesExec" | "CoalescePartitionsExec"
            ) {
                // These pass rows through as they are.
                node.children().first().map(|child| Arc::clone(child)).ok_or("a leaf")?
            } else {
                return Err(node.name().to_owned());
            };
            node = next;
        }
        steps.reverse();
        Ok(Self { steps })
    }

    /// Runs the steps over a batch.
    ///
    /// # Errors
    /// Whatever an expression complains of; one bad row fails the whole batch.
    pub(crate) fn run(&self, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let mut batch = batch.clone();
        for step in &self.steps {
            batch = match step {
                Step::Take(indices) => batch.project(indices)?,
                Step::Project(exprs, schema) => project(&batch, exprs, schema)?,
                Step::Filter(condition) => {
                    let keep = condition.evaluate(&batch)?.into_array(batch.num_rows())?;
                    filter_record_batch(&batch, &without_nulls(as_boolean_array(&keep)?))?
                }
            };
        }
        Ok(batch)
    }
}

fn project(
    batch: &RecordBatch,
    exprs: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Result<RecordBatch, DataFusionError> {
    let rows = batch.num_rows();
    let columns: Result<Vec<ArrayRef>, DataFusionError> =
        exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options)?)
}

/// NULL is not TRUE.
fn without_nulls(condition: &BooleanArray) -> BooleanArray {
    match condition.nulls() {
        Some(nulls) => BooleanArray::new(condition.values() & nulls.inner(), None),
        None => condition.clone(),
    }
}
