//! Spark SQL that DataFusion's planner does not know, said in words it knows.

use std::ops::ControlFlow;

use datafusion::common::{Result, plan_datafusion_err};
use datafusion::sql::sqlparser::ast::{Expr, Statement, Value, VisitMut, VisitorMut};

/// Names of functions that exist only here.
pub(crate) const REWRITTEN: &[&str] = &[];

/// Rewrites a statement in place.
///
/// # Errors
/// Names what cannot be said.
pub(crate) fn to_datafusion(statement: &mut Statement) -> Result<()> {
    match statement.visit(&mut Rewrite) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(plan_datafusion_err!("{message}")),
    }
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = String;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        if let Expr::Value(value) = expr
            && let Value::DoubleQuotedString(text) = &value.value
        {
            value.value = Value::SingleQuotedString(text.clone());
        }
        ControlFlow::Continue(())
    }
}
