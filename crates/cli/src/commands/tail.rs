//! `pinmill tail`: the records of a topic or a stream, as they stand in the log.
//!
//! The log is read beside its owner, which goes on writing. To follow it, the topic is looked at again and again; only what
//! is new is read.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use pinmill_broker::{
    EmbeddedLog, EventLog, OffsetRange, PartitionDescription, Plane, ReadLimit, StoredRecord,
};
use pinmill_kinesis::ShardsLog;
use pinmill_kinesis::catalog::TOPIC as CATALOG;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::args::Tail;
use crate::context::Context;
use crate::error::{Failure, OrFail};
use crate::render::{Format, Rows, text_or_base64};
use crate::signals::cancel_on_signal;

const READ_BYTES: usize = 4 << 20;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Prints records.
pub(crate) async fn tail(context: &Context, args: &Tail) -> Result<(), Failure> {
    context.need_data()?;
    let (mut viewed, name) = find(context, &args.name).await?;
    let stop = CancellationToken::new();
    if args.follow {
        cancel_on_signal(&stop)?;
    }
    let mut merge = Merge::default();
    let mut printer = Printer::new(args.format);
    loop {
        let log = &*viewed.log;
        let partitions = log.describe(&name).await.or_fail()?.partitions;
        check_partition(args, &partitions)?;
        for partition in partitions {
            let number = partition.partition;
            if args.partition.is_none_or(|wanted| wanted == number) {
                let held = log.offsets(&name, number).await.or_fail()?;
                merge.look(number, held.end, || first_offset(held, args))?;
            }
        }
        loop {
            let records = merge.next(log, &name).await?;
            if records.is_empty() {
                break;
            }
            printer.take(&records)?;
        }
        printer.end_of_look()?;
        if !args.follow {
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        viewed.look_again(&name).await?;
    }
}

/// A log that is looked at beside its owner.
struct Viewed {
    plane: Plane,
    below: Arc<EmbeddedLog>,
    /// The topics or the streams in it.
    log: Arc<dyn EventLog>,
}

impl Viewed {
    async fn open(context: &Context, plane: Plane) -> Result<Option<Self>, Failure> {
        let dir = match plane {
            Plane::Topics => context.log_dir(),
            Plane::Streams => context.streams_dir(),
        };
        let Some(below) = context.view(&dir)? else { return Ok(None) };
        let mut viewed = Self { plane, log: Arc::<EmbeddedLog>::clone(&below), below };
        viewed.read_catalog().await?;
        Ok(Some(viewed))
    }

    /// The log's own records say which streams and shards exist.
    async fn read_catalog(&mut self) -> Result<(), Failure> {
        if self.plane == Plane::Streams {
            let below = Arc::<EmbeddedLog>::clone(&self.below);
            self.log = Arc::new(ShardsLog::view(below).await.or_fail()?);
        }
        Ok(())
    }

    /// Takes in what the owner has added since: shards before the topic, which has their partitions first.
    async fn look_again(&mut self, name: &str) -> Result<(), Failure> {
        if self.plane == Plane::Streams && self.refresh(CATALOG).await? {
            self.read_catalog().await?;
        }
        self.refresh(name).await.map(drop)
    }

    async fn refresh(&self, topic: &str) -> Result<bool, Failure> {
        let (log, topic) = (Arc::clone(self.below.log()), topic.to_owned());
        tokio::task::spawn_blocking(move || log.refresh(&topic)).await.or_fail()?.or_fail()
    }
}

/// The log that has a topic or a stream of this name.
async fn find(context: &Context, name: &str) -> Result<(Viewed, String), Failure> {
    let in_plane = name.split_once('/').and_then(|(plane, name)| Some((Some(plane.parse().ok()?), name)));
    let (only, name): (Option<Plane>, &str) = in_plane.unwrap_or((None, name));
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for plane in Plane::ALL {
        if only.is_some_and(|only| only != plane) {
            continue;
        }
        let Some(viewed) = Viewed::open(context, plane).await? else { continue };
        let names = viewed.log.topics().await.or_fail()?;
        if names.iter().any(|known| known == name) {
            found.push(viewed);
        }
        known.extend(names);
    }
    match (found.pop(), found.is_empty()) {
        (Some(viewed), true) => Ok((viewed, name.to_owned())),
        (None, _) => {
            let hint = match pinmill_pipeline::nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => {
                    format!("nothing was posted to the data folder {} yet", context.data().display())
                }
                None => format!("there are {}", known.join(", ")),
            };
            Err(Failure::expected(format!("there is no topic or stream `{name}`")).hint(hint))
        }
        _ => Err(Failure::internal(format!("`{name}` is a topic and a stream"))
            .hint(format!("say topics/{name} or streams/{name}"))),
    }
}

