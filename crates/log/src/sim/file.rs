//! A file of a simulated disk: what is read, written, cut and synced, or fails to be.

use std::io::{self, IoSlice};

use super::{SimDisk, failure};
use crate::disk::DiskFile;
use crate::health::lock;

/// An open file, whatever it is called by now.
#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) number: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = lock(&self.disk.0);
        state.alive()?;
        if state.faults.strikes(|faults| faults.reads) {
            return Err(rustix::io::Errno::IO.into());
        }
        let file = state.file(self.number)?;
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(file.live.len());
        let mut len = buf.len().min(file.live.len() - from);
        if state.faults.strikes(|faults| faults.short) {
            len = state.faults.part_of(len);
        }
        let file = state.file(self.number)?;
        buf[..len].copy_from_slice(&file.live[from..from + len]);
        state.bytes_read += len as u64;
        Ok(len)
    }

    fn write_at(&self, position: u64, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = lock(&self.disk.0);
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let mut len = bytes.len();
        if state.short_writes.as_mut().is_some_and(|dice| dice.roll(2) == 0) {
            len = 1 + state.short_writes.as_mut().map_or(0, |dice| dice.roll(len));
            len = len.min(bytes.len());
        }
        if state.faults.strikes(|faults| faults.short) {
            len = state.faults.part_of(len);
        }
        state.step()?;
        if state.faults.strikes(|faults| faults.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fails = state.faults.strikes(|faults| faults.writes);
        if fails {
            // None of it may be there, some, or all.
            len = match state.faults.part_of(3) {
                1 => 0,
                2 => len,
                _ => state.faults.part_of(len + 1) - 1,
            };
        }
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let free = state.quota.map(|quota| quota.saturating_sub(state.used()));
        let file = state.file(self.number)?;
        let growth = (position + len).saturating_sub(file.live.len());
        if let Some(free) = free.map(|free| usize::try_from(free).unwrap_or(usize::MAX))
            && growth > free
        {
            len -= growth - free;
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        if file.live.len() < position + len {
            file.live.resize(position + len, 0);
        }
        file.live[position..position + len].copy_from_slice(&bytes[..len]);
        file.dirty.push((position, position + len));
        if fails { Err(rustix::io::Errno::IO.into()) } else { Ok(len) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        state.step()?;
        let fails = state.sync_fails() || state.faults.strikes(|faults| faults.syncs);
        let file = state.file(self.number)?;
        if fails {
            file.dirty.clear();
            return Err(failure("simulated failure of a sync"));
        }
        file.sync();
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        state.step()?;
        if state.faults.strikes(|faults| faults.writes) {
            return Err(rustix::io::Errno::IO.into());
        }
        state.file(self.number)?.cut(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = lock(&self.disk.0);
        state.alive()?;
        state.file(self.number).map(|file| file.live.len() as u64)
    }
}
