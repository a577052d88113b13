//! `--source` as it is written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::SourceError;

/// Which source of rows is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceSpec {
    /// Rows made up by the generator.
    #[default]
    Generator,
    /// `jsonl:DIR`: the files `pin.jsonl`, `geo.jsonl` and `user.jsonl` of a folder.
    Jsonl(PathBuf),
    /// `sqlite:FILE`
    Sqlite(PathBuf),
    /// `mysql://…` (MariaDB too)
    MySql(DatabaseUrl),
    /// `postgres://…`
    Postgres(DatabaseUrl),
}

/// The URL of a database. It shows itself without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

impl DatabaseUrl {
    /// Takes a URL such as `mysql://me:secret@localhost:3306/pinterest_data`.
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, password included: for the database's client only.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres")),
        allow(dead_code, reason = "only the clients ask")
    )]
    pub(crate) fn secret(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        if shown.password().is_some() {
            // fails only for URLs that cannot have a password
            let _ = shown.set_password(Some("***"));
        }
        // parameters may hold one as well
        if shown.query().is_some() {
            shown.set_query(Some("…"));
        }
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SourceSpec {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let scheme = text.split(':').next().unwrap_or_default();
        let refuse = |why: &str| {
            let given = if text.contains("://") { format!("{scheme}://…") } else { text.to_owned() };
            SourceError::Spec { given, why: why.to_owned() }
        };
        let path = |rest: &str| {
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            if rest.is_empty() { Err(refuse("names no file")) } else { Ok(PathBuf::from(rest)) }
        };
        let url = || match Url::parse(text) {
            Ok(url) if url.path().len() < 2 => Err(refuse("names no database (the part after the host)")),
            Ok(url) => Ok(DatabaseUrl::new(url)),
            Err(error) => Err(refuse(&format!("is no URL ({error})"))),
        };
        match (scheme, text.split_once(':')) {
            ("generator", None) => Ok(Self::Generator),
            ("jsonl", Some((_, dir))) => path(dir).map(Self::Jsonl),
            ("sqlite", Some((_, file))) => path(file).map(Self::Sqlite),
            ("mysql" | "mariadb", Some(_)) => url().map(Self::MySql),
            ("postgres" | "postgresql", Some(_)) => url().map(Self::Postgres),
            _ => Err(refuse("is no source that is known")),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generator => f.write_str("generator"),
            Self::Jsonl(dir) => write!(f, "jsonl:{}", dir.display()),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::MySql(url) | Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SourceSpec {
        text.parse().unwrap()
    }

    #[test]
    fn each_source_is_read() {
        assert_eq!(parse("generator"), SourceSpec::Generator);
        assert_eq!(parse("jsonl:/some/dir"), SourceSpec::Jsonl("/some/dir".into()));
        assert_eq!(parse("sqlite:rows.db"), SourceSpec::Sqlite("rows.db".into()));
        assert_eq!(parse("sqlite:///rows.db"), SourceSpec::Sqlite("/rows.db".into()));
        assert!(matches!(parse("mysql://me:pw@localhost:3306/pinterest_data"), SourceSpec::MySql(_)));
        assert!(matches!(parse("postgresql://me@localhost/pinterest_data"), SourceSpec::Postgres(_)));
    }

    #[test]
    fn what_is_no_source_is_refused_with_the_choices() {
        for text in ["", "oracle://x/y", "generator:5", "jsonl:", "mysql://host"] {
            let error = text.parse::<SourceSpec>().unwrap_err().to_string();
            assert!(error.contains("postgres://"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let spec = parse("mysql://me:s3cret@localhost/pinterest_data?ssl-key=s3cret");
        assert_eq!(spec.to_string(), "mysql://me:***@localhost/pinterest_data?%E2%80%A6");
        assert!(!format!("{spec:?}").contains("s3cret"));
        let error = "mysql://me:s3cret@localhost".parse::<SourceSpec>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
