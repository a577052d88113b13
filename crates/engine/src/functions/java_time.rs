//! Java's date-time patterns, as Spark's to_timestamp and date_format take them.
//!
//! Letters: `y u` year, `M L` month (`MMM` Jan, `MMMM` January), `d` day, `D` day of the year, `E` weekday
//! (`E` Mon, `EEEE` Monday), `a` AM/PM, `H k` hour of the day, `h K` hour of the half day, `m` minute, `s` second,
//! `S` fraction, `X x Z` offset, `Q q` quarter. `'…'` is literal text, `''` a quote, `[…]` optional when reading.
//! As in Spark 3 and later, two letters stand for exactly two digits, and a day must exist in its month.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Weekday};

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A pattern, ready to be used any number of times.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    items: Vec<Item>,
    /// Set when every item is text or a number of fixed width: then reading needs no search.
    fixed: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Literal(String),
    Field(Field, usize),
    Optional(Vec<Item>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Quarter,
    Weekday,
    AmPm,
    Hour24,
    Hour1To24,
    Hour12,
    Hour0To11,
    Minute,
    Second,
    Fraction,
    /// An offset; true when `Z` stands for UTC.
    Offset(bool),
}

/// What was read so far.
#[derive(Debug, Clone, Copy)]
struct Read {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    half_hour: Option<i64>,
    pm: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    offset: i64,
}

impl Default for Read {
    fn default() -> Self {
        Self {
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: None,
            half_hour: None,
            pm: None,
            minute: 0,
            second: 0,
            micros: 0,
            offset: 0,
        }
    }
}

impl Pattern {
    /// Reads a pattern; the error says which part of it is not known.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        let items =
            items(&chars, &mut at, false).map_err(|what| format!("{what} in date pattern '{text}'"))?;
        let fixed = items.iter().map(fixed_width).sum::<Option<usize>>();
        Ok(Self { items, fixed })
    }

    /// Microseconds since the Unix epoch that a text stands for; `None` when it does not fit.
    pub(super) fn read(&self, text: &str) -> Option<i64> {
        let mut read = Read::default();
        match self.fixed {
            Some(width) if width != text.len() => return None,
            Some(_) => read_fixed(&self.items, text.as_bytes(), &mut read)?,
            None => {
                let rest = read_items(&self.items, text, &mut read)?;
                if !rest.is_empty() {
                    return None;
                }
            }
        }
        read.micros_since_epoch()
    }

    /// The text of a time; `None` for times beyond the year 262142.
    pub(super) fn write(&self, micros: i64) -> Option<String> {
        let time = DateTime::from_timestamp_micros(micros)?;
        let mut out = String::new();
        write_items(&self.items, &time.naive_utc(), &mut out);
        Some(out)
    }
}

fn items(chars: &[char], at: &mut usize, inside: bool) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    while let Some(&c) = chars.get(*at) {
        match c {
            '\'' if chars.get(*at + 1) == Some(&'\'') => {
                *at += 2;
                items.push(Item::Literal("'".to_owned()));
            }
            '\'' => items.push(Item::Literal(quoted(chars, at)?)),
            '[' => {
                *at += 1;
                items.push(Item::Optional(self::items(chars, at, true)?));
            }
            ']' if inside => {
                *at += 1;
                return Ok(items);
            }
            ']' | '{' | '}' | '#' => return Err(format!("'{c}' has no meaning")),
            c if c.is_ascii_alphabetic() => {
                let count = chars.iter().skip(*at).take_while(|other| **other == c).count();
                *at += count;
                items.push(Item::Field(field(c, count)?, count));
            }
            c => {
                *at += 1;
                items.push(Item::Literal(c.to_string()));
            }
        }
    }
    if inside { Err("a '[' is not closed".to_owned()) } else { Ok(items) }
}

fn quoted(chars: &[char], at: &mut usize) -> Result<String, String> {
    *at += 1;
    let mut text = String::new();
    loop {
        match (chars.get(*at), chars.get(*at + 1)) {
            (Some('\''), Some('\'')) => {
                text.push('\'');
                *at += 2;
            }
            (Some('\''), _) => {
                *at += 1;
                return Ok(text);
            }
            (Some(c), _) => {
                text.push(*c);
                *at += 1;
            }
            (None, _) => return Err("a quote is not closed".to_owned()),
        }
    }
}

