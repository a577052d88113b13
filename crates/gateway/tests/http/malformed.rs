//! Bodies and heads that no client should send: a clear refusal in the proxy's shape, nothing stored, nothing broken.

use pinmill_testkit::rng;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::support::{JSON, post, post_json, serve};

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!(r#"{{"records":[{{"value":{}1{}}}]}}"#, open.repeat(levels), close.repeat(levels))
}

#[tokio::test]
async fn each_named_malformation_is_refused_and_nothing_of_it_is_stored() {
    let served = serve(|_| {}).await;
    served.make_topic("t", 1).await;
    let value = |text: &str| format!(r#"{{"records":[{{"value":"good"}},{{"value":{text}}}]}}"#).into_bytes();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("100,000 arrays", nested("[", "]", 100_000).into(), 422),
        ("100,000 objects", nested("{\"a\":", "}", 100_000).into(), 422),
        ("100,000 arrays that never close", nested("[", "", 100_000).into(), 400),
        ("100,000 arrays around the request", "[".repeat(100_000).into(), 400),
        (
            "100,000 arrays where a schema may stand",
            format!("{{\"key_schema\":{}", "[".repeat(100_000)).into(),
            400,
        ),
        ("65 arrays", nested("[", "]", 65).into(), 422),
        ("NaN", value("NaN"), 400),
        ("Infinity", value("-Infinity"), 400),
        ("a number beyond a double", value("1e999"), 422),
        ("a number beyond a double in an object", value(r#"{"a":[-1e400]}"#), 422),
        ("a repeated member", value(r#"{"a":1,"a":2}"#), 422),
        ("a member repeated in disguise", value(r#"{"a":1,"\u0061":2}"#), 422),
        ("a leading half of a surrogate pair", value(r#""\ud83d""#), 422),
        ("a trailing half of a surrogate pair", value(r#"{"\udc00":1}"#), 422),
        ("bytes that are no UTF-8", b"{\"records\":[{\"value\":\"\xff\xfe\"}]}".to_vec(), 400),
        ("an overlong encoding", b"{\"records\":[{\"value\":\"\xc0\x80\"}]}".to_vec(), 400),
        ("an encoded surrogate", b"{\"records\":[{\"value\":\"\xed\xa0\x80\"}]}".to_vec(), 400),
        ("NUL in a string", b"{\"records\":[{\"value\":\"\x00\"}]}".to_vec(), 400),
        ("NUL at the end", b"{\"records\":[{\"value\":1}]}\x00".to_vec(), 400),
        ("two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf{\"records\":[{\"value\":1}]}".to_vec(), 400),
        ("UTF-16", "{\"records\":[]}".encode_utf16().flat_map(u16::to_le_bytes).collect(), 400),
        ("nothing", Vec::new(), 422),
        ("white space", b" \n ".to_vec(), 422),
        ("null", b"null".to_vec(), 422),
        ("a string", b"\"records\"".to_vec(), 400),
        ("no records", b"{}".to_vec(), 422),
        ("empty records", br#"{"records":[]}"#.to_vec(), 422),
        ("null records", br#"{"records":null}"#.to_vec(), 422),
        ("a null record", br#"{"records":[null]}"#.to_vec(), 400),
        ("records that are no array", br#"{"records":{"value":1}}"#.to_vec(), 400),
        ("a record that is no object", br#"{"records":[{"value":1},"x"]}"#.to_vec(), 400),
        ("an unknown member", br#"{"records":[{"value":1}],"x":1}"#.to_vec(), 422),
        ("an unknown member of a record", br#"{"records":[{"data":1}]}"#.to_vec(), 422),
        ("two requests in one", br#"{"records":[{"value":1}]}{"records":[{"value":1}]}"#.to_vec(), 400),
        ("a comment", br#"{"records":[{"value":1}]}//"#.to_vec(), 400),
        ("a trailing comma", br#"{"records":[{"value":1},]}"#.to_vec(), 400),
        ("single quotes", br"{'records':[]}".to_vec(), 400),
        ("a leading zero", value("01"), 400),
        ("a plus sign", value("+1"), 400),
        ("a half escape", value(r#""\u12""#), 400),
        ("an unknown escape", value(r#""\x41""#), 400),
        ("a raw line break in a string", value("\"a\nb\""), 400),
        ("a partition that is no number", br#"{"records":[{"value":1,"partition":"0"}]}"#.to_vec(), 400),
        ("a partition beyond any number", br#"{"records":[{"value":1,"partition":1e30}]}"#.to_vec(), 400),
        ("form data", b"records=1&value=2".to_vec(), 400),
    ];
    let mut client = served.connect().await;
    for (name, body, status) in cases {
        let answer = client.ask(post_json("/topics/t", body)).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert_eq!(answer.error_code(), u64::from(status), "{name}");
        assert!(answer.body.len() < 600, "{name}: a short answer, not {} bytes", answer.body.len());
    }
    assert_eq!(served.count("t"), 0);
    // Null keys and values are no malformation, nor is one byte order mark.
    let marked = b"\xef\xbb\xbf{\"records\":[{\"value\":1}]}";
    assert_eq!(client.ask(post_json("/topics/t", marked)).await.status, 200);
    assert_eq!(
        client.ask(post_json("/topics/t", r#"{"records":[{"key":null,"value":null}]}"#)).await.status,
        200
    );
}

/// Pieces that break parsers.
const NASTY: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "\\ud800",
    "\\u0000",
    "1e999",
    "-",
    "NaN",
    "null",
    "\u{0}",
    "\u{feff}",
    "\"a\":1,\"a\":2",
    "{\"records\":",
    "[[[[[[[[",
    "\u{10ffff}",
    "\\\"",
    "0.",
    "\r\n\r\n",
    "true",
];

fn mutated(random: &mut ChaCha8Rng) -> Vec<u8> {
    const GOOD: [&str; 4] = [
        r#"{"records": [{"value": {"index": 7528, "title": "a \u00e9 \ud83d\ude00 b", "tags": ["x", {"y": [1.5e3, -0]}]}}]}"#,
        r#"{"records":[{"key":"k","value":{"a":1,"b":null,"c":true}},{"value":[]}],"value_schema_id":null}"#,
        r#"{"records":[{"value":"text","partition":0},{"value":0.1},{"key":null,"value":{}}]}"#,
        r#"{"records":[{"value":"{\"double\": \"encoded\"}"}]}"#,
    ];
    let mut body = GOOD.choose(random).unwrap().as_bytes().to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=body.len());
        let to = random.random_range(at..=body.len().min(at + 8));
        match random.random_range(0..7) {
            0 => body.truncate(at),
            1 => drop(body.drain(at..to)),
            2 => drop(body.splice(at..at, NASTY.choose(random).unwrap().bytes())),
            3 => drop(body.splice(at..to, NASTY.choose(random).unwrap().bytes())),
            4 => drop(body.splice(at..at, body[at..to].to_vec())),
            5 if at < body.len() => body[at] ^= 1 << random.random_range(0..8),
            _ => body.insert(at, random.random_range(0..=255)),
        }
    }
    body
}

/// A value must be read alike by everybody, so what was stored must be what serde_json reads in what was sent.
fn sent_values(body: &[u8]) -> Vec<Value> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let sent: Value = serde_json::from_slice(body).expect("what is stored was JSON");
    sent["records"].as_array().unwrap().iter().map(|record| record["value"].clone()).collect()
}

#[tokio::test]
async fn mutated_bodies_are_stored_as_sent_or_refused_and_never_a_server_error() {
    let random = &mut rng();
    let served = serve(|_| {}).await;
    served.make_topic("t", 1).await;
    let mut client = served.connect().await;
    let (mut stored, mut refused) = (0, 0);
    for case in 0..2_000 {
        let body = mutated(random);
        let context = || format!("case {case}: {:?}", String::from_utf8_lossy(&body));
        let answer = client.ask(post_json("/topics/t", &body)).await;
        let records = &served.log.records("t")[0][stored..];
        match answer.status {
            200 => {
                let offsets = answer.json()["offsets"].as_array().unwrap().clone();
                let values: Vec<Value> = records
                    .iter()
                    .map(|record| {
                        record.value.as_ref().map_or(Value::Null, |v| serde_json::from_slice(v).unwrap())
                    })
                    .collect();
                let kept = offsets.iter().map(|offset| offset["error_code"].is_null());
                let sent: Vec<_> =
                    sent_values(&body).into_iter().zip(kept).filter(|(_, kept)| *kept).collect();
                assert_eq!(
                    values,
                    sent.into_iter().map(|(value, _)| value).collect::<Vec<_>>(),
                    "{}",
                    context()
                );
                stored += records.len();
            }
            400..=499 => {
                assert_eq!(answer.error_code(), u64::from(answer.status), "{}", context());
                assert!(records.is_empty(), "{}", context());
                refused += 1;
            }
            other => panic!("{other}: {}", context()),
        }
    }
    assert!(
        stored > 50 && refused > 500,
        "the mutations must reach both ends: {stored} stored, {refused} refused"
    );
}

#[tokio::test]
async fn mutated_heads_are_answered_in_json_or_hung_up_on() {
    let random = &mut rng();
    let served = serve(|config| {
        config.limits.header_timeout = std::time::Duration::from_millis(30);
        config.limits.body_timeout = std::time::Duration::from_millis(30);
    })
    .await;
    for case in 0..400 {
        let mut request = post("/dev/topics/t?x=1", JSON, r#"{"records":[{"value":1}]}"#);
        let head = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..head);
            match random.random_range(0..3) {
                0 => request[at] ^= 1 << random.random_range(0..8),
                1 => request.insert(at, random.random_range(0..=255)),
                _ => drop(request.remove(at)),
            }
        }
        let mut client = served.connect().await;
        client.send(&request).await;
        let without_body = request.starts_with(b"HEAD ");
        if let Some(answer) = client.answer(without_body).await {
            let said = String::from_utf8_lossy(&request);
            assert!(answer.status < 500, "case {case}: {}{said}", answer.head);
            if answer.status >= 400 && !without_body {
                answer.error_code();
            }
        }
    }
    assert_eq!(served.ask(post_json("/topics/t", r#"{"records":[{"value":1}]}"#)).await.status, 200);
}
