//! How date-times are written on the wire.

use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

/// A form of date-times. All are UTC, to the second, and text in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateForm {
    /// `08/28/2020, 03:52:47`: the first reference's (`%m/%d/%Y, %H:%M:%S`).
    #[default]
    Us,
    /// `2020-08-28 03:52:47`: the database's.
    Sql,
    /// `2020-08-28T03:52:47`: Python's `isoformat()`.
    Iso,
}

impl DateForm {
    /// Writes seconds since 1970.
    pub(crate) fn write(self, seconds: i64) -> String {
        // The years that a 64-bit number of seconds can name and chrono cannot are not asked for.
        self.write_date(DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc())
    }

    /// Writes a date-time; parts of a second, which the reference's tables do not have, are left out.
    pub(crate) fn write_date(self, at: NaiveDateTime) -> String {
        let (y, mo, d, h, mi, s) = (at.year(), at.month(), at.day(), at.hour(), at.minute(), at.second());
        let mut text = String::with_capacity(20);
        // writing to a string cannot fail
        let _ = match self {
            Self::Us => write!(text, "{mo:02}/{d:02}/{y:04}, {h:02}:{mi:02}:{s:02}"),
            Self::Sql => write!(text, "{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}"),
            Self::Iso => write!(text, "{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}"),
        };
        text
    }

    /// Rewrites a date-time of a database's form or of ISO's; any other text is not one and stays what it is.
    pub(crate) fn rewrite(self, text: &str) -> Option<String> {
        let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
        let at = local.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
        let at = at.or_else(|| {
            DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").map(|at| at.naive_utc()).ok()
        });
        at.map(|at| self.write_date(at))
    }
}

impl std::str::FromStr for DateForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "us" => Ok(Self::Us),
            "sql" => Ok(Self::Sql),
            "iso" => Ok(Self::Iso),
            other => Err(format!("`{other}` is no form of date-times; use us, sql or iso")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_those_of_the_references() {
        let at = 1_598_586_767;
        assert_eq!(DateForm::Us.write(at), "08/28/2020, 03:52:47");
        assert_eq!(DateForm::Sql.write(at), "2020-08-28 03:52:47");
        assert_eq!(DateForm::Iso.write(at), "2020-08-28T03:52:47");
    }

    #[test]
    fn only_date_times_are_rewritten() {
        assert_eq!(DateForm::Us.rewrite("2020-08-28 03:52:47").as_deref(), Some("08/28/2020, 03:52:47"));
        assert_eq!(DateForm::Sql.rewrite("2020-08-28T03:52:47").as_deref(), Some("2020-08-28 03:52:47"));
        assert_eq!(
            DateForm::Iso.rewrite("2020-08-28 03:52:47.120000+02").as_deref(),
            Some("2020-08-28T01:52:47")
        );
        assert_eq!(DateForm::Us.rewrite("yesterday"), None);
        assert_eq!(DateForm::Us.rewrite("2020-13-28 03:52:47"), None);
    }
}
