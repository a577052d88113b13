//! `pinmill status`: where everything stands, from the audit's numbers and the log's readers.

use std::io::Write;

use pinmill_broker::EventLog;
use pinmill_flow::AuditOptions;
use serde_json::json;

use crate::args::Status;
use crate::commands::audit;
use crate::context::Context;
use crate::error::Failure;
use crate::render::{Format, write_json};

/// Shows every topic's records by stage. What is pending is lag, and no error.
pub(crate) async fn status(context: &Context, args: &Status) -> Result<(), Failure> {
    let log = context.log_to_read()?;
    let log = log.as_deref().map(|log| log as &dyn EventLog);
    let options = AuditOptions { allow_pending: true, ..AuditOptions::default() };
    let report =
        pinmill_flow::audit(&context.pipeline()?, &*context.engine()?, log, &context.lake()?, &options)
            .await?;
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => {
            let mut document = audit::to_json(&report);
            document["data"] = json!(context.data());
            document["log"] = json!(log.is_some());
            write_json(&mut stdout, &document)
        }
        format => {
            if format == Format::Table {
                writeln!(stdout, "data in {}, lake at {}", context.data().display(), context.lake()?.url())?;
            }
            audit::write_report(&mut stdout, &report, format)
        }
    }
}