fn check_partition(args: &Tail, partitions: &[PartitionDescription]) -> Result<(), Failure> {
    let is_there = |wanted: u32| partitions.iter().any(|partition| partition.partition == wanted);
    match args.partition {
        Some(wanted) if !is_there(wanted) => {
            Err(Failure::expected(format!("`{}` has no partition {wanted}", args.name))
                .hint(format!("it has {}, numbered from 0", partitions.len())))
        }
        _ => Ok(()),
    }
}

fn first_offset(held: OffsetRange, args: &Tail) -> Result<u64, Failure> {
    let wanted = match args.from.as_deref() {
        None => held.end.saturating_sub(args.records),
        Some("beginning") => held.beginning,
        Some(text) => text.parse().map_err(|_| {
            Failure::internal(format!("--from {text} is no offset")).hint("a whole number, or `beginning`")
        })?,
    };
    Ok(wanted.clamp(held.beginning, held.end))
}

/// The partitions' records in one order: that of each partition, and across them that of arrival. It holds one read of
/// each partition at the most, however long the topic is.
#[derive(Debug, Default)]
struct Merge {
    heads: BTreeMap<u32, Head>,
}

/// What is to come of a partition.
#[derive(Debug)]
struct Head {
    /// The offset to be read next.
    next: u64,
    /// Where this look ends.
    end: u64,
    read: VecDeque<StoredRecord>,
}

impl Head {
    /// Its first record is not known, but there is one.
    fn is_unread(&self) -> bool {
        self.read.is_empty() && self.next < self.end
    }
}

impl Merge {
    /// Reads a partition up to `end`: from where it stopped, or from `first` where it is new.
    fn look(
        &mut self,
        partition: u32,
        end: u64,
        first: impl FnOnce() -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        match self.heads.entry(partition) {
            Entry::Occupied(mut head) => head.get_mut().end = end,
            Entry::Vacant(place) => {
                place.insert(Head { next: first()?, end, read: VecDeque::new() });
            }
        }
        Ok(())
    }

    /// The next records with their partitions; none at the end of the look.
    async fn next(&mut self, log: &dyn EventLog, name: &str) -> Result<Vec<(u32, StoredRecord)>, Failure> {
        let limit = ReadLimit { max_bytes: READ_BYTES, max_wait: Duration::ZERO };
        for (partition, head) in self.heads.iter_mut().filter(|(_, head)| head.is_unread()) {
            head.read = log.read(name, *partition, head.next, limit).await.or_fail()?.into();
            // Where a repair left a gap before the end, nothing more comes.
            head.next = head.read.back().map_or(head.end, |last| last.offset + 1);
        }
        let mut records = Vec::new();
        while !self.heads.values().any(Head::is_unread) {
            let first = |(partition, head): (&u32, &Head)| {
                head.read.front().map(|record| (record.timestamp_ms, *partition))
            };
            let Some((_, partition)) = self.heads.iter().filter_map(first).min() else { break };
            let record = self.heads.get_mut(&partition).and_then(|head| head.read.pop_front());
            records.extend(record.map(|record| (partition, record)));
        }
        Ok(records)
    }
}

/// Writes records as they come, where the format has no end, or else what one look found as one document.
#[derive(Debug)]
struct Printer {
    format: Format,
    rows: Rows,
    has_header: bool,
}

