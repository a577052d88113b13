//! An object store that fails on purpose.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of it")]

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use pinmill_lake::Lake;
use tokio::sync::Barrier;
use url::Url;

/// What a put does instead of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written; the put says so.
    Refused,
    /// Nothing is written; the put says that the object is there already, as stores do whose 409 means "try again".
    RefusedAsThere,
    /// The object is written; the put says that it failed.
    AnswerLost,
    /// The object is written; a retry within the store finds it and says that it was there already.
    AnswerLostThenExists,
    /// The same, from a store that calls it a condition that was not met.
    AnswerLostThenUnmet,
    /// The put says that it failed; the object is written a moment before the next put of the same path arrives.
    Late,
    /// The request arrives twice; the first of the two answers is given.
    SentTwice,
    /// The object is written; the answer says so and nothing else.
    BareAnswer,
    /// The put waits until a second one does, then both go on: two writers at the same moment.
    Together,
}

/// Which puts fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Puts of paths that contain this.
    pub path: &'static str,
    pub fault: Fault,
    /// How many of them.
    pub times: u64,
}

/// What is done before a put of a path that contains this.
struct Before {
    path: &'static str,
    run: BoxFuture<'static, ()>,
}

/// A store in memory whose puts fail as planned, and which counts deletions.
pub struct FaultyStore {
    inner: InMemory,
    plan: Mutex<Option<Plan>>,
    late: Mutex<Option<(Path, PutPayload, PutOptions)>>,
    pair: Barrier,
    before: Mutex<Option<Before>>,
    /// How much older objects are than they would be, in milliseconds.
    aged: Mutex<HashMap<Path, i64>>,
    pub faults: AtomicU64,
    pub deletes: AtomicU64,
}

impl FaultyStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            plan: Mutex::default(),
            late: Mutex::default(),
            pair: Barrier::new(2),
            before: Mutex::default(),
            aged: Mutex::default(),
            faults: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
        })
    }

    pub fn lake(self: &Arc<Self>) -> Lake {
        let store: Arc<dyn ObjectStore> = Arc::clone(self) as _;
        Lake::on(store, &Url::parse("memory:///a/lake").unwrap()).unwrap()
    }

    pub fn fail(&self, path: &'static str, fault: Fault, times: u64) {
        *self.plan.lock().unwrap() = Some(Plan { path, fault, times });
    }

    pub fn heal(&self) {
        *self.plan.lock().unwrap() = None;
    }

    /// The next put of a path that contains `path` waits for `run`.
    pub fn before(&self, path: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        *self.before.lock().unwrap() = Some(Before { path, run: run.boxed() });
    }

    /// Makes the data files that are there look as if they had been written an hour earlier.
    pub async fn age_data_files(&self) {
        let mut listing = self.inner.list(None);
        while let Some(meta) = listing.next().await {
            let path = meta.unwrap().location;
            if path.as_ref().ends_with(".parquet") && !path.as_ref().contains("_delta_log") {
                *self.aged.lock().unwrap().entry(path).or_default() += 3_600_000;
            }
        }
    }

    fn aged(&self, meta: ObjectMeta) -> ObjectMeta {
        let by = self.aged.lock().unwrap().get(&meta.location).copied().unwrap_or_default();
        ObjectMeta { last_modified: meta.last_modified - std::time::Duration::from_millis(by as u64), ..meta }
    }

    /// Writes what is late for this path, if anything is.
    async fn arrive(&self, path: &Path) {
        let late = self.late.lock().unwrap().take_if(|(late, ..)| *late == *path);
        if let Some((path, payload, opts)) = late {
            // Somebody else may have been there first; nobody hears of it.
            let _ = self.inner.put_opts(&path, payload, opts).await;
        }
    }

    fn fault(&self, path: &Path) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        let plan = plan.as_mut().filter(|plan| plan.times > 0 && path.as_ref().contains(plan.path))?;
        plan.times -= 1;
        self.faults.fetch_add(1, Ordering::Relaxed);
        Some(plan.fault)
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "the answer was lost".into() }
}

fn there(location: &Path) -> object_store::Error {
    let (path, source) = (location.to_string(), "412 after a retry, or 409".into());
    object_store::Error::AlreadyExists { path, source }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.arrive(location).await;
        let before = self.before.lock().unwrap().take_if(|before| location.as_ref().contains(before.path));
        if let Some(before) = before {
            before.run.await;
        }
        match self.fault(location) {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Refused) => Err(lost()),
            Some(Fault::RefusedAsThere) => Err(there(location)),
            Some(Fault::AnswerLost) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(lost())
            }
            Some(Fault::AnswerLostThenExists) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(there(location))
            }
            Some(Fault::AnswerLostThenUnmet) => {
                self.inner.put_opts(location, payload, opts).await?;
                let (path, source) = (location.to_string(), "412 after a retry".into());
                Err(object_store::Error::Precondition { path, source })
            }
            Some(Fault::Late) => {
                *self.late.lock().unwrap() = Some((location.clone(), payload, opts));
                Err(lost())
            }
            Some(Fault::SentTwice) => {
                let answer = self.inner.put_opts(location, payload.clone(), opts.clone()).await;
                let again = self.inner.put_opts(location, payload, opts).await;
                let refused = matches!(again, Err(object_store::Error::AlreadyExists { .. }));
                assert!(refused, "{location} was written twice: its put has no condition");
                answer
            }
            Some(Fault::BareAnswer) => {
                self.inner.put_opts(location, payload, opts).await?;
                Ok(PutResult { e_tag: None, version: None })
            }
            Some(Fault::Together) => {
                self.pair.wait().await;
                self.inner.put_opts(location, payload, opts).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.inner.get_opts(location, options).await?;
        Ok(GetResult { meta: self.aged(got.meta.clone()), ..got })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.deletes.fetch_add(1, Ordering::Relaxed);
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let aged = self.aged.lock().unwrap().clone();
        let listing = self.inner.list(prefix);
        let older = move |meta: ObjectMeta| {
            let by = aged.get(&meta.location).copied().unwrap_or_default();
            ObjectMeta {
                last_modified: meta.last_modified - std::time::Duration::from_millis(by as u64),
                ..meta
            }
        };
        listing.map(move |meta| meta.map(&older)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// All objects of a lake with their bytes, by path.
pub async fn contents(lake: &Lake) -> std::collections::BTreeMap<String, Bytes> {
    use object_store::ObjectStoreExt;
    let mut contents = std::collections::BTreeMap::new();
    let mut listing = lake.store().list(None);
    while let Some(meta) = listing.next().await {
        let path = meta.unwrap().location;
        let bytes = lake.store().get(&path).await.unwrap().bytes().await.unwrap();
        contents.insert(path.to_string(), bytes);
    }
    contents
}
