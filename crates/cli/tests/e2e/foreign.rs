//! An archive that a Confluent S3 sink left behind: one record an object, no manifest, any topic prefix.

use serde_json::json;

use crate::data::row;
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
