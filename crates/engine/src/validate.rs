//! Planning all of a pipeline against its declared types, without data.

use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use pinmill_pipeline::{Pipeline, Problems};

use crate::clean::CleanPlan;
use crate::session;

/// Every problem of a pipeline's SQL.
pub(crate) async fn validate(runtime: &Arc<RuntimeEnv>, pipeline: &Pipeline) -> Problems {
    let mut problems = Problems::default();
    for dataset in &pipeline.datasets {
        if let Ok(state) = session::spark_state(Arc::clone(runtime), 1)
            && let Err(found) = CleanPlan::new(state, dataset).await
        {
            problems.0.extend(found.0);
        }
    }
    problems
}
