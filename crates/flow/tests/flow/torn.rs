//! A commit that was cut at the end of a line is a smaller commit, and Delta reads it as one. It is found all the same, as a
//! commit says how many actions it has.

use std::path::PathBuf;

use pinmill_flow::{AuditOptions, Logs};

use crate::support::{World, good, small};

/// Four commits of ten rows each, and the file of one of them with what it holds: who made it and what it covers, a data
/// file, and the position.
async fn world(version: u64) -> (World, PathBuf, String) {
    let world = World::new(small());
    world.topic("user", 1).await;
    for commit in 0..4 {
        world.post("user", 0, (10 * commit..10 * (commit + 1)).map(good)).await;
        world.archive().await;
        assert_eq!(world.clean().await.datasets[0].version, commit + 1);
    }
    world.assert_balanced().await;
    let path = world.dir.path().join(format!("batch/user/_delta_log/{version:020}.json"));
    let whole = std::fs::read_to_string(&path).unwrap();
    let kinds: Vec<&str> = whole.lines().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(kinds, ["commitInfo", "add", "txn"]);
    (world, path, whole)
}

/// What the audit says: that something is off, or that something cannot be read.
async fn told(world: &World) -> String {
    let log = world.event_log();
    let logs = Logs { topics: Some(&*log), streams: None };
    let options = AuditOptions { allow_pending: true, ..AuditOptions::default() };
    match pinmill_flow::audit(&world.pipeline, &world.engine, logs, &world.lake, &options).await {
        Ok(report) => {
            assert!(!report.balanced, "{report:#?}");
            report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_cut_is_named_by_the_audit_whichever_it_is() {
    for version in [2, 4] {
        let (world, path, whole) = world(version).await;
        let first = whole.lines().next().unwrap();
        std::fs::write(&path, format!("{first}\n")).unwrap();
        let words = told(&world).await;
        assert!(words.contains(&format!("{version:020}.json")), "commit {version}: {words}");
        assert!(words.contains("is incomplete: it contains 0 of 2 actions"), "commit {version}: {words}");
        std::fs::write(&path, whole).unwrap();
        world.assert_balanced().await;
    }
}

/// The newest commit takes its position along. What a load put into it is loaded again from the archive.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_a_byte_is_named_by_the_audit_and_the_newest_can_be_made_again() {
    for version in [2, 4] {
        let (world, path, _) = world(version).await;
        std::fs::write(&path, "").unwrap();
        let words = told(&world).await;
        assert!(words.contains("is incomplete: it is empty"), "commit {version}: {words}");
    }

    let (newest, path, _) = world(4).await;
    std::fs::remove_file(&path).unwrap();
    let report = newest.audit().await;
    assert_eq!((report.balanced, report.pending_clean), (false, 10), "{report:#?}");
    assert_eq!(newest.clean().await.records(), 10);
    newest.assert_settled("user").await;
    newest.assert_balanced().await;
}
