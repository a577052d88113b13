//! The quick way through a record: a flat object whose members come in the order of the record before, with values
//! as they should be.
//!
//! It never refuses a record. Whatever is unusual (an unknown member, another order, a value of another type, a
//! character that JSON does not allow) makes it give up, and the record is read again by the careful way, which
//! knows the reasons. What it does accept, it reads as the careful way would; a test holds the two to that.

use jiter::Jiter;
use pinmill_pipeline::RawType;

use super::columns::Cell;
use super::fields::Slot;
use super::value::{Row, Source, UNFILLED, from_number, from_text};

impl Row<'_> {
    /// Reads a record; `None` when the careful way must be taken. Cells and text may have been changed then.
    pub(super) fn read_fast(
        &mut self,
        bytes: &[u8],
        origin: Option<usize>,
        tape: &mut Vec<u8>,
    ) -> Option<()> {
        let source = Source { bytes, origin };
        let mut at = expect(bytes, blanks(bytes, 0), b'{')?;
        for place in 0.. {
            at = blanks(bytes, at);
            let (slot, after) = self.fields.expected(place, bytes.get(at..)?)?;
            let rank = self.ranks.get_mut(slot.field)?;
            if *rank != UNFILLED {
                return None;
            }
            *rank = slot.rank;
            at = expect(bytes, blanks(bytes, at + after), b':')?;
            let after = self.fast_cell(blanks(bytes, at), slot, &source, tape)?;
            at = blanks(bytes, after);
            match bytes.get(at)? {
                b',' => at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        (blanks(bytes, at + 1) == bytes.len()).then_some(())
    }

    /// Reads the value that begins at a place into its cell; gives the place after it.
    fn fast_cell(&mut self, at: usize, slot: Slot, source: &Source<'_>, tape: &mut Vec<u8>) -> Option<usize> {
        let bytes = source.bytes;
        match bytes.get(at)? {
            b'"' => {
                let start = at + 1;
                let end = plain_end(bytes, start);
                if bytes.get(end) != Some(&b'"') {
                    return self.fast_special(at, slot, source, tape);
                }
                // Only ASCII so far, so it is text.
                self.put_ascii(bytes.get(start..end)?, slot, source)?;
                Some(end + 1)
            }
            b'n' if bytes.get(at..at + 4) == Some(b"null") => {
                *self.cells.get_mut(slot.field)? = Cell::Null;
                Some(at + 4)
            }
            b'-' | b'0'..=b'9' => {
                let length = number_length(bytes.get(at..)?)?;
                let number = bytes.get(at..at + length)?;
                match slot.data_type {
                    RawType::String => self.put_ascii(number, slot, source)?,
                    data_type => {
                        *self.cells.get_mut(slot.field)? =
                            from_number(std::str::from_utf8(number).ok()?, data_type)?;
                    }
                }
                Some(at + length)
            }
            _ => None,
        }
    }

    fn put_ascii(&mut self, text: &[u8], slot: Slot, source: &Source<'_>) -> Option<()> {
        let cell = match slot.data_type {
            RawType::String => Cell::Text(self.view_ascii(text, source).ok()?),
            data_type => from_text(std::str::from_utf8(text).ok()?, data_type)?,
        };
        *self.cells.get_mut(slot.field)? = cell;
        Some(())
    }

    /// Reads a string with escapes or characters beyond ASCII.
    fn fast_special(
        &mut self,
        at: usize,
        slot: Slot,
        source: &Source<'_>,
        tape: &mut Vec<u8>,
    ) -> Option<usize> {
        let mut json = Jiter::with_tape(source.bytes.get(at..)?, std::mem::take(tape));
        let cell = json.next_str().ok().and_then(|text| match slot.data_type {
            RawType::String => self.view(text, source).ok().map(Cell::Text),
            data_type => from_text(text, data_type),
        });
        let after = at + json.current_index();
        *tape = json.into_tape();
        *self.cells.get_mut(slot.field)? = cell?;
        Some(after)
    }
}

/// The place after a byte that must stand at a place.
fn expect(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*bytes.get(at)? == byte).then_some(at + 1)
}

/// The first place from `at` on that is no white space.
fn blanks(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The first place from `start` on that holds a quote, a backslash, a control character or no ASCII.
fn plain_end(bytes: &[u8], start: usize) -> usize {
    const LANES: usize = 16;
    let special = |byte: u8| byte == b'"' || byte == b'\\' || !(0x20..0x80).contains(&byte);
    let mut at = start;
    while let Some(lanes) = bytes.get(at..at + LANES) {
        // Without a way out of the loop, so that it becomes a handful of vector instructions.
        if lanes.iter().fold(false, |found, byte| found | special(*byte)) {
            break;
        }
        at += LANES;
    }
    while bytes.get(at).is_some_and(|byte| !special(*byte)) {
        at += 1;
    }
    at
}

/// How long the JSON number is that a text begins with; `None` when it is not one.
fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let count = bytes.get(from..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(from + count)
    };
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let mut at = digits(sign)?;
    if bytes.get(sign) == Some(&b'0') && at > sign + 1 {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(at + 1 + signed)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::number_length;

    #[test]
    fn numbers_are_those_of_json() {
        for (text, expected) in [
            ("0", Some(1)),
            ("-0", Some(2)),
            ("10,", Some(2)),
            ("-12.50e+3}", Some(9)),
            ("1E9", Some(3)),
            ("01", None),
            ("-", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("+1", None),
        ] {
            assert_eq!(number_length(text.as_bytes()), expected, "{text}");
        }
    }
}
