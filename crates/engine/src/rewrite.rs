//! Spark SQL that DataFusion's planner does not know, said in words it knows.
//!
//! Most of it is a table of macros: a call on the left is replaced by the expression on the right. Names are
//! matched without regard to case, as Spark does, while DataFusion takes them as they are written.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::{Result, plan_datafusion_err};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Select, SelectItem, Spanned, Statement, Subscript, TableAlias,
    TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use pinmill_pipeline::sql;

use crate::limits::Rewritten;

/// Calls that are replaced: name, number of arguments, and what by. `__1` is the first argument.
const MACROS: &[(&str, usize, &str)] = &[
    // Aggregates. A FILTER or OVER clause of the call goes to the outermost call of the replacement.
    ("median", 1, "median(CAST(__1 AS DOUBLE))"),
    ("count_if", 1, "count(CASE WHEN __1 THEN 1 END)"),
    ("max_by", 2, "first_value(__1 ORDER BY __2 DESC NULLS LAST) FILTER (WHERE __2 IS NOT NULL)"),
    ("min_by", 2, "first_value(__1 ORDER BY __2 ASC NULLS LAST) FILTER (WHERE __2 IS NOT NULL)"),
    ("percentile", 2, "percentile_cont(CAST(__1 AS DOUBLE), __2)"),
    ("percentile_approx", 2, PERCENTILE),
    ("percentile_approx", 3, PERCENTILE),
    ("approx_percentile", 2, PERCENTILE),
    ("approx_percentile", 3, PERCENTILE),
    ("approx_count_distinct", 1, "approx_distinct(__1)"),
    ("first", 1, "first_value(__1)"),
    ("last", 1, "last_value(__1)"),
    ("any_value", 1, "first_value(__1)"),
    ("std", 1, "stddev(__1)"),
    ("variance", 1, "var_samp(__1)"),
    ("mean", 1, "avg(__1)"),
    ("try_avg", 1, "avg(__1)"),
    ("every", 1, "bool_and(__1)"),
    // Text.
    ("startswith", 2, "starts_with(__1, __2)"),
    ("endswith", 2, "ends_with(__1, __2)"),
    ("lcase", 1, "lower(__1)"),
    ("ucase", 1, "upper(__1)"),
    ("locate", 2, "strpos(__2, __1)"),
    ("regexp", 2, "rlike(__1, __2)"),
    ("regexp_like", 2, "rlike(__1, __2)"),
    // NULL and numbers.
    ("isnull", 1, "(__1 IS NULL)"),
    ("isnotnull", 1, "(__1 IS NOT NULL)"),
    ("nullifzero", 1, "nullif(__1, 0)"),
    ("zeroifnull", 1, "coalesce(__1, 0)"),
    ("sign", 1, "signum(__1)"),
    ("try_divide", 2, "CASE WHEN __2 <> 0 THEN __1 / __2 END"),
    ("array_size", 1, "cardinality(__1)"),
    ("element_at", 2, "array_element(__1, __2)"),
    ("try_element_at", 2, "array_element(__1, __2)"),
    ("sort_array", 1, "array_sort(__1)"),
    // Times.
    ("dayofmonth", 1, "day(__1)"),
    ("date_add", 2, "date_add(CAST(__1 AS DATE), CAST(__2 AS INT))"),
    ("dateadd", 2, "date_add(CAST(__1 AS DATE), CAST(__2 AS INT))"),
    ("date_sub", 2, "date_sub(CAST(__1 AS DATE), CAST(__2 AS INT))"),
    ("add_months", 2, "add_months(CAST(__1 AS DATE), CAST(__2 AS INT))"),
    ("to_unix_timestamp", 1, "unix_timestamp(__1)"),
    ("to_unix_timestamp", 2, "unix_timestamp(__1, __2)"),
    // Casts called like functions.
    ("boolean", 1, "CAST(__1 AS BOOLEAN)"),
    ("tinyint", 1, "CAST(__1 AS TINYINT)"),
    ("smallint", 1, "CAST(__1 AS SMALLINT)"),
    ("int", 1, "CAST(__1 AS INT)"),
    ("bigint", 1, "CAST(__1 AS BIGINT)"),
    ("float", 1, "CAST(__1 AS FLOAT)"),
    ("double", 1, "CAST(__1 AS DOUBLE)"),
    ("string", 1, "CAST(__1 AS STRING)"),
    ("date", 1, "CAST(__1 AS DATE)"),
    ("timestamp", 1, "CAST(__1 AS TIMESTAMP)"),
];

