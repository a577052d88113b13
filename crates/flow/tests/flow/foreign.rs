//! An archive that another sink left behind.

use std::path::Path;

use pinmill_broker::EventLog as _;
use pinmill_flow::{AuditOptions, CleanOptions, Logs};
use pinmill_lake::Lake;
use serde_json::{Value, json};

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

/// Lineage, offset and name of every row, in the order of the log.
async fn rows(world: &World, topic: &str) -> Vec<Vec<Value>> {
    let of_topic = format!("SELECT _lineage, _offset, ind FROM user_all WHERE _topic = '{topic}'");
    world.sql(&format!("{of_topic} ORDER BY _lineage, _offset")).await
}

/// Those of `count` records from `first` on, in one life of a topic.
fn life(lineage: u64, first: u64, count: u64) -> Vec<Vec<Value>> {
    (0..count).map(|n| vec![json!(lineage), json!(n), json!(first + n)]).collect()
}

/// Their offsets are counted from 0 like those of the bucket: the table's position must not swallow them.
#[tokio::test(flavor = "multi_thread")]
async fn posts_to_a_topic_of_an_old_bucket_are_another_life_of_it() {
    let world = World::new(small());
    let bucket = tempfile::tempdir().unwrap();
    let old = old_bucket(bucket.path(), "t.user", 5);
    assert_eq!(world.clean_with(&old).await.unwrap().records(), 5);
    for topic in ["a.user", "t.user"] {
        world.topic(topic, 1).await;
        world.post(topic, 0, (100..107).map(good)).await;
    }
    world.archive().await;
    assert_eq!(world.clean().await.records(), 14);
    assert_eq!(rows(&world, "t.user").await, [life(0, 0, 5), life(1, 100, 7)].concat());
    assert_eq!(rows(&world, "a.user").await, life(0, 100, 7), "a name without a past");
    for options in [&old, &CleanOptions::default()] {
        assert_eq!(world.clean_with(options).await.unwrap().records(), 0, "both go on where they were");
    }
    old_bucket(bucket.path(), "t.user", 6);
    world.post("t.user", 0, [good(107)]).await;
    world.archive().await;
    for options in [&old, &CleanOptions::default()] {
        assert_eq!(world.clean_with(options).await.unwrap().records(), 1);
    }
    assert_eq!(rows(&world, "t.user").await, [life(0, 0, 6), life(1, 100, 8)].concat());
    world.assert_balanced().await;
    let elsewhere = World::new(small());
    let posts = CleanOptions { archive: Some(world.lake.clone()), ..CleanOptions::default() };
    assert_eq!(elsewhere.clean_with(&posts).await.unwrap().records(), 8 + 7, "the posts without the bucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bucket_of_a_topic_is_a_life_of_it_whichever_came_first() {
    let world = World::new(small());
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (100..103).map(good)).await;
    world.archive().await;
    world.clean().await;
    for _ in 0..2 {
        for (bucket, records) in [(&one, 5), (&other, 9)] {
            world.clean_with(&old_bucket(bucket.path(), "t.user", records)).await.unwrap();
        }
    }
    let expected = [life(0, 100, 3), life(1, 0, 5), life(2, 0, 9)].concat();
    assert_eq!(rows(&world, "t.user").await, expected);
    world.assert_balanced().await;
}

/// Objects of another sink that were copied into the lake's own archive.
#[tokio::test(flavor = "multi_thread")]
async fn posts_do_not_run_into_objects_that_were_brought_into_the_lakes_own_archive() {
    let world = World::new(small());
    old_bucket(world.dir.path(), "t.user", 5);
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (100..107).map(good)).await;
    world.archive().await;
    assert_eq!(world.clean().await.records(), 12);
    assert_eq!(rows(&world, "t.user").await, [life(0, 0, 5), life(1, 100, 7)].concat());
    world.assert_balanced().await;
}

/// A topic that is deleted and made again, a few times; and the whole archive is moved away in between once.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_another_life_of_its_name() {
    let mut world = World::new(small());
    let mut expected = Vec::new();
    for lives in 0..4 {
        world.topic("t.user", 1).await;
        world.post("t.user", 0, (10 * lives..10 * lives + 3 + lives).map(good)).await;
        world.archive().await;
        world.clean().await;
        expected.extend(life(lives, 10 * lives, 3 + lives));
        assert_eq!(rows(&world, "t.user").await, expected);
        if lives < 3 {
            world.assert_balanced().await;
        }
        world.log.delete_topic("t.user").await.unwrap();
        world.restarted();
        if lives == 2 {
            for folder in ["topics", "_pinmill"] {
                std::fs::remove_dir_all(world.dir.path().join(folder)).unwrap();
            }
        }
    }
}
