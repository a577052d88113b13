//! A disk that runs full and is given room again: writes are refused, reads go on, and it recovers by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pinmill_log::sim::SimDisk;
use pinmill_log::{Disk, Error, Health, Log, LogConfig, RealDisk};
use support::*;

const CYCLES: usize = 10;
const SIZE: u64 = 64 << 20;

/// A disk of 64 MiB: a tmpfs where the test may mount one, a simulated one with a quota otherwise.
struct SmallDisk {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    simulated: Option<SimDisk>,
    _mount: Option<Mount>,
}

struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn small_disk() -> SmallDisk {
    let dir = tempfile::tempdir().unwrap();
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(dir.path()).output();
    if mount.is_ok_and(|output| output.status.success()) {
        println!("disk full: on a tmpfs of 64 MiB");
        let path = dir.path().to_path_buf();
        return SmallDisk { disk: Arc::new(RealDisk), dir: path, simulated: None, _mount: Some(Mount(dir)) };
    }
    println!("disk full: on a simulated disk of 64 MiB, a tmpfs may not be mounted here");
    let disk = SimDisk::new();
    disk.set_quota(Some(SIZE));
    SmallDisk { disk: Arc::new(disk.clone()), dir: "/".into(), simulated: Some(disk), _mount: None }
}

impl SmallDisk {
    /// Takes all room but about `left` bytes.
    fn fill(&self, left: u64, used: u64) {
        if let Some(disk) = &self.simulated {
            disk.set_quota(Some(used + left));
            return;
        }
        let path = self.dir.join("ballast");
        let mut file = File::create(&path).unwrap();
        let mut filled = 0;
        while let Ok(()) = file.write_all(&[0; 64 << 10]) {
            filled += 64 << 10;
        }
        file.set_len(filled - left.min(filled)).unwrap();
    }

    fn free(&self) {
        match &self.simulated {
            Some(disk) => disk.set_quota(Some(SIZE)),
            None => std::fs::remove_file(self.dir.join("ballast")).unwrap(),
        }
    }
}

fn read(log: &Log) -> BTreeMap<u64, String> {
    read_all(log).unwrap()
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_by_itself() {
    let small = small_disk();
    let dir = small.dir.join("log");
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
    // That it looks at least every five seconds is the log's promise; how long a look takes is the machine's.
    assert!(config.full_disk_probe <= Duration::from_secs(5));
    let (log, _) = Log::open_on(Arc::clone(&small.disk), &dir, config.clone()).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    let mut wanted = BTreeMap::new();
    for cycle in 0..CYCLES {
        small.fill(1_500_000, log.topic_bytes(TOPIC).unwrap() + 4_096);
        let refused = loop {
            let value = format!("{cycle} {} {}", wanted.len(), "z".repeat(10_000));
            match append(&log, std::slice::from_ref(&value)) {
                Ok(offset) => assert!(wanted.insert(offset, value).is_none()),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::DiskFull { .. }) && refused.is_retriable(), "{refused}");
        let reason = match log.health() {
            Health::ReadOnly { reason } => reason,
            other => panic!("the disk is full and the log is {other:?}"),
        };
        assert!(reason.contains(&*dir.to_string_lossy()), "{reason}");
        assert!(matches!(append(&log, &["more".to_owned()]), Err(Error::DiskFull { .. })));
        assert!(matches!(log.create_topic("more", 1), Err(Error::DiskFull { .. })));
        assert_eq!(read(&log), wanted, "cycle {cycle}: reads go on");

        small.free();
        let mut health = log.watch_health();
        let again = async {
            tokio::time::timeout(
                Duration::from_secs(60),
                health.wait_for(|health| *health == Health::Writable),
            )
            .await
            .expect("it recovers by itself")
            .unwrap();
        };
        wait(again);
        let value = format!("{cycle} after");
        wanted.insert(append(&log, std::slice::from_ref(&value)).unwrap(), value);
    }
    log.close().unwrap();
    drop(log);
    let (log, report) = Log::open_on(Arc::clone(&small.disk), &dir, config).unwrap();
    assert!(report.clean && report.cuts.is_empty());
    assert_eq!(read(&log), wanted);
    // Offsets of refused appends were not used up.
    assert!(wanted.keys().copied().eq(0..wanted.len() as u64));
}

#[test]
fn every_byte_at_which_a_disk_may_run_full_leaves_the_log_whole() {
    let config = LogConfig { full_disk_probe: Duration::from_secs(3600), ..small(600) };
    for room in 0..700 {
        let disk = filled(&config, &appends(3), false);
        let (log, _) = open(&disk, &config).unwrap();
        let used: usize = segments(&disk).iter().map(|path| disk.bytes(path).unwrap().len()).sum();
        // What else is on the disk, to the byte: the smallest quota that still takes nothing.
        let rest = (0..).find(|rest| {
            disk.set_quota(Some((used + rest) as u64));
            let probe = std::path::Path::new(DIR).join("probe");
            let file = disk.open(&probe, pinmill_log::Open::Create).unwrap();
            let fits = file.write_at(0, &[std::io::IoSlice::new(b"x")]).is_ok();
            disk.remove_file(&probe).unwrap();
            fits
        });
        disk.set_quota(Some((used + rest.unwrap() - 1 + room) as u64));
        let mut wanted = expected(&appends(3));
        for values in appends(6) {
            match append(&log, &values) {
                Ok(base) => wanted.extend((base..).zip(values)),
                Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "room {room}: {error}"),
            }
        }
        assert_eq!(read_all(&log).unwrap(), wanted, "room {room}");
        drop(log);
        let disk = disk.after_kill();
        let (log, report) = open(&disk, &config).unwrap();
        assert!(report.cuts.is_empty(), "room {room}: {report:?}");
        assert_eq!(read_all(&log).unwrap(), wanted, "room {room}");
        assert_eq!(append(&log, &["after".to_owned()]).unwrap(), wanted.len() as u64);
    }
}

#[test]
fn a_full_disk_is_given_room_by_what_retention_may_let_go() {
    let config = LogConfig {
        retention_bytes: Some(100_000),
        full_disk_probe: Duration::from_millis(10),
        ..small(50_000)
    };
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &config).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    disk.set_quota(Some(400_000));
    let value = "w".repeat(5_000);
    while append(&log, std::slice::from_ref(&value)).is_ok() {}
    wait(async { log.watch_health().wait_for(|health| *health == Health::Writable).await.map(drop) })
        .unwrap();
    append(&log, &[value]).unwrap();
    assert!(log.offsets(TOPIC, 0).unwrap().beginning > 0);
}
