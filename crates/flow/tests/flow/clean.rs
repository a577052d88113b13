//! Incremental, exactly once, whatever the boundaries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use pinmill_flow::{ArchiveConfig, CleanOptions, Error, Kept, StepLimit};
use pinmill_lake::Lake;
use rand::RngExt;

use crate::support::{World, bad, good, small};

/// A store that counts what is read of the archive, and can be told to fail puts of a Delta log entry after they
/// have landed.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn ObjectStore>,
    archive_reads: AtomicU64,
    lose_answers: AtomicU64,
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "watched {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let done = self.inner.put_opts(location, payload, opts).await?;
        let lose = |left: u64| left.checked_sub(1);
        let is_commit = location.as_ref().contains("_delta_log/");
        if is_commit && self.lose_answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(object_store::Error::Generic {
                store: "watched",
                source: "the answer was lost".into(),
            });
        }
        Ok(done)
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if location.as_ref().contains("/topics/") && location.as_ref().ends_with(".json") && !options.head {
            self.archive_reads.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The world's lake behind a watched store, as a remote one would be.
fn watch(world: &mut World) -> Arc<Watched> {
    let (inner, archive_reads, lose_answers) =
        (Arc::clone(world.lake.store()), AtomicU64::new(0), AtomicU64::new(0));
    let watched = Arc::new(Watched { inner, archive_reads, lose_answers });
    world.lake = Lake::on(Arc::clone(&watched) as Arc<dyn ObjectStore>, world.lake.url()).unwrap();
    watched
}

fn small_objects() -> ArchiveConfig {
    ArchiveConfig { max_records: 10, ..ArchiveConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_posts_to_answers_and_a_balanced_audit() {
    let world = World::new(small());
    world.topic("a.user", 2).await;
    world.topic("user", 1).await;
    world.post("a.user", 0, (0..50).map(good)).await;
    world.post("a.user", 1, (50..60).map(good).chain((0..5).map(bad))).await;
    world.post("user", 0, (0..10).map(good)).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!((report.records(), report.datasets[0].clean, report.datasets[0].quarantined), (75, 70, 5));
    let answers = world.answer().await;
    assert_eq!(answers.answers[0].title, "Users by age");
    assert_eq!(answers.tables["user"], report.datasets[0].version);
    let users: i64 =
        world.sql("SELECT sum(n) FROM (SELECT count(*) AS n FROM user)").await[0][0].as_i64().unwrap();
    assert_eq!(users, 60, "the current view has each key once");
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_clean_reads_only_what_is_new() {
    let mut world = World::new(small());
    let watched = watch(&mut world);
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..95).map(good)).await;
    world.archive_with(small_objects()).await.unwrap();
    let first = world.clean().await;
    assert_eq!((first.records(), first.datasets[0].objects), (95, 10));
    let before = watched.archive_reads.swap(0, Ordering::SeqCst);
    assert!(before >= 10, "{before}");

    let nothing = world.clean().await;
    assert_eq!((nothing.records(), nothing.datasets[0].commits), (0, 0));
    assert_eq!(watched.archive_reads.swap(0, Ordering::SeqCst), 0, "nothing is new, no object is opened");

    world.post("t.user", 0, (100..103).map(good)).await;
    world.archive_with(small_objects()).await.unwrap();
    let second = world.clean().await;
    assert_eq!((second.records(), second.datasets[0].objects), (3, 1));
    assert_eq!(watched.archive_reads.load(Ordering::SeqCst), 1, "one object is new, one is opened");
    assert!(second.warnings().is_empty(), "{:?}", second.warnings());
    world.assert_settled("t.user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_backlog_makes_one_file_and_one_commit() {
    let world = World::new(small());
    world.topic("t.user", 3).await;
    for partition in 0..3 {
        world.post("t.user", partition, (0..20).map(good)).await;
    }
    world.archive_with(small_objects()).await.unwrap();
    let report = world.clean().await;
    assert_eq!((report.datasets[0].files, report.datasets[0].commits), (1, 1));
    assert_eq!(report.datasets[0].partitions.len(), 3);
}

/// Archive objects, chunks and commits end somewhere else each time; the rows are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_other_batch_boundaries_give_the_same_rows() {
    let mut rng = pinmill_testkit::rng();
    let source = World::new(small());
    source.topic("t.user", 2).await;
    source.post_some(&mut rng, "t.user", 0, 60, 5).await;
    source.post_some(&mut rng, "t.user", 1, 25, 5).await;
    let query = "SELECT _partition, _offset, ind, name, age FROM user_all ORDER BY _partition, _offset";
    let mut rows = None;
    for _ in 0..100 {
        let mut world = World::new(small());
        world.log = Arc::clone(&source.log);
        for partition in 0..2 {
            use pinmill_broker::EventLog;
            world.log.commit_position(pinmill_flow::ARCHIVE_READER, "t.user", partition, 0).await.unwrap();
        }
        let config = ArchiveConfig { max_records: rng.random_range(1..70), ..ArchiveConfig::default() };
        world.archive_with(config).await.unwrap();
        let step = StepLimit { records: rng.random_range(1..90), ..StepLimit::default() };
        let options = CleanOptions {
            step,
            workers: Some(rng.random_range(1..4)),
            chunk_bytes: rng.random_range(1..4000),
            ..CleanOptions::default()
        };
        world.clean_with(&options).await.unwrap();
        world.assert_settled("t.user").await;
        let found = world.sql(query).await;
        assert_eq!(*rows.get_or_insert_with(|| found.clone()), found);
    }
}

/// The put of a commit lands and its answer is lost: no second commit, nothing lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_commits_whose_answer_is_lost_are_known_again() {
    let mut rng = pinmill_testkit::rng();
    let mut world = World::new(small());
    let watched = watch(&mut world);
    world.topic("t.user", 1).await;
    let mut commits = 0;
    for _ in 0..100 {
        let count = rng.random_range(1..8);
        world.post_some(&mut rng, "t.user", 0, count, 3).await;
        world.archive().await;
        watched.lose_answers.store(rng.random_range(0..3), Ordering::SeqCst);
        commits += world.clean().await.datasets[0].commits;
        watched.lose_answers.store(0, Ordering::SeqCst);
    }
    assert_eq!(commits, 100);
    world.assert_settled("t.user").await;
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_cleans_at_once_one_commits_and_nothing_is_doubled() {
    let mut rng = pinmill_testkit::rng();
    let world = World::new(small());
    world.topic("t.user", 2).await;
    let mut fenced = 0;
    for _ in 0..20 {
        world.post_some(&mut rng, "t.user", 0, 20, 4).await;
        world.post_some(&mut rng, "t.user", 1, 20, 4).await;
        world.archive_with(small_objects()).await.unwrap();
        let step = |records| StepLimit { records, ..StepLimit::default() };
        let one = CleanOptions { step: step(10), ..CleanOptions::default() };
        let other = CleanOptions { step: step(30), ..CleanOptions::default() };
        let (one, other) = tokio::join!(world.clean_with(&one), world.clean_with(&other));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        for result in [one, other] {
            match result {
                Ok(_) => {}
                Err(Error::Lake(pinmill_lake::Error::Fenced { .. })) => fenced += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!("{fenced} of 40 cleans were refused");
    world.clean().await;
    world.assert_settled("t.user").await;
    world.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_does_not_hold_what_its_manifest_says_is_named() {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    world.post("t.user", 0, (0..30).map(good)).await;
    world.archive_with(small_objects()).await.unwrap();
    let path = world.dir.path().join("topics/t.user/partition=0/t.user+0+0000000010.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [text.replace("No 12", "No 13"), text.lines().skip(1).map(|l| format!("{l}\n")).collect()]
    {
        std::fs::write(&path, damaged).unwrap();
        let report = world.clean().await;
        let named: Vec<&str> = report.damaged().map(|unread| unread.path.as_str()).collect();
        assert_eq!(named, ["topics/t.user/partition=0/t.user+0+0000000010.json"]);
    }
    std::fs::write(&path, text).unwrap();
    world.clean().await;
    world.assert_settled("t.user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_no_dataset_takes_is_told() {
    let world = World::new(small());
    world.topic("orders", 1).await;
    world.post("orders", 0, [good(1)]).await;
    world.archive().await;
    let report = world.clean().await;
    assert_eq!(report.unclaimed, ["orders"]);
    assert!(report.warnings()[0].contains("`orders`"));
    let audit = world.audit().await;
    assert!(audit.balanced, "{audit:?}");
    assert_eq!(audit.unclaimed, ["orders"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_records_all_go_into_one_partition_is_told() {
    let world = World::new(small());
    world.topic("t.user", 2).await;
    world.post("t.user", 0, (0..1200).map(good)).await;
    world.post("t.user", 1, [good(1)]).await;
    world.archive().await;
    let report = world.clean().await;
    assert!(
        report.warnings().iter().any(|warning| warning.contains("one of 2 partitions took 99 %")),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_written_once_and_again_only_when_they_change() {
    let world = World::new(small());
    world.topic("t.user", 1).await;
    assert_eq!(
        world.answer().await.answers[0].rows.num_rows(),
        0,
        "without any clean there are no rows, and no error"
    );
    world.post("t.user", 0, (0..10).map(good)).await;
    world.archive().await;
    world.clean().await;
    let kept = |report: pinmill_flow::AnswerReport| report.answers[0].kept;
    assert_eq!(kept(world.answer().await), Kept::Written);
    let commit = world.dir.path().join("answers/01_ages/_delta_log/00000000000000000002.json");
    let commit = std::fs::read_to_string(commit).unwrap();
    assert!(commit.contains(" from user@1\""), "it says which rows it is about: {commit}");
    assert_eq!(kept(world.answer().await), Kept::Unchanged);
    world.post("t.user", 0, [good(11)]).await;
    world.archive().await;
    world.clean().await;
    assert_eq!(kept(world.answer().await), Kept::Written);
    let options = pinmill_flow::AnswerOptions { names: vec!["09_nothing".into()], ..Default::default() };
    let error =
        pinmill_flow::answer(&world.pipeline, &world.engine, &world.lake, &options).await.unwrap_err();
    assert!(error.to_string().contains("there are: 01_ages"), "{error}");
}
