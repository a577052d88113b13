//! Rows from the files `pin.jsonl`, `geo.jsonl` and `user.jsonl` of a folder: one JSON object a line, as the database has
//! it, found by its key. Ids may be missing.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DateForm, Source, SourceError, Table};

/// Longest line that is taken for a row: what a gateway takes for a record, and as much again for blanks and escapes.
const LONGEST_LINE: u64 = 2 << 20;

/// Names under which the key is found.
const KEYS: [&str; 4] = ["index", "ind", "idx", "index_no"];

/// A folder of rows. Only the places of the rows are held in memory (24 bytes each); the rows stay in their files.
#[derive(Debug)]
pub struct Jsonl {
    files: [Rows; 3],
}

#[derive(Debug)]
struct Rows {
    path: PathBuf,
    file: Mutex<File>,
    places: HashMap<u64, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    len: u32,
    line: u32,
}

impl Jsonl {
    /// Reads through the three files once and remembers where each id is.
    ///
    /// # Errors
    /// When a file is missing, or a line is not a JSON object with a whole number as its key, or has the key of another line.
    pub fn open(dir: &Path) -> Result<Self, SourceError> {
        let rows = |table: Table| Rows::open(dir.join(format!("{table}.jsonl")));
        Ok(Self { files: [rows(Table::Pin)?, rows(Table::Geo)?, rows(Table::User)?] })
    }

