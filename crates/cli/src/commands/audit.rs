//! `pinmill audit`.

use std::io::Write;

use pinmill_broker::EventLog;
use pinmill_flow::{AuditOptions, AuditReport};
use pinmill_lake::Lake;
use serde_json::{Value, json};

use crate::args::Audit;
use crate::context::Context;
use crate::error::{Failure, UNBALANCED};
use crate::render::{Format, Rows, SCHEMA_VERSION, write_json};

/// Compares what every stage holds.
pub(crate) async fn audit(context: &Context, args: &Audit) -> Result<(), Failure> {
    let options = AuditOptions {
        deep: args.deep,
        allow_pending: args.allow_pending,
        archive: args.archive.as_deref().map(Lake::open).transpose()?,
        ..AuditOptions::default()
    };
    let log = context.log_to_read()?;
    let log = log.as_deref().map(|log| log as &dyn EventLog);
    let report =
        pinmill_flow::audit(&context.pipeline()?, &*context.engine()?, log, &context.lake()?, &options)
            .await?;
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
    let mut rows =
        Rows::new(&["topic", "dataset", "accepted", "archived", "clean", "quarantined", "pending"]);
    for (name, topic) in &report.topics {
        rows.rows.push(vec![
            json!(name),
            json!(topic.dataset),
            json!(topic.accepted),
            json!(topic.archived),
            json!(topic.clean),
            json!(topic.quarantined),
            json!(topic.pending_archive + topic.pending_clean),
        ]);
    }
    rows.write(out, format)?;
    if format == Format::Table {
        for problem in &report.problems {
            writeln!(out, "  {problem}")?;
        }
        writeln!(out, "audit: {}", verdict(report))?;
    }
    Ok(())
}

/// One line.
pub(crate) fn verdict(report: &AuditReport) -> String {
    let pending = report.pending_archive + report.pending_clean;
    match (report.balanced, report.problems.len(), pending) {
        (true, _, 0) => "balanced: accepted = archived = clean + quarantined".to_owned(),
        (true, _, pending) => format!("balanced so far, {pending} records pending"),
        (false, 0, pending) => format!("not balanced: {pending} records are not archived or cleaned yet"),
        (false, problems, _) => format!("NOT BALANCED: {problems} problems"),
    }
}
