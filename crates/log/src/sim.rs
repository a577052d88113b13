//! A disk in memory that behaves as badly as a real one may.
//!
//! It keeps what is durable apart from what is visible: bytes become durable with [`DiskFile::sync_data`], names with
//! [`Disk::sync_dir`] of their folder. [`SimDisk::restart`] gives the disk that the machine finds after a power loss. A
//! failed sync drops the bytes as Linux does: they stay visible, a later sync succeeds and still does not write them.
//! Beyond that it runs full, writes short, fails at random ([`Faults`]), and switches off at any chosen step.

mod faults;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use self::faults::Faults;
use self::faults::{Dice, Striking};
use self::file::SimFile;
use crate::disk::{Disk, DiskFile, Entry, LockGuard, Open};
use crate::health::lock;

/// What a power loss does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// All of it is gone.
    LoseAll,
    /// Each page and each change of a folder may or may not have reached the disk; the number seeds the dice.
    Random(u64),
    /// All that was written is there, and no cut that was not synced.
    UndoCuts,
}

/// The simulated disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

const PAGE: usize = 4096;

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    locks: BTreeSet<PathBuf>,
    /// Changing calls and syncs so far.
    steps: u64,
    syncs: u64,
    off_at: Option<u64>,
    is_off: bool,
    failing_sync: Option<u64>,
    /// Calls that need a descriptor so far.
    opens: u64,
    failing_open: Option<u64>,
    quota: Option<u64>,
    short_writes: Option<Dice>,
    bytes_read: u64,
    faults: Striking,
}

#[derive(Debug, Clone)]
enum Node {
    Dir(Dir),
    File(FileNode),
}

#[derive(Debug, Clone, Default)]
struct Dir {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes since the last sync; each is one that a file system makes whole or not at all.
    changes: Vec<Vec<(String, Option<usize>)>>,
}

#[derive(Debug, Clone, Default)]
struct FileNode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges written since the last sync, and the shortest length the file had.
    dirty: Vec<(usize, usize)>,
    shortest: usize,
    /// What it held before it was first cut since the last sync.
    uncut: Option<Vec<u8>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            nodes: vec![Node::Dir(Dir::default())],
            locks: BTreeSet::new(),
            steps: 0,
            syncs: 0,
            off_at: None,
            is_off: false,
            failing_sync: None,
            opens: 0,
            failing_open: None,
            quota: None,
            short_writes: None,
            bytes_read: 0,
            faults: Striking::default(),
        }
    }
}

fn failure(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

impl FileNode {
    /// A file that holds these bytes for certain.
    fn holding(bytes: Vec<u8>) -> Self {
        Self { shortest: bytes.len(), live: bytes.clone(), durable: bytes, ..Self::default() }
    }

    /// Changes the length; what is new is zeros.
    fn cut(&mut self, len: usize) {
        self.uncut.get_or_insert_with(|| self.live.clone());
        self.live.resize(len, 0);
        self.shortest = self.shortest.min(len);
    }

    fn sync(&mut self) {
        self.durable.truncate(self.shortest);
        self.durable.resize(self.live.len(), 0);
        for (from, to) in self.dirty.drain(..) {
            let to = to.min(self.live.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.live[from..to]);
            }
        }
        self.shortest = self.live.len();
        self.uncut = None;
    }

    /// Bytes after a power loss that kept what was written, and not that it was cut.
    fn uncut(&self) -> Vec<u8> {
        self.uncut.as_ref().unwrap_or(&self.live).clone()
    }

    /// Bytes after a power loss that kept some pages.
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        match dice.roll(4) {
            0 => return self.durable.clone(),
            1 => return self.live.clone(),
            2 => return self.uncut(),
            _ => {}
        }
        let mut bytes = self.durable.clone();
        bytes.truncate(self.shortest);
        let grown = self.live.len().saturating_sub(bytes.len());
        bytes.resize(bytes.len() + dice.roll(grown + 1), 0);
        for &(from, to) in &self.dirty {
            for page in (from / PAGE * PAGE..to).step_by(PAGE) {
                let (from, to) =
                    (page.max(from), (page + PAGE).min(to).min(bytes.len()).min(self.live.len()));
                if from < to && dice.roll(2) == 0 {
                    bytes[from..to].copy_from_slice(&self.live[from..to]);
                }
            }
        }
        bytes
    }
}

