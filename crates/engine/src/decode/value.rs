//! One record's bytes to the cells of a row.

use std::collections::HashSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use jiter::{Jiter, JiterError, Peek};
use pinmill_pipeline::{DriftPolicy, RawType};

use super::columns::Cell;
use super::drift::{DriftCounts, DriftKind};
use super::fields::{FieldTable, Slot};
use super::number::integer;
use super::text::Text;

/// How often a record may be packed into a JSON string or base64 before its object comes.
const MAX_WRAPPINGS: usize = 4;
/// How much of a value a reason shows.
const SHOWN_CHARS: usize = 60;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// The row being read, and all that reading it changes.
pub(super) struct Row<'a> {
    pub(super) fields: &'a mut FieldTable,
    pub(super) cells: &'a mut [Cell],
    /// Rank of the name that filled each cell, and whether a name was there twice.
    pub(super) ranks: &'a mut [u8],
    pub(super) text: &'a mut Text,
    pub(super) drift: &'a mut DriftCounts,
    pub(super) policy: DriftPolicy,
}

/// Rank of a cell that no member filled.
pub(super) const UNFILLED: u8 = u8::MAX;

impl Row<'_> {
    /// Reads a record; `origin` is where `bytes` begin in the current chunk, if they lie in it.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        origin: Option<usize>,
        tape: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mark = self.text.mark();
        if self.read_fast(bytes, origin, tape).is_some() {
            return Ok(());
        }
        self.text.reset(mark);
        self.cells.fill(Cell::Missing);
        self.ranks.fill(UNFILLED);
        self.read_carefully(bytes, origin, tape)
    }

    /// Reads a record that may be anything.
    pub(super) fn read_carefully(
        &mut self,
        bytes: &[u8],
        origin: Option<usize>,
        tape: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut owned: Vec<u8>;
        let (mut bytes, mut origin) = (bytes, origin);
        for _ in 0..=MAX_WRAPPINGS {
            let first = bytes.iter().copied().find(|b| !b.is_ascii_whitespace());
            match first {
                Some(b'{') => return self.read_object(bytes, origin, tape),
                Some(b'[') => {
                    let object = only_object(bytes)?;
                    let origin = origin.map(|origin| origin + object.start);
                    return self.read_object(bytes.get(object).unwrap_or_default(), origin, tape);
                }
                Some(_) => owned = unwrap(bytes)?,
                None => return Err("the record is empty".to_owned()),
            }
            (bytes, origin) = (&owned, None);
        }
        Err(format!("the record is packed more than {MAX_WRAPPINGS} times into strings or base64"))
    }

    fn read_object(&mut self, bytes: &[u8], origin: Option<usize>, tape: &mut Vec<u8>) -> Result<(), String> {
        let mut json = Jiter::with_tape(bytes, std::mem::take(tape));
        let read = self.members(&mut json, bytes, origin);
        *tape = json.into_tape();
        read
    }

    fn members(&mut self, json: &mut Jiter<'_>, bytes: &[u8], origin: Option<usize>) -> Result<(), String> {
        let source = Source { bytes, origin };
        let mut key = json.next_object().map_err(|error| not_json(&error))?;
        let mut place = 0;
        let mut unknown_names = HashSet::new();
        while let Some(name) = key {
            match self.fields.find(place, name) {
                Some(slot) => {
                    let wanted = self.admit(slot, name)?;
                    let cell = self.cell(json, slot, &source)?;
                    if let (true, Some(place)) = (wanted, self.cells.get_mut(slot.field)) {
                        *place = cell;
                    }
                }
                None => {
                    self.unknown(name.to_owned(), &mut unknown_names)?;
                    let peek = json.peek().map_err(|error| not_json(&error))?;
                    raw_text(json, peek, &source)?;
                }
            }
            place += 1;
            key = json.next_key().map_err(|error| not_json(&error))?;
        }
        json.finish().map_err(|error| not_json(&error))
    }

    /// Whether a member's value is to be taken: its name is the most preferred so far.
    fn admit(&mut self, slot: Slot, name: &str) -> Result<bool, String> {
        let Some(rank) = self.ranks.get_mut(slot.field) else { return Ok(false) };
        if *rank == slot.rank {
            return Err(format!("member `{}` is there twice", shown(name)));
        }
        if *rank != UNFILLED {
            self.drift.add(name, DriftKind::Shadowed);
        }
        let wanted = slot.rank < *rank;
        *rank = slot.rank.min(*rank);
        Ok(wanted)
    }

    fn unknown(&mut self, name: String, seen: &mut HashSet<String>) -> Result<(), String> {
        if seen.contains(&name) {
            return Err(format!("member `{}` is there twice", shown(&name)));
        }
        self.drift.add(&name, DriftKind::Unknown);
        let refused = (self.policy == DriftPolicy::Quarantine)
            .then(|| format!("member `{}` is not declared", shown(&name)));
        seen.insert(name);
        refused.map_or(Ok(()), Err)
    }

    fn cell(&mut self, json: &mut Jiter<'_>, slot: Slot, source: &Source<'_>) -> Result<Cell, String> {
        let peek = json.peek().map_err(|error| not_json(&error))?;
        match (peek, slot.data_type) {
            (Peek::Null, _) => {
                json.known_null().map_err(|error| not_json(&error))?;
                Ok(Cell::Null)
            }
            (Peek::String, RawType::String) => {
                let text = json.known_str().map_err(|error| not_json(&error))?;
                self.view(text, source).map(Cell::Text)
            }
            (Peek::String, data_type) => {
                let text = json.known_str().map_err(|error| not_json(&error))?;
                from_text(text, data_type)
                    .ok_or_else(|| self.mismatch(slot, &format!("string \"{}\"", shown(text))))
            }
            (_, RawType::String) => {
                let raw = raw_text(json, peek, source)?;
                if peek == Peek::Array || peek == Peek::Object {
                    let name = self.fields.name(slot).to_owned();
                    self.drift.add(&name, DriftKind::Nested);
                }
                self.view(raw, source).map(Cell::Text)
            }
            (Peek::True | Peek::False, RawType::Boolean) => {
                json.known_bool(peek).map(Cell::Boolean).map_err(|error| not_json(&error))
            }
            (Peek::True | Peek::False | Peek::Array | Peek::Object, _) => {
                let raw = raw_text(json, peek, source)?;
                Err(self.mismatch(slot, &format!("{} {}", kind(peek), shown(raw))))
            }
            (_, data_type) => {
                let number = json.known_number_bytes(peek).map_err(|error| not_json(&error))?;
                // Numbers are ASCII.
                let number = std::str::from_utf8(number).unwrap_or_default();
                from_number(number, data_type)
                    .ok_or_else(|| self.mismatch(slot, &format!("number {}", shown(number))))
            }
        }
    }

    fn mismatch(&self, slot: Slot, got: &str) -> String {
        format!("field `{}`: expected {}, got {got}", self.fields.name(slot), slot.data_type)
    }

    /// A view of bytes that are known to be ASCII.
    pub(super) fn view_ascii(&mut self, text: &[u8], source: &Source<'_>) -> Result<u128, String> {
        match source.offset_of(text) {
            Some(offset) => self.text.view_in_chunk(text, offset),
            None => self.text.view_of_copy(text),
        }
    }

    /// A view of text, in the chunk where it lies there and as a copy otherwise.
    pub(super) fn view(&mut self, text: &str, source: &Source<'_>) -> Result<u128, String> {
        self.view_ascii(text.as_bytes(), source)
    }
}

