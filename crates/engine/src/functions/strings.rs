//! Regular expressions and splitting, with Spark's semantics.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListBuilder, StringBuilder, StringViewArray, StringViewBuilder,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_datafusion_err};
use datafusion::logical_expr::ColumnarValue;
use parking_lot::Mutex;
use regex::Regex;
use regex_syntax::hir::{self, ClassUnicode, HirKind};

use super::bounded::MAX_VALUE;
use super::udf::{SparkFunction, constant_text, is_text};

/// How much memory a compiled expression may take: hostile ones are refused.
const REGEX_BYTES: usize = 4 << 20;
/// How many compiled ones are kept; a pipeline has a handful.
const REGEXES_KEPT: usize = 64;

pub(super) fn functions() -> Vec<SparkFunction> {
    let list = DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)));
    vec![
        SparkFunction::new("rlike", texts, DataType::Boolean, rlike).with_check(check_regex),
        SparkFunction::new("regexp_replace", texts, DataType::Utf8View, regexp_replace)
            .with_check(check_regex),
        SparkFunction::new("regexp_extract", text_and_group, DataType::Utf8View, regexp_extract)
            .with_check(check_regex),
        SparkFunction::new("regexp_substr", texts, DataType::Utf8View, regexp_substr).with_check(check_regex),
        SparkFunction::new("regexp_extract_all", text_and_group, list.clone(), regexp_extract_all)
            .with_check(check_regex),
        SparkFunction::new("split", text_and_group, list, split).with_check(check_regex),
    ]
}

fn texts(found: &[DataType]) -> Result<Vec<DataType>, String> {
    match found.len() {
        2 | 3 if found.iter().all(is_text) => Ok(vec![DataType::Utf8View; found.len()]),
        _ => Err("texts".to_owned()),
    }
}

/// Text, a regular expression, and perhaps an integer.
fn text_and_group(found: &[DataType]) -> Result<Vec<DataType>, String> {
    match found {
        [text, regex] if is_text(text) && is_text(regex) => Ok(vec![DataType::Utf8View; 2]),
        [text, regex, number] if is_text(text) && is_text(regex) && number.is_integer() => {
            Ok(vec![DataType::Utf8View, DataType::Utf8View, DataType::Int64])
        }
        _ => Err("a text, a regular expression, and perhaps an integer".to_owned()),
    }
}

/// A compiled expression. Compiling takes longer than matching a whole batch, so the latest are kept.
fn compiled(text: &str) -> Result<Regex, String> {
    static KEPT: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    if let Some(regex) = KEPT.lock().get(text) {
        return Ok(regex.clone());
    }
    let regex = compile(text)?;
    let mut kept = KEPT.lock();
    if kept.len() >= REGEXES_KEPT {
        kept.clear();
    }
    kept.insert(text.to_owned(), regex.clone());
    Ok(regex)
}

fn compile(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(text).size_limit(REGEX_BYTES).build().map_err(|error| match error {
        regex::Error::Syntax(message) => {
            let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("'{text}' is not a regular expression this engine knows: {last}")
        }
        other => format!("'{text}' cannot be used: {other}"),
    })
}

/// A pattern that is one class of characters, such as the test for text that is not blank, and no more: whether a text
/// has one of them is seen at its first character nearly always, without the machinery of regular expressions.
#[derive(Debug)]
struct Class {
    /// Bit n is set where the class has the character n.
    ascii: u128,
    class: ClassUnicode,
}

impl Class {
    fn of(pattern: &str) -> Option<Self> {
        let parsed = regex_syntax::parse(pattern).ok()?;
        let HirKind::Class(hir::Class::Unicode(class)) = parsed.into_kind() else { return None };
        let bits = class.iter().flat_map(|range| range.start()..=range.end().min('\x7f'));
        let ascii = bits.fold(0, |bits, c| bits | 1 << u32::from(c));
        Some(Self { ascii, class })
    }

    fn has(&self, c: char) -> bool {
        if c.is_ascii() {
            return self.ascii >> u32::from(c) & 1 == 1;
        }
        let ranges = self.class.ranges();
        let at = ranges.partition_point(|range| range.end() < c);
        ranges.get(at).is_some_and(|range| range.start() <= c)
    }

    fn is_in(&self, text: &str) -> bool {
        text.chars().any(|c| self.has(c))
    }
}

/// The class that a pattern is; `None` where it is anything else. Reading it takes longer than a batch, so the latest
/// are kept.
fn class(pattern: &str) -> Option<Arc<Class>> {
    static KEPT: LazyLock<Mutex<HashMap<String, Option<Arc<Class>>>>> = LazyLock::new(Mutex::default);
    let mut kept = KEPT.lock();
    if let Some(class) = kept.get(pattern) {
        return class.clone();
    }
    if kept.len() >= REGEXES_KEPT {
        kept.clear();
    }
    let class = Class::of(pattern).map(Arc::new);
    kept.insert(pattern.to_owned(), class.clone());
    class
}

