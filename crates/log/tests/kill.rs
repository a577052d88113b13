//! Kills child processes that write to a log, at random moments, and looks whether all that they said was acknowledged
//! is there; then kills children while they recover.
//!
//! `cargo test -p pinmill-log --test kill -- --cycles 2000 --nested 500 --seed 7` is the long form.
//!
//! This file is its own harness: the same program is parent and child. A child prints `w p b n h.` for each append of
//! its process that was acknowledged: writer, partition, first offset, number of records, and a hash of what they hold.
//! The parent looks whether those very records stand at those very offsets. What a record holds follows from its own bytes
//! too (a random number and bytes that follow from it), so that one that nobody was told of is known as right or wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pinmill_log::{Disk, DiskFile, Entry, LockGuard, Log, LogConfig, Open, RealDisk, Record, StoredRecord};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

const TOPIC: &str = "124df56aef51.pin";
const PARTITIONS: u32 = 3;
const WRITERS: u32 = 8;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let place = args.iter().position(|arg| arg == name);
        place.map_or(default, |place| args[place + 1].parse().expect("a whole number"))
    };
    if let Some(place) = args.iter().position(|arg| arg == "--child") {
        let dir = Path::new(&args[place + 1]);
        if args.iter().any(|arg| arg == "--writes") {
            write_until_killed(dir, number("--seed", 0));
        } else {
            recover_until_killed(dir, number("--halt", NEVER));
        }
        return;
    }
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    let seed =
        if args.iter().any(|arg| arg == "--seed") { number("--seed", 0) } else { pinmill_testkit::seed() };
    let (cycles, nested) = (number("--cycles", 50), number("--nested", 50));
    println!("kill: {cycles} cycles and {nested} kills during recovery, seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut parent = Parent {
        dice: StdRng::seed_from_u64(seed),
        dir: dir.path(),
        acknowledged: BTreeMap::new(),
        latest: BTreeMap::new(),
        checked: [(0, i64::MIN); PARTITIONS as usize],
    };
    for cycle in 0..cycles {
        parent.kill_a_writer();
        parent.check(&format!("seed {seed}, cycle {cycle}"));
    }
    let steps = parent.kill_while_recovering(nested);
    // All of it once more, from the first record on.
    parent.checked.fill((0, i64::MIN));
    parent.check(&format!("seed {seed}, after {nested} kills during recovery"));
    let records: u64 = parent.acknowledged.values().map(|append| append.count).sum();
    assert!(records > 0, "no append was acknowledged, nothing was tested");
    println!(
        "kill: ok, {records} acknowledged records kept, {nested} kills before one of {steps} steps of a recovery"
    );
}

fn config() -> LogConfig {
    // Small segments, so that kills hit rolls as well.
    LogConfig { segment_bytes: 256 << 10, index_interval_bytes: 8 << 10, ..LogConfig::default() }
}

struct Parent<'a> {
    dice: StdRng,
    dir: &'a Path,
    /// What was acknowledged, by partition and first offset.
    acknowledged: BTreeMap<(u32, u64), Append>,
    /// First offset of the latest append of each writer to each partition.
    latest: BTreeMap<(u64, u32), u64>,
    /// Up to where each partition was read and found right, and the newest time stamp there.
    checked: [(u64, i64); PARTITIONS as usize],
}

/// An append that was acknowledged.
struct Append {
    /// Number of records.
    count: u64,
    /// What they hold: [`hash_of_all`].
    hash: u64,
}

