//! Rows from a database server: what MySQL and PostgreSQL have in common, which is all but their names for types.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Column, ColumnIndex, Connection, Decode, Executor, Pool, Row, TypeInfo};

use super::database::{Kind, Object, count_statement, failed, row_statement};
use super::{DatabaseUrl, DateForm, Source, SourceError, Table};

/// How long a server may take to answer the first connection.
const DIAL: Duration = Duration::from_secs(30);

/// What a kind of server has of its own.
pub(crate) trait Dialect: sqlx::Database {
    /// What stands around a name.
    const QUOTE: char;

    /// What a column's values are in JSON; `None` where they cannot be posted.
    fn kind(type_name: &str) -> Option<Kind>;

    /// The URL as the client knows it, with its password.
    fn address(url: &DatabaseUrl) -> Cow<'_, str> {
        Cow::Borrowed(url.secret())
    }
}

/// Rows of a database on a server.
#[derive(Debug)]
pub(crate) struct Server<DB: Dialect> {
    url: DatabaseUrl,
    pool: Pool<DB>,
    rows: u64,
}

impl<DB: Dialect> Server<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'r> &'r str: Decode<'r, DB>,
    usize: ColumnIndex<DB::Row>,
{
    pub(crate) async fn open(url: &DatabaseUrl) -> Result<Self, SourceError> {
        let connect = |why: String| SourceError::Database {
            database: url.to_string(),
            what: "connecting".to_owned(),
            why,
        };
        let address = DB::address(url);
        // A pool tries again for half a minute what will not get better; a connection says at once what is wrong.
        let mut first = within(DIAL, DB::Connection::connect(&address)).await.map_err(connect)?;
        let mut rows = 0;
        for table in Table::ALL {
            rows = rows.max(count(&mut first, table).await.map_err(|e| failed(url, table, &e))?);
        }
        // what could go wrong with its end does not matter any more
        let _ = first.close().await;
        let pool = PoolOptions::new()
            .max_connections(4)
            .connect_lazy(&address)
            .map_err(|e| connect(e.to_string()))?;
        Ok(Self { url: url.clone(), pool, rows })
    }
}

#[async_trait]
impl<DB: Dialect> Source for Server<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'r> &'r str: Decode<'r, DB>,
    usize: ColumnIndex<DB::Row>,
{
    async fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError> {
        let statement = row_statement(table, id, DB::QUOTE);
        let row = sqlx::raw_sql(AssertSqlSafe(statement))
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed(&self.url, table, &e))?;
        row.map(|row| object::<DB>(&row, form).map_err(|e| failed(&self.url, table, &e))).transpose()
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }
}

async fn count<DB: Dialect>(connection: &mut DB::Connection, table: Table) -> Result<u64, String>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'r> &'r str: Decode<'r, DB>,
    usize: ColumnIndex<DB::Row>,
{
    let counting = sqlx::raw_sql(AssertSqlSafe(count_statement(table))).fetch_one(connection);
    let row = counting.await.map_err(|e| e.to_string())?;
    let count: &str = row.try_get_unchecked(0).map_err(|e| e.to_string())?;
    count.parse().map_err(|e| format!("it counts `{count}` rows: {e}"))
}

fn object<DB: Dialect>(row: &DB::Row, form: DateForm) -> Result<String, String>
where
    for<'r> &'r str: Decode<'r, DB>,
    usize: ColumnIndex<DB::Row>,
{
    let mut object = Object::new(form);
    for column in row.columns() {
        let (name, type_name) = (column.name(), column.type_info().name());
        let Some(kind) = DB::kind(type_name) else {
            return Err(format!("column {name} is of type {type_name}, which cannot be posted as JSON"));
        };
        let value = row
            .try_get_unchecked::<Option<&str>, _>(column.ordinal())
            .map_err(|e| format!("column {name}: {e}"))?;
        object.push(name, kind, value)?;
    }
    Ok(object.finish())
}

/// The outcome of `connecting`, or that it took too long.
async fn within<T>(limit: Duration, connecting: impl Future<Output = sqlx::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}
