//! Gathering what the archive holds of one topic partition.

use pinmill_lake::archive::{Archive, ArchivedObject, Manifest, ReadOptions};
use pinmill_lake::{RangeSum, TopicPartition};

use super::balance::Archived;
use crate::clean::Feeds;
use crate::{Error, Result};

/// Sums up the archive's objects range by range.
struct Survey<'a> {
    archive: &'a Archive,
    feeds: &'a Feeds,
    place: &'a TopicPartition,
    /// No range runs across one of these offsets.
    cuts: Vec<u64>,
    /// First offsets of the objects that have a manifest, ascending.
    manifests: Vec<u64>,
    objects: Vec<ArchivedObject>,
    /// What was found so far, in offset order.
    ranges: Vec<RangeSum>,
    /// Records that were read a second time.
    repeated: u64,
    /// Objects that cannot be read: where they begin, and why.
    damaged: Vec<(Option<u64>, String)>,
}

/// What the archive holds of a topic partition: by the manifests where they say enough, and with `deep` by every line
/// of every object, in both cases before the offset `until`. `generation` is that of the log's topic, where there is one.
pub(super) async fn archived(
    (archive, feeds): (&Archive, &Feeds),
    place: &TopicPartition,
    generation: Option<&str>,
    cuts: Vec<u64>,
    (until, deep): (u64, bool),
) -> Result<Archived> {
    // An object is put before its manifest: what is listed here has its object when those are listed.
    let (manifests, objects) = match feeds.directories.get(place) {
        Some(directory) => (Vec::new(), directory.objects.clone()),
        None => (archive.manifests(place, 0).await?, archive.objects(place, 0).await?),
    };
    let (ranges, damaged) = (Vec::new(), Vec::new());
    let mut survey = Survey { archive, feeds, place, cuts, manifests, objects, ranges, repeated: 0, damaged };
    match deep {
        true => survey.read(0, until).await?,
        false => survey.sum_up(until).await?,
    }
    let (own, gone) = (survey.is_own(generation).await, survey.gone().await);
    let until = Some(until).filter(|until| *until > 0);
    let Survey { ranges, repeated, damaged, .. } = survey;
    Ok(Archived { own, until, ranges, repeated, gone, damaged, elsewhere: false })
}

impl Survey<'_> {
    /// pinmill's objects have manifests, which name the topic's generation; those of another sink have none.
    async fn is_own(&mut self, generation: Option<&str>) -> bool {
        let Some(&first) = self.manifests.first() else { return false };
        let Some(manifest) = self.manifest_at(first).await else { return false };
        manifest.generation.as_deref().zip(generation).is_none_or(|(archived, given)| archived == given)
    }

    /// What objects held that are gone, by the manifests that they have left.
    async fn gone(&mut self) -> Vec<RangeSum> {
        let mut gone = Vec::new();
        for first in self.manifests.clone() {
            if !self.begins_object(first) {
                gone.extend(self.manifest_at(first).await.map(|manifest| manifest.sum));
            }
        }
        gone
    }

    /// `None` also where it cannot be read, which is noted.
    async fn manifest_at(&mut self, first_offset: u64) -> Option<Manifest> {
        match self.archive.manifest_at(self.place, first_offset).await {
            Ok(manifest) => manifest,
            Err(error) => {
                self.damaged.push((Some(first_offset), Error::from(error).chain()));
                None
            }
        }
    }

    fn begins_object(&self, offset: u64) -> bool {
        self.objects.binary_search_by_key(&offset, |object| object.first_offset).is_ok()
    }

    /// One range an object that begins before `until`, by its manifest. Objects without a manifest are read, and so are
    /// those that one of the cuts runs through.
    async fn sum_up(&mut self, until: u64) -> Result<()> {
        // Runs of objects without a manifest are read together: there may be tens of thousands of them.
        let mut unread: Option<u64> = None;
        for index in 0..self.objects.partition_point(|object| object.first_offset < until) {
            let object = self.objects[index].clone();
            let manifest = match self.manifests.binary_search(&object.first_offset) {
                Ok(_) if object.is_ours() => self.archive.manifest(&object.name(self.place)).await,
                _ => Ok(None),
            };
            let manifest = match manifest {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.damaged.push((Some(object.first_offset), Error::from(error).chain()));
                    continue;
                }
            };
            match manifest.filter(|manifest| !self.is_cut(&manifest.sum)) {
                None => {
                    unread.get_or_insert(object.first_offset);
                }
                Some(manifest) => {
                    if let Some(from) = unread.take() {
                        self.read(from, manifest.sum.first).await?;
                    }
                    self.ranges.push(manifest.sum);
                }
            }
        }
        match unread {
            Some(from) => self.read(from, until).await,
            None => Ok(()),
        }
    }

    fn is_cut(&self, sum: &RangeSum) -> bool {
        self.cuts.iter().any(|&cut| sum.first < cut && cut <= sum.last)
    }

    /// Reads the archive's records from one offset to another (exclusive) and sums them up between the cuts.
    async fn read(&mut self, from: u64, to: u64) -> Result<()> {
        let options = ReadOptions::default();
        let mut reader = self.feeds.read(self.archive, self.place, from, options).await?;
        let mut begin_anew = true;
        loop {
            let chunk = match reader.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(()),
                // Cleaning stops at this object too.
                Err(error) => {
                    self.damaged.push((reader.stopped_at(), Error::from(error).chain()));
                    return Ok(());
                }
            };
            self.repeated += chunk.repeated;
            let wanted = chunk.records.partition_point(|record| record.offset < to);
            for record in &chunk.records[..wanted] {
                if begin_anew || self.begins_range(record.offset) {
                    self.ranges.push(RangeSum::default());
                    begin_anew = false;
                }
                if let Some(range) = self.ranges.last_mut() {
                    range.add(record.offset, chunk.value(record));
                }
            }
            if wanted < chunk.records.len() {
                return Ok(());
            }
            // A range of its own for each object, or run of small ones: what is off can be said more precisely.
            begin_anew |= chunk.ends_object;
        }
    }

    /// Whether a new range begins with a record that is read: behind a cut, or in a run of small objects where one is
    /// missing.
    fn begins_range(&self, offset: u64) -> bool {
        let Some(last) = self.ranges.last().map(|range| range.last) else { return true };
        let is_cut = self.cuts.iter().any(|&cut| last < cut && cut <= offset);
        is_cut || (offset > last.saturating_add(1) && self.begins_object(offset))
    }
}