/// The record's bytes, and where they begin in the chunk.
pub(super) struct Source<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) origin: Option<usize>,
}

impl Source<'_> {
    /// Where in the chunk a slice begins; `None` when it does not lie there.
    fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let offset = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        (offset + part.len() <= self.bytes.len()).then_some(self.origin? + offset)
    }
}

fn raw_text<'a>(json: &mut Jiter<'_>, peek: Peek, source: &Source<'a>) -> Result<&'a str, String> {
    let start = json.current_index();
    json.known_skip(peek).map_err(|error| not_json(&error))?;
    let raw = source.bytes.get(start..json.current_index()).unwrap_or_default();
    std::str::from_utf8(raw).map_err(|error| format!("not UTF-8 at byte {}", start + error.valid_up_to()))
}

/// A string as a value of another type: it is read like the number or the boolean that it holds.
pub(super) fn from_text(text: &str, data_type: RawType) -> Option<Cell> {
    let text = text.trim();
    match data_type {
        RawType::Boolean if text.eq_ignore_ascii_case("true") => Some(Cell::Boolean(true)),
        RawType::Boolean if text.eq_ignore_ascii_case("false") => Some(Cell::Boolean(false)),
        data_type => from_number(text, data_type),
    }
}

pub(super) fn from_number(number: &str, data_type: RawType) -> Option<Cell> {
    match data_type {
        RawType::String => None,
        RawType::Int => integer(number).and_then(|value| i32::try_from(value).ok()).map(Cell::Int),
        RawType::BigInt => integer(number).map(Cell::BigInt),
        // The nearest double, as IEEE 754 rounds. Rust also reads "inf" and "nan", which are not numbers here.
        RawType::Double => number.parse().ok().filter(|value: &f64| value.is_finite()).map(Cell::Double),
        RawType::Boolean => match integer(number) {
            Some(0) => Some(Cell::Boolean(false)),
            Some(1) => Some(Cell::Boolean(true)),
            _ => None,
        },
    }
}

