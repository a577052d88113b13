//! The forms in which values are written: sizes, times, counts, switches, secrets.
//!
//! Each is read from text, because a flag and an environment variable are text; a number or a boolean of the file stands for
//! its own text.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use pinmill_gateway::Cors;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value with a form of its own.
pub(crate) trait Form: Sized {
    /// What a value must be, to go on from "which is not".
    fn expected() -> String;
    /// Reads the form; `None` where it is something else.
    fn read(text: &str) -> Option<Self>;
    /// Writes the form so that it can be shown and read again; never a secret.
    fn write(&self) -> String;
}

/// Makes serde read and write a type in its form.
macro_rules! in_its_form {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.write())
            }
        }

        impl<'de, $($generics)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_any(Scalar)?;
                Self::read(&text).ok_or_else(|| D::Error::custom(Self::expected()))
            }
        }
    };
}

/// Takes any scalar as its text.
struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

/// A number of bytes that this machine can hold, from `LEAST` to `MOST`: `10MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size<const LEAST: u64 = 0, const MOST: u64 = { u64::MAX }>(u64);

impl<const LEAST: u64, const MOST: u64> Size<LEAST, MOST> {
    /// This many bytes, or the nearest number that is possible.
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(if bytes < LEAST {
            LEAST
        } else if bytes > MOST {
            MOST
        } else {
            bytes
        })
    }

    /// Bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }

    /// Bytes, for what is in memory. A value that does not fit was refused when it was read.
    pub(crate) fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const LEAST: u64, const MOST: u64> Form for Size<LEAST, MOST> {
    fn expected() -> String {
        match (LEAST, MOST) {
            (0, u64::MAX) => "a size such as 64MiB".to_owned(),
            (least, u64::MAX) => format!("a size of {} or more", ByteSize(least)),
            (least, most) => format!("a size of {} to {}", ByteSize(least), ByteSize(most)),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = text.parse::<ByteSize>().ok()?.as_u64();
        ((LEAST..=MOST).contains(&bytes) && usize::try_from(bytes).is_ok()).then_some(Self(bytes))
    }

    fn write(&self) -> String {
        // The unit in which it is a whole number, so that nothing is rounded.
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = units.into_iter().find(|(bits, _)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        unit.map_or_else(|| self.0.to_string(), |(bits, name)| format!("{}{name}", self.0 >> bits))
    }
}

in_its_form!([const LEAST: u64, const MOST: u64] Size<LEAST, MOST>);

/// A whole number from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count<const LEAST: u64 = 0, const MOST: u64 = { u64::MAX }>(u64);

impl<const LEAST: u64, const MOST: u64> Count<LEAST, MOST> {
    /// This number, or the nearest one that is possible.
    pub(crate) const fn new(number: u64) -> Self {
        Self(if number < LEAST {
            LEAST
        } else if number > MOST {
            MOST
        } else {
            number
        })
    }

    /// The number in the type that takes it; the largest one of that type where it has no room.
    pub(crate) fn get<T: TryFrom<u64> + Bounded>(self) -> T {
        T::try_from(self.0).unwrap_or(T::MOST)
    }
}

/// A type of numbers with a largest one.
pub(crate) trait Bounded {
    /// The largest one.
    const MOST: Self;
}

impl Bounded for u32 {
    const MOST: Self = Self::MAX;
}

impl Bounded for u64 {
    const MOST: Self = Self::MAX;
}

impl Bounded for usize {
    const MOST: Self = Self::MAX;
}

impl<const LEAST: u64, const MOST: u64> Form for Count<LEAST, MOST> {
    fn expected() -> String {
        match (LEAST, MOST) {
            (0, u64::MAX) => "a whole number".to_owned(),
            (least, u64::MAX) => format!("a whole number, {least} or more"),
            (least, most) => format!("a whole number from {least} to {most}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| (LEAST..=MOST).contains(number)).map(Self)
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

in_its_form!([const LEAST: u64, const MOST: u64] Count<LEAST, MOST>);

/// A time: `60s`, `5m`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Form for Span {
    fn expected() -> String {
        "a time such as 60s, 5m or 500ms".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok().map(Self)
    }

    fn write(&self) -> String {
        humantime::format_duration(self.0).to_string().replace(' ', "")
    }
}

in_its_form!([] Span);

/// Something that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrOff<T>(pub(crate) Option<T>);

impl<T: Form> Form for OrOff<T> {
    fn expected() -> String {
        format!("{}, or off", T::expected())
    }

    fn read(text: &str) -> Option<Self> {
        if text == "off" { Some(Self(None)) } else { T::read(text).map(|value| Self(Some(value))) }
    }

    fn write(&self) -> String {
        self.0.as_ref().map_or_else(|| "off".to_owned(), T::write)
    }
}

in_its_form!([T: Form] OrOff<T>);

/// `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch(pub(crate) bool);

impl Form for Switch {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

in_its_form!([] Switch);

/// Any text, numbers included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Form for Text {
    fn expected() -> String {
        "text".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

in_its_form!([] Text);

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(pub(crate) String);

impl Form for Folder {
    fn expected() -> String {
        "a folder".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

in_its_form!([] Folder);

/// What web pages of other origins may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pages(pub(crate) Cors);

impl Form for Pages {
    fn expected() -> String {
        "records, off, any, or a list of origins such as https://a.example".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        let is_origin = |origin: &String| {
            let place = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            place.is_some_and(|place| !place.is_empty() && !place.contains(['/', ' ', '?', '#', '*']))
        };
        let cors = match text {
            "records" | "default" => Cors::Records,
            "any" => Cors::AnyOrigin,
            "off" => Cors::Off,
            // Browsers write origins in small letters.
            _ => Cors::Origins(listed(&text.to_ascii_lowercase())),
        };
        let is_possible = match &cors {
            Cors::Origins(origins) => !origins.is_empty() && origins.iter().all(is_origin),
            Cors::Records | Cors::AnyOrigin | Cors::Off => true,
        };
        is_possible.then_some(Self(cors))
    }

    fn write(&self) -> String {
        match &self.0 {
            Cors::Records => "records".to_owned(),
            Cors::AnyOrigin => "any".to_owned(),
            Cors::Off => "off".to_owned(),
            Cors::Origins(origins) => origins.join(","),
        }
    }
}

in_its_form!([] Pages);

/// Names, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl Form for Names {
    fn expected() -> String {
        "a list of names, separated by commas".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(listed(text)))
    }

    fn write(&self) -> String {
        self.0.join(",")
    }
}

in_its_form!([] Names);

/// The parts of a list with commas.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Twelve digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountId(pub(crate) String);

impl Form for AccountId {
    fn expected() -> String {
        "a number of twelve digits".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        let is_account = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_account.then(|| Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

in_its_form!([] AccountId);

/// A location that may hold a password: a URL, a path, or a reference to one (`env:NAME`, `file:PATH`). What is printed of
/// it, by `Debug` too, has `***` for the password, and of a reference only the reference.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Location(String);

/// Why a reference leads to nothing. It never has the secret in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// The environment has no such variable, or it is not UTF-8.
    #[error("the environment variable {0} is not set, or is not valid UTF-8")]
    Variable(String),
    /// The file cannot be read.
    #[error("{path} cannot be read: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        why: String,
    },
}

impl Location {
    /// A location as it is written.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// True where nothing is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The location itself, with its password; references are followed.
    pub(crate) fn reveal(&self) -> Result<String, Unresolved> {
        if let Some(name) = self.0.strip_prefix("env:") {
            return std::env::var(name).map_err(|_| Unresolved::Variable(name.to_owned()));
        }
        if let Some(path) = self.0.strip_prefix("file:").filter(|rest| !rest.starts_with("//")) {
            let read = std::fs::read_to_string(Path::new(path));
            let failed =
                |error: std::io::Error| Unresolved::File { path: path.to_owned(), why: error.to_string() };
            return read.map(|text| text.trim_end().to_owned()).map_err(failed);
        }
        Ok(self.0.clone())
    }
}

impl Form for Location {
    fn expected() -> String {
        "a location".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        match url::Url::parse(&self.0) {
            Ok(mut url) if url.password().is_some() => {
                // Fails only for URLs that cannot have a password.
                let _ = url.set_password(Some("***"));
                url.to_string()
            }
            _ => self.0.clone(),
        }
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.write())
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.write())
    }
}

in_its_form!([] Location);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_is_written_is_read_again() {
        for text in ["0", "1023", "10MiB", "1GiB", "3KiB"] {
            assert_eq!(Size::<0>::read(text).unwrap().write(), text);
        }
        for text in ["60s", "1m", "500ms", "1day", "1h30m"] {
            let span = Span::read(text).unwrap();
            assert_eq!(Span::read(&span.write()), Some(span));
        }
        assert_eq!(OrOff::<Span>::read("off").unwrap().write(), "off");
        assert_eq!(Switch::read("true"), Some(Switch(true)));
    }

    #[test]
    fn web_pages_are_allowed_what_the_setting_says() {
        for (text, cors) in [("records", Cors::Records), ("off", Cors::Off), ("any", Cors::AnyOrigin)] {
            assert_eq!(Pages::read(text), Some(Pages(cors)));
        }
        let listed = Pages::read("https://A.example, http://localhost:3000").unwrap();
        assert_eq!(listed.write(), "https://a.example,http://localhost:3000");
        assert_eq!(Pages::read(&listed.write()), Some(listed));
        for wrong in ["", "*", "a.example", "https://a.example/", "https://", "https://*.example", "none"] {
            assert_eq!(Pages::read(wrong), None, "{wrong}");
        }
        assert_eq!(Names::read(" a, b:1,").unwrap().0, ["a", "b:1"]);
    }

    #[test]
    fn bounds_are_part_of_the_form() {
        assert!(Size::<1, 10>::read("11B").is_none() && Size::<1, 10>::read("0").is_none());
        assert!(Count::<1>::read("0").is_none() && Count::<1>::read("-1").is_none());
        assert_eq!(Count::<1, 120>::expected(), "a whole number from 1 to 120");
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = Location::new("mysql://u:secret@h/db");
        assert_eq!(url.to_string(), "mysql://u:***@h/db");
        assert!(!format!("{url:?}{}", serde_json::to_string(&url).unwrap()).contains("secret"));
        assert_eq!(url.reveal().unwrap(), "mysql://u:secret@h/db");
        assert_eq!(Location::new("pinmill-data").to_string(), "pinmill-data");
    }

    #[test]
    fn a_reference_is_followed_when_it_is_used_and_shown_as_it_is() {
        let dir = pinmill_testkit::temp_dir();
        let path = dir.path().join("url");
        std::fs::write(&path, "mysql://u:secret@h/db\n").unwrap();
        let file = Location::new(format!("file:{}", path.display()));
        assert_eq!(file.reveal().unwrap(), "mysql://u:secret@h/db");
        assert!(!file.to_string().contains("secret"));
        let missing = Location::new("env:PINMILL_TEST_NO_SUCH_VARIABLE").reveal().unwrap_err();
        assert!(missing.to_string().contains("PINMILL_TEST_NO_SUCH_VARIABLE"), "{missing}");
        assert_eq!(Location::new("file:///data/lake").reveal().unwrap(), "file:///data/lake");
    }
}