impl Parent<'_> {
    fn spawn(&self, more: &[&str]) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--child").arg(self.dir).args(more);
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Lets a child write, kills it after a random number of acknowledgements and a random moment more.
    fn kill_a_writer(&mut self) {
        let seed = self.dice.random::<u64>().to_string();
        let mut child = self.spawn(&["--writes", "--seed", &seed]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..self.dice.random_range(0..60) {
            let line = lines.next().expect("the child ended by itself").unwrap();
            self.note(&line);
        }
        std::thread::sleep(Duration::from_micros(self.dice.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            self.note(&line.unwrap());
        }
    }

    fn note(&mut self, line: &str) {
        // The last line may be cut short by the kill.
        let Some(line) = line.strip_suffix('.') else { return };
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [writer, partition, base, count, hash] = numbers[..] else { panic!("what is `{line}`?") };
        let partition = u32::try_from(partition).unwrap();
        let (read, _) = self.checked[partition as usize];
        assert!(base >= read, "partition {partition}: offset {base} was given again, it had been read");
        let known = self.acknowledged.insert((partition, base), Append { count, hash });
        assert!(known.is_none(), "partition {partition}: offset {base} was given twice");
        // A writer waits for each answer, so what it wrote later stands behind.
        let before = self.latest.insert((writer, partition), base);
        assert!(before < Some(base), "partition {partition}: offset {base} was given after {before:?}");
    }

    /// Kills children that do nothing but open the log, each while it stands still before a step of its recovery: a call that
    /// changes something on the disk. Gives the number of steps.
    fn kill_while_recovering(&mut self, kills: u64) -> u64 {
        // The log has just been opened and has no torn tail. One that has takes a step more: the tail is cut.
        let steps = self.steps_of_a_recovery() + 1;
        for _ in 0..kills {
            self.tear_a_tail();
            let halt = self.dice.random_range(1..=steps);
            let said = self.kill_a_recovery(halt);
            assert_eq!(said, "recovering", "the child should stand still before step {halt} of {steps}");
        }
        steps
    }

    /// Steps of a recovery that comes to its end.
    fn steps_of_a_recovery(&self) -> u64 {
        let said = self.kill_a_recovery(NEVER);
        let steps = said.strip_prefix("opened after ").and_then(|steps| steps.parse().ok());
        steps.unwrap_or_else(|| panic!("the child said `{said}`"))
    }

    /// Kills a child when it has said how far it has come, and gives that.
    fn kill_a_recovery(&self, halt: u64) -> String {
        let mut child = self.spawn(&["--halt", &halt.to_string()]);
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        said.trim_end().to_owned()
    }

    /// Bytes of a write that did not come to its end.
    fn tear_a_tail(&mut self) {
        let partition = self.dice.random_range(0..PARTITIONS).to_string();
        let dir = self.dir.join("topics").join(TOPIC).join(partition);
        let mut segments: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        let last = segments.iter().max().unwrap();
        let mut junk = vec![0; self.dice.random_range(1..5_000)];
        self.dice.fill_bytes(&mut junk);
        std::fs::OpenOptions::new().append(true).open(last).unwrap().write_all(&junk).unwrap();
    }

    fn check(&mut self, what: &str) {
        let (log, report) = Log::open(self.dir, config()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.skipped.is_empty(), "{what}: {report:?}");
        if report.topics == 0 {
            assert!(self.acknowledged.is_empty(), "{what}: the topic is gone");
            return;
        }
        for partition in 0..PARTITIONS {
            let end = log.offsets(TOPIC, partition).unwrap().end;
            let (first, mut newest_ms) = self.checked[partition as usize];
            let (mut next, mut hashes) = (first, Vec::new());
            while next < end {
                for record in log.read(TOPIC, partition, next, 1 << 20).unwrap() {
                    assert_eq!(record.offset, next, "{what}: partition {partition}");
                    assert!(is_right(&record), "{what}: partition {partition} offset {next}");
                    assert!(record.timestamp_ms >= newest_ms, "{what}: time went backwards");
                    hashes.push(hash_of(record.key.as_deref(), record.value.as_deref()));
                    (next, newest_ms) = (next + 1, record.timestamp_ms);
                }
            }
            self.checked[partition as usize] = (next, newest_ms);
            for ((_, base), append) in self.acknowledged.range((partition, first)..=(partition, u64::MAX)) {
                let (from, to) = (base - first, base - first + append.count);
                let place = format!("{what}: partition {partition}, offsets {base} to {}", first + to - 1);
                let held = hashes.get(usize::try_from(from).unwrap()..usize::try_from(to).unwrap());
                let held = held.unwrap_or_else(|| panic!("{place} were acknowledged, it ends at {end}"));
                assert_eq!(
                    hash_of_all(held),
                    append.hash,
                    "{place} hold other records than were acknowledged"
                );
            }
        }
    }
}

/// What a record holds, as a number.
fn hash_of(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// What the records of an append hold, in their order.
fn hash_of_all(records: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    records.hash(&mut hasher);
    hasher.finish()
}

/// A value is a random number, its length in the key, and bytes that follow from it.
fn make(dice: &mut StdRng) -> Record {
    let (seed, len) = (dice.random::<u64>(), dice.random_range(0..300));
    let value: Vec<u8> = seed.to_le_bytes().into_iter().chain(bytes_of(seed).take(len)).collect();
    let key = Some((len as u64).to_le_bytes().to_vec().into());
    Record { key, value: Some(value.into()), ..Record::default() }
}

/// Bytes that follow from a number (splitmix64).
fn bytes_of(seed: u64) -> impl Iterator<Item = u8> {
    (1..).flat_map(move |n: u64| {
        let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).to_le_bytes()
    })
}

fn is_right(record: &StoredRecord) -> bool {
    let (Some(key), Some(value)) = (&record.key, &record.value) else { return false };
    let Some((seed, rest)) = value.split_first_chunk() else { return false };
    let right = bytes_of(u64::from_le_bytes(*seed)).take(rest.len());
    right.eq(rest.iter().copied()) && key.as_ref() == (rest.len() as u64).to_le_bytes()
}

#[tokio::main]
async fn write_until_killed(dir: &Path, seed: u64) {
    let (log, _) = Log::open(dir, config()).unwrap();
    let _ = log.create_topic(TOPIC, PARTITIONS);
    let log = Arc::new(log);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        let mut dice = StdRng::seed_from_u64(seed ^ u64::from(writer));
        tasks.spawn(async move {
            loop {
                let count = if dice.random_range(0..4) == 0 { dice.random_range(1..=500) } else { 1 };
                let records: Vec<Record> = (0..count).map(|_| make(&mut dice)).collect();
                let hashes =
                    records.iter().map(|record| hash_of(record.key.as_deref(), record.value.as_deref()));
                let hash = hash_of_all(&hashes.collect::<Vec<_>>());
                let partition = dice.random_range(0..PARTITIONS);
                let appended = log.append(TOPIC, partition, records).await.unwrap();
                say(&format!("{writer} {partition} {} {count} {hash}.", appended.base_offset));
            }
        });
    }
    tasks.join_all().await;
}

