//! `pinmill status`: where the tables of both halves stand, and what is under way.

use std::io::Write;

use pinmill_broker::EventLog;
use pinmill_flow::{Logs, TableStatus};
use serde_json::{Value, json};

use crate::args::Status;
use crate::context::Context;
use crate::error::Failure;
use crate::render::{Format, Rows, SCHEMA_VERSION, write_json};

/// Shows every table: rows, lag, freshness and commit rate. What is pending is lag, and no error.
pub(crate) async fn status(context: &Context, args: &Status) -> Result<(), Failure> {
    let (topics, streams) = (context.log_to_read()?, context.streams_to_read().await?);
    let logs = Logs {
        topics: topics.as_deref().map(|log| log as &dyn EventLog),
        streams: streams.as_ref().map(|log| log as &dyn EventLog),
    };
    let (pipeline, lake) = (context.pipeline()?, context.lake()?);
    let now_ms = chrono::Utc::now().timestamp_millis();
    let tables = pinmill_flow::status(&pipeline, logs, &lake, now_ms).await?;
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => write_json(
            &mut stdout,
            &json!({
                "schema_version": SCHEMA_VERSION,
                "data": context.data(),
                "lake": lake.url().as_str(),
                "log": topics.is_some(),
                "streams": streams.is_some(),
                "tables": tables,
            }),
        ),
        format => {
            if format == Format::Table {
                writeln!(stdout, "data in {}, lake at {}", context.data().display(), lake.url())?;
            }
            rows(&tables).write(&mut stdout, format)
        }
    }
}

fn rows(tables: &[TableStatus]) -> Rows {
    let mut rows = Rows::new(&[
        "table",
        "rows",
        "quarantined",
        "lag",
        "freshness",
        "commits/min",
        "version",
        "files",
        "bytes",
    ]);
    for table in tables {
        rows.rows.push(vec![
            json!(table.half.table(&table.dataset)),
            json!(table.rows),
            json!(table.quarantined),
            json!(table.lag),
            freshness(table.freshness_seconds),
            json!(table.commits_last_minute),
            json!(table.version),
            json!(table.files),
            json!(table.bytes),
        ]);
    }
    rows
}

/// Age of the newest row, as people say it.
fn freshness(seconds: Option<f64>) -> Value {
    let Some(seconds) = seconds else { return Value::Null };
    let age = std::time::Duration::from_millis((seconds * 1000.0) as u64);
    json!(humantime::format_duration(age).to_string())
}