fn check_regex(args: &[Option<&ScalarValue>]) -> Result<()> {
    match args.get(1).copied().flatten().and_then(constant_text) {
        Some(text) => compile(text).map(|_| ()).map_err(|error| plan_datafusion_err!("{error}")),
        None => Ok(()),
    }
}

/// A call's rows: the text, the compiled expression and a third argument of each.
struct Rows {
    texts: StringViewArray,
    regexes: Regexes,
    third: Option<ArrayRef>,
}

enum Regexes {
    /// One for all rows; `None` when it is NULL.
    One(Option<Regex>),
    /// One a row.
    Each(StringViewArray, HashMap<String, Regex>),
}

impl Rows {
    fn of(args: &[ColumnarValue], rows: usize) -> Result<Self> {
        let array = |index: usize| args.get(index).map(|value| value.clone().into_array(rows)).transpose();
        let (Some(texts), Some(regex)) = (array(0)?, args.get(1)) else {
            return exec_err!("an argument is missing");
        };
        let failed = DataFusionError::Execution;
        let regexes = match regex {
            ColumnarValue::Scalar(value) => {
                Regexes::One(constant_text(value).map(compiled).transpose().map_err(failed)?)
            }
            ColumnarValue::Array(patterns) => {
                let patterns = patterns.as_string_view().clone();
                let mut compiled = HashMap::new();
                for pattern in patterns.iter().flatten() {
                    if !compiled.contains_key(pattern) {
                        compiled.insert(pattern.to_owned(), compile(pattern).map_err(failed)?);
                    }
                }
                Regexes::Each(patterns, compiled)
            }
        };
        Ok(Self { texts: texts.as_string_view().clone(), regexes, third: array(2)? })
    }

    /// The text and the expression of each row; `None` where one of them is NULL.
    fn iter(&self) -> impl Iterator<Item = Option<(&str, &Regex)>> {
        (0..self.texts.len()).map(|row| {
            let regex = match &self.regexes {
                Regexes::One(regex) => regex.as_ref(),
                Regexes::Each(patterns, _) if patterns.is_null(row) => None,
                Regexes::Each(patterns, compiled) => compiled.get(patterns.value(row)),
            };
            match (self.texts.is_valid(row), regex) {
                (true, Some(regex)) => Some((self.texts.value(row), regex)),
                _ => None,
            }
        })
    }

    /// The third argument of a row as a number; `absent` when there is none.
    fn number(&self, row: usize, absent: i64) -> Option<i64> {
        match &self.third {
            None => Some(absent),
            Some(numbers) if numbers.is_null(row) => None,
            Some(numbers) => Some(numbers.as_primitive::<Int64Type>().value(row)),
        }
    }
}

fn rlike(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    if let [texts, ColumnarValue::Scalar(pattern)] = args
        && let Some(class) = constant_text(pattern).and_then(class)
    {
        let texts = texts.clone().into_array(rows)?;
        let texts = texts.as_string_view();
        let found = BooleanBuffer::collect_bool(texts.len(), |row| class.is_in(texts.value(row)));
        return Ok(Arc::new(BooleanArray::new(found, texts.nulls().cloned())));
    }
    let rows = Rows::of(args, rows)?;
    let found: BooleanArray = rows.iter().map(|row| row.map(|(text, regex)| regex.is_match(text))).collect();
    Ok(Arc::new(found))
}

fn regexp_replace(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let rows = Rows::of(args, rows)?;
    let Some(replacements) = &rows.third else { return exec_err!("regexp_replace takes three arguments") };
    let replacements = replacements.as_string_view();
    let mut known: HashMap<&str, String> = HashMap::new();
    let mut out = StringViewBuilder::with_capacity(rows.texts.len());
    for (index, row) in rows.iter().enumerate() {
        match row {
            Some((text, regex)) if replacements.is_valid(index) => {
                let replacement = replacements.value(index);
                let replacement = known.entry(replacement).or_insert_with(|| java_replacement(replacement));
                out.append_value(replace_all(regex, text, replacement)?);
            }
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// A text with each match replaced; an error where that becomes longer than a value may be: a replacement may name
/// a group of any length any number of times.
fn replace_all<'a>(regex: &Regex, text: &'a str, replacement: &str) -> Result<Cow<'a, str>> {
    let mut matches = regex.captures_iter(text).peekable();
    if matches.peek().is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let most = usize::try_from(MAX_VALUE).unwrap_or(usize::MAX);
    let groups = replacement.matches('$').count();
    let (mut out, mut end) = (String::new(), 0);
    for captures in matches {
        let Some(found) = captures.get(0) else { continue };
        out.push_str(text.get(end..found.start()).unwrap_or_default());
        end = found.end();
        if out.len() + replacement.len() + groups.saturating_mul(found.len()) > most {
            return exec_err!("regexp_replace would make a value of more than {} MiB", most >> 20);
        }
        captures.expand(replacement, &mut out);
    }
    out.push_str(text.get(end..).unwrap_or_default());
    Ok(Cow::Owned(out))
}

/// Java's `$1` and `\$` in the words of the regex crate: `${1}` and `$$`.
fn java_replacement(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => {}
            },
            '$' => {
                let mut group = String::new();
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    group.push(digit);
                }
                match group.is_empty() {
                    true => out.push_str("$$"),
                    false => out.push_str(&format!("${{{group}}}")),
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// A group's text as Spark gives it: empty when it took no part.
fn group<'a>(captures: &regex::Captures<'a>, number: usize) -> &'a str {
    captures.get(number).map_or("", |found| found.as_str())
}

