//! The little that the log asks of a file system, so that a test can put a worse one in its place.
//!
//! Files are read and written by position; there is no cursor, so handles are shared freely. [`RealDisk`] is the
//! operating system; `sim::SimDisk` (feature `sim`) loses what was not synced, fails and fills up on demand.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file for reading and writing; what was there before is gone.
    Create,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, without the folder.
    pub name: String,
    /// True for a folder.
    pub is_dir: bool,
}

/// Holds a lock until it is dropped.
pub trait LockGuard: Send + Sync + Debug {}

/// A file system. A crash may lose every byte that no [`DiskFile::sync_data`] and every name that no
/// [`Disk::sync_dir`] has confirmed.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, or what else the system answers.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a folder and those above it; no error where it exists.
    ///
    /// # Errors
    /// What the system answers.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the system answers.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Moves a file or folder, replacing a file.
    ///
    /// # Errors
    /// What the system answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the system answers.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it.
    ///
    /// # Errors
    /// What the system answers.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The entries of a folder, ascending by name.
    ///
    /// # Errors
    /// `NotFound`, or what else the system answers.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Takes the lock that `path` stands for, writing `note` into it; the note of the holder where it is taken.
    ///
    /// # Errors
    /// What the system answers.
    fn try_lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads into `buf` from `position`; fewer bytes than asked for may come, none at the end.
    ///
    /// # Errors
    /// What the system answers.
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes the buffers one after the other at `position`; fewer bytes than given may be taken.
    ///
    /// # Errors
    /// What the system answers.
    fn write_at(&self, position: u64, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    /// What the system answers. What the disk holds is then unknown.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// What the system answers.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// What the system answers.
    fn len(&self) -> io::Result<u64>;
    /// True for a file without bytes.
    ///
    /// # Errors
    /// What the system answers.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Buffers one vectored write may take: the smallest `IOV_MAX` in use.
const MAX_SLICES: usize = 1024;

/// Writes all bytes of all buffers, however little the disk takes at a time.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    mut position: u64,
    mut bufs: &mut [IoSlice<'_>],
) -> io::Result<()> {
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let some = bufs.get(..MAX_SLICES).unwrap_or(bufs);
        match file.write_at(position, some) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                position += n as u64;
                IoSlice::advance_slices(&mut bufs, n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buf` from `position` as far as the file goes; returns how many bytes came.
pub(crate) fn read_full_at(file: &dyn DiskFile, position: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(position + filled as u64, rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The whole of a small file; `None` where there is none.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let filled = read_full_at(&*file, 0, &mut bytes)?;
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// Replaces a small file so that a crash leaves either the old or the new one: temporary file, fsync, rename, fsync
/// of the folder.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!("~{name}"));
    let file = disk.open(&temporary, Open::Create)?;
    write_all_at(&*file, 0, &mut [IoSlice::new(bytes)])?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    /// The lock goes when the file is closed, also when the process is killed.
    _file: File,
}

impl LockGuard for RealLock {}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::Create => options.read(true).write(true).create(true).truncate(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn try_lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        let mut file = open_lock(path)?;
        match file.try_lock() {
            Ok(()) => {
                // The note only helps people: where it cannot be written, there is a lock all the same.
                let _ = write_note(&mut file, note);
                Ok(Ok(Box::new(RealLock { _file: file })))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(256).read_to_string(&mut holder);
                Ok(Err(holder.trim().to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Opens the file of a lock. What may only be read, as on a mount without writes, is locked as well as any other.
fn open_lock(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    match opened {
        Err(error) if is_read_only(&error) => File::open(path).map_err(|_| error),
        opened => opened,
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn write_note(file: &mut File, note: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(note.as_bytes())
}

impl DiskFile for RealFile {
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }

    fn write_at(&self, position: u64, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, bufs, position)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
