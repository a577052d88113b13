//! JSON of strangers: checked to the last byte, and made compact without touching what it says.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use memchr::memchr2;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// Objects with more members than this look for repeated names by hash instead of one by one.
const FEW_MEMBERS: usize = 16;

/// Checks that `text` is one JSON value that every reader understands alike.
///
/// Beyond the grammar: no member name twice in an object, no escaped half of a surrogate pair, no number that a double
/// cannot hold, no more than `depth` arrays and objects within each other.
pub(crate) fn check(text: &str, depth: usize) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Strict { depth, limit: depth }.deserialize(&mut reader)?;
    reader.end()
}

/// A copy of `text`, which must have passed [`check`], without the white space between its tokens.
///
/// It is a copy even where there is none: a slice would keep the connection's whole read buffer alive while the log
/// writes, and hyper would have to get another.
pub(crate) fn compact(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let mut compacted = Vec::with_capacity(text.len());
    let mut kept = 0;
    while let Some(space) = next_space(text, kept) {
        compacted.extend_from_slice(&text[kept..space]);
        let spaces = text[space..].iter().take_while(|byte| is_space(**byte)).count();
        kept = space + spaces;
    }
    compacted.extend_from_slice(&text[kept..]);
    compacted
}

/// Where white space comes next from `from` on, which is outside of any string.
fn next_space(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let byte = text.get(at)?;
        if is_space(*byte) {
            return Some(at);
        }
        at = if *byte == b'"' { string_end(text, at) } else { at + 1 };
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The place after the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        // What is escaped does not end it.
        at += 2;
    }
    text.len()
}

/// Reads any value, keeps nothing, and refuses what [`check`] refuses.
#[derive(Clone, Copy)]
struct Strict {
    /// How many levels may still open.
    depth: usize,
    limit: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(E::custom(format_args!("nested deeper than {} levels", self.limit))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        let mut names = Names::new();
        while let Some(name) = members.next_key_seed(Name)? {
            if !names.is_new(&name) {
                return Err(A::Error::custom(format_args!("member {} is there twice", quoted(&name))));
            }
            names.insert(name);
            members.next_value_seed(deeper)?;
        }
        Ok(())
    }
}

/// A name for a message: quoted, escaped, cut to a printable length.
pub(crate) fn quoted(name: &str) -> String {
    let cut: String = name.escape_debug().take(60).collect();
    format!("`{cut}`")
}

/// A member's name, borrowed where it holds no escapes.
pub(crate) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// The names that an object has had so far.
struct Names<'de> {
    few: Vec<Cow<'de, str>>,
    many: Option<HashSet<Cow<'de, str>>>,
}

impl<'de> Names<'de> {
    fn new() -> Self {
        Self { few: Vec::with_capacity(FEW_MEMBERS), many: None }
    }

    fn is_new(&self, name: &str) -> bool {
        let is_among_many = || self.many.as_ref().is_some_and(|many| many.contains(name));
        !self.few.iter().any(|seen| seen == name) && !is_among_many()
    }

    fn insert(&mut self, name: Cow<'de, str>) {
        if self.few.len() < FEW_MEMBERS {
            self.few.push(name);
        } else {
            self.many.get_or_insert_default().insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> String {
        String::from_utf8(compact(text)).unwrap()
    }

    #[test]
    fn what_every_reader_understands_alike_passes() {
        for text in [
            "null",
            "-0.0e-400",
            "123456789012345678901234567890",
            r#""\ud83d\ude00 \u0000 é""#,
            r#"{"a":1,"b":{"a":1},"A":2,"":3}"#,
            " [ 1 , [ ] ] ",
        ] {
            check(text, 64).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn what_readers_understand_differently_is_refused() {
        for (text, why) in [
            (r#"{"a":1,"a":1}"#, "`a` is there twice"),
            (r#"{"a":1,"\u0061":1}"#, "`a` is there twice"),
            (r#"[{"x":{"b":1,"c":2,"b":3}}]"#, "`b` is there twice"),
            (r#""\ud83d""#, "hex escape"),
            (r#""\ud83dx""#, "hex escape"),
            (r#""\ude00""#, "surrogate"),
            ("1e999", "out of range"),
            ("-1e999", "out of range"),
            ("NaN", "expected"),
            ("01", "invalid number"),
            ("1 2", "trailing"),
            ("\"a\u{1}\"", "control character"),
            ("", "EOF"),
        ] {
            let error = check(text, 64).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_repeated_name_is_found_in_an_object_of_any_size() {
        for members in [2, FEW_MEMBERS, FEW_MEMBERS + 1, 5_000] {
            let mut names: Vec<_> = (0..members).map(|n| format!("\"k{n}\":0")).collect();
            check(&format!("{{{}}}", names.join(",")), 64).unwrap();
            for repeated in [0, members / 2, members - 1] {
                names.push(format!("\"k{repeated}\":0"));
                check(&format!("{{{}}}", names.join(",")), 64).unwrap_err();
                names.pop();
            }
        }
    }

    #[test]
    fn depth_is_counted_and_never_overflows_the_stack() {
        let nested = |open: &str, close: &str, levels| open.repeat(levels) + "1" + &close.repeat(levels);
        for limit in [1, 64, 120] {
            check(&nested("[", "]", limit), limit).unwrap();
            check(&nested("{\"a\":", "}", limit), limit).unwrap();
            for deep in [limit + 1, 100_000] {
                check(&nested("[", "]", deep), limit).unwrap_err();
                check(&nested("{\"a\":", "}", deep), limit).unwrap_err();
            }
        }
    }

    #[test]
    fn compacting_removes_space_between_tokens_and_nothing_else() {
        for (text, expected) in [
            ("1", "1"),
            (" 1.50E+2 ", "1.50E+2"),
            ("{ \"b\" : 1 ,\n\t\"a\" :\r\n [ ] }", "{\"b\":1,\"a\":[]}"),
            (r#"{"a b" : " x \" y \\" , "c":"\\\" " }"#, r#"{"a b":" x \" y \\","c":"\\\" "}"#),
            (r#" "\u0041" "#, r#""\u0041""#),
            ("\" \u{a0}\u{2028} \"", "\" \u{a0}\u{2028} \""),
        ] {
            assert_eq!(compacted(text), expected);
            assert_eq!(compacted(expected), expected, "compact text stays as it is");
        }
    }
}