/// Exact, where Spark may answer approximately: the smallest value that at least this part of all is not above.
const PERCENTILE: &str = "array_element(array_agg(__1 ORDER BY __1 ASC NULLS LAST) FILTER (WHERE __1 IS NOT NULL), \
     greatest(1, CAST(ceil(__2 * count(__1)) AS BIGINT)))";

/// Names of functions that exist only here.
pub(crate) fn macro_names() -> impl Iterator<Item = &'static str> {
    MACROS.iter().map(|(name, _, _)| *name)
}

/// Rewrites a statement in place. `names` are the tables and columns there are.
///
/// # Errors
/// Names what cannot be said.
pub(crate) fn to_datafusion(statement: &mut Statement, names: Names) -> Result<()> {
    let mut aliases = Aliases(names);
    let _ = Visit::visit(statement, &mut aliases);
    match VisitMut::visit(statement, &mut Rewrite { names: aliases.0, made: Rewritten::default() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(plan_datafusion_err!("{message}")),
    }
}

/// Collects the names that a statement itself gives to columns and tables.
struct Aliases(Names);

impl Visitor for Aliases {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.0.add(&alias.value);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.table(&table.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } = factor
        {
            self.table(alias);
        }
        ControlFlow::Continue(())
    }
}

impl Aliases {
    fn table(&mut self, alias: &TableAlias) {
        self.0.add(&alias.name.value);
        alias.columns.iter().for_each(|column| self.0.add(&column.name.value));
    }
}

/// Tables and columns as they are spelt, by their names in lower case.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names(HashMap<String, String>);

impl Names {
    pub(crate) fn add(&mut self, name: &str) {
        self.0.entry(name.to_lowercase()).or_insert_with(|| name.to_owned());
    }

    fn correct(&self, ident: &mut Ident) {
        if let Some(name) = self.0.get(&ident.value.to_lowercase())
            && *name != ident.value
        {
            ident.value.clone_from(name);
        }
    }
}

struct Rewrite {
    names: Names,
    made: Rewritten,
}

impl Rewrite {
    /// Puts a replacement in the place of an expression.
    fn replace(&mut self, expr: &mut Expr, replacement: Result<Expr, String>) -> ControlFlow<String> {
        match replacement.and_then(|made| self.made.add(size_of(&made)).map(|()| made)) {
            Ok(made) => {
                *expr = made;
                ControlFlow::Continue(())
            }
            Err(message) => ControlFlow::Break(message),
        }
    }
}