impl State {
    /// Counts a changing call; fails when the disk is off or goes off now.
    fn step(&mut self) -> io::Result<()> {
        if !self.is_off {
            self.steps += 1;
            self.is_off = self.off_at.is_some_and(|at| self.steps >= at);
        }
        self.alive()
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_off { Err(failure("the simulated power is off")) } else { Ok(()) }
    }

    /// Counts a sync; true where this is the one that fails.
    fn sync_fails(&mut self) -> bool {
        self.syncs += 1;
        self.failing_sync == Some(self.syncs)
    }

    /// Counts a call that needs a descriptor; fails where this is the one that gets none.
    fn descriptor(&mut self) -> io::Result<()> {
        self.opens += 1;
        if self.failing_open == Some(self.opens) { Err(rustix::io::Errno::MFILE.into()) } else { Ok(()) }
    }

    fn names(path: &Path) -> Vec<String> {
        let normal = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        });
        normal.collect()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for name in Self::names(path) {
            at = match &self.nodes[at] {
                Node::Dir(dir) => *dir.live.get(&name).ok_or(io::ErrorKind::NotFound)?,
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            };
        }
        Ok(at)
    }

    fn dir(&mut self, number: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[number] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, number: usize) -> io::Result<&mut FileNode> {
        match &mut self.nodes[number] {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The folder that `path` is in, and its name there.
    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        Ok((self.find(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Changes entries of one folder, whole or not at all.
    fn change(&mut self, dir: usize, change: Vec<(String, Option<usize>)>) -> io::Result<()> {
        let dir = self.dir(dir)?;
        apply(&mut dir.live, &change);
        dir.changes.push(change);
        Ok(())
    }

    fn used(&self) -> u64 {
        // A file without a name still takes room until it is closed; the log keeps none of those long.
        let mut used = 0;
        let mut open = vec![0];
        while let Some(number) = open.pop() {
            match &self.nodes[number] {
                Node::Dir(dir) => open.extend(dir.live.values()),
                Node::File(file) => used += file.live.len() as u64,
            }
        }
        used
    }
}

fn apply(entries: &mut BTreeMap<String, usize>, change: &[(String, Option<usize>)]) {
    for (name, node) in change {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as the machine finds it after the power was lost now: only what was synced is certain.
    #[must_use]
    pub fn restart(&self, how: PowerLoss) -> Self {
        let mut dice = match how {
            PowerLoss::LoseAll | PowerLoss::UndoCuts => None,
            PowerLoss::Random(seed) => Some(Dice(seed)),
        };
        let mut nodes = lock(&self.0).nodes.clone();
        for node in &mut nodes {
            match (node, &mut dice) {
                (Node::File(file), dice) => {
                    let kept = match (how, dice) {
                        (PowerLoss::UndoCuts, _) => file.uncut(),
                        (_, Some(dice)) => file.torn(dice),
                        (_, None) => file.durable.clone(),
                    };
                    *file = FileNode::holding(kept);
                }
                (Node::Dir(dir), dice) => {
                    let kept = match (how, dice) {
                        (PowerLoss::UndoCuts, _) => dir.changes.len(),
                        (_, Some(dice)) => dice.roll(dir.changes.len() + 1),
                        (_, None) => 0,
                    };
                    for change in dir.changes.drain(..).take(kept) {
                        apply(&mut dir.durable, &change);
                    }
                    dir.live = dir.durable.clone();
                }
            }
        }
        Self(Arc::new(Mutex::new(State { nodes, ..State::default() })))
    }

    /// The disk as the next process finds it when this one is killed now: everything written is there, also what no
    /// sync has made durable.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let nodes = lock(&self.0).nodes.clone();
        Self(Arc::new(Mutex::new(State { nodes, ..State::default() })))
    }

    /// Switches off at the `n`th changing call from now (1: the next one); that call and all later ones fail.
    pub fn switch_off_at(&self, n: u64) {
        let mut state = lock(&self.0);
        state.off_at = Some(state.steps + n);
    }

    /// True once it has switched off.
    pub fn is_off(&self) -> bool {
        lock(&self.0).is_off
    }

    /// Lets the `n`th sync from now (1: the next one), of a file or a folder, fail once.
    pub fn fail_sync(&self, n: u64) {
        let mut state = lock(&self.0);
        state.failing_sync = Some(state.syncs + n);
    }

    /// Syncs so far, of files and folders.
    pub fn syncs(&self) -> u64 {
        lock(&self.0).syncs
    }

    /// Lets the `n`th call from now that opens a file or a folder (1: the next one) fail once, for want of a descriptor.
    pub fn fail_open(&self, n: u64) {
        let mut state = lock(&self.0);
        state.failing_open = Some(state.opens + n);
    }

    /// Calls so far that opened a file or a folder.
    pub fn opens(&self) -> u64 {
        lock(&self.0).opens
    }

    /// Lets files hold at most `bytes` together; `None` lifts the limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        lock(&self.0).quota = bytes;
    }

    /// Fails at random from now on, or no longer.
    pub fn set_faults(&self, faults: Option<Faults>) {
        lock(&self.0).faults.set(faults);
    }

    /// How often it has failed at random.
    pub fn faults_met(&self) -> u64 {
        lock(&self.0).faults.met()
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        lock(&self.0).bytes_read
    }

    /// Takes a random part of about every other write only.
    pub fn write_short(&self, seed: u64) {
        lock(&self.0).short_writes = Some(Dice(seed));
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = lock(&self.0);
        let number = state.find(path)?;
        state.file(number).map(|file| file.live.clone())
    }

    /// Puts bytes in place of a file's, durably: damage, or its repair.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let mut state = lock(&self.0);
        let number = state.find(path)?;
        *state.file(number)? = FileNode::holding(bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.disk.0).locks.remove(&self.path);
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.0);
        state.alive()?;
        state.descriptor()?;
        state.faults.names_something()?;
        let number = match (how, state.find(path)) {
            (Open::Create, found) => {
                state.step()?;
                if state.faults.strikes(|faults| faults.full) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                match found {
                    Ok(number) => {
                        let file = state.file(number)?;
                        file.cut(0);
                        file.dirty.clear();
                        number
                    }
                    Err(_) => {
                        let (dir, name) = state.parent(path)?;
                        state.nodes.push(Node::File(FileNode::default()));
                        let number = state.nodes.len() - 1;
                        state.change(dir, vec![(name, Some(number))])?;
                        number
                    }
                }
            }
            (_, found) => found?,
        };
        state.file(number)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.alive()?;
        let mut at = 0;
        for name in State::names(path) {
            let there = state.dir(at)?.live.get(&name).copied();
            at = match there {
                Some(number) => number,
                None => {
                    state.step()?;
                    state.nodes.push(Node::Dir(Dir::default()));
                    let number = state.nodes.len() - 1;
                    state.change(at, vec![(name, Some(number))])?;
                    number
                }
            };
        }
        state.dir(at).map(|_| ())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.descriptor()?;
        state.step()?;
        if state.faults.strikes(|faults| faults.syncs) {
            return Err(rustix::io::Errno::IO.into());
        }
        if state.sync_fails() {
            return Err(failure("simulated failure of a sync"));
        }
        let number = state.find(path)?;
        let dir = state.dir(number)?;
        dir.changes.clear();
        dir.durable = dir.live.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.step()?;
        state.faults.names_something()?;
        let number = state.find(from)?;
        if let Ok(there) = state.find(to)
            && matches!(&state.nodes[there], Node::Dir(dir) if !dir.live.is_empty())
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let ((from_dir, from), (to_dir, to)) = (state.parent(from)?, state.parent(to)?);
        if from_dir == to_dir {
            return state.change(from_dir, vec![(from, None), (to, Some(number))]);
        }
        state.change(to_dir, vec![(to, Some(number))])?;
        state.change(from_dir, vec![(from, None)])
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.alive()?;
        let number = state.find(path)?;
        state.file(number)?;
        state.step()?;
        state.faults.names_something()?;
        let (dir, name) = state.parent(path)?;
        state.change(dir, vec![(name, None)])
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let path = path.join(&entry.name);
            if entry.is_dir {
                self.remove_dir_all(&path)?;
            } else {
                self.remove_file(&path)?;
            }
        }
        let mut state = lock(&self.0);
        state.step()?;
        let (dir, name) = state.parent(path)?;
        state.change(dir, vec![(name, None)])
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut state = lock(&self.0);
        state.alive()?;
        state.descriptor()?;
        state.faults.names_something()?;
        let number = state.find(path)?;
        let live = state.dir(number)?.live.clone();
        let is_dir = |number: usize| matches!(state.nodes[number], Node::Dir(_));
        Ok(live.into_iter().map(|(name, number)| Entry { name, is_dir: is_dir(number) }).collect())
    }

    fn try_lock(&self, path: &Path, _note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        let mut state = lock(&self.0);
        state.alive()?;
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(Err(String::new()));
        }
        Ok(Ok(Box::new(SimLock { disk: self.clone(), path: path.to_path_buf() })))
    }
}
