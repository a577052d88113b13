//! One answer that fails does not take the others with it, and `validate` knows which could not be kept.

use arrow::array::RecordBatch;
use pinmill_engine::Engine as _;
use pinmill_flow::Kept;
use pinmill_lake::table::{Origin, Overwritten, Table};
use pinmill_pipeline::Pipeline;

use crate::support::{World, good, small};

/// The small pipeline with more answers, by name and query.
fn with_answers(answers: &[(&str, &str)]) -> Pipeline {
    let mut files = small().files();
    for (name, query) in answers {
        files.insert(format!("answers/{name}.sql"), format!("-- {name}\n{query}\n"));
    }
    Pipeline::from_files(&files).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fails_is_named_and_the_others_are_given_and_kept() {
    let answers = [("00_zero", "SELECT 1/0 AS a"), ("02_untyped", "SELECT NULL AS a")];
    let world = World::new(with_answers(&answers));
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..10).map(good)).await;
    world.archive().await;
    world.clean().await;
    let report = world.answer().await;
    let given: Vec<(&str, Kept)> = report.answers.iter().map(|a| (a.name.as_str(), a.kept)).collect();
    assert_eq!(given, [("01_ages", Kept::Written)]);
    let failed: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed[0].starts_with("answers/00_zero.sql: ") && failed[0].contains("zero"), "{failed:?}");
    assert!(failed[1].starts_with("answers/02_untyped.sql: ") && failed[1].contains("`a`"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_validate_lets_pass_can_be_kept_and_what_it_refuses_cannot() {
    for (fits, query) in [
        (false, "SELECT NULL AS a"),
        (false, "SELECT INTERVAL '1' DAY AS a"),
        (false, "SELECT map('a', 1) AS a"),
        (false, "SELECT array() AS a"),
        (false, "SELECT CAST(1 AS DECIMAL(50, 2)) AS a"),
        (false, "SELECT 1 AS a, 2 AS A"),
        (false, "SELECT x.ind, y.ind FROM user x JOIN user y ON x.ind = y.ind"),
        (true, "SELECT array(1, 2) AS a, struct(1, 'x') AS b, X'00' AS c"),
        (true, "SELECT now() AS a, CAST('2020-01-01 00:00:00' AS TIMESTAMP_NTZ) AS b"),
        (true, "SELECT ind, row_number() OVER (ORDER BY ind) AS n FROM user"),
        (true, "SELECT count(*), approx_count_distinct(ind) AS a FROM user"),
    ] {
        let world = World::new(with_answers(&[("02_x", query)]));
        let problems = world.engine.validate(&world.pipeline).await;
        assert_eq!(problems.0.is_empty(), fits, "{query}: {problems}");
        let report = world.answer().await;
        assert_eq!(report.failures.is_empty(), fits, "{query}: {:?}", report.failures);
        if fits {
            assert_eq!(report.answers[1].kept, Kept::Written, "{query}");
        } else {
            assert!(problems.to_string().starts_with("answers/02_x.sql:"), "{problems}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_any_name_lies_in_one_folder_and_is_found_again() {
    let name = "02_größe x#1?";
    let world = World::new(with_answers(&[(name, "SELECT 1 AS a")]));
    for kept in [Kept::Written, Kept::Unchanged] {
        let report = world.answer().await;
        assert_eq!((report.answers[1].kept, report.failures), (kept, vec![]));
    }
    let folder = std::fs::read_dir(world.dir.path().join("answers").join(name)).unwrap();
    let mut names: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names[0] == "_delta_log" && names[1].starts_with("part-"), "{names:?}");
}

/// Two runs at once: the one that read the older rows comes to the lake last.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_never_replaces_one_that_was_computed_from_newer_rows() {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    let post = async |numbers: std::ops::Range<u64>| {
        world.post("t.user", 0, numbers.map(good)).await;
        world.archive().await;
        world.clean().await;
    };
    post(0..3).await;
    let slow = Table::open(&world.lake, "batch/user").await.unwrap().unwrap().as_origin().unwrap();
    let slow = Origin { run: Some("slow".to_owned()), from: vec![slow] };
    let old = world.answer().await.answers.remove(0).rows;
    post(3..9).await;
    let report = world.answer().await;
    assert_eq!(report.answers[0].kept, Kept::Written);
    let write = async |rows: &RecordBatch, origin: &Origin| {
        Table::overwrite_from(
            &world.lake,
            "answers/01_ages",
            rows.schema_ref(),
            std::slice::from_ref(rows),
            origin,
        )
        .await
        .unwrap()
    };
    assert!(matches!(write(&old, &slow).await, Overwritten::Newer(_)));
    let rows = |table: &Table| table.files().unwrap().iter().map(|file| file.rows.unwrap()).sum::<u64>();
    let table = Table::open(&world.lake, "answers/01_ages").await.unwrap().unwrap();
    assert_eq!(rows(&table), report.answers[0].rows.num_rows() as u64);
    // The same rows from newer tables are noted as newer, though none is written.
    world.post("t.user", 0, [crate::support::bad(1)]).await;
    world.archive().await;
    world.clean().await;
    let between = Table::open(&world.lake, "batch/user").await.unwrap().unwrap().as_origin().unwrap();
    world.post("t.user", 0, [crate::support::bad(2)]).await;
    world.archive().await;
    world.clean().await;
    assert_eq!(world.answer().await.answers[0].kept, Kept::Unchanged);
    let between = Origin { run: None, from: vec![between] };
    assert!(matches!(write(&old, &between).await, Overwritten::Newer(_)));
}
