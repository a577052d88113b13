//! Where records go: the URL of each table's topic or stream.

use std::fmt;
use std::str::FromStr;

use pinmill_broker::Plane;
use url::Url;

use crate::creds::Creds;
use crate::source::Table;

/// Longest name of a stream that Kinesis takes, in characters; it is above what a table's short name adds.
const LONGEST_STREAM: usize = 128;

/// The topics or the streams of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port only.
    pub(crate) origin: Url,
    pub(crate) plane: Plane,
    /// Path up to a table's short name.
    path: String,
    /// What comes before a table's short name in the name of its topic or stream.
    prefix: String,
}

/// What stands before names in a path.
fn folder(plane: Plane) -> &'static str {
    match plane {
        Plane::Topics => "/topics/",
        Plane::Streams => "/streams/",
    }
}

/// What stands between a prefix and a table's short name.
fn separator(plane: Plane) -> char {
    match plane {
        Plane::Topics => '.',
        Plane::Streams => '-',
    }
}

/// Targets that cannot be posted to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A URL that names no topics or streams.
    #[error(
        "url `{given}` {why}; use http://HOST:PORT (with a prefix of {names}), or a URL that ends in {ending}"
    )]
    Url {
        /// The URL, without a user or a password.
        given: String,
        /// What is wrong with it.
        why: &'static str,
        /// What is to be prefixed.
        names: &'static str,
        /// How a URL ends that names them.
        ending: &'static str,
    },
    /// No URL at all.
    #[error("no gateway to post to: nothing says where the {0} are")]
    Missing(&'static str),
}

impl Target {
    /// Topics behind `url`.
    ///
    /// - A URL with `/topics/` in its path is taken as the reference's configuration has it: it ends in `/topics/<id>.`, and
    ///   a table's short name is appended. Where the dot was forgotten it is put there.
    /// - Any other URL is a gateway (or a stage of one, `https://host/dev`): its topics are `/topics/<prefix>.pin` and so on,
    ///   or `/topics/pin` without a prefix.
    ///
    /// # Errors
    /// When the URL is not HTTP, holds a query, names streams, or names topics and a prefix is given as well, or when the
    /// prefix has characters that Kafka does not allow in a topic's name.
    pub fn topics(url: &str, prefix: Option<&str>) -> Result<Self, TargetError> {
        let prefix = prefix.map(|prefix| prefix.trim_end_matches('.'));
        Self::new(Plane::Topics, url, prefix)
    }

    /// Streams behind `url`, which need not exist where the gateway makes them.
    ///
    /// - A URL with `/streams/` in its path is taken as the reference's configuration has it: it ends in
    ///   `/streams/streaming-<id>-`, and a table's short name and `/record` (or `/records`) are appended. Where the hyphen
    ///   was forgotten it is put there.
    /// - Any other URL is a gateway (or a stage of one): its streams are `/streams/<prefix>-pin` and so on, or `/streams/pin`
    ///   without a prefix. `<id>.`, a prefix of topics, is taken as `<id>-`.
    ///
    /// # Errors
    /// When the URL is not HTTP, holds a query, names topics, or names streams and a prefix is given as well, or when the
    /// streams would have names that Kinesis does not allow.
    pub fn streams(url: &str, prefix: Option<&str>) -> Result<Self, TargetError> {
        let prefix = prefix.map(|prefix| prefix.trim_end_matches(['-', '.']));
        Self::new(Plane::Streams, url, prefix)
    }

