//! Where the files of a local lake are written before they get their names.
//!
//! ```text
//! _pinmill/staging/<owner>/lock     locked for as long as the owner lives
//! _pinmill/staging/<owner>/<n>      a file that is being written
//! ```
//!
//! An owner is one open lake of one process. The folder lies beside the archive and the tables, on the same file system,
//! so that a file gets its name by one link or rename. Nothing else looks here: a reader of `topics/` or of a table never
//! sees half a file, nor a whole one twice.
//!
//! # Crash points
//!
//! | the process dies | then |
//! | --- | --- |
//! | while it makes its folder | an empty folder, or one with a lock that nobody holds, is left |
//! | while it writes a file, or before it names it | the file is left, its lock is free |
//! | after a link, before it removes the staged name | a second name of a whole file is left, here |
//!
//! The next process that puts a file removes what is left: the folders whose lock it gets. A living process holds its
//! lock, so several processes on one lake leave each other's files alone. A lock that is taken before its owner has it
//! makes the owner begin again under another name.
//!
//! Version 0.1 staged a file beside its destination, as `<name>#<digits>`. The first put into a lake that has no staging
//! folder yet removes those too, and only then makes the folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::durable::create_dirs_durably;

/// Where staged files lie within a lake.
const FOLDER: &str = "_pinmill/staging";
const LOCK: &str = "lock";

/// The staging folder of one open lake. Nothing is made before the first file.
#[derive(Debug)]
pub(crate) struct Staging {
    lake: PathBuf,
    owner: Mutex<Option<Arc<Owner>>>,
}

/// A folder of our own, with its lock.
#[derive(Debug)]
struct Owner {
    dir: PathBuf,
    next: AtomicU64,
    _lock: File,
}

impl Staging {
    pub(crate) fn new(lake: &Path) -> Self {
        Self { lake: lake.to_owned(), owner: Mutex::default() }
    }

    /// A new empty file and its path. The caller renames or removes it.
    pub(crate) fn file(&self) -> io::Result<(File, PathBuf)> {
        match self.owner()?.file() {
            // Somebody has cleared the folder by hand.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.owner()?.file()
            }
            made => made,
        }
    }

    /// Sweeps, and makes the folder, unless that was done before.
    pub(crate) fn claim(&self) -> io::Result<()> {
        self.owner().map(drop)
    }

    fn owner(&self) -> io::Result<Arc<Owner>> {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = &*owner {
            return Ok(Arc::clone(owner));
        }
        let root = self.lake.join(FOLDER);
        if root.is_dir() {
            sweep(&root);
        } else {
            sweep_beside(&self.lake);
            // What lies beside it in the same folder must not go with the folder's name.
            create_dirs_durably(&root)?;
        }
        let made = Arc::new(Owner::in_folder(&root)?);
        *owner = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl Owner {
    fn in_folder(root: &Path) -> io::Result<Self> {
        loop {
            let dir = root.join(uuid::Uuid::new_v4().simple().to_string());
            std::fs::create_dir_all(&dir)?;
            let path = dir.join(LOCK);
            let lock = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(lock) => lock,
                // Swept away in between.
                Err(error) if error.kind() == ErrorKind::NotFound && root.is_dir() => continue,
                Err(error) => return Err(error),
            };
            if let Err(error) = lock.lock() {
                tracing::debug!(%error, "{} cannot be locked: what is left here is not removed", path.display());
            }
            if path.exists() {
                return Ok(Self { dir, next: AtomicU64::new(1), _lock: lock });
            }
        }
    }

    fn file(&self) -> io::Result<(File, PathBuf)> {
        let path = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        Ok((OpenOptions::new().write(true).create_new(true).open(&path)?, path))
    }
}

impl Drop for Owner {
    /// A leftover does no harm, and the next process removes it.
    fn drop(&mut self) {
        remove_owner(&self.dir);
    }
}

/// Removes what dead owners have left. What cannot be removed stays: it does no harm here.
fn sweep(root: &Path) {
    let Ok(owners) = std::fs::read_dir(root) else { return };
    for dir in owners.flatten().map(|entry| entry.path()) {
        let lock = match OpenOptions::new().write(true).open(dir.join(LOCK)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == ErrorKind::NotFound && is_owner(&dir) => None,
            Err(_) => continue,
        };
        let held = match lock.as_ref().map(File::try_lock) {
            // An owner that is about to make its lock has no other file: its folder goes only when it is empty.
            None => std::fs::remove_dir(&dir).is_ok(),
            Some(Ok(())) => remove_owner(&dir),
            Some(Err(TryLockError::WouldBlock | TryLockError::Error(_))) => continue,
        };
        if held {
            tracing::debug!(dir = %dir.display(), "removed what a process that was killed had left");
        }
    }
}

