//! `pinmill tables history|freshness|compact|vacuum`.

use std::time::Duration;

use chrono::DateTime;
use pinmill_flow::stream::{freshness, tidy};
use pinmill_flow::{Error, Half};
use pinmill_lake::Lake;
use pinmill_lake::table::{CompactPolicy, HistoryEntry, Table};
use pinmill_pipeline::Pipeline;
use serde_json::json;

use crate::args::TablesCommand;
use crate::context::Context;
use crate::error::Failure;
use crate::render::Rows;

/// Looks after tables.
pub(crate) async fn tables(context: &Context, command: TablesCommand) -> Result<(), Failure> {
    let (pipeline, lake) = (context.pipeline()?, context.lake_there()?);
    let (rows, output) = match command {
        TablesCommand::History { table, limit, output } => {
            let table = open(&pipeline, &lake, &table).await?;
            (history(&table.history(limit).await?), output)
        }
        TablesCommand::Freshness { since, output } => {
            let since = ago("--since", &since)?;
            let engine = context.engine()?;
            let since_ms = chrono::Utc::now().timestamp_millis() - since.as_millis() as i64;
            let found = freshness(&pipeline, &*engine, &lake, since_ms).await?;
            let mut rows = Rows::new(&["rows", "p50_seconds", "p99_seconds", "max_seconds"]);
            rows.rows.extend(found.map(|found| {
                vec![
                    json!(found.rows),
                    json!(found.p50_seconds),
                    json!(found.p99_seconds),
                    json!(found.max_seconds),
                ]
            }));
            (rows, output)
        }
        TablesCommand::Compact { tables, output } => {
            let mut rows = Rows::new(&["table", "files_before", "files_after", "commits", "bytes_written"]);
            for name in chosen(&pipeline, &lake, tables, false).await? {
                let before = open(&pipeline, &lake, &name).await?.files()?.len();
                let done = tidy::tidy(&lake, &name, &CompactPolicy::default().thorough(), None).await?;
                let after = open(&pipeline, &lake, &name).await?.files()?.len();
                rows.rows.push(vec![
                    json!(name),
                    json!(before),
                    json!(after),
                    json!(done.commits),
                    json!(done.bytes),
                ]);
            }
            (rows, output)
        }
        TablesCommand::Vacuum { tables, older_than, dry_run, output } => {
            let retention = humantime::parse_duration(&older_than).map_err(|error| {
                Failure::internal(format!("--older-than {older_than}: {error}"))
                    .hint("a time such as 7d or 12h")
            })?;
            let mut rows = Rows::new(&["table", if dry_run { "would_remove" } else { "removed" }]);
            for name in chosen(&pipeline, &lake, tables, true).await? {
                let vacuumed = open(&pipeline, &lake, &name).await?.vacuum(retention, dry_run).await?;
                if dry_run {
                    rows.rows.extend(vacuumed.files.iter().map(|file| vec![json!(name), json!(file)]));
                } else {
                    rows.rows.push(vec![json!(name), json!(vacuumed.files.len())]);
                }
            }
            (rows, output)
        }
    };
    rows.write(&mut std::io::stdout().lock(), output.format.unwrap_or_default())
}

/// How long ago something was, as an option says it.
fn ago(option: &str, text: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(text).map_err(|error| {
        Failure::internal(format!("{option} {text}: {error}")).hint("a time such as 7d, 12h or 30s")
    })
}

/// All tables that a pipeline may have: those of both halves, and the answers where they are wanted too.
fn known(pipeline: &Pipeline, answers: bool) -> Vec<String> {
    let tables = Half::ALL.into_iter().flat_map(|half| {
        let names = pipeline.answers.iter().filter(move |_| answers);
        tidy::tables(pipeline, half).into_iter().chain(names.map(move |answer| half.answer(&answer.name)))
    });
    tables.collect()
}

/// The tables that were named, or all that there are.
async fn chosen(
    pipeline: &Pipeline,
    lake: &Lake,
    named: Vec<String>,
    answers: bool,
) -> Result<Vec<String>, Failure> {
    if !named.is_empty() {
        return Ok(named);
    }
    let mut there = Vec::new();
    for name in known(pipeline, answers) {
        if Table::open(lake, &name).await?.is_some() {
            there.push(name);
        }
    }
    Ok(there)
}

async fn open(pipeline: &Pipeline, lake: &Lake, name: &str) -> Result<Table, Failure> {
    match Table::open(lake, name).await? {
        Some(table) => Ok(table),
        None => {
            let known = chosen(pipeline, lake, Vec::new(), true).await?.join(", ");
            Err(Error::Unknown { kind: "table", name: name.to_owned(), known }.into())
        }
    }
}

fn history(entries: &[HistoryEntry]) -> Rows {
    let mut rows = Rows::new(&["version", "time", "operation", "rows", "added", "removed", "covers", "run"]);
    for entry in entries {
        let time = entry.timestamp_ms.and_then(DateTime::from_timestamp_millis);
        let covers: Vec<String> = entry
            .ranges
            .iter()
            .map(|range| format!("{} {}-{}", range.place, range.sum.first, range.sum.last))
            .collect();
        rows.rows.push(vec![
            json!(entry.version),
            json!(time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())),
            json!(entry.operation),
            json!(entry.rows),
            json!(entry.added),
            json!(entry.removed),
            json!(covers.join(", ")),
            json!(entry.run),
        ]);
    }
    rows
}
