//! `pinmill quarantine list|show|replay`.

use std::collections::BTreeMap;
use std::io::Write;

use pinmill_flow::quarantine::{self, Filter, QuarantinedRecord};
use pinmill_flow::{Error, Half};
use pinmill_lake::{Lake, RecordId, TopicPartition};
use pinmill_pipeline::Pipeline;
use serde_json::json;

use crate::args::{Quarantine, QuarantineCommand};
use crate::context::Context;
use crate::error::{EXPECTED, Failure};
use crate::render::{Rows, SCHEMA_VERSION, text_or_base64, write_json};

/// Lists, shows or replays.
pub(crate) async fn quarantine(context: &Context, args: Quarantine) -> Result<(), Failure> {
    let (pipeline, lake, half) = (context.pipeline()?, context.lake_there()?, args.from);
    let mut stdout = std::io::stdout().lock();
    match args.command {
        QuarantineCommand::List { dataset, records, limit, output } => {
            let filter = Filter { dataset, ..Filter::default() };
            check_dataset(&pipeline, &lake, half, &filter).await?;
            let found = quarantine::list(&pipeline, &lake, half, &filter, limit).await?;
            if found.len() == limit {
                tracing::warn!("only the oldest {limit} records are considered; --limit takes more");
            }
            let rows = if records { each(&found) } else { reasons(&found) };
            rows.write(&mut stdout, output.format.unwrap_or_default())
        }
        QuarantineCommand::Show { topic, partition, offset, lineage } => {
            let id = RecordId::new(TopicPartition::new(topic, partition).in_lineage(lineage), offset);
            let Some(record) = quarantine::show(&pipeline, &lake, half, &id).await? else {
                return Err(Failure::expected(format!("{id} is not in quarantine")));
            };
            tracing::info!("{}: {}", record.dataset, record.reason);
            stdout.write_all(record.raw.as_deref().unwrap_or_default())?;
            writeln!(stdout)?;
            Ok(())
        }
        QuarantineCommand::Replay { dataset, output } => {
            let filter = Filter { dataset, ..Filter::default() };
            check_dataset(&pipeline, &lake, half, &filter).await?;
            let report = quarantine::replay(&pipeline, &*context.engine()?, &lake, half, &filter).await?;
            if output.is_json() {
                let mut document = json!(report);
                document["schema_version"] = json!(SCHEMA_VERSION);
                write_json(&mut stdout, &document)?;
            } else {
                writeln!(stdout, "{} records moved to their tables", report.moved)?;
                for (reason, count) in &report.remaining {
                    writeln!(stdout, "{count} stay: {reason}")?;
                }
            }
            for (dataset, count) in &report.unknown {
                tracing::warn!(
                    "{count} records belong to the dataset `{dataset}`, which this pipeline does not have"
                );
            }
            if report.unknown.is_empty() { Ok(()) } else { Err(Failure::told(EXPECTED)) }
        }
    }
}

/// Fails for a dataset that neither the pipeline has nor a quarantined record.
async fn check_dataset(pipeline: &Pipeline, lake: &Lake, half: Half, filter: &Filter) -> Result<(), Failure> {
    let Some(name) = &filter.dataset else { return Ok(()) };
    let datasets: Vec<&str> = pipeline.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    if datasets.contains(&name.as_str())
        || !quarantine::list(pipeline, lake, half, filter, 1).await?.is_empty()
    {
        return Ok(());
    }
    Err(Error::Unknown { kind: "dataset", name: name.clone(), known: datasets.join(", ") }.into())
}

/// Reasons and how often each occurs, the most frequent first.
fn reasons(found: &[QuarantinedRecord]) -> Rows {
    let mut counts: BTreeMap<(&str, &str), (u64, &RecordId)> = BTreeMap::new();
    for record in found {
        counts.entry((&record.dataset, &record.reason)).or_insert((0, &record.id)).0 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let mut rows = Rows::new(&["dataset", "reason", "records", "first"]);
    for ((dataset, reason), (count, id)) in counts {
        rows.rows.push(vec![json!(dataset), json!(reason), json!(count), json!(arguments(id))]);
    }
    rows
}

/// A record as `quarantine show` takes it.
fn arguments(id: &RecordId) -> String {
    let RecordId { place: TopicPartition { topic, lineage, partition }, offset, .. } = id;
    match lineage {
        0 => format!("{topic} {partition} {offset}"),
        lineage => format!("{topic} {partition} {offset} --lineage {lineage}"),
    }
}

/// One line a record. Bytes that are no text are given as base64 instead.
fn each(found: &[QuarantinedRecord]) -> Rows {
    let mut rows =
        Rows::new(&["dataset", "topic", "lineage", "partition", "offset", "reason", "raw", "raw_base64"]);
    for record in found {
        let [raw, base64] = text_or_base64(record.raw.as_deref());
        rows.rows.push(vec![
            json!(record.dataset),
            json!(record.id.place.topic),
            json!(record.id.place.lineage),
            json!(record.id.place.partition),
            json!(record.id.offset),
            json!(record.reason),
            raw,
            base64,
        ]);
    }
    rows
}
