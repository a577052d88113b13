//! A local directory as an object store whose puts survive a power loss.
//!
//! `object_store`'s own local store renames a file into place without asking the disk to keep it, so that after
//! a power loss a name may stand for a file that is empty or torn. That would break both of our promises: the
//! log forgets records once they are archived, and a Delta commit names data files that must be whole.
//!
//! A put here: write a file in the lake's staging folder (`staging.rs`), flush it, link or rename it to its name, flush
//! the folder of that name. Readers of the archive and of tables see whole files only, each once.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the link or rename | nothing is visible; the staged file is removed by the next process that puts one |
//! | after it, before the folder is flushed | the object is there and whole. A power loss may take its name away again, as if the put had not happened |
//!
//! A put that finds the name there has it kept too: whoever made it may have died before that, and the caller takes the
//! object over. An object that comes in parts (Delta's large checkpoints) is gathered in memory and put as one.
//!
//! Where the destination lies on another file system (a mount within the lake), the file is staged beside it, under a
//! name that begins with a dot: Spark, Hive and `*` pass over those.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::staging::Staging;

/// `LocalFileSystem`, with puts that are staged out of sight, and are on disk when they return.
#[derive(Debug)]
pub(crate) struct DurableLocal {
    inner: LocalFileSystem,
    puts: Arc<Puts>,
}

/// How files are put.
#[derive(Debug)]
struct Puts {
    staging: Arc<Staging>,
    /// False for tests and benches: a put does not wait for the disk.
    fsync: bool,
}

impl DurableLocal {
    /// A store for the lake in the folder `lake`.
    pub(crate) fn new(lake: &FsPath, fsync: bool) -> Self {
        let puts = Arc::new(Puts { staging: Arc::new(Staging::new(lake)), fsync });
        Self { inner: LocalFileSystem::new(), puts }
    }

    /// Where files are written before they get their names.
    pub(crate) fn staging(&self) -> Arc<Staging> {
        Arc::clone(&self.puts.staging)
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, opts).await,
        };
        if !opts.attributes.is_empty() {
            return self.inner.put_opts(location, payload, opts).await;
        }
        put(&self.puts, self.inner.path_to_filesystem(location)?, payload, create).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return self.inner.put_multipart_opts(location, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        Ok(Box::new(InParts { puts: Arc::clone(&self.puts), path, gathered: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
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

/// An object that comes in parts.
#[derive(Debug)]
struct InParts {
    puts: Arc<Puts>,
    path: PathBuf,
    gathered: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for InParts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.gathered.extend(data);
        futures::future::ready(Ok(())).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload: PutPayload = std::mem::take(&mut self.gathered).into_iter().collect();
        put(&self.puts, self.path.clone(), payload, false).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.gathered.clear();
        Ok(())
    }
}

async fn put(puts: &Arc<Puts>, path: PathBuf, payload: PutPayload, create: bool) -> Result<PutResult> {
    let puts = Arc::clone(puts);
    let put = move || puts.put(&path, &payload, create).map_err(|error| store_error(&path, error));
    tokio::task::spawn_blocking(put).await??;
    Ok(PutResult { e_tag: None, version: None })
}

fn store_error(path: &FsPath, source: io::Error) -> object_store::Error {
    let path = path.display().to_string();
    match source.kind() {
        ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: source.into() },
        ErrorKind::PermissionDenied => object_store::Error::PermissionDenied { path, source: source.into() },
        _ => object_store::Error::Generic {
            store: "local directory",
            source: format!("cannot write {path}: {source}").into(),
        },
    }
}

impl Puts {
    fn put(&self, path: &FsPath, payload: &PutPayload, create: bool) -> io::Result<()> {
        let parent =
            path.parent().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no parent directory"))?;
        match self.fsync {
            true => create_dirs_durably(parent)?,
            false => std::fs::create_dir_all(parent)?,
        }
        let mut placed = self.place(self.staging.file()?, path, payload, create);
        if matches!(&placed, Err(error) if error.kind() == ErrorKind::CrossesDevices) {
            placed = self.place(beside(path)?, path, payload, create);
        }
        let is_there = matches!(&placed, Err(error) if error.kind() == ErrorKind::AlreadyExists);
        if self.fsync && (placed.is_ok() || is_there) {
            sync_dir(parent)?;
        }
        placed
    }

    /// Fills a staged file and gives it its name.
    fn place(
        &self,
        (mut file, staged): (File, PathBuf),
        path: &FsPath,
        payload: &PutPayload,
        create: bool,
    ) -> io::Result<()> {
        let written =
            payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| match self.fsync {
                true => file.sync_all(),
                false => Ok(()),
            });
        let placed = written.and_then(|()| {
            fail::fail_point!("lake::store::before_name", |_| Err(injected()));
            if create {
                std::fs::hard_link(&staged, path)?;
            } else {
                std::fs::rename(&staged, path)?;
            }
            fail::fail_point!("lake::store::after_name", |_| Err(injected()));
            Ok(())
        });
        if create || placed.is_err() {
            // A leftover is out of sight and does no harm; the put's own outcome matters more.
            let _ = std::fs::remove_file(&staged);
        }
        placed
    }
}

/// A staged file in the destination's own folder.
fn beside(path: &FsPath) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let name = format!(".staged#{}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let staged = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a failpoint returns: an error that stands for the process's end.
#[cfg(feature = "failpoints")]
fn injected() -> io::Error {
    io::Error::other("failpoint")
}

/// Makes the directories that are missing and has each new name kept by its parent.
pub(crate) fn create_dirs_durably(dir: &FsPath) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let Some(parent) = dir.parent() else { return Ok(()) };
    create_dirs_durably(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(parent),
    }
}

/// Directories are synced where the system lets them be opened (not on Windows).
fn sync_dir(dir: &FsPath) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    fn at(dir: &tempfile::TempDir, name: &str) -> Path {
        Path::from_absolute_path(dir.path().join(name)).unwrap()
    }

    #[tokio::test]
    async fn a_put_if_absent_never_replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableLocal::new(dir.path(), true);
        let path = at(&dir, "a/b/c.json");
        let create = PutOptions { mode: PutMode::Create, ..Default::default() };
        store.put_opts(&path, "first".into(), create.clone()).await.unwrap();
        let again = store.put_opts(&path, "second".into(), create).await;
        assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first");
        let names: Vec<_> =
            std::fs::read_dir(dir.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["c.json"]);
    }

    #[tokio::test]
    async fn a_plain_put_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableLocal::new(dir.path(), true);
        let path = at(&dir, "x");
        store.put(&path, "first".into()).await.unwrap();
        store.put(&path, "second".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "second");
    }

    #[tokio::test]
    async fn an_object_in_parts_is_put_as_one_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableLocal::new(dir.path(), true);
        let path = at(&dir, "a/large");
        let mut upload = store.put_multipart(&path).await.unwrap();
        for part in ["one, ", "two, ", "three"] {
            upload.put_part(part.into()).await.unwrap();
        }
        assert!(!dir.path().join("a").exists(), "a part is written that nothing would flush");
        upload.complete().await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one, two, three");

        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("another".into()).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one, two, three");
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error =
            DurableLocal::new(dir.path(), true).put(&at(&dir, "file/x"), "".into()).await.unwrap_err();
        assert!(error.to_string().contains("file/x"), "{error}");
    }
}
