//! One shard or partition that feeds a dataset: reading it, and when it may be read.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pinmill_broker::{EventLog, PartitionDescription, ReadLimit, StoredRecord};
use pinmill_lake::archive::{Chunk, RecordAt};
use pinmill_lake::table::LostRange;
use pinmill_lake::{RangeSum, TopicPartition};
use tokio::time::Instant;

use super::STREAM_READER;
use crate::crash::crash_point;
use crate::shrunk::behind_gap;
use crate::{Error, Result};

/// Records that are read from one partition before the next one has its turn, however small they are.
const MAX_RECORDS: usize = 32_768;

/// A partition that feeds a dataset.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) place: TopicPartition,
    pub(super) generation: String,
    /// Its number with the loader.
    pub(super) index: usize,
    pub(super) parents: Vec<u32>,
    pub(super) closed_at: Option<u64>,
    /// The offset to be read next; ahead of the table while a step is gathered.
    pub(super) next: u64,
    /// What lies before this offset was not in the log any more when it was to be read, or is in the table.
    pub(super) floor: u64,
    /// See [`super::StreamConfig::note_every`].
    note_every: Duration,
    /// What retention took before it was read, and that no step has been told of yet.
    pub(super) lost: Vec<LostRange>,
    noted: Noted,
}

/// The reader's position in the log: what it is, and when it was put there.
#[derive(Debug)]
struct Noted {
    next: u64,
    at: Instant,
}

/// What one look at a partition found.
pub(super) enum Found {
    /// Records, and whether there are probably more right away.
    Records(Chunk, bool),
    /// Nothing new.
    Nothing,
    /// The partition is gone, with its topic, which may have been made anew.
    Gone,
}

impl Feed {
    /// Goes on where the table ends. From now on retention keeps what the table does not cover.
    pub(super) async fn begin(
        log: &Arc<dyn EventLog>,
        (place, generation): (TopicPartition, &str),
        partition: &PartitionDescription,
        (index, next): (usize, u64),
        note_every: Duration,
    ) -> Result<Self> {
        let (topic, number) = (place.topic.as_str(), place.partition);
        let failed = |source| Error::Log { topic: topic.to_owned(), partition: number, source };
        // Where the lake could not be read when the log was opened (see the module `shrunk`), it is made up for here.
        if let Some(lost) = log.skip_to(topic, generation, number, next).await.map_err(failed)? {
            let (first, last) = (lost.beginning, lost.end - 1);
            tracing::warn!(
                topic,
                partition = number,
                first,
                last,
                "the log lost records that the table covers"
            );
        }
        let held = log.offsets(topic, number).await.map_err(failed)?;
        let floor = next.max(held.beginning);
        let noted = register(&**log, topic, number, floor).await.map_err(failed)?;
        let mut feed = Self {
            log: Arc::clone(log),
            place,
            generation: generation.to_owned(),
            index,
            parents: partition.parents.clone(),
            closed_at: partition.closed_at,
            next,
            floor,
            note_every,
            lost: Vec::new(),
            noted: Noted { next: noted, at: Instant::now() },
        };
        feed.skip_to(held.beginning);
        Ok(feed)
    }

    /// Passes over what retention has removed.
    fn skip_to(&mut self, beginning: u64) {
        if self.next >= beginning {
            return;
        }
        let (topic, partition) = (self.place.topic.as_str(), self.place.partition);
        let (first, last) = (self.next, beginning - 1);
        if first == 0 {
            let what = "the log no longer holds a topic's first records: its table begins after them";
            tracing::warn!(topic, partition, first, last, "{what}");
        } else {
            let what = "records were removed from the log before they were in the table";
            tracing::error!(topic, partition, first, last, "{what}");
            self.lost.push(LostRange { first, last });
        }
        self.next = beginning;
        self.floor = beginning;
    }

    /// Passes over offsets before `end` that the log has no records of: it lost them, and has gone on behind them.
    async fn pass_gap(&mut self, end: u64) -> Result<()> {
        if self.next >= end {
            return Ok(());
        }
        let behind = behind_gap(&*self.log, &self.place.topic, self.place.partition, self.next).await;
        if let Some(end) = behind.map_err(|source| self.failed(source))? {
            let (topic, partition, first, last) =
                (&self.place.topic, self.place.partition, self.next, end - 1);
            tracing::error!(
                topic,
                partition,
                first,
                last,
                "the log lost records before they were in the table"
            );
            self.lost.push(LostRange { first, last });
            (self.next, self.floor) = (end, end);
        }
        Ok(())
    }

