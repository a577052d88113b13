//! Reading a partition's records back: one pass, flat memory.
//!
//! Objects larger than a chunk are read in blocks on a blocking thread, ahead of the caller by two chunks; runs of
//! small objects (Confluent's one record an object) are read many at once and handed out together.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use object_store::ObjectStoreExt;
use object_store::path::{Path, PathPart};
use tokio::sync::mpsc;

use super::name::directory;
use super::small::{Item, NOT_JSON, Small};
use super::split::{Cursor, ObjectState, append_unwrapped, decoder};
use super::{Archive, ArchivedObject, Compression, Directory, Manifest, ObjectName, cut, line};
use crate::{Error, RangeSum, Result, TopicPartition};

/// How a partition is read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// About how large chunks are, in bytes. About four of them are in memory at a time.
    pub chunk_bytes: usize,
    /// How many small objects are fetched at once from a remote store.
    pub concurrency: usize,
    /// Objects that begin at this offset or after it are left out.
    pub until: Option<u64>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { chunk_bytes: 4 << 20, concurrency: 32, until: None }
    }
}

/// Where a record lies in its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordAt {
    /// The record's offset.
    pub offset: u64,
    /// When the log took it, in microseconds since the Unix epoch; where that is not known, when its object was
    /// last modified.
    pub ingested_at_us: i64,
    /// Start of the value in [`Chunk::data`].
    pub start: u32,
    /// End of the value in [`Chunk::data`].
    pub end: u32,
    /// True for a record without a value; `start..end` is then of no meaning.
    pub tombstone: bool,
}

/// Offsets that no object holds: `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// First missing offset.
    pub from: u64,
    /// Offset after the last missing one.
    pub to: u64,
}

/// A run of records of one partition, in offset order.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// The bytes that the values are parts of. They hold more than the values.
    pub data: Bytes,
    /// The records. Empty in a chunk that only says what was skipped, or that an object has ended.
    pub records: Vec<RecordAt>,
    /// Their count, offsets and hash.
    pub sum: RangeSum,
    /// Records left out because an earlier object held them already, or the caller has them.
    pub skipped: u64,
    /// Those of them that the caller does not have: they stand in two objects.
    pub repeated: u64,
    /// Offsets that are missing before or between the records.
    pub gaps: Vec<Gap>,
    /// True when the last record is the last of an object, so that its manifest's hash has been checked. Commit
    /// after such a chunk.
    pub ends_object: bool,
    /// How many objects ended in this chunk.
    pub objects: u64,
}

impl Chunk {
    /// The value of a record; `None` for a tombstone.
    pub fn value(&self, record: &RecordAt) -> Option<&[u8]> {
        (!record.tombstone).then(|| &self.data[record.start as usize..record.end as usize])
    }
}

/// What was read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Records handed out: count, offsets, hash.
    pub sum: RangeSum,
    /// Objects read to their end.
    pub objects: u64,
    /// Records left out because they had been read before.
    pub skipped: u64,
    /// How many stretches of offsets were missing.
    pub gaps: u64,
    /// How many offsets were missing.
    pub missing: u64,
}

/// The records of one partition from an offset on.
#[derive(Debug)]
pub struct ArchiveReader {
    chunks: mpsc::Receiver<Result<Chunk>>,
    /// Where the object begins that is being read.
    at: Arc<AtomicU64>,
    stopped_at: Option<u64>,
    report: ReadReport,
    bytes: u64,
    generation: Option<String>,
}

