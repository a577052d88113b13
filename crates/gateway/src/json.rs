//! JSON of strangers: checked to the last byte, and made compact without touching what it says.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use memchr::memchr2;
use serde::de::{DeserializeSeed, Visitor};
use serde_json::value::RawValue;

/// Objects with more members than this look for repeated names by hash instead of one by one.
const FEW_MEMBERS: usize = 16;
/// Most zeros at the end of a whole number's canonical form. Every 64-bit number is written as digits alone.
const MOST_ZEROS: usize = 20;
/// Powers of ten that are told apart; every number beyond is as good as this. No double comes near it.
const FARTHEST: i64 = 1 << 60;
/// Digits that a double holds, wherever its point is: the largest double has 309 of them.
const SAFE_DIGITS: usize = 300;

/// Why readers would not understand a value alike, or not at all, though it keeps to the grammar.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ambiguity {
    #[error("member {0} is there twice")]
    RepeatedMember(String),
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("number out of range")]
    NumberOutOfRange,
    #[error("an escaped half of a surrogate pair without its other half")]
    HalfPair,
}

/// What is ambiguous, and where in the value it is; lines and columns count from 1, columns in bytes.
#[derive(Debug, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub(crate) struct Refused {
    what: Ambiguity,
    line: usize,
    column: usize,
}

/// A copy of a value without the white space between its tokens, when every reader understands it alike: no member name
/// twice in an object, no escaped half of a surrogate pair, no number that a double cannot hold, no more than `depth`
/// arrays and objects within each other.
///
/// It is a copy even where there is no space: a slice would keep the connection's whole read buffer alive while the log
/// writes, and hyper would have to get another.
pub(crate) fn compact(value: &RawValue, depth: usize) -> Result<Vec<u8>, Refused> {
    let text = value.get();
    let mut walk = Walk { text, levels: Vec::new(), depth, is_name_next: false };
    let mut compacted = Vec::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    while let Some(&byte) = text.as_bytes().get(at) {
        let end = walk.token(byte, at).map_err(|what| refused(what, text, at))?;
        if is_space(byte) {
            compacted.extend_from_slice(&text.as_bytes()[kept..at]);
            kept = end;
        }
        at = end;
    }
    compacted.extend_from_slice(&text.as_bytes()[kept..]);
    Ok(compacted)
}

fn refused(what: Ambiguity, text: &str, at: usize) -> Refused {
    let before = &text.as_bytes()[..at];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    Refused { what, line, column: 1 + at - line_start }
}

/// A walk over the tokens of a text that keeps to the grammar, so that few things are left to look at.
struct Walk<'a> {
    text: &'a str,
    /// The arrays and objects that are open here: an object with the names it had so far, an array with none.
    levels: Vec<Option<Names<'a>>>,
    /// How many may be open.
    depth: usize,
    is_name_next: bool,
}

impl<'a> Walk<'a> {
    /// Looks at the token, or the run of white space, that begins with `byte` at `at`; gives the place after it.
    fn token(&mut self, byte: u8, at: usize) -> Result<usize, Ambiguity> {
        match byte {
            b'"' => return self.string(at),
            b'-' | b'0'..=b'9' => return self.number(at),
            b'{' => self.open(Some(Names::default()))?,
            b'[' => self.open(None)?,
            b'}' | b']' => drop(self.levels.pop()),
            b',' => self.is_name_next = matches!(self.levels.last(), Some(Some(_))),
            b':' => self.is_name_next = false,
            space if is_space(space) => return Ok(self.end_of(at, is_space)),
            // A letter of true, false or null.
            _ => {}
        }
        Ok(at + 1)
    }

    fn open(&mut self, level: Option<Names<'a>>) -> Result<(), Ambiguity> {
        if self.levels.len() == self.depth {
            return Err(Ambiguity::TooDeep(self.depth));
        }
        self.is_name_next = level.is_some();
        self.levels.push(level);
        Ok(())
    }

    fn string(&mut self, at: usize) -> Result<usize, Ambiguity> {
        let (end, is_escaped) = string_end(self.text.as_bytes(), at);
        let text = if is_escaped {
            // Of what can be wrong with a string, only this is no matter of grammar.
            unescaped(&self.text[at..end]).map_err(|_| Ambiguity::HalfPair)?
        } else {
            Cow::Borrowed(&self.text[at + 1..end - 1])
        };
        if self.is_name_next
            && let Some(Some(names)) = self.levels.last_mut()
        {
            names.insert(text).map_err(|name| Ambiguity::RepeatedMember(quoted(&name)))?;
        }
        Ok(end)
    }

