//! A log as it is now, for a process that may only look: audits and status beside a running server.
//!
//! [`Log::view`] opens the log on a disk that reads from the operating system and keeps every change to itself: the
//! torn tail that recovery cuts, the marker that it removes, nothing of it reaches a file. So no lock is taken, and the
//! owner goes on writing. What the owner adds after the view was opened is not seen. What retention removes meanwhile
//! is missing from the view, as an error of the read that needed it.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, Entry, LockGuard, Open, RealDisk};
use crate::error::{Error, Result};
use crate::health::lock;
use crate::log::Log;

const PAGE: u64 = 4096;
/// The owner may be between two steps of a roll when the folder is read; the next look finds it done.
const ATTEMPTS: u32 = 5;

impl Log {
    /// Opens the log in folder `dir` as it is now, without its lock and without changing a byte of it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::FormatTooNew`], [`Error::Io`].
    pub fn view(dir: impl AsRef<Path>) -> Result<Self> {
        let config = || LogConfig { retention_interval: None, ..LogConfig::default() };
        let open =
            || Self::open_on(Arc::new(ViewDisk::default()), dir.as_ref(), config()).map(|(log, _)| log);
        let mut opened = open();
        for _ in 1..ATTEMPTS {
            if !matches!(opened, Err(Error::Corrupt { .. } | Error::Io { .. })) {
                break;
            }
            opened = open();
        }
        opened
    }
}

/// Reads from the operating system, and keeps every change to itself.
#[derive(Debug, Default)]
struct ViewDisk {
    changed: Mutex<BTreeMap<PathBuf, Arc<ViewFile>>>,
    removed: Mutex<BTreeSet<PathBuf>>,
}

/// A file of which some pages differ from the one on disk.
#[derive(Debug)]
struct ViewFile {
    /// Opened for each read: a view may meet more last segments than a process may hold open.
    below: Option<PathBuf>,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct Own {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl ViewFile {
    /// The page that holds `position`, as the file below has it; what lies beyond that is zero.
    fn page_below(&self, page: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE as usize];
        if let Some(below) = &self.below {
            crate::disk::read_full_at(&*RealDisk.open(below, Open::Read)?, page * PAGE, &mut bytes)?;
        }
        Ok(bytes)
    }
}

impl DiskFile for ViewFile {
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let own = lock(&self.own);
        let (page, within) = (position / PAGE, (position % PAGE) as usize);
        let most =
            own.len.saturating_sub(position).min(PAGE - position % PAGE).min(buf.len() as u64) as usize;
        let below;
        let bytes = match own.pages.get(&page) {
            Some(bytes) => bytes,
            None => {
                below = self.page_below(page)?;
                &below
            }
        };
        for (to, from) in buf.iter_mut().zip(bytes.iter().skip(within).take(most)) {
            *to = *from;
        }
        Ok(most)
    }

    fn write_at(&self, position: u64, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut own = lock(&self.own);
        let mut at = position;
        for byte in bufs.iter().flat_map(|buf| buf.iter()) {
            let page = match own.pages.entry(at / PAGE) {
                btree_map::Entry::Occupied(page) => page.into_mut(),
                btree_map::Entry::Vacant(page) => page.insert(self.page_below(at / PAGE)?),
            };
            if let Some(place) = page.get_mut((at % PAGE) as usize) {
                *place = *byte;
            }
            at += 1;
        }
        own.len = own.len.max(at);
        Ok((at - position) as usize)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        lock(&self.own).len = len;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.own).len)
    }
}

#[derive(Debug)]
struct NoLock;

impl LockGuard for NoLock {}

impl Disk for ViewDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut changed = lock(&self.changed);
        if let Some(file) = changed.get(path).filter(|_| how != Open::Create) {
            return Ok(Arc::clone(file) as Arc<dyn DiskFile>);
        }
        if how != Open::Create && lock(&self.removed).contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = match how {
            Open::Read => return RealDisk.open(path, Open::Read),
            Open::Write => {
                let below = RealDisk.open(path, Open::Read)?;
                let own = Own { len: below.len()?, pages: BTreeMap::new() };
                ViewFile { below: Some(path.to_owned()), own: Mutex::new(own) }
            }
            Open::Create => ViewFile { below: None, own: Mutex::default() },
        };
        let file = Arc::new(file);
        changed.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut changed = lock(&self.changed);
        // The log renames files that it has just written, and folders that it is about to remove.
        let file = changed.remove(from);
        lock(&self.removed).insert(from.to_owned());
        if let Some(file) = file {
            changed.insert(to.to_owned(), file);
            lock(&self.removed).remove(to);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.changed).remove(path);
        lock(&self.removed).insert(path.to_owned());
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.changed).retain(|file, _| !file.starts_with(path));
        lock(&self.removed).insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let removed = lock(&self.removed);
        let mut entries: BTreeSet<Entry> = match RealDisk.list(path) {
            Ok(entries) => {
                entries.into_iter().filter(|entry| !removed.contains(&path.join(&entry.name))).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        for file in lock(&self.changed).keys().filter(|file| file.parent() == Some(path)) {
            if let Some(name) = file.file_name() {
                entries.insert(Entry { name: name.to_string_lossy().into_owned(), is_dir: false });
            }
        }
        Ok(entries.into_iter().collect())
    }

    fn try_lock(&self, _: &Path, _: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        Ok(Ok(Box::new(NoLock)))
    }
}