impl ArchiveReader {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Corrupt`] when an object does not hold what its manifest says. No chunk follows.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        let received = self.chunks.recv().await.transpose();
        if received.is_err() {
            self.stopped_at = Some(self.at.load(Ordering::Relaxed));
        }
        let Some(chunk) = received? else { return Ok(None) };
        self.report.sum.join(&chunk.sum);
        self.report.objects += chunk.objects;
        self.report.skipped += chunk.skipped;
        self.report.gaps += chunk.gaps.len() as u64;
        self.report.missing += chunk.gaps.iter().map(|gap| gap.to - gap.from).sum::<u64>();
        Ok(Some(chunk))
    }

    /// After an error: the first offset of the object that could not be read.
    pub fn stopped_at(&self) -> Option<u64> {
        self.stopped_at
    }

    /// What was read so far.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    /// Stored size of all objects to be read, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.bytes
    }

    /// The topic's generation, by the manifest of the object at which the reading begins, or behind which there is
    /// nothing to be read; `None` where that object has no manifest.
    pub fn generation(&self) -> Option<&str> {
        self.generation.as_deref()
    }
}

impl Archive {
    /// An object's manifest; `None` where it has none (a foreign object).
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub async fn manifest(&self, name: &ObjectName) -> Result<Option<Manifest>> {
        let path = self.manifest_path(name);
        if !self.lake.has_room_for(&path) {
            return Ok(None);
        }
        let Some(bytes) = self.lake.get(&path).await? else { return Ok(None) };
        Manifest::decode(&bytes).map(Some).map_err(|e| Error::corrupt(self.lake.relative(&path), e))
    }

    /// The manifest of the object that begins at an offset, whatever its compression.
    ///
    /// # Errors
    /// As [`Archive::manifest`].
    pub async fn manifest_at(&self, place: &TopicPartition, first_offset: u64) -> Result<Option<Manifest>> {
        for compression in Compression::ALL {
            let name = ObjectName { place: place.clone(), first_offset, compression };
            if let Some(manifest) = self.manifest(&name).await? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// The generation of a partition's topic, by one of its manifests: all of a lineage say the same. `None` where there is
    /// none.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub async fn generation(&self, place: &TopicPartition) -> Result<Option<String>> {
        let Some(name) = self.a_manifest(place).await? else { return Ok(None) };
        Ok(self.manifest(&name).await?.and_then(|manifest| manifest.generation))
    }

    /// Reads a partition's records from offset `from` on, as far as there are objects now.
    ///
    /// Records below `from`, and those an earlier object held, are skipped and counted; gaps are reported and read
    /// over. Dropping the reader stops the reading. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Store`] when the objects cannot be listed.
    pub async fn read(
        &self,
        place: &TopicPartition,
        from: u64,
        options: ReadOptions,
    ) -> Result<ArchiveReader> {
        let mut objects = self.objects(place, from).await?;
        let mut generation = None;
        if let Some(first) = objects.first()
            && first.file.is_none()
            && let Some(manifest) = self.manifest(&first.name(place)).await?
        {
            if first.first_offset < from && manifest.sum.last < from {
                // It ends where the caller goes on.
                objects.remove(0);
            }
            generation = manifest.generation;
        }
        let start = objects.first().map_or(0, |object| object.first_offset);
        let manifests = match objects.is_empty() {
            true => Vec::new(),
            false => self.manifests(place, start).await?,
        };
        let dir = self.lake.path(&format!("{}/{}", self.config.topics_dir, directory(place)));
        Ok(self.start((place.clone(), dir), (objects, manifests), generation, (from, options)))
    }

    /// Reads a directory's records from offset `from` on, as [`Archive::read`] does a partition's.
    pub fn read_directory(&self, directory: &Directory, from: u64, options: ReadOptions) -> ArchiveReader {
        let Directory { topic, path, partition, objects } = directory;
        let later = objects.partition_point(|object| object.first_offset <= from);
        let objects = objects[later.saturating_sub(1)..].to_vec();
        let dir = self.lake.path(&format!("{}/{topic}/{path}", self.config.topics_dir));
        let place = TopicPartition::new(topic, *partition);
        self.start((place, dir), (objects, Vec::new()), None, (from, options))
    }

    fn start(
        &self,
        (place, dir): (TopicPartition, Path),
        (mut objects, manifests): (Vec<ArchivedObject>, Vec<u64>),
        generation: Option<String>,
        (from, options): (u64, ReadOptions),
    ) -> ArchiveReader {
        objects.retain(|object| options.until.is_none_or(|until| object.first_offset < until));
        let bytes = objects.iter().map(|object| object.size).sum();
        let (sender, chunks) = mpsc::channel(2);
        let at = Arc::<AtomicU64>::default();
        let source = Source {
            archive: self.clone(),
            place,
            dir,
            manifests,
            options,
            sender: sender.clone(),
            at: Arc::clone(&at),
        };
        tokio::spawn(async move {
            if let Err(error) = source.read_all(&objects, Cursor { from, expected: from }).await {
                // A closed channel means that the caller lost interest.
                let _ = sender.send(Err(error)).await;
            }
        });
        ArchiveReader { chunks, at, stopped_at: None, report: ReadReport::default(), bytes, generation }
    }
}

struct Source {
    archive: Archive,
    place: TopicPartition,
    /// Where the objects lie.
    dir: Path,
    /// First offsets of the objects that have manifests, ascending.
    manifests: Vec<u64>,
    options: ReadOptions,
    sender: mpsc::Sender<Result<Chunk>>,
    /// Where the object begins that is being read.
    at: Arc<AtomicU64>,
}

