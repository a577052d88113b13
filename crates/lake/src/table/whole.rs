//! Opening a table whose log is not whole: made up for where that loses nothing, else named.
//!
//! - `_last_checkpoint` is a hint. Where it names a checkpoint that is not there, the log is read without it, which
//!   gives the same table as long as an older checkpoint or all commits are there.
//! - A commit of pinmill's says how many actions it has (`commitInfo.pinmill.actions`). One that was cut at the end of a
//!   line would pass for a smaller commit, whose rows are in and whose position is not, so it is refused.
//! - A commit that was cut within a line is named, with the line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake_core::kernel::{Action, Version};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};
use serde_json::Value;

use super::{Table, delta_error, ledger, log_store};
use crate::{Error, Lake, Result};

const HINT: &str = "_last_checkpoint";
/// The member of a commit's entry that says how many actions there are beside the `commitInfo`.
const ACTIONS: &str = "actions";
/// How many commits are read at once.
const AT_ONCE: usize = 16;

/// A table's log read to its newest version; `None` where there is no table.
pub(super) async fn load(lake: &Lake, name: &str) -> Result<Option<DeltaTable>> {
    let log = log_store(lake, name)?;
    let there = log.is_delta_table_location().await;
    if !there.map_err(|error| delta_error(name, "look for the table", error))? {
        return Ok(None);
    }
    let mut delta = DeltaTable::new(log);
    let Err(error) = delta.load().await else { return Ok(Some(delta)) };
    let files = LogFiles::list(lake, name).await?;
    let missing = missing_checkpoint(lake, name, &files).await?;
    if files.reach_the_beginning()
        && let Some(hinted) = missing
    {
        let unhinted: Arc<dyn ObjectStore> = Arc::new(Unhinted(Arc::clone(lake.store())));
        let unhinted = Lake::on(unhinted, lake.url())?;
        let mut delta = DeltaTable::new(log_store(&unhinted, name)?);
        // A log that ends before the hint has lost commits too: what is left would pass for an older table.
        if delta.load().await.is_ok() && delta.version() >= Some(hinted) {
            tracing::warn!(table = name, "{HINT} names a checkpoint that does not exist, and is not used");
            return Ok(Some(delta));
        }
    }
    Err(explain(lake, name, &files, error).await)
}

/// The version of the checkpoint that the hint names, where there is none of that version or later.
async fn missing_checkpoint(lake: &Lake, name: &str, files: &LogFiles) -> Result<Option<Version>> {
    let hint = lake.get(&lake.path(&format!("{name}/_delta_log/{HINT}"))).await?;
    let hint: Option<Value> = hint.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let version = hint.and_then(|hint| hint.get("version")?.as_u64());
    Ok(version.filter(|&version| files.checkpoint.is_none_or(|checkpoint| checkpoint < version)))
}

/// Why a log cannot be read: the first commit that is not whole, else what Delta says.
pub(super) async fn explain(lake: &Lake, name: &str, files: &LogFiles, error: DeltaTableError) -> Error {
    for (version, path) in files.open_commits() {
        if let Ok(Some(bytes)) = lake.get(path).await
            && let Some(reason) = torn(&bytes)
        {
            return Error::TornCommit { table: name.to_owned(), version, reason };
        }
    }
    delta_error(name, "read the table's log", error)
}

/// Why a commit's text is not whole, where it is not.
fn torn(bytes: &[u8]) -> Option<String> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let mut any = false;
    for (number, line) in (1..).zip(lines) {
        any = true;
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(line) {
            return Some(format!("its line {number} is cut off or damaged ({error})"));
        }
    }
    (!any).then(|| "it is empty".to_owned())
}

/// Why a commit's actions are not all of those that it was made of, where they are not. What pinmill did not write does
/// not say.
fn missing(actions: &[Action]) -> Option<String> {
    if actions.is_empty() {
        return Some("it is empty".to_owned());
    }
    let entry = actions.iter().find_map(|action| match action {
        Action::CommitInfo(info) => info.info.get(ledger::KEY),
        _ => None,
    })?;
    let has = actions.iter().filter(|action| !matches!(action, Action::CommitInfo(_))).count() as u64;
    if let Some(wanted) = entry.get(ACTIONS).and_then(Value::as_u64) {
        return (has != wanted).then(|| format!("it contains {has} of {wanted} actions"));
    }
    // Commits of 0.1 do not say. Their positions come last.
    let positions = actions.iter().filter(|action| matches!(action, Action::Txn(_))).count();
    let ranges = entry.get("ranges").and_then(Value::as_array).map_or(0, Vec::len);
    (positions < ranges).then(|| format!("it contains {positions} of {ranges} positions"))
}

