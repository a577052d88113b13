//! Which field a member's name means.

use std::collections::HashMap;

use pinmill_pipeline::{RawField, RawType};

use super::columns::Cell;

/// Members in a row whose names are remembered by place; rows with more are still read, only slower.
const MAX_REMEMBERED: usize = 256;
/// Rank of a name that fits only without regard to case.
const ANY_CASE: u8 = 128;

/// A field that a member's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Index of the field.
    pub(super) field: usize,
    /// How much the name is preferred: 0 is best.
    pub(super) rank: u8,
    /// The field's type.
    pub(super) data_type: RawType,
}

#[derive(Debug)]
pub(super) struct FieldTable {
    fields: Vec<RawField>,
    exact: HashMap<Box<[u8]>, Slot>,
    any_case: HashMap<String, Slot>,
    /// Names of the members of the rows before, by place, and what they mean.
    remembered: Vec<(Box<[u8]>, Option<Slot>)>,
}

impl FieldTable {
    pub(super) fn new(fields: &[RawField]) -> Self {
        let mut exact = HashMap::new();
        let mut any_case = HashMap::new();
        for (index, field) in fields.iter().enumerate() {
            for (rank, name) in field.names().enumerate() {
                let rank = u8::try_from(rank).unwrap_or(ANY_CASE - 1).min(ANY_CASE - 1);
                let slot = Slot { field: index, rank, data_type: field.data_type };
                exact.entry(name.as_bytes().into()).or_insert(slot);
                any_case.entry(name.to_lowercase()).or_insert(Slot { rank: rank + ANY_CASE, ..slot });
            }
        }
        Self { fields: fields.to_vec(), exact, any_case, remembered: Vec::new() }
    }

    /// The field that the `place`-th member of a row means by its name, if any.
    pub(super) fn find(&mut self, place: usize, name: &str) -> Option<Slot> {
        if let Some((remembered, slot)) = self.remembered.get(place)
            && **remembered == *name.as_bytes()
        {
            return *slot;
        }
        let found =
            self.exact.get(name.as_bytes()).or_else(|| self.any_case.get(&name.to_lowercase())).copied();
        // A name that JSON must write with escapes is not compared byte by byte.
        let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        if name.len() <= 128 && place < MAX_REMEMBERED && name.bytes().all(plain) {
            let entry = (name.as_bytes().into(), found);
            if place == self.remembered.len() {
                self.remembered.push(entry);
            } else if let Some(remembered) = self.remembered.get_mut(place) {
                *remembered = entry;
            }
        }
        found
    }

    /// The field of the `place`-th member of the record before, if `bytes` begin with its name in quotes, and how
    /// long that is.
    pub(super) fn expected(&self, place: usize, bytes: &[u8]) -> Option<(Slot, usize)> {
        let (name, slot) = self.remembered.get(place)?;
        let length = name.len();
        let fits = bytes.first() == Some(&b'"')
            && bytes.get(1..=length) == Some(name)
            && bytes.get(length + 1) == Some(&b'"');
        if fits { slot.map(|slot| (slot, length + 2)) } else { None }
    }

    /// The name of a field.
    pub(super) fn name(&self, slot: Slot) -> &str {
        self.fields.get(slot.field).map_or("?", |field| &field.name)
    }

    /// Complains of the first required field that has no value.
    pub(super) fn check_required(&self, cells: &[Cell]) -> Result<(), String> {
        for (field, cell) in self.fields.iter().zip(cells) {
            match cell {
                Cell::Missing if field.required => {
                    let aliases = match field.aliases.as_slice() {
                        [] => String::new(),
                        aliases => format!(" (also looked for as `{}`)", aliases.join("`, `")),
                    };
                    return Err(format!("field `{}` is missing{aliases}", field.name));
                }
                Cell::Null if field.required => return Err(format!("field `{}` is null", field.name)),
                _ => {}
            }
        }
        Ok(())
    }
}