impl Source {
    async fn read_all(self, mut objects: &[ArchivedObject], mut cursor: Cursor) -> Result<()> {
        let this = Arc::new(self);
        while !objects.is_empty() && !this.sender.is_closed() {
            let (group, rest) = objects.split_at(group_len(objects, this.options.chunk_bytes));
            objects = rest;
            let (reader, group) = (Arc::clone(&this), group.to_vec());
            cursor = match (group.as_slice(), this.archive.lake.direct()) {
                (_, true) => blocking(move || reader.read_local(&group, cursor)).await?,
                ([object], false) => reader.read_remote(object, cursor).await?,
                (_, false) => {
                    let items = reader.fetch(&group).await;
                    blocking(move || reader.read_small(items.into_iter(), cursor)).await?
                }
            };
        }
        Ok(())
    }

    fn path(&self, object: &ArchivedObject) -> Path {
        match &object.file {
            Some(file) => Path::from_iter(self.dir.parts().chain(PathPart::parse(file))),
            None => self.archive.object_path(&object.name(&self.place)),
        }
    }

    /// An object with its manifest still to be read, and that manifest's path where there is one.
    fn item(&self, object: &ArchivedObject) -> (Item, Option<Path>) {
        let name = object.name(&self.place);
        let relative = self.archive.lake.relative(&self.path(object));
        let has = object.file.is_none() && self.manifests.binary_search(&object.first_offset).is_ok();
        let manifest = has.then(|| self.archive.manifest_path(&name));
        (Item { object: object.clone(), relative, manifest: None, data: None }, manifest)
    }

    fn decode_manifest(&self, path: &Path, bytes: &[u8]) -> Result<Manifest> {
        Manifest::decode(bytes).map_err(|e| Error::corrupt(self.archive.lake.relative(path), e))
    }

    /// Objects in a local directory, on a blocking thread, without a detour over the object store.
    fn read_local(&self, group: &[ArchivedObject], mut cursor: Cursor) -> Result<Cursor> {
        let local =
            |path: &Path| self.archive.lake.local_file(path).unwrap_or_else(|| PathBuf::from(path.as_ref()));
        let io_error =
            |relative: &str, error: io::Error| Error::corrupt(relative, format!("cannot be read: {error}"));
        let open = |object: &ArchivedObject| -> Result<(Item, File)> {
            let (mut item, manifest) = self.item(object);
            if let Some(path) = manifest {
                match std::fs::read(local(&path)) {
                    Ok(bytes) => item.manifest = Some(self.decode_manifest(&path, &bytes)?),
                    // Another extension's manifest: this object has none.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(io_error(&self.archive.lake.relative(&path), error)),
                }
            }
            let file = File::open(local(&self.path(object))).map_err(|e| io_error(&item.relative, e))?;
            Ok((item, file))
        };
        if let [object] = group {
            self.at.store(object.first_offset, Ordering::Relaxed);
            let (item, mut file) = open(object)?;
            cursor = self.read_stream(&item, &mut file, cursor)?;
            return Ok(cursor);
        }
        let whole = |object: &ArchivedObject| -> Result<Item> {
            let (mut item, mut file) = open(object)?;
            let mut data = Vec::with_capacity(object.size as usize + 1);
            file.read_to_end(&mut data).map_err(|e| io_error(&item.relative, e))?;
            item.data = Some(data.into());
            Ok(item)
        };
        self.read_small(group.iter().map(|object| (object.first_offset, whole(object))), cursor)
    }

    /// Fetches small objects and their manifests, many at once.
    async fn fetch(&self, group: &[ArchivedObject]) -> Vec<(u64, Result<Item>)> {
        // Boxed, so that a caller may spawn this: the compiler cannot prove a stream of such closures `Send`.
        let fetches: Vec<_> = group.iter().map(|object| self.fetch_one(object.clone()).boxed()).collect();
        futures::stream::iter(fetches).buffered(self.options.concurrency).collect().await
    }

    async fn fetch_one(&self, object: ArchivedObject) -> (u64, Result<Item>) {
        let fetched = async {
            let mut item = self.remote_item(&object).await?;
            let data = self.archive.lake.get(&self.path(&object)).await?;
            item.data =
                Some(data.ok_or_else(|| Error::corrupt(&item.relative, "it was listed and is gone"))?);
            Ok(item)
        };
        (object.first_offset, fetched.await)
    }

    async fn remote_item(&self, object: &ArchivedObject) -> Result<Item> {
        let (mut item, manifest) = self.item(object);
        if let Some(path) = manifest
            && let Some(bytes) = self.archive.lake.get(&path).await?
        {
            item.manifest = Some(self.decode_manifest(&path, &bytes)?);
        }
        Ok(item)
    }

