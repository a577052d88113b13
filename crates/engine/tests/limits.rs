//! SQL that would overflow the stack or fill the memory is an error, and what people write is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use common::{built_in_files, query};
use futures::TryStreamExt;
use pinmill_engine::{EmbeddedEngine, Engine, EngineConfig, Error, Rows, Table};
use pinmill_pipeline::{Answer, Pipeline};
use serde_json::json;

/// An engine with a table `t` of some rows (`n` from 1 to 8, `x` a text), so that nothing is folded into a constant, and
/// a table `many` of many.
async fn engine(memory_bytes: usize) -> EmbeddedEngine {
    let engine = EmbeddedEngine::new(&EngineConfig { memory_bytes, ..EngineConfig::default() }).unwrap();
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=8));
    let x: ArrayRef = Arc::new((1..=8).map(|n| Some(format!("x{n}"))).collect::<StringViewArray>());
    let many: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
    for (name, columns) in [("t", vec![("n", n), ("x", x)]), ("many", vec![("m", many)])] {
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let schema = rows.schema();
        let rows = Rows::Memory(vec![rows]);
        engine.register(Table { name: name.to_owned(), schema, rows }).await.unwrap();
    }
    engine
}

async fn run(engine: &EmbeddedEngine, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let result = engine.query(sql).await.map_err(|error| error.to_string())?;
    result.batches.try_collect().await.map_err(|error| error.to_string())
}

