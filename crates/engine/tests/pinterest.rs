//! The Pinterest pipeline, and that another one needs no Rust.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{Cleaning, answers_as_json, built_in_files, query};
use pinmill_engine::{EmbeddedEngine, Engine, EngineConfig, run_tests};
use pinmill_pipeline::{Files, Pipeline};
use serde_json::json;

#[tokio::test]
async fn it_is_valid_and_passes_its_own_tests() {
    let pipeline = Pipeline::built_in().unwrap();
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    let problems = engine.validate(&pipeline).await;
    assert!(problems.0.is_empty(), "{problems}");
    let report = run_tests(&pipeline, &engine).await.unwrap();
    assert!(report.all_passed(), "{report}");
    assert!(report.cases.len() > 40, "{report}");
}

#[tokio::test]
async fn its_tests_catch_a_change_of_its_sql() {
    let mut files = built_in_files();
    let sql = files.get_mut("clean/pin.sql").unwrap();
    *sql = sql.replace("WHEN 'm' THEN 1000000", "WHEN 'm' THEN 1000");
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    let report = run_tests(&Pipeline::from_files(&files).unwrap(), &engine).await.unwrap();
    assert!(!report.all_passed());
    let text = report.to_string();
    assert!(text.contains("- follower_count: 15000000\n    + follower_count: 15000\n"), "{text}");
    assert!(
        text.contains("failed: follower_count: thousands, millions, billions (tests/pin.test:"),
        "{text}"
    );
}

#[tokio::test]
async fn a_fourth_dataset_and_a_tenth_answer_are_files_alone() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
    Pipeline::built_in().unwrap().write_to(dir.path(), false).unwrap();
    let manifest = std::fs::read_to_string(dir.path().join("pipeline.toml")).unwrap();
    let comment = r#"
[[dataset]]
name = "comment"
key = "comment_id"
fields = [
    { name = "comment_id", type = "STRING", required = true },
    { name = "ind", type = "INT" },
    { name = "likes", type = "BIGINT" },
    { name = "text", type = "STRING" },
]

