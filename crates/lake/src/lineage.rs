//! Lineages: the lives of a topic's name, numbered from 0.
//!
//! A name outlives its topic. A topic that is deleted and made again counts its offsets from 0 once more, and so does an
//! old bucket whose topics have the names of new ones. Each such *source* of a name is a lineage of it, and a record is
//! known by topic, lineage, partition and offset.
//!
//! # Format
//!
//! `_pinmill/lineages/<half>/<topic>/<n>.json`, written once by a put that fails where there is one, never changed:
//!
//! ```text
//! {"version":1,"source":{"kind":"log","generation":"<the topic's generation>"}}
//! {"version":1,"source":{"kind":"archive","place":"<URL without secrets>"}}
//! ```
//!
//! `_pinmill/lineages/<half>.json`, `{"version":1}`, says that what the half's tables note of their sources is here too:
//! 0.1 noted it there alone.
//!
//! A topic's generation is a UUID that is made with the topic and copied with its data folder. The lake's own archive
//! has the name of its directory (`topics`) as its place, so that a data folder may be moved. Numbers have no gaps.
//! The halves share no tables, so each has lineages of its own.
//!
//! # Crash points
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the put | nothing happened |
//! | after it, before anything was stored of the lineage | the next claim of the same source finds its number |
//!
//! Two processes that claim at once: one put succeeds, and the other one reads what is there and goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{Error, Lake, Result};

const VERSION: u32 = 1;
/// Stands before the place of an archive in what a commit notes of a source; no generation begins like this.
const ARCHIVE: &str = "archive ";

/// Where the records of one life of a name come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceId {
    /// A topic of a log of ours.
    Log {
        /// The topic's generation.
        generation: String,
    },
    /// Objects that say no generation.
    Archive {
        /// Where the archive is: see the module's description.
        place: String,
        /// Which of its directories; `None` for `partition=<n>`. Directories have files of their own (see
        /// [`crate::archive`]); here is no name of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
}

impl SourceId {
    /// A topic of a log, by its generation.
    pub fn log(generation: &str) -> Self {
        Self::Log { generation: generation.to_owned() }
    }

    /// An archive, by its place.
    pub fn archive(place: &str) -> Self {
        Self::Archive { place: place.to_owned(), directory: None }
    }

    /// The form in which a commit notes it (`generation` of a range): the generation itself, or `archive <place>`.
    pub fn noted(&self) -> String {
        match self {
            Self::Log { generation } => generation.clone(),
            Self::Archive { place, directory: None } => format!("{ARCHIVE}{place}"),
            Self::Archive { place, directory: Some(directory) } => format!("{ARCHIVE}{place}/{directory}"),
        }
    }

    /// The source that a commit of 0.1 noted.
    pub fn from_noted(noted: &str) -> Self {
        noted.strip_prefix(ARCHIVE).map_or_else(|| Self::log(noted), Self::archive)
    }
}

impl std::fmt::Display for SourceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log { generation } => write!(f, "the topic's generation {generation}"),
            archive @ Self::Archive { .. } => write!(f, "the {}", archive.noted()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    source: SourceId,
}

/// The lineages of one half's topics. Shared by all that read and write them.
#[derive(Debug)]
pub struct Lineages {
    lake: Lake,
    half: String,
    /// What was found or claimed, by topic and number: files do not change.
    known: Mutex<Known>,
}

type Known = HashMap<String, BTreeMap<u32, SourceId>>;

impl Lineages {
    /// The lineages of a half (`batch`, `stream`); nothing is read or made yet.
    pub fn new(lake: &Lake, half: &str) -> Self {
        Self { lake: lake.clone(), half: half.to_owned(), known: Mutex::default() }
    }