/// Expressions whose results have no bound but their arguments.
const ENDLESS: &[&str] = &[
    "repeat('x', 2000000000)",
    "repeat(x, 2000000000)",
    "repeat(x, n * 1000000000)",
    "space(CAST(2000000000 AS INT))",
    "space(CAST(n * 100000000 AS INT))",
    "rpad('x', 2000000000, 'y')",
    "rpad(x, 2000000000, 'y')",
    "lpad(x, 2000000000, 'y')",
    "lpad(x, CAST(n AS INT) * 100000000, 'y')",
    "array_repeat(1, 2000000000)",
    "array_repeat(x, n * 1000000000)",
    "array_repeat(repeat(x, 1000000), 1000)",
    "generate_series(1, 2000000000)",
    "generate_series(1, n * 1000000000)",
    "range(0, -2000000000, -1)",
    "range(2000000000)",
    "generate_series(timestamp '1970-01-01', timestamp '2020-01-01', interval 1 second)",
    "format_string('%2000000000d', 1)",
    "format_string('%70000d', n)",
    "format_string('%.2000000000f', 1.5)",
    "format_string('%99999999999999999999s', x)",
    "replace(repeat(x, 100000), 'x', repeat('y', 100000))",
    "replace(repeat(x, 100000), '', repeat('y', 100000))",
    "regexp_replace(repeat(x, 100000), 'x', repeat('y', 100000))",
    "regexp_replace(repeat(x, 1000000), '^(.*)$', repeat('$1', 1000))",
    "concat(repeat(x, 20000000), repeat(x, 20000000))",
    "repeat(x, 20000000) || repeat(x, 20000000)",
    "concat_ws(repeat('y', 10000), array_repeat(x, 100000))",
    "array_join(array_repeat(x, 100000), repeat('y', 10000))",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_result_without_bound_is_an_error() {
    let engine = engine(1 << 30).await;
    let mut wrong = Vec::new();
    for expression in ENDLESS {
        match run(&engine, &format!("SELECT {expression} AS made FROM t")).await {
            Err(error) if error.contains("would make") || error.contains("width") => {}
            Err(error) => wrong.push(format!("{expression}: {error}")),
            Ok(_) => wrong.push(format!("{expression} is made")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_doubles_with_each_level_is_an_error() {
    let engine = engine(1 << 30).await;
    let mut concatenated = "SELECT x FROM t".to_owned();
    let mut hex = "x".to_owned();
    for level in 0..40 {
        concatenated = format!("SELECT x || x AS x FROM ({concatenated}) a{level}");
        hex = format!("hex({hex})");
    }
    for sql in [concatenated, format!("SELECT {hex} AS x FROM t")] {
        let error = run(&engine, &sql).await.expect_err(&sql);
        assert!(error.contains("would make") || error.contains("too"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_result_without_bound_is_named_by_validate() {
    let engine = engine(1 << 30).await;
    for expression in ["repeat('x', 2000000000)", "rpad(country, 2000000000, 'x')"] {
        let clean = format!("SELECT ind, {expression} AS country FROM raw_geo");
        let answer = format!("-- A title\nSELECT {expression} AS made FROM geo");
        for (path, text) in [("clean/geo.sql", clean), ("answers/01_popular_category_by_country.sql", answer)]
        {
            let mut files = built_in_files();
            files.insert(path.to_owned(), text);
            let pipeline = Pipeline::from_files(&files).unwrap();
            let problems = engine.validate(&pipeline).await.to_string();
            assert!(problems.contains(path) && problems.contains("would make"), "{problems}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_within_the_bounds_are_made() {
    let engine = engine(1 << 30).await;
    for (expression, expected) in [
        ("max(length(repeat('x', 1000000)))", json!(1_000_000)),
        ("max(length(rpad(x, 100000, 'é')))", json!(100_000)),
        ("max(length(space(CAST(100000 AS INT))))", json!(100_000)),
        ("max(cardinality(generate_series(1, 100000)))", json!(100_000)),
        ("max(cardinality(array_repeat(x, 100000)))", json!(100_000)),
        ("max(length(format_string('%60000d', n)))", json!(60_000)),
        ("max(length(replace(repeat('ab', 100000), 'a', 'xyz')))", json!(400_000)),
        ("max(length(repeat(x, 1000000) || repeat(x, 1000000)))", json!(4_000_000)),
        ("max(repeat(x, -1))", json!("")),
        ("max(x || NULL)", json!(null)),
        ("max(x || '-' || x)", json!("x8-x8")),
        ("max(1 || x)", json!("1x8")),
    ] {
        let found = query(&engine, &format!("SELECT {expression} AS made FROM t")).await;
        assert_eq!(found["rows"], json!([[expected]]), "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_gathered_into_one_value_count_as_memory_of_the_query() {
    let engine = engine(64 << 20).await;
    for sql in [
        "SELECT cardinality(collect_list(concat(x, m))) FROM t CROSS JOIN many",
        "SELECT length(string_agg(repeat(x, 1000), '')) FROM t CROSS JOIN many",
    ] {
        assert!(run(&engine, sql).await.is_err(), "{sql}");
    }
}

/// SQL of a depth, for each way to be deep: of one expression, of operators, of what a WITH clause means.
fn deep(levels: usize) -> Vec<(&'static str, String)> {
    let nested = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    let doubled: Vec<String> = (1..levels)
        .map(|level| format!("a{level} AS (SELECT l.n FROM a{0} l JOIN a{0} r ON l.n = r.n)", level - 1))
        .collect();
    let with = |tables: &[String]| {
        let tables = tables.iter().map(|table| format!(", {table}")).collect::<String>();
        format!("WITH a0 AS (SELECT n FROM t){tables} SELECT max(n) FROM a{}", levels - 1)
    };
    let chained: Vec<String> =
        (1..levels).map(|level| format!("a{level} AS (SELECT n + 1 AS n FROM a{})", level - 1)).collect();
    vec![
        ("parts", format!("SELECT max(x{}) FROM t", " || x".repeat(levels))),
        ("sums", format!("SELECT max(n{}) FROM t", " + n".repeat(levels))),
        ("conditions", format!("SELECT count(*) FROM t WHERE n = 1{}", " OR n = 2".repeat(levels))),
        ("brackets", format!("SELECT max({}) FROM t", nested("(", "n", ")"))),
        ("calls", format!("SELECT max({}) FROM t", nested("abs(", "n", ")"))),
        ("queries", format!("SELECT max(n) FROM {}", nested("(SELECT n FROM ", "t", ")"))),
        ("conditions of queries", nested("SELECT n FROM t WHERE n IN (", "SELECT n FROM t", ")")),
        ("unions", format!("SELECT 1{}", " UNION ALL SELECT n FROM t".repeat(levels))),
        (
            "joins",
            format!(
                "SELECT max(t.n) FROM t{}",
                (0..levels).map(|n| format!(" JOIN t a{n} ON t.n = a{n}.n")).collect::<String>()
            ),
        ),
        ("tables of WITH", with(&chained)),
        ("tables of WITH, each used twice", with(&doubled)),
        ("macros", format!("SELECT max({}) FROM t", nested("try_divide(1, ", "n", ")"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_is_too_deep_is_an_error_and_no_crash() {
    let engine = engine(1 << 30).await;
    for levels in [60, 450, 3000] {
        for (what, sql) in deep(levels) {
            let found = run(&engine, &sql).await;
            if levels == 3000 {
                let error = found.expect_err(what);
                assert!(error.contains("too") || error.contains("than"), "{what}: {error}");
            }
            // Less deep: an answer or an error, and the process lives.
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_as_deep_as_people_write_it_is_answered() {
    let engine = engine(1 << 30).await;
    for (what, sql) in deep(8) {
        run(&engine, &sql).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    for (what, sql) in
        deep(300).into_iter().filter(|(what, _)| ["parts", "sums", "conditions"].contains(what))
    {
        run(&engine, &sql).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_sql_of_a_pipeline_is_named_by_validate_and_planned_where_it_is_not_too_deep() {
    let engine = engine(1 << 30).await;
    let check = async |path: &str, text: String| {
        let mut files = built_in_files();
        files.insert(path.to_owned(), text);
        match Pipeline::from_files(&files) {
            Ok(pipeline) => engine.validate(&pipeline).await.to_string(),
            Err(error) => error.to_string(),
        }
    };
    for (levels, fits) in [(300, true), (3000, false)] {
        let parts = " || country".repeat(levels);
        for (path, text) in [
            ("clean/geo.sql", format!("SELECT ind, country{parts} AS country FROM raw_geo")),
            (
                "answers/01_popular_category_by_country.sql",
                format!("-- A title\nSELECT country{parts} AS made FROM geo"),
            ),
        ] {
            let problems = check(path, text).await;
            let named = problems.contains(path) && problems.contains("too deep");
            assert_eq!(named, !fits, "{path}, {levels}: {problems}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_bound_is_an_error() {
    let engine = engine(1 << 30).await;
    let pipeline = Pipeline::built_in().unwrap();
    let mut answer: Answer = pipeline.answers[0].clone();
    "SELECT repeat(x, n * 1000000000) AS made FROM t".clone_into(&mut answer.source.text);
    let error = engine.answer(&answer).await.unwrap_err().to_string();
    assert!(error.contains("repeat would make"), "{error}");
    let engine = self::engine(32 << 20).await;
    "SELECT n FROM t CROSS JOIN many".clone_into(&mut answer.source.text);
    let error = engine.answer(&answer).await.unwrap_err();
    assert!(matches!(error, Error::Memory { .. }), "{error}");
}