fn field(letter: char, count: usize) -> Result<Field, String> {
    let (field, most) = match letter {
        'y' | 'u' => (Field::Year, 6),
        'M' | 'L' => (Field::Month, 4),
        'd' => (Field::Day, 2),
        'D' => (Field::DayOfYear, 3),
        'Q' | 'q' => (Field::Quarter, 2),
        'E' => (Field::Weekday, 4),
        'a' => (Field::AmPm, 1),
        'H' => (Field::Hour24, 2),
        'k' => (Field::Hour1To24, 2),
        'h' => (Field::Hour12, 2),
        'K' => (Field::Hour0To11, 2),
        'm' => (Field::Minute, 2),
        's' => (Field::Second, 2),
        'S' => (Field::Fraction, 9),
        'X' => (Field::Offset(true), 3),
        'x' | 'Z' => (Field::Offset(false), 3),
        _ => return Err(format!("the letter '{letter}' is not known")),
    };
    if count > most { Err(format!("there are too many '{letter}'")) } else { Ok(field) }
}

/// Bytes that an item always takes, where that is so and reading it needs no more than digits.
fn fixed_width(item: &Item) -> Option<usize> {
    match item {
        Item::Literal(text) => Some(text.len()),
        Item::Field(Field::Year, 4) => Some(4),
        Item::Field(Field::Month | Field::Day | Field::Hour24 | Field::Minute | Field::Second, 2) => Some(2),
        _ => None,
    }
}

fn read_fixed(items: &[Item], text: &[u8], read: &mut Read) -> Option<()> {
    let mut rest = text;
    for item in items {
        let (part, after) = rest.split_at_checked(fixed_width(item)?)?;
        match item {
            Item::Literal(literal) if literal.as_bytes() == part => {}
            Item::Field(field, _) => {
                let mut number = 0;
                for digit in part {
                    number = number * 10 + i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
                }
                read.set(*field, number)?;
            }
            _ => return None,
        }
        rest = after;
    }
    Some(())
}

fn read_items<'a>(items: &[Item], text: &'a str, read: &mut Read) -> Option<&'a str> {
    let mut rest = text;
    for item in items {
        rest = match item {
            Item::Literal(literal) => rest.strip_prefix(literal.as_str())?,
            Item::Optional(inner) => {
                let before = *read;
                match read_items(inner, rest, read) {
                    Some(after) => after,
                    None => {
                        *read = before;
                        rest
                    }
                }
            }
            Item::Field(field, count) => read_field(*field, *count, rest, read)?,
        };
    }
    Some(rest)
}

fn read_field<'a>(field: Field, count: usize, text: &'a str, read: &mut Read) -> Option<&'a str> {
    match (field, count) {
        (Field::Month, 3..) => {
            let (index, rest) = named(text, &MONTHS, count == 3)?;
            read.month = index + 1;
            Some(rest)
        }
        (Field::Weekday, _) => named(text, &WEEKDAYS, count <= 3).map(|(_, rest)| rest),
        (Field::AmPm, _) => {
            let (half, rest) = text.split_at_checked(2)?;
            read.pm = Some(match half.to_ascii_uppercase().as_str() {
                "AM" => false,
                "PM" => true,
                _ => return None,
            });
            Some(rest)
        }
        (Field::Offset(z), _) => {
            let (offset, rest) = read_offset(text, z)?;
            read.offset = offset;
            Some(rest)
        }
        (Field::Fraction, _) => {
            let (digits, rest) = split_digits(text, 1, count)?;
            let digits: String = digits.chars().chain("000000".chars()).take(6).collect();
            read.micros = digits.parse().ok()?;
            Some(rest)
        }
        (Field::Year, 2) => {
            let (digits, rest) = split_digits(text, 2, 2)?;
            read.set(field, 2000 + digits.parse::<i64>().ok()?)?;
            Some(rest)
        }
        _ => {
            let most = if count == 1 { 9 } else { count };
            let (digits, rest) = split_digits(text, count, most)?;
            read.set(field, digits.parse().ok()?)?;
            Some(rest)
        }
    }
}

fn split_digits(text: &str, least: usize, most: usize) -> Option<(&str, &str)> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least { None } else { text.split_at_checked(count) }
}

fn named<'a>(text: &'a str, names: &[&str], short: bool) -> Option<(i64, &'a str)> {
    names.iter().zip(0..).find_map(|(name, index)| {
        let name = if short { name.get(..3)? } else { name };
        let (start, rest) = text.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some((index, rest))
    })
}

/// `+01:30`, `+0130`, `+01`, and `Z` where that is allowed; seconds east of UTC.
fn read_offset(text: &str, z: bool) -> Option<(i64, &str)> {
    if let (true, Some(rest)) = (z, text.strip_prefix('Z')) {
        return Some((0, rest));
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = split_digits(text.get(1..)?, 2, 2)?;
    let after_colon = rest.strip_prefix(':').unwrap_or(rest);
    let (minutes, rest) = split_digits(after_colon, 2, 2).unwrap_or(("0", rest));
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 18 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), rest))
}

