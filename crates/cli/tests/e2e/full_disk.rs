//! A server whose disk runs full: posts are refused with a word on when to come again, reads go on, and it recovers by
//! itself. What the log does then, byte by byte, is for its own tests.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::data::user;
use crate::world::{Client, PATIENCE, World, block_on};

const TOPIC: &str = "load.user";

/// A disk of 32 MiB in a folder, taken away with the value.
pub(crate) struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// `None` where the test may not mount one, and then this has said that it is left out.
pub(crate) fn small_disk(dir: &Path) -> Option<SmallDisk> {
    std::fs::create_dir_all(dir).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(dir).output();
    if mount.is_ok_and(|output| output.status.success()) {
        return Some(SmallDisk(dir.to_owned()));
    }
    pinmill_testkit::left_out("no tmpfs may be mounted here, and the program can have no simulated disk");
    None
}

impl SmallDisk {
    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room that there is.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

/// A server's answer, as far as the test looks at it.
#[derive(Debug)]
struct Answer {
    status: u16,
    retry_after: Option<String>,
    text: String,
}

/// Requests that look at more of the answer than a client does.
struct Asking {
    http: reqwest::Client,
    url: String,
}

impl Asking {
    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        Answer { status: answer.status().as_u16(), retry_after, text: answer.text().await.unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Posts one long row.
    async fn post(&self, id: u64) -> Answer {
        let mut row = user(id);
        row["last_name"] = json!("x".repeat(10_000));
        let request = self.http.post(format!("{}/topics/{TOPIC}", self.url));
        let request = request.header("Content-Type", "application/vnd.kafka.json.v2+json");
        self.send(request.body(json!({"records": [{"value": row}]}).to_string())).await
    }

    async fn until_ready(&self) {
        let end = Instant::now() + PATIENCE;
        while self.get("/readyz").await.status != 200 {
            assert!(Instant::now() < end, "there is room, and the server is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The records of a stream's first shard, as the server gives them.
async fn records(client: &Client, stream: &str) -> Vec<Value> {
    let start = json!({
        "StreamName": stream,
        "ShardId": "shardId-000000000000",
        "ShardIteratorType": "TRIM_HORIZON",
    });
    let iterator = client.kinesis("GetShardIterator", &start).await.unwrap();
    let answer = client.kinesis("GetRecords", &iterator).await.unwrap();
    answer["Records"].as_array().unwrap().clone()
}

#[test]
fn a_server_whose_disk_is_full_refuses_posts_answers_reads_and_takes_posts_again() {
    let world = World::new();
    let Some(disk) = small_disk(&world.data()) else { return };
    let server = world.serve_telling(&["--batch-every", "off"], &world.path("words"));
    let asking = Asking { http: reqwest::Client::new(), url: server.url.clone() };
    let client = Client::new(&server.url);
    let accepted = block_on(async {
        client.kinesis("CreateStream", &json!({"StreamName": "talk", "ShardCount": 1})).await.unwrap();
        client.put("talk", "k", &json!({"said": "before"})).await.unwrap();
        let talk = records(&client, "talk").await;
        assert_eq!(talk.len(), 1);
        assert_eq!(asking.post(1).await.status, 200);

        disk.fill();
        let mut accepted = 1;
        let refused = loop {
            let answer = asking.post(accepted + 1).await;
            if answer.status != 200 {
                break answer;
            }
            accepted += 1;
            // The log had some room at hand, of less than that.
            assert!(accepted < 3_000, "the disk is full, and posts are taken");
        };
        let again = asking.post(accepted + 1).await;
        for refused in [refused, again] {
            assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("1")), "{refused:?}");
            assert!(refused.text.contains("full"), "{refused:?}");
        }
        for path in ["/readyz", "/readyz?part=gateway"] {
            assert_eq!(asking.get(path).await.status, 503, "{path}");
        }
        for path in ["/healthz", "/topics", &format!("/topics/{TOPIC}")] {
            assert_eq!(asking.get(path).await.status, 200, "{path}");
        }
        assert_eq!(records(&client, "talk").await, talk);
        let tail = world.ok(&["tail", &format!("topics/{TOPIC}"), "--from", "beginning"]);
        assert_eq!(tail.lines().count() as u64, accepted);

        disk.free();
        asking.until_ready().await;
        let after = asking.post(accepted + 1).await;
        assert_eq!(after.status, 200, "{after:?}");
        accepted + 1
    });
    server.stop();
    world.ok(&["clean"]);
    let audit = world.assert_balanced();
    assert_eq!(audit["topics"][TOPIC]["accepted"], json!(accepted), "what was refused was not stored");
}
