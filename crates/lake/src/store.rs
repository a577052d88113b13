//! Where a lake is: a local directory or an object store URL.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use url::Url;

use crate::archive::{MAX_FILE_NAME, MAX_KEY};
use crate::durable::{DurableLocal, create_dirs_durably};
use crate::staging::Staging;
use crate::{Error, Result};

/// How a lake is opened.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// Local directories: true (the default) has every object on disk before a put returns.
    pub fsync: bool,
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self { fsync: true }
    }
}

/// A place that holds an archive, tables and a quarantine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Rooted at the root of the storage system, as Delta wants it; `prefix` leads to the lake.
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    url: Url,
    local: Option<PathBuf>,
    /// True where files may be read past the store: it is our own and local.
    direct: bool,
    /// Where files are written before they get their names; of a local store of our own.
    staging: Option<Arc<Staging>>,
}

impl Lake {
    /// Opens a directory (made when it is missing) or an object store URL.
    ///
    /// # Errors
    /// [`Error::Location`] when it is neither, or when support for the URL's scheme is not compiled in.
    pub fn open(location: &str) -> Result<Self> {
        Self::open_with(location, &LakeOptions::default())
    }

    /// [`Lake::open`] with options.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub fn open_with(location: &str, options: &LakeOptions) -> Result<Self> {
        let wrong = |reason: String| Error::Location { location: location.to_owned(), reason };
        if let Some(dir) = local_dir(location)? {
            create_dirs_durably(&dir).map_err(|e| wrong(format!("the directory cannot be made: {e}")))?;
        }
        Self::open_there(location, options)
    }

    /// [`Lake::open`] of what is there: nothing is made.
    ///
    /// # Errors
    /// As [`Lake::open`], and [`Error::Missing`] where there is no such directory.
    pub fn open_existing(location: &str) -> Result<Self> {
        Self::open_there(location, &LakeOptions::default())
    }

    fn open_there(location: &str, options: &LakeOptions) -> Result<Self> {
        let dir = match local_dir(location)? {
            Some(dir) => dir,
            None => return Err(not_compiled_in(location)),
        };
        let wrong = |reason: String| Error::Location { location: location.to_owned(), reason };
        if !dir.is_dir() {
            let reason = if dir.exists() { "it is no folder" } else { "there is no such folder" };
            return Err(Error::Missing { location: location.to_owned(), reason: reason.to_owned() });
        }
        let dir = std::fs::canonicalize(&dir).map_err(|e| wrong(e.to_string()))?;
        let url = Url::from_directory_path(&dir).map_err(|()| wrong("not an absolute path".into()))?;
        let durable = DurableLocal::new(&dir, options.fsync);
        let staging = Some(durable.staging());
        let store: Arc<dyn ObjectStore> = Arc::new(durable);
        #[cfg(feature = "failpoints")]
        if let Some(faulty) = crate::faults::from_environment(Arc::clone(&store)) {
            return Ok(Self { staging, ..Self::on(faulty, &url)? });
        }
        Ok(Self { direct: true, staging, ..Self::on(store, &url)? })
    }

    /// A lake on a store of the caller's, at the path of `url` within it. The store is rooted at the root of its
    /// storage system (the file system's root, the bucket), not at the lake.
    ///
    /// # Errors
    /// [`Error::Location`] when the URL's path is not one an object store can have.
    pub fn on(store: Arc<dyn ObjectStore>, url: &Url) -> Result<Self> {
        let wrong = |reason: String| Error::Location { location: redacted(url), reason };
        let mut url = url.clone();
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let prefix = Path::from_url_path(url.path()).map_err(|e| wrong(e.to_string()))?;
        let local = match url.scheme() {
            "file" => Some(url.to_file_path().map_err(|()| wrong("not a local path".into()))?),
            _ => None,
        };
        Ok(Self { store, prefix, url, local, direct: false, staging: None })
    }

    /// Refuses a location whose path Delta's kernel, which takes paths for URLs, would take for another one. Looks at the
    /// name alone, and makes nothing.
    ///
    /// # Errors
    /// [`Error::Location`].
    pub fn check_tables_at(location: &str) -> Result<()> {
        let Some(dir) = local_dir(location)? else { return Ok(()) };
        let whole = std::fs::canonicalize(&dir).or_else(|_| std::path::absolute(&dir)).unwrap_or(dir);
        let Some(misread) = misread(&whole.to_string_lossy()).map(str::to_owned) else { return Ok(()) };
        let reason = format!(
            "the path of a table may hold neither a backslash nor a `%` before two hexadecimal digits, and here is \
             `{misread}`; use a folder with another name"
        );
        Err(Error::Location { location: whole.display().to_string(), reason })
    }

    /// Refuses a location at which this build can have no lake, whatever is there. Looks at the name alone.
    ///
    /// # Errors
    /// [`Error::Location`].
    pub fn check_location(location: &str) -> Result<()> {
        if local_dir(location)?.is_none() {
            return Err(not_compiled_in(location));
        }
        Self::check_tables_at(location)
    }

    /// The lake as a URL that ends in `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The directory, where the lake is one.
    pub fn local_dir(&self) -> Option<&std::path::Path> {
        self.local.as_deref()
    }

    /// The store, rooted at the root of its storage system: use it with paths from [`Lake::path`].
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The store's path of something in the lake, given relative to the lake with `/` between parts.
    pub fn path(&self, relative: &str) -> Path {
        let parts = relative.split('/').filter(|part| !part.is_empty());
        parts.fold(self.prefix.clone(), |path, part| match PathPart::parse(part) {
            // As it is, or `größe` would lie in a folder `gr%C3%B6%C3%9Fe`.
            Ok(whole) => path.join(whole),
            Err(_) => path.join(part),
        })
    }

    /// The local file of a store path, where the lake is a directory.
    pub fn local_file(&self, path: &Path) -> Option<PathBuf> {
        let dir = self.local.as_ref()?;
        let mut file = dir.clone();
        file.extend(path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()));
        Some(file)
    }

    /// True where [`Lake::local_file`] may be read instead of the store.
    pub(crate) fn direct(&self) -> bool {
        self.direct
    }

    /// Whether the store can have something of this name.
    pub(crate) fn has_room_for(&self, path: &Path) -> bool {
        match self.local {
            Some(_) => path.parts().all(|part| part.as_ref().len() <= MAX_FILE_NAME),
            None => path.as_ref().len() <= MAX_KEY,
        }
    }

    /// Removes what processes that were killed have left where a local lake stages its files. The first put does it too.
    ///
    /// # Errors
    /// [`Error::Store`] when the staging folder cannot be made; nothing depends on it before the first put.
    pub async fn sweep(&self) -> Result<()> {
        let Some(staging) = self.staging.clone() else { return Ok(()) };
        let swept = tokio::task::spawn_blocking(move || staging.claim()).await;
        let failed = |source: std::io::Error| {
            let source = object_store::Error::Generic { store: "local directory", source: source.into() };
            Error::store("make", "_pinmill/staging", source)
        };
        swept.map_err(|error| Error::task("sweep the lake", &error))?.map_err(failed)
    }

    /// Path relative to the lake, for messages and manifests.
    pub(crate) fn relative(&self, path: &Path) -> String {
        match path.prefix_match(&self.prefix) {
            Some(parts) => Path::from_iter(parts).to_string(),
            None => path.to_string(),
        }
    }

    /// Reads a whole object; `None` when there is none.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let read = async { self.store.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::store("read", self.relative(path), error)),
        }
    }

    /// Writes an object unless one of this name is there; false when there is.
    ///
    /// Not idempotent: when the answer to a put is lost, a retry within the store may say "already there" of our
    /// own object. The caller must look at what is there rather than take false for a loss.
    pub(crate) async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            // Some stores answer a lost condition with 412, and some with 409 that maps to either.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(Error::store("write", self.relative(path), error)),
        }
    }
}