impl Read {
    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let in_range = |low: i64, high: i64| (low..=high).contains(&value).then_some(());
        match field {
            Field::Year => self.year = value,
            Field::Month => self.month = value,
            Field::Day => self.day = value,
            Field::DayOfYear => self.day_of_year = Some(value),
            Field::Hour24 => in_range(0, 23).map(|()| self.hour = Some(value))?,
            Field::Hour1To24 => in_range(1, 24).map(|()| self.hour = Some(value % 24))?,
            Field::Hour12 => in_range(1, 12).map(|()| self.half_hour = Some(value % 12))?,
            Field::Hour0To11 => in_range(0, 11).map(|()| self.half_hour = Some(value))?,
            Field::Minute => in_range(0, 59).map(|()| self.minute = value)?,
            Field::Second => in_range(0, 59).map(|()| self.second = value)?,
            Field::Quarter => in_range(1, 4).map(|()| self.month = 3 * value - 2)?,
            Field::Weekday | Field::AmPm | Field::Fraction | Field::Offset(_) => return None,
        }
        Some(())
    }

    fn micros_since_epoch(&self) -> Option<i64> {
        let days = match self.day_of_year {
            None => days_from_civil(self.year, self.month, self.day)?,
            Some(day) => {
                let date = NaiveDate::from_yo_opt(i32::try_from(self.year).ok()?, u32::try_from(day).ok()?)?;
                days_from_civil(self.year, i64::from(date.month()), i64::from(date.day()))?
            }
        };
        let half = self.half_hour.map(|hour| hour + if self.pm == Some(true) { 12 } else { 0 });
        let hour = self.hour.or(half).unwrap_or(0);
        let seconds = days * DAY + hour * 3600 + self.minute * 60 + self.second - self.offset;
        seconds.checked_mul(MICROS)?.checked_add(self.micros)
    }
}

/// Days since the Unix epoch of a date of the Gregorian calendar; `None` when there is no such day.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > length || !(0..=262_142).contains(&year) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn write_items(items: &[Item], time: &chrono::NaiveDateTime, out: &mut String) {
    for item in items {
        match item {
            Item::Literal(text) => out.push_str(text),
            Item::Optional(inner) => write_items(inner, time, out),
            Item::Field(field, count) => write_field(*field, *count, time, out),
        }
    }
}

fn write_field(field: Field, count: usize, time: &chrono::NaiveDateTime, out: &mut String) {
    let short = |name: &str| name.get(..3).unwrap_or(name).to_owned();
    let number = match field {
        Field::Year if count == 2 => i64::from(time.year().rem_euclid(100)),
        Field::Year => i64::from(time.year()),
        Field::Month if count >= 3 => {
            let name = MONTHS.get(time.month0() as usize).copied().unwrap_or_default();
            out.push_str(&if count == 3 { short(name) } else { name.to_owned() });
            return;
        }
        Field::Month => i64::from(time.month()),
        Field::Day => i64::from(time.day()),
        Field::DayOfYear => i64::from(time.ordinal()),
        Field::Quarter => i64::from(time.month0() / 3 + 1),
        Field::Weekday => {
            let name = weekday_name(time.weekday());
            out.push_str(&if count <= 3 { short(name) } else { name.to_owned() });
            return;
        }
        Field::AmPm => {
            out.push_str(if time.hour() < 12 { "AM" } else { "PM" });
            return;
        }
        Field::Hour24 => i64::from(time.hour()),
        Field::Hour1To24 => i64::from((time.hour() + 23) % 24 + 1),
        Field::Hour12 => i64::from((time.hour() + 11) % 12 + 1),
        Field::Hour0To11 => i64::from(time.hour() % 12),
        Field::Minute => i64::from(time.minute()),
        Field::Second => i64::from(time.second()),
        Field::Fraction => {
            let nanos = format!("{:09}", time.nanosecond());
            out.push_str(nanos.get(..count).unwrap_or(&nanos));
            return;
        }
        Field::Offset(z) => {
            out.push_str(match (z, count) {
                (true, _) => "Z",
                (false, 1) => "+00",
                (false, 2) => "+0000",
                (false, _) => "+00:00",
            });
            return;
        }
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "{number:0count$}");
}

