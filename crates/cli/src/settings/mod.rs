//! Settings: typed sections, four layers, and where each value came from.
//!
//! Precedence is flag > environment (`PINMILL_…`) > file (`pinmill.toml`) > default. A setting is a field of [`Values`];
//! nothing else is one, and an unknown name in the file is an error with a suggestion. figment puts the layers on top of
//! one another and remembers the origin of every value.

mod forms;
mod values;

use std::ffi::OsString;
use std::ops::Deref;
use std::path::Path;

use bytesize::ByteSize;
use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use pinmill_lake::archive::{MAX_OBJECT_BYTES, MAX_OBJECT_RECORDS};

use crate::error::Failure;
pub(crate) use forms::{Size, Span};
pub(crate) use values::{Compression, Durability, Streams, Values};

/// The origin of what nobody set.
const DEFAULT: &str = "default";

/// Variables that start with `PINMILL_` and are not settings.
const OTHER_VARIABLES: &[&str] = &[
    "PINMILL_ALLOW_MISSING",
    "PINMILL_CACHE",
    "PINMILL_CONFIG",
    "PINMILL_CRASH_AT",
    "PINMILL_LEFT_OUT",
    "PINMILL_LOG",
    "PINMILL_PANIC_AT",
    "PINMILL_PYTHON",
    "PINMILL_SEED",
    "PINMILL_SHARED",
    "PINMILL_STORE_FAULTS",
];

/// A setting as `config show` lists it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Dotted name, as in the file.
    pub(crate) name: String,
    /// Its value as text, without secrets.
    pub(crate) value: String,
    /// `default`, `file PATH`, `environment NAME` or `flag`.
    pub(crate) origin: String,
    /// What it does.
    pub(crate) help: String,
}

/// All settings, resolved. Its fields are those of [`Values`].
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: Values,
    layers: Figment,
    /// Variables that look like settings and are not.
    pub(crate) strays: Vec<String>,
}

