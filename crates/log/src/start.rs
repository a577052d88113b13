//! The first offset that a partition still holds, in the file `start`.
//!
//! Retention writes it before it removes segments, so that a segment that is missing is told from one that was let go.
//! Two slots of 24 bytes (start, number of the write, CRC32C of both, zero) are overwritten in turn: a torn write
//! leaves the other slot, and a full disk cannot stop retention from making room. Crash points: before the write
//! is durable, the old start holds and nothing was removed; after it, recovery removes what retention had not yet. A
//! process may read a start that was written and never flushed, so recovery writes it once more before it removes
//! anything.

use std::io::IoSlice;
use std::path::Path;

use bytes::{Buf, BufMut};

use crate::disk::{Disk, Open, read_full_at, write_all_at};
use crate::error::{Error, IoContext, Result};

/// Name of the file in the partition's folder.
pub(crate) const START_FILE: &str = "start";
const SLOT_LEN: usize = 24;

/// A partition's first offset.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// The first offset held.
    pub(crate) offset: u64,
    sequence: u64,
}

fn slot(offset: u64, sequence: u64) -> [u8; SLOT_LEN] {
    let mut bytes = [0; SLOT_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_u64_le(offset);
    out.put_u64_le(sequence);
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Start and number of the write.
fn parse(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut input = bytes;
    let (offset, sequence) = (input.try_get_u64_le().ok()?, input.try_get_u64_le().ok()?);
    (slot(offset, sequence).as_slice() == bytes).then_some((offset, sequence))
}

impl Start {
    /// Writes the file of a new partition; the caller makes its name durable.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, offset: u64) -> Result<()> {
        let path = dir.join(START_FILE);
        let file = disk.open(&path, Open::Create).during("create", &path)?;
        let bytes = [slot(offset, 0), slot(offset, 1)].concat();
        write_all_at(&*file, 0, &mut [IoSlice::new(&bytes)]).during("write", &path)?;
        file.sync_data().during("sync", &path)
    }

    /// Reads the file.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let path = dir.join(START_FILE);
        let file = match disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupt(&path, 0, "the file is missing"));
            }
            Err(error) => return Err(error).during("open", &path),
        };
        let mut bytes = [0; 2 * SLOT_LEN];
        let filled = read_full_at(&*file, 0, &mut bytes).during("read", &path)?;
        let newest = bytes[..filled].chunks(SLOT_LEN).filter_map(parse).max_by_key(|(_, sequence)| *sequence);
        match newest {
            Some((offset, sequence)) => Ok(Self { offset, sequence }),
            None => Err(Error::corrupt(&path, 0, "neither slot fits its checksum")),
        }
    }

    /// Moves the start on, durably.
    pub(crate) fn advance(&mut self, disk: &dyn Disk, dir: &Path, offset: u64) -> Result<()> {
        let path = dir.join(START_FILE);
        let file = disk.open(&path, Open::Write).during("open", &path)?;
        let sequence = self.sequence + 1;
        let position = (sequence % 2) * SLOT_LEN as u64;
        let bytes = slot(offset, sequence);
        write_all_at(&*file, position, &mut [IoSlice::new(&bytes)]).during("write", &path)?;
        file.sync_data().during("sync", &path)?;
        (self.offset, self.sequence) = (offset, sequence);
        Ok(())
    }
}