    /// One object of a remote store: ranges are fetched ahead here and read on a blocking thread.
    async fn read_remote(self: Arc<Self>, object: &ArchivedObject, cursor: Cursor) -> Result<Cursor> {
        self.at.store(object.first_offset, Ordering::Relaxed);
        let item = self.remote_item(object).await?;
        let (path, size, step) = (self.path(object), object.size, self.options.chunk_bytes as u64);
        let store = Arc::clone(self.archive.lake.store());
        let (ranges, mut receiver) = mpsc::channel(1);
        let fetched = async move {
            let range = |start: u64| {
                let (store, path) = (Arc::clone(&store), path.clone());
                async move { store.get_range(&path, start..(start + step).min(size)).await }
            };
            let mut parts =
                futures::stream::iter((0..size).step_by(step.max(1) as usize).map(range)).buffered(2);
            while let Some(part) = parts.next().await {
                if ranges.send(part).await.is_err() {
                    break;
                }
            }
        };
        let reading = blocking(move || {
            let mut reader = Parts { next: || receiver.blocking_recv(), current: Bytes::new() };
            self.read_stream(&item, &mut reader, cursor)
        });
        let ((), cursor) = tokio::join!(fetched, reading);
        cursor
    }

    /// One object, block by block: a chunk each, its lines not copied.
    fn read_stream(&self, item: &Item, reader: &mut dyn Read, mut cursor: Cursor) -> Result<Cursor> {
        let corrupt = |reason: String| Error::corrupt(&item.relative, reason);
        let mut reader = decoder(reader, item.object.compression).map_err(|e| corrupt(e.to_string()))?;
        let mut object =
            ObjectState::new(item.object.first_offset, item.object.modified_us, item.manifest.clone());
        let mut failure = None;
        // A chunk is held back until the next one is there: only the last one ends the object.
        let mut held: Option<Chunk> = None;
        let mut first = item.object.bytes;
        let cut = cut::whole_lines(&mut reader, self.options.chunk_bytes, |block| {
            if std::mem::take(&mut first) && !line::begins_with_json(&block) {
                failure = Some(NOT_JSON.to_owned());
                return false;
            }
            let mut chunk = Chunk::default();
            let split = cursor.split(&mut object, &block, 0, &mut chunk);
            match split.and_then(|unwrapped| append_unwrapped(block, unwrapped, &mut chunk.records)) {
                Ok(data) => chunk.data = data,
                Err(reason) => {
                    failure = Some(reason);
                    return false;
                }
            }
            match held.replace(chunk) {
                Some(previous) => self.sender.blocking_send(Ok(previous)).is_ok(),
                None => true,
            }
        });
        cut.map_err(|e| corrupt(format!("cannot be read: {e}")))?;
        if let Some(reason) = failure {
            return Err(corrupt(reason));
        }
        if self.sender.is_closed() {
            return Ok(cursor);
        }
        object.check().map_err(corrupt)?;
        let mut last = held.unwrap_or_default();
        (last.ends_object, last.objects) = (true, 1);
        let _ = self.sender.blocking_send(Ok(last));
        Ok(cursor)
    }

    /// Small objects, handed out as one chunk. What stands before one that cannot be read is handed out too.
    fn read_small(
        &self,
        items: impl Iterator<Item = (u64, Result<Item>)>,
        mut cursor: Cursor,
    ) -> Result<Cursor> {
        let mut small = Small::default();
        let mut failure = None;
        for (first_offset, item) in items {
            self.at.store(first_offset, Ordering::Relaxed);
            if let Err(error) = item.and_then(|item| small.add(item, &mut cursor)) {
                failure = Some(error);
                break;
            }
        }
        let Small { mut chunk, data, unwrapped } = small;
        let appended = append_unwrapped(data.into(), unwrapped, &mut chunk.records);
        chunk.data = appended.map_err(|reason| Error::corrupt(&self.place, reason))?;
        chunk.ends_object = true;
        let _ = self.sender.blocking_send(Ok(chunk));
        failure.map_or(Ok(cursor), Err)
    }
}

/// How many of the objects are read together: a run of small ones that fits into a chunk, or one large one.
fn group_len(objects: &[ArchivedObject], chunk_bytes: usize) -> usize {
    const MAX_OBJECTS: usize = 4096;
    let small = chunk_bytes as u64 / 8;
    let mut bytes = 0;
    let run = objects.iter().take(MAX_OBJECTS).take_while(|object| {
        bytes += object.size;
        object.size <= small && bytes <= chunk_bytes as u64
    });
    run.count().max(1)
}

/// Reads parts of an object as they arrive.
struct Parts<F> {
    next: F,
    current: Bytes,
}

impl<F: FnMut() -> Option<object_store::Result<Bytes>>> Read for Parts<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match (self.next)() {
                None => return Ok(0),
                Some(part) => self.current = part.map_err(io::Error::other)?,
            }
        }
        let len = buffer.len().min(self.current.len());
        buffer[..len].copy_from_slice(&self.current.split_to(len));
        Ok(len)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::task("read the archive", &e))?
}