/// How many expressions there are in one.
fn size_of(expr: &Expr) -> usize {
    struct Count(usize);
    impl Visitor for Count {
        type Break = ();

        fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(0);
    let _ = expr.visit(&mut count);
    count.0
}

impl VisitorMut for Rewrite {
    type Break = String;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<String> {
        name_columns(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<String> {
        for part in &mut relation.0 {
            if let ObjectNamePart::Identifier(ident) = part {
                self.names.correct(ident);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match expr {
            Expr::Identifier(ident) => self.names.correct(ident),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(|ident| self.names.correct(ident)),
            Expr::Value(value) => {
                if let Value::DoubleQuotedString(text) = &value.value {
                    value.value = Value::SingleQuotedString(text.clone());
                }
            }
            Expr::CompoundFieldAccess { access_chain, .. } => {
                access_chain.iter_mut().for_each(count_from_one);
            }
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let template = if *negated { "NOT rlike(__1, __2)" } else { "rlike(__1, __2)" };
                let args = vec![text.as_ref().clone(), pattern.as_ref().clone()];
                let replacement = expand(template, args).map(|call| Expr::Nested(Box::new(call)));
                return self.replace(expr, replacement);
            }
            Expr::Function(function) => match call(function) {
                Ok(Some(replacement)) => return self.replace(expr, Ok(replacement)),
                Ok(None) => {}
                Err(message) => return ControlFlow::Break(message),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Gives columns without a name the text of their expression as Spark does; DataFusion would name them after what
/// they are rewritten to, and refuses two of one name.
fn name_columns(select: &mut Select) {
    let mut seen = HashMap::new();
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        {
            let text = expr.to_string();
            let times = seen.entry(text.clone()).and_modify(|times| *times += 1).or_insert(1);
            let name = if *times == 1 { text } else { format!("{text} ({times})") };
            let alias = Ident { value: name, quote_style: Some('`'), span: expr.span() };
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

/// `a[0]` is the first element in Spark, `a[1]` in DataFusion.
fn count_from_one(access: &mut AccessExpr) {
    if let AccessExpr::Subscript(Subscript::Index { index }) = access
        && !matches!(index, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
    {
        let one = Expr::value(Value::Number("1".to_owned(), false));
        let (left, right) = (Box::new(index.clone()), Box::new(one));
        *index = Expr::BinaryOp { left, op: BinaryOperator::Plus, right };
    }
}

/// What a call is replaced by, if it is.
fn call(function: &Function) -> Result<Option<Expr>, String> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Ok(None) };
    let name = name.value.to_lowercase();
    if !MACROS.iter().any(|(candidate, _, _)| *candidate == name) {
        return Ok(None);
    }
    let Some(args) = plain_arguments(function) else { return Ok(None) };
    let fitting = MACROS.iter().find(|(candidate, count, _)| *candidate == name && *count == args.len());
    let Some((_, _, template)) = fitting else {
        let counts: Vec<String> = MACROS
            .iter()
            .filter(|(other, _, _)| *other == name)
            .map(|(_, count, _)| count.to_string())
            .collect();
        return Err(format!("{name} takes {} arguments, not {}", counts.join(" or "), args.len()));
    };
    let mut replacement = expand(template, args)?;
    match &mut replacement {
        Expr::Function(outer) if name != "percentile_approx" && name != "approx_percentile" => {
            outer.over.clone_from(&function.over);
            if function.filter.is_some() && outer.filter.is_some() {
                return Err(format!("{name} cannot have a FILTER clause here; use CASE in its arguments"));
            }
            outer.filter = outer.filter.take().or_else(|| function.filter.clone());
        }
        _ if function.over.is_some() || function.filter.is_some() => {
            return Err(format!("{name} cannot have an OVER or FILTER clause here"));
        }
        _ => {}
    }
    Ok(Some(replacement))
}

/// The arguments of a call that has nothing but arguments.
fn plain_arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    list.args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect()
}

/// A template with its arguments put in.
fn expand(template: &str, args: Vec<Expr>) -> Result<Expr, String> {
    let mut expr = sql::parse_expression(template).map_err(|error| error.message)?;
    let _ = VisitMut::visit(&mut expr, &mut Substitute { args });
    Ok(expr)
}

struct Substitute {
    args: Vec<Expr>,
}

impl VisitorMut for Substitute {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr
            && let Some(number) =
                ident.value.strip_prefix("__").and_then(|number| number.parse::<usize>().ok())
            && let Some(arg) = number.checked_sub(1).and_then(|index| self.args.get(index))
        {
            *expr = Expr::Nested(Box::new(arg.clone()));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_macro_parses_and_uses_its_arguments() {
        for (name, count, template) in MACROS {
            let args = (1..=*count).map(|n| Expr::Identifier(Ident::new(format!("arg{n}")))).collect();
            let expanded = expand(template, args).unwrap().to_string();
            assert!(!expanded.contains("__"), "{name}: {expanded}");
            assert!(expanded.contains("arg1"), "{name}: {expanded}");
        }
    }
}