/// The directory that `location` names; `None` when it is a URL of another kind.
fn local_dir(location: &str) -> Result<Option<PathBuf>> {
    let wrong = |reason: &str| Error::Location { location: location.to_owned(), reason: reason.to_owned() };
    if location.is_empty() {
        return Err(wrong("it is empty"));
    }
    if !location.contains("://") {
        return std::path::absolute(location).map(Some).map_err(|e| wrong(&e.to_string()));
    }
    let url = Url::parse(location).map_err(|e| wrong(&e.to_string()))?;
    match url.scheme() {
        "file" => url.to_file_path().map(Some).map_err(|()| wrong("a file URL is file:///absolute/path")),
        _ => Ok(None),
    }
}

/// The first part of a path that means something else in a URL, even where it is not escaped.
fn misread(path: &str) -> Option<&str> {
    let escape = |(at, _): (usize, &str)| {
        let escape = path.get(at..at + 3)?;
        escape.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit()).then_some(escape)
    };
    path.matches('\\').next().or_else(|| path.match_indices('%').find_map(escape))
}

fn not_compiled_in(location: &str) -> Error {
    let scheme = location.split("://").next().unwrap_or_default();
    let feature = match scheme {
        "s3" | "s3a" => Some("s3"),
        "gs" => Some("gcs"),
        "az" | "abfs" | "abfss" | "adl" => Some("azure"),
        _ => None,
    };
    let reason = match feature {
        Some(name) => format!("this build has no `{scheme}://`; it comes with the Cargo feature `{name}`"),
        None => format!(
            "`{scheme}://` is not a kind of object store that pinmill knows; use a directory or file:///…"
        ),
    };
    let location = Url::parse(location).map_or_else(|_| scheme.to_owned(), |url| redacted(&url));
    Error::Location { location, reason }
}

