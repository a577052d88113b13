//! One dataset's run: its topic partitions one after the other, in steps.

use std::collections::VecDeque;

use pinmill_lake::archive::{Archive, ArchiveReader, Chunk, ReadOptions, Unread};
use pinmill_lake::table::CoveredRange;
use pinmill_lake::{RangeSum, TopicPartition};
use pinmill_pipeline::Dataset;

use super::feeds::{Feeds, is_directory};
use super::{CleanOptions, DatasetReport, PartitionReport};
use crate::lineage::Sources;
use crate::load::{Loaded, Loader, PIECE_RECORDS, Shared, Step, pieces};
use crate::{Error, Result};

/// Cleans what is new of one dataset.
pub(super) struct Run<'a> {
    from: &'a ReadFrom<'a>,
    options: &'a CleanOptions,
    loader: Loader<'a>,
    partitions: Vec<Partition>,
    report: &'a mut DatasetReport,
}

/// What there is to be read, and where.
pub(super) struct ReadFrom<'a> {
    pub(super) archive: &'a Archive,
    pub(super) sources: &'a Sources<'a>,
    pub(super) feeds: &'a Feeds,
}

/// One partition and its reader, once it is its turn.
struct Partition {
    /// As the archive has it; in the table the lineage may be another one.
    place: TopicPartition,
    reader: Option<ArchiveReader>,
    /// What was read and waits for its step.
    pending: VecDeque<Chunk>,
    /// The object that holds this offset has been read to its end, and holds what its manifest says up to there.
    checked: Option<u64>,
    /// An object that begins here cannot be read, so that nothing from there on is.
    until: Option<u64>,
}

impl Partition {
    fn new(place: TopicPartition) -> Self {
        Self { place, reader: None, pending: VecDeque::new(), checked: None, until: None }
    }

    /// Forgets what was read and not committed.
    fn begin_again(&mut self) {
        self.reader = None;
        self.pending.clear();
    }
}

/// How the reading of a step ended.
enum Read {
    /// The step is full, or nothing is left.
    Done,
    /// Records were given of an object that cannot be read to its end: the step is to be read again without it.
    Again,
}

impl<'a> Run<'a> {
    pub(super) async fn new(
        shared: &'a Shared<'a>,
        from: &'a ReadFrom<'a>,
        options: &'a CleanOptions,
        dataset: &'a Dataset,
        report: &'a mut DatasetReport,
    ) -> Result<Self> {
        let loader = Loader::open(shared, dataset).await?;
        Ok(Self { from, options, loader, partitions: Vec::new(), report })
    }

    /// Cleans all partitions, step by step. An object that cannot be read stops its own partition alone.
    pub(super) async fn run(mut self, places: Vec<TopicPartition>) -> Result<()> {
        let (directories, partitions): (Vec<_>, Vec<_>) = places.into_iter().partition(is_directory);
        for place in partitions {
            match self.from.sources.source(&place).await {
                Ok(source) => {
                    self.loader.add(&place.topic, place.partition, &source).await?;
                    self.partitions.push(Partition::new(place));
                }
                Err(error) if object_of(&error).is_some() => self.damaged(&place, &error),
                Err(error) => return Err(error),
            }
        }
        let noted = |place| (self.from.feeds.noted(self.from.archive, &place), place);
        let directories: Vec<_> =
            directories.into_iter().map(noted).map(|(noted, place)| (place, noted)).collect();
        self.loader.add_directories(&directories).await?;
        self.partitions.extend(directories.into_iter().map(|(place, _)| Partition::new(place)));
        let mut todo: VecDeque<usize> = (0..self.partitions.len()).collect();
        while let Some(&first) = todo.front() {
            let mut step = self.loader.begin();
            let objects = self.report.objects;
            let read = self.read(&mut todo, &mut step).await;
            // A worker's error comes first: the reader stops because of it.
            let loaded = match read {
                Ok(Read::Done) => self.loader.finish(step).await?,
                Ok(Read::Again) => {
                    self.loader.abandon(step).await;
                    self.report.objects = objects;
                    todo = (first..self.partitions.len()).collect();
                    self.partitions.iter_mut().for_each(Partition::begin_again);
                    continue;
                }
                Err(error) => return Err(self.loader.abandon(step).await.unwrap_or(error)),
            };
            self.report.add(loaded);
        }
        self.report.version = self.loader.version();
        Ok(())
    }

    /// Reads until the step is full or nothing is left, while workers clean.
    async fn read(&mut self, todo: &mut VecDeque<usize>, step: &mut Step) -> Result<Read> {
        while let Some(&index) = todo.front() {
            let chunk = match self.next_chunk(index).await {
                Err(error) if object_of(&error).is_some() => {
                    let reader = self.partitions.get(index).and_then(|partition| partition.reader.as_ref());
                    let stopped_at = reader.and_then(ArchiveReader::stopped_at);
                    if self.stop_before(index, stopped_at, step, &error) {
                        return Ok(Read::Again);
                    }
                    None
                }
                chunk => chunk?,
            };
            let Some(chunk) = chunk else {
                todo.pop_front();
                continue;
            };
            let (ends_object, last) = (chunk.ends_object, chunk.records.last().map(|record| record.offset));
            self.note(index, &chunk, step);
            if !chunk.records.is_empty() && !self.loader.give(step, index, chunk).await? {
                return Ok(Read::Done);
            }
            if ends_object && self.loader.is_full(step, self.options.step) {
                return Ok(Read::Done);
            }
            if let Some(last) = last
                && self.loader.must_end(self.options.step)
            {
                return self.check_object(index, last, step).await;
            }
        }
        Ok(Read::Done)
    }

