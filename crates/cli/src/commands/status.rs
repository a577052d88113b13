//! `pinmill status`: how the server is, where the tables of both halves stand, and what is under way.

use std::collections::BTreeMap;
use std::io::Write;

use pinmill_broker::EventLog;
use pinmill_flow::{Half, Logs, TableStatus, TopicStatus};
use pinmill_lake::Lake;
use pinmill_lake::archive::Unread;
use serde_json::{Value, json};

use crate::args::Status;
use crate::context::Context;
use crate::error::Failure;
use crate::parts;
use crate::render::{Format, Rows, SCHEMA_VERSION, write_json};

/// Shows the parts of the running server, and every table: rows, lag, freshness and commit rate. What is pending is lag,
/// and no error.
pub(crate) async fn status(context: &Context, args: &Status) -> Result<(), Failure> {
    let server = parts::of_server(&context.data()).await;
    let found = Found::look(context).await;
    let mut stdout = std::io::stdout().lock();
    let format = args.output.format.unwrap_or_default();
    match found {
        Ok(found) => found.write(&mut stdout, format, context, server.as_ref()),
        // How the server is may be why.
        Err(failure) => {
            if let Some(server) = &server {
                write_server(&mut stdout, format, context, server)?;
            }
            Err(failure)
        }
    }
}

/// What is in the data folder and the lake.
struct Found {
    lake: Lake,
    of_log: [BTreeMap<String, TopicStatus>; 2],
    tables: Vec<TableStatus>,
    /// What the latest clean of each archive did not read, by the archive's place.
    unread: BTreeMap<String, Vec<Unread>>,
}

impl Found {
    async fn look(context: &Context) -> Result<Self, Failure> {
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
        let unread = Unread::noted(&lake).await?;
        Ok(Self { lake, of_log, tables, unread })
    }

    fn write(
        self,
        out: &mut dyn Write,
        format: Format,
        context: &Context,
        server: Option<&Value>,
    ) -> Result<(), Failure> {
        let Self { lake, of_log, tables, unread } = self;
        match format {
            Format::Json => {
                let [topics, streams] = of_log;
                let document = json!({
                    "schema_version": SCHEMA_VERSION,
                    "data": context.data(),
                    "lake": lake.url().as_str(),
                    "server": server,
                    "topics": topics,
                    "streams": streams,
                    "tables": tables,
                    "unread": unread,
                });
                write_json(out, &document)
            }
            Format::Table => {
                writeln!(out, "data in {}, lake at {}", context.data().display(), lake.url())?;
                write_parts(out, format, server)?;
                in_logs(&of_log).write(out, format)?;
                for gap in of_log.iter().flat_map(BTreeMap::values).flat_map(|topic| &topic.gaps) {
                    writeln!(out, "{gap}")?;
                }
                rows(&tables, format).write(out, format)?;
                for TableStatus { half, dataset, lost, .. } in tables.iter().filter(|table| table.lost > 0) {
                    writeln!(
                        out,
                        "{half}/{dataset}: retention removed {lost} records before they were loaded"
                    )?;
                }
                for (archive, unread) in &unread {
                    writeln!(out, "the latest clean did not read, of {archive}:")?;
                    for Unread { path, why, .. } in unread.iter().filter(|unread| unread.may_hold_records) {
                        writeln!(out, "  {path}: {why}")?;
                    }
                }
                Ok(())
            }
            Format::Markdown => {
                write_parts(out, format, server)?;
                in_logs(&of_log).write(out, format)?;
                writeln!(out)?;
                rows(&tables, format).write(out, format)
            }
            // Lines say by their members what they are of. Rows of CSV cannot: they are of the tables alone.
            format => {
                if format == Format::Ndjson {
                    write_parts(out, format, server)?;
                    in_logs(&of_log).write(out, format)?;
                }
                rows(&tables, format).write(out, format)
            }
        }
    }
}

/// How a server is whose tables cannot be looked at.
fn write_server(
    out: &mut dyn Write,
    format: Format,
    context: &Context,
    server: &Value,
) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let document =
                json!({"schema_version": SCHEMA_VERSION, "data": context.data(), "server": server});
            write_json(out, &document)
        }
        Format::Csv => Ok(()),
        format => write_parts(out, format, Some(server)),
    }
}

/// The parts of the running server.
fn write_parts(out: &mut dyn Write, format: Format, server: Option<&Value>) -> Result<(), Failure> {
    let for_people = matches!(format, Format::Table | Format::Markdown);
    let Some(server) = server else {
        if format == Format::Table {
            writeln!(out, "no server is running on this data")?;
        }
        return Ok(());
    };
    if for_people {
        let text = |member: &str| server[member].as_str().unwrap_or_default().to_owned();
        writeln!(out, "server at {}: {}", text("url"), text("status"))?;
    }
    let mut rows = Rows::new(&["part", "state", "restarts", "last_error"]);
    for part in server["parts"].as_array().into_iter().flatten() {
        rows.rows.push(rows.columns.iter().map(|column| part[column.as_str()].clone()).collect());
    }
    if format == Format::Markdown {
        writeln!(out)?;
    }
    rows.write(out, format)?;
    if format == Format::Markdown {
        writeln!(out)?;
    }
    Ok(())
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