    /// The ids of a table, rising.
    pub fn ids(&self, table: Table) -> Vec<u64> {
        let mut ids: Vec<_> = self.files[table as usize].places.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

#[async_trait]
impl Source for Jsonl {
    async fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError> {
        self.files[table as usize].row(table, id, form)
    }

    fn rows(&self) -> Option<u64> {
        self.files.iter().flat_map(|rows| rows.places.keys()).max().map_or(Some(0), |id| id.checked_add(1))
    }

    fn held_ids(&self) -> Option<Vec<u64>> {
        let ids: BTreeSet<u64> = self.files.iter().flat_map(|rows| rows.places.keys().copied()).collect();
        Some(ids.into_iter().collect())
    }
}

impl Rows {
    fn open(path: PathBuf) -> Result<Self, SourceError> {
        let failed = |source: io::Error| SourceError::File { path: path.clone(), source };
        let mut reader = BufReader::with_capacity(1 << 16, File::open(&path).map_err(failed)?);
        let mut places = HashMap::new();
        let (mut at, mut line, mut text) = (0, 0, Vec::new());
        loop {
            text.clear();
            let len = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(failed)? as u64;
            if len == 0 {
                break;
            }
            line += 1;
            let refuse = |why: String| SourceError::Line { path: path.clone(), line: line.into(), why };
            if len == LONGEST_LINE && text.last() != Some(&b'\n') {
                return Err(refuse(format!("the line is longer than {LONGEST_LINE} bytes")));
            }
            if !text.trim_ascii().is_empty() {
                let key = key_of(&text).map_err(refuse)?;
                if let Some(Place { line: first, .. }) =
                    places.insert(key, Place { at, len: len as u32, line })
                {
                    return Err(refuse(format!("the key {key} is that of line {first} already")));
                }
            }
            at += len;
        }
        let file = Mutex::new(reader.into_inner());
        Ok(Self { path, file, places })
    }

    fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError> {
        let Some(&place) = self.places.get(&id) else { return Ok(None) };
        let mut text = vec![0; place.len as usize];
        let read = {
            // A file that a panicking reader left somewhere is set to the right place again.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(place.at)).and_then(|_| file.read_exact(&mut text))
        };
        read.map_err(|source| SourceError::File { path: self.path.clone(), source })?;
        let refuse = |why| SourceError::Line { path: self.path.clone(), line: place.line.into(), why };
        match key_of(&text) {
            Ok(key) if key == id => rewrite(&text, table, form).map(Some).map_err(refuse),
            _ => Err(refuse(format!(
                "the row {id} is not here any more: the file was changed while it was read"
            ))),
        }
    }
}

/// The members of a JSON object in their order.
fn members(line: &[u8]) -> Result<Vec<(String, &RawValue)>, String> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(12);
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let members = json.deserialize_map(Members).and_then(|members| json.end().map(|()| members));
    members.map_err(|e| format!("the line is no row: {e}"))
}

fn key_of(line: &[u8]) -> Result<u64, String> {
    let members = members(line)?;
    let key = members.iter().find(|(name, _)| KEYS.contains(&name.as_str()));
    let Some((name, value)) = key else { return Err(format!("the row has no key ({})", KEYS.join(", "))) };
    value
        .get()
        .parse()
        .map_err(|_| format!("`{name}` is {}, but a key is a whole number from 0 on", value.get()))
}

/// The row on one line without blanks, each value as it was written, date-times in `form`.
fn rewrite(line: &[u8], table: Table, form: DateForm) -> Result<String, String> {
    let mut row = String::with_capacity(line.len());
    for (name, value) in members(line)? {
        row.push(if row.is_empty() { '{' } else { ',' });
        row.push_str(&serde_json::to_string(&name).map_err(|e| e.to_string())?);
        row.push(':');
        let date = (table.date_column() == Some(name.as_str()))
            .then(|| serde_json::from_str::<String>(value.get()).ok())
            .flatten()
            .and_then(|text| form.rewrite(&text));
        match date {
            // a date-time has nothing to escape
            Some(date) => row.extend(["\"", date.as_str(), "\""]),
            None => row.push_str(value.get()),
        }
    }
    row.push('}');
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(geo: &str) -> tempfile::TempDir {
        let dir = pinmill_testkit::temp_dir();
        std::fs::write(dir.path().join("pin.jsonl"), "{\"index\": 3, \"title\": \"a\"}\n").unwrap();
        std::fs::write(dir.path().join("geo.jsonl"), geo).unwrap();
        std::fs::write(dir.path().join("user.jsonl"), "").unwrap();
        dir
    }

    #[test]
    fn a_row_keeps_its_order_and_the_spelling_of_its_values() {
        let dir = folder(
            "{\"ind\": 7, \"timestamp\": \"2020-08-28 03:52:47\", \"latitude\": -88.8298, \"longitude\": 1.0, \"country\": \"C\\u00f4te\"}\n\n{\"ind\":2,\"timestamp\":null}",
        );
        let rows = Jsonl::open(dir.path()).unwrap();
        let geo = |id, form| rows.files[1].row(Table::Geo, id, form).unwrap();
        assert_eq!(
            geo(7, DateForm::Us).unwrap(),
            "{\"ind\":7,\"timestamp\":\"08/28/2020, 03:52:47\",\"latitude\":-88.8298,\"longitude\":1.0,\"country\":\"C\\u00f4te\"}"
        );
        assert_eq!(geo(2, DateForm::Us).unwrap(), "{\"ind\":2,\"timestamp\":null}");
        assert_eq!(geo(3, DateForm::Us), None);
        assert_eq!(rows.ids(Table::Geo), [2, 7]);
        assert_eq!(rows.rows(), Some(8));
    }

    #[test]
    fn what_is_no_row_is_named_by_file_and_line() {
        for (text, why) in [
            ("{\"ind\": 1}\nnonsense\n", "geo.jsonl:2: the line is no row"),
            ("{\"ind\": 1}\n{\"ind\": 1}\n", "geo.jsonl:2: the key 1 is that of line 1 already"),
            ("{\"id\": 1}\n", "geo.jsonl:1: the row has no key"),
            ("{\"ind\": -1}\n", "geo.jsonl:1: `ind` is -1"),
            ("[1]\n", "geo.jsonl:1: the line is no row"),
        ] {
            let dir = folder(text);
            let error = Jsonl::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = pinmill_testkit::temp_dir();
        let error = Jsonl::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("pin.jsonl"), "{error}");
    }
}
