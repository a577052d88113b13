//! Writing objects: each once, under a name that follows from its first offset.

use std::io::{Read, Write};

use bytes::Bytes;
use object_store::ObjectStoreExt;

use super::manifest::MAX_OBJECT_RECORDS;
use super::{Archive, Compression, Manifest, ObjectName, line, split};
use crate::{Error, RangeSum, Result, TopicPartition, record_hash};

/// No object holds more bytes of lines than this: an object is built in memory.
pub const MAX_OBJECT_BYTES: usize = 1 << 30;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// The records of an object to be, kept as lines in memory.
#[derive(Debug)]
pub struct ObjectBuilder {
    place: TopicPartition,
    generation: Option<String>,
    lines: Vec<u8>,
    offsets: Vec<u64>,
    timestamps_ms: Vec<i64>,
    hashes: Vec<u64>,
    sum: RangeSum,
}

impl ObjectBuilder {
    /// An object without records yet.
    pub fn new(place: &TopicPartition, generation: Option<&str>) -> Self {
        Self {
            place: place.clone(),
            generation: generation.map(str::to_owned),
            lines: Vec::new(),
            offsets: Vec::new(),
            timestamps_ms: Vec::new(),
            hashes: Vec::new(),
            sum: RangeSum::default(),
        }
    }

    /// Takes the next record; `None` is a tombstone.
    ///
    /// # Errors
    /// [`Error::BadRecord`] when the offset does not ascend, or the object would hold more than 50 million records
    /// or a GiB.
    pub fn push(&mut self, offset: u64, timestamp_ms: i64, value: Option<&[u8]>) -> Result<()> {
        let bad =
            |reason: &str| Error::BadRecord { place: self.place.clone(), offset, reason: reason.to_owned() };
        if !self.is_empty() && offset <= self.sum.last {
            return Err(bad("records must come in ascending order"));
        }
        if self.sum.count >= MAX_OBJECT_RECORDS
            || self.lines.len() + value.map_or(0, <[u8]>::len) > MAX_OBJECT_BYTES
        {
            return Err(bad("the object is full"));
        }
        line::encode(value, &mut self.lines);
        self.lines.push(b'\n');
        let hash = record_hash(offset, value);
        self.sum.add_hashed(offset, hash);
        self.offsets.push(offset);
        self.timestamps_ms.push(timestamp_ms);
        self.hashes.push(hash);
        Ok(())
    }

    /// Number of records, first and last offset, hash.
    pub fn sum(&self) -> &RangeSum {
        &self.sum
    }

    /// Size of the lines, uncompressed.
    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// True before the first record.
    pub fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }

    /// Time of the first record, in milliseconds since the Unix epoch.
    pub fn first_timestamp_ms(&self) -> Option<i64> {
        self.timestamps_ms.first().copied()
    }

    fn name(&self, compression: Compression) -> ObjectName {
        ObjectName { place: self.place.clone(), first_offset: self.sum.first, compression }
    }

    /// Sum of the first `count` records.
    fn sum_of(&self, count: usize) -> RangeSum {
        let mut sum = RangeSum::default();
        for (&offset, &hash) in self.offsets.iter().zip(&self.hashes).take(count) {
            sum.add_hashed(offset, hash);
        }
        sum
    }

    /// The manifest of the first `count` records, whose lines have `bytes` bytes.
    fn manifest(&self, count: usize, bytes: usize) -> Manifest {
        let sum = self.sum_of(count);
        let gapless = sum.last - sum.first + 1 == sum.count;
        Manifest {
            generation: self.generation.clone(),
            sum,
            bytes: bytes as u64,
            timestamps_ms: self.timestamps_ms.iter().take(count).copied().collect(),
            offsets: if gapless { Vec::new() } else { self.offsets.iter().take(count).copied().collect() },
        }
    }
}

/// What became of a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The object was written with all the records.
    Written(Stored),
    /// The object was there from an earlier attempt, and holds the first of the given records, or all of them: go on
    /// after the last one it covers.
    Adopted(Stored),
    /// The object was there from an earlier attempt, agrees with the given records as far as they go, and holds
    /// more: push records until the builder has `count`, then put again.
    Longer {
        /// How many records the object holds.
        count: u64,
    },
}