/// Topics may be called like folders of ours, so that only names that we give are ours.
fn is_owner(dir: &Path) -> bool {
    dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| uuid::Uuid::try_parse(name).is_ok())
}

/// Removes an owner's folder, its lock last.
fn remove_owner(dir: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(dir) else { return false };
    for path in files.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with(LOCK)) {
        let _ = std::fs::remove_file(path);
    }
    let _ = std::fs::remove_file(dir.join(LOCK));
    std::fs::remove_dir(dir).is_ok()
}

/// Removes what version 0.1 left beside its destinations. A file that such a process is still writing is one whose put
/// fails, and is done again.
fn sweep_beside(lake: &Path) {
    let mut folders = vec![lake.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name().to_str().is_some_and(is_staged_beside) => {
                    remove_left(&entry.path());
                }
                _ => {}
            }
        }
    }
}

fn remove_left(path: &Path) {
    let file = path.display();
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%file, %error, "a file that a killed process had left cannot be removed");
    } else {
        tracing::info!(%file, "removed a file that a killed process had left");
    }
}

/// `<name>#<digits>`, as version 0.1 and `object_store` call files that are being written.
fn is_staged_beside(name: &str) -> bool {
    const ENDS: [&str; 6] = [".json", ".json.gz", ".json.zst", ".manifest", ".parquet", "_last_checkpoint"];
    let Some((name, digits)) = name.rsplit_once('#') else { return false };
    let numbered = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    numbered && ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(lake: &Path) -> Vec<PathBuf> {
        let read = std::fs::read_dir(lake.join(FOLDER)).unwrap();
        read.map(|entry| entry.unwrap().path()).collect()
    }

    /// What a process leaves that dies while it writes a file: its lock is free.
    fn killed(lake: &Path) -> PathBuf {
        let dir = lake.join(FOLDER).join(uuid::Uuid::new_v4().simple().to_string());
        std::fs::create_dir_all(&dir).unwrap();
        for name in [LOCK, "1", "2"] {
            std::fs::write(dir.join(name), "half").unwrap();
        }
        dir
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let living = Staging::new(dir.path());
        let (_, written) = living.file().unwrap();
        let dead = killed(dir.path());
        std::fs::create_dir(dir.path().join(FOLDER).join(uuid::Uuid::new_v4().simple().to_string())).unwrap();
        let other = Staging::new(dir.path());
        other.file().unwrap();
        assert!(written.exists(), "a file of a living process was removed");
        assert!(!dead.exists());
        assert_eq!(owners(dir.path()).len(), 2);
        drop((living, other));
        assert_eq!(owners(dir.path()), Vec::<PathBuf>::new(), "an owner that ended well left something");
    }

    #[test]
    fn the_folder_may_be_cleared_beside_a_living_process() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(dir.path());
        staging.file().unwrap();
        std::fs::remove_dir_all(dir.path().join("_pinmill")).unwrap();
        assert!(staging.file().unwrap().1.exists());
    }

    #[test]
    fn a_topic_that_is_called_like_the_folder_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join(FOLDER).join("partition=0/staging+0+0000000000.json.manifest");
        std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
        std::fs::write(&manifest, "{}").unwrap();
        Staging::new(dir.path()).file().unwrap();
        assert!(manifest.exists());
    }

    #[test]
    fn what_0_1_left_beside_its_destinations_is_removed_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("topics/t/partition=0").join(name);
        std::fs::create_dir_all(at("")).unwrap();
        let (left, kept) =
            (at("t+0+0000000000.json#1246487"), ["t+0+0000000000.json", "notes#1", "a.json#1b"]);
        std::fs::write(&left, "{}").unwrap();
        for name in kept {
            std::fs::write(at(name), "{}").unwrap();
        }
        Staging::new(dir.path()).file().unwrap();
        assert!(!left.exists());
        for name in kept {
            assert!(at(name).exists(), "{name}");
        }
        std::fs::write(&left, "{}").unwrap();
        Staging::new(dir.path()).file().unwrap();
        assert!(left.exists(), "a lake that has a staging folder is searched again");
    }

    #[test]
    fn many_that_begin_at_once_do_not_sweep_each_other_away() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let staging = Staging::new(dir.path());
                        let (_, path) = staging.file().unwrap();
                        assert!(path.exists());
                    }
                });
            }
        });
        assert_eq!(owners(dir.path()), Vec::<PathBuf>::new());
    }
}
