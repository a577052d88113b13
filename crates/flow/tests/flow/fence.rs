//! A loader that stands still in the middle of its work, as a process does that is stopped, while another one takes its
//! place: when it goes on, it is fenced, and no record is lost or doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use pinmill_broker::Plane;
use pinmill_flow::{Error, Half, StreamConfig, StreamSource, Streamer};
use pinmill_lake::Lake;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::stream::quick;
use crate::support::{World, bad, engine, good, small};

/// A store whose first put of some path waits until the gate is opened.
#[derive(Debug)]
struct Gate {
    inner: Arc<dyn ObjectStore>,
    /// Part of the path.
    before: &'static str,
    passed: AtomicBool,
    reached: Semaphore,
    opened: Semaphore,
}

impl Gate {
    fn before(before: &'static str, store: &Arc<dyn ObjectStore>) -> Arc<Self> {
        let (passed, inner) = (AtomicBool::new(false), Arc::clone(store));
        Arc::new(Self { inner, before, passed, reached: Semaphore::new(0), opened: Semaphore::new(0) })
    }

    /// Waits until somebody stands before the gate.
    async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    fn open(&self) {
        self.opened.add_permits(1);
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gate before {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        if location.as_ref().contains(self.before) && !self.passed.swap(true, Ordering::SeqCst) {
            self.reached.add_permits(1);
            self.opened.acquire().await.unwrap().forget();
        }
        self.inner.put_opts(location, payload, opts).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
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

/// Lets a loader stand still before a put, lets another one load all there is and more that comes meanwhile, and lets the
/// first go on.
async fn assert_fenced_before(put: &'static str) {
    let mut rng = pinmill_testkit::rng();
    let world = World::new(small());
    world.topic("a-user", 1).await;
    // The tables are made and have rows, so that what is put from here on is put for the records that come now.
    world.post_some(&mut rng, "a-user", 0, 30, 4).await;
    world.stream().await;
    world.post("a-user", 0, [bad(1), good(2)]).await;
    world.post_some(&mut rng, "a-user", 0, 40, 4).await;

    let gate = Gate::before(put, world.lake.store());
    let lake = Lake::on(Arc::clone(&gate) as Arc<dyn ObjectStore>, world.lake.url()).unwrap();
    let sources = vec![StreamSource { log: world.event_log(), plane: Plane::Streams }];
    let config = StreamConfig { commit_every: Duration::from_millis(1), ..quick() };
    let first = Streamer::new(world.pipeline.clone(), Arc::new(engine()), &lake, sources, config);
    let stop = CancellationToken::new();
    let mut first = tokio::spawn({
        let stop = stop.clone();
        async move { first.run(stop).await }
    });
    tokio::select! {
        () = gate.reached() => {}
        ended = &mut first => panic!("it never came to a put of {put}: {ended:?}"),
    }

    world.post_some(&mut rng, "a-user", 0, 20, 4).await;
    assert_eq!(
        world.stream().await.records(),
        62,
        "its successor loads what it had read, and what came since"
    );
    gate.open();
    // A dataset's loop that has ended waits to be told to stop, and keeps new shards in the log meanwhile.
    stop.cancel();
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Lake(pinmill_lake::Error::Fenced { .. })), "{put}: {error}");
    let words = error.to_string();
    assert!(words.contains("table stream/user: another writer is at work on a-user/0"), "{put}: {words}");
    assert!(words.contains("was to be at offset 29 and is at offset 91"), "{put}: {words}");
    assert!(error.hint().is_some_and(|hint| hint.contains("nothing was written twice")), "{put}");

    world.assert_settled_in(Half::Stream, "a-user").await;
    world.assert_streamed(&*world.log).await;
    // Whoever comes next goes on.
    world.post_some(&mut rng, "a-user", 0, 10, 4).await;
    assert_eq!(world.stream().await.records(), 10);
    world.assert_settled_in(Half::Stream, "a-user").await;
    world.assert_streamed(&*world.log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_stood_still_before_its_rows_were_written_is_fenced() {
    assert_fenced_before("/stream/user/part-").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_stood_still_before_its_quarantine_was_committed_is_fenced() {
    assert_fenced_before("/stream/quarantine/_delta_log/0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_stood_still_before_its_commit_is_fenced() {
    assert_fenced_before("/stream/user/_delta_log/0").await;
}
