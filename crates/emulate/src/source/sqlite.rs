//! Rows from a SQLite file.

use std::path::Path;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, ValueRef};

use super::database::{Kind, Object, count_statement, failed, row_statement};
use super::{DateForm, Source, SourceError, Table};

/// Rows of a SQLite file, opened for reading only.
#[derive(Debug)]
pub(crate) struct Sqlite {
    name: String,
    pool: SqlitePool,
    rows: u64,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, SourceError> {
        let name = format!("sqlite:{}", path.display());
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let pool =
            SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(|error| {
                SourceError::Database {
                    database: name.clone(),
                    what: "opening".to_owned(),
                    why: error.to_string(),
                }
            })?;
        let mut rows = 0;
        for table in Table::ALL {
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(count_statement(table)))
                .fetch_one(&pool)
                .await
                .map_err(|e| failed(&name, table, &e))?;
            rows = rows.max(count.unsigned_abs());
        }
        Ok(Self { name, pool, rows })
    }
}

#[async_trait]
impl Source for Sqlite {
    async fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError> {
        let statement = row_statement(table, id, '"');
        let row = sqlx::query(AssertSqlSafe(statement))
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed(&self.name, table, &e))?;
        row.map(|row| object(&row, form).map_err(|e| failed(&self.name, table, &e))).transpose()
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }
}

/// In SQLite the values have the types, not the columns; a column only says whether its text is a date-time.
fn object(row: &SqliteRow, form: DateForm) -> Result<String, String> {
    let mut object = Object::new(form);
    for column in row.columns() {
        let (name, at) = (column.name(), column.ordinal());
        let broken = |e: sqlx::Error| format!("column {name}: {e}");
        let value = row.try_get_raw(at).map_err(broken)?;
        let held = value.type_info().into_owned();
        match held.name() {
            _ if value.is_null() => object.push(name, Kind::Text, None)?,
            "REAL" => {
                let real: f64 = row.try_get_unchecked(at).map_err(broken)?;
                let text = serde_json::to_string(&real).map_err(|e| e.to_string())?;
                object.push(name, Kind::Number, Some(&text))?;
            }
            "BLOB" => return Err(format!("column {name} holds a BLOB, which cannot be posted as JSON")),
            held => {
                let kind = match (held, column.type_info().name()) {
                    ("INTEGER", _) => Kind::Number,
                    (_, "DATETIME" | "TIMESTAMP") => Kind::DateTime,
                    _ => Kind::Text,
                };
                object.push(name, kind, Some(row.try_get_unchecked::<&str, _>(at).map_err(broken)?))?;
            }
        }
    }
    Ok(object.finish())
}