    fn number(&self, at: usize) -> Result<usize, Ambiguity> {
        let end = self.end_of(at, is_of_number);
        let number = &self.text[at..end];
        let is_safe = number.len() <= SAFE_DIGITS && !number.bytes().any(|byte| matches!(byte, b'e' | b'E'));
        if is_safe || serde_json::from_str::<f64>(number).is_ok() {
            return Ok(end);
        }
        Err(Ambiguity::NumberOutOfRange)
    }

    /// Where the bytes that are `such` end, the first of which is at `at`.
    fn end_of(&self, at: usize, such: impl Fn(u8) -> bool) -> usize {
        at + self.text.as_bytes()[at..].iter().take_while(|byte| such(**byte)).count()
    }
}

/// A compact value as the hash of a key takes it, so that one key is in one partition however it was written: strings
/// with the fewest escapes, and numbers in one form (`1`, `1.0` and `1e0` are `1`). The order of members counts.
///
/// It is what Kafka's own serializers write for text and whole numbers, so that native producers find the same partition.
pub(crate) fn canonical(compact: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| !matches!(byte, b'\\' | b'.' | b'e' | b'E' | b'-');
    let is_text = compact.len() >= 2 && compact.starts_with(b"\"") && !compact.contains(&b'\\');
    let Ok(text) = std::str::from_utf8(compact) else { return Cow::Borrowed(compact) };
    let has_long_number = || compact.windows(MOST_ZEROS + 1).any(|run| run.iter().all(|byte| *byte == b'0'));
    if is_text || compact.iter().all(is_plain) && !has_long_number() {
        return Cow::Borrowed(compact);
    }
    let (mut written, mut at) = (Vec::with_capacity(compact.len()), 0);
    while let Some(&byte) = compact.get(at) {
        let end = match byte {
            b'"' => string_end(compact, at).0,
            b'-' | b'0'..=b'9' => at + compact[at..].iter().take_while(|byte| is_of_number(**byte)).count(),
            _ => at + 1,
        };
        let token = &text[at..end];
        match byte {
            // A string always serializes, into memory.
            b'"' => drop(unescaped(token).map(|text| serde_json::to_writer(&mut written, &text))),
            b'-' | b'0'..=b'9' => written.extend_from_slice(decimal(token).as_bytes()),
            _ => written.push(byte),
        }
        at = end;
    }
    Cow::Owned(written)
}

/// A number of JSON in the one form of all that have its value: as digits, where no more than [`MOST_ZEROS`] stand at its
/// end and no more than six behind its point, else with an exponent. So it is never much longer than it was written.
fn decimal(number: &str) -> String {
    let (sign, unsigned) = number.strip_prefix('-').map_or(("", number), |unsigned| ("-", unsigned));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let farthest = if exponent.starts_with('-') { -2 * FARTHEST } else { 2 * FARTHEST };
    let exponent =
        exponent.parse::<i64>().map_or(farthest, |exponent| exponent.clamp(-2 * FARTHEST, 2 * FARTHEST));
    let all = [whole, fraction].concat();
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return "0".to_owned();
    }
    // A text's length is far from what does not fit.
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(FARTHEST);
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = (exponent - length(fraction) + length(significant)).clamp(-FARTHEST, FARTHEST);
    let zeros = point - length(digits);
    let written = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    match usize::try_from(point) {
        _ if usize::try_from(zeros).is_ok_and(|zeros| zeros <= MOST_ZEROS) => {
            format!("{sign}{digits}{}", written(zeros))
        }
        Ok(point @ 1..) if zeros < 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ if (-6..=0).contains(&point) => format!("{sign}0.{}{digits}", written(-point)),
        _ => format!("{sign}{digits}e{zeros}"),
    }
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The place after the string that begins at `start`, and whether anything in it is escaped.
fn string_end(text: &[u8], start: usize) -> (usize, bool) {
    let (mut at, mut is_escaped) = (start + 1, false);
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return (at + 1, is_escaped);
        }
        // What is escaped does not end it.
        is_escaped = true;
        at += 2;
    }
    (text.len(), is_escaped)
}

