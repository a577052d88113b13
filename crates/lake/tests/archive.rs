//! The archive: what is put in comes out once, whatever dies when.
#![allow(clippy::unwrap_used, reason = "a test that fails there has failed")]

mod common;

use common::{Fault, FaultyStore, contents};
use pinmill_lake::archive::{
    Archive, ArchiveConfig, Compression, ObjectBuilder, Put, ReadOptions, ReadReport,
};
use pinmill_lake::{Error, Lake, RangeSum, TopicPartition};
use rand::{Rng, RngExt, SeedableRng};

/// A record of the log: offset, time in ms, value.
type LogRecord = (u64, i64, Option<Vec<u8>>);

fn log(random: &mut impl Rng, count: usize, gaps: bool) -> Vec<LogRecord> {
    let (mut offset, mut time) = (0, 1_700_000_000_000);
    let record = |_| {
        let value = match random.random_range(0..12) {
            0 => None,
            1 => Some(b"not json\nat all".to_vec()),
            2 => Some(vec![0xff; random.random_range(0..9)]),
            3 => Some(b"{\"_pinmill\":{\"tombstone\":true}}".to_vec()),
            _ => Some(
                format!("{{\"index\":{},\"text\":\"{}\"}}", offset, "é".repeat(random.random_range(0..30)))
                    .into(),
            ),
        };
        let record = (offset, time, value);
        offset += if gaps { random.random_range(1..4) } else { 1 };
        time += random.random_range(0..50);
        record
    };
    (0..count).map(record).collect()
}

fn build(records: &[LogRecord]) -> ObjectBuilder {
    let mut object = ObjectBuilder::new(&TopicPartition::new("a.pin", 3), Some("generation-1"));
    for (offset, time, value) in records {
        object.push(*offset, *time, value.as_deref()).unwrap();
    }
    object
}

fn archive(lake: &Lake, compression: Compression) -> Archive {
    Archive::new(lake, ArchiveConfig { compression, ..ArchiveConfig::default() })
}

/// Everything from an offset on, as records of the log (times in µs), and the report.
async fn read(
    archive: &Archive,
    topic: &str,
    partition: u32,
    from: u64,
) -> Result<(Vec<LogRecord>, ReadReport), Error> {
    let options = ReadOptions { chunk_bytes: 512, concurrency: 4, until: None };
    let mut reader = archive.read(&TopicPartition::new(topic, partition), from, options).await?;
    let mut records = Vec::new();
    let mut sum = RangeSum::default();
    while let Some(chunk) = reader.next().await? {
        for record in &chunk.records {
            let value = chunk.value(record);
            sum.add(record.offset, value);
            records.push((record.offset, record.ingested_at_us, value.map(<[u8]>::to_vec)));
        }
    }
    assert_eq!(reader.report().sum, sum);
    Ok((records, reader.report().clone()))
}

fn in_micros(records: &[LogRecord]) -> Vec<LogRecord> {
    records.iter().map(|(offset, ms, value)| (*offset, ms * 1000, value.clone())).collect()
}

