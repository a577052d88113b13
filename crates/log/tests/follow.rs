//! A view that follows an owner whose writes fail: what was taken back is not there, what came later is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use pinmill_log::sim::SimDisk;
use pinmill_log::{Disk, DiskFile, Entry, Error, LockGuard, Log, Open};
use support::*;

/// A whole batch's length in bytes to how many of them are written before the write fails.
type Part = fn(usize) -> usize;

/// The owner's disk. While a part is set, each write fails after that part of its first batch, and the view looks before
/// the owner takes it back.
#[derive(Debug, Clone, Default)]
struct Failing {
    disk: SimDisk,
    part: Arc<Mutex<Option<Part>>>,
    view: Arc<OnceLock<Log>>,
    /// What the view answered: whether it saw something new.
    looks: Arc<Mutex<Vec<bool>>>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    disk: Failing,
}

impl Failing {
    fn look(&self) {
        let is_new = self.view.get().unwrap().refresh(TOPIC).unwrap();
        self.looks.lock().unwrap().push(is_new);
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buf)
    }

    fn write_at(&self, position: u64, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(part) = *self.disk.part.lock().unwrap() else {
            return self.file.write_at(position, bufs);
        };
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let body = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        let written = &bytes[..part(64 + body)];
        assert_eq!(self.file.write_at(position, &[IoSlice::new(written)]).unwrap(), written.len());
        self.disk.look();
        Err(io::Error::other("the disk failed a write"))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Disk for Failing {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        Ok(Arc::new(FailingFile { file, disk: self.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn try_lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        self.disk.try_lock(path, note)
    }
}

/// A log of these values, and a view that has seen them.
fn followed(values: &[String]) -> (Failing, Log) {
    let disk = Failing::default();
    let (log, _) = Log::open_on(Arc::new(disk.clone()), DIR, small(64 << 20)).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    for value in values {
        append(&log, std::slice::from_ref(value)).unwrap();
    }
    let plain: Arc<dyn Disk> = Arc::new(disk.disk.clone());
    disk.view.set(Log::view_on(&plain, DIR).unwrap()).unwrap();
    (disk, log)
}

/// An append that fails after a part of it was written, and is taken back.
fn fail_to_append(disk: &Failing, log: &Log, part: Part, value: &str) {
    *disk.part.lock().unwrap() = Some(part);
    let failed = append(log, &[value.to_owned()]);
    assert!(matches!(failed, Err(Error::WriteFailed { .. })), "{failed:?}");
    *disk.part.lock().unwrap() = None;
}

#[test]
fn a_view_sees_what_comes_in_the_place_of_a_write_that_was_taken_back() {
    let taken_back = "t".repeat(200);
    // Before the first batch of a segment, and behind one.
    for before in [0, 3] {
        for len in [1, 199, 200, 201, 1_000] {
            let (disk, log) = followed(&vec!["before".to_owned(); before]);
            let view = disk.view.get().unwrap();
            fail_to_append(&disk, &log, |whole| whole, &taken_back);
            assert!(disk.looks.lock().unwrap()[0], "the view took in what was about to be taken back");
            for n in 0..4 {
                append(&log, &[format!("{n}").repeat(len)]).unwrap();
                view.refresh(TOPIC).unwrap();
                assert_eq!(
                    view.offsets(TOPIC, 0).unwrap(),
                    log.offsets(TOPIC, 0).unwrap(),
                    "{before}, {len}"
                );
                assert_eq!(read_all(view).unwrap(), read_all(&log).unwrap(), "{before}, {len}");
            }
            assert!(!view.refresh(TOPIC).unwrap(), "it follows as before");
        }
    }
}

#[test]
fn a_view_goes_back_where_a_write_was_taken_back_and_nothing_came_in_its_place() {
    for before in [0, 3] {
        let (disk, log) = followed(&vec!["before".to_owned(); before]);
        let view = disk.view.get().unwrap();
        fail_to_append(&disk, &log, |whole| whole, "taken back");
        assert!(view.refresh(TOPIC).unwrap());
        assert_eq!(read_all(view).unwrap(), read_all(&log).unwrap());
        assert!(!view.refresh(TOPIC).unwrap());
    }
}

#[test]
fn a_view_goes_back_where_the_last_batch_was_cut_short() {
    let (disk, _log) = followed(&["kept".to_owned(), "cut short".to_owned()]);
    let view = disk.view.get().unwrap();
    let segment = segments(&disk.disk).pop().unwrap();
    let mut bytes = disk.disk.bytes(&segment).unwrap();
    // What the batch ends with, and the zeros behind it.
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap());
    disk.disk.set_bytes(&segment, bytes).unwrap();
    assert!(view.refresh(TOPIC).unwrap());
    assert_eq!(read_all(view).unwrap().into_values().collect::<Vec<_>>(), ["kept"]);
    assert!(!view.refresh(TOPIC).unwrap());
}

#[test]
fn a_batch_on_its_way_to_the_disk_is_nothing_new_and_has_nothing_read_again() {
    let parts: [Part; 5] = [|_| 1, |_| 63, |_| 64, |whole| whole / 2, |whole| whole - 1];
    let (disk, log) = followed(&vec!["y".repeat(60_000); 30]);
    let view = disk.view.get().unwrap();
    let before = disk.disk.bytes_read();
    for part in parts {
        fail_to_append(&disk, &log, part, &"t".repeat(200));
    }
    let looks = std::mem::take(&mut *disk.looks.lock().unwrap());
    assert!(looks.len() >= parts.len() && !looks.contains(&true), "{looks:?}");
    let read = disk.disk.bytes_read() - before;
    assert!(read < 1_000_000, "{read} bytes were read in {} looks", looks.len());
    append(&log, &["after".to_owned()]).unwrap();
    assert!(view.refresh(TOPIC).unwrap());
    assert_eq!(read_all(view).unwrap(), read_all(&log).unwrap());
}