/// Opens the log, and stands still before a step of it: its parent kills it there.
fn recover_until_killed(dir: &Path, halt: u64) {
    let steps = Steps { taken: Arc::default(), halt };
    let _log = Log::open_on(Arc::new(HaltingDisk(steps.clone())), dir, config()).unwrap();
    say(&format!("opened after {}", steps.taken.load(Ordering::SeqCst)));
    stand_still();
}

fn stand_still() -> ! {
    loop {
        std::thread::park();
    }
}

/// Calls that change something on the disk, and before which of them the process stands still.
#[derive(Debug, Clone)]
struct Steps {
    taken: Arc<AtomicU64>,
    halt: u64,
}

/// Before no step.
const NEVER: u64 = u64::MAX;

impl Steps {
    fn next(&self) {
        if self.taken.fetch_add(1, Ordering::SeqCst) + 1 == self.halt {
            say("recovering");
            stand_still();
        }
    }
}

/// The operating system's disk, before one of whose changes the process stands still.
#[derive(Debug)]
struct HaltingDisk(Steps);

#[derive(Debug)]
struct HaltingFile {
    file: Arc<dyn DiskFile>,
    steps: Steps,
}

impl Disk for HaltingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if how == Open::Create {
            self.0.next();
        }
        Ok(Arc::new(HaltingFile { file: RealDisk.open(path, how)?, steps: self.0.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.next();
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.next();
        RealDisk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.next();
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.next();
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.next();
        RealDisk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(path)
    }

    fn try_lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        RealDisk.try_lock(path, note)
    }
}

impl DiskFile for HaltingFile {
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buf)
    }

    fn write_at(&self, position: u64, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.steps.next();
        self.file.write_at(position, bufs)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.steps.next();
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.steps.next();
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// One line with one write: a kill may lose it, but not mix it with another.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
