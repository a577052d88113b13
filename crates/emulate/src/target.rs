//! Where records go: the URL of each table's topic.

use url::Url;

use crate::source::Table;

/// The topics of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port only.
    pub(crate) origin: Url,
    /// Path up to a table's short name.
    path: String,
    /// What comes before a table's short name in the topic's name.
    topic: String,
}

/// A URL that names no topics.
#[derive(Debug, thiserror::Error)]
#[error(
    "url `{given}` {why}; use http://HOST:PORT (with a prefix of topic names), or a URL that ends in /topics/ID."
)]
pub struct TargetError {
    given: String,
    why: &'static str,
}

impl Target {
    /// Topics behind `url`.
    ///
    /// - A URL with `/topics/` in its path is taken as the reference's configuration has it: it ends in `/topics/<id>.`, and
    ///   a table's short name is appended.
    /// - Any other URL is a gateway (or a stage of one, `https://host/dev`): its topics are `/topics/<prefix>.pin` and so on,
    ///   or `/topics/pin` without a prefix.
    ///
    /// # Errors
    /// When the URL is not HTTP, holds a query, names topics and a prefix is given as well, or when the prefix has characters
    /// that Kafka does not allow in a topic's name.
    pub fn topics(url: &str, prefix: Option<&str>) -> Result<Self, TargetError> {
        // the URL may hold a password, and nothing here needs one
        let shown = Url::parse(url).map_or_else(
            |_| url.to_owned(),
            |url| format!("{}://{}…", url.scheme(), url.host_str().unwrap_or("")),
        );
        let refuse = |why| TargetError { given: shown.clone(), why };
        let parsed = Url::parse(url).map_err(|_| refuse("is no URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(refuse("is not http or https"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty() {
            return Err(refuse("has a query, a fragment or a user"));
        }
        let named =
            parsed.path().rsplit_once("/topics/").map(|(stage, topic)| (stage.to_owned(), topic.to_owned()));
        let (stage, topic) = match (named, prefix.map(|prefix| prefix.trim_end_matches('.'))) {
            (Some(_), Some(_)) => return Err(refuse("names the topics already, so a prefix has no place")),
            (Some((_, topic)), None) if topic.contains('/') => return Err(refuse("goes on after the topic")),
            (Some(named), None) => named,
            (None, prefix) => {
                let topic = prefix
                    .filter(|prefix| !prefix.is_empty())
                    .map(|prefix| format!("{prefix}."))
                    .unwrap_or_default();
                (parsed.path().trim_end_matches('/').to_owned(), topic)
            }
        };
        if !topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
            return Err(refuse(
                "would give topics with other characters than letters, digits, `.`, `_` and `-` in their names",
            ));
        }
        let mut origin = parsed;
        origin.set_path("");
        Ok(Self { origin, path: format!("{stage}/topics/{topic}"), topic })
    }

    /// The topic of a table.
    pub fn topic(&self, table: Table) -> String {
        format!("{}{table}", self.topic)
    }

    /// The path to post a table's rows to.
    pub(crate) fn path(&self, table: Table) -> String {
        format!("{}{table}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str, prefix: Option<&str>) -> String {
        Target::topics(url, prefix).unwrap().path(Table::Pin)
    }

    #[test]
    fn a_gateway_and_a_prefix_name_the_topics() {
        assert_eq!(path("http://localhost:8082", Some("124df56aef51")), "/topics/124df56aef51.pin");
        assert_eq!(path("http://localhost:8082/", Some("124df56aef51.")), "/topics/124df56aef51.pin");
        assert_eq!(path("http://localhost:8082", None), "/topics/pin");
        assert_eq!(path("https://gateway.example/dev/", Some("me")), "/dev/topics/me.pin");
    }

    #[test]
    fn the_url_of_the_reference_is_completed_by_the_table() {
        let target =
            Target::topics("https://abc.execute-api.example/test/topics/124df56aef51.", None).unwrap();
        assert_eq!(target.path(Table::User), "/test/topics/124df56aef51.user");
        assert_eq!(target.topic(Table::Geo), "124df56aef51.geo");
        assert_eq!(target.origin.as_str(), "https://abc.execute-api.example/");
    }

    #[test]
    fn what_names_no_topics_is_refused() {
        for (url, prefix) in [
            ("localhost:8082", None),
            ("ftp://localhost", None),
            ("http://localhost/topics/a.", Some("b")),
            ("http://localhost/topics/a/b", None),
            ("http://localhost", Some("a b")),
            ("http://localhost/?x=1", None),
            ("http://me:pw@localhost/", None),
        ] {
            let error = Target::topics(url, prefix).unwrap_err().to_string();
            assert!(error.contains("/topics/ID.") && !error.contains("pw"), "{error}");
        }
    }
}
