//! A pipeline is files: a fourth dataset and a tenth answer without a line of Rust.

use std::path::Path;

use serde_json::{Value, json};

use crate::world::{Client, World, block_on, write};

#[test]
fn the_folder_that_init_writes_validates_and_passes_its_own_tests() {
    let world = World::new();
    let folder = world.path("mine");
    let folder = folder.to_str().unwrap();
    world.ok(&["init", folder]);
    world.ok(&["validate", folder]);
    world.ok(&["test", folder]);
    let again = world.output(&["init", folder]);
    assert_eq!(again.status.code(), Some(1), "init must not overwrite without --force");
    world.ok(&["init", folder, "--force"]);
}

#[test]
fn the_built_in_pipeline_validates_and_passes_its_own_tests() {
    let world = World::new();
    world.ok(&["validate"]);
    world.ok(&["test"]);
}

#[test]
fn validate_names_file_line_column_and_hint() {
    let world = World::new();
    let folder = world.path("mine");
    world.ok(&["init", folder.to_str().unwrap()]);
    write(&folder.join("answers/10_wrong.sql"), "-- Wrong\nSELECT country,\n       capital\nFROM geo\n");
    let output = world.output(&["validate", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(words.contains("answers/10_wrong.sql:3:8") && words.contains("capital"), "{words}");
}

#[test]
fn validate_gives_the_same_document_for_a_folder_that_cannot_be_loaded() {
    let world = World::new();
    let folder = world.path("mine");
    world.ok(&["init", folder.to_str().unwrap()]);
    write(&folder.join("pipeline.toml"), "name = \"mine\"\n[[dataset\n");
    let problem = |folder: &Path| {
        let output = world.output(&["validate", folder.to_str().unwrap(), "--format", "json"]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&document["schema_version"], &document["valid"]), (&json!(1), &json!(false)));
        assert_eq!(document["problems"].as_array().unwrap().len(), 1, "{document}");
        document["problems"][0].clone()
    };
    let wrong = problem(&folder);
    assert_eq!((&wrong["file"], &wrong["line"]), (&json!("pipeline.toml"), &json!(2)), "{wrong}");
    let missing = problem(&world.path("nowhere"));
    assert!(missing["message"].as_str().unwrap().contains("cannot read"), "{missing}");
}

#[test]
fn reports_take_no_shape_of_rows() {
    let world = World::new();
    for command in [&["validate"][..], &["test"], &["emulate"], &["log", "verify"], &["quarantine", "replay"]]
    {
        for format in ["csv", "ndjson", "markdown"] {
            let output = world.output(&[command, &["--format", format]].concat());
            assert_eq!(output.status.code(), Some(2), "{command:?} --format {format}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("text, json"), "{command:?}");
        }
    }
    world.ok(&["validate", "--format", "text"]);
}

#[test]
fn a_fourth_dataset_and_a_tenth_answer_need_files_only() {
    let world = World::new().with(&["--pipeline", "mine"]);
    let folder = world.path("mine");
    let init = crate::world::pinmill().arg("init").arg(&folder).output().unwrap();
    assert!(init.status.success());
    let mut toml = std::fs::read_to_string(folder.join("pipeline.toml")).unwrap();
    toml.push_str(include_str!("board.toml"));
    write(&folder.join("pipeline.toml"), toml);
    write(
        &folder.join("clean/board.sql"),
        "SELECT ind, nullif(trim(board), '') AS board, pins FROM raw_board\n",
    );
    write(
        &folder.join("answers/10_pins_by_board.sql"),
        "-- Pins by board\nSELECT board, sum(pins) AS pins FROM board GROUP BY board ORDER BY board\n",
    );
    world.ok(&["validate"]);
    let server = world.serve(&["--batch-every", "off"]);
    block_on(async {
        let client = Client::new(&server.url);
        let rows = [
            json!({"ind": 1, "board": "cats", "pins": 3}),
            json!({"ind": 2, "board": "cats", "pins": 4}),
            json!({"ind": 3, "board": " ", "pins": 5}),
            json!({"ind": 1, "board": "cats", "pins": 30}),
            json!({"ind": 4, "board": "dogs", "pins": -1}),
        ];
        client.post("ab12.board", &rows).await.unwrap();
    });
    server.stop();
    world.ok(&["clean"]);
    let answers = world.json(&["answer", "10"]);
    assert_eq!(answers["answers"]["10_pins_by_board"]["rows"], json!([[null, 5], ["cats", 34]]));
    let audit = world.assert_balanced();
    assert_eq!(audit["topics"]["ab12.board"]["quarantined"], json!(1));
}

#[test]
fn one_answer_that_fails_is_named_and_takes_nothing_else_with_it() {
    let world = World::new().with(&["--pipeline", "mine"]);
    let folder = world.path("mine");
    assert!(crate::world::pinmill().arg("init").arg(&folder).output().unwrap().status.success());
    let bad = folder.join("answers/05x_bad.sql");
    write(&bad, "-- Divides by zero\nSELECT 1/0 AS a\n");
    for args in [&["run", "--posts", "60"][..], &["answer"]] {
        let output = world.output(&[args, &["--format", "json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains("answers/05x_bad.sql: ") && words.contains("zero"), "{words}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["answers"].as_object().unwrap().len(), 9, "{document:#}");
        let errors = document["errors"].as_object().unwrap();
        assert!(errors.len() == 1 && errors["05x_bad"].as_str().unwrap().contains("zero"), "{errors:?}");
        if args[0] == "run" {
            assert_eq!(document["audit"]["balanced"], json!(true), "{document:#}");
        }
    }
    let tables = world.output(&["answer"]);
    assert_eq!(tables.status.code(), Some(1));
    assert!(String::from_utf8(tables.stdout).unwrap().contains("median_follower_count"));
    assert_eq!(world.output(&["answer", "05x", "-o", "x.csv"]).status.code(), Some(1));

    write(&bad, "-- Has no type\nSELECT NULL AS a\n");
    let output = world.output(&["validate"]);
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.contains("answers/05x_bad.sql") && words.contains("column `a`"), "{words}");
    std::fs::remove_file(&bad).unwrap();
    assert_eq!(world.json(&["answer"]).get("errors"), None);
}
