//! Data folders that earlier versions made, kept in `testing/kept`: each is opened, loaded further, and audited.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Client, World, block_on};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/kept")
}

/// A world with a kept data folder.
fn unpacked(kept: &Path) -> World {
    let world = World::new();
    let target = world.data();
    let untar = Command::new("tar").arg("xzf").arg(kept).arg("-C").arg(target.parent().unwrap()).status();
    assert!(untar.unwrap().success(), "{}", kept.display());
    world
}

fn geo(country: &str) -> Value {
    let (time, latitude) = ("2022-10-19T03:52:47", 1.5);
    json!({"ind": 7, "timestamp": time, "latitude": latitude, "longitude": -2.5, "country": country})
}

/// What answers and rows say, without what tells where rows are from.
fn answers(world: &World) -> Vec<Value> {
    let mut all: Vec<Value> = ["batch", "stream"]
        .iter()
        .map(|half| world.json(&["answer", "--from", half])["answers"].clone())
        .collect();
    all.push(json!(newest(world)));
    all
}

/// The country of the newest row of key 7 in each half.
fn newest(world: &World) -> Vec<Value> {
    let query = "SELECT country FROM geo WHERE ind = 7";
    vec![world.sql(query)[0][0].clone(), world.stream_sql(query)[0][0].clone()]
}

#[test]
fn every_kept_data_folder_opens_goes_on_and_balances() {
    let mut kept: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    assert!(!kept.is_empty());
    for kept in kept {
        let name = kept.file_name().unwrap().to_str().unwrap();
        let world = unpacked(&kept);
        world.assert_balanced();
        let before = answers(&world);

        let server = world.serve(&["--batch-every", "off"]);
        let client = Client::new(&server.url);
        // A row of a key that is in nobody's answers, so that these stay what they are.
        block_on(async {
            for topic in ["geo", "a.geo", "c.geo"] {
                client.post(topic, &[json!({"ind": "no number"})]).await.unwrap();
                client.put(&topic.replace('.', "-"), "k", &json!({"ind": "no number"})).await.unwrap();
            }
        });
        server.stop();
        world.ok(&["clean"]);
        world.assert_balanced();
        assert_eq!(answers(&world), before, "{name}: what was loaded are no rows");

        let server = world.serve(&["--batch-every", "off"]);
        let client = Client::new(&server.url);
        block_on(async {
            client.post("a.geo", &[geo("Newer")]).await.unwrap();
            client.put("a-geo", "k", &geo("Newer")).await.unwrap();
        });
        server.stop();
        world.ok(&["clean"]);
        let audit = world.assert_balanced_with(&["--same-rows"]);
        assert_eq!(audit["streams"]["a-geo"]["clean"], json!(6), "{name}: {audit:#}");
        assert_eq!(newest(&world), [json!("Newer"), json!("Newer")], "{name}");
    }
}