    /// Reads once, without waiting.
    pub(super) async fn read(&mut self, fetch_bytes: usize) -> Result<Found> {
        if self.closed_at.is_some_and(|end| self.next >= end) {
            return Ok(Found::Nothing);
        }
        let limit = ReadLimit { max_bytes: fetch_bytes, max_wait: Duration::ZERO };
        let held = match self.log.offsets(&self.place.topic, self.place.partition).await {
            Ok(held) => held,
            Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {
                return Ok(Found::Gone);
            }
            Err(source) => return Err(self.failed(source)),
        };
        let read = self.log.read(&self.place.topic, self.place.partition, self.next, limit).await;
        let quiet = read.as_ref().is_ok_and(Vec::is_empty);
        // Asked after the read: what is of this generation now was so then.
        if !quiet && !self.is_there().await? {
            return Ok(Found::Gone);
        }
        let mut records = match read {
            Ok(records) => records,
            Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {
                return Ok(Found::Gone);
            }
            Err(pinmill_broker::Error::OffsetOutOfRange { beginning, .. }) if beginning > self.next => {
                self.skip_to(beginning);
                return Ok(Found::Nothing);
            }
            Err(source) => return Err(self.failed(source)),
        };
        // Many small records may all be rejected, each with a reason: the others are read next time.
        let many = records.len() > MAX_RECORDS;
        records.truncate(MAX_RECORDS);
        let Some(last) = records.last() else {
            self.pass_gap(held.end).await?;
            return Ok(Found::Nothing);
        };
        self.next = last.offset + 1;
        let chunk = chunk(&records);
        let more = many || chunk.data.len() >= fetch_bytes / 2;
        Ok(Found::Records(chunk, more))
    }

    /// False where the topic was deleted, also where it was made anew: its offsets mean other records then.
    async fn is_there(&self) -> Result<bool> {
        match self.log.generation(&self.place.topic).await {
            Ok(generation) => Ok(generation == self.generation),
            Err(pinmill_broker::Error::UnknownTopic(_)) => Ok(false),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: pinmill_broker::Error) -> Error {
        Error::Log { topic: self.place.topic.clone(), partition: self.place.partition, source }
    }

    /// Tells the log how far the table has come, now and then, or at once where `now` says so.
    pub(super) async fn note(&mut self, next: u64, now: bool) -> Result<()> {
        let next = next.max(self.floor);
        if next <= self.noted.next || (!now && self.noted.at.elapsed() < self.note_every) {
            return Ok(());
        }
        crash_point("flow::stream::before_position")?;
        let TopicPartition { topic, partition, .. } = &self.place;
        match self.log.commit_position(STREAM_READER, topic, *partition, next).await {
            Ok(()) => {}
            // Deleted meanwhile: nobody needs its position.
            Err(pinmill_broker::Error::UnknownTopic(_) | pinmill_broker::Error::UnknownPartition { .. }) => {}
            Err(source) => return Err(self.failed(source)),
        }
        crash_point("flow::stream::after_position")?;
        self.noted = Noted { next, at: Instant::now() };
        Ok(())
    }
}

/// Where the log says that the reader goes on in a partition; `from` where it did not know the reader there. From now on
/// retention keeps what lies behind.
pub(super) async fn register(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    from: u64,
) -> pinmill_broker::Result<u64> {
    if let Some(noted) = log.position(STREAM_READER, topic, partition).await? {
        return Ok(noted);
    }
    log.commit_position(STREAM_READER, topic, partition, from).await?;
    Ok(from)
}

/// Whether a partition may be read: the table covers each of its parents, as far as they are known, to the end.
/// Gives for each parent the offset up to which the table covers it, and where it ends, if it does.
pub(super) fn is_ready(parents: impl IntoIterator<Item = (u64, Option<u64>)>) -> bool {
    parents.into_iter().all(|(covered, closed_at)| closed_at.is_some_and(|end| covered >= end))
}

/// Records as the loader takes them: one piece of memory, and where each lies in it.
fn chunk(records: &[StoredRecord]) -> Chunk {
    let bytes = records.iter().map(|record| record.value.as_ref().map_or(0, Bytes::len)).sum();
    let mut data = BytesMut::with_capacity(bytes);
    let mut sum = RangeSum::default();
    let places = records.iter().map(|record| {
        let start = data.len() as u32;
        data.extend_from_slice(record.value.as_deref().unwrap_or_default());
        sum.add(record.offset, record.value.as_deref());
        RecordAt {
            offset: record.offset,
            ingested_at_us: record.timestamp_ms.saturating_mul(1000),
            start,
            end: data.len() as u32,
            tombstone: record.value.is_none(),
        }
    });
    let places = places.collect();
    Chunk { data: data.freeze(), records: places, sum, ..Chunk::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_waits_until_the_table_covers_all_of_its_parents() {
        assert!(is_ready([]));
        assert!(!is_ready([(5, None)]), "an open parent may get more records");
        assert!(!is_ready([(5, Some(6))]));
        assert!(is_ready([(6, Some(6))]));
        assert!(is_ready([(0, Some(0))]), "a parent that never had a record");
        assert!(!is_ready([(6, Some(6)), (2, Some(9))]), "of two that were merged, both");
    }

    #[test]
    fn a_chunk_keeps_bytes_offsets_and_tombstones() {
        let record = |offset, value: Option<&'static str>| StoredRecord {
            offset,
            timestamp_ms: 1_700_000_000_123,
            key: None,
            value: value.map(Bytes::from),
            headers: Vec::new(),
        };
        let chunk =
            chunk(&[record(4, Some("{}")), record(5, None), record(7, Some("")), record(9, Some("[1]"))]);
        let values: Vec<_> = chunk.records.iter().map(|at| (at.offset, chunk.value(at))).collect();
        assert_eq!(values, [(4, Some(&b"{}"[..])), (5, None), (7, Some(&b""[..])), (9, Some(&b"[1]"[..]))]);
        assert_eq!(chunk.records[0].ingested_at_us, 1_700_000_000_123_000);
        assert_eq!((chunk.sum.first, chunk.sum.last, chunk.sum.count), (4, 9, 4));
    }
}
