//! What was odd about records and passed all the same, counted.
//!
//! Some of it is named by whoever posts: the members of a record. So names are told apart up to a number, and counted
//! together beyond it. A process that runs for months keeps no more of them than one batch does.

use std::collections::BTreeMap;
use std::fmt;

use pinmill_engine::{DriftKind, OTHER_NAMES};
use serde::{Serialize, Serializer};

/// How many members are told apart by name.
const MAX_MEMBERS: usize = 100;

/// Something odd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A member of records came otherwise than declared.
    Member {
        /// Its name, or [`OTHER_NAMES`].
        name: String,
        /// What was unexpected.
        kind: DriftKind,
    },
    /// Anything else, in a few words. Nothing a stranger posts makes more of these.
    Other(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { name, kind } => write!(f, "field `{name}`: {kind}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Warnings with their numbers: of records, of offsets, or percent. In JSON an object of numbers by text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    counts: BTreeMap<Warning, u64>,
    /// How many members have a name of their own in `counts`.
    members: usize,
}

impl Warnings {
    /// Adds to the number of a warning.
    pub fn add(&mut self, what: Warning, count: u64) {
        if let Some(known) = self.counts.get_mut(&what) {
            *known += count;
            return;
        }
        let what = match what {
            Warning::Member { kind, .. } if self.members >= MAX_MEMBERS => {
                Warning::Member { name: OTHER_NAMES.to_owned(), kind }
            }
            Warning::Member { name, kind } => {
                self.members += usize::from(name != OTHER_NAMES);
                Warning::Member { name, kind }
            }
            other => other,
        };
        *self.counts.entry(what).or_default() += count;
    }

    /// Adds all of another's.
    pub fn join(&mut self, other: Self) {
        for (what, count) in other.counts {
            self.add(what, count);
        }
    }

    /// Each warning with its number, in the order of names and texts.
    pub fn iter(&self) -> impl Iterator<Item = (&Warning, u64)> {
        self.counts.iter().map(|(what, count)| (what, *count))
    }

    /// How many different ones there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// True when nothing was odd.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

impl Serialize for Warnings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(what, count)| (what.to_string(), count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: u32) -> Warning {
        Warning::Member { name: name.to_string(), kind: DriftKind::Unknown }
    }

    #[test]
    fn names_without_end_take_a_bounded_place_and_are_all_counted() {
        let mut all = Warnings::default();
        for step in 0..50 {
            let mut warnings = Warnings::default();
            for name in 0..100 {
                warnings.add(member(step * 100 + name), 2);
            }
            warnings.add(Warning::Other("an expectation is violated".to_owned()), 1);
            all.join(warnings);
        }
        assert_eq!(all.len(), MAX_MEMBERS + 2);
        let of_members = all.iter().filter(|(what, _)| matches!(what, Warning::Member { .. }));
        assert_eq!(of_members.map(|(_, count)| count).sum::<u64>(), 10_000);
        let json = serde_json::json!(all);
        assert_eq!(json["an expectation is violated"], 50, "no name crowds it out");
        assert_eq!(json["field `0`: no field is declared for it"], 2);
        assert_eq!(json["field `(other names)`: no field is declared for it"], 9800);
    }
}
