//! Bad records: never in the way of good ones, never lost, never silent.

use bytes::Bytes;
use pinmill_flow::{CleanOptions, Error};

use crate::support::{CLEAN, World, bad, good, pipeline, small};

#[tokio::test(flavor = "multi_thread")]
async fn one_ten_and_a_hundred_percent_bad() {
    for one_bad_in in [100, 10, 1] {
        let mut rng = pinmill_testkit::rng();
        let world = World::new(small());
        world.topic("t.user", 1).await;
        world.post_some(&mut rng, "t.user", 0, 2000, one_bad_in).await;
        world.archive().await;
        let report = world.clean().await;
        assert!(report.datasets[0].quarantined > 0);
        world.assert_settled("t.user").await;
        world.assert_balanced().await;
        assert_eq!(world.clean().await.records(), 0, "bad records are not tried again and again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_alternations() {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..1000).flat_map(|n| [good(n), bad(n)])).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!((report.datasets[0].clean, report.datasets[0].quarantined), (1000, 1000));
    world.assert_settled("t.user").await;
}

/// A row whose SQL fails takes no other row with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_the_sql_is_isolated() {
    let clean = "SELECT ind, btrim(name) AS name, CAST(100 / (age - 33) AS INT) AS age FROM raw_user\n";
    let world = World::new(pipeline(
        |manifest| manifest.split("[[dataset.expect]]").next().unwrap().to_owned(),
        clean,
    ));
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..200).map(good)).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!((report.datasets[0].clean, report.datasets[0].quarantined), (195, 5), "five are 33 years old");
    let quarantined = world.quarantined().await;
    assert!(
        quarantined.iter().all(|record| record.reason.contains("clean/user.sql failed")),
        "{quarantined:?}"
    );
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_stops_commits_nothing_and_names_the_first_offender() {
    let stops = pipeline(|manifest| format!("{manifest}action = \"stop\"\n"), CLEAN);
    let world = World::new(stops);
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..500).map(good)).await;
    let too_young = |n: u64| Some(Bytes::from(format!(r#"{{"ind":{n},"age":0}}"#)));
    world.post("t.user", 0, [too_young(1), bad(3), too_young(2)]).await;
    world.post("t.user", 0, (0..500).map(good)).await;
    world.archive().await;
    let options = CleanOptions { chunk_bytes: 4000, workers: Some(3), ..CleanOptions::default() };
    let error = world.clean_with(&options).await.unwrap_err();
    let Error::Stopped { topic, partition, offset, reason, dataset } = &error else { panic!("{error}") };
    assert_eq!((dataset.as_str(), topic.as_str(), *partition, *offset), ("user", "t.user", 0, 500));
    assert!(reason.contains("age 0 is not positive"), "{reason}");
    assert!(error.hint().is_some());
    assert_eq!(world.sql("SELECT count(*) FROM user_all").await[0][0], 0);
    assert_eq!(world.quarantined().await, vec![]);
}

/// Every way in which JSON rows change over time, under every policy: counted, quarantined or stopped, never silent.
#[tokio::test(flavor = "multi_thread")]
async fn drift_is_never_silent() {
    let drifted: [(&str, &str, bool); 9] = [
        ("a new field", r#"{"ind":1,"name":"x","age":1,"colour":"red"}"#, true),
        ("a renamed field", r#"{"ind":1,"full_name":"x","age":1}"#, true),
        ("a field in another case", r#"{"IND":1,"name":"x","age":1}"#, false),
        ("other order", r#"{"age":1,"name":"x","ind":1}"#, false),
        ("a missing optional field", r#"{"ind":1,"age":1}"#, false),
        ("int to string", r#"{"ind":"1","name":"x","age":"1"}"#, false),
        ("int to float", r#"{"ind":1.0,"name":"x","age":1.0}"#, false),
        ("nested text", r#"{"ind":1,"name":{"first":"x"},"age":1}"#, false),
        ("an old producer after a new one", r#"{"ind":1,"age":1,"name":"x"}"#, false),
    ];
    for (what, row, unknown) in drifted {
        for policy in ["warn", "quarantine", "stop"] {
            let manifest = |manifest: &str| {
                manifest.replacen(
                    "key = \"ind\"",
                    &format!("key = \"ind\"\nunknown_fields = \"{policy}\""),
                    1,
                )
            };
            let world = World::new(pipeline(manifest, CLEAN));
            world.topic("t.user", 1).await;
            let row = Some(Bytes::from_static(row.as_bytes()));
            world.post("t.user", 0, [good(1), row, good(2)]).await;
            world.archive().await;
            let result = world.clean_with(&CleanOptions::default()).await;
            match (unknown, policy) {
                (true, "stop") => {
                    let error = result.unwrap_err();
                    assert!(
                        matches!(&error, Error::Stopped { offset: 1, topic, .. } if topic == "t.user"),
                        "{what}: {error}"
                    );
                    continue;
                }
                (true, "quarantine") => {
                    let report = result.unwrap();
                    assert_eq!((report.datasets[0].clean, report.datasets[0].quarantined), (2, 1), "{what}");
                }
                (true, _) => {
                    let report = result.unwrap();
                    assert_eq!(report.datasets[0].clean, 3, "{what}");
                    assert!(!report.warnings().is_empty(), "{what} passed without a word");
                }
                (false, _) => assert_eq!(result.unwrap().datasets[0].clean, 3, "{what}"),
            }
            world.assert_balanced().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_warns_keeps_the_row_and_says_so() {
    let world = World::new(pipeline(|manifest| format!("{manifest}action = \"warn\"\n"), CLEAN));
    world.topic("t.user", 1).await;
    world.post("t.user", 0, [good(1), Some(Bytes::from_static(b"{\"ind\":7,\"age\":-3}"))]).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!(report.datasets[0].clean, 2);
    assert_eq!(report.warnings(), ["user: expectation `age_is_positive` is violated (1)"]);
}
