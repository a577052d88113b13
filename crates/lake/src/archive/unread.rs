//! A note of what the latest clean of each archive could not read, so that others can name it without reading it all.
//!
//! `_pinmill/unread.json` in the lake of the tables, replaced by each clean that finds something else than it says:
//!
//! ```text
//! {"version":1, "archives":{"<place>":[{"topic":"…","path":"…","why":"…","may_hold_records":true}, …]}}
//! ```
//!
//! It is a note, no more: of two cleans at once one may overwrite the other's, and a crash leaves the older one. The next
//! clean sets it right. It names the first thousand of each archive.

use std::collections::BTreeMap;

use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Lake, Result};

const PATH: &str = "_pinmill/unread.json";
const VERSION: u32 = 1;
const NAMED: usize = 1000;

/// Something that lies among the topics of an archive and is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The topic in whose directory it lies.
    #[serde(default)]
    pub topic: Option<String>,
    /// Its path, relative to the archive's lake.
    pub path: String,
    /// Why it is not read.
    pub why: String,
    /// It may hold records: what is in the tables is then not all that there is.
    pub may_hold_records: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    version: u32,
    archives: BTreeMap<String, Vec<Unread>>,
}

impl Unread {
    /// What the latest clean of each archive could not read, by the archive's place.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub async fn noted(lake: &Lake) -> Result<BTreeMap<String, Vec<Self>>> {
        let path = lake.path(PATH);
        let Some(bytes) = lake.get(&path).await? else { return Ok(BTreeMap::new()) };
        let corrupt = |reason: String| Error::corrupt(lake.relative(&path), reason);
        let note: Note = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        match note.version {
            VERSION => Ok(note.archives),
            version => Err(corrupt(format!("version {version}; this pinmill knows {VERSION}"))),
        }
    }

    /// Notes what a clean of the archive at `place` could not read. True where that is something else than before.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn note(lake: &Lake, place: &str, unread: &[Self]) -> Result<bool> {
        // A note that cannot be read is one to be written anew.
        let before = Self::noted(lake).await.unwrap_or_default();
        let mut archives = before.clone();
        match unread.get(..NAMED.min(unread.len())) {
            None | Some([]) => drop(archives.remove(place)),
            Some(named) => drop(archives.insert(place.to_owned(), named.to_vec())),
        }
        if archives == before {
            return Ok(false);
        }
        let path = lake.path(PATH);
        let text = serde_json::to_vec(&Note { version: VERSION, archives });
        let text = text.map_err(|e| Error::corrupt(lake.relative(&path), e))?;
        let put = lake.store().put(&path, text.into()).await;
        put.map(|_| true).map_err(|error| Error::store("write", lake.relative(&path), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_archive_has_its_latest_note_and_none_where_all_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        let unread = |path: &str| Unread {
            topic: Some("t".to_owned()),
            path: path.to_owned(),
            why: "why".to_owned(),
            may_hold_records: true,
        };
        Unread::note(&lake, "a", &[]).await.unwrap();
        assert!(!dir.path().join(PATH).exists());
        assert!(Unread::note(&lake, "a", &[unread("x")]).await.unwrap());
        assert!(!Unread::note(&lake, "a", &[unread("x")]).await.unwrap());
        Unread::note(&lake, "b", &[unread("y"), unread("z")]).await.unwrap();
        let noted = Unread::noted(&lake).await.unwrap();
        assert_eq!(noted["a"], [unread("x")]);
        assert_eq!(noted["b"], [unread("y"), unread("z")]);
        Unread::note(&lake, "a", &[]).await.unwrap();
        assert_eq!(Unread::noted(&lake).await.unwrap().keys().collect::<Vec<_>>(), ["b"]);
        std::fs::write(dir.path().join(PATH), "{").unwrap();
        assert!(Unread::noted(&lake).await.is_err());
        Unread::note(&lake, "a", &[unread("x")]).await.unwrap();
        assert_eq!(Unread::noted(&lake).await.unwrap()["a"], [unread("x")]);
    }
}
