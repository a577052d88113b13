//! `pinmill audit`.

use std::io::Write;

use pinmill_broker::EventLog;
use pinmill_flow::audit::Stages;
use pinmill_flow::{AuditOptions, AuditReport, Logs};
use serde_json::{Value, json};

use crate::args::Audit;
use crate::commands::clean;
use crate::context::Context;
use crate::error::{Failure, UNBALANCED};
use crate::render::{Format, Rows, SCHEMA_VERSION, words_beside_rows, write_json};

/// Compares what every stage holds.
pub(crate) async fn audit(context: &Context, args: &Audit) -> Result<(), Failure> {
    let lake = context.lake_there()?;
    let mut options = AuditOptions {
        deep: args.deep,
        allow_pending: args.allow_pending,
        same_rows: args.same_rows,
        ..AuditOptions::default()
    };
    if let Some((archive, prefix)) = clean::archive(args.archive.as_deref()).await? {
        options = AuditOptions { archive: Some(archive), prefix, ..options };
    }
    let (pipeline, engine) = (context.pipeline()?, context.engine()?);
    let stages = Stages::now(&pipeline, &*engine, &lake, &options).await?;
    // Not before: a view does not see what a server takes after it was opened.
    let (topics, streams) = (context.log_to_read()?, context.streams_to_read().await?);
    let logs = Logs {
        topics: topics.as_deref().map(|log| log as &dyn EventLog),
        streams: streams.as_ref().map(|log| log as &dyn EventLog),
    };
    let report = stages.against(&pipeline, logs, &lake, &options).await?;
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => write_json(&mut stdout, &to_json(&report))?,
        format => write_report(&mut stdout, &report, format)?,
    }
    if report.balanced { Ok(()) } else { Err(Failure::told(UNBALANCED)) }
}

/// The report as a document.
pub(crate) fn to_json(report: &AuditReport) -> Value {
    let mut document = json!(report);
    document["schema_version"] = json!(SCHEMA_VERSION);
    document
}

/// The report for people.
pub(crate) fn write_report(out: &mut dyn Write, report: &AuditReport, format: Format) -> Result<(), Failure> {
    stages(report).write(out, format)?;
    words_beside_rows(out, format, |out| write_words(out, report))
}

fn write_words(out: &mut dyn Write, report: &AuditReport) -> Result<(), Failure> {
    for problem in &report.problems {
        writeln!(out, "  {problem}")?;
    }
    for gap in &report.gaps {
        writeln!(out, "  {gap}")?;
    }
    for range in &report.counted_only {
        writeln!(out, "  {range}: counted only, as 0.1 noted no hash of the rows that it committed")?;
    }
    for halves in &report.halves {
        let (batch, stream) = (halves.batch.rows, halves.stream.rows);
        match halves.same {
            true => writeln!(out, "{}: both halves hold the same {batch} rows", halves.dataset)?,
            false => writeln!(
                out,
                "{}: the halves hold different rows: {batch} in batch, {stream} in stream",
                halves.dataset
            )?,
        }
    }
    writeln!(out, "audit: {}", verdict(report))?;
    Ok(())
}

/// Topics, then streams, with what each stage holds of them. Streams have no archive.
fn stages(report: &AuditReport) -> Rows {
    let columns = ["half", "name", "dataset", "accepted", "archived", "clean", "quarantined", "pending"];
    let mut rows = Rows::new(&columns);
    for (name, topic) in &report.topics {
        rows.rows.push(vec![
            json!("batch"),
            json!(name),
            json!(topic.dataset),
            json!(topic.accepted),
            json!(topic.archived),
            json!(topic.clean),
            json!(topic.quarantined),
            json!(topic.pending_archive + topic.pending_clean),
        ]);
    }
    for (name, stream) in &report.streams {
        rows.rows.push(vec![
            json!("stream"),
            json!(name),
            json!(stream.dataset),
            json!(stream.accepted),
            Value::Null,
            json!(stream.clean),
            json!(stream.quarantined),
            json!(stream.pending),
        ]);
    }
    rows
}

/// One line.
pub(crate) fn verdict(report: &AuditReport) -> String {
    let but = strays(report);
    match (report.balanced, report.problems.len(), report.pending()) {
        (true, _, 0) if report.streams.is_empty() => {
            format!("balanced: accepted = archived = clean + quarantined{but}")
        }
        (true, _, 0) => {
            format!("balanced in both halves: accepted = archived, accepted = clean + quarantined{but}")
        }
        (true, _, pending) => format!("balanced so far, {pending} records pending{but}"),
        (false, 0, pending) => format!("not balanced: {pending} records are not archived or cleaned yet"),
        (false, problems, _) => format!("NOT BALANCED: {problems} problems"),
    }
}

/// What the equations leave out: records of topics and streams that no dataset takes.
fn strays(report: &AuditReport) -> String {
    const NAMED: usize = 5;
    let topics = report.topics.iter().map(|(name, topic)| (name, &topic.dataset, topic.accepted));
    let streams = report.streams.iter().map(|(name, stream)| (name, &stream.dataset, stream.accepted));
    let strays = topics.chain(streams).filter(|(_, dataset, records)| dataset.is_none() && *records > 0);
    let (names, records): (Vec<&str>, Vec<u64>) =
        strays.map(|(name, _, records)| (name.as_str(), records)).unzip();
    if names.is_empty() {
        return String::new();
    }
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = names.get(..NAMED).unwrap_or(&names).join(", ");
    format!(", but for {} records that no dataset takes: {shown}{more}", records.iter().sum::<u64>())
}
