//! What a server says about itself over HTTP.

use serde_json::Value;

use crate::world::block_on;

fn get(url: &str) -> (u16, String) {
    block_on(async {
        let answer = reqwest::Client::new().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

/// The value of a metric with these labels.
pub(crate) fn metric(url: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let text = get(&format!("{url}/metrics")).1;
    let of_name = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (found, value) = rest.rsplit_once(' ')?;
        let is_whole = found.is_empty() || found.starts_with('{');
        (is_whole && labels.iter().all(|label| found.contains(label))).then(|| value.parse().ok())?
    };
    text.lines().find_map(of_name)
}

/// Status and document of `/readyz`, with a query or none.
pub(crate) fn readyz(url: &str, query: &str) -> (u16, Value) {
    let (status, text) = get(&format!("{url}/readyz{query}"));
    (status, serde_json::from_str(&text).unwrap())
}

/// What a list of parts says of one of them.
pub(crate) fn part<'v>(document: &'v Value, name: &str) -> &'v Value {
    let mut parts = document["parts"].as_array().unwrap().iter();
    parts.find(|part| part["part"] == name).unwrap_or_else(|| panic!("no part {name}: {document:#}"))
}
