//! An archive that another sink left behind.

use pinmill_flow::{AuditOptions, CleanOptions, Logs};
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
