//! A store that fails when a test says so. Only compiled in with the feature `failpoints`.
//!
//! A whole program is told by the variable `PINMILL_STORE_FAULTS`, which names a file: for as long as it is there, every
//! call of the store of a lake in a directory fails, or never ends, as the file says (`refused`, `hangs`).

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and has done nothing.
    Refused,
    /// It is done, and the answer is an error all the same.
    AnswerLost,
    /// It never ends.
    Hangs,
}

/// Says of each call, by its name (`put`, `get`, `list`, `delete`, `copy`), what becomes of it.
pub type Plan = Arc<dyn Fn(&'static str) -> Option<Fault> + Send + Sync>;

/// A store whose calls fail as a plan says.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Plan,
}

impl FaultyStore {
    /// A store over another one.
    pub fn new(inner: Arc<dyn ObjectStore>, plan: Plan) -> Self {
        Self { inner, plan }
    }

    /// Runs a call as the plan says.
    async fn call<T>(&self, name: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        match (self.plan)(name) {
            None => call.await,
            Some(Fault::Refused) => Err(refused(name)),
            Some(Fault::AnswerLost) => call.await.and(Err(refused(name))),
            Some(Fault::Hangs) => futures::future::pending().await,
        }
    }

    /// The first item of a stream that fails, where it is to fail.
    fn stream<T: Send + 'static>(
        &self,
        name: &'static str,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        match (self.plan)(name) {
            None => stream,
            Some(Fault::Refused) => futures::stream::once(async move { Err(refused(name)) }).boxed(),
            Some(Fault::AnswerLost) => stream.map(move |done| done.and(Err(refused(name)))).boxed(),
            Some(Fault::Hangs) => futures::stream::pending().boxed(),
        }
    }
}

fn refused(name: &'static str) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: format!("this {name} was to fail").into() }
}

/// Wraps a store where the environment says that it shall fail.
pub(crate) fn from_environment(store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
    let file = PathBuf::from(std::env::var_os("PINMILL_STORE_FAULTS")?);
    let plan = move |_: &'static str| match std::fs::read_to_string(&file) {
        Ok(text) if text.trim() == "hangs" => Some(Fault::Hangs),
        Ok(_) => Some(Fault::Refused),
        Err(_) => None,
    };
    Some(Arc::new(FaultyStore::new(store, Arc::new(plan))))
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.call("put", self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call("put", self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call("get", self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call("get", self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.stream("delete", self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream("list", self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream("list", self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call("list", self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call("copy", self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.call("put", self.inner.rename_opts(from, to, options)).await
    }
}