/// The one object in an array: where in `bytes` it lies. Spark explodes such an array into its rows, and some producers
/// post one row like this.
fn only_object(bytes: &[u8]) -> Result<Range<usize>, String> {
    let failed = |error: JiterError| not_json(&error);
    let mut json = Jiter::new(bytes);
    let first = json.next_array().map_err(failed)?;
    let start = json.current_index();
    let (mut end, mut count) = (start, 0_usize);
    let mut next = first;
    while let Some(peek) = next {
        json.known_skip(peek).map_err(failed)?;
        if count == 0 {
            end = json.current_index();
        }
        count += 1;
        next = json.array_step().map_err(failed)?;
    }
    json.finish().map_err(failed)?;
    match (first, count) {
        (Some(Peek::Object), 1) => Ok(start..end),
        (Some(first), 1) => {
            Err(format!("expected a JSON object, got an array that holds only one {}", kind(first)))
        }
        (_, 0) => Err("expected a JSON object, got an empty array".to_owned()),
        _ => Err(format!("expected one JSON object, got an array of {count} values; post each as a record")),
    }
}

/// What is inside of a record that is not an object: the text of a JSON string, or what base64 stands for.
fn unwrap(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let bytes = bytes.trim_ascii();
    if bytes.first() != Some(&b'"') {
        return from_base64(bytes).ok_or_else(|| not_an_object(bytes));
    }
    let mut json = Jiter::new(bytes);
    let text = json.next_str().map_err(|error| not_json(&error))?.to_owned();
    json.finish().map_err(|error| not_json(&error))?;
    match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[' | b'"') => Ok(text.into_bytes()),
        _ => from_base64(text.trim().as_bytes()).ok_or_else(|| {
            format!(
                "expected a JSON object, got string \"{}\" that holds neither JSON nor base64 of it",
                shown(&text)
            )
        }),
    }
}

/// What base64 stands for, if it stands for a JSON object, array or string.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    matches!(decoded.trim_ascii_start().first(), Some(b'{' | b'[' | b'"')).then_some(decoded)
}

fn not_an_object(bytes: &[u8]) -> String {
    let mut json = Jiter::new(bytes);
    let found =
        json.peek().and_then(|peek| json.known_skip(peek).and_then(|()| json.finish()).map(|()| peek));
    match found {
        Ok(peek) => {
            format!("expected a JSON object, got {} {}", kind(peek), shown(&String::from_utf8_lossy(bytes)))
        }
        Err(error) => not_json(&error),
    }
}

fn not_json(error: &JiterError) -> String {
    format!("not valid JSON: {} at byte {}", error.error_type.to_string().to_lowercase(), error.index)
}

fn kind(peek: Peek) -> &'static str {
    match peek {
        Peek::Null => "null",
        Peek::True | Peek::False => "boolean",
        Peek::String => "string",
        Peek::Array => "array",
        Peek::Object => "object",
        _ => "number",
    }
}

/// The beginning of a text, for a reason.
fn shown(text: &str) -> String {
    crate::error::shown(text, SHOWN_CHARS)
}