    fn new(plane: Plane, url: &str, prefix: Option<&str>) -> Result<Self, TargetError> {
        // the URL may hold a password, and nothing here needs one
        let shown = Url::parse(url).map_or_else(
            |_| url.to_owned(),
            |url| format!("{}://{}…", url.scheme(), url.host_str().unwrap_or("")),
        );
        let refuse = |why| TargetError::refused(plane, shown.clone(), why);
        let mut origin = Url::parse(url).map_err(|_| refuse("is no URL"))?;
        if !matches!(origin.scheme(), "http" | "https") {
            return Err(refuse("is not http or https"));
        }
        if origin.query().is_some() || origin.fragment().is_some() || !origin.username().is_empty() {
            return Err(refuse("has a query, a fragment or a user"));
        }
        let (stage, prefix) = split(plane, origin.path(), prefix).map_err(refuse)?;
        check(plane, &prefix).map_err(refuse)?;
        origin.set_path("");
        Ok(Self { origin, plane, path: format!("{stage}{}{prefix}", folder(plane)), prefix })
    }

    /// The name of a table's topic or stream.
    pub fn name(&self, table: Table) -> String {
        format!("{}{table}", self.prefix)
    }

    /// The path of a table's topic or stream.
    pub(crate) fn path(&self, table: Table) -> String {
        format!("{}{table}", self.path)
    }
}

impl From<Target> for Vec<Target> {
    /// For [`Options::new`](crate::Options::new).
    fn from(target: Target) -> Self {
        vec![target]
    }
}

/// The stage of a path, and what stands before a table's short name.
fn split(plane: Plane, path: &str, prefix: Option<&str>) -> Result<(String, String), &'static str> {
    let other = plane.other();
    match (path.rsplit_once(folder(plane)), prefix) {
        (Some(_), Some(_)) => Err("has the names already, so a prefix has no place"),
        (Some((_, name)), None) if name.contains('/') => Err("goes on after the name"),
        (Some((stage, name)), None) => {
            // `…/topics/me` is meant as `…/topics/me.`: a topic `mepin` would be no dataset's.
            let is_open = name.ends_with(|c: char| c.is_ascii_alphanumeric());
            let separator = is_open.then(|| separator(plane));
            Ok((stage.to_owned(), name.chars().chain(separator).collect()))
        }
        (None, _) if path.contains(folder(other)) => Err(match other {
            Plane::Topics => "names topics, but streams are wanted",
            Plane::Streams => "names streams, but topics are wanted",
        }),
        (None, prefix) => {
            let prefix = prefix.filter(|prefix| !prefix.is_empty());
            let prefix = prefix.map(|prefix| format!("{prefix}{}", separator(plane))).unwrap_or_default();
            Ok((path.trim_end_matches('/').to_owned(), prefix))
        }
    }
}

fn check(plane: Plane, prefix: &str) -> Result<(), &'static str> {
    if !prefix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Err("would give names with other characters than letters, digits, `.`, `_` and `-`");
    }
    let longest = Table::ALL.map(|table| prefix.len() + table.short_name().len());
    if plane == Plane::Streams && longest.iter().any(|length| *length > LONGEST_STREAM) {
        return Err("would give names of more than 128 characters");
    }
    Ok(())
}

impl TargetError {
    fn refused(plane: Plane, given: String, why: &'static str) -> Self {
        let (names, ending) = match plane {
            Plane::Topics => ("topic names", "/topics/ID."),
            Plane::Streams => ("stream names", "/streams/streaming-ID-"),
        };
        Self::Url { given, why, names, ending }
    }
}

/// What events are posted to: each to topics, to streams, or to both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum To {
    /// `topics`: the batch half's.
    #[default]
    Topics,
    /// `streams`: the streaming half's.
    Streams,
    /// `both`: the same rows to topics and to streams.
    Both,
}

