//! A local directory as an object store whose puts survive a power loss.
//!
//! `object_store`'s own local store renames a file into place without asking the disk to keep it, so that after
//! a power loss a name may stand for a file that is empty or torn. That would break both of our promises: the
//! log forgets records once they are archived, and a Delta commit names data files that must be whole.
//!
//! A put here: write `<name>#<digits>` (a name that listings hide), fsync it, link or rename it to `<name>`,
//! fsync the directory. Crash points: before the link nothing is visible (a hidden leftover stays, harmless);
//! after it the object is whole, and at worst its name is lost again, as if the put had not happened. A put that finds
//! the name there has it kept too: whoever made it may have died before that, and the caller takes the object over.
//! An object that comes in parts (Delta's large checkpoints) is gathered in memory and put as one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
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

/// `LocalFileSystem`, with puts that are on disk when they return.
#[derive(Debug)]
pub(crate) struct DurableLocal {
    inner: LocalFileSystem,
}

impl DurableLocal {
    pub(crate) fn new() -> Self {
        Self { inner: LocalFileSystem::new() }
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
        put(self.inner.path_to_filesystem(location)?, payload, create).await
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
        Ok(Box::new(InParts { path, gathered: Vec::new() }))
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
        put(self.path.clone(), payload, false).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.gathered.clear();
        Ok(())
    }
}

async fn put(path: PathBuf, payload: PutPayload, create: bool) -> Result<PutResult> {
    let put = move || put_durably(&path, &payload, create).map_err(|error| store_error(&path, error));
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

fn put_durably(path: &FsPath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let parent =
        path.parent().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no parent directory"))?;
    create_dirs_durably(parent)?;
    let (mut file, staged) = stage(path)?;
    let written = payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| match create {
        true => std::fs::hard_link(&staged, path),
        false => std::fs::rename(&staged, path),
    });
    if create || placed.is_err() {
        // A leftover is hidden from listings and does no harm; the put's own outcome matters more.
        let _ = std::fs::remove_file(&staged);
    }
    let is_there = matches!(&placed, Err(error) if error.kind() == ErrorKind::AlreadyExists);
    if placed.is_ok() || is_there {
        sync_dir(parent)?;
    }
    placed
}

fn stage(path: &FsPath) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let staged = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
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
        let store = DurableLocal::new();
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
        let store = DurableLocal::new();
        let path = at(&dir, "x");
        store.put(&path, "first".into()).await.unwrap();
        store.put(&path, "second".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "second");
    }

    #[tokio::test]
    async fn an_object_in_parts_is_put_as_one_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableLocal::new();
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
        let error = DurableLocal::new().put(&at(&dir, "file/x"), "".into()).await.unwrap_err();
        assert!(error.to_string().contains("file/x"), "{error}");
    }
}
