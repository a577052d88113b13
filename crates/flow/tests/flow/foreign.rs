//! An archive that another sink left behind.

use std::path::Path;

use pinmill_broker::EventLog as _;
use pinmill_flow::{AuditOptions, CleanOptions, Error, Logs};
use pinmill_lake::Lake;

use crate::support::{World, good, small};

/// Confluent's sink with `flush.size=1`: one record an object, no manifest, under another directory.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_one_record_objects_under_another_prefix_are_cleaned_where_they_lie() {
    let world = World::new(small());
    let bucket = tempfile::tempdir().unwrap();
    let objects = 4000_u64;
    for topic in ["0a4e65e909bd.user", "124df56aef51.user"] {
        let dir = bucket.path().join("old/topics").join(topic).join("partition=0");
        std::fs::create_dir_all(&dir).unwrap();
        for n in 0..objects / 2 {
            std::fs::write(dir.join(format!("{topic}+0+{n:010}.json")), good(n).unwrap()).unwrap();
        }
    }
    let before: Vec<_> = std::fs::read_dir(bucket.path().join("old/topics")).unwrap().collect();
    let archive = Lake::open(bucket.path().to_str().unwrap()).unwrap();
    let options = CleanOptions {
        archive: Some(archive.clone()),
        prefix: "old/topics".into(),
        ..CleanOptions::default()
    };
    let report = world.clean_with(&options).await.unwrap();
    assert_eq!(
        (report.records(), report.datasets[0].clean, report.datasets[0].objects),
        (objects, objects, objects)
    );
    assert_eq!(report.warnings(), Vec::<String>::new());
    assert_eq!(report.datasets[0].files, 1, "thousands of objects become one file");
    let rows =
        world.sql("SELECT count(*), count(DISTINCT ind), min(_offset), max(_offset) FROM user_all").await;
    assert_eq!(rows[0], [objects, objects / 2, 0, objects / 2 - 1].map(serde_json::Value::from));
    assert_eq!(world.clean_with(&options).await.unwrap().records(), 0);
    assert_eq!(
        before.len(),
        std::fs::read_dir(bucket.path().join("old/topics")).unwrap().count(),
        "nothing is written there"
    );

    let audit =
        AuditOptions { archive: Some(archive), prefix: "old/topics".into(), ..AuditOptions::default() };
    let report = pinmill_flow::audit(&world.pipeline, &world.engine, Logs::default(), &world.lake, &audit)
        .await
        .unwrap();
    assert!(report.balanced, "{report:#?}");
    assert_eq!(report.topics["124df56aef51.user"].clean, objects / 2);
}

/// What a sink leaves that crashed and came back with other settings: objects that overlap, and holes.
#[tokio::test(flavor = "multi_thread")]
async fn overlaps_are_taken_once_and_holes_are_told() {
    let world = World::new(small());
    let dir = world.dir.path().join("topics/t.user/partition=0");
    std::fs::create_dir_all(&dir).unwrap();
    for (first, last) in [(0, 99), (50, 59), (100, 120), (130, 131)] {
        let lines: String = (first..=last)
            .map(|n| format!("{}\n", String::from_utf8(good(n).unwrap().to_vec()).unwrap()))
            .collect();
        std::fs::write(dir.join(format!("t.user+0+{first:010}.json")), lines).unwrap();
    }
    let report = world.clean().await;
    assert_eq!((report.datasets[0].clean, report.datasets[0].quarantined), (123, 0));
    let warnings = report.warnings().join("\n");
    assert!(warnings.contains("no archive object holds offsets 121 to 129 (9)"), "{warnings}");
    assert!(warnings.contains("more than one archive object, taken once (10)"), "{warnings}");
    let rows = world.sql("SELECT count(*), count(DISTINCT _offset) FROM user_all").await;
    assert_eq!(rows[0], [123, 123].map(serde_json::Value::from));
}

