use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pinmill_broker::{Health, MemoryLog, Record, StoredRecord};
use pinmill_lake::Lake;
use pinmill_lake::archive::{ArchivedObject, ReadOptions};
use pinmill_lake::lineage::SourceId;
use rand::RngExt;

use super::*;

/// A log that loses the connection when a position is to be committed, while told so.
#[derive(Debug)]
struct Flaky {
    inner: MemoryLog,
    broken: AtomicBool,
}

#[async_trait]
impl EventLog for Flaky {
    async fn create_topic(&self, topic: &str, partitions: u32) -> pinmill_broker::Result<()> {
        self.inner.create_topic(topic, partitions).await
    }
    async fn add_partitions(&self, topic: &str, total: u32) -> pinmill_broker::Result<()> {
        self.inner.add_partitions(topic, total).await
    }
    async fn delete_topic(&self, topic: &str) -> pinmill_broker::Result<()> {
        self.inner.delete_topic(topic).await
    }
    async fn topics(&self) -> pinmill_broker::Result<Vec<String>> {
        self.inner.topics().await
    }
    async fn describe(&self, topic: &str) -> pinmill_broker::Result<TopicDescription> {
        self.inner.describe(topic).await
    }
    async fn append(
        &self,
        topic: &str,
        partition: u32,
        records: Vec<Record>,
    ) -> pinmill_broker::Result<Vec<u64>> {
        self.inner.append(topic, partition, records).await
    }
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> pinmill_broker::Result<Vec<StoredRecord>> {
        self.inner.read(topic, partition, offset, limit).await
    }
    async fn offsets(&self, topic: &str, partition: u32) -> pinmill_broker::Result<OffsetRange> {
        self.inner.offsets(topic, partition).await
    }
    async fn offset_at(&self, topic: &str, partition: u32, ms: i64) -> pinmill_broker::Result<Option<u64>> {
        self.inner.offset_at(topic, partition, ms).await
    }
    async fn position(
        &self,
        reader: &str,
        topic: &str,
        partition: u32,
    ) -> pinmill_broker::Result<Option<u64>> {
        self.inner.position(reader, topic, partition).await
    }
    async fn commit_position(
        &self,
        reader: &str,
        topic: &str,
        partition: u32,
        next: u64,
    ) -> pinmill_broker::Result<()> {
        if next > 0 && self.broken.load(Ordering::SeqCst) {
            return Err(pinmill_broker::Error::Unavailable("the line is cut".to_owned()));
        }
        self.inner.commit_position(reader, topic, partition, next).await
    }
    fn health(&self) -> Health {
        self.inner.health()
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    log: Arc<Flaky>,
    lake: Lake,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(dir.path().to_str().unwrap()).unwrap();
        let log = Arc::new(Flaky { inner: MemoryLog::new(), broken: AtomicBool::new(false) });
        Self { _dir: dir, log, lake }
    }

    /// An archiver as a new process would make it.
    fn archiver(&self, config: ArchiveConfig) -> Archiver {
        Archiver::new(Arc::clone(&self.log) as Arc<dyn EventLog>, &self.lake, config)
    }

    async fn append(
        &self,
        topic: &str,
        partition: u32,
        values: Vec<Option<Bytes>>,
        timestamp_ms: Option<i64>,
    ) {
        let record = |value| Record { value, timestamp_ms, ..Record::default() };
        self.log.append(topic, partition, values.into_iter().map(record).collect()).await.unwrap();
    }

    fn archive(&self) -> Archive {
        Archive::new(&self.lake, pinmill_lake::archive::ArchiveConfig::default())
    }

    async fn objects(&self, topic: &str, partition: u32) -> Vec<ArchivedObject> {
        self.archive().objects(&TopicPartition::new(topic, partition), 0).await.unwrap()
    }

    /// Everything the archive holds of a partition, read back.
    async fn read(&self, topic: &str, partition: u32) -> Vec<(u64, Option<Bytes>)> {
        self.read_life(&TopicPartition::new(topic, partition)).await
    }