impl Printer {
    fn new(format: Format) -> Self {
        let rows = Rows::new(&["partition", "offset", "time", "key", "value", "value_base64"]);
        Self { format, rows, has_header: false }
    }

    fn take(&mut self, records: &[(u32, StoredRecord)]) -> Result<(), Failure> {
        self.rows.rows.extend(records.iter().map(row));
        match self.format {
            Format::Ndjson | Format::Csv => self.write(),
            Format::Table | Format::Json | Format::Markdown => Ok(()),
        }
    }

    /// Followers get one header, and nothing where nothing came.
    fn end_of_look(&mut self) -> Result<(), Failure> {
        if self.rows.rows.is_empty() && self.has_header { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        if self.format == Format::Csv && self.has_header {
            self.rows.write_csv_rows(&mut stdout)?;
        } else {
            self.rows.write(&mut stdout, self.format)?;
        }
        stdout.flush()?;
        self.has_header = true;
        self.rows.rows.clear();
        Ok(())
    }
}

fn row((partition, record): &(u32, StoredRecord)) -> Vec<Value> {
    let time = DateTime::from_timestamp_millis(record.timestamp_ms);
    let [value, base64] = text_or_base64(record.value.as_deref());
    vec![
        json!(partition),
        json!(record.offset),
        json!(time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())),
        json!(record.key.as_deref().map(String::from_utf8_lossy)),
        value,
        base64,
    ]
}

#[cfg(test)]
mod tests {
    use pinmill_broker::{MemoryLog, Record};

    use super::*;

    async fn put(log: &MemoryLog, partition: u32, bytes: usize, times: impl IntoIterator<Item = i64>) {
        let record = |time| Record {
            value: Some(vec![b'x'; bytes].into()),
            timestamp_ms: Some(time),
            ..Record::default()
        };
        log.append("talk", partition, times.into_iter().map(record).collect()).await.unwrap();
    }

    async fn rounds(log: &MemoryLog, merge: &mut Merge) -> Vec<Vec<(u32, u64, i64)>> {
        for partition in [0, 1] {
            let held = log.offsets("talk", partition).await.unwrap();
            merge.look(partition, held.end, || Ok(held.beginning)).unwrap();
        }
        let mut rounds = Vec::new();
        loop {
            let records = merge.next(log, "talk").await.unwrap();
            if records.is_empty() {
                return rounds;
            }
            let place =
                |(partition, record): &(u32, StoredRecord)| (*partition, record.offset, record.timestamp_ms);
            rounds.push(records.iter().map(place).collect());
        }
    }

    #[tokio::test]
    async fn records_of_all_partitions_come_in_the_order_of_their_arrival() {
        let log = MemoryLog::default();
        log.create_topic("talk", 2).await.unwrap();
        put(&log, 0, 1, [10, 30, 30]).await;
        put(&log, 1, 1, [20, 30, 40]).await;
        let mut merge = Merge::default();
        let seen = rounds(&log, &mut merge).await.concat();
        assert_eq!(seen, [(0, 0, 10), (1, 0, 20), (0, 1, 30), (0, 2, 30), (1, 1, 30), (1, 2, 40)]);
        assert!(rounds(&log, &mut merge).await.is_empty(), "nothing twice");
        put(&log, 1, 1, [50]).await;
        assert_eq!(rounds(&log, &mut merge).await.concat(), [(1, 3, 50)]);
    }

    #[tokio::test]
    async fn a_long_topic_is_read_piece_by_piece_and_stays_in_order() {
        let log = MemoryLog::default();
        log.create_topic("talk", 2).await.unwrap();
        put(&log, 0, READ_BYTES / 2, 0..7).await;
        put(&log, 1, READ_BYTES / 2, [3]).await;
        let rounds = rounds(&log, &mut Merge::default()).await;
        assert!(rounds.len() > 2, "one read holds two or three of them: {rounds:?}");
        let times: Vec<_> = rounds.concat().into_iter().map(|(_, _, time)| time).collect();
        assert_eq!(times, [0, 1, 2, 3, 3, 4, 5, 6]);
    }
}
