//! The answers are right: the real rows of the reference system give the answers that three independent engines
//! agree on. The rows are not part of the project; without them these tests say that they were left out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::{Cleaning, answers_as_json, read_lines};
use pinmill_pipeline::Pipeline;
use serde_json::Value;

/// A dataset's rows as the clients post them: dates as `%m/%d/%Y, %H:%M:%S`.
fn posted_rows(shared: &Path, dataset: &str) -> HashMap<i64, String> {
    let mut rows = HashMap::new();
    for line in read_lines(&shared.join(format!("data/{dataset}.jsonl"))) {
        let mut row: Value = serde_json::from_str(&line).unwrap();
        for column in ["timestamp", "date_joined"] {
            if let Some(text) = row.get(column).and_then(Value::as_str) {
                let (date, time) = text.split_once(' ').unwrap();
                let parts: Vec<&str> = date.split('-').collect();
                row[column] = Value::String(format!("{}/{}/{}, {time}", parts[1], parts[2], parts[0]));
            }
        }
        let id = row.get("index").or_else(|| row.get("ind")).and_then(Value::as_i64).unwrap();
        rows.insert(id, row.to_string());
    }
    rows
}

async fn check(golden: &str, ids: Option<&str>) {
    let Some(shared) = pinmill_testkit::shared_dir() else {
        return;
    };
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(shared.join(golden)).unwrap()).unwrap();
    let ids: Option<Vec<i64>> =
        ids.map(|ids| serde_json::from_str(&std::fs::read_to_string(shared.join(ids)).unwrap()).unwrap());
    let pipeline = Pipeline::built_in().unwrap();
    let mut cleaning = Cleaning::new(&pipeline).await;
    for dataset in ["pin", "geo", "user"] {
        let rows = posted_rows(&shared, dataset);
        let ids = ids.clone().unwrap_or_else(|| {
            let mut ids: Vec<i64> = rows.keys().copied().collect();
            ids.sort_unstable();
            ids
        });
        let records: Vec<&str> = ids.iter().map(|id| rows[id].as_str()).collect();
        let rejected = cleaning.clean(dataset, &records).await;
        assert!(rejected.is_empty(), "{dataset}: {rejected:?}");
    }
    for (name, answer) in answers_as_json(&cleaning.engine, &pipeline).await {
        assert_eq!(answer, expected[&name], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_posted_once_gives_the_golden_answers() {
    check("golden/sample.json", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drawn_with_repeats_the_newest_rows_give_the_golden_answers() {
    check("golden/first_1008_draws.json", Some("golden/first_1008_draws.ids.json")).await;
}
