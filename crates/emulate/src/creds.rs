//! `db_creds.yaml` of the reference: where its database is, and where its records go.
//!
//! A YAML library reads it, although the file is flat: passwords are what people quote in all the ways that YAML has.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;
use yaml_rust2::{Yaml, YamlLoader};

use crate::source::DatabaseUrl;

/// Longest file that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// What `db_creds.yaml` says. It shows itself without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Creds {
    host: String,
    user: String,
    password: String,
    database: String,
    port: u16,
    /// `URL`: ends in `/topics/<id>.`; a table's short name is appended.
    pub url: Option<String>,
    /// `STREAMING_URL`: ends in `/streams/streaming-<id>-`; a table's short name and `/record` are appended.
    pub streaming_url: Option<String>,
}

/// A `db_creds.yaml` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct CredsError {
    path: PathBuf,
    why: String,
}

impl Creds {
    /// Reads the file. Names may be in any case; names that mean nothing here are left alone, as the reference does.
    ///
    /// # Errors
    /// When the file cannot be read, is no flat YAML, or lacks one of HOST, USER, PASSWORD and DATABASE.
    pub fn read(path: &Path) -> Result<Self, CredsError> {
        let failed = |why: String| CredsError { path: path.to_owned(), why };
        let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if size > LONGEST {
            return Err(failed(format!(
                "the file has {size} bytes, more than the {LONGEST} that such a file can need"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // the parser's messages name places, not values
        let documents = YamlLoader::load_from_str(text).map_err(|e| e.to_string())?;
        let Some(Yaml::Hash(entries)) = documents.first() else {
            return Err("the file holds no `NAME: value` lines".to_owned());
        };
        let find = |name: &str| -> Result<Option<String>, String> {
            let entry = entries
                .iter()
                .find(|(key, _)| key.as_str().is_some_and(|key| key.eq_ignore_ascii_case(name)));
            match entry.map(|(_, value)| value) {
                None | Some(Yaml::Null) => Ok(None),
                Some(Yaml::String(text) | Yaml::Real(text)) => Ok(Some(text.clone())),
                Some(Yaml::Integer(number)) => Ok(Some(number.to_string())),
                Some(_) => Err(format!("{name} is not one text or number; quote it")),
            }
        };
        let need = |name: &str| find(name)?.ok_or_else(|| format!("{name} is missing"));
        let port = find("PORT")?.unwrap_or_else(|| "3306".to_owned());
        Ok(Self {
            host: need("HOST")?,
            user: need("USER")?,
            password: need("PASSWORD")?,
            database: need("DATABASE")?,
            port: port
                .parse()
                .map_err(|_| format!("PORT is `{port}`, but a port is a number up to 65535"))?,
            url: find("URL")?,
            streaming_url: find("STREAMING_URL")?,
        })
    }

    /// The reference's database, which is MySQL.
    ///
    /// # Errors
    /// When HOST is no name of a host.
    pub fn database_url(&self) -> Result<DatabaseUrl, String> {
        let refuse = || format!("HOST is `{}`, which is no name of a host", self.host);
        let mut url = Url::parse("mysql://host/").map_err(|_| refuse())?;
        url.set_host(Some(&self.host)).map_err(|_| refuse())?;
        // a URL's setters encode all but the sign that encodes
        let literal = |text: &str| text.replace('%', "%25");
        url.set_port(Some(self.port)).map_err(|()| refuse())?;
        url.set_username(&literal(&self.user)).map_err(|()| refuse())?;
        url.set_password(Some(&literal(&self.password))).map_err(|()| refuse())?;
        url.set_path(&self.database);
        Ok(DatabaseUrl::new(url))
    }
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Creds")
            .field("host", &self.host)
            .field("user", &self.user)
            .field("password", &"***")
            .field("database", &self.database)
            .field("port", &self.port)
            .field("url", &self.url)
            .field("streaming_url", &self.streaming_url)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = "HOST: db.example\nUSER: project_user\nPASSWORD: ':t%;yCY3Yjg'\nDATABASE: pinterest_data\nPORT: 3306\n\
        URL: https://abc.example/test/topics/124df56aef51.\nSTREAMING_URL: https://abc.example/test/streams/streaming-124df56aef51-\n";

    #[test]
    fn the_file_of_the_reference_is_read_unchanged() {
        let creds = Creds::parse(REFERENCE).unwrap();
        assert_eq!(creds.url.as_deref(), Some("https://abc.example/test/topics/124df56aef51."));
        assert_eq!(
            creds.streaming_url.as_deref(),
            Some("https://abc.example/test/streams/streaming-124df56aef51-")
        );
        let url = creds.database_url().unwrap();
        assert_eq!(url.to_string(), "mysql://project_user:***@db.example:3306/pinterest_data");
        assert_eq!(url.secret(), "mysql://project_user:%3At%25%3ByCY3Yjg@db.example:3306/pinterest_data");
    }

    #[test]
    fn passwords_are_read_however_they_are_quoted() {
        for (written, meant) in [
            ("plain", "plain"),
            ("'it''s'", "it's"),
            ("\"a\\\"b\"", "a\"b"),
            ("12345", "12345"),
            ("p#w  # mine", "p#w"),
        ] {
            let text = format!("HOST: h\nUSER: u\nPASSWORD: {written}\nDATABASE: d\n");
            assert_eq!(Creds::parse(&text).unwrap().password, meant, "{written}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        assert!(!format!("{:?}", Creds::parse(REFERENCE).unwrap()).contains("yCY3Yjg"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Creds::parse("HOST: h\nUSER: u\nDATABASE: d\n").unwrap_err(), "PASSWORD is missing");
        assert!(
            Creds::parse("HOST: h\nUSER: u\nPASSWORD: p\nDATABASE: d\nPORT: many\n")
                .unwrap_err()
                .contains("many")
        );
        assert!(Creds::parse("").unwrap_err().contains("NAME: value"));
        assert!(Creds::parse("HOST: [a, b]\nUSER: u\n").unwrap_err().contains("HOST"));
    }
}
