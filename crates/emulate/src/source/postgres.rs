//! Rows from PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo};

use super::database::{DIAL, Kind, Object, count_statement, failed, row_statement, within};
use super::{DatabaseUrl, DateForm, Source, SourceError, Table};

/// Rows of a PostgreSQL database.
#[derive(Debug)]
pub(crate) struct Postgres {
    url: DatabaseUrl,
    pool: PgPool,
    rows: u64,
}

impl Postgres {
    pub(crate) async fn open(url: &DatabaseUrl) -> Result<Self, SourceError> {
        let connect = |why: String| SourceError::Database {
            database: url.to_string(),
            what: "connecting".to_owned(),
            why,
        };
        // A pool tries again for half a minute what will not get better; a connection says at once what is wrong.
        let mut first = within(DIAL, PgConnection::connect(url.secret())).await.map_err(connect)?;
        let mut rows = 0;
        for table in Table::ALL {
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(count_statement(table)))
                .fetch_one(&mut first)
                .await
                .map_err(|e| failed(url, table, &e))?;
            rows = rows.max(count.unsigned_abs());
        }
        // what could go wrong with its end does not matter any more
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(url.secret())
            .map_err(|e| connect(e.to_string()))?;
        Ok(Self { url: url.clone(), pool, rows })
    }
}

#[async_trait]
impl Source for Postgres {
    async fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError> {
        let statement = row_statement(table, id, '"');
        let row = sqlx::raw_sql(AssertSqlSafe(statement))
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed(&self.url, table, &e))?;
        row.map(|row| object(&row, form).map_err(|e| failed(&self.url, table, &e))).transpose()
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }
}

fn object(row: &PgRow, form: DateForm) -> Result<String, String> {
    let mut object = Object::new(form);
    for column in row.columns() {
        let (name, type_name) = (column.name(), column.type_info().name());
        let Some(kind) = kind(type_name) else {
            return Err(format!("column {name} is of type {type_name}, which cannot be posted as JSON"));
        };
        let value = row
            .try_get_unchecked::<Option<&str>, _>(column.ordinal())
            .map_err(|e| format!("column {name}: {e}"))?;
        object.push(name, kind, value)?;
    }
    Ok(object.finish())
}

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