/// An object that is in the archive with its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Path relative to the lake.
    pub path: String,
    /// The records it covers.
    pub sum: RangeSum,
}

impl Archive {
    /// Writes an object and then its manifest, or adopts what an earlier attempt left. When it returns
    /// [`Put::Written`] or [`Put::Adopted`] both are durable, and the caller may move its position to
    /// `sum.last + 1`. After any error the same call may be made again.
    ///
    /// # Errors
    /// [`Error::ArchiveConflict`] or [`Error::Generation`] when an object of this name holds other records: nothing
    /// was changed and going on would lose or double records. [`Error::Store`]. [`Error::BadRecord`] for a
    /// builder without records.
    pub async fn put(&self, object: &ObjectBuilder) -> Result<Put> {
        if object.is_empty() {
            let (place, reason) = (object.place.clone(), "an object without records".into());
            return Err(Error::BadRecord { place, offset: 0, reason });
        }
        fail::fail_point!("lake::archive::before_data", |_| Err(injected()));
        if let Some(there) = self.under_another_extension(object).await? {
            return self.adopt(object, &there).await;
        }
        let name = object.name(self.config.compression);
        let data = compress(&object.lines, self.config.compression)
            .map_err(|e| Error::corrupt(&name, format!("cannot be compressed: {e}")))?;
        if !self.lake.put_if_absent(&self.object_path(&name), data).await? {
            return self.adopt(object, &name).await;
        }
        fail::fail_point!("lake::archive::before_manifest", |_| Err(injected()));
        let manifest = object.manifest(object.offsets.len(), object.lines.len());
        self.put_manifest(&name, &manifest).await?;
        fail::fail_point!("lake::archive::after_manifest", |_| Err(injected()));
        Ok(Put::Written(self.stored(&name, manifest.sum)))
    }

    /// The compression may have been changed since a crash: then the object has another extension.
    async fn under_another_extension(&self, object: &ObjectBuilder) -> Result<Option<ObjectName>> {
        for compression in Compression::ALL {
            let name = object.name(compression);
            let path = self.object_path(&name);
            if compression == self.config.compression || !self.lake.has_room_for(&path) {
                continue;
            }
            match self.lake.store().head(&path).await {
                Ok(_) => return Ok(Some(name)),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(Error::store("read", self.lake.relative(&path), error)),
            }
        }
        Ok(None)
    }

    /// An object of this name is there: is it ours?
    async fn adopt(&self, object: &ObjectBuilder, name: &ObjectName) -> Result<Put> {
        let path = self.manifest_path(name);
        let manifest = match self.lake.get(&path).await? {
            Some(bytes) => {
                let read = Manifest::decode(&bytes);
                let manifest = read.map_err(|e| Error::corrupt(self.lake.relative(&path), e))?;
                // Whoever put it may have died before its name was on disk: a put that finds it has it kept.
                self.lake.put_if_absent(&path, bytes).await?;
                manifest
            }
            None => match self.compare_data(object, name).await? {
                Found::Longer { count } => return Ok(Put::Longer { count }),
                Found::Prefix { count, bytes } => {
                    let manifest = object.manifest(count, bytes);
                    self.put_manifest(name, &manifest).await?;
                    manifest
                }
            },
        };
        match compare_manifest(object, &manifest) {
            Agreement::Covers => Ok(Put::Adopted(self.stored(name, manifest.sum))),
            Agreement::Longer => Ok(Put::Longer { count: manifest.sum.count }),
            Agreement::OtherGeneration { found, given } => Err(Error::Generation {
                place: self.stored(name, manifest.sum).path,
                topic: object.place.topic.clone(),
                found,
                given,
            }),
            Agreement::Differs(reason) => {
                Err(Error::ArchiveConflict { path: self.stored(name, manifest.sum).path, reason })
            }
        }
    }

