//! Kills child processes that write to a log, at random moments, and looks whether all that they said was acknowledged
//! is there; then kills children while they recover.
//!
//! `cargo test -p pinmill-log --test kill -- --cycles 2000 --nested 500 --seed 7` is the long form.
//!
//! This file is its own harness: the same program is parent and child. A child prints `p b n` for each append of its
//! process that was acknowledged: partition, first offset and number of records. What a record holds follows from its
//! own bytes (a random number and its hash), so that the parent needs nothing else to know a right one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pinmill_log::{Log, LogConfig, Record, StoredRecord};
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
        child(Path::new(&args[place + 1]), number("--seed", 0), args.iter().any(|arg| arg == "--writes"));
        return;
    }
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    let seed =
        if args.iter().any(|arg| arg == "--seed") { number("--seed", 0) } else { pinmill_testkit::seed() };
    let (cycles, nested) = (number("--cycles", 40), number("--nested", 50));
    println!("kill: {cycles} cycles and {nested} kills during recovery, seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut parent = Parent {
        dice: StdRng::seed_from_u64(seed),
        dir: dir.path(),
        acknowledged: BTreeMap::new(),
        checked: [(0, i64::MIN); PARTITIONS as usize],
    };
    for cycle in 0..cycles {
        parent.kill_a_writer();
        parent.check(&format!("seed {seed}, cycle {cycle}"));
    }
    let recovered = parent.kill_while_recovering(nested);
    // All of it once more, from the first record on.
    parent.checked.fill((0, i64::MIN));
    parent.check(&format!("seed {seed}, after {nested} kills during recovery"));
    let records: u64 = parent.acknowledged.values().sum();
    assert!(records > 0, "no append was acknowledged, nothing was tested");
    println!("kill: ok, {records} acknowledged records kept, {recovered} recoveries came to their end");
}

fn config() -> LogConfig {
    // Small segments, so that kills hit rolls as well.
    LogConfig { segment_bytes: 256 << 10, index_interval_bytes: 8 << 10, ..LogConfig::default() }
}

struct Parent<'a> {
    dice: StdRng,
    dir: &'a Path,
    /// Records acknowledged: partition and first offset, and how many.
    acknowledged: BTreeMap<(u32, u64), u64>,
    /// Up to where each partition was read and found right, and the newest time stamp there.
    checked: [(u64, i64); PARTITIONS as usize],
}

impl Parent<'_> {
    fn spawn(&mut self, writes: bool) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--child").arg(self.dir).arg("--seed").arg(self.dice.random::<u64>().to_string());
        if writes {
            command.arg("--writes");
        }
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Lets a child write, kills it after a random number of acknowledgements and a random moment more.
    fn kill_a_writer(&mut self) {
        let mut child = self.spawn(true);
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
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let (partition, base, count) = (u32::try_from(next()).unwrap(), next(), next());
        assert!(
            self.acknowledged.insert((partition, base), count).is_none(),
            "offset {base} was given twice"
        );
    }

    /// Kills children that do nothing but open the log, at random moments; returns how many had opened it.
    fn kill_while_recovering(&mut self, kills: u64) -> usize {
        let mut opened = 0;
        for _ in 0..kills {
            // A tail to recover: bytes of a write that did not come to its end.
            let dir =
                self.dir.join("topics").join(TOPIC).join(self.dice.random_range(0..PARTITIONS).to_string());
            let mut segments: Vec<_> =
                std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
            segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
            let last = segments.iter().max().unwrap();
            let mut junk = vec![0; self.dice.random_range(1..5_000)];
            self.dice.fill_bytes(&mut junk);
            std::fs::OpenOptions::new().append(true).open(last).unwrap().write_all(&junk).unwrap();

            let mut child = self.spawn(false);
            let mut line = String::new();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            // The child says when it begins, so that the kill hits the recovery and not the program's start.
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "opening\n");
            std::thread::sleep(Duration::from_micros(self.dice.random_range(0..25_000)));
            child.kill().unwrap();
            child.wait().unwrap();
            line.clear();
            output.read_line(&mut line).unwrap();
            opened += usize::from(line == "opened\n");
        }
        opened
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
            let (mut next, mut newest_ms) = self.checked[partition as usize];
            while next < end {
                for record in log.read(TOPIC, partition, next, 1 << 20).unwrap() {
                    assert_eq!(record.offset, next, "{what}: partition {partition}");
                    assert!(is_right(&record), "{what}: partition {partition} offset {next}");
                    assert!(record.timestamp_ms >= newest_ms, "{what}: time went backwards");
                    (next, newest_ms) = (next + 1, record.timestamp_ms);
                }
            }
            self.checked[partition as usize] = (next, newest_ms);
            let of_it = self.acknowledged.range((partition, 0)..=(partition, u64::MAX));
            let needed = of_it.map(|((_, base), count)| base + count).max().unwrap_or(0);
            assert!(needed <= end, "{what}: partition {partition} ends at {end}, {needed} was acknowledged");
        }
    }
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
async fn child(dir: &Path, seed: u64, writes: bool) {
    say("opening");
    let (log, _) = Log::open(dir, config()).unwrap();
    say("opened");
    if !writes {
        std::future::pending::<()>().await;
    }
    let _ = log.create_topic(TOPIC, PARTITIONS);
    let log = Arc::new(log);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        let mut dice = StdRng::seed_from_u64(seed ^ u64::from(writer));
        tasks.spawn(async move {
            loop {
                let count = if dice.random_range(0..4) == 0 { dice.random_range(1..=500) } else { 1 };
                let records = (0..count).map(|_| make(&mut dice)).collect();
                let partition = dice.random_range(0..PARTITIONS);
                let appended = log.append(TOPIC, partition, records).await.unwrap();
                say(&format!("{partition} {} {count}.", appended.base_offset));
            }
        });
    }
    tasks.join_all().await;
}

/// One line with one write: a kill may lose it, but not mix it with another.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
