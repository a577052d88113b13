//! What came that was not declared, counted by name.

use std::collections::HashMap;

/// How many different names are told apart; the rest is counted together, so that hostile names cost no memory.
const MAX_NAMES: usize = 100;
/// What a [`Drift`] calls the members beyond those that are told apart by name.
pub const OTHER_NAMES: &str = "(other names)";
/// No more of a name than this is kept.
const MAX_NAME_CHARS: usize = 128;

/// Something that came otherwise than declared, and was not an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// The member's name as it came.
    pub field: String,
    /// What was unexpected.
    pub kind: DriftKind,
    /// In how many records.
    pub count: u64,
}

/// How a record differed from what is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DriftKind {
    /// No field is called so.
    Unknown,
    /// It names a field that another member, under a preferred name, filled already.
    Shadowed,
    /// An array or object stood where text is declared; its JSON text was taken.
    Nested,
}

impl std::fmt::Display for DriftKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no field is declared for it",
            Self::Shadowed => "a preferred name of the same field was there too",
            Self::Nested => "an array or object came where text is declared",
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct DriftCounts {
    counts: HashMap<(String, DriftKind), u64>,
    unknown: Option<String>,
}

impl DriftCounts {
    pub(super) fn add(&mut self, name: &str, kind: DriftKind) {
        if kind == DriftKind::Unknown && self.unknown.is_none() {
            self.unknown = Some(shorten(name));
        }
        let mut key = (shorten(name), kind);
        if self.counts.len() >= MAX_NAMES && !self.counts.contains_key(&key) {
            OTHER_NAMES.clone_into(&mut key.0);
        }
        *self.counts.entry(key).or_default() += 1;
    }

    /// An unknown member of the records since this was last asked, if there was one.
    pub(super) fn take_unknown(&mut self) -> Option<String> {
        self.unknown.take()
    }

    /// All counts, by name, and begins anew.
    pub(super) fn finish(&mut self) -> Vec<Drift> {
        let mut drift: Vec<Drift> =
            self.counts.drain().map(|((field, kind), count)| Drift { field, kind, count }).collect();
        drift.sort();
        drift
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}