[[dataset.expect]]
name = "likes_are_not_negative"
sql = "likes >= 0"
reason = "{likes} likes"
"#;
    write("pipeline.toml", &(manifest + comment));
    write("clean/comment.sql", "SELECT *, length(text) AS Length FROM raw_comment WHERE text <> 'spam'");
    write(
        "answers/09_likes_by_category.sql",
        "-- Likes of comments by category\n\
         SELECT category, sum(likes) AS likes, max_by(text, likes) AS best\n\
         FROM comment JOIN pin ON comment.ind = pin.ind GROUP BY category ORDER BY category",
    );
    write(
        "tests/comment.test",
        "--- spam\nraw: {\"comment_id\": \"a\", \"text\": \"spam\"}\nquarantine: left out by clean/comment.sql\n",
    );
    let pipeline = Pipeline::load(dir.path()).unwrap();
    assert_eq!((pipeline.datasets.len(), pipeline.answers.len()), (4, 10));
    assert_eq!(pipeline.dataset_for_topic("124df56aef51.comment").unwrap().name, "comment");

    let mut cleaning = Cleaning::new(&pipeline).await;
    let report = run_tests(&pipeline, &cleaning.engine).await.unwrap();
    assert!(report.all_passed(), "{report}");
    for empty in ["geo", "user"] {
        cleaning.clean(empty, &[]).await;
    }
    cleaning
        .clean("pin", &[r#"{"index": 1, "category": "art"}"#, r#"{"index": 2, "category": "travel"}"#])
        .await;
    let comments = [
        r#"{"comment_id": "a", "ind": 1, "likes": 1, "text": "older"}"#,
        r#"{"comment_id": "a", "ind": 1, "likes": 3, "text": "newer"}"#,
        r#"{"comment_id": "b", "ind": 1, "likes": 5, "text": "best"}"#,
        r#"{"comment_id": "c", "ind": 2, "likes": 2, "text": "far"}"#,
        r#"{"comment_id": "d", "ind": 2, "likes": -1, "text": "down"}"#,
        r#"{"comment_id": "e", "ind": 2, "likes": 9, "text": "spam"}"#,
    ];
    let rejected = cleaning.clean("comment", &comments).await;
    let reasons: Vec<(u32, &str)> = rejected.iter().map(|r| (r.row, r.reason.as_str())).collect();
    assert_eq!(reasons, [(4, "-1 likes"), (5, "left out by clean/comment.sql")]);
    let answers = answers_as_json(&cleaning.engine, &pipeline).await;
    let (_, likes) = answers.iter().find(|(name, _)| name == "09_likes_by_category").unwrap();
    assert_eq!(likes["rows"], json!([["art", 8, "best"], ["travel", 2, "far"]]));
    let all = query(&cleaning.engine, "SELECT count(*) AS n, max(Length) AS longest FROM comment_all").await;
    assert_eq!(all["rows"], json!([[4, 5]]));
}

fn changed(path: &str, from: &str, to: &str) -> Files {
    let mut files = built_in_files();
    let text = files.get_mut(path).unwrap();
    assert!(text.contains(from), "{path} has no {from}");
    *text = text.replacen(from, to, 1);
    files
}

#[tokio::test]
async fn what_is_wrong_is_said_with_file_line_column_and_hint() {
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    for (path, from, to, expected) in [
        (
            "clean/pin.sql",
            "THEN unique_id END",
            "THEN unique_ID2 END",
            "clean/pin.sql:4:49: no column is called `unique_ID2`",
        ),
        ("clean/pin.sql", "THEN unique_id END", "THEN unique_ID2 END", "hint: did you mean `unique_id`?"),
        (
            "clean/pin.sql",
            "lower(right",
            "lowr(right",
            "no function is called `lowr`\n  hint: did you mean `lower`?",
        ),
        ("clean/pin.sql", "FROM raw_pin", "FROM raw_pins", "it must read raw_pin, not raw_pins"),
        ("clean/pin.sql", "FROM raw_pin", "FROM raw_pin JOIN raw_geo", "a join is not row-wise"),
        ("clean/pin.sql", "FROM raw_pin", "FROM raw_pin LIMIT 3", "LIMIT is not row-wise"),
        ("clean/pin.sql", "  ind,", "  max(ind) AS ind,", "clean/pin.sql"),
        ("clean/pin.sql", "  ind,", "  row_number() OVER (ORDER BY ind) AS ind,", "it is not row-wise"),
        ("clean/pin.sql", "  ind,", "", "the clean row has no column `ind`, the key of `pin`"),
        ("clean/pin.sql", "  ind,", "  ind, ind AS title,", "two columns are called `title`"),
        (
            "clean/pin.sql",
            "  ind,",
            "  ind, upper(title),",
            "column `upper(title)` has no name\n  hint: name it with AS",
        ),
        ("clean/pin.sql", "  ind,", "  ind, NULL AS nothing,", "column `nothing` is of type Null"),
        ("clean/pin.sql", "  ind,", "  ind, current_timestamp() AS now,", "gives another value each time"),
        (
            "clean/pin.sql",
            "  ind,",
            "  ind, 1 AS _offset,",
            "column `_offset` is added to every clean row by itself",
        ),
        ("clean/pin.sql", "SELECT", "SELEKT", "clean/pin.sql:2:1"),
        ("clean/geo.sql", "'MM/dd/yyyy", "'MM/dd/YYYY", "the letter 'Y' is not known"),
        (
            "clean/geo.sql",
            "array(latitude",
            "array(latitude AND true, latitude",
            "clean/geo.sql:5:70: Cannot infer common argument type",
        ),
        (
            "pipeline.toml",
            "_latitude BETWEEN",
            "_lattitude BETWEEN",
            "pipeline.toml:55:8: no column is called `_lattitude`\n  hint: did you mean `_latitude`?",
        ),
        (
            "pipeline.toml",
            "sql = \"_latitude BETWEEN -90 AND 90\"",
            "sql = \"_latitude\"",
            "`latitude_is_on_earth` is not a condition",
        ),
        ("pipeline.toml", "{_latitude}", "{_lattitude}", "did you mean {_latitude}?"),
        (
            "answers/05_median_followers_by_age_group.sql",
            "median(",
            "medain(",
            "answers/05_median_followers_by_age_group.sql:2:19: no function is called `medain`\n  hint: did you mean `median`?",
        ),
        (
            "answers/05_median_followers_by_age_group.sql",
            "FROM pin JOIN",
            "FROM pim JOIN",
            "no table or view is called `pim`\n  hint: did you mean `pin`?",
        ),
        (
            "answers/05_median_followers_by_age_group.sql",
            "age IS NOT",
            "aeg IS NOT",
            "no column is called `aeg`\n  hint: did you mean `age`?",
        ),
        ("tests/geo.test", "raw: ", "row ", "tests/geo.test:4:1: a line begins with ---"),
    ] {
        let pipeline = Pipeline::from_files(&changed(path, from, to)).unwrap();
        let problems = engine.validate(&pipeline).await.to_string();
        assert!(problems.contains(expected), "{path} with {to}:\n{problems}\nhas no {expected}");
    }
}

#[tokio::test]
async fn problems_of_all_files_are_said_at_once() {
    let mut files = changed("clean/pin.sql", "lower(right", "lowr(rigth");
    files.extend([("clean/geo.sql".to_owned(), "SELECT indx FROM raw_geo".to_owned())]);
    let sql = files.get_mut("answers/06_users_joined_by_year.sql").unwrap();
    *sql = sql.replace("count(*)", "cuont(*)");
    let engine = EmbeddedEngine::new(&EngineConfig::default()).unwrap();
    let problems = engine.validate(&Pipeline::from_files(&files).unwrap()).await;
    let text = problems.to_string();
    for expected in ["`lowr`", "`rigth`", "`indx`", "`cuont`"] {
        assert!(text.contains(expected), "{text}\nhas no {expected}");
    }
    assert_eq!(problems.0.len(), 4, "{text}");
}
