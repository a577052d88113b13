//! Settings: one table of keys, four layers, and where each value came from.
//!
//! Precedence is flag > environment (`PINMILL_…`) > file (`pinmill.toml`) > default. Every key is a row of
//! [`KEYS`]; nothing else is a key, and an unknown one in the file is an error with a suggestion.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use pinmill_lake::archive::{MAX_OBJECT_BYTES, MAX_OBJECT_RECORDS};

use crate::error::Failure;

/// One thing that can be set.
#[derive(Debug)]
pub(crate) struct Key {
    /// Dotted name, as in the file.
    pub(crate) name: &'static str,
    /// Used when nothing else sets it.
    pub(crate) default: &'static str,
    /// What it does, for `config show`.
    pub(crate) help: &'static str,
}

const fn key(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, default, help }
}

/// Every key there is.
pub(crate) const KEYS: &[Key] = &[
    key("data", "pinmill-data", "folder of the embedded parts: log/, lake/"),
    key("lake", "", "folder or URL of archive and tables; empty: <data>/lake"),
    key("topics", "embedded", "what keeps the topics"),
    key("streams", "embedded", "what keeps the streams; off: no streaming half"),
    key("engine", "embedded", "what runs the SQL"),
    key("source", "generator", "where the emulator's rows come from"),
    key("pipeline", "", "pipeline folder; empty: the built-in pipelines/pinterest"),
    key("listen", "127.0.0.1:8082", "address of the gateway, or a name of this machine with a port"),
    key(
        "allow-unauthenticated-remote",
        "false",
        "let anybody who can reach `listen` post, outside loopback too",
    ),
    key("batch-every", "60s", "time between two runs of the batch half in `serve`; off: none"),
    key(
        "durability",
        "fsync",
        "fsync: an acknowledged record survives power loss; os: only the process's death",
    ),
    key("stream.from", "streams", "what the streaming half loads into tables: streams, topics, both, or off"),
    key("stream.commit-every", "1s", "time after which a streamed record is committed to its table"),
    key("stream.max-records", "50000", "records after which a commit does not wait any longer"),
    key("stream.max-bytes", "16MiB", "raw bytes after which a commit does not wait any longer"),
    key(
        "stream.history",
        "1h",
        "time for which commits and replaced files stay for readers of older versions",
    ),
    key("stream.tidy-every", "20s", "time between two looks for small files to be put together"),
    key("kinesis.account-id", "000000000000", "account in ARNs and messages"),
    key(
        "kinesis.region",
        "us-east-1",
        "region in ARNs and of verified signatures; any: each request has its own",
    ),
    key("kinesis.credentials", "any", "any: signatures are not checked; else a file like ~/.aws/credentials"),
    key("kinesis.creation-delay", "0s", "time for which a stream shows CREATING, UPDATING or DELETING"),
    key("kinesis.shard-limit", "1000", "open shards of all streams at the most"),
    key("kinesis.max-record", "1MiB", "largest record of a stream that sets no limit of its own"),
    key(
        "kinesis.enforce-throughput",
        "false",
        "keep the limits of a real shard: 1 MiB and 1,000 records a second",
    ),
    key("kinesis.auto-create-streams", "true", "make a stream when the façade is first posted to"),
    key(
        "kinesis.facade-errors-are-200",
        "false",
        "answer errors of the façade with status 200, as API Gateway's templates do",
    ),
    key("log.segment-bytes", "128MiB", "size at which a log segment is closed"),
    key("log.segment-age", "1d", "age at which a log segment is closed"),
    key("log.retention-bytes", "off", "bytes a partition keeps after every reader has passed them"),
    key("log.retention-age", "off", "age after which passed records are removed"),
    key("archive.max-records", "100000", "records after which an archive object is closed"),
    key("archive.max-bytes", "64MiB", "raw bytes after which an archive object is closed"),
    key("archive.max-age", "60s", "age of its first record after which an archive object is closed"),
    key("archive.compression", "none", "none, gzip or zstd"),
    key("engine.memory", "1GiB", "memory that SQL may use before it spills to disk"),
    key("engine.threads", "0", "threads for cleaning and SQL; 0: one a core"),
    key("gateway.max-body", "10MiB", "largest request body"),
    key("gateway.max-record", "1MiB", "largest record"),
    key("gateway.max-json-depth", "64", "deepest nesting of a JSON body"),
    key("gateway.header-timeout", "30s", "time a client has for its request head"),
    key("gateway.body-timeout", "30s", "time a client has for its request body"),
    key("gateway.max-connections", "4096", "connections held at once"),
    key("gateway.auto-create-topics", "true", "make a topic when it is first posted to"),
    key("gateway.default-partitions", "1", "partitions of a topic made that way"),
    key("gateway.max-topics", "1000", "topics made that way at the most"),
    key("gateway.drain-timeout", "30s", "time that open requests have when the server stops"),
];

