//! Numbers for the directories of another sink's archive.
//!
//! A sink with another partitioner than the default one (by time, by a field) spreads a Kafka partition over directories.
//! The lines of an object are then not consecutive offsets, and objects of several directories interleave. So each
//! directory of a topic is a lineage of its own: within it a record's offset is the first offset of its object plus its
//! line, which is unique there and ascends as the records do.
//!
//! Such lineages have the numbers from [`FIRST`] on. They are no lives of the topic that follow each other: they stand
//! beside each other, and beside the lineages that are.
//!
//! # Format
//!
//! `_pinmill/directories/<topic>/<n>.json` in the lake of the tables, by puts that fail where there is one:
//!
//! ```text
//! {"version":1, "place":"<the archive's URL, without secrets>", "first":1000000, "directories":["year=2022/month=11", …]}
//! ```
//!
//! `first` is the lineage of the first of these directories, the next one has the next number. A file holds all that one
//! look at the archive found new, so a bucket of 30,000 hours is one file. Every 64th file (0, 64, …) holds all that were
//! named so far as well (`first` is then the first number of all), and readers begin at the newest of those.
//!
//! A topic's directories are of one archive. Another archive with directories of the same topic is refused: a bucket that
//! was moved would be loaded twice.
//!
//! # Crash points
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the put | nothing happened |
//! | after it, before anything was loaded | the directories keep their numbers |
//!
//! Two that look at once: one put succeeds, the other one reads what is there and names the rest.

use std::collections::HashMap;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::{Error, Lake, Result};

/// The lineage of the first directory of a topic.
pub const FIRST: u32 = 1_000_000;
const VERSION: u32 = 1;
/// After so many files one holds everything.
const FOLD: u64 = 64;

#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    version: u32,
    place: String,
    first: u32,
    directories: Vec<String>,
}

/// The directories of one topic that have numbers.
#[derive(Debug, Default)]
struct Known {
    place: Option<String>,
    numbers: HashMap<String, u32>,
    /// In the order of their numbers.
    names: Vec<String>,
    /// The number of the next file.
    next: u64,
}

/// The numbers of directories, as the lake of the tables keeps them.
#[derive(Debug)]
pub struct Directories {
    lake: Lake,
}

impl Directories {
    /// Nothing is read or made yet.
    pub fn new(lake: &Lake) -> Self {
        Self { lake: lake.clone() }
    }

    /// The lineages of a topic's directories in the archive at `place`, in the order of `directories`. Those that have
    /// none yet are given numbers, in ascending order of their names.
    ///
    /// # Errors
    /// [`Error::OtherArchive`], [`Error::Store`], [`Error::Corrupt`].
    pub async fn claim(&self, topic: &str, place: &str, directories: &[String]) -> Result<Vec<u32>> {
        loop {
            let mut known = self.known(topic).await?;
            known.check(topic, place)?;
            let mut new: Vec<String> =
                directories.iter().filter(|name| !known.numbers.contains_key(*name)).cloned().collect();
            new.sort();
            new.dedup();
            if new.is_empty() || self.put(topic, place, &mut known, new).await? {
                return Ok(directories.iter().filter_map(|name| known.numbers.get(name).copied()).collect());
            }
        }
    }

    /// As [`Directories::claim`], without making anything: directories that have no number yet get those that they would
    /// be given now.
    ///
    /// # Errors
    /// As [`Directories::claim`].
    pub async fn find(&self, topic: &str, place: &str, directories: &[String]) -> Result<Vec<u32>> {
        let mut known = self.known(topic).await?;
        known.check(topic, place)?;
        let mut sorted: Vec<String> = directories.to_vec();
        sorted.sort();
        known.add(sorted);
        Ok(directories.iter().filter_map(|name| known.numbers.get(name).copied()).collect())
    }

    /// False where somebody else was quicker.
    async fn put(&self, topic: &str, place: &str, known: &mut Known, new: Vec<String>) -> Result<bool> {
        let (next, before) = (known.next, known.names.len());
        known.add(new);
        let from = if next.is_multiple_of(FOLD) { 0 } else { before };
        let directories = known.names.get(from..).unwrap_or_default().to_vec();
        let wire = Wire { version: VERSION, place: place.to_owned(), first: number(from), directories };
        let path = self.path(topic, next);
        let text = serde_json::to_vec(&wire).map_err(|e| Error::corrupt(self.lake.relative(&path), e))?;
        self.lake.put_if_absent(&path, Bytes::from(text)).await
    }

    async fn known(&self, topic: &str) -> Result<Known> {
        let dir = self.lake.path(&dir(topic));
        let failed = |error| Error::store("list", self.lake.relative(&dir), error);
        let mut listing = self.lake.store().list(Some(&dir));
        let mut files = Vec::new();
        while let Some(meta) = listing.try_next().await.map_err(failed)? {
            let number =
                meta.location.filename().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
            files.extend(number);
        }
        files.sort_unstable();
        let begin = files.iter().rposition(|file| file.is_multiple_of(FOLD)).unwrap_or_default();
        let mut known = Known { next: files.last().map_or(0, |last| last + 1), ..Known::default() };
        for file in files.into_iter().skip(begin) {
            let wire = self.read(&self.path(topic, file)).await?;
            known.place = Some(wire.place);
            known.add(wire.directories);
        }
        Ok(known)
    }