#[tokio::test]
async fn any_record_comes_back_with_its_offset_and_time() {
    let mut random = pinmill_testkit::rng();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        for lake in [Lake::open(dir.path().to_str().unwrap()).unwrap(), FaultyStore::new().lake()] {
            let archive = archive(&lake, compression);
            let records = log(&mut random, 500, true);
            for part in records.chunks(37) {
                let put = archive.put(&build(part)).await.unwrap();
                assert!(matches!(&put, Put::Written(stored) if stored.sum == *build(part).sum()), "{put:?}");
            }
            assert_eq!(archive.partitions().await.unwrap(), [TopicPartition::new("a.pin", 3)]);
            for from in [0, 1, 37, 200, 499, records[40].0, records[37 * 4].0, 2_000_000] {
                let (found, report) = read(&archive, "a.pin", 3, from).await.unwrap();
                let wanted: Vec<_> =
                    in_micros(&records).into_iter().filter(|record| record.0 >= from).collect();
                assert_eq!(found, wanted, "from {from}");
                assert!(report.skipped < 37, "{report:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_object_larger_than_a_chunk_is_read_in_blocks() {
    let mut random = pinmill_testkit::rng();
    let records = log(&mut random, 3000, false);
    for compression in [Compression::None, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        for lake in [Lake::open(dir.path().to_str().unwrap()).unwrap(), FaultyStore::new().lake()] {
            let archive = archive(&lake, compression);
            archive.put(&build(&records)).await.unwrap();
            let mut reader = archive
                .read(
                    &TopicPartition::new("a.pin", 3),
                    0,
                    ReadOptions { chunk_bytes: 1024, concurrency: 1, until: None },
                )
                .await
                .unwrap();
            let (mut chunks, mut ended) = (0, false);
            while let Some(chunk) = reader.next().await.unwrap() {
                assert!(!ended, "a chunk after the end of the only object");
                ended = chunk.ends_object;
                chunks += 1;
            }
            assert!(ended && chunks > 50, "{chunks}");
            assert_eq!(reader.report().sum, *build(&records).sum());
            assert_eq!(read(&archive, "a.pin", 3, 0).await.unwrap().0, in_micros(&records));
        }
    }
}

/// An archiver that reads the log from its position, rolls wherever it likes, and may die.
async fn run_archiver(
    archive: &Archive,
    log: &[LogRecord],
    position: &mut usize,
    roll: &mut impl FnMut() -> usize,
    dies_before_saving: &mut impl FnMut() -> bool,
) -> Result<(), Error> {
    while *position < log.len() {
        let mut end = (*position + roll().max(1)).min(log.len());
        let stored = loop {
            match archive.put(&build(&log[*position..end])).await? {
                Put::Written(stored) | Put::Adopted(stored) => break stored,
                Put::Longer { count } => end = *position + usize::try_from(count).unwrap(),
            }
        };
        if dies_before_saving() {
            return Ok(());
        }
        *position += usize::try_from(stored.sum.count).unwrap();
    }
    Ok(())
}

#[tokio::test]
async fn whatever_dies_when_every_record_is_in_exactly_one_object() {
    let mut random = pinmill_testkit::rng();
    for round in 0..150 {
        let store = FaultyStore::new();
        let lake = store.lake();
        let gaps = random.random_bool(0.3);
        let log = log(&mut random, 60, gaps);
        let mut position = 0;
        let mut before = contents(&lake).await;
        loop {
            // Each life of the process has its own settings: other sizes to roll at, other compression.
            let compression =
                [Compression::None, Compression::Gzip, Compression::Zstd][random.random_range(0..3)];
            let archive = archive(&lake, compression);
            let path = ["topics/", "_pinmill/"][random.random_range(0..2)];
            let fault =
                [Fault::Refused, Fault::AnswerLost, Fault::AnswerLostThenExists][random.random_range(0..3)];
            store.fail(path, fault, u64::from(random.random_bool(0.7)));
            let mut lives = random.random_range(1..4);
            let mut sizes = rand_chacha::ChaCha8Rng::from_rng(&mut random);
            let mut roll = || sizes.random_range(1..20);
            let mut dies = || {
                lives -= 1;
                lives == 0
            };
            let died = run_archiver(&archive, &log, &mut position, &mut roll, &mut dies).await;
            assert!(
                !matches!(died, Err(Error::ArchiveConflict { .. } | Error::Generation { .. })),
                "{died:?}"
            );
            let now = contents(&lake).await;
            for (path, bytes) in &before {
                assert_eq!(now.get(path), Some(bytes), "round {round}: {path} changed");
            }
            before = now;
            if position == log.len() {
                break;
            }
        }
        let (found, report) = read(&archive(&lake, Compression::None), "a.pin", 3, 0).await.unwrap();
        assert_eq!(found, in_micros(&log), "round {round}");
        assert_eq!(report.skipped, 0, "round {round}: a record was in two objects");
        let data =
            before.keys().filter(|path| path.contains("/topics/") && !path.contains("_pinmill")).count();
        assert_eq!(data * 2, before.len(), "round {round}: every object has its manifest: {before:?}");
    }
}

#[tokio::test]
async fn the_same_records_give_the_same_names_and_bytes() {
    let log = log(&mut pinmill_testkit::rng(), 50, true);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let [first, second] = [FaultyStore::new().lake(), FaultyStore::new().lake()];
        for lake in [&first, &second] {
            archive(lake, compression).put(&build(&log)).await.unwrap();
        }
        assert_eq!(contents(&first).await, contents(&second).await);
    }
}

#[tokio::test]
async fn a_lost_race_with_other_records_stops_and_changes_nothing() {
    let mut random = pinmill_testkit::rng();
    for round in 0..100 {
        let store = FaultyStore::new();
        let lake = store.lake();
        let archive = archive(&lake, Compression::None);
        let mut log = log(&mut random, 20, false);
        if round % 2 == 0 {
            store.fail("_pinmill/", Fault::Refused, 1);
        }
        let _ = archive.put(&build(&log)).await;
        let before = contents(&lake).await;
        // The rival's record differs in one place.
        let at = random.random_range(0..20);
        log[at].2 = Some(b"{\"other\":true}".to_vec());
        let rival = archive.put(&build(&log)).await;
        assert!(matches!(rival, Err(Error::ArchiveConflict { .. })), "{rival:?}");
        assert_eq!(contents(&lake).await, before);
    }
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let lake = FaultyStore::new().lake();
    let archive = archive(&lake, Compression::None);
    let mut old = ObjectBuilder::new(&TopicPartition::new("t", 0), Some("old"));
    old.push(0, 1, Some(b"{}")).unwrap();
    archive.put(&old).await.unwrap();
    let mut new = ObjectBuilder::new(&TopicPartition::new("t", 0), Some("new"));
    new.push(0, 1, Some(b"{}")).unwrap();
    let error = archive.put(&new).await.unwrap_err();
    assert!(matches!(error, Error::Generation { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn records_out_of_order_and_empty_objects_are_refused() {
    let mut object = ObjectBuilder::new(&TopicPartition::new("t", 0), None);
    let archive = archive(&FaultyStore::new().lake(), Compression::None);
    assert!(archive.put(&object).await.is_err());
    object.push(5, 0, Some(b"1")).unwrap();
    assert!(object.push(5, 0, Some(b"1")).is_err());
    assert!(object.push(4, 0, None).is_err());
    object.push(6, 0, None).unwrap();
    assert_eq!(object.sum().count, 2);
}

/// Writes objects as Confluent's sink leaves them.
fn foreign(dir: &std::path::Path, topic: &str, objects: &[(u64, &str)]) {
    let dir = dir.join(topic).join("partition=0");
    std::fs::create_dir_all(&dir).unwrap();
    for (offset, text) in objects {
        std::fs::write(dir.join(format!("{topic}+0+{offset:010}.json")), text).unwrap();
    }
}

#[tokio::test]
async fn an_archive_of_another_sink_with_one_record_an_object_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..20_000).map(|index| format!("{{\"index\":{index}}}\n")).collect();
    let objects: Vec<_> =
        texts.iter().enumerate().map(|(offset, text)| (offset as u64, text.as_str())).collect();
    foreign(&dir.path().join("old/bucket"), "124df56aef51.pin", &objects);
    std::fs::write(dir.path().join("old/bucket/124df56aef51.pin/partition=0/_SUCCESS"), "").unwrap();
    let modified =
        dir.path().join("old/bucket/124df56aef51.pin/partition=0/124df56aef51.pin+0+0000000007.json");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_234_567_890_123_456);
    std::fs::File::options().write(true).open(modified).unwrap().set_modified(time).unwrap();

    let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
    let archive =
        Archive::new(&lake, ArchiveConfig { topics_dir: "old/bucket".into(), ..Default::default() });
    assert_eq!(archive.partitions().await.unwrap(), [TopicPartition::new("124df56aef51.pin", 0)]);
    let mut reader =
        archive.read(&TopicPartition::new("124df56aef51.pin", 0), 0, ReadOptions::default()).await.unwrap();
    let (mut next, mut chunks) = (0, 0);
    while let Some(chunk) = reader.next().await.unwrap() {
        chunks += 1;
        assert!(chunk.ends_object);
        for record in &chunk.records {
            assert_eq!(record.offset, next);
            assert_eq!(chunk.value(record).unwrap(), texts[next as usize].trim_end().as_bytes());
            if next == 7 {
                assert_eq!(record.ingested_at_us, 1_234_567_890_123_456);
            }
            next += 1;
        }
    }
    assert_eq!(next, 20_000);
    assert!(chunks < 20, "small objects are handed out together, not in {chunks} chunks");
    assert_eq!((reader.report().objects, reader.report().missing), (20_000, 0));
}

#[tokio::test]
async fn overlaps_are_skipped_and_gaps_reported() {
    let dir = tempfile::tempdir().unwrap();
    // Replay leftovers: 0 to 3, then 2 and 3 again with 4; nothing from 5 to 8; lines ended as on Windows, none, blank.
    let objects =
        [(0, "0\n1\n2\n3\n"), (2, "2\r\n3\r\n4\r\n"), (9, "9\n\n10"), (11, ""), (11_000_000_000, "x\n")];
    foreign(&dir.path().join("topics"), "t", &objects);
    let archive = archive(&Lake::open(dir.path().to_str().unwrap()).unwrap(), Compression::None);
    let (records, report) = read(&archive, "t", 0, 0).await.unwrap();
    let found: Vec<_> = records.iter().map(|(offset, _, value)| (*offset, value.clone().unwrap())).collect();
    let mut wanted: Vec<_> =
        [0, 1, 2, 3, 4, 9, 10].map(|offset: u64| (offset, offset.to_string().into_bytes())).to_vec();
    wanted.push((11_000_000_000, b"x".to_vec()));
    assert_eq!(found, wanted);
    let ReadReport { skipped, gaps, missing, objects, .. } = report;
    assert_eq!((skipped, gaps, missing, objects), (2, 2, 4 + 11_000_000_000 - 11, 5));

    let (records, report) = read(&archive, "t", 0, 3).await.unwrap();
    assert_eq!(records.first().unwrap().0, 3);
    assert_eq!(report.skipped, 1, "only the object that begins last before the offset is read again");
}

#[tokio::test]
async fn a_changed_object_is_found_by_its_manifest() {
    let records = log(&mut pinmill_testkit::rng(), 100, false);
    for damage in ["flip", "cut", "more", "manifest"] {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        let archive = archive(&lake, Compression::None);
        archive.put(&build(&records)).await.unwrap();
        let name = "a.pin/partition=3/a.pin+3+0000000000.json";
        let data = dir.path().join("topics").join(name);
        let manifest = dir.path().join("_pinmill/topics").join(format!("{name}.manifest"));
        let mut bytes = std::fs::read(&data).unwrap();
        match damage {
            "flip" => {
                let at = bytes.iter().position(|&byte| byte == b'"').unwrap() + 1;
                bytes[at] ^= 1;
            }
            "cut" => bytes.truncate(bytes.len() / 2),
            "more" => bytes.extend_from_slice(b"{}\n"),
            _ => std::fs::write(&manifest, "{}").unwrap(),
        }
        std::fs::write(&data, bytes).unwrap();
        let error = read(&archive, "a.pin", 3, 0).await.unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { path, .. } if path.contains("a.pin+3+0000000000")),
            "{damage}: {error}"
        );
    }
}

#[tokio::test]
async fn a_damaged_compressed_object_is_an_error_that_names_it() {
    let records = log(&mut pinmill_testkit::rng(), 100, false);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        let archive = archive(&lake, compression);
        archive.put(&build(&records)).await.unwrap();
        let name = format!("topics/a.pin/partition=3/a.pin+3+0000000000{}", compression.extension());
        let mut bytes = std::fs::read(dir.path().join(&name)).unwrap();
        let middle = bytes.len() / 2;
        bytes.truncate(middle);
        std::fs::write(dir.path().join(&name), bytes).unwrap();
        let error = read(&archive, "a.pin", 3, 0).await.unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[tokio::test]
async fn a_compressed_bomb_does_not_fill_memory() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("topics/t/partition=0");
    std::fs::create_dir_all(&place).unwrap();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..100 {
        bomb.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    std::fs::write(place.join("t+0+0000000000.json.gz"), bomb.finish().unwrap()).unwrap();
    let archive = archive(&Lake::open(dir.path().to_str().unwrap()).unwrap(), Compression::None);
    let error = read(&archive, "t", 0, 0).await.unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[tokio::test]
async fn an_archive_that_is_not_there_is_empty() {
    let archive = archive(&FaultyStore::new().lake(), Compression::None);
    assert_eq!(archive.partitions().await.unwrap(), []);
    assert_eq!(read(&archive, "t", 0, 0).await.unwrap().0, []);
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::new(&Lake::open(dir.path().to_str().unwrap()).unwrap(), ArchiveConfig::default());
    assert_eq!(archive.partitions().await.unwrap(), []);
    assert_eq!(read(&archive, "t", 0, 5).await.unwrap().0, []);
}
