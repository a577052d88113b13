//! One bad record among many: it alone is refused, in its place, and the others are stored once.

use serde_json::Value;

use crate::support::{Served, post_json, serve};

/// A record over the limit, and records for partitions that do not exist.
const BAD: [&str; 3] = [
    r#"{"value":"far more than the forty bytes that are allowed"}"#,
    r#"{"value":0,"partition":7}"#,
    r#"{"value":0,"partition":-1}"#,
];

async fn small_records() -> Served {
    serve(|config| config.limits.record_bytes = 40).await
}

async fn post_with_bad(served: &Served, client: &mut crate::support::Client, count: usize, bad: &[usize]) {
    let before = served.count("t");
    let record = |index: usize| {
        if bad.contains(&index) {
            BAD[index % BAD.len()].to_owned()
        } else {
            format!("{{\"value\":{index}}}")
        }
    };
    let records: Vec<_> = (0..count).map(record).collect();
    let answer = client.ask(post_json("/topics/t", format!("{{\"records\":[{}]}}", records.join(",")))).await;
    assert_eq!(answer.status, 200, "{count} records, {bad:?} bad");

    let json = answer.json();
    let offsets = json["offsets"].as_array().unwrap();
    assert_eq!(offsets.len(), count);
    let stored = served.log.records("t").swap_remove(0).split_off(before);
    let mut stored = stored.iter();
    for (index, outcome) in offsets.iter().enumerate() {
        if bad.contains(&index) {
            assert_eq!(outcome["error_code"], 50002, "{outcome}");
            assert_eq!((&outcome["partition"], &outcome["offset"]), (&Value::Null, &Value::Null));
            assert!(outcome["error"].as_str().is_some_and(|error| !error.is_empty()), "{outcome}");
        } else {
            let record = stored.next().expect("a good record is stored");
            assert_eq!(outcome["offset"], record.offset);
            assert_eq!(record.value.as_deref(), Some(index.to_string().as_bytes()));
            assert_eq!((&outcome["partition"], &outcome["error_code"]), (&Value::from(0), &Value::Null));
        }
    }
    assert!(stored.next().is_none(), "nothing is stored twice");
}

#[tokio::test]
async fn each_position_of_a_request_may_be_bad() {
    let served = small_records().await;
    served.make_topic("t", 1).await;
    let mut client = served.connect().await;
    for count in [1, 2, 3, 10, 50] {
        for bad in 0..count {
            post_with_bad(&served, &mut client, count, &[bad]).await;
        }
    }
    let all: Vec<_> = (0..20).collect();
    post_with_bad(&served, &mut client, 20, &all).await;
    post_with_bad(&served, &mut client, 20, &all[10..]).await;
}

#[tokio::test]
async fn each_position_of_five_hundred_records_may_be_bad() {
    let served = small_records().await;
    for bad in 0..500 {
        // Made anew, so that the log in memory stays small.
        served.make_topic("t", 1).await;
        post_with_bad(&served, &mut served.connect().await, 500, &[bad]).await;
        pinmill_broker::EventLog::delete_topic(&*served.log, "t").await.unwrap();
    }
}
