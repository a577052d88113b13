//! An archive that a Confluent S3 sink left behind: one record an object, no manifest, any topic prefix.

use serde_json::json;

use crate::data::{is_bad, row};
use crate::world::{Client, World, block_on, write};

#[test]
fn an_old_bucket_of_one_record_objects_is_read_as_it_is() {
    let world = World::new();
    let bucket = world.path("bucket");
    for id in 0..1200_u32 {
        for (table, row) in [
            (
                "user",
                json!({"ind": id, "first_name": "A", "last_name": "B", "age": "33", "date_joined": "2016-02-03T04:05:06"}),
            ),
            (
                "geo",
                json!({"ind": id, "timestamp": "2020-08-28 03:52:47", "latitude": 1.5, "longitude": 2.5, "country": "Peru"}),
            ),
        ] {
            let name =
                format!("topics/0e9c1f0d7a3b.{table}/partition=0/0e9c1f0d7a3b.{table}+0+{id:010}.json");
            write(&bucket.join(name), row.to_string());
        }
    }
    world.ok(&["clean", "--archive", bucket.to_str().unwrap()]);
    assert_eq!(world.sql("SELECT count(*), count(DISTINCT ind) FROM user"), [[json!(1200), json!(1200)]]);
    assert_eq!(world.sql("SELECT count(*) FROM geo WHERE year(timestamp) = 2020"), [[json!(1200)]]);
    // A later object is all that a second run reads.
    let late = "topics/0e9c1f0d7a3b.user/partition=0/0e9c1f0d7a3b.user+0+0000001200.json";
    write(&bucket.join(late), json!({"index": 1200, "first_name": "C", "last_name": "D", "age": 40, "date_joined": "2016-02-03 04:05:06"}).to_string());
    let report = world.json(&["clean", "--archive", bucket.to_str().unwrap()]);
    assert_eq!(report["records"], json!(1), "{report}");
    assert_eq!(world.sql("SELECT count(*) FROM user_all"), [[json!(1201)]]);
    let audit = world.json(&["audit", "--archive", bucket.to_str().unwrap()]);
    assert_eq!(audit["topics"]["0e9c1f0d7a3b.user"]["archived"], json!(1201), "{audit}");
}

/// Both are counted from 0: they are two lives of the topic's name.
#[test]
fn posts_to_a_topic_that_an_old_bucket_has_filled_are_loaded_beside_it() {
    let world = World::new();
    let bucket = world.path("bucket");
    for id in 1..4 {
        let name = format!("topics/124d.geo/partition=0/124d.geo+0+{:010}.json", id - 1);
        write(&bucket.join(name), row("geo", id).to_string());
    }
    let bucket = bucket.to_str().unwrap();
    world.ok(&["clean", "--archive", bucket]);
    let server = world.serve(&["--batch-every", "off"]);
    let posts: Vec<_> = (8..13).map(|id| row("geo", id)).collect();
    block_on(Client::new(&server.url).post("124d.geo", &posts)).unwrap();
    server.stop();
    world.ok(&["clean"]);
    let lives = "SELECT _lineage, count(*), min(ind), max(ind) FROM geo_all GROUP BY 1 ORDER BY 1";
    assert_eq!(json!(world.sql(lives)), json!([[0, 3, 1, 3], [1, 5, 8, 12]]));
    for again in [&["clean"][..], &["clean", "--archive", bucket]] {
        assert_eq!(world.json(again)["records"], json!(0));
    }
    // Without the bucket the table vouches for what came from it, with it both archives are compared.
    let audit = world.assert_balanced();
    assert_eq!(audit["topics"]["124d.geo"]["clean"], json!(8), "{audit:#}");
    let audit = world.assert_balanced_with(&["--archive", bucket]);
    assert_eq!(audit["topics"]["124d.geo"]["archived"], json!(8), "{audit:#}");
}