    /// The same of one life of a topic.
    async fn read_life(&self, place: &TopicPartition) -> Vec<(u64, Option<Bytes>)> {
        let mut reader = self.archive().read(place, 0, ReadOptions::default()).await.unwrap();
        let mut found = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            assert_eq!((chunk.skipped, chunk.gaps.len()), (0, 0), "a record is in two objects, or in none");
            let value = |at| chunk.value(at).map(Bytes::copy_from_slice);
            found.extend(chunk.records.iter().map(|at| (at.offset, value(at))));
        }
        found
    }

    /// Another program's object stands where a topic's first one is to be put, though the name is the topic's own.
    async fn obstruct(&self, topic: &str) -> std::path::PathBuf {
        let generation = self.log.generation(topic).await.unwrap();
        let lineages = Lineages::new(&self.lake, "batch");
        assert_eq!(lineages.claim(topic, &SourceId::log(&generation)).await.unwrap(), 0);
        let path = self.lake.path(&format!("topics/{topic}/partition=0/{topic}+0+0000000000.json"));
        let file = self.lake.local_file(&path).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "{\"something\":\"else\"}\n").unwrap();
        file
    }

    /// The archive holds exactly the log's records, each once.
    async fn assert_complete(&self, topic: &str) {
        for (partition, records) in (0..).zip(self.log.inner.records(topic)) {
            let logged: Vec<_> = records.into_iter().map(|record| (record.offset, record.value)).collect();
            assert_eq!(self.read(topic, partition).await, logged, "{topic}/{partition}");
        }
    }
}

