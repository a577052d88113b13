//! `pinmill run`: the main job.

use std::fs::File;

use pinmill_testkit::KillOnDrop;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::world::{World, await_some};

fn check(document: &Value, posts: u64) {
    assert_eq!(document["audit"]["balanced"], json!(true), "{document:#}");
    assert_eq!(document["answers"].as_object().unwrap().len(), 9);
    for (name, answer) in document["answers"].as_object().unwrap() {
        assert!(!answer["rows"].as_array().unwrap().is_empty(), "{name} is empty");
    }
    for table in ["pin", "geo", "user"] {
        let topic = &document["audit"]["topics"][table];
        assert_eq!(topic["accepted"], json!(posts), "{topic}");
        assert_eq!(topic["archived"], json!(posts), "{topic}");
        assert_eq!(
            topic["clean"].as_u64().unwrap() + topic["quarantined"].as_u64().unwrap(),
            posts,
            "{topic}"
        );
    }
}

#[test]
fn run_posts_archives_cleans_answers_and_balances_and_does_so_again_on_the_same_data() {
    let world = World::new();
    check(&world.json(&["run", "--posts", "150"]), 150);
    check(&world.json(&["run", "--posts", "50", "--seed", "7"]), 200);
    world.assert_balanced();
}

/// They hold different rows then, and that is right.
#[test]
fn a_run_does_not_fail_where_one_half_was_given_posts_alone_before() {
    let world = World::new();
    check(&world.json(&["run", "--posts", "40", "--to", "topics"]), 40);
    let output = world.output(&["run", "--posts", "30", "--seed", "7", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    check(&serde_json::from_slice(&output.stdout).unwrap(), 70);
    assert!(String::from_utf8_lossy(&output.stderr).contains("that their rows differ is no failure"));
}

#[test]
fn an_interrupted_run_says_so_and_how_far_it_came() {
    let world = World::new();
    let (rows, words) = (world.path("rows"), world.path("words"));
    let mut run = world.command(&["run", "--posts", "1000000000", "--format", "json", "--no-progress"]);
    run.stdout(File::create(&rows).unwrap()).stderr(File::create(&words).unwrap());
    let mut run = KillOnDrop::spawn(&mut run).unwrap();
    await_some("posts enough for every answer", || {
        // It may be there before the logs are.
        let status = world.output(&["status", "--format", "json"]).stdout;
        let status: Value = serde_json::from_slice(&status).ok()?;
        status["streams"]["user"]["held"].as_u64().filter(|held| *held >= 200)
    });
    run.signal(Signal::INT).unwrap();
    let status = run.wait().unwrap();
    let words = std::fs::read_to_string(words).unwrap();
    assert_eq!(status.code(), Some(130), "{words}");
    assert!(words.contains("of 1000000000 events were posted"), "{words}");
    let document: Value = serde_json::from_slice(&std::fs::read(rows).unwrap()).unwrap();
    assert_eq!(document["summary"]["interrupted"], json!(true));
    check(&document, document["summary"]["posted"]["events"].as_u64().unwrap());
}

#[test]
fn beside_rows_for_programs_the_summary_is_on_stderr() {
    let world = World::new();
    let output = world.output(&["run", "--posts", "60", "--format", "ndjson", "--no-progress"]);
    let (rows, words) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{words}");
    let answers = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["answer"].clone());
    let mut answers: Vec<Value> = answers.collect();
    answers.dedup();
    assert_eq!(answers.len(), 9, "{rows}");
    assert!(words.contains("audit: balanced") && words.contains("in all:"), "{words}");
    let output = world.output(&["audit", "--format", "csv"]);
    let (rows, words) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(rows.starts_with("half,name,") && !rows.contains("audit:"), "{rows}");
    assert!(words.contains("audit: balanced"), "{words}");
}

#[test]
fn the_same_seed_gives_the_same_answers() {
    let (one, two, other) = (World::new(), World::new(), World::new());
    let first = one.json(&["run", "--posts", "120", "--connections", "1"]);
    let second = two.json(&["run", "--posts", "120", "--connections", "16"]);
    let third = other.json(&["run", "--posts", "120", "--seed", "5"]);
    assert_eq!(first["answers"], second["answers"]);
    assert_ne!(first["answers"], third["answers"]);
}

#[test]
fn without_a_format_run_prints_titled_tables_and_a_summary() {
    let world = World::new();
    let text = world.ok(&["run", "--posts", "60"]);
    for words in ["category_count", "median_follower_count", "balanced"] {
        assert!(text.contains(words), "`{words}` is missing from:\n{text}");
    }
}

#[test]
fn answers_can_be_had_by_short_name_in_every_form_and_as_a_file() {
    let world = World::new();
    world.ok(&["run", "--posts", "60"]);
    assert!(
        world.ok(&["answer", "03b", "--format", "csv"]).starts_with("country,poster_name,follower_count\n")
    );
    assert!(world.ok(&["answer", "06", "--format", "markdown"]).contains("| year_joined"));
    let lines = world.ok(&["answer", "06", "--format", "ndjson"]);
    assert!(lines.lines().all(|line| line.starts_with("{\"answer\":\"06_")), "{lines}");
    let file = world.path("six.parquet");
    world.ok(&["answer", "06", "-o", file.to_str().unwrap()]);
    assert_eq!(&std::fs::read(&file).unwrap()[..4], b"PAR1");
    let output = world.output(&["answer", "99"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("99"));
}

#[test]
fn a_data_folder_may_be_called_anything_that_delta_can_read() {
    let world = World::new();
    let folder = world.path("ünï a~b #1 ? * [x] {y} 100%");
    let pinmill =
        |args: &[&str]| crate::world::pinmill().args(args).arg("--data").arg(&folder).output().unwrap();
    let run = pinmill(&["run", "--posts", "60", "--format", "json"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    check(&serde_json::from_slice(&run.stdout).unwrap(), 60);
    let sql = pinmill(&["sql", "SELECT count(*) AS n FROM pin_all", "--format", "ndjson"]);
    assert_eq!(String::from_utf8(sql.stdout).unwrap(), "{\"n\":60}\n");
    let audit = pinmill(&["audit", "--deep", "--same-rows"]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}

#[test]
fn a_data_folder_that_delta_would_look_for_elsewhere_is_refused_at_once() {
    let world = World::new();
    for (name, part) in [("a%41b", "`%41`"), ("a\\b", "`\\`")] {
        let mut command = crate::world::pinmill();
        command.args(["run", "--posts", "5", "--data"]).arg(world.path(name));
        let refused = command.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{name}");
        let words = String::from_utf8(refused.stderr).unwrap();
        assert!(words.contains(part) && words.contains("another name"), "{words}");
    }
}
