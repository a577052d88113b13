//! Rows read from a real MariaDB, a real PostgreSQL and a SQLite file are those of the files that they were loaded from.

#![cfg(feature = "databases")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, and so do its helpers")]

use std::path::Path;

use futures::StreamExt;
use pinmill_emulate::{DateForm, Jsonl, Source, SourceError, SourceSpec, Table, open};
use pinmill_testkit::services::Service;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, SqliteConnection};

/// The statements that make and fill a table, in the SQL that all three understand but for the names of types.
struct Dialect {
    date_time: &'static str,
    float: &'static str,
    quote: char,
    /// Before everything else.
    first: &'static str,
}

const MARIADB: Dialect = Dialect {
    date_time: "DATETIME",
    float: "FLOAT",
    quote: '`',
    // so that a backslash is a backslash, as in the standard
    first: "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES')",
};
const POSTGRES: Dialect = Dialect { date_time: "TIMESTAMP", float: "REAL", quote: '"', first: "SELECT 1" };
const SQLITE: Dialect = Dialect { date_time: "DATETIME", float: "FLOAT", quote: '"', first: "SELECT 1" };

/// Columns as the reference's MySQL has them.
fn columns(table: Table) -> &'static [(&'static str, &'static str)] {
    match table {
        Table::Pin => &[
            ("index", "INT PRIMARY KEY"),
            ("unique_id", "VARCHAR(36)"),
            ("title", "TEXT"),
            ("description", "TEXT"),
            ("poster_name", "TEXT"),
            ("follower_count", "TEXT"),
            ("tag_list", "TEXT"),
            ("is_image_or_video", "TEXT"),
            ("image_src", "TEXT"),
            ("downloaded", "INT"),
            ("save_location", "TEXT"),
            ("category", "TEXT"),
        ],
        Table::Geo => &[
            ("ind", "INT PRIMARY KEY"),
            ("timestamp", "{date_time}"),
            ("latitude", "{float}"),
            ("longitude", "{float}"),
            ("country", "TEXT"),
        ],
        Table::User => &[
            ("ind", "INT PRIMARY KEY"),
            ("first_name", "TEXT"),
            ("last_name", "TEXT"),
            ("age", "INT"),
            ("date_joined", "{date_time}"),
        ],
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

impl Dialect {
    fn create(&self, table: Table) -> String {
        let (name, quote) = (table.sql_name(), self.quote);
        let columns: Vec<_> = columns(table)
            .iter()
            .map(|(column, kind)| {
                let kind = kind.replace("{date_time}", self.date_time).replace("{float}", self.float);
                format!("{quote}{column}{quote} {kind}")
            })
            .collect();
        format!("CREATE TABLE {name} ({})", columns.join(", "))
    }

    /// All rows of a file, 500 a statement, and last a row of NULLs.
    fn inserts(&self, shared: &Path, table: Table) -> Vec<String> {
        let text = std::fs::read_to_string(shared.join(format!("data/{table}.jsonl"))).unwrap();
        let tuple = |row: &Value| {
            let values: Vec<_> = columns(table).iter().map(|(column, _)| literal(&row[column])).collect();
            format!("({})", values.join(", "))
        };
        let mut rows: Vec<_> = text.lines().map(|line| tuple(&serde_json::from_str(line).unwrap())).collect();
        rows.push(tuple(&serde_json::json!({table.key(): 1_000_000})));
        rows.chunks(500)
            .map(|rows| format!("INSERT INTO {} VALUES {}", table.sql_name(), rows.join(", ")))
            .collect()
    }

    fn statements(&self, shared: &Path) -> Vec<String> {
        let mut all = vec![self.first.to_owned()];
        for table in Table::ALL {
            all.push(self.create(table));
            all.extend(self.inserts(shared, table));
        }
        all
    }
}

/// Every row of every table, by its place in the order of keys, is the row of the file; the one after the last is NULLs, and
/// the one after that is not there.
async fn assert_same_rows(spec: &str, shared: &Path) {
    let database = open(&spec.parse().unwrap(), 0).await.unwrap();
    let files = Jsonl::open(&shared.join("data")).unwrap();
    for table in Table::ALL {
        let ids = files.ids(table);
        let reads = ids.iter().enumerate().map(|(place, &id)| {
            let (database, files) = (&database, &files);
            async move {
                let found = database.row(table, place as u64, DateForm::Us).await.unwrap().unwrap();
                let expected = files.row(table, id, DateForm::Us).await.unwrap().unwrap();
                assert_eq!(
                    found,
                    expected,
                    "row {place} of {table} from {}",
                    spec.split(':').next().unwrap()
                );
            }
        });
        futures::stream::iter(reads).buffer_unordered(4).collect::<Vec<_>>().await;

        let nulls = database.row(table, ids.len() as u64, DateForm::Us).await.unwrap().unwrap();
        let names: Vec<_> =
            columns(table).iter().skip(1).map(|(name, _)| format!(",\"{name}\":null")).collect();
        assert_eq!(nulls, format!("{{\"{}\":1000000{}}}", table.key(), names.concat()));
        assert_eq!(database.row(table, ids.len() as u64 + 1, DateForm::Us).await.unwrap(), None);
    }
    let longest = Table::ALL.into_iter().map(|table| files.ids(table).len()).max().unwrap();
    assert_eq!(database.rows(), Some(longest as u64 + 1));
    let date = |form| database.row(Table::User, 0, form);
    assert!(date(DateForm::Iso).await.unwrap().unwrap().contains("\"date_joined\":\"2015-10-21T"));
    assert!(date(DateForm::Sql).await.unwrap().unwrap().contains("\"date_joined\":\"2015-10-21 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_mariadb_are_those_that_it_was_loaded_with() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    let server = Service::MariaDb.shared().unwrap_or_else(|error| panic!("{error}"));
    let mut connection = MySqlConnection::connect(server.url()).await.unwrap();
    for statement in MARIADB.statements(&shared) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    assert_same_rows(server.url(), &shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_postgres_are_those_that_it_was_loaded_with() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    let server = Service::Postgres.shared().unwrap_or_else(|error| panic!("{error}"));
    let mut connection = PgConnection::connect(server.url()).await.unwrap();
    for statement in POSTGRES.statements(&shared) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    assert_same_rows(server.url(), &shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_sqlite_file_are_those_that_it_was_loaded_with() {
    let Some(shared) = pinmill_testkit::shared_dir() else { return };
    let dir = pinmill_testkit::temp_dir();
    let path = dir.path().join("rows.db");
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    for statement in SQLITE.statements(&shared) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    assert_same_rows(&format!("sqlite:{}", path.display()), &shared).await;
}

#[tokio::test]
async fn a_database_that_refuses_is_named_without_its_password() {
    let (_nobody, address) = pinmill_testkit::nobody();
    let port = address.port();
    for scheme in ["mysql", "postgres"] {
        let spec: SourceSpec = format!("{scheme}://me:s3cret@127.0.0.1:{port}/rows").parse().unwrap();
        let error = open(&spec, 0).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            matches!(error, SourceError::Database { .. })
                && text.contains("127.0.0.1")
                && !text.contains("s3cret"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_database_without_the_tables_is_refused_when_it_is_opened() {
    let dir = pinmill_testkit::temp_dir();
    let path = dir.path().join("empty.db");
    SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display()))
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let error =
        open(&format!("sqlite:{}", path.display()).parse().unwrap(), 0).await.unwrap_err().to_string();
    assert!(error.contains("pinterest_data"), "{error}");
}
