//! How large and how deep a plan may be.
//!
//! A short text can mean a large plan: a query that names a table of its WITH clause twice, which names another one twice,
//! doubles with each line. Planner, optimiser and operators walk through plans by recursion, and a stack that overflows
//! ends the process. So a plan is measured before anything is done with it, and planning has a stack of its own.
//! (The text and its syntax tree are measured by `pinmill-pipeline`, when they are parsed.)

use std::pin::pin;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::LogicalPlan;

/// Operators of a plan, those of tables of a WITH clause once for each use.
const MAX_NODES: usize = 5000;
/// How deep operators may stand in each other. Each one is polled by the one above it, on a thread's own stack.
const MAX_LEVELS: usize = 200;
/// Expressions that the rewriting of Spark's functions may make. Some use an argument twice: `try_divide` in `try_divide`
/// doubles with each level.
const MAX_REWRITTEN: usize = 100_000;
/// Enough for planning what is within the limits, also without the compiler's optimisations.
const STACK_BYTES: usize = 128 << 20;

/// Runs a future on a stack of its own. Only what is used of it takes memory.
pub(crate) async fn on_large_stack<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| stacker::grow(STACK_BYTES, || future.as_mut().poll(context))).await
}

/// Runs a function on a stack that evaluates every expression that was planned.
pub(crate) fn with_large_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES / 16, STACK_BYTES, run)
}

/// Checks that a plan can be walked through.
///
/// # Errors
/// Says which limit it exceeds.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut nodes = 0;
    let mut todo = vec![(plan.clone(), 1)];
    while let Some((node, level)) = todo.pop() {
        nodes += 1;
        if nodes > MAX_NODES {
            return plan_err!(
                "the query is too large: more than {MAX_NODES} operators, those of a WITH clause counted once for each use"
            );
        }
        if level > MAX_LEVELS {
            return plan_err!("the query is too deep: more than {MAX_LEVELS} operators on top of each other");
        }
        todo.extend(node.inputs().into_iter().map(|input| (input.clone(), level + 1)));
        node.apply_subqueries(|query| {
            todo.push((query.clone(), level + 1));
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(())
}

/// Counts what the rewriting makes of a statement.
#[derive(Debug, Default)]
pub(crate) struct Rewritten(usize);

impl Rewritten {
    /// Adds what one replacement has.
    ///
    /// # Errors
    /// When it is too much.
    pub(crate) fn add(&mut self, expressions: usize) -> Result<(), String> {
        self.0 += expressions;
        match self.0 <= MAX_REWRITTEN {
            true => Ok(()),
            false => {
                Err("the query is too large: functions that use an argument twice are nested too deeply"
                    .into())
            }
        }
    }
}