fn group_number(regex: &Regex, number: i64) -> Result<usize> {
    match usize::try_from(number) {
        Ok(group) if group < regex.captures_len() => Ok(group),
        _ => exec_err!("'{regex}' has no group {number}"),
    }
}

fn regexp_extract(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let rows = Rows::of(args, rows)?;
    let mut out = StringViewBuilder::with_capacity(rows.texts.len());
    for (index, row) in rows.iter().enumerate() {
        match (row, rows.number(index, 1)) {
            (Some((text, regex)), Some(number)) => {
                let number = group_number(regex, number)?;
                out.append_value(regex.captures(text).map_or("", |captures| group(&captures, number)));
            }
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn regexp_substr(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let rows = Rows::of(args, rows)?;
    let found =
        rows.iter().map(|row| row.and_then(|(text, regex)| regex.find(text)).map(|found| found.as_str()));
    Ok(Arc::new(found.collect::<StringViewArray>()))
}

fn list_builder() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true))
}

fn regexp_extract_all(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let rows = Rows::of(args, rows)?;
    let mut out = list_builder();
    for (index, row) in rows.iter().enumerate() {
        let (Some((text, regex)), Some(number)) = (row, rows.number(index, 1)) else {
            out.append(false);
            continue;
        };
        let number = group_number(regex, number)?;
        for captures in regex.captures_iter(text) {
            out.values().append_value(group(&captures, number));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// A limit above 0 is the greatest number of parts; otherwise all parts are kept, empty ones at the end too.
fn split(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let rows = Rows::of(args, rows)?;
    let mut out = list_builder();
    for (index, row) in rows.iter().enumerate() {
        let (Some((text, regex)), Some(limit)) = (row, rows.number(index, -1)) else {
            out.append(false);
            continue;
        };
        let mut parts: Vec<&str> = match usize::try_from(limit) {
            Ok(limit) if limit > 0 => regex.splitn(text, limit).collect(),
            _ => regex.split(text).collect(),
        };
        // As in Java: an expression that matches nothing at the start gives no empty first part.
        if parts.len() > 1
            && parts.first() == Some(&"")
            && regex.find(text).is_some_and(|found| found.is_empty())
        {
            parts.remove(0);
        }
        parts.into_iter().for_each(|part| out.values().append_value(part));
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The test for text that is not blank, as the built-in pipeline has it.
    const NOT_BLANK: &str = r"[^\s\p{Z}]";

    #[test]
    fn a_class_of_characters_is_told_from_other_patterns() {
        for pattern in [NOT_BLANK, r"\d", "[a-z]", r"[^a]", r"\p{L}"] {
            assert!(Class::of(pattern).is_some(), "{pattern}");
        }
        for pattern in [r"[^\s\p{Z}]+", "^[a-z]", "ab", "[a-z]|^$", "(", ""] {
            assert!(Class::of(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn a_replacement_that_repeats_what_it_matched_without_end_is_an_error() {
        let regex = Regex::new("(?s)^(.*)$").unwrap();
        let (text, many) = ("x".repeat(1 << 20), "${1}".repeat(1000));
        assert!(replace_all(&regex, &text, &many).is_err());
        assert_eq!(replace_all(&regex, "ab", "${1}-${1}").unwrap(), "ab-ab");
    }

    proptest! {
        #![proptest_config(pinmill_testkit::property(512))]

        /// Every white space that Unicode has is among these characters.
        #[test]
        fn a_class_finds_what_the_regular_expression_finds(
            blanks in "[ \t\n\u{b}\u{c}\r\u{1c}-\u{1f}\u{85}\u{a0}\u{1680}\u{2000}-\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]{0,6}",
            text in ".{0,2}",
            pattern in prop::sample::select(vec![NOT_BLANK, r"\d", "[a-zé]", r"\S", r"\p{Z}"]),
        ) {
            let (class, regex) = (Class::of(pattern).unwrap(), Regex::new(pattern).unwrap());
            for text in [blanks.clone(), text.clone(), blanks + &text] {
                prop_assert_eq!(class.is_in(&text), regex.is_match(&text), "{:?} in {:?}", pattern, text);
            }
        }

        #[test]
        fn replacing_gives_what_the_regex_crate_gives(
            text in "[ab1é]{0,12}",
            pattern in prop::sample::select(vec!["a", "(a)(b)?", "", "[0-9]+", "(?i)B|é", "^|$"]),
            replacement in prop::sample::select(vec!["", "x", "${1}", "<${0}>", "$$", "${2}é"]),
        ) {
            let regex = Regex::new(pattern).unwrap();
            prop_assert_eq!(replace_all(&regex, &text, replacement).unwrap(), regex.replace_all(&text, replacement));
        }
    }
}