fn json(n: u64) -> Option<Bytes> {
    Some(format!(r#"{{"ind":{n},"text":"{}"}}"#, "x".repeat(usize::try_from(n % 50).unwrap())).into())
}

fn rolls(max_records: u64, max_bytes: usize) -> ArchiveConfig {
    ArchiveConfig { max_records, max_bytes, ..ArchiveConfig::default() }
}

#[tokio::test]
async fn whatever_was_accepted_comes_back_byte_for_byte() {
    let bench = Bench::new();
    bench.log.create_topic("a.pin", 2).await.unwrap();
    bench.log.create_topic("nobody-takes-this", 1).await.unwrap();
    let values = [
        Some(&b"{\"ind\":1}"[..]),
        None,
        Some(b""),
        Some(b"not json \xff\x00"),
        Some(b"{\n\"two\":\r\n\"lines\"}"),
        Some(b"{\"_pinmill\":{\"tombstone\":true}}"),
        Some("{\"title\":\"\u{1F600}\"}".as_bytes()),
    ];
    for (topic, partition) in [("a.pin", 0), ("a.pin", 1), ("nobody-takes-this", 0)] {
        let values = values.iter().map(|v| v.map(Bytes::from_static)).collect();
        bench.append(topic, partition, values, None).await;
    }
    let report = bench.archiver(rolls(3, 1 << 20)).run_once().await.unwrap();
    assert_eq!((report.objects, report.records, report.adopted), (9, 21, 0));
    bench.assert_complete("a.pin").await;
    bench.assert_complete("nobody-takes-this").await;
    let again = bench.archiver(rolls(3, 1 << 20)).run_once().await.unwrap();
    assert_eq!(again, ArchiveReport::default(), "a second run has nothing to do");
}

#[tokio::test]
async fn objects_roll_by_records_and_by_bytes() {
    let bench = Bench::new();
    bench.log.create_topic("pin", 1).await.unwrap();
    bench.append("pin", 0, vec![Some(Bytes::from_static(b"1234567")); 10], None).await;
    bench.archiver(rolls(4, 1 << 20)).run_once().await.unwrap();
    let firsts = |objects: Vec<ArchivedObject>| objects.iter().map(|o| o.first_offset).collect::<Vec<_>>();
    assert_eq!(firsts(bench.objects("pin", 0).await), [0, 4, 8]);
    bench.append("pin", 0, vec![Some(Bytes::from_static(b"1234567")); 5], None).await;
    bench.archiver(rolls(1000, 16)).run_once().await.unwrap();
    assert_eq!(
        firsts(bench.objects("pin", 0).await),
        [0, 4, 8, 10, 12, 14],
        "two lines of eight bytes make 16"
    );
}

/// One record an hour: each waits for the time bound, not for the next record; and a replay makes the same objects.
#[tokio::test]
async fn a_quiet_topic_is_archived_by_age() {
    let bench = Bench::new();
    bench.log.create_topic("pin", 1).await.unwrap();
    let archiver =
        bench.archiver(ArchiveConfig { max_age: Duration::from_secs(300), ..ArchiveConfig::default() });
    let (mut report, mut rests) = (ArchiveReport::default(), Rests::default());
    let hour_ms = 3_600_000;
    for hour in 0..24_i64 {
        let at = |ms: i64| Now {
            wall_ms: hour * hour_ms + ms,
            uptime: Duration::from_millis(u64::try_from(hour * hour_ms + ms).unwrap()),
        };
        bench.append("pin", 0, vec![json(u64::try_from(hour).unwrap())], Some(hour * hour_ms)).await;
        archiver.round(at(1), &mut rests, &mut report).await.unwrap();
        archiver.round(at(299_999), &mut rests, &mut report).await.unwrap();
        assert_eq!(report.objects, u64::try_from(hour).unwrap(), "too early");
        archiver.round(at(300_001), &mut rests, &mut report).await.unwrap();
        assert_eq!(
            report.objects,
            u64::try_from(hour).unwrap() + 1,
            "no record came after it, it is due all the same"
        );
    }
    bench.assert_complete("pin").await;
    bench.log.inner.commit_position(ARCHIVE_READER, "pin", 0, 0).await.unwrap();
    let replay = bench.archiver(ArchiveConfig::default()).run_once().await.unwrap();
    assert_eq!((replay.objects, replay.adopted), (0, 24), "a replay adopts what is there");
    bench.assert_complete("pin").await;
}

/// The upload lands, the position does not, and the next process has other settings and other records.
#[tokio::test]
async fn a_hundred_crashes_between_upload_and_position_leave_every_record_in_one_object() {
    let mut rng = pinmill_testkit::rng();
    let bench = Bench::new();
    bench.log.create_topic("pin", 2).await.unwrap();
    let mut n = 0;
    for _ in 0..100 {
        for partition in 0..2 {
            let count = rng.random_range(0..30);
            let values = (0..count).map(|_| {
                n += 1;
                json(n)
            });
            bench.append("pin", partition, values.collect(), None).await;
        }
        let config = ArchiveConfig {
            max_records: rng.random_range(1..40),
            max_bytes: rng.random_range(1..3000),
            compression: [Compression::None, Compression::Gzip, Compression::Zstd][rng.random_range(0..3)],
            ..ArchiveConfig::default()
        };
        bench.log.broken.store(rng.random_bool(0.7), Ordering::SeqCst);
        let _ = bench.archiver(config).run_once().await;
    }
    bench.log.broken.store(false, Ordering::SeqCst);
    bench.archiver(rolls(7, 1 << 20)).run_once().await.unwrap();
    bench.assert_complete("pin").await;
}

#[tokio::test]
async fn an_error_of_one_partition_does_not_hold_up_the_others() {
    let bench = Bench::new();
    for topic in ["a", "b", "c"] {
        bench.log.create_topic(topic, 1).await.unwrap();
        bench.append(topic, 0, vec![json(1)], None).await;
    }
    bench.obstruct("b").await;
    let error = bench.archiver(ArchiveConfig::default()).run_once().await.unwrap_err();
    assert!(error.to_string().contains("b+0+0000000000.json"), "{error}");
    bench.assert_complete("a").await;
    bench.assert_complete("c").await;
}

/// Each topic has more than one round reads of it: the good ones are read on at once, whatever the bad one does.
#[tokio::test]
async fn a_partition_that_cannot_be_archived_rests_alone_and_is_tried_again() {
    let bench = Bench::new();
    let large = Some(Bytes::from(format!("\"{}\"", "x".repeat(FETCH_BYTES))));
    for topic in ["a", "b", "c"] {
        bench.log.create_topic(topic, 1).await.unwrap();
        bench.append(topic, 0, vec![large.clone(); 3], None).await;
    }
    let obstacle = bench.obstruct("b").await;
    let archiver = bench.archiver(rolls(1, usize::MAX));
    let (mut report, mut rests) = (ArchiveReport::default(), Rests::default());
    let more = archiver.round(archiver.now(), &mut rests, &mut report).await.unwrap();
    assert!(more, "there is more of the others to be read right away");
    assert!(rests.holds(&TopicPartition::new("b", 0), Duration::ZERO));
    while archiver.round(archiver.now(), &mut rests, &mut report).await.unwrap() {}
    bench.assert_complete("a").await;
    bench.assert_complete("c").await;

    std::fs::remove_file(obstacle).unwrap();
    let mut rested = Rests::default();
    while archiver.round(archiver.now(), &mut rested, &mut report).await.unwrap() {}
    bench.assert_complete("b").await;
    assert!(!rested.holds(&TopicPartition::new("b", 0), Duration::ZERO));
}

#[tokio::test]
async fn a_topic_that_was_made_again_is_archived_beside_its_former_life() {
    let bench = Bench::new();
    let life = |lineage| TopicPartition::new("pin", 0).in_lineage(lineage);
    let mut firsts = Vec::new();
    for lineage in 0..3_u32 {
        bench.log.create_topic("pin", 1).await.unwrap();
        let first = u64::from(lineage) * 10;
        bench.append("pin", 0, (first..first + 5).map(json).collect(), None).await;
        // By an archiver that has seen the life before, and by one that has not.
        for _ in 0..2 {
            bench.archiver(rolls(3, 1 << 20)).run_once().await.unwrap();
        }
        firsts.push(first);
        for (lineage, first) in (0..).zip(&firsts) {
            let expected: Vec<_> = (0..5).map(|n| (n, json(first + n))).collect();
            assert_eq!(bench.read_life(&life(lineage)).await, expected, "lineage {lineage}");
        }
        bench.log.inner.delete_topic("pin").await.unwrap();
    }
    let named = |lineage| format!("topics/pin/partition=0/pin+0+0000000003{lineage}.json");
    for name in ["", ".lineage1", ".lineage2"].map(named) {
        assert!(bench.lake.local_file(&bench.lake.path(&name)).unwrap().is_file(), "{name}");
    }
}

/// 0.1 kept no registry: what its manifests say is the first life.
#[tokio::test]
async fn what_0_1_has_archived_is_the_first_life_of_a_topic() {
    for made_again in [false, true] {
        let bench = Bench::new();
        bench.log.create_topic("pin", 1).await.unwrap();
        bench.append("pin", 0, (0..5).map(json).collect(), None).await;
        bench.archiver(ArchiveConfig::default()).run_once().await.unwrap();
        let registry = bench.lake.local_file(&bench.lake.path("_pinmill/lineages")).unwrap();
        std::fs::remove_dir_all(registry).unwrap();
        if made_again {
            bench.log.inner.delete_topic("pin").await.unwrap();
            bench.log.create_topic("pin", 1).await.unwrap();
        }
        bench.append("pin", 0, (5..8).map(json).collect(), None).await;
        bench.archiver(ArchiveConfig::default()).run_once().await.unwrap();
        let [first, second] = [0, 1].map(|lineage| TopicPartition::new("pin", 0).in_lineage(lineage));
        let (first, second) = (bench.read_life(&first).await.len(), bench.read_life(&second).await.len());
        assert_eq!((first, second), if made_again { (5, 3) } else { (8, 0) });
    }
}

#[tokio::test]
async fn memory_is_bounded_over_all_partitions() {
    let bench = Bench::new();
    bench.log.create_topic("pin", 20).await.unwrap();
    for partition in 0..20 {
        bench.append("pin", partition, (0..20).map(json).collect(), None).await;
    }
    let archiver = bench.archiver(ArchiveConfig { max_buffered: 2000, ..ArchiveConfig::default() });
    let (mut report, mut rests) = (ArchiveReport::default(), Rests::default());
    while archiver.round(archiver.now(), &mut rests, &mut report).await.unwrap() {}
    let held: usize = archiver.slots.lock().await.values().map(|slot| slot.object.bytes()).sum();
    assert!(held <= 2000, "{held}");
    assert!(report.objects > 0);
    archiver.run_once().await.unwrap();
    bench.assert_complete("pin").await;
}

#[tokio::test]
async fn a_running_archiver_puts_what_is_left_when_it_is_stopped() {
    let bench = Bench::new();
    bench.log.create_topic("pin", 1).await.unwrap();
    let archiver = Arc::new(bench.archiver(ArchiveConfig { max_records: 10, ..ArchiveConfig::default() }));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (archiver, stop) = (Arc::clone(&archiver), stop.clone());
        async move { archiver.run(stop).await }
    });
    bench.append("pin", 0, (0..25).map(json).collect(), None).await;
    archiver.run_once().await.unwrap();
    bench.append("pin", 0, (25..27).map(json).collect(), None).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    bench.assert_complete("pin").await;
}