impl To {
    /// The targets: behind `url`, else where `creds` say (URL for topics, STREAMING_URL for streams). What is not asked for
    /// is not looked at.
    ///
    /// # Errors
    /// When nothing says where the topics or the streams are, or a URL does not fit them: one that names topics
    /// (`…/topics/ID.`) can be used for topics alone, one that names streams for streams alone.
    pub fn targets(
        self,
        url: Option<&str>,
        prefix: Option<&str>,
        creds: Option<&Creds>,
    ) -> Result<Vec<Target>, TargetError> {
        let topics = || {
            let own = creds.and_then(|creds| creds.url.as_deref());
            Target::topics(url.or(own).ok_or(TargetError::Missing("topics"))?, prefix)
        };
        let streams = || {
            let own = creds.and_then(|creds| creds.streaming_url.as_deref());
            Target::streams(url.or(own).ok_or(TargetError::Missing("streams"))?, prefix)
        };
        let target = |plane: &Plane| match plane {
            Plane::Topics => topics(),
            Plane::Streams => streams(),
        };
        self.planes().iter().map(target).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Topics => Plane::Topics.name(),
            Self::Streams => Plane::Streams.name(),
            Self::Both => "both",
        }
    }

    /// The planes that it stands for.
    pub fn planes(self) -> &'static [Plane] {
        match self {
            Self::Topics => &[Plane::Topics],
            Self::Streams => &[Plane::Streams],
            Self::Both => &Plane::ALL,
        }
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Topics, Self::Streams, Self::Both];
        let found = all.into_iter().find(|to| to.name() == text);
        found.ok_or_else(|| format!("`{text}` is nothing to post to; use topics, streams or both"))
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(url: &str, prefix: Option<&str>) -> String {
        Target::topics(url, prefix).unwrap().path(Table::Pin)
    }

    fn stream(url: &str, prefix: Option<&str>) -> String {
        Target::streams(url, prefix).unwrap().path(Table::Pin)
    }

    #[test]
    fn a_gateway_and_a_prefix_name_the_topics() {
        assert_eq!(topic("http://localhost:8082", Some("124df56aef51")), "/topics/124df56aef51.pin");
        assert_eq!(topic("http://localhost:8082/", Some("124df56aef51.")), "/topics/124df56aef51.pin");
        assert_eq!(topic("http://localhost:8082", None), "/topics/pin");
        assert_eq!(topic("https://gateway.example/dev/", Some("me")), "/dev/topics/me.pin");
    }

    #[test]
    fn a_gateway_and_a_prefix_name_the_streams() {
        assert_eq!(stream("http://localhost:8082", Some("124df56aef51")), "/streams/124df56aef51-pin");
        assert_eq!(stream("http://localhost:8082/", Some("124df56aef51-")), "/streams/124df56aef51-pin");
        assert_eq!(stream("http://localhost:8082", Some("124df56aef51.")), "/streams/124df56aef51-pin");
        assert_eq!(stream("http://localhost:8082", None), "/streams/pin");
        assert_eq!(
            stream("https://gateway.example/dev/", Some("streaming-me")),
            "/dev/streams/streaming-me-pin"
        );
    }

    #[test]
    fn the_urls_of_the_reference_are_completed_by_the_table() {
        let topics =
            Target::topics("https://abc.execute-api.example/test/topics/124df56aef51.", None).unwrap();
        assert_eq!(topics.path(Table::User), "/test/topics/124df56aef51.user");
        assert_eq!(topics.name(Table::Geo), "124df56aef51.geo");
        assert_eq!(topics.origin.as_str(), "https://abc.execute-api.example/");
        let url = "https://abc.execute-api.example/test/streams/streaming-124df56aef51-";
        let streams = Target::streams(url, None).unwrap();
        assert_eq!(streams.path(Table::User), "/test/streams/streaming-124df56aef51-user");
        assert_eq!(streams.name(Table::Geo), "streaming-124df56aef51-geo");
        assert_eq!(stream("http://localhost:8082/streams/124df56aef51-", None), "/streams/124df56aef51-pin");
    }

    #[test]
    fn what_was_forgotten_between_prefix_and_table_is_put_there() {
        assert_eq!(topic("http://localhost:8082/topics/124df56aef51", None), "/topics/124df56aef51.pin");
        assert_eq!(topic("http://localhost:8082/dev/topics/me_", None), "/dev/topics/me_pin");
        assert_eq!(topic("http://localhost:8082/topics/", None), "/topics/pin");
        assert_eq!(stream("http://localhost:8082/streams/streaming-me", None), "/streams/streaming-me-pin");
    }

    #[test]
    fn what_names_no_topics_is_refused() {
        for (url, prefix) in [
            ("localhost:8082", None),
            ("ftp://localhost", None),
            ("http://localhost/topics/a.", Some("b")),
            ("http://localhost/topics/a/b", None),
            ("http://localhost/streams/streaming-a-", None),
            ("http://localhost", Some("a b")),
            ("http://localhost/?x=1", None),
            ("http://me:pw@localhost/", None),
        ] {
            let error = Target::topics(url, prefix).unwrap_err().to_string();
            assert!(error.contains("/topics/ID.") && !error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn what_names_no_streams_is_refused() {
        let long = "x".repeat(124);
        for (url, prefix) in [
            ("localhost:8082", None),
            ("http://localhost/streams/a-", Some("b")),
            ("http://localhost/streams/a-pin/record", None),
            ("http://localhost/topics/a.", None),
            ("http://localhost", Some("a/b")),
            ("http://localhost", Some(long.as_str())),
            ("http://me:pw@localhost/streams/a-", None),
        ] {
            let error = Target::streams(url, prefix).unwrap_err().to_string();
            assert!(error.contains("/streams/streaming-ID-") && !error.contains("pw"), "{error}");
        }
        let just = Target::streams("http://localhost", Some(&long[..123])).unwrap();
        assert_eq!(just.name(Table::User).len(), LONGEST_STREAM);
    }

    #[test]
    fn credentials_say_where_what_is_asked_for_is() {
        let both = "HOST: h\nUSER: u\nPASSWORD: p\nDATABASE: d\nURL: http://a/topics/1.\nSTREAMING_URL: http://b/streams/streaming-1-\n";
        let creds = Creds::parse(both).unwrap();
        let names = |to: To, url| -> Vec<_> {
            let targets = to.targets(url, None, Some(&creds)).unwrap();
            targets
                .iter()
                .map(|target| format!("{}{}", target.origin, &target.path(Table::Pin)[1..]))
                .collect()
        };
        let (topics, streams) = ("http://a/topics/1.pin", "http://b/streams/streaming-1-pin");
        assert_eq!(names(To::Topics, None), [topics]);
        assert_eq!(names(To::Streams, None), [streams]);
        assert_eq!(names(To::Both, None), [topics, streams]);
        assert_eq!(names(To::Both, Some("http://c")), ["http://c/topics/pin", "http://c/streams/pin"]);
    }

    #[test]
    fn a_url_is_asked_for_only_where_it_is_needed() {
        let no_streams = "HOST: h\nUSER: u\nPASSWORD: p\nDATABASE: d\nURL: http://a/topics/1.\n";
        let creds = Creds::parse(no_streams).unwrap();
        To::Topics.targets(None, None, Some(&creds)).unwrap();
        for to in [To::Streams, To::Both] {
            let error = to.targets(None, None, Some(&creds)).unwrap_err();
            assert!(matches!(error, TargetError::Missing("streams")), "{error}");
        }
        let error = To::Both.targets(None, None, None).unwrap_err();
        assert!(matches!(error, TargetError::Missing("topics")), "{error}");
        // What names the one must not send the other somewhere that nobody named.
        let error = To::Both.targets(Some("http://a/topics/1."), None, None).unwrap_err().to_string();
        assert!(error.contains("names topics"), "{error}");
    }

    #[test]
    fn what_to_post_to_is_read() {
        for to in [To::Topics, To::Streams, To::Both] {
            assert_eq!(to.to_string().parse(), Ok(to));
        }
        assert!("topic".parse::<To>().unwrap_err().contains("topics, streams or both"));
    }
}