/// What a JSON string says; an error where `text` is none.
pub(crate) fn unescaped(text: &str) -> serde_json::Result<Cow<'_, str>> {
    Name.deserialize(&mut serde_json::Deserializer::from_str(text))
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
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// Takes another name; gives it back where it was there before.
    fn insert(&mut self, name: Cow<'a, str>) -> Result<(), Cow<'a, str>> {
        if self.few.contains(&name) || self.many.contains(&name) {
            return Err(name);
        }
        if self.few.len() == FEW_MEMBERS {
            self.many.insert(name);
            return Ok(());
        }
        if self.few.is_empty() {
            self.few.reserve_exact(FEW_MEMBERS);
        }
        self.few.push(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a request's value goes through: the grammar first.
    fn check(text: &str, depth: usize) -> Result<String, String> {
        let value: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let compacted = compact(value, depth).map_err(|refused| refused.to_string())?;
        Ok(String::from_utf8(compacted).unwrap())
    }

    fn compacted(text: &str) -> String {
        check(text, 64).unwrap()
    }

    #[test]
    fn what_every_reader_understands_alike_passes() {
        for text in [
            "null",
            "-0.0e-400",
            "123456789012345678901234567890",
            r#""\ud83d\ude00 \u0000 é""#,
            r#"{"a":1,"b":{"a":1},"A":2,"":3}"#,
            r#"{"a":["a","a",{"a":"a"}],"b":"a","c":"\"a"}"#,
            &"9".repeat(308),
            "0.5e300",
            " [ 1 , [ ] ] ",
        ] {
            check(text, 64).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn what_readers_understand_differently_is_refused() {
        for (text, why) in [
            (r#"{"a":1,"a":1}"#, "member `a` is there twice at line 1 column 8"),
            ("[1,\n  {\"a\":1, \"a\":1}]", "`a` is there twice at line 2 column 11"),
            (r#"{"a":{"b":[],"c":1},"a":1}"#, "`a` is there twice"),
            (r#"{"a":1,"\u0061":1}"#, "`a` is there twice"),
            (r#"[{"x":{"b":1,"c":2,"b":3}}]"#, "`b` is there twice"),
            (r#""\ud83d""#, "surrogate"),
            (r#""\ud83dx""#, "surrogate"),
            (r#"{"\ude00":1}"#, "surrogate"),
            (r#""\ud83d\ud83d""#, "surrogate"),
            ("1e999", "out of range"),
            ("-1e999", "out of range"),
            (&"9".repeat(310), "out of range"),
            ("NaN", "expected"),
            ("01", "invalid number"),
            ("1 2", "trailing"),
            ("\"a\u{1}\"", "control character"),
            ("", "EOF"),
        ] {
            let error = check(text, 64).unwrap_err();
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

    fn canonical_text(compact: &str) -> String {
        String::from_utf8(canonical(compact.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_number_is_never_written_much_longer_than_it_came() {
        for exponent in
            ["1000000", "999999999999", "99999999999999999999", "300", "21", "20", "-7", "-99999999"]
        {
            for mantissa in ["1", "12.5", "-0.001"] {
                let number = format!("{mantissa}e{exponent}");
                assert!(canonical_text(&number).len() <= number.len() + 20, "{number}");
            }
        }
    }

    #[test]
    fn one_key_is_written_in_one_way_however_it_came() {
        for (expected, spellings) in [
            (r#""a""#, &[r#""a""#, r#""\u0061""#][..]),
            (r#""/é😀""#, &[r#""/é😀""#, r#""\/\u00e9\ud83d\ude00""#, r#""\u002F\u00E9\uD83D\uDE00""#]),
            (r#""\n\"\\""#, &[r#""\n\"\\""#, r#""\u000a\u0022\u005C""#]),
            ("1", &["1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "1.000", "100e-2"]),
            ("0", &["0", "-0", "0.0", "0e99", "-0.0e-99999999999999999999"]),
            ("-12.5", &["-12.5", "-12.50", "-125e-1", "-1.25E1"]),
            ("0.001", &["0.001", "1e-3", "0.0010", "100e-5"]),
            ("1500", &["1500", "1.5e3", "15E2", "1500.0"]),
            ("25e-9", &["25e-9", "0.000000025", "2.5e-8"]),
            ("12345678901234567890123", &["12345678901234567890123", "1.2345678901234567890123e22"]),
            ("100000000000000000000", &["100000000000000000000", "1e20", "10E19", "0.1e+21"]),
            ("1e21", &["1000000000000000000000", "1e21", "1.0e21", "1000e18"]),
            ("1e1000000", &["1e1000000", "10e999999", "1.0E+1000000", "0.01e1000002"]),
            ("-15e300", &["-15e300", "-1.5e301"]),
            ("12e-1000000", &["12e-1000000", "1.2e-999999", "120e-1000001"]),
            (
                "1e-1152921504606846977",
                &["1e-9223372036854775808", "10e-9223372036854775809", "0.1e-99999999999999999999"],
            ),
            (r#"{"b":1,"a":["x",0.5]}"#, &[r#"{"b":1.0,"\u0061":["\u0078",5e-1]}"#]),
            ("null", &["null"]),
            (r#"[true,false,"1.0"]"#, &[r#"[true,false,"1.0"]"#]),
        ] {
            for spelling in spellings {
                assert_eq!(canonical_text(spelling), expected, "{spelling}");
            }
            assert_eq!(canonical_text(expected), expected, "it stays as it is");
        }
        for (one, other) in [
            ("1", "\"1\""),
            ("0.1", "1"),
            ("1e300", "1e301"),
            ("1e-400", "1e-401"),
            ("9007199254740993", "9007199254740992"),
        ] {
            assert_ne!(canonical_text(one), canonical_text(other));
        }
    }
}