    async fn read(&self, path: &Path) -> Result<Wire> {
        let corrupt = |reason: String| Error::corrupt(self.lake.relative(path), reason);
        let bytes = self.lake.get(path).await?.ok_or_else(|| corrupt("it was listed and is gone".into()))?;
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|e| corrupt(format!("not a list of directories: {e}")))?;
        match wire.version {
            VERSION => Ok(wire),
            version => Err(corrupt(format!("version {version}; this pinmill knows {VERSION}"))),
        }
    }

    fn path(&self, topic: &str, file: u64) -> Path {
        self.lake.path(&format!("{}/{file}.json", dir(topic)))
    }
}

impl Known {
    fn check(&self, topic: &str, place: &str) -> Result<()> {
        match &self.place {
            Some(found) if found != place => Err(Error::OtherArchive {
                topic: topic.to_owned(),
                found: found.clone(),
                given: place.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn add(&mut self, names: Vec<String>) {
        for name in names {
            if !self.numbers.contains_key(&name) {
                self.numbers.insert(name.clone(), number(self.names.len()));
                self.names.push(name);
            }
        }
    }
}

/// The lineage of the directory at an index.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(FIRST)
}

fn dir(topic: &str) -> String {
    format!("_pinmill/directories/{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lake() -> (tempfile::TempDir, Lake) {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        (dir, lake)
    }

    fn hours(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|hour| format!("hour={hour:05}")).collect()
    }

    #[tokio::test]
    async fn a_directory_keeps_its_number_whatever_comes_later() {
        let (_dir, lake) = lake();
        let directories = Directories::new(&lake);
        let some = ["b".to_owned(), "a".to_owned()];
        assert_eq!(directories.find("t", "p", &some).await.unwrap(), [FIRST + 1, FIRST]);
        assert_eq!(directories.claim("t", "p", &some).await.unwrap(), [FIRST + 1, FIRST]);
        let more = ["0".to_owned(), "a".to_owned(), "c".to_owned()];
        let wanted = [FIRST + 2, FIRST, FIRST + 3];
        assert_eq!(directories.find("t", "p", &more).await.unwrap(), wanted);
        assert_eq!(directories.claim("t", "p", &more).await.unwrap(), wanted);
        assert_eq!(Directories::new(&lake).claim("t", "p", &more).await.unwrap(), wanted);
        assert_eq!(directories.claim("u", "p", &more).await.unwrap(), [FIRST, FIRST + 1, FIRST + 2]);
    }

    #[tokio::test]
    async fn tens_of_thousands_are_one_file_and_many_looks_are_read_from_the_newest_that_has_all() {
        let (dir, lake) = lake();
        let directories = Directories::new(&lake);
        let all = hours(0..30_000);
        assert_eq!(directories.claim("t", "p", &all).await.unwrap().last(), Some(&(FIRST + 29_999)));
        let folder = dir.path().join("_pinmill/directories/t");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        for hour in 30_000..30_070 {
            directories.claim("t", "p", &hours(hour..hour + 1)).await.unwrap();
        }
        // Everything before the fold may be gone.
        for file in 0..64 {
            std::fs::remove_file(folder.join(format!("{file}.json"))).unwrap();
        }
        let numbers = directories.claim("t", "p", &hours(0..30_070)).await.unwrap();
        assert!(numbers.iter().zip(FIRST..).all(|(number, wanted)| *number == wanted));
    }

    #[tokio::test]
    async fn of_many_that_look_at_once_each_directory_gets_one_number() {
        let (_dir, lake) = lake();
        let claims = (0..16).map(|n| {
            let directories = Directories::new(&lake);
            async move { directories.claim("t", "p", &hours(n / 2..n / 2 + 3)).await }
        });
        let numbers: Vec<Vec<u32>> = futures::future::try_join_all(claims).await.unwrap();
        let settled = Directories::new(&lake).claim("t", "p", &hours(0..10)).await.unwrap();
        for (n, numbers) in numbers.iter().enumerate() {
            assert_eq!(numbers, &settled[n / 2..n / 2 + 3]);
        }
    }

    #[tokio::test]
    async fn a_bucket_that_was_moved_is_refused() {
        let (_dir, lake) = lake();
        let directories = Directories::new(&lake);
        directories.claim("t", "file:///a/topics", &hours(0..1)).await.unwrap();
        let error = directories.claim("t", "file:///b/topics", &hours(0..1)).await.unwrap_err();
        assert!(matches!(&error, Error::OtherArchive { topic, .. } if topic == "t"), "{error}");
    }
}