/// A URL without its credentials: user, password and query.
pub(crate) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // Both fail only for URLs that cannot carry credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_found_again_by_path_and_by_url() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a lake/höher%2F~");
        let lake = Lake::open(place.to_str().unwrap()).unwrap();
        assert!(place.is_dir());
        let again = Lake::open(lake.url().as_str()).unwrap();
        assert_eq!(again.url(), lake.url());
        assert_eq!(again.local_dir(), lake.local_dir());
    }

    #[test]
    fn what_is_to_be_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Lake::open_existing(dir.path().join(name).to_str().unwrap());
        assert!(open("typo").unwrap_err().to_string().contains("no such folder"));
        assert!(!dir.path().join("typo").exists());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(open("file").unwrap_err().to_string().contains("no folder"));
        assert_eq!(open("").unwrap().url(), Lake::open(dir.path().to_str().unwrap()).unwrap().url());
        assert!(Lake::open_existing("s3://bucket").unwrap_err().to_string().contains("Cargo feature"));
    }

    #[tokio::test]
    async fn objects_land_below_the_directory_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().join("a lake/100% höher~#1").to_str().unwrap()).unwrap();
        let path = lake.path("topics/a.pin/partition=0/a.pin+0+0000000000.json");
        assert!(lake.put_if_absent(&path, Bytes::from_static(b"x")).await.unwrap());
        assert!(!lake.put_if_absent(&path, Bytes::from_static(b"y")).await.unwrap());
        let file = lake.local_dir().unwrap().join("topics/a.pin/partition=0/a.pin+0+0000000000.json");
        assert_eq!(lake.local_file(&path).unwrap(), file);
        assert_eq!(std::fs::read(file).unwrap(), b"x");
        assert_eq!(lake.relative(&path), "topics/a.pin/partition=0/a.pin+0+0000000000.json");
    }

    #[test]
    fn a_place_whose_path_delta_would_misread_is_refused_for_tables_and_named() {
        let dir = tempfile::tempdir().unwrap();
        for (name, misread) in [
            ("ünï a~b#1?*[x]{}", None),
            ("100% höher", None),
            ("100%", None),
            ("a%41b", Some("`%41`")),
            ("100%25", Some("`%25`")),
            ("a\\b", Some("`\\`")),
        ] {
            let place = dir.path().join(name);
            let refused = Lake::check_tables_at(place.to_str().unwrap()).map_err(|error| error.to_string());
            assert!(!place.exists());
            match misread {
                None => assert_eq!(refused, Ok(()), "{name}"),
                Some(misread) => {
                    let words = refused.unwrap_err();
                    assert!(words.contains(misread) && words.contains(name), "{words}");
                }
            }
        }
    }

    #[test]
    fn a_store_that_is_not_compiled_in_is_named_with_its_feature() {
        for (location, words) in [
            ("s3://bucket/prefix", "Cargo feature `s3`"),
            ("gs://bucket", "Cargo feature `gcs`"),
            ("abfss://c@a.dfs.core.windows.net/x", "Cargo feature `azure`"),
            ("ftp://host/x", "not a kind of object store"),
        ] {
            let error = Lake::open(location).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_not_repeated() {
        let error = Lake::open("s3://KEY:SECRET@bucket/x?token=SECRET").unwrap_err().to_string();
        assert!(!error.contains("SECRET") && error.contains("bucket/x"), "{error}");
    }

    #[test]
    fn an_empty_location_is_refused() {
        assert!(Lake::open("").is_err());
        assert!(Lake::open("file://host/x").is_err());
    }
}
