//! What lies in an archive beside `<topic>/partition=<p>/`: the directories of other partitioners, and what is not read.
//!
//! Confluent's sink puts a topic's objects into `<topic>/<encoded partition>/`, which is whatever its partitioner says:
//! `partition=0`, `year=2022/month=11/day=30/hour=09`, `country=Peru`, also nested, with the name of a schema before or
//! behind, or `tombstone`. All of them are read that hold lines of JSON. The Kafka partition stands in each object's name.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::name::{MANIFEST, Recognised, Spelled, parse_partition, recognise};
use super::{Archive, ArchivedObject, Unread};
use crate::{Error, Result};

/// What lies beside the directories of partitions.
#[derive(Debug, Clone, Default)]
pub struct Foreign {
    /// Directories whose objects are read, by topic, path and partition.
    pub directories: Vec<Directory>,
    /// What is not read.
    pub unread: Vec<Unread>,
}

/// The objects of one Kafka partition in one directory that is not the partition's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The topic.
    pub topic: String,
    /// The directory below the topic's, such as `year=2022/month=11`; empty for the topic's own.
    pub path: String,
    /// The Kafka partition, by the objects' names.
    pub partition: u32,
    /// Its objects, ascending by first offset.
    pub objects: Vec<ArchivedObject>,
}

impl Archive {
    /// Looks for everything that is not an object in the directory of its partition. With `whole`, also among the objects
    /// of partitions that have manifests: pinmill has written those, and puts nothing else there.
    ///
    /// What cannot be listed is [`Foreign::unread`].
    ///
    /// # Errors
    /// [`Error::Store`] when the topics cannot be listed.
    pub async fn foreign(&self, whole: bool) -> Result<Foreign> {
        let root = self.lake.path(&self.config.topics_dir);
        let listing = match self.lake.store().list_with_delimiter(Some(&root)).await {
            Ok(listing) => listing,
            Err(object_store::Error::NotFound { .. }) => return Ok(Foreign::default()),
            Err(error) => return Err(Error::store("list", self.lake.relative(&root), error)),
        };
        let mut found = Foreign::default();
        let top = self.config.topics_dir.is_empty();
        // At the top of a bucket anything may lie.
        let strays = listing.objects.iter().filter(|meta| !top && meta.size > 0);
        for meta in strays {
            let hidden = meta.location.filename().is_none_or(|name| name.starts_with(['_', '.']));
            found.unread.push(Unread {
                topic: None,
                path: self.lake.relative(&meta.location),
                why: "it lies beside the topics".to_owned(),
                may_hold_records: !hidden,
            });
        }
        for dir in listing.common_prefixes {
            let topic = dir.filename().unwrap_or_default().to_owned();
            let mut walk = Walk::new(self, &topic, dir);
            walk.topic_directory(whole).await;
            if !top || walk.is_topic {
                found.directories.extend(walk.directories());
                found.unread.extend(walk.unread);
            }
        }
        Ok(found)
    }

    /// Whether there is anything of a topic in the archive, read or not.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn has_topics(&self) -> Result<bool> {
        if !self.partitions().await?.is_empty() {
            return Ok(true);
        }
        let Foreign { directories, unread } = self.foreign(true).await?;
        Ok(!directories.is_empty() || !unread.is_empty())
    }

    /// Whether pinmill has written the objects of a partition.
    async fn has_manifests(&self, topic: &str, partition: &str) -> bool {
        let dir = self.lake.path(&format!("_pinmill/{}/{topic}/{partition}", self.config.topics_dir));
        let mut listing = self.lake.store().list(Some(&dir));
        let is_manifest = |meta: &ObjectMeta| meta.location.as_ref().ends_with(MANIFEST);
        matches!(listing.try_next().await, Ok(Some(meta)) if is_manifest(&meta))
    }
}

/// A walk through one topic's directory.
struct Walk<'a> {
    archive: &'a Archive,
    topic: &'a str,
    root: Path,
    /// By path and partition.
    found: BTreeMap<(String, u32), Vec<ArchivedObject>>,
    unread: Vec<Unread>,
    /// It holds objects that are called like a topic's.
    is_topic: bool,
}

impl<'a> Walk<'a> {
    fn new(archive: &'a Archive, topic: &'a str, root: Path) -> Self {
        Self { archive, topic, root, found: BTreeMap::new(), unread: Vec::new(), is_topic: false }
    }