/// The English name of a weekday.
pub(super) fn weekday_name(day: Weekday) -> &'static str {
    WEEKDAYS.get(day.num_days_from_monday() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, text: &str) -> Option<String> {
        let micros = Pattern::parse(pattern).unwrap().read(text)?;
        Some(DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%d %H:%M:%S%.6f").to_string())
    }

    #[test]
    fn texts_are_read_as_spark_reads_them() {
        for (pattern, text, expected) in [
            ("MM/dd/yyyy, HH:mm:ss", "08/28/2020, 03:52:47", Some("2020-08-28 03:52:47.000000")),
            ("MM/dd/yyyy, HH:mm:ss", "8/28/2020, 03:52:47", None),
            ("MM/dd/yyyy, HH:mm:ss", "08/28/2020, 03:52:47 ", None),
            ("MM/dd/yyyy, HH:mm:ss", "13/28/2020, 03:52:47", None),
            ("yyyy-MM-dd HH:mm:ss", "2020-08-28 03:52:47", Some("2020-08-28 03:52:47.000000")),
            ("yyyy-MM-dd HH:mm:ss", "2020-08-28 24:00:00", None),
            ("yyyy-MM-dd HH:mm:ss", "2020-02-30 00:00:00", None),
            ("yyyy-MM-dd HH:mm:ss", "2021-02-29 00:00:00", None),
            ("yyyy-MM-dd HH:mm:ss", "2020-02-29 00:00:00", Some("2020-02-29 00:00:00.000000")),
            ("yyyy-MM-dd HH:mm:ss", "2020-08-2é 03:52:4", None),
            ("yyyy-MM-dd'T'HH:mm:ss", "2020-08-28T03:52:47", Some("2020-08-28 03:52:47.000000")),
            (
                "yyyy-MM-dd HH:mm:ss[.SSSSSS][XXX]",
                "2020-08-28 03:52:47.12+01:00",
                Some("2020-08-28 02:52:47.120000"),
            ),
            ("yyyy-MM-dd HH:mm:ss[.SSSSSS][XXX]", "2020-08-28 03:52:47Z", Some("2020-08-28 03:52:47.000000")),
            ("M/d/yy h:mm a", "3/4/21 12:05 AM", Some("2021-03-04 00:05:00.000000")),
            ("M/d/yy h:mm a", "12/31/21 1:05 pm", Some("2021-12-31 13:05:00.000000")),
            ("dd MMM yyyy", "28 Aug 2020", Some("2020-08-28 00:00:00.000000")),
            ("EEEE, dd MMMM yyyy", "Friday, 28 August 2020", Some("2020-08-28 00:00:00.000000")),
            ("yyyyMMdd", "20200828", Some("2020-08-28 00:00:00.000000")),
            ("yyyy-DDD", "2020-366", Some("2020-12-31 00:00:00.000000")),
            ("HH:mm", "07:30", Some("1970-01-01 07:30:00.000000")),
            ("yyyy-MM-dd HH:mm:ss", "1969-12-31 23:59:59", Some("1969-12-31 23:59:59.000000")),
            ("'at' HH 'o''clock'", "at 07 o'clock", Some("1970-01-01 07:00:00.000000")),
        ] {
            assert_eq!(read(pattern, text).as_deref(), expected, "{text} by {pattern}");
        }
    }

    #[test]
    fn days_are_counted_as_chrono_counts_them() {
        for days in (-719_000..100_000).step_by(13) {
            let date = chrono::NaiveDate::from_epoch_days(days).unwrap();
            let (year, month, day) = (date.year().into(), date.month().into(), date.day().into());
            assert_eq!(days_from_civil(year, month, day), Some(i64::from(days)));
        }
    }

    #[test]
    fn times_are_written_as_spark_writes_them() {
        let micros =
            Pattern::parse("yyyy-MM-dd HH:mm:ss.SSSSSS").unwrap().read("2020-08-08 15:02:03.040506").unwrap();
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss", "2020-08-08 15:02:03"),
            ("M/d/yy h:m:s a", "8/8/20 3:2:3 PM"),
            ("EEE EEEE MMM MMMM", "Sat Saturday Aug August"),
            ("D Q SSS XXX x", "221 3 040 Z +00"),
            ("yyyy-MM-dd'T'HH:mm:ss", "2020-08-08T15:02:03"),
            ("k K", "15 3"),
            ("''", "'"),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().write(micros).as_deref(),
                Some(expected),
                "{pattern}"
            );
        }
    }

    #[test]
    fn an_unknown_pattern_is_named() {
        for (pattern, expected) in [
            ("YYYY-MM-dd", "the letter 'Y' is not known in date pattern 'YYYY-MM-dd'"),
            ("yyyy-MM-ddd", "there are too many 'd' in date pattern 'yyyy-MM-ddd'"),
            ("'open", "a quote is not closed in date pattern ''open'"),
            ("[yyyy", "a '[' is not closed in date pattern '[yyyy'"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err(), expected);
        }
    }
}