/// Keys of whole numbers, and what is possible for each.
const WHOLE_NUMBERS: &[(&str, RangeInclusive<u64>)] = &[
    ("archive.max-records", 0..=u64::MAX),
    ("engine.threads", 0..=u64::MAX),
    ("gateway.max-json-depth", 1..=pinmill_gateway::MAX_JSON_DEPTH as u64),
    ("gateway.max-connections", 1..=u64::MAX),
    ("gateway.default-partitions", 1..=u32::MAX as u64),
    ("gateway.max-topics", 0..=u64::MAX),
    ("stream.max-records", 0..=u64::MAX),
    ("kinesis.shard-limit", 0..=u32::MAX as u64),
];

/// Below it no query gets through: each sort holds 10 MB in reserve for the time when it spills.
const LEAST_ENGINE_MEMORY: u64 = 16 << 20;

/// Variables that start with `PINMILL_` and are no settings.
const OTHER_VARIABLES: &[&str] = &[
    "PINMILL_ALLOW_MISSING",
    "PINMILL_CACHE",
    "PINMILL_CONFIG",
    "PINMILL_CRASH_AT",
    "PINMILL_LEFT_OUT",
    "PINMILL_LOG",
    "PINMILL_PYTHON",
    "PINMILL_SEED",
    "PINMILL_SHARED",
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => write!(f, "flag"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// All settings, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Value>,
    /// Variables that look like settings and are none.
    pub(crate) strays: Vec<String>,
}

impl Settings {
    /// Puts the layers on top of one another.
    ///
    /// `file` is the text of the configuration file and its path; `environment` all variables; `flags` pairs of key and value.
    pub(crate) fn resolve(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, Failure> {
        let mut settings = Self {
            values: KEYS
                .iter()
                .map(|key| (key.name, Value { text: key.default.into(), origin: Origin::Default }))
                .collect(),
            strays: Vec::new(),
        };
        if let Some((path, text)) = file {
            settings.apply_file(path, text)?;
        }
        settings.apply_environment(environment)?;
        for (name, value) in flags {
            settings.set(name, value.clone(), Origin::Flag)?;
        }
        settings.check()?;
        Ok(settings)
    }

    fn apply_file(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            Failure::config(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })?;
        let mut pairs = Vec::new();
        flatten("", &table, &mut pairs);
        for (name, value) in pairs {
            self.set(&name, value, Origin::File(path.to_owned())).map_err(|failure| {
                failure.within(&format!("{}: {}", path.display(), line_of(text, &name)))
            })?;
        }
        Ok(())
    }

    /// Variables of others may hold any bytes; they are not looked at.
    fn apply_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), Failure> {
        for (variable, text) in environment {
            let variable = variable.to_string_lossy().into_owned();
            if !variable.starts_with("PINMILL_") || OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| variable_of(key.name) == variable) else {
                self.strays.push(variable);
                continue;
            };
            let Ok(text) = text.into_string() else {
                let what = format!("setting `{}`: the environment variable {variable} is no UTF-8", key.name);
                return Err(Failure::config(what).hint("unset it, or give it another value"));
            };
            self.values.insert(key.name, Value { text, origin: Origin::Environment(variable) });
        }
        Ok(())
    }

    fn set(&mut self, name: &str, text: String, origin: Origin) -> Result<(), Failure> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let hint = meant(pinmill_pipeline::nearest(name, KEYS.iter().map(|key| key.name)));
            return Err(Failure::config(format!("unknown setting `{name}`")).hint(hint));
        };
        self.values.insert(key.name, Value { text, origin });
        Ok(())
    }

    /// Every value must be usable before anything starts, so that a bad one is found now and not an hour in.
    fn check(&self) -> Result<(), Failure> {
        if self.text("data").is_empty() {
            return Err(self.bad("data", "a folder"));
        }
        for key in [
            "log.segment-bytes",
            "archive.max-bytes",
            "gateway.max-body",
            "gateway.max-record",
            "stream.max-bytes",
        ] {
            self.bytes(key)?;
        }
        self.bytes_within("engine.memory", &(LEAST_ENGINE_MEMORY..=u64::MAX), "16MiB or more")?;
        let largest = pinmill_kinesis::MAX_DATA_BYTES as u64;
        self.bytes_within("kinesis.max-record", &(1..=largest), "a size of 1B to 10MiB")?;
        for key in [
            "log.segment-age",
            "archive.max-age",
            "gateway.header-timeout",
            "gateway.body-timeout",
            "gateway.drain-timeout",
            "stream.commit-every",
            "stream.history",
            "stream.tidy-every",
            "kinesis.creation-delay",
        ] {
            self.duration(key)?;
        }
        for key in ["batch-every", "log.retention-age"] {
            self.optional_duration(key)?;
        }
        self.optional_bytes("log.retention-bytes")?;
        for (key, possible) in WHOLE_NUMBERS {
            self.number_within(key, possible)?;
        }
        let account = self.text("kinesis.account-id");
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.bad("kinesis.account-id", "a number of twelve digits"));
        }
        self.check_archive_objects()?;
        self.flag("allow-unauthenticated-remote")?;
        for key in [
            "gateway.auto-create-topics",
            "kinesis.enforce-throughput",
            "kinesis.auto-create-streams",
            "kinesis.facade-errors-are-200",
        ] {
            self.flag(key)?;
        }
        self.one_of("durability", &["fsync", "os"])?;
        self.one_of("archive.compression", &["none", "gzip", "zstd"])?;
        self.one_of("topics", &["embedded"])?;
        self.one_of("streams", &["embedded", "off"])?;
        self.one_of("stream.from", &["streams", "topics", "both", "off"])?;
        self.one_of("engine", &["embedded"])?;
        Ok(())
    }

    /// What is gathered for an archive object must fit into one, with the record that closes it: a longer backlog could
    /// never be archived.
    fn check_archive_objects(&self) -> Result<(), Failure> {
        let (bytes, records) = ("archive.max-bytes", "archive.max-records");
        let most = MAX_OBJECT_BYTES as u64;
        if self.bytes(bytes)?.saturating_add(self.bytes("gateway.max-record")?) > most {
            let most = ByteSize(most);
            return Err(self.bad(bytes, &format!("{most} or less together with `gateway.max-record`")));
        }
        if self.parsed::<u64>(records, "a whole number")? > MAX_OBJECT_RECORDS {
            return Err(self.bad(records, &format!("{MAX_OBJECT_RECORDS} or less")));
        }
        Ok(())
    }

    /// Key, value and origin of everything, in the order of [`KEYS`].
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static Key, &Value)> {
        KEYS.iter().filter_map(|key| self.values.get(key.name).map(|value| (key, value)))
    }

    /// The text of a setting.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |value| value.text.as_str())
    }

    /// True where somebody set it.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value.origin != Origin::Default)
    }

    /// A setting as a path.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(name))
    }

    /// A setting of a type that parses from text.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<T, Failure> {
        self.text(name).parse().map_err(|_| self.bad(name, what))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        self.parsed(name, "true or false")
    }

    /// A size, such as `10MiB`.
    pub(crate) fn bytes(&self, name: &str) -> Result<u64, Failure> {
        self.parsed::<ByteSize>(name, "a size such as 64MiB").map(|size| size.as_u64())
    }

    /// A size, or `off`.
    pub(crate) fn optional_bytes(&self, name: &str) -> Result<Option<u64>, Failure> {
        if self.text(name) == "off" { Ok(None) } else { self.bytes(name).map(Some) }
    }

    /// A time, such as `60s`.
    pub(crate) fn duration(&self, name: &str) -> Result<Duration, Failure> {
        humantime::parse_duration(self.text(name))
            .map_err(|_| self.bad(name, "a time such as 60s, 5m or 500ms"))
    }

    /// A time, or `off`.
    pub(crate) fn optional_duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        if self.text(name) == "off" { Ok(None) } else { self.duration(name).map(Some) }
    }

    fn number_within(&self, name: &str, possible: &RangeInclusive<u64>) -> Result<(), Failure> {
        let what = match (*possible.start(), *possible.end()) {
            (0, u64::MAX) => "a whole number".to_owned(),
            (least, u64::MAX) => format!("a whole number, {least} or more"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let number: u64 = self.parsed(name, &what)?;
        if possible.contains(&number) { Ok(()) } else { Err(self.bad(name, &what)) }
    }

    fn bytes_within(&self, name: &str, possible: &RangeInclusive<u64>, what: &str) -> Result<(), Failure> {
        if possible.contains(&self.bytes(name)?) { Ok(()) } else { Err(self.bad(name, what)) }
    }

    fn one_of(&self, name: &str, choices: &[&str]) -> Result<(), Failure> {
        if choices.contains(&self.text(name)) {
            return Ok(());
        }
        Err(self.bad(name, &format!("one of {}", choices.join(", "))))
    }

    /// Says that a setting's value cannot be used, and where it came from.
    pub(crate) fn bad(&self, name: &str, what: &str) -> Failure {
        let (text, origin) = self
            .values
            .get(name)
            .map_or(("", &Origin::Default), |value| (value.text.as_str(), &value.origin));
        Failure::config(format!("setting `{name}` is `{text}` ({origin}), which is not {what}"))
    }
}

/// The environment variable that sets a key: `archive.max-age` is `PINMILL_ARCHIVE_MAX_AGE`.
pub(crate) fn variable_of(key: &str) -> String {
    format!("PINMILL_{}", key.replace(['.', '-'], "_").to_uppercase())
}

/// What to do about a `PINMILL_` variable that sets nothing.
pub(crate) fn hint_for_variable(stray: &str) -> String {
    let variables: Vec<String> = KEYS.iter().map(|key| variable_of(key.name)).collect();
    meant(pinmill_pipeline::nearest(stray, variables.iter().map(String::as_str)))
}

fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`pinmill config show` lists all settings".to_owned(),
    }
}

