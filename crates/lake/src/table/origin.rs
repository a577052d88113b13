//! What the rows of an answer were computed from, and which of two answers is newer. Pure.
//!
//! An answer notes the version of each table that it was computed from. It replaces another one unless that one was
//! computed from a newer version of any of these tables. Where each of the two knows a newer version of one table (two runs
//! at once that looked at the tables in turn), the one that is there stays; the next run sees newer versions of all.
//!
//! Versions are compared within one table. A table that was removed and made again counts from 0 anew and has another id, so
//! that its answers replace those of the one before.

use serde::{Deserialize, Serialize};

/// A version of a table that rows were computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// The table, relative to the lake.
    pub table: String,
    /// Delta's id of the table: a table that is made again under the name has another one.
    pub id: String,
    /// Its version.
    pub version: u64,
}

/// Who computed an answer, and from what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of the run, for people who read the history.
    pub run: Option<String>,
    /// The tables, at the versions that were read.
    pub from: Vec<TableVersion>,
}

/// Whether rows computed from `ours` must not replace rows computed from `theirs`.
pub(super) fn is_superseded(ours: &[TableVersion], theirs: &[TableVersion]) -> bool {
    theirs.iter().any(|their| {
        let same = |our: &&TableVersion| our.table == their.table && our.id == their.id;
        ours.iter().find(same).is_some_and(|our| our.version < their.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(versions: &[(&str, u64)]) -> Vec<TableVersion> {
        let of = |(table, version): &(&str, u64)| TableVersion {
            table: (*table).to_owned(),
            id: format!("id of {table}"),
            version: *version,
        };
        versions.iter().map(of).collect()
    }

    #[test]
    fn an_answer_never_replaces_one_that_knows_a_newer_version_of_a_table() {
        let there = versions(&[("pin", 5), ("geo", 7)]);
        for (ours, superseded) in [
            (versions(&[("pin", 5), ("geo", 7)]), false),
            (versions(&[("pin", 6), ("geo", 7)]), false),
            (versions(&[("pin", 4), ("geo", 7)]), true),
            (versions(&[("pin", 6), ("geo", 6)]), true),
            (versions(&[("pin", 5)]), false),
            (versions(&[("user", 1)]), false),
            (versions(&[]), false),
        ] {
            assert_eq!(is_superseded(&ours, &there), superseded, "{ours:?}");
        }
        assert!(!is_superseded(&there, &[]), "it was made by hand, or by pinmill 0.1");
        let mut anew = versions(&[("pin", 0), ("geo", 0)]);
        anew.iter_mut().for_each(|table| table.id.push_str(" made again"));
        assert!(!is_superseded(&anew, &there), "other tables");
    }
}