/// An archive of one record an object, and how to clean it.
fn old_bucket(dir: &Path, topic: &str, records: u64) -> CleanOptions {
    let objects = dir.join("topics").join(topic).join("partition=0");
    std::fs::create_dir_all(&objects).unwrap();
    for n in 0..records {
        std::fs::write(objects.join(format!("{topic}+0+{n:010}.json")), good(n).unwrap()).unwrap();
    }
    let archive = Lake::open(dir.to_str().unwrap()).unwrap();
    CleanOptions { archive: Some(archive), ..CleanOptions::default() }
}

async fn rows(world: &World) -> u64 {
    world.sql("SELECT count(*) FROM user_all").await[0][0].as_u64().unwrap()
}

/// Their offsets are counted from 0 like those of the bucket: the table's position must not swallow them.
#[tokio::test(flavor = "multi_thread")]
async fn posts_to_a_topic_of_an_old_bucket_are_refused_and_those_to_other_topics_cleaned() {
    let world = World::new(small());
    let bucket = tempfile::tempdir().unwrap();
    let old = old_bucket(bucket.path(), "t.user", 5);
    assert_eq!(world.clean_with(&old).await.unwrap().records(), 5);
    for topic in ["a.user", "t.user", "u.user"] {
        world.topic(topic, 1).await;
        world.post(topic, 0, (0..7).map(good)).await;
    }
    world.archive().await;
    for _ in 0..2 {
        let error = world.clean_with(&CleanOptions::default()).await.unwrap_err();
        assert!(matches!(error, Error::OtherSource { partition: 0, position: 4, .. }), "{error}");
        let words = format!("{error} {}", error.hint().unwrap());
        let place = bucket.path().canonicalize().unwrap();
        let place = place.to_str().unwrap();
        for part in ["table batch/user", "t.user/0", place, "generation", "--data", "prefix"] {
            assert!(words.contains(part), "{words} lacks {part}");
        }
    }
    assert_eq!(rows(&world).await, 5 + 7 + 7, "the bucket's, and those of both other topics");
    assert_eq!(world.clean_with(&old).await.unwrap().records(), 0, "the bucket itself goes on");
    let elsewhere = World::new(small());
    let posts = CleanOptions { archive: Some(world.lake.clone()), ..CleanOptions::default() };
    assert_eq!(elsewhere.clean_with(&posts).await.unwrap().records(), 21, "the way out that is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_bucket_of_the_same_topic_is_refused_and_so_is_one_after_posts() {
    let world = World::new(small());
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.clean_with(&old_bucket(one.path(), "t.user", 5)).await.unwrap();
    let error = world.clean_with(&old_bucket(other.path(), "t.user", 9)).await.unwrap_err().to_string();
    for bucket in [&one, &other] {
        let place = bucket.path().canonicalize().unwrap();
        assert!(error.contains(place.to_str().unwrap()), "{error}");
    }
    assert_eq!(rows(&world).await, 5);

    let posted = World::new(small());
    posted.topic("t.user", 1).await;
    posted.post("t.user", 0, (0..3).map(good)).await;
    posted.archive().await;
    posted.clean().await;
    let error = posted.clean_with(&old_bucket(one.path(), "t.user", 5)).await.unwrap_err();
    assert!(matches!(error, Error::OtherSource { position: 2, .. }), "{error}");
    posted.post("t.user", 0, (3..5).map(good)).await;
    posted.archive().await;
    assert_eq!(posted.clean().await.records(), 2, "the lake's own archive goes on");
    posted.assert_balanced().await;
}

/// The objects of the first one are moved away, as they would be in the way of the new one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_not_taken_for_the_one_before() {
    let world = World::new(small());
    for _ in 0..2 {
        world.topic("t.user", 1).await;
        world.post("t.user", 0, (0..3).map(good)).await;
        world.archive().await;
        match rows(&world).await {
            0 => drop(world.clean().await),
            _ => {
                let error = world.clean_with(&CleanOptions::default()).await.unwrap_err();
                assert!(matches!(error, Error::OtherSource { .. }), "{error}");
            }
        }
        world.log.delete_topic("t.user").await.unwrap();
        for folder in ["topics", "_pinmill"] {
            std::fs::remove_dir_all(world.dir.path().join(folder)).unwrap();
        }
    }
    assert_eq!(rows(&world).await, 3);
}
