//! One dataset's run: its topic partitions one after the other, in steps.

use std::collections::VecDeque;

use pinmill_lake::archive::{Archive, ArchiveReader, Chunk, ReadOptions};
use pinmill_lake::table::CoveredRange;
use pinmill_lake::{RangeSum, TopicPartition};
use pinmill_pipeline::Dataset;

use super::{CleanOptions, DatasetReport, PartitionReport};
use crate::Result;
use crate::lineage::Sources;
use crate::load::{Loaded, Loader, PIECE_RECORDS, Shared, Step, pieces};

/// Cleans what is new of one dataset.
pub(super) struct Run<'a> {
    archive: &'a Archive,
    sources: &'a Sources<'a>,
    options: &'a CleanOptions,
    loader: Loader<'a>,
    partitions: Vec<Partition>,
    report: &'a mut DatasetReport,
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
}

impl<'a> Run<'a> {
    pub(super) async fn new(
        shared: &'a Shared<'a>,
        (archive, sources): (&'a Archive, &'a Sources<'a>),
        options: &'a CleanOptions,
        dataset: &'a Dataset,
        report: &'a mut DatasetReport,
    ) -> Result<Self> {
        let loader = Loader::open(shared, dataset).await?;
        Ok(Self { archive, sources, options, loader, partitions: Vec::new(), report })
    }

    /// Cleans all partitions, step by step.
    pub(super) async fn run(mut self, partitions: Vec<TopicPartition>) -> Result<()> {
        for place in partitions {
            let source = self.sources.source(&place).await?;
            self.loader.add(&place.topic, place.partition, &source).await?;
            let (reader, pending, checked) = (None, VecDeque::new(), None);
            self.partitions.push(Partition { place, reader, pending, checked });
        }
        let mut todo: VecDeque<usize> = (0..self.partitions.len()).collect();
        while !todo.is_empty() {
            let mut step = self.loader.begin();
            let read = self.read(&mut todo, &mut step).await;
            // A worker's error comes first: the reader stops because of it.
            let loaded = match read {
                Ok(()) => self.loader.finish(step).await?,
                Err(error) => return Err(self.loader.abandon(step).await.unwrap_or(error)),
            };
            self.report.add(loaded);
        }
        self.report.version = self.loader.version();
        Ok(())
    }

    /// Reads until the step is full or nothing is left, while workers clean.
    async fn read(&mut self, todo: &mut VecDeque<usize>, step: &mut Step) -> Result<()> {
        while let Some(&index) = todo.front() {
            let Some(chunk) = self.next_chunk(index).await? else {
                todo.pop_front();
                continue;
            };
            let (ends_object, last) = (chunk.ends_object, chunk.records.last().map(|record| record.offset));
            self.note(index, &chunk, step);
            if !chunk.records.is_empty() && !self.loader.give(step, index, chunk).await? {
                return Ok(());
            }
            if ends_object && self.loader.is_full(step, self.options.step) {
                return Ok(());
            }
            if let Some(last) = last
                && self.loader.must_end(self.options.step)
            {
                return self.check_object(index, last).await;
            }
        }
        Ok(())
    }

    /// Reads the object that holds an offset to its end, so that nothing of it is committed that its manifest does not
    /// vouch for (invariant I7). Read twice are only objects in which so much is rejected that they do not fit a step.
    async fn check_object(&mut self, index: usize, offset: u64) -> Result<()> {
        let Some(partition) = self.partitions.get_mut(index) else { return Ok(()) };
        if partition.checked.is_some_and(|checked| offset <= checked) {
            return Ok(());
        }
        let options = ReadOptions { chunk_bytes: self.options.chunk_bytes, ..ReadOptions::default() };
        let mut rest = self.archive.read(&partition.place, offset.saturating_add(1), options).await?;
        let mut checked = offset;
        while let Some(chunk) = rest.next().await? {
            checked = chunk.records.last().map_or(checked, |record| record.offset);
            if chunk.ends_object {
                break;
            }
        }
        partition.checked = Some(checked);
        Ok(())
    }

    async fn next_chunk(&mut self, index: usize) -> Result<Option<Chunk>> {
        let from = self.loader.next(index);
        let Some(Partition { place, reader, pending, .. }) = self.partitions.get_mut(index) else {
            return Ok(None);
        };
        if let Some(piece) = pending.pop_front() {
            return Ok(Some(piece));
        }
        let reader = match reader {
            Some(reader) => reader,
            None => {
                let options = ReadOptions { chunk_bytes: self.options.chunk_bytes, ..ReadOptions::default() };
                reader.insert(self.archive.read(place, from, options).await?)
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
        for gap in &chunk.gaps {
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
        let known = self.partitions.iter().position(|partition| partition.place == *place);
        let index = known.unwrap_or_else(|| {
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
