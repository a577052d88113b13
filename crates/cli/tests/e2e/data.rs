//! Rows to post: the real ones where they are at hand.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

/// The three tables' short names.
pub(crate) const TABLES: [&str; 3] = ["pin", "geo", "user"];

/// The real rows of one table in the form the reference posts them, and their ids.
pub(crate) fn rows(shared: &Path, table: &str) -> Vec<(i64, Value)> {
    let text = std::fs::read_to_string(shared.join(format!("data/{table}.jsonl"))).unwrap();
    text.lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            for member in ["timestamp", "date_joined"] {
                if let Some(text) = row[member].as_str() {
                    row[member] = Value::String(us_form(text));
                }
            }
            let id = row["index"].as_i64().or_else(|| row["ind"].as_i64()).unwrap();
            (id, row)
        })
        .collect()
}

/// The rows of one table by id.
pub(crate) fn by_id(shared: &Path, table: &str) -> HashMap<i64, Value> {
    rows(shared, table).into_iter().collect()
}

/// Whether the [`row`] of an id is one that cannot be cleaned: every seventh is.
pub(crate) fn is_bad(id: u64) -> bool {
    id.is_multiple_of(7)
}

/// A made-up row of a table that says its own id.
pub(crate) fn row(table: &str, id: u64) -> Value {
    let is_bad = is_bad(id);
    match table {
        "pin" => {
            json!({"ind": id, "title": "T", "follower_count": if is_bad { "12 thousand" } else { "12k" }})
        }
        "geo" => {
            json!({"ind": id, "country": "Chad", "latitude": if is_bad { 91 } else { 12 }, "longitude": 18})
        }
        _ => user(id),
    }
}

/// A made-up user row that says its own id; every seventh is one that cannot be cleaned.
pub(crate) fn user(id: u64) -> Value {
    let age = if is_bad(id) { json!("unknown") } else { json!(20 + id % 40) };
    json!({"ind": id, "first_name": "Ann", "last_name": format!("No {id}"), "age": age, "date_joined": "2016-02-03 04:05:06"})
}

/// `2020-08-28 03:52:47` as the reference's clients write it: `08/28/2020, 03:52:47`.
fn us_form(text: &str) -> String {
    let (date, time) = text.split_once(' ').unwrap();
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    format!("{month}/{day}/{year}, {time}")
}

/// The golden answers of a file.
pub(crate) fn golden(shared: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(shared.join("golden").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Fails with the first difference when the answers are not the golden ones.
pub(crate) fn assert_answers(given: &Value, golden: &Value) {
    let mut compared = 0;
    for (name, wanted) in golden.as_object().unwrap() {
        if wanted.get("columns").is_none() {
            continue;
        }
        let got = &given["answers"][name];
        assert_eq!(got["columns"], wanted["columns"], "columns of {name}");
        let (got, wanted) = (got["rows"].as_array().unwrap(), wanted["rows"].as_array().unwrap());
        for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
            assert!(same_row(got, wanted), "{name}, row {index}: got {got}, wanted {wanted}");
        }
        assert_eq!(got.len(), wanted.len(), "rows of {name}");
        compared += 1;
    }
    assert_eq!(compared, 9, "all nine answers are compared");
}

/// Numbers compare by value: 5 and 5.0 are the same count.
fn same_row(got: &Value, wanted: &Value) -> bool {
    let (Some(got), Some(wanted)) = (got.as_array(), wanted.as_array()) else { return false };
    got.len() == wanted.len()
        && got.iter().zip(wanted).all(|(a, b)| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        })
}
