//! The clean SELECT as a text: what it may be, and what the engine adds to it.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectFlavor, SelectItem,
    SetExpr, Spanned, Statement, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};
use pinmill_pipeline::{Dataset, Problem};

use crate::decode::{POSITION_COLUMNS, ROW_COLUMN};
use crate::diagnose::Place;

const ROW_WISE: &str =
    "a clean SELECT turns each raw row into one clean row: SELECT expressions FROM raw_… [WHERE condition]";

/// Checks that a statement is a row-wise SELECT from the dataset's raw rows, spells `*` out, and adds the columns
/// that say where a row came from.
pub(super) fn prepare(statement: &mut Statement, dataset: &Dataset, place: Place<'_>) -> Result<(), Problem> {
    let span_of = statement.span();
    let refuse = |what: &str| place.problem(span_of, format!("{what} is not row-wise")).with_hint(ROW_WISE);
    let Statement::Query(query) = statement else { return Err(refuse("a statement other than SELECT")) };
    if let Some(with) = &query.with {
        return Err(place.problem(with.span(), "WITH is not row-wise").with_hint(ROW_WISE));
    }
    check_query(query).map_err(refuse)?;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(refuse("a combination of several SELECTs"));
    };
    check_select(select).map_err(refuse)?;
    check_source(select, dataset, place)?;
    spell_out(select, dataset);
    check_names(select, place)?;
    for name in POSITION_COLUMNS.into_iter().chain([ROW_COLUMN]) {
        select.projection.push(SelectItem::UnnamedExpr(Expr::Identifier(Ident::new(name))));
    }
    Ok(())
}

fn check_query(query: &Query) -> Result<(), &'static str> {
    match query {
        Query { order_by: Some(_), .. } => Err("ORDER BY"),
        Query { limit_clause: Some(_), .. } | Query { fetch: Some(_), .. } => Err("LIMIT"),
        _ => Ok(()),
    }
}

fn check_select(select: &Select) -> Result<(), &'static str> {
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    };
    match select {
        Select { distinct: Some(Distinct::Distinct | Distinct::On(_)), .. } => Err("DISTINCT"),
        Select { having: Some(_), .. } => Err("HAVING"),
        Select { qualify: Some(_), .. } => Err("QUALIFY"),
        _ if grouped => Err("GROUP BY"),
        _ if !select.lateral_views.is_empty() => Err("LATERAL VIEW"),
        _ => Ok(()),
    }
}

fn check_source(select: &Select, dataset: &Dataset, place: Place<'_>) -> Result<(), Problem> {
    let raw = dataset.raw_table();
    let hint = format!("write FROM {raw}");
    let [source] = select.from.as_slice() else {
        let message = format!("it must read {raw}, and nothing else");
        return Err(place.problem(select.select_token.0.span, message).with_hint(hint));
    };
    if let Some(join) = source.joins.first() {
        return Err(place.problem(join.span(), "a join is not row-wise").with_hint(ROW_WISE));
    }
    match &source.relation {
        TableFactor::Table { name, args: None, .. } => match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] if ident.value.eq_ignore_ascii_case(&raw) => Ok(()),
            _ => Err(place.problem(name.span(), format!("it must read {raw}, not {name}")).with_hint(hint)),
        },
        other => Err(place.problem(other.span(), format!("it must read {raw} directly")).with_hint(hint)),
    }
}

/// Replaces `*` by the dataset's fields, so that it does not mean the engine's own columns.
fn spell_out(select: &mut Select, dataset: &Dataset) {
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                let left_out = left_out(&options);
                let fields =
                    dataset.fields.iter().filter(|field| !left_out.contains(&field.name.to_lowercase()));
                items.extend(fields.map(|field| {
                    SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('`', &field.name)))
                }));
            }
            other => items.push(other),
        }
    }
    select.projection = items;
}

/// Every column needs a name, its own.
fn check_names(select: &Select, place: Place<'_>) -> Result<(), Problem> {
    let mut seen: Vec<String> = Vec::new();
    for item in &select.projection {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias),
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last(),
            _ => None,
        };
        let Some(name) = name else {
            return Err(place
                .problem(item.span(), format!("column `{item}` has no name"))
                .with_hint("name it with AS"));
        };
        if POSITION_COLUMNS.contains(&name.value.as_str()) || name.value == ROW_COLUMN {
            let message = format!("column `{}` is added to every clean row by itself", name.value);
            return Err(place.problem(item.span(), message).with_hint("give it another name with AS"));
        }
        if seen.contains(&name.value.to_lowercase()) {
            let message = format!("two columns are called `{}`", name.value);
            return Err(place
                .problem(item.span(), message)
                .with_hint("give one of them another name with AS"));
        }
        seen.push(name.value.to_lowercase());
    }
    Ok(())
}

fn left_out(options: &WildcardAdditionalOptions) -> Vec<String> {
    options
        .opt_except
        .iter()
        .flat_map(|except| {
            std::iter::once(&except.first_element)
                .chain(&except.additional_elements)
                .map(|i| i.value.to_lowercase())
        })
        .collect()
}

/// `SELECT <condition> FROM <table>`.
pub(super) fn condition(condition: Expr, table: &str) -> Statement {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![SelectItem::UnnamedExpr(condition)],
        exclude: None,
        into: None,
        from: vec![TableWithJoins {
            relation: TableFactor::Table {
                name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(table))]),
                alias: None,
                args: None,
                with_hints: Vec::new(),
                version: None,
                with_ordinality: false,
                partitions: Vec::new(),
                json_path: None,
                sample: None,
                index_hints: Vec::new(),
            },
            joins: Vec::new(),
        }],
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    Statement::Query(Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }))
}