impl Deref for Settings {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

/// One value of one layer.
struct One {
    name: String,
    value: Value,
    origin: String,
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.name, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// The defaults.
struct Defaults(Dict);

impl Provider for Defaults {
    fn metadata(&self) -> Metadata {
        Metadata::named(DEFAULT)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

impl Settings {
    /// Puts the layers on top of one another.
    ///
    /// `file` is the path of the configuration file and its text; `environment` all variables; `flags` pairs of name and
    /// value.
    pub(crate) fn resolve(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, Failure> {
        let defaults = Value::serialize(Values::default()).map_err(Failure::internal)?;
        let defaults = defaults.into_dict().unwrap_or_default();
        let names = names(&defaults);
        let mut layers = Figment::from(Defaults(defaults));
        if let Some((path, text)) = file {
            for one in of_file(path, text, &names)? {
                layers = layers.merge(one);
            }
        }
        let (ones, strays) = of_environment(environment, &names)?;
        for one in ones {
            layers = layers.merge(one);
        }
        for (name, value) in flags {
            known(name, &names)?;
            let (name, value, origin) = (name.clone(), Value::from(value.clone()), "flag".to_owned());
            layers = layers.merge(One { name, value, origin });
        }
        let values = layers.extract().map_err(|error| unusable(&layers, &error))?;
        let settings = Self { values, layers, strays };
        settings.check_archive_objects()?;
        settings.check_body_memory()?;
        Ok(settings)
    }

    /// What is gathered for an archive object must fit into one, with the record that closes it: a longer backlog could
    /// never be archived.
    fn check_archive_objects(&self) -> Result<(), Failure> {
        let most = MAX_OBJECT_BYTES as u64;
        if self.archive.max_bytes.bytes().saturating_add(self.gateway.max_record.bytes()) > most {
            let most = ByteSize(most);
            let what = format!("{most} or less together with `gateway.max-record`");
            return Err(self.bad("archive.max-bytes", &what));
        }
        if self.archive.max_records.get::<u64>() > MAX_OBJECT_RECORDS {
            return Err(self.bad("archive.max-records", &format!("{MAX_OBJECT_RECORDS} or less")));
        }
        Ok(())
    }

    /// The largest body must fit, beside what is kept for small ones.
    fn check_body_memory(&self) -> Result<(), Failure> {
        let largest = self.gateway.max_body.bytes().max(pinmill_kinesis::MAX_BODY_BYTES as u64);
        let least = largest.div_ceil(7).saturating_mul(8);
        if self.gateway.body_memory.bytes() < least {
            let what = format!("a size of {} or more, for the largest body", ByteSize(least));
            return Err(self.bad("gateway.body-memory", &what));
        }
        Ok(())
    }

    /// Everything, by name.
    pub(crate) fn all(&self) -> Result<Vec<Shown>, Failure> {
        // Written anew from the typed values, which print no secret.
        let values = Value::serialize(&self.values).map_err(Failure::internal)?;
        let help = values::help();
        let shown = flatten(&values.into_dict().unwrap_or_default()).into_iter().map(|(name, value)| Shown {
            value: text_of(&value),
            origin: self.origin(&name),
            help: help.get(&name).cloned().unwrap_or_default(),
            name,
        });
        Ok(shown.collect())
    }

    /// True where somebody set it.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.origin(name) != DEFAULT
    }

    fn origin(&self, name: &str) -> String {
        self.layers.find_metadata(name).map_or_else(|| DEFAULT.to_owned(), |found| found.name.to_string())
    }

    /// Says that a setting's value cannot be used, and where it came from.
    pub(crate) fn bad(&self, name: &str, what: &str) -> Failure {
        bad(&self.layers, name, what)
    }
}

/// The values of a file; unknown names are refused.
fn of_file(path: &Path, text: &str, names: &[String]) -> Result<Vec<One>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::config(format!("{}: {}", path.display(), error.to_string().trim_end()))
    };
    let table: toml::Table = toml::from_str(text).map_err(|error| failed(&error))?;
    let table = Value::serialize(&table).map_err(|error| failed(&error))?;
    let origin = format!("file {}", path.display());
    let mut ones = Vec::new();
    for (name, value) in flatten(&table.into_dict().unwrap_or_default()) {
        known(&name, names)
            .map_err(|failure| failure.within(&format!("{}: {}", path.display(), line_of(text, &name))))?;
        ones.push(One { name, value, origin: origin.clone() });
    }
    Ok(ones)
}

/// The values of the environment, and the variables that look like settings and are not. Variables of others may hold any
/// bytes; they are not looked at.
fn of_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    names: &[String],
) -> Result<(Vec<One>, Vec<String>), Failure> {
    let (mut ones, mut strays) = (Vec::new(), Vec::new());
    for (variable, text) in environment {
        let variable = variable.to_string_lossy().into_owned();
        if !variable.starts_with("PINMILL_") || OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        let Some(name) = names.iter().find(|name| variable_of(name) == variable) else {
            strays.push(variable);
            continue;
        };
        let Ok(text) = text.into_string() else {
            let what = format!("setting `{name}`: the environment variable {variable} is not valid UTF-8");
            return Err(Failure::config(what).hint("unset it, or give it another value"));
        };
        let origin = format!("environment {variable}");
        ones.push(One { name: name.clone(), value: Value::from(text), origin });
    }
    Ok((ones, strays))
}

/// Refuses what is not the name of a setting.
fn known(name: &str, names: &[String]) -> Result<(), Failure> {
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let hint = meant(pinmill_pipeline::nearest(name, names.iter().map(String::as_str)));
    Err(Failure::config(format!("unknown setting `{name}`")).hint(hint))
}

/// The names of all settings.
fn names(defaults: &Dict) -> Vec<String> {
    flatten(defaults).into_iter().map(|(name, _)| name).collect()
}

/// Dotted names and values of everything that is not a section.
fn flatten(dict: &Dict) -> Vec<(String, Value)> {
    let mut pairs = Vec::new();
    for (name, value) in dict {
        match value {
            Value::Dict(_, inner) => {
                pairs.extend(
                    flatten(inner).into_iter().map(|(below, value)| (format!("{name}.{below}"), value)),
                );
            }
            value => pairs.push((name.clone(), value.clone())),
        }
    }
    pairs
}

/// A value that a type refused, in the words of [`bad`].
fn unusable(layers: &Figment, error: &figment::Error) -> Failure {
    let what = match &error.kind {
        Kind::Message(what) => what.clone(),
        Kind::UnknownVariant(_, expected) => format!("one of {}", expected.join(", ")),
        other => return Failure::config(format!("setting `{}`: {other}", error.path.join("."))),
    };
    bad(layers, &error.path.join("."), &what)
}

fn bad(layers: &Figment, name: &str, what: &str) -> Failure {
    let text = layers.find_value(name).map(|value| text_of(&value)).unwrap_or_default();
    let text = forms::Form::write(&forms::Location::new(text));
    let origin = layers.find_metadata(name).map_or(DEFAULT, |found| &found.name);
    Failure::config(format!("setting `{name}` is `{text}` ({origin}), which is not {what}"))
}

/// A scalar as it is written.
fn text_of(value: &Value) -> String {
    let number = || {
        value.to_num().map(|number| {
            let (unsigned, signed) =
                (number.to_u128().map(|n| n.to_string()), number.to_i128().map(|n| n.to_string()));
            unsigned.or(signed).or_else(|| number.to_f64().map(|n| n.to_string())).unwrap_or_default()
        })
    };
    let text = value.as_str().map(str::to_owned).or_else(number);
    text.or_else(|| value.to_bool().map(|value| value.to_string())).unwrap_or_else(|| format!("{value:?}"))
}

/// The environment variable that sets a value: `archive.max-age` is `PINMILL_ARCHIVE_MAX_AGE`.
pub(crate) fn variable_of(name: &str) -> String {
    format!("PINMILL_{}", name.replace(['.', '-'], "_").to_uppercase())
}

/// What to do about a `PINMILL_` variable that sets nothing.
pub(crate) fn hint_for_variable(stray: &str) -> String {
    let defaults = Value::serialize(Values::default()).ok().and_then(Value::into_dict).unwrap_or_default();
    let variables: Vec<String> = names(&defaults).iter().map(|name| variable_of(name)).collect();
    meant(pinmill_pipeline::nearest(stray, variables.iter().map(String::as_str)))
}

fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`pinmill config show` lists all settings".to_owned(),
    }
}

