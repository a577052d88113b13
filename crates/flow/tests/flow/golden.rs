//! The reference's real rows through archive, clean and answers: the answers that three other engines agree on.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use pinmill_flow::{AnswerOptions, Half};
use pinmill_pipeline::Pipeline;
use serde_json::Value;

use crate::support::{World, json_rows};

const DATASETS: [(&str, &str); 3] = [("pin", "index"), ("geo", "ind"), ("user", "ind")];

fn lines(shared: &Path, dataset: &str) -> Vec<Bytes> {
    let text = std::fs::read_to_string(shared.join(format!("data/{dataset}.jsonl"))).unwrap();
    text.lines().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect()
}

async fn world_with(rows: impl Fn(&str, &str) -> Vec<Bytes>) -> World {
    let world = World::new(Pipeline::built_in().unwrap());
    for (dataset, key) in DATASETS {
        let topic = format!("0a4e65e909bd.{dataset}");
        world.topic(&topic, 1).await;
        world.post(&topic, 0, rows(dataset, key).into_iter().map(Some)).await;
    }
    world
}

async fn assert_answers(world: &World, golden: &Path) {
    world.archive().await;
    let report = world.clean().await;
    assert_eq!(report.datasets.iter().map(|dataset| dataset.quarantined).sum::<u64>(), 0, "{report:?}");
    assert_answers_of(world, Half::Batch, golden).await;
    world.assert_balanced().await;
}

/// The answers from the tables of a half are those of a golden file.
pub(crate) async fn assert_answers_of(world: &World, half: Half, golden: &Path) {
    let golden: serde_json::Map<String, Value> =
        serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let options = AnswerOptions { half, ..AnswerOptions::default() };
    let answers = pinmill_flow::answer(&world.pipeline, &world.engine, &world.lake, &options).await.unwrap();
    // Beside the answers the file says how many rows each table has.
    let wanted = golden.values().filter(|value| value.get("columns").is_some()).count();
    assert_eq!(answers.answers.len(), wanted);
    for answer in &answers.answers {
        let wanted = &golden[&answer.name];
        let schema = answer.rows.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(wanted["columns"], serde_json::json!(columns), "{}", answer.name);
        let rows = json_rows(&answer.rows);
        let wanted = wanted["rows"].as_array().unwrap();
        assert_eq!(rows.len(), wanted.len(), "{}", answer.name);
        for (row, wanted) in rows.iter().zip(wanted) {
            assert!(same(row, wanted.as_array().unwrap()), "{}: {row:?} instead of {wanted}", answer.name);
        }
    }
}

/// 3 and 3.0 are the same number.
fn same(row: &[Value], wanted: &[Value]) -> bool {
    row.len() == wanted.len()
        && row.iter().zip(wanted).all(|(a, b)| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_gives_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else {
        pinmill_testkit::left_out("the golden answers of the sample: there are no shared rows");
        return;
    };
    let world = world_with(|dataset, _| lines(&shared, dataset)).await;
    assert_answers(&world, &shared.join("golden/sample.json")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_and_eight_draws_with_repeats_give_the_golden_answers() {
    let Some(shared) = pinmill_testkit::shared_dir() else {
        pinmill_testkit::left_out("the golden answers of the draws: there are no shared rows");
        return;
    };
    let ids: Vec<u64> =
        serde_json::from_slice(&std::fs::read(shared.join("golden/first_1008_draws.ids.json")).unwrap())
            .unwrap();
    assert_eq!(ids.len(), 1008);
    let world = world_with(|dataset, key| {
        let by_id: HashMap<u64, Bytes> = lines(&shared, dataset)
            .into_iter()
            .map(|line| (serde_json::from_slice::<Value>(&line).unwrap()[key].as_u64().unwrap(), line))
            .collect();
        ids.iter().map(|id| by_id[id].clone()).collect()
    })
    .await;
    assert_answers(&world, &shared.join("golden/first_1008_draws.json")).await;
}