fn flatten(prefix: &str, table: &toml::Table, pairs: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, pairs),
            toml::Value::String(text) => pairs.push((name, text.clone())),
            other => pairs.push((name, other.to_string())),
        }
    }
}

/// `line N` of the file where the last part of a dotted key stands.
fn line_of(text: &str, name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    let found = text.lines().position(|line| {
        line.trim_start().strip_prefix(last).is_some_and(|rest| rest.trim_start().starts_with('='))
    });
    found.map_or_else(|| "some line".to_owned(), |index| format!("line {}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn variable(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
        let file = "data = \"from-file\"\nlisten = \"127.0.0.1:1\"\nbatch-every = \"1s\"\n";
        let environment =
            [variable("PINMILL_DATA", "from-environment"), variable("PINMILL_LISTEN", "127.0.0.1:2")];
        let settings = Settings::resolve(
            Some((Path::new("pinmill.toml"), file)),
            environment,
            &flags(&[("data", "from-flag")]),
        )
        .unwrap();
        assert_eq!(settings.text("data"), "from-flag");
        assert_eq!(settings.text("listen"), "127.0.0.1:2");
        assert_eq!(settings.text("batch-every"), "1s");
        assert_eq!(settings.text("durability"), "fsync");
        let origin = |name: &str| settings.values[name].origin.to_string();
        assert_eq!(origin("data"), "flag");
        assert_eq!(origin("listen"), "environment PINMILL_LISTEN");
        assert_eq!(origin("batch-every"), "file pinmill.toml");
        assert_eq!(origin("durability"), "default");
    }

    #[test]
    fn an_unknown_key_of_the_file_is_named_with_its_line_and_a_suggestion() {
        let file = "data = \"x\"\n[archive]\nmax-recrods = 5\n";
        let failure = Settings::resolve(Some((Path::new("p.toml"), file)), [], &[]).unwrap_err();
        assert_eq!(failure.exit, 78);
        assert!(failure.message.contains("p.toml: line 3"), "{}", failure.message);
        assert!(failure.message.contains("archive.max-recrods"), "{}", failure.message);
        assert_eq!(failure.hints, ["did you mean `archive.max-records`?"]);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_refused_before_anything_starts() {
        for (key, value) in [
            ("batch-every", "soon"),
            ("engine.memory", "lots"),
            ("durability", "maybe"),
            ("gateway.max-connections", "-1"),
            ("topics", "kafka://localhost:9092"),
            // These can be read, and would be refused by what they are for, under a name of its own.
            ("gateway.max-json-depth", "0"),
            ("gateway.max-json-depth", "121"),
            ("gateway.max-connections", "0"),
            ("gateway.default-partitions", "0"),
            ("gateway.default-partitions", "4294967296"),
            ("kinesis.account-id", "abc"),
            ("kinesis.account-id", "00000000000a"),
            ("kinesis.max-record", "11MiB"),
            ("engine.memory", "1"),
            ("data", ""),
            ("archive.max-bytes", "1GiB"),
            ("archive.max-records", "50000001"),
        ] {
            let failure = Settings::resolve(None, [], &flags(&[(key, value)])).unwrap_err();
            assert_eq!(failure.exit, 78);
            let what = format!("setting `{key}` is `{value}` (flag), which is not ");
            assert!(failure.message.starts_with(&what), "{}", failure.message);
        }
    }

    #[test]
    fn every_default_can_be_read() {
        Settings::resolve(None, [], &[]).unwrap();
    }

    #[test]
    fn what_closes_an_archive_object_may_be_as_much_as_one_holds() {
        let largest = flags(&[("archive.max-bytes", "1023MiB"), ("archive.max-records", "50000000")]);
        Settings::resolve(None, [], &largest).unwrap();
        let with_larger_records = [largest, flags(&[("gateway.max-record", "2MiB")])].concat();
        let failure = Settings::resolve(None, [], &with_larger_records).unwrap_err();
        assert!(
            failure.message.contains("or less together with `gateway.max-record`"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_stray_variable_is_reported_and_does_not_stop_the_program() {
        let environment = [variable("PINMILL_LISTN", "x"), variable("PINMILL_SEED", "1")];
        let settings = Settings::resolve(None, environment, &[]).unwrap();
        assert_eq!(settings.strays, ["PINMILL_LISTN"]);
        assert_eq!(hint_for_variable("PINMILL_LISTN"), "did you mean `PINMILL_LISTEN`?");
        assert!(hint_for_variable("PINMILL_ZZZZZZ").contains("config show"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_in_a_setting_and_nowhere_else() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = || OsString::from_vec(vec![b'a', 0xff]);
        let foreign = [("HOME".into(), bytes()), (bytes(), "x".into()), ("PINMILL_PYTHON".into(), bytes())];
        assert!(Settings::resolve(None, foreign, &[]).unwrap().strays.is_empty());
        let failure =
            Settings::resolve(None, [("PINMILL_LOG_SEGMENT_AGE".into(), bytes())], &[]).unwrap_err();
        assert_eq!(failure.exit, 78);
        assert!(failure.message.contains("`log.segment-age`"), "{}", failure.message);
        assert!(failure.message.contains("PINMILL_LOG_SEGMENT_AGE is no UTF-8"), "{}", failure.message);
    }
}
