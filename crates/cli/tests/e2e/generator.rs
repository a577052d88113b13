//! The project's own golden set, for clones without real rows: the generator's 11,154 events, answered by an oracle that
//! shares nothing with pinmill (testing/oracle).

use std::process::Command;

use pinmill_emulate::{BLOCK, DateForm, Generator, Table};
use pinmill_testkit::workspace_root;

use crate::data::{assert_answers, golden};
use crate::world::{World, write};

const GOLDEN: &str = "generator_11154_seed100.json";

#[test]
fn the_generators_events_posted_over_http_give_the_oracles_answers() {
    let world = World::new();
    let server = world.serve(&["--batch-every", "off"]);
    let events = ["emulate", "--url", &server.url, "--draw", "sequence", "--posts", "11154", "--seed", "100"];
    let posting = ["--pace", "max", "--records-per-request", "50", "--connections", "4"];
    world.ok(&[&events[..], &posting].concat());
    server.stop();
    world.ok(&["clean"]);
    assert_answers(&world.json(&["answer"]), &golden(&workspace_root().join("testing"), GOLDEN));
    world.assert_balanced();
}

#[test]
fn the_oracle_asked_again_gives_the_golden_answers() {
    let Some(python) = pinmill_testkit::python() else { return };
    let world = World::new();
    let rows = world.path("rows");
    let testing = workspace_root().join("testing");
    let generator = Generator::new(100);
    for table in Table::ALL {
        let lines: String =
            (0..BLOCK).map(|id| generator.json(table, id, DateForm::Us).unwrap() + "\n").collect();
        write(&rows.join(format!("{}.jsonl", table.short_name())), lines);
    }
    let mut oracle = Command::new(python);
    oracle
        .arg(testing.join("oracle/answers.py"))
        .arg(&rows)
        .arg("--compare")
        .arg(testing.join("golden").join(GOLDEN));
    let output = oracle.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_oracle_gives_the_golden_answers_of_the_real_rows() {
    let (Some(python), Some(shared)) = (pinmill_testkit::python(), pinmill_testkit::shared_dir()) else {
        return;
    };
    let draws = shared.join("golden/first_1008_draws.ids.json");
    for (ids, golden) in [(None, "sample.json"), (Some(&draws), "first_1008_draws.json")] {
        let mut oracle = Command::new(&python);
        oracle.arg(workspace_root().join("testing/oracle/answers.py")).arg(shared.join("data"));
        oracle.arg("--compare").arg(shared.join("golden").join(golden));
        if let Some(ids) = ids {
            oracle.arg("--ids").arg(ids);
        }
        let output = oracle.output().unwrap();
        assert!(output.status.success(), "{golden}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