/// `line N` of the file where the last part of a dotted name stands.
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
        assert_eq!(settings.data.0, "from-flag");
        assert_eq!(settings.listen.0, "127.0.0.1:2");
        assert_eq!(settings.batch_every.0.unwrap().0, std::time::Duration::from_secs(1));
        assert_eq!(settings.durability, Durability::Fsync);
        let origin = |name: &str| settings.origin(name);
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
            ("gateway.body-memory", "10MiB"),
            ("gateway.answer-memory", "1MiB"),
            ("gateway.max-streams", "0"),
            ("gateway.cors", "everyone"),
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
    fn every_default_can_be_read_and_says_what_it_is_for() {
        let all = Settings::resolve(None, [], &[]).unwrap().all().unwrap();
        assert!(all.iter().any(|shown| shown.name == "gateway.drain-timeout" && shown.value == "30s"));
        for Shown { name, value, origin, help } in all {
            assert!(!help.is_empty(), "{name} has no help");
            assert_eq!(origin, DEFAULT);
            Settings::resolve(None, [], &flags(&[(&name, &value)])).unwrap();
        }
    }

    #[test]
    fn the_file_may_write_numbers_and_booleans_as_such() {
        let file = "allow-unauthenticated-remote = true\n[engine]\nthreads = 2\n[gateway]\nmax-body = 1024\n";
        let settings = Settings::resolve(Some((Path::new("p.toml"), file)), [], &[]).unwrap();
        assert!(settings.allow_unauthenticated_remote.0);
        assert_eq!(settings.engine.workers(), Some(2));
        assert_eq!(settings.gateway.max_body.bytes(), 1024);
        assert_eq!(settings.origin("engine.threads"), "file p.toml");
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let url = "mysql://u:planted@h/db";
        let settings = Settings::resolve(None, [], &flags(&[("source", url)])).unwrap();
        assert_eq!(settings.source.reveal().unwrap(), url);
        let shown = format!(
            "{:?} {:?} {}",
            settings.values,
            settings.all().unwrap(),
            settings.bad("source", "x").message
        );
        assert!(!shown.contains("planted"), "{shown}");
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
        assert!(
            failure.message.contains("PINMILL_LOG_SEGMENT_AGE is not valid UTF-8"),
            "{}",
            failure.message
        );
    }
}
