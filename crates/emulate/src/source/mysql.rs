//! MySQL and MariaDB: the reference's own database.

use std::borrow::Cow;

use super::DatabaseUrl;
use super::database::Kind;
use super::server::Dialect;

impl Dialect for sqlx::MySql {
    const QUOTE: char = '`';

    fn kind(type_name: &str) -> Option<Kind> {
        match type_name.strip_suffix(" UNSIGNED").unwrap_or(type_name) {
            "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" | "YEAR" | "DECIMAL" => {
                Some(Kind::Number)
            }
            "FLOAT" | "DOUBLE" => Some(Kind::Float),
            "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" | "SET"
            | "DATE" | "TIME" => Some(Kind::Text),
            "DATETIME" | "TIMESTAMP" => Some(Kind::DateTime),
            "JSON" => Some(Kind::Json),
            _ => None,
        }
    }

    /// `mariadb://` is another name of the same protocol.
    fn address(url: &DatabaseUrl) -> Cow<'_, str> {
        let address = url.secret();
        address
            .strip_prefix("mariadb")
            .map_or(Cow::Borrowed(address), |rest| Cow::Owned(format!("mysql{rest}")))
    }
}
