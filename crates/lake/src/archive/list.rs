//! Which objects an archive has.

use std::cmp::Ordering;

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::name::{MANIFEST, Recognised, Spelled, directory, parse_partition, recognise};
use super::{Archive, Compression, ObjectName};
use crate::{Error, Result, TopicPartition};

/// An object of one partition, as a listing tells it: 48 bytes, so that a partition of a million objects of ours
/// lists in 48 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedObject {
    /// Offset of its first record, from its name.
    pub first_offset: u64,
    /// Stored size in bytes.
    pub size: u64,
    /// Last-modified time in microseconds since the Unix epoch.
    pub modified_us: i64,
    /// From its name.
    pub compression: Compression,
    /// Its file name, where that is not the one that pinmill would give it. Such an object has no manifest.
    pub(crate) file: Option<Box<str>>,
    /// Its name does not say that it holds lines of JSON (`.bin`).
    pub(crate) bytes: bool,
}

impl ArchivedObject {
    /// The object's name.
    pub fn name(&self, place: &TopicPartition) -> ObjectName {
        let Self { first_offset, compression, .. } = *self;
        ObjectName { place: place.clone(), first_offset, compression }
    }

    /// It has the name that pinmill would give it, and may have a manifest.
    pub fn is_ours(&self) -> bool {
        self.file.is_none()
    }

    pub(crate) fn new(meta: &ObjectMeta, spelled: Spelled, file: Option<Box<str>>) -> Self {
        let Spelled { first_offset, compression, bytes, .. } = spelled;
        let modified_us = meta.last_modified.timestamp_micros();
        Self { first_offset, size: meta.size, modified_us, compression, file, bytes }
    }

    /// By offset; of several that begin at one, an object of ours comes first.
    pub(crate) fn order(a: &Self, b: &Self) -> Ordering {
        (a.first_offset, &a.file, a.compression).cmp(&(b.first_offset, &b.file, b.compression))
    }
}

impl Archive {
    /// All topic partitions that have a directory, ascending. For directories of other kinds (`year=2022`) there is
    /// [`Archive::foreign`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn partitions(&self) -> Result<Vec<TopicPartition>> {
        let root = self.lake.path(&self.config.topics_dir);
        let mut found = Vec::new();
        for topic in self.directories(&root).await? {
            let name = topic.filename().unwrap_or_default().to_owned();
            for directory in self.directories(&topic).await? {
                let partition = parse_partition(directory.filename().unwrap_or_default());
                found.extend(partition.map(|partition| TopicPartition::new(&name, partition)));
            }
        }
        found.sort();
        Ok(found)
    }

    async fn directories(&self, of: &Path) -> Result<Vec<Path>> {
        match self.lake.store().list_with_delimiter(Some(of)).await {
            Ok(listing) => Ok(listing.common_prefixes),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(Error::store("list", self.lake.relative(of), error)),
        }
    }

    /// The objects that may hold records at `from` or after it, ascending by first offset.
    ///
    /// Where an object begins at `from`, as it does after every run that read whole objects, only the names from
    /// there on are listed; otherwise all are, and the object that begins last before `from` comes first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn objects(&self, place: &TopicPartition, from: u64) -> Result<Vec<ArchivedObject>> {
        // Names sort by offset only while offsets have 10 digits.
        if (1..10_u64.pow(10)).contains(&from) {
            let newer = self.list(place, from).await?;
            if newer.first().is_some_and(|object| object.first_offset == from) {
                return Ok(newer);
            }
        }
        let mut all = self.list(place, 0).await?;
        let later = all.partition_point(|object| object.first_offset <= from);
        all.drain(..later.saturating_sub(1));
        Ok(all)
    }

    /// Lists one partition's objects from an offset on, sorted by number.
    async fn list(&self, place: &TopicPartition, from: u64) -> Result<Vec<ArchivedObject>> {
        let dir = self.lake.path(&format!("{}/{}", self.config.topics_dir, directory(place)));
        let depth = dir.parts().count() + 1;
        let mut objects = Vec::new();
        let mut listing = self.list_from(&dir, place, from);
        let failed = |error| Error::store("list", self.lake.relative(&dir), error);
        while let Some(meta) = listing.try_next().await.map_err(failed)? {
            let Some(file) = meta.location.filename() else { continue };
            let Recognised::Object(spelled) = recognise(&place.topic, file) else { continue };
            let is_here = (spelled.partition, spelled.lineage) == (place.partition, place.lineage)
                && meta.location.parts().count() == depth;
            if is_here && spelled.first_offset >= from {
                let object = ArchivedObject::new(&meta, spelled, None);
                let ours = !spelled.bytes && object.name(place).to_string() == file;
                objects.push(ArchivedObject { file: (!ours).then(|| file.into()), ..object });
            }
        }
        objects.sort_unstable_by(ArchivedObject::order);
        Ok(objects)
    }

    /// First offsets of the objects that have a manifest, ascending, from an offset on.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn manifests(&self, place: &TopicPartition, from: u64) -> Result<Vec<u64>> {
        let dir = self.lake.path(&format!("_pinmill/{}/{}", self.config.topics_dir, directory(place)));
        let mut firsts = Vec::new();
        let mut listing = self.list_from(&dir, place, from);
        let failed = |error| Error::store("list", self.lake.relative(&dir), error);
        while let Some(meta) = listing.try_next().await.map_err(failed)? {
            let name = meta.location.filename().and_then(|name| name.strip_suffix(MANIFEST));
            let name = name.and_then(ObjectName::parse).filter(|name| name.place == *place);
            firsts.extend(name.map(|name| name.first_offset));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// The object of one of a partition's manifests, whichever is listed first; `None` where there is none.
    pub(super) async fn a_manifest(&self, place: &TopicPartition) -> Result<Option<ObjectName>> {
        let dir = self.lake.path(&format!("_pinmill/{}/{}", self.config.topics_dir, directory(place)));
        let mut listing = self.list_from(&dir, place, 0);
        let failed = |error| Error::store("list", self.lake.relative(&dir), error);
        while let Some(meta) = listing.try_next().await.map_err(failed)? {
            let name = meta.location.filename().and_then(|name| name.strip_suffix(".manifest"));
            let name = name.and_then(ObjectName::parse).filter(|name| name.place == *place);
            if name.is_some() {
                return Ok(name);
            }
        }
        Ok(None)
    }

    /// The names of a directory that sort at or after the first one of `from`; all of them for 0.
    fn list_from(
        &self,
        dir: &Path,
        place: &TopicPartition,
        from: u64,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        match from {
            0 => self.lake.store().list(Some(dir)),
            // Without its extension a name sorts before itself.
            from => {
                let TopicPartition { topic, partition, .. } = place;
                let after = dir.clone().join(format!("{topic}+{partition}+{from:010}"));
                self.lake.store().list_with_offset(Some(dir), &after)
            }
        }
    }
}