    /// The lineage of a source, made where it has none yet.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub async fn claim(&self, topic: &str, source: &SourceId) -> Result<u32> {
        let mut known = self.known.lock().await;
        if let Some(number) = among(&known, topic, source) {
            return Ok(number);
        }
        loop {
            let numbers = self.numbers(topic).await?;
            if let Some(number) = self.number_of(&mut known, topic, source, &numbers).await? {
                return Ok(number);
            }
            let used_up = || Error::corrupt(self.dir(topic), "its lineage numbers are used up");
            let next = match numbers.last() {
                None => 0,
                Some(last) => last.checked_add(1).ok_or_else(used_up)?,
            };
            if self.put(topic, next, source).await? {
                known.entry(topic.to_owned()).or_default().insert(next, source.clone());
                return Ok(next);
            }
            // Somebody else has claimed the number, perhaps for the same source.
        }
    }

    /// Says what a lineage is of, where nothing does.
    ///
    /// # Errors
    /// As [`Lineages::claim`].
    pub async fn adopt(&self, topic: &str, lineage: u32, source: &SourceId) -> Result<()> {
        self.put(topic, lineage, source).await.map(drop)
    }

    /// Whether [`Lineages::all_adopted`] was said.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn is_adopted(&self) -> Result<bool> {
        Ok(self.lake.get(&self.mark()).await?.is_some())
    }

    /// Says that every source that the half's tables note has been adopted.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn all_adopted(&self) -> Result<()> {
        let text = Bytes::from(format!("{{\"version\":{VERSION}}}"));
        self.lake.put_if_absent(&self.mark(), text).await.map(drop)
    }

    /// The lineage of a source; `None` where it has none. Makes nothing.
    ///
    /// # Errors
    /// As [`Lineages::claim`].
    pub async fn find(&self, topic: &str, source: &SourceId) -> Result<Option<u32>> {
        let mut known = self.known.lock().await;
        if let Some(number) = among(&known, topic, source) {
            return Ok(Some(number));
        }
        let numbers = self.numbers(topic).await?;
        self.number_of(&mut known, topic, source, &numbers).await
    }

    /// What a lineage is of; `None` where it is not claimed.
    ///
    /// # Errors
    /// As [`Lineages::claim`].
    pub async fn source(&self, topic: &str, lineage: u32) -> Result<Option<SourceId>> {
        let mut known = self.known.lock().await;
        self.get(&mut known, topic, lineage).await
    }

    /// The lineages that a topic has, ascending.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn numbers(&self, topic: &str) -> Result<Vec<u32>> {
        let listed = self.list(&self.dir(topic)).await?;
        let mut numbers: Vec<u32> = listed.iter().filter_map(|path| number(path.filename()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// All lineages of all topics, ascending.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn all(&self) -> Result<BTreeMap<String, BTreeSet<u32>>> {
        let mut all = BTreeMap::<String, BTreeSet<u32>>::new();
        for path in self.list(&self.dir("")).await? {
            let relative = self.lake.relative(&path);
            let mut parts = relative.rsplit('/');
            if let (Some(number), Some(topic)) = (parts.next().and_then(number), parts.next()) {
                all.entry(topic.to_owned()).or_default().insert(number);
            }
        }
        Ok(all)
    }

    async fn list(&self, dir: &str) -> Result<Vec<Path>> {
        let dir = self.lake.path(dir);
        let listing = self.lake.store().list(Some(&dir)).map_ok(|meta| meta.location);
        listing.try_collect().await.map_err(|error| Error::store("list", self.lake.relative(&dir), error))
    }

    /// Looks for a source, the newest lineage first: it is nearly always that one.
    async fn number_of(
        &self,
        known: &mut Known,
        topic: &str,
        source: &SourceId,
        numbers: &[u32],
    ) -> Result<Option<u32>> {
        for &number in numbers.iter().rev() {
            if self.get(known, topic, number).await?.as_ref() == Some(source) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    async fn get(&self, known: &mut Known, topic: &str, number: u32) -> Result<Option<SourceId>> {
        if let Some(source) = known.get(topic).and_then(|of_topic| of_topic.get(&number)) {
            return Ok(Some(source.clone()));
        }
        let path = self.path(topic, number);
        let Some(bytes) = self.lake.get(&path).await? else { return Ok(None) };
        let corrupt = |reason: String| Error::corrupt(self.lake.relative(&path), reason);
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|e| corrupt(format!("not a lineage: {e}")))?;
        if wire.version != VERSION {
            return Err(corrupt(format!("version {}; this pinmill knows {VERSION}", wire.version)));
        }
        known.entry(topic.to_owned()).or_default().insert(number, wire.source.clone());
        Ok(Some(wire.source))
    }

    /// False where the number is taken.
    async fn put(&self, topic: &str, number: u32, source: &SourceId) -> Result<bool> {
        let path = self.path(topic, number);
        let wire = Wire { version: VERSION, source: source.clone() };
        let text = serde_json::to_vec(&wire).map_err(|e| Error::corrupt(self.lake.relative(&path), e))?;
        self.lake.put_if_absent(&path, Bytes::from(text)).await
    }

    fn mark(&self) -> Path {
        self.lake.path(&format!("_pinmill/lineages/{}.json", self.half))
    }

    fn dir(&self, topic: &str) -> String {
        format!("_pinmill/lineages/{}/{topic}", self.half)
    }

    fn path(&self, topic: &str, number: u32) -> Path {
        self.lake.path(&format!("{}/{number}.json", self.dir(topic)))
    }
}

fn among(known: &Known, topic: &str, source: &SourceId) -> Option<u32> {
    let mut of_topic = known.get(topic)?.iter().rev();
    of_topic.find(|(_, known)| *known == source).map(|(number, _)| *number)
}

/// The number in the name of a lineage's file.
fn number(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_suffix(".json")?;
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lake() -> (tempfile::TempDir, Lake) {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        (dir, lake)
    }

    #[tokio::test]
    async fn each_source_of_a_name_has_one_number_for_good() {
        let (_dir, lake) = lake();
        let lineages = Lineages::new(&lake, "batch");
        let sources = [SourceId::log("g1"), SourceId::archive("s3://old/topics"), SourceId::log("g2")];
        for (number, source) in (0..).zip(&sources) {
            assert_eq!(lineages.find("a.geo", source).await.unwrap(), None);
            assert_eq!(lineages.claim("a.geo", source).await.unwrap(), number);
        }
        assert_eq!(
            lineages.claim("b.geo", &sources[2]).await.unwrap(),
            0,
            "names have lineages of their own"
        );
        assert_eq!(Lineages::new(&lake, "stream").claim("a.geo", &sources[2]).await.unwrap(), 0);
        let fresh = Lineages::new(&lake, "batch");
        for (number, source) in (0..).zip(&sources) {
            assert_eq!(fresh.claim("a.geo", source).await.unwrap(), number);
            assert_eq!(fresh.source("a.geo", number).await.unwrap().as_ref(), Some(source));
        }
        assert_eq!(fresh.numbers("a.geo").await.unwrap(), [0, 1, 2]);
        let all = fresh.all().await.unwrap();
        let of = |topic: &str, numbers: &[u32]| (topic.to_owned(), numbers.iter().copied().collect());
        assert_eq!(all, [of("a.geo", &[0, 1, 2]), of("b.geo", &[0])].into());
        assert_eq!(fresh.source("a.geo", 3).await.unwrap(), None);
    }

    #[tokio::test]
    async fn files_that_no_claim_has_written_are_no_lineages_and_the_last_number_is_the_last() {
        let (dir, lake) = lake();
        let lineages = Lineages::new(&lake, "batch");
        lineages.claim("t", &SourceId::log("g1")).await.unwrap();
        let file = |name: &str| dir.path().join("_pinmill/lineages/batch/t").join(name);
        for stray in ["007.json", "+3.json", "x.json", "4294967296.json"] {
            std::fs::copy(file("0.json"), file(stray)).unwrap();
        }
        assert_eq!(lineages.numbers("t").await.unwrap(), [0]);
        std::fs::copy(file("0.json"), file("4294967295.json")).unwrap();
        let error = lineages.claim("t", &SourceId::log("g2")).await.unwrap_err();
        assert!(error.to_string().contains("used up"), "{error}");
    }

    #[tokio::test]
    async fn of_many_that_claim_at_once_each_source_gets_one_number() {
        let (_dir, lake) = lake();
        let claims =
            (0..24).map(|n| {
                let lake = lake.clone();
                async move {
                    Lineages::new(&lake, "batch").claim("t", &SourceId::log(&format!("g{}", n % 3))).await
                }
            });
        let numbers: Vec<u32> = futures::future::try_join_all(claims).await.unwrap();
        for (n, number) in numbers.iter().enumerate() {
            assert_eq!(*number, numbers[n % 3]);
        }
        let mut distinct = numbers[..3].to_vec();
        distinct.sort_unstable();
        assert_eq!(distinct, [0, 1, 2]);
    }

    #[tokio::test]
    async fn what_0_1_has_loaded_is_lineage_0_unless_something_is_already() {
        let (_dir, lake) = lake();
        let lineages = Lineages::new(&lake, "batch");
        assert!(!lineages.is_adopted().await.unwrap());
        lineages.adopt("t", 0, &SourceId::from_noted("archive file:///b/topics")).await.unwrap();
        lineages.adopt("t", 0, &SourceId::from_noted("g1")).await.unwrap();
        lineages.all_adopted().await.unwrap();
        assert!(lineages.is_adopted().await.unwrap());
        assert_eq!(lineages.claim("t", &SourceId::log("g1")).await.unwrap(), 1);
        assert_eq!(lineages.source("t", 0).await.unwrap(), Some(SourceId::archive("file:///b/topics")));
    }

    #[tokio::test]
    async fn a_claim_that_cannot_be_read_is_an_error_with_its_name() {
        let (dir, lake) = lake();
        let lineages = Lineages::new(&lake, "batch");
        lineages.claim("t", &SourceId::log("g1")).await.unwrap();
        let file = dir.path().join("_pinmill/lineages/batch/t/0.json");
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, r#"{"version":1,"source":{"kind":"log","generation":"g1"}}"#);
        for damaged in ["", "{", r#"{"version":2,"source":{"kind":"log","generation":"g1"}}"#] {
            std::fs::write(&file, damaged).unwrap();
            let error = Lineages::new(&lake, "batch").claim("t", &SourceId::log("g2")).await.unwrap_err();
            assert!(error.to_string().contains("lineages/batch/t/0.json"), "{error}");
        }
    }
}