    /// Compares the lines of an object that has no manifest with the builder's.
    async fn compare_data(&self, object: &ObjectBuilder, name: &ObjectName) -> Result<Found> {
        let path = self.object_path(name);
        let relative = self.lake.relative(&path);
        let data = self.lake.get(&path).await?;
        let data = data.ok_or_else(|| Error::corrupt(&relative, "it was there and is gone"))?;
        let lines = decompress(data, name.compression).map_err(|e| Error::corrupt(&relative, e))?;
        let common = lines.iter().zip(&object.lines).take_while(|(a, b)| a == b).count();
        let count = memchr::memchr_iter(b'\n', &lines).count();
        if common == lines.len() && lines.ends_with(b"\n") {
            return Ok(Found::Prefix { count, bytes: lines.len() });
        }
        if common == object.lines.len() {
            return Ok(Found::Longer { count: count as u64 });
        }
        let line = memchr::memchr_iter(b'\n', &lines[..common]).count();
        let offset = object.offsets.get(line).copied().unwrap_or(object.sum.last);
        Err(Error::ArchiveConflict {
            path: relative,
            reason: format!("they differ first at offset {offset}"),
        })
    }

    async fn put_manifest(&self, name: &ObjectName, manifest: &Manifest) -> Result<()> {
        let (path, bytes) = (self.manifest_path(name), Bytes::from(manifest.encode()));
        if self.lake.put_if_absent(&path, bytes.clone()).await? {
            return Ok(());
        }
        // Our own put whose answer was lost, or another archiver that wrote the same at the same time.
        match self.lake.get(&path).await? {
            Some(there) if there == bytes => Ok(()),
            _ => Err(Error::ArchiveConflict {
                path: self.lake.relative(&path),
                reason: "another archiver is at work on this partition".into(),
            }),
        }
    }

    fn stored(&self, name: &ObjectName, sum: RangeSum) -> Stored {
        Stored { path: self.lake.relative(&self.object_path(name)), sum }
    }
}

/// How an object without manifest compares with the records at hand.
enum Found {
    /// It holds their first `count`.
    Prefix { count: usize, bytes: usize },
    /// It holds them all and more.
    Longer { count: u64 },
}

/// How an object with a manifest compares with the records at hand.
#[derive(Debug, PartialEq, Eq)]
enum Agreement {
    /// It holds the first of them, or all.
    Covers,
    /// It holds more; whether it agrees is told by its hash once there are as many.
    Longer,
    OtherGeneration {
        found: String,
        given: String,
    },
    Differs(String),
}

fn compare_manifest(object: &ObjectBuilder, there: &Manifest) -> Agreement {
    if let (Some(found), Some(given)) = (&there.generation, &object.generation)
        && found != given
    {
        return Agreement::OtherGeneration { found: found.clone(), given: given.clone() };
    }
    if there.sum.count > object.sum.count {
        return Agreement::Longer;
    }
    let ours = object.sum_of(there.sum.count as usize);
    match ours == there.sum {
        true => Agreement::Covers,
        false => {
            let RangeSum { first, last, count, hash } = there.sum;
            let what = format!("{count} records from {first} to {last} with hash {hash:016x}");
            Agreement::Differs(format!(
                "{what}; the log has {} to {} with {:016x}",
                ours.first, ours.last, ours.hash
            ))
        }
    }
}

fn compress(lines: &[u8], compression: Compression) -> std::io::Result<Bytes> {
    Ok(match compression {
        Compression::None => Bytes::copy_from_slice(lines),
        Compression::Gzip => {
            // No time and no name in the header: the same records give the same bytes.
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(lines)?;
            encoder.finish()?.into()
        }
        Compression::Zstd => zstd::bulk::compress(lines, ZSTD_LEVEL)?.into(),
    })
}

fn decompress(data: Bytes, compression: Compression) -> std::io::Result<Bytes> {
    if compression == Compression::None {
        return Ok(data);
    }
    let mut lines = Vec::new();
    let read = split::decoder(std::io::Cursor::new(data), compression)?
        .take(MAX_OBJECT_BYTES as u64 + 1)
        .read_to_end(&mut lines)?;
    match read > MAX_OBJECT_BYTES {
        true => Err(std::io::Error::other(format!("more than {MAX_OBJECT_BYTES} bytes"))),
        false => Ok(lines.into()),
    }
}

/// What a failpoint returns: an error that stands for the process's end.
#[cfg(feature = "failpoints")]
fn injected() -> Error {
    Error::Task { doing: "archive", reason: "failpoint".into() }
}
