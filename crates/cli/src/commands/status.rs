//! `pinmill status`: where the tables of both halves stand, and what is under way.

use std::collections::BTreeMap;
use std::io::Write;

use pinmill_broker::EventLog;
use pinmill_flow::{Half, Logs, TableStatus, TopicStatus};
use serde_json::{Value, json};

use crate::args::Status;
use crate::context::Context;
use crate::error::Failure;
use crate::render::{Format, Rows, SCHEMA_VERSION, write_json};

/// Shows every table: rows, lag, freshness and commit rate. What is pending is lag, and no error.
pub(crate) async fn status(context: &Context, args: &Status) -> Result<(), Failure> {
    let lake = context.lake_there()?;
    let (topics, streams) = (context.log_to_read()?, context.streams_to_read().await?);
    let logs = Logs {
        topics: topics.as_deref().map(|log| log as &dyn EventLog),
        streams: streams.as_ref().map(|log| log as &dyn EventLog),
    };
    let pipeline = context.pipeline()?;
    let now_ms = chrono::Utc::now().timestamp_millis();
    let tables = pinmill_flow::status(&pipeline, logs, &lake, now_ms).await?;
    let mut of_log = [BTreeMap::new(), BTreeMap::new()];
    for ((half, log), found) in
        [(Half::Batch, logs.topics), (Half::Stream, logs.streams)].into_iter().zip(&mut of_log)
    {
        if let Some(log) = log {
            *found = pinmill_flow::topics(&pipeline, half, log).await?;
        }
    }
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => {
            let [topics, streams] = of_log;
            let document = json!({
                "schema_version": SCHEMA_VERSION,
                "data": context.data(),
                "lake": lake.url().as_str(),
                "topics": topics,
                "streams": streams,
                "tables": tables,
            });
            write_json(&mut stdout, &document)
        }
        Format::Table => {
            writeln!(stdout, "data in {}, lake at {}", context.data().display(), lake.url())?;
            in_logs(&of_log).write(&mut stdout, Format::Table)?;
            for gap in of_log.iter().flat_map(BTreeMap::values).flat_map(|topic| &topic.gaps) {
                writeln!(stdout, "{gap}")?;
            }
            rows(&tables, Format::Table).write(&mut stdout, Format::Table)
        }
        Format::Markdown => {
            in_logs(&of_log).write(&mut stdout, Format::Markdown)?;
            writeln!(stdout)?;
            rows(&tables, Format::Markdown).write(&mut stdout, Format::Markdown)
        }
        // Lines say by their members what they are of. Rows of CSV cannot: they are of the tables alone.
        format => {
            if format == Format::Ndjson {
                in_logs(&of_log).write(&mut stdout, format)?;
            }
            rows(&tables, format).write(&mut stdout, format)
        }
    }
}

/// What the logs hold, and how much of it is still to be archived or loaded.
fn in_logs(of_log: &[BTreeMap<String, TopicStatus>; 2]) -> Rows {
    let mut rows = Rows::new(&["log", "name", "dataset", "partitions", "records", "unread"]);
    for (log, topics) in ["topics", "streams"].into_iter().zip(of_log) {
        for (name, topic) in topics {
            rows.rows.push(vec![
                json!(log),
                json!(name),
                json!(topic.dataset),
                json!(topic.partitions),
                json!(topic.held),
                json!(topic.unread),
            ]);
        }
    }
    rows
}

/// The tables. Programs get seconds as a number.
fn rows(tables: &[TableStatus], format: Format) -> Rows {
    let in_words = matches!(format, Format::Table | Format::Markdown);
    let mut rows = Rows::new(&[
        "table",
        "rows",
        "quarantined",
        "lag",
        if in_words { "freshness" } else { "freshness_seconds" },
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
            if in_words { age(table.freshness_seconds) } else { json!(table.freshness_seconds) },
            json!(table.commits_last_minute),
            json!(table.version),
            json!(table.files),
            json!(table.bytes),
        ]);
    }
    rows
}

/// Age of the newest row, as people say it.
fn age(seconds: Option<f64>) -> Value {
    let Some(seconds) = seconds else { return Value::Null };
    let age = std::time::Duration::from_millis((seconds * 1000.0) as u64);
    json!(humantime::format_duration(age).to_string())
}