    async fn topic_directory(&mut self, whole: bool) {
        let root = self.root.clone();
        for dir in self.directory(&root, None).await {
            let name = dir.filename().unwrap_or_default();
            // The manifests of topics that lie at the top are no topic.
            if self.archive.config.topics_dir.is_empty()
                && self.topic == "_pinmill"
                && parse_partition(name).is_none()
            {
                continue;
            }
            match parse_partition(name) {
                None => self.all_below(&dir).await,
                Some(_) if !whole && self.archive.has_manifests(self.topic, name).await => {}
                partition => {
                    for dir in self.directory(&dir, partition).await {
                        self.all_below(&dir).await;
                    }
                }
            }
        }
    }

    /// Takes the objects of one directory and gives the directories in it. Objects of the partition whose directory it is
    /// are left out.
    async fn directory(&mut self, dir: &Path, partition: Option<u32>) -> Vec<Path> {
        match self.archive.lake.store().list_with_delimiter(Some(dir)).await {
            Ok(listing) => {
                listing.objects.iter().for_each(|meta| self.take(meta, partition));
                listing.common_prefixes
            }
            Err(error) => {
                self.not_listed(dir, &error);
                Vec::new()
            }
        }
    }

    /// Takes everything below a directory: with few requests where all can be listed, else directory by directory, so that
    /// one without permission hides itself and no other.
    async fn all_below(&mut self, dir: &Path) {
        let listing: Result<Vec<ObjectMeta>, _> =
            self.archive.lake.store().list(Some(dir)).try_collect().await;
        if let Ok(all) = listing {
            return all.iter().for_each(|meta| self.take(meta, None));
        }
        let mut directories = vec![dir.clone()];
        while let Some(dir) = directories.pop() {
            directories.extend(self.directory(&dir, None).await);
        }
    }

    fn take(&mut self, meta: &ObjectMeta, own: Option<u32>) {
        let Some(file) = meta.location.filename() else { return };
        // What consoles of object stores make for a folder.
        if meta.size == 0 {
            return;
        }
        let recognised = recognise(self.topic, file);
        self.is_topic |= matches!(recognised, Recognised::Object(_)) || file.starts_with(self.topic);
        let (why, may_hold_records) = match recognised {
            Recognised::Object(Spelled { partition, .. }) if own == Some(partition) => return,
            Recognised::Object(spelled) if spelled.lineage == 0 => return self.object(meta, file, spelled),
            Recognised::Side => ("keys and headers are not read", false),
            Recognised::Hidden => ("it is hidden", false),
            Recognised::Format("Avro") => ("Avro is not read", true),
            Recognised::Format(_) => ("Parquet is not read", true),
            Recognised::Object(_) | Recognised::Unknown => {
                ("it is not called like an object of the topic", true)
            }
        };
        self.unread.push(Unread {
            topic: Some(self.topic.to_owned()),
            path: self.archive.lake.relative(&meta.location),
            why: why.to_owned(),
            may_hold_records,
        });
    }

    fn object(&mut self, meta: &ObjectMeta, file: &str, spelled: Spelled) {
        let below: Vec<String> = meta
            .location
            .prefix_match(&self.root)
            .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect())
            .unwrap_or_default();
        let path = below.split_last().map_or_else(String::new, |(_, dirs)| dirs.join("/"));
        let object = ArchivedObject::new(meta, spelled, Some(file.into()));
        self.found.entry((path, spelled.partition)).or_default().push(object);
    }

    fn not_listed(&mut self, dir: &Path, error: &object_store::Error) {
        self.is_topic = true;
        self.unread.push(Unread {
            topic: Some(self.topic.to_owned()),
            path: self.archive.lake.relative(dir),
            why: format!("it cannot be listed: {error}"),
            may_hold_records: true,
        });
    }

    fn directories(&mut self) -> Vec<Directory> {
        let found = std::mem::take(&mut self.found);
        let directory = |((path, partition), mut objects): ((String, u32), Vec<ArchivedObject>)| {
            objects.sort_unstable_by(ArchivedObject::order);
            Directory { topic: self.topic.to_owned(), path, partition, objects }
        };
        found.into_iter().map(directory).collect()
    }
}
