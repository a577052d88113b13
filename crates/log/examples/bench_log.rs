//! Measures the log against the disk it stands on, and prints one JSON object.
//!
//! `cargo run --release -p pinmill-log --example bench_log -- [--dir DIR] [--rounds N]`. Ratios within one run are what
//! counts: both sides of each are measured in turn, round by round.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result and stops at any error"
)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinmill_log::{Log, LogConfig, Record};

const RECORD_BYTES: usize = 600;
const BATCH: usize = 1_000;
const BATCHES_A_ROUND: usize = 50;
const APPENDERS: usize = 64;
const APPENDS_EACH: usize = 300;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (mut dir, mut rounds) = (std::env::temp_dir(), 10);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_default();
        match name.as_str() {
            "--dir" => dir = PathBuf::from(value),
            "--rounds" => rounds = value.parse().unwrap(),
            other => panic!("unknown argument {other}"),
        }
    }
    let scratch = dir.join(format!("pinmill-log-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let batches = batches(&scratch, rounds).await;
    let (appends, fsyncs, elapsed, slowest) = singles(&scratch).await;
    std::fs::remove_dir_all(&scratch).unwrap();

    let bytes = (rounds * BATCHES_A_ROUND * BATCH * RECORD_BYTES) as f64;
    let per_second = |time: Duration| bytes / time.as_secs_f64();
    let result = serde_json::json!({
        "batches": {
            "record_bytes": RECORD_BYTES,
            "records_a_batch": BATCH,
            "payload_bytes": bytes,
            "plain_bytes_per_second": per_second(batches.plain),
            "log_bytes_per_second": per_second(batches.log),
            "ratio": batches.plain.as_secs_f64() / batches.log.as_secs_f64(),
            "read_bytes_per_second": per_second(batches.read),
        },
        "single_records": {
            "appenders": APPENDERS,
            "appends": appends,
            "fsyncs": fsyncs,
            "appends_a_fsync": appends as f64 / fsyncs as f64,
            "appends_per_second": appends as f64 / elapsed.as_secs_f64(),
            "p99_ms": slowest.as_secs_f64() * 1e3,
        },
    });
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
}

struct Batches {
    plain: Duration,
    log: Duration,
    read: Duration,
}

fn records(count: usize) -> Vec<Record> {
    let value =
        |n: usize| (0..RECORD_BYTES).map(|i| b' ' + ((n * 31 + i * 7) % 95) as u8).collect::<Vec<u8>>();
    (0..count).map(|n| Record { value: Some(value(n).into()), ..Record::default() }).collect()
}

/// Appends of a thousand records against plain writes of the same bytes, each flushed.
async fn batches(scratch: &Path, rounds: usize) -> Batches {
    let mut plain_file = File::create(scratch.join("plain")).unwrap();
    let (log, _) = Log::open(scratch.join("log-batches"), LogConfig::default()).unwrap();
    log.create_topic("bench", 1).unwrap();
    let records = records(BATCH);
    let bytes: Vec<u8> = records.iter().flat_map(|record| record.value.clone().unwrap()).collect();
    let mut spent = Batches { plain: Duration::ZERO, log: Duration::ZERO, read: Duration::ZERO };
    for _ in 0..rounds {
        let begun = Instant::now();
        for _ in 0..BATCHES_A_ROUND {
            plain_file.write_all(&bytes).unwrap();
            plain_file.sync_data().unwrap();
        }
        spent.plain += begun.elapsed();
        let begun = Instant::now();
        for _ in 0..BATCHES_A_ROUND {
            log.append("bench", 0, records.clone()).await.unwrap();
        }
        spent.log += begun.elapsed();
    }
    let begun = Instant::now();
    let mut next = 0;
    while let Some(last) = log.read("bench", 0, next, 1 << 20).unwrap().last() {
        next = last.offset + 1;
    }
    spent.read = begun.elapsed();
    assert_eq!(next, (rounds * BATCHES_A_ROUND * BATCH) as u64);
    log.close().unwrap();
    spent
}

/// Many appenders of one record each: appends, flushes, time, and the 99th percentile of an append.
async fn singles(scratch: &Path) -> (u64, u64, Duration, Duration) {
    let (log, _) = Log::open(scratch.join("log-singles"), LogConfig::default()).unwrap();
    log.create_topic("bench", 1).unwrap();
    let log = Arc::new(log);
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..APPENDERS {
        let (log, record) = (Arc::clone(&log), records(1));
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(APPENDS_EACH);
            for _ in 0..APPENDS_EACH {
                let begun = Instant::now();
                log.append("bench", 0, record.clone()).await.unwrap();
                times.push(begun.elapsed());
            }
            times
        });
    }
    let mut times = tasks.join_all().await.concat();
    let elapsed = begun.elapsed();
    times.sort_unstable();
    let stats = log.stats();
    log.close().unwrap();
    (stats.appends, stats.fsyncs, elapsed, times[times.len() * 99 / 100])
}
