//! Topics by any name that a post may give.

use pinmill_flow::{AuditOptions, Logs};
use rand::RngExt;

use crate::support::{World, good, small};

/// What a name may be made of.
const CHARACTERS: &[u8] = b"abcxyzABCXYZ0189._-";

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_that_a_post_takes_reaches_its_table() {
    let world = World::new(small());
    let mut rng = pinmill_testkit::rng();
    let mut names: Vec<String> = [
        "_x.user",
        "__.user",
        ".user",
        "...user",
        "-.user",
        "_pinmill.user",
        "partition.0.user",
        "_SUCCESS.user",
    ]
    .map(str::to_owned)
    .into();
    for _ in 0..24 {
        let length = rng.random_range(1..40);
        let drawn = (0..length).map(|_| char::from(CHARACTERS[rng.random_range(0..CHARACTERS.len())]));
        names.push(drawn.collect::<String>() + ".user");
    }
    names.sort();
    names.dedup();
    for name in &names {
        pinmill_broker::check_topic_name(name).unwrap();
        world.topic(name, 1).await;
        world.post(name, 0, (0..2).map(good)).await;
    }
    world.archive().await;
    assert_eq!(world.clean().await.records(), 2 * names.len() as u64);
    let report = world.audit().await;
    assert!(report.balanced, "{report:#?}");
    for name in &names {
        assert_eq!(report.topics[name].clean, 2, "{name}");
    }
}

/// A version that took every name has accepted records for it, and put an object whose manifest found no room.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_name_is_too_long_for_the_archive_stops_nothing_and_is_named() {
    let world = World::new(small());
    let longest = format!("{}.user", "x".repeat(pinmill_lake::archive::max_topic_name() - 5));
    let too_long = format!("{}.user", "x".repeat(225));
    for topic in [longest.as_str(), too_long.as_str(), "t.user"] {
        world.topic(topic, 1).await;
        world.post(topic, 0, (0..3).map(good)).await;
    }
    let dir = world.dir.path().join("topics").join(&too_long).join("partition=0");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{too_long}+0+0000000000.json")), good(0).unwrap()).unwrap();

    assert_eq!(world.archive().await.records, 6);
    assert_eq!(world.clean().await.records(), 7);
    let options = AuditOptions { allow_pending: true, ..AuditOptions::default() };
    let logs = Logs { topics: Some(&*world.log), streams: None };
    let report =
        pinmill_flow::audit(&world.pipeline, &world.engine, logs, &world.lake, &options).await.unwrap();
    assert!(!report.balanced);
    let problems: Vec<_> =
        report.problems.iter().map(|problem| (problem.topic.as_str(), &problem.what)).collect();
    assert!(problems.iter().all(|(topic, _)| *topic == too_long), "{problems:#?}");
    assert!(problems.iter().any(|(_, what)| what.contains("too long for the archive")), "{problems:#?}");
}
