//! Buckets in every layout that Confluent's S3 sink can write.

use std::io::Write;
use std::path::Path;

use pinmill_flow::{AuditOptions, AuditReport, CleanOptions, CleanReport, Logs};
use pinmill_lake::Lake;

use crate::support::{World, good, small};

/// A bucket, and the world that loads it.
struct Old {
    world: World,
    bucket: tempfile::TempDir,
    prefix: &'static str,
}

impl Old {
    fn new(prefix: &'static str) -> Self {
        Self { world: World::new(small()), bucket: tempfile::tempdir().unwrap(), prefix }
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.bucket.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// An object of lines, compressed as its name says.
    fn object(&self, path: &str, ids: std::ops::Range<u64>) {
        let gzip = path.to_ascii_lowercase().ends_with(".gz");
        self.write(path, &if gzip { gzipped(&lines(ids)) } else { lines(ids) });
    }

    async fn clean(&self) -> CleanReport {
        let options = CleanOptions {
            archive: Some(Lake::open(self.bucket.path().to_str().unwrap()).unwrap()),
            prefix: self.prefix.to_owned(),
            // So that some of the objects are larger.
            chunk_bytes: 64 << 10,
            ..CleanOptions::default()
        };
        self.world.clean_with(&options).await.unwrap()
    }

    async fn audit(&self) -> AuditReport {
        let options = AuditOptions {
            archive: Some(Lake::open(self.bucket.path().to_str().unwrap()).unwrap()),
            prefix: self.prefix.to_owned(),
            ..AuditOptions::default()
        };
        let World { pipeline, engine, lake, .. } = &self.world;
        pinmill_flow::audit(pipeline, engine, Logs::default(), lake, &options).await.unwrap()
    }

    async fn offsets(&self) -> Vec<u64> {
        let rows = self.world.sql("SELECT _offset FROM user_all ORDER BY _offset").await;
        rows.iter().map(|row| row[0].as_u64().unwrap()).collect()
    }
}

fn lines(ids: std::ops::Range<u64>) -> Vec<u8> {
    ids.flat_map(|id| [&good(id).unwrap()[..], b"\n"].concat()).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two objects, loaded one after the other; `{}` stands for the first offset.
async fn both_halves_of(prefix: &'static str, layout: &str, at: [(&str, u64); 2]) {
    let old = Old::new(prefix);
    for (n, (offset, first)) in at.into_iter().enumerate() {
        old.object(&layout.replace("{}", offset), 5 * n as u64..5 * n as u64 + 5);
        assert_eq!(old.clean().await.records(), 5, "object {n} of {layout}");
        let report = old.audit().await;
        assert!(report.balanced, "object {n} of {layout}: {report:#?}");
        assert_eq!(report.topics["t.user"].clean, 5 * (n as u64 + 1), "{layout}");
        assert!(old.offsets().await.contains(&(first + 4)), "{layout}");
    }
    let report = old.clean().await;
    assert_eq!((report.records(), report.warnings().len()), (0, 0), "{layout}: {:?}", report.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_spelling_of_an_objects_name_is_read_and_balances() {
    let padded = [("0000000000", 0), ("0000000005", 5)];
    for (name, at) in [
        ("t.user+0+{}.json", [("0", 0), ("5", 5)]),
        ("t.user+0+{}.json", [("995", 995), ("1000", 1000)]),
        ("t.user+0+{}.json", [("00000000000000000995", 995), ("00000000000000001000", 1000)]),
        ("t.user%2B0%2B{}.json", padded),
        ("t.user+0+{}.JSON", padded),
        ("t.user+0+{}.JSON.GZ", padded),
        ("t.user-0-{}.json.gz", padded),
        ("t.user__0__{}.json", padded),
        ("t.user+0+{}.bin", padded),
        ("t.user+0+{}.bin.gz", padded),
    ] {
        both_halves_of("topics", &format!("topics/t.user/partition=0/{name}"), at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directories_of_any_partitioner_are_read_and_balance() {
    for directory in [
        "year=2022/month=11/day=30/hour=09",
        "2022/11/30",
        "country=Peru",
        "country=Côte d'Ivoire",
        "a=1/b=null",
        "partition=NL",
        "partition=7",
        "partition%3D0",
        "schema_name=user/partition=0",
        "partition=0/schema_name=user",
        "tombstone",
    ] {
        let layout = format!("topics/t.user/{directory}/t.user+0+{{}}.json");
        both_halves_of("topics", &layout, [("0000000010", 10), ("0000000040", 40)]).await;
    }
    let flat = "topics/t.user/t.user+0+{}.json";
    both_halves_of("topics", flat, [("0000000010", 10), ("0000000040", 40)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_may_lie_anywhere() {
    for (prefix, root) in [("", ""), ("raw/kafka", "raw/kafka/")] {
        for directory in ["partition=0", "year=2022/month=11"] {
            let layout = format!("{root}t.user/{directory}/t.user+0+{{}}.json");
            both_halves_of(prefix, &layout, [("0000000000", 0), ("0000000005", 5)]).await;
        }
    }
}

/// With a field's partitioner the lines of an object are no consecutive offsets, and objects interleave.
#[tokio::test(flavor = "multi_thread")]
async fn objects_of_several_directories_whose_offsets_interleave_lose_nothing() {
    let old = Old::new("topics");
    let object = |country: &str, first: u64, ids| {
        old.object(&format!("topics/t.user/country={country}/t.user+0+{first:010}.json"), ids);
    };
    object("DE", 0, 0..5);
    object("FR", 2, 5..9);
    old.object("topics/t.user/country=DE/t.user+1+0000000000.json", 9..12);
    assert_eq!(old.clean().await.records(), 12);
    object("DE", 11, 12..14);
    object("FR", 9, 14..20);
    object("ES", 10, 20..21);
    let report = old.clean().await;
    assert_eq!((report.records(), report.warnings().len()), (9, 0), "{:?}", report.warnings());
    assert_eq!(old.world.sql("SELECT count(DISTINCT ind) FROM user").await[0][0], 21);
    assert!(old.offsets().await.starts_with(&[0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5]));
    let report = old.audit().await;
    assert!(report.balanced, "{report:#?}");
}

/// Nobody may call an archive balanced whose records were not all counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_is_named_and_what_holds_records_is_an_imbalance() {
    let old = Old::new("topics");
    old.object("topics/t.user/partition=0/t.user+0+0000000000.json", 0..3);
    for beside in [
        "t.user/partition=0/t.user+0+0000000000.keys.avro",
        "t.user/partition=0/_SUCCESS",
        "t.user/year=2022/t.user+0+0000000000.headers.json",
        ".DS_Store",
    ] {
        old.write(&format!("topics/{beside}"), b"{}");
    }
    let report = old.clean().await;
    assert_eq!((report.records(), report.warnings().len(), report.unread.len()), (3, 0, 4), "{report:#?}");
    assert!(old.audit().await.balanced);

    let hidden_records = [
        "a.user/partition=0/a.user+0+0000000000.avro",
        "t.user/year=2022/t.user+0+0000000000.snappy.parquet",
        "t.user/partition=0/other+0+0000000000.json",
        "t.user/partition=0/part-00000.txt",
        "dump.json",
    ];
    for beside in hidden_records {
        old.write(&format!("topics/{beside}"), b"?");
    }
    let (warnings, report) = (old.clean().await.warnings().join("\n"), old.audit().await);
    assert!(!report.balanced);
    assert_eq!(report.problems.len(), hidden_records.len(), "{report:#?}");
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    for beside in hidden_records {
        let path = format!("topics/{beside}");
        assert!(warnings.contains(&path) && problems.iter().any(|problem| problem.contains(&path)), "{path}");
    }
}

/// An object that cannot be read, and one that can in its place.
fn damaged() -> Vec<(&'static str, &'static str, Vec<u8>, Vec<u8>)> {
    let small = lines(5..10);
    // Larger than a chunk: its first lines are handed out before its end is found to be missing.
    let many = lines(5..60_000);
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    vec![
        ("a torn small one", ".json.gz", half(gzipped(&small)), gzipped(&small)),
        ("a torn large one", ".json.gz", half(gzipped(&many)), gzipped(&many)),
        ("no gzip", ".json.gz", small.clone(), gzipped(&small)),
        ("no zstd", ".json.zst", small.clone(), zstd::encode_all(&small[..], 1).unwrap()),
        ("bytes that are no JSON", ".bin", b"\x00\x01\n".to_vec(), small),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_stops_its_partition_alone_and_is_named() {
    for directory in ["partition=0", "year=2022"] {
        for (what, ending, broken, whole) in damaged() {
            let old = Old::new("topics");
            let bad = format!("topics/t.user/{directory}/t.user+0+0000000005{ending}");
            old.object(&format!("topics/t.user/{directory}/t.user+0+0000000000.json"), 0..5);
            old.write(&bad, &broken);
            old.object(&format!("topics/t.user/{directory}/t.user+0+0000070000.json"), 100_000..100_002);
            old.object("topics/t.user/partition=1/t.user+1+0000000000.json", 200_000..200_003);
            old.object("topics/u.user/partition=0/u.user+0+0000000000.json", 0..3);
            for again in [false, true] {
                let report = old.clean().await;
                assert_eq!(report.records(), if again { 0 } else { 11 }, "{what}");
                let named: Vec<&str> = report.damaged().map(|unread| unread.path.as_str()).collect();
                assert_eq!(named, [&bad], "{what}");
                let report = old.audit().await;
                assert!(!report.balanced, "{what}");
                let named = report.problems.iter().any(|problem| problem.to_string().contains(&bad));
                assert!(named, "{what}: {report:#?}");
            }
            old.write(&bad, &whole);
            let report = old.clean().await;
            assert_eq!(report.damaged().count(), 0, "{what}");
            let report = old.audit().await;
            assert!(report.balanced, "{what}: {report:#?}");
            assert_eq!(
                old.world.sql("SELECT count(*) FROM user_all WHERE ind >= 100000").await[0][0],
                5,
                "{what}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_hours_are_loaded_once_and_leave_one_file_for_their_numbers() {
    let hours = pinmill_testkit::count("PINMILL_HOURS", 3_000) as u64;
    let old = Old::new("topics");
    let object = |hour: u64, first: u64| {
        let (day, hour) = (hour / 24, hour % 24);
        let path = format!("topics/t.user/day={day:05}/hour={hour:02}/t.user+0+{first:010}.json");
        old.object(&path, first..first + 2);
    };
    for hour in 0..hours {
        object(hour, 2 * hour);
    }
    assert_eq!(old.clean().await.records(), 2 * hours);
    object(hours - 1, 2 * hours);
    object(hours, 2 * hours + 2);
    assert_eq!(old.clean().await.records(), 4);
    assert_eq!(old.clean().await.records(), 0);
    let numbers = old.world.dir.path().join("_pinmill/directories/t.user");
    assert_eq!(std::fs::read_dir(numbers).unwrap().count(), 2);
    let report = old.audit().await;
    assert!(report.balanced, "{:#?}", report.problems);
    assert_eq!(old.world.sql("SELECT count(DISTINCT ind) FROM user").await[0][0], 2 * hours + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_directories_that_was_moved_is_refused_and_not_loaded_twice() {
    let old = Old::new("topics");
    old.object("topics/t.user/year=2022/t.user+0+0000000000.json", 0..3);
    assert_eq!(old.clean().await.records(), 3);
    let moved = Old { world: old.world, ..Old::new("topics") };
    moved.object("topics/t.user/year=2022/t.user+0+0000000000.json", 0..3);
    let options = CleanOptions {
        archive: Some(Lake::open(moved.bucket.path().to_str().unwrap()).unwrap()),
        ..CleanOptions::default()
    };
    let error = moved.world.clean_with(&options).await.unwrap_err().to_string();
    assert!(error.contains("t.user") && error.contains(Path::new("topics").to_str().unwrap()), "{error}");
    assert_eq!(moved.offsets().await, [0, 1, 2]);
}

/// Directories stand beside each other: none is newer than another as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_row_of_a_key_is_found_across_directories_by_its_offset() {
    let old = Old::new("topics");
    let row = |age: u64| format!("{{\"ind\":7,\"name\":\"x\",\"age\":{age}}}\n").into_bytes();
    old.write("topics/t.user/country=AA/t.user+0+0000000050.json", &row(50));
    old.write("topics/t.user/country=MM/t.user+0+0000000049.json", &row(49));
    assert_eq!(old.clean().await.records(), 2);
    old.write("topics/t.user/country=ZZ/t.user+0+0000000003.json", &row(3));
    assert_eq!(old.clean().await.records(), 1);
    assert_eq!(old.world.sql("SELECT age FROM user").await, [[serde_json::json!(50)]]);
}
