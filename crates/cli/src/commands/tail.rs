//! `pinmill tail`: the records of a topic or a stream, as they stand in the log.
//!
//! The log is read beside its owner, which goes on writing; to follow it, it is looked at again and again.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use pinmill_broker::{EventLog, ReadLimit, StoredRecord};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::Tail;
use crate::context::Context;
use crate::error::{Failure, OrFail};
use crate::render::{Format, Rows, text_or_base64};

const READ_BYTES: usize = 4 << 20;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which log has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Topics,
    Streams,
}

/// Prints records.
pub(crate) async fn tail(context: &Context, args: &Tail) -> Result<(), Failure> {
    let (plane, name) = find(context, &args.name).await?;
    let stop = CancellationToken::new();
    if args.follow {
        crate::commands::serve::cancel_on_signal(&stop)?;
    }
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut header = true;
    loop {
        let log = open(context, plane).await?.ok_or_else(|| Failure::expected("the log is gone"))?;
        let mut found = Vec::new();
        for partition in log.describe(&name).await.or_fail()?.partitions {
            let number = partition.partition;
            if args.partition.is_some_and(|wanted| wanted != number) {
                continue;
            }
            let from = match next.get(&number) {
                Some(next) => *next,
                None => first_offset(&*log, &name, number, args).await?,
            };
            let records = read(&*log, &name, number, from).await?;
            next.insert(number, records.last().map_or(from, |record| record.offset + 1));
            found.extend(records.into_iter().map(|record| (number, record)));
        }
        // Order is that of each partition; across them, that of arrival.
        found.sort_by_key(|(number, record)| (record.timestamp_ms, *number, record.offset));
        print(&found, args.output.format.unwrap_or(Format::Ndjson), &mut header)?;
        if !args.follow {
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn open(context: &Context, plane: Plane) -> Result<Option<Arc<dyn EventLog>>, Failure> {
    Ok(match plane {
        Plane::Topics => context.log_to_read()?.map(|log| log as Arc<dyn EventLog>),
        Plane::Streams => context.streams_to_read().await?.map(|log| Arc::new(log) as Arc<dyn EventLog>),
    })
}

/// The log that has a topic or a stream of this name.
async fn find(context: &Context, name: &str) -> Result<(Plane, String), Failure> {
    let (only, name) = match name.split_once('/') {
        Some(("topics", name)) => (Some(Plane::Topics), name),
        Some(("streams", name)) => (Some(Plane::Streams), name),
        _ => (None, name),
    };
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for plane in [Plane::Topics, Plane::Streams] {
        if only.is_some_and(|only| only != plane) {
            continue;
        }
        let Some(log) = open(context, plane).await? else { continue };
        let names = log.topics().await.or_fail()?;
        if names.iter().any(|known| known == name) {
            found.push(plane);
        }
        known.extend(names);
    }
    match found.as_slice() {
        [plane] => Ok((*plane, name.to_owned())),
        [] => {
            let hint = match pinmill_pipeline::nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "nothing was posted to this data folder yet".to_owned(),
                None => format!("there are {}", known.join(", ")),
            };
            Err(Failure::expected(format!("there is no topic or stream `{name}`")).hint(hint))
        }
        _ => Err(Failure::internal(format!("`{name}` is a topic and a stream"))
            .hint(format!("say topics/{name} or streams/{name}"))),
    }
}

async fn first_offset(log: &dyn EventLog, name: &str, partition: u32, args: &Tail) -> Result<u64, Failure> {
    let held = log.offsets(name, partition).await.or_fail()?;
    let wanted = match args.from.as_deref() {
        None => held.end.saturating_sub(args.records),
        Some("beginning") => held.beginning,
        Some(text) => text.parse().map_err(|_| {
            Failure::internal(format!("--from {text} is no offset")).hint("a whole number, or `beginning`")
        })?,
    };
    Ok(wanted.clamp(held.beginning, held.end))
}

async fn read(
    log: &dyn EventLog,
    name: &str,
    partition: u32,
    from: u64,
) -> Result<Vec<StoredRecord>, Failure> {
    let end = log.offsets(name, partition).await.or_fail()?.end;
    let limit = ReadLimit { max_bytes: READ_BYTES, max_wait: Duration::ZERO };
    let (mut all, mut next) = (Vec::new(), from);
    while next < end {
        let records = log.read(name, partition, next, limit).await.or_fail()?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        all.extend(records);
    }
    Ok(all)
}

fn print(found: &[(u32, StoredRecord)], format: Format, header: &mut bool) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let mut rows = Rows::new(&["partition", "offset", "time", "key", "value", "value_base64"]);
    for (partition, record) in found {
        let time = DateTime::from_timestamp_millis(record.timestamp_ms);
        let [value, base64] = text_or_base64(record.value.as_deref());
        rows.rows.push(vec![
            json!(partition),
            json!(record.offset),
            json!(time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())),
            json!(record.key.as_deref().map(String::from_utf8_lossy)),
            value,
            base64,
        ]);
    }
    // Followers get one header, and nothing where nothing came.
    if !rows.rows.is_empty() || *header {
        rows.write(&mut stdout, format)?;
        *header = false;
    }
    stdout.flush()?;
    Ok(())
}