/// One topic for each layout that the sink can write, in one bucket.
#[test]
fn an_old_bucket_in_any_layout_is_loaded_and_balances() {
    let layouts = [
        ("plain.user", "partition=0/plain.user+0+{:010}.json"),
        ("_hidden.user", "partition=0/_hidden.user+0+{:010}.json"),
        ("unpadded.user", "partition=0/unpadded.user+0+{}.json"),
        ("wide.user", "partition=0/wide.user+0+{:020}.json"),
        ("dash.user", "partition=0/dash.user-0-{:010}.json"),
        ("upper.user", "partition=0/upper.user+0+{:010}.JSON"),
        ("url.user", "partition=0/url.user%2B0%2B{:010}.json"),
        ("bytes.user", "partition=0/bytes.user+0+{:010}.bin"),
        ("hours.user", "year=2022/month=11/day=30/hour=09/hours.user+0+{:010}.json"),
        ("field.user", "country=Peru/field.user+0+{:010}.json"),
        ("affix.user", "schema_name=user/partition=0/affix.user+0+{:010}.json"),
        ("tombstone.user", "tombstone/tombstone.user+0+{:010}.json"),
    ];
    let topics = layouts.iter().enumerate();
    let firsts: Vec<(usize, u64)> = topics.flat_map(|(n, _)| [(n, 0), (n, 20)]).collect();
    let id_at = |n: usize, first: u64| 100 * n as u64 + first + 1;
    let ids = || firsts.iter().flat_map(|&(n, first)| [id_at(n, first), id_at(n, first) + 1]);
    let good = ids().filter(|id| !is_bad(*id)).count();
    for topics_dir in ["topics", "", "raw/kafka"] {
        let world = World::new();
        let bucket = world.path("bucket");
        for (n, (topic, layout)) in layouts.iter().enumerate() {
            for first in [0, 20] {
                let offset = |width: usize| format!("{first:0width$}");
                let file = layout
                    .replace("{:010}", &offset(10))
                    .replace("{:020}", &offset(20))
                    .replace("{}", &offset(1));
                let id = id_at(n, first);
                let lines = [row("user", id), row("user", id + 1)].map(|row| format!("{row}\n")).concat();
                write(&bucket.join(topics_dir).join(topic).join(file), lines);
            }
        }
        let archive = if topics_dir == "topics" { bucket } else { bucket.join(topics_dir) };
        let archive = archive.to_str().unwrap();
        let report = world.json(&["clean", "--archive", archive]);
        assert_eq!(report["records"], json!(ids().count()), "{topics_dir}: {report}");
        world.assert_balanced_with(&["--archive", archive]);
        assert_eq!(world.json(&["clean", "--archive", archive])["records"], json!(0));
        let rows = world.sql("SELECT count(*), count(DISTINCT ind) FROM user_all");
        assert_eq!(rows, [[json!(good), json!(good)]], "{topics_dir}");
    }
}

#[test]
fn what_cannot_be_read_is_named_by_every_command_and_stops_nothing_else() {
    let world = World::new();
    let bucket = world.path("bucket");
    let line = |id| format!("{}\n", row("user", id));
    write(&bucket.join("topics/a.user/partition=0/a.user+0+0000000000.json"), line(1));
    write(&bucket.join("topics/a.user/partition=0/a.user+0+0000000001.json.gz"), "torn");
    write(&bucket.join("topics/b.user/year=2022/b.user+0+0000000000.json"), line(2));
    write(&bucket.join("topics/b.user/year=2022/b.user+0+0000000001.avro"), "Obj");
    let archive = bucket.to_str().unwrap();

    let cleaned = world.output(&["clean", "--archive", archive]);
    assert_eq!(cleaned.status.code(), Some(1));
    let audited = world.output(&["audit", "--archive", archive]);
    assert_eq!(audited.status.code(), Some(4));
    let said = String::from_utf8(cleaned.stderr).unwrap();
    let found = String::from_utf8(audited.stdout).unwrap();
    let status = world.ok(&["status"]);
    for name in ["a.user+0+0000000001.json.gz", "b.user+0+0000000001.avro"] {
        assert!(said.contains(name), "{said}");
        assert!(found.contains(name), "{found}");
        assert!(status.contains(name), "{status}");
    }
    assert_eq!(world.sql("SELECT count(*) FROM user_all"), [[json!(2)]]);
    std::fs::remove_file(bucket.join("topics/a.user/partition=0/a.user+0+0000000001.json.gz")).unwrap();
    std::fs::remove_file(bucket.join("topics/b.user/year=2022/b.user+0+0000000001.avro")).unwrap();
    world.ok(&["clean", "--archive", archive]);
    world.assert_balanced_with(&["--archive", archive]);
    assert!(!world.ok(&["status"]).contains("did not read"));
}
