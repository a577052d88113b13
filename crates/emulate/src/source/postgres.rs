//! PostgreSQL.

use super::database::Kind;
use super::server::Dialect;

impl Dialect for sqlx::Postgres {
    const QUOTE: char = '"';

    fn kind(type_name: &str) -> Option<Kind> {
        match type_name {
            "INT2" | "INT4" | "INT8" | "NUMERIC" => Some(Kind::Number),
            "FLOAT4" | "FLOAT8" => Some(Kind::Float),
            "TEXT" | "VARCHAR" | "CHAR" | "BPCHAR" | "\"CHAR\"" | "NAME" | "UUID" | "DATE" | "TIME" => {
                Some(Kind::Text)
            }
            "TIMESTAMP" | "TIMESTAMPTZ" => Some(Kind::DateTime),
            "BOOL" => Some(Kind::Bool),
            "JSON" | "JSONB" => Some(Kind::Json),
            _ => None,
        }
    }
}