/// Writes into a commit's entry how many actions the commit has.
pub(super) fn count_actions(entry: &mut Value, actions: &[Action]) {
    if let Some(entry) = entry.as_object_mut() {
        entry.insert(ACTIONS.to_owned(), actions.len().into());
    }
}

impl Table {
    /// Refuses a table one of whose commits since the checkpoint was cut at the end of a line.
    pub(super) async fn refuse_torn_commits(&self) -> Result<()> {
        let files = LogFiles::list(&self.lake, &self.name).await?;
        let versions: Vec<Version> =
            files.open_commits().map(|(version, _)| version).filter(|&v| v <= self.version()).collect();
        let check = async |version| match self.actions(version).await? {
            Some(actions) => self.refuse_torn(version, &actions),
            // Cleaned up meanwhile, so that a checkpoint stands for it.
            None => Ok(()),
        };
        futures::stream::iter(versions).map(check).buffered(AT_ONCE).try_collect().await
    }

    pub(super) fn refuse_torn(&self, version: Version, actions: &[Action]) -> Result<()> {
        match missing(actions) {
            None => Ok(()),
            Some(reason) => Err(Error::TornCommit { table: self.name.clone(), version, reason }),
        }
    }
}

/// The files of a table's log.
#[derive(Debug, Default)]
pub(super) struct LogFiles {
    commits: BTreeMap<Version, Path>,
    /// The newest checkpoint.
    checkpoint: Option<Version>,
}

impl LogFiles {
    pub(super) async fn list(lake: &Lake, name: &str) -> Result<Self> {
        let prefix = lake.path(&format!("{name}/_delta_log"));
        let listed: Vec<ObjectMeta> = lake
            .store()
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(|error| Error::store("list", lake.relative(&prefix), error))?;
        let mut files = Self::default();
        for file in listed {
            let Some((version, kind)) = parts(&file.location) else { continue };
            if kind == "json" {
                files.commits.insert(version, file.location);
            } else if kind.starts_with("checkpoint.") && file.size > 0 {
                files.checkpoint = files.checkpoint.max(Some(version));
            }
        }
        Ok(files)
    }

    /// The commits that no checkpoint stands for.
    fn open_commits(&self) -> impl Iterator<Item = (Version, &Path)> {
        let from = self.checkpoint.map_or(0, |version| version + 1);
        self.commits.range(from..).map(|(version, path)| (*version, path))
    }

    fn reach_the_beginning(&self) -> bool {
        self.checkpoint.is_some() || self.commits.contains_key(&0)
    }
}

/// Version and kind of a file of a log: `…/00000000000000000049.checkpoint.parquet`.
fn parts(path: &Path) -> Option<(Version, String)> {
    let (number, kind) = path.filename()?.split_once('.')?;
    (number.len() == 20).then_some(())?;
    Some((number.parse().ok()?, kind.to_owned()))
}

/// A store that has no `_last_checkpoint`.
#[derive(Debug)]
struct Unhinted(Arc<dyn ObjectStore>);

impl fmt::Display for Unhinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

type Stored<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Unhinted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Stored<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Stored<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Stored<GetResult> {
        if location.filename() == Some(HINT) {
            let source = "it names a checkpoint that is not there".into();
            return Err(object_store::Error::NotFound { path: location.to_string(), source });
        }
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Stored<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Stored<Path>>) -> BoxStream<'static, Stored<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Stored<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Stored<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Stored<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Stored<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Stored<()> {
        self.0.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_cut_within_a_line_is_told_from_text_that_is_whole() {
        assert_eq!(torn(b"{\"a\":1}\n{\"b\":2}"), None);
        assert_eq!(torn(b"{\"a\":1}\n{\"b\":2}\n"), None);
        assert!(torn(b"{\"a\":1}\n{\"b\":").unwrap().contains("line 2"));
        assert!(torn(b"").unwrap().contains("empty"));
    }

    #[test]
    fn names_of_a_log_have_a_version_and_a_kind() {
        let parsed = |name: &str| parts(&Path::from(format!("t/_delta_log/{name}")));
        assert_eq!(parsed("00000000000000000049.json"), Some((49, "json".to_owned())));
        assert_eq!(
            parsed("00000000000000000049.checkpoint.parquet"),
            Some((49, "checkpoint.parquet".to_owned()))
        );
        assert_eq!(parsed("_last_checkpoint"), None);
        assert_eq!(parsed("49.json"), None);
    }
}