    /// Ends a partition before an object that cannot be read. True where some of its records were given to the step already.
    fn stop_before(&mut self, index: usize, until: Option<u64>, step: &Step, error: &Error) -> bool {
        let Some(partition) = self.partitions.get_mut(index) else { return false };
        partition.until = until;
        let place = partition.place.clone();
        self.damaged(&place, error);
        until.is_some_and(|until| step.last_given(index).is_some_and(|last| last >= until))
    }

    /// Notes what cannot be read.
    fn damaged(&mut self, place: &TopicPartition, error: &Error) {
        let path = object_of(error).unwrap_or_default().to_owned();
        if !self.report.damaged.iter().any(|damaged| damaged.path == path) {
            let (topic, why) = (Some(place.topic.clone()), error.chain());
            self.report.damaged.push(Unread { topic, path, why, may_hold_records: true });
        }
    }

    /// Reads the object that holds an offset to its end, so that nothing of it is committed that its manifest does not
    /// vouch for (invariant I7). Read twice are only objects in which so much is rejected that they do not fit a step.
    async fn check_object(&mut self, index: usize, offset: u64, step: &Step) -> Result<Read> {
        let Some(partition) = self.partitions.get_mut(index) else { return Ok(Read::Done) };
        if partition.checked.is_some_and(|checked| offset <= checked) {
            return Ok(Read::Done);
        }
        let options = ReadOptions {
            chunk_bytes: self.options.chunk_bytes,
            until: partition.until,
            ..ReadOptions::default()
        };
        let ReadFrom { archive, feeds, .. } = self.from;
        let mut rest = feeds.read(archive, &partition.place, offset.saturating_add(1), options).await?;
        let mut checked = offset;
        loop {
            let chunk = match rest.next().await.map_err(Error::from) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) if object_of(&error).is_some() => {
                    let again = self.stop_before(index, rest.stopped_at(), step, &error);
                    return Ok(if again { Read::Again } else { Read::Done });
                }
                Err(error) => return Err(error),
            };
            checked = chunk.records.last().map_or(checked, |record| record.offset);
            if chunk.ends_object {
                break;
            }
        }
        partition.checked = Some(checked);
        Ok(Read::Done)
    }

    async fn next_chunk(&mut self, index: usize) -> Result<Option<Chunk>> {
        let from = self.loader.next(index);
        let Some(Partition { place, reader, pending, until, .. }) = self.partitions.get_mut(index) else {
            return Ok(None);
        };
        if let Some(piece) = pending.pop_front() {
            return Ok(Some(piece));
        }
        let reader = match reader {
            Some(reader) => reader,
            None => {
                let chunk_bytes = self.options.chunk_bytes;
                let options = ReadOptions { chunk_bytes, until: *until, ..ReadOptions::default() };
                let ReadFrom { archive, feeds, .. } = self.from;
                reader.insert(feeds.read(archive, place, from, options).await?)
            }
        };
        let Some(chunk) = reader.next().await? else { return Ok(None) };
        *pending = pieces(chunk, PIECE_RECORDS);
        Ok(pending.pop_front())
    }

    /// What a chunk tells beside its records goes into the report.
    fn note(&mut self, index: usize, chunk: &Chunk, step: &mut Step) {
        self.report.objects += chunk.objects;
        let Some(place) = self.loader.place(index) else { return };
        // In a directory of another partitioner the offsets between are in other directories.
        for gap in chunk.gaps.iter().filter(|_| !is_directory(place)) {
            let what = format!("{place}: no archive object holds offsets {} to {}", gap.from, gap.to - 1);
            self.warn_gap(step, what, gap.to - gap.from);
        }
        if chunk.repeated > 0 {
            let what = format!("{place}: records that stand in more than one archive object, taken once");
            step.warn(what, chunk.repeated);
        }
    }

    /// The first gaps are told one by one, the others together.
    fn warn_gap(&self, step: &mut Step, what: String, count: u64) {
        const TOLD: usize = 20;
        let told = self.report.warnings.len() + step.warnings();
        step.warn(
            if told < TOLD { what } else { "more offsets that no archive object holds".to_owned() },
            count,
        );
    }
}

/// What an error is about, where that is one object, or one place in the archive: the others can be read.
fn object_of(error: &Error) -> Option<&str> {
    match error {
        Error::Lake(pinmill_lake::Error::Corrupt { path, .. } | pinmill_lake::Error::Store { path, .. }) => {
            Some(path)
        }
        _ => None,
    }
}

impl DatasetReport {
    /// Takes in what a step left behind.
    pub(crate) fn add(&mut self, loaded: Loaded) {
        self.files += loaded.files;
        self.commits += u64::from(!loaded.ranges.is_empty());
        for range in &loaded.ranges {
            self.add_range(range);
        }
        self.warnings.join(loaded.warnings);
    }

    fn add_range(&mut self, range: &CoveredRange) {
        let CoveredRange { place, sum, clean, quarantined, .. } = range;
        self.records += sum.count;
        self.clean += clean;
        self.quarantined += quarantined;
        let index = *self.index.entry(place.clone()).or_insert_with(|| {
            let (place, sum) = (place.clone(), RangeSum::default());
            self.partitions.push(PartitionReport { place, sum, clean: 0, quarantined: 0 });
            self.partitions.len() - 1
        });
        if let Some(entry) = self.partitions.get_mut(index) {
            entry.sum.join(sum);
            entry.clean += clean;
            entry.quarantined += quarantined;
        }
    }
}
