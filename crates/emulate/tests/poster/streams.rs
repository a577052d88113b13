//! Posts to streams, and to both, against a server that fails in the ways that a test says.

use std::sync::Arc;
use std::time::Duration;

use pinmill_emulate::{DateForm, DrawOrder, Generator, Options, Summary, Table, Target, To, emulate};
use tokio_util::sync::CancellationToken;

use crate::support::{Act, Request, Server};
use crate::{assert_complete, run};

fn options(server: &Server, posts: u64) -> Options {
    let target = Target::streams(&format!("{}/streams/streaming-1-", server.url()), None).unwrap();
    Options { posts: Some(posts), draw: DrawOrder::Sequence, connections: 1, ..Options::new(target) }
}

fn row(table: Table, id: u64) -> String {
    Generator::new(100).json(table, id, DateForm::Us).unwrap()
}

#[tokio::test]
async fn an_event_is_three_puts_that_look_like_those_of_the_reference() {
    let server = Server::start(|_| Act::Store).await;
    let summary = run(options(&server, 2)).await;
    assert_complete(&summary, 2);
    let requests = server.requests();
    assert_eq!(requests.len(), 6);
    for (n, request) in requests.iter().enumerate() {
        let (table, id) = (Table::ALL[n % 3], n as u64 / 3);
        assert_eq!(request.line, format!("PUT /streams/streaming-1-{table}/record HTTP/1.1"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(
            request.body,
            format!(
                r#"{{"StreamName":"streaming-1-{table}","Data":{},"PartitionKey":"{id}"}}"#,
                row(table, id)
            )
        );
    }
    assert_eq!(summary.bytes, requests.iter().map(|request| request.body.len() as u64).sum::<u64>());
}

#[tokio::test]
async fn of_a_batch_only_the_records_that_failed_are_put_again() {
    const FATES: &[&str] =
        &["", "ProvisionedThroughputExceededException", "", "AccessDeniedException", "InternalFailure"];
    let server = Server::start(|n| if n == 0 { Act::PerRecordOfStream(FATES) } else { Act::Store }).await;
    let summary = run(Options { records_per_request: 5, ..options(&server, 5) }).await;
    assert_eq!((summary.records, summary.acknowledged, summary.unacknowledged), (15, 14, 1), "{summary}");
    assert_eq!((summary.retried, summary.ambiguous), (2, 1), "what failed inside may be stored");
    assert!(!summary.is_complete() && summary.gave_up.is_none());
    let refused = "stream:streaming-1-pin, row 3: AccessDeniedException: as told";
    assert!(summary.errors.iter().any(|error| error == refused), "{:?}", summary.errors);
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.line.ends_with("/records HTTP/1.1")), "{requests:?}");
    let keys: Vec<_> = requests.iter().map(Request::keys).collect();
    let all = ["0", "1", "2", "3", "4"];
    assert_eq!(keys, [&all[..], &["1", "4"], &all, &all]);
    let again = requests[1].json()["records"][1]["data"].clone();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(&row(Table::Pin, 4)).unwrap());
}

#[tokio::test]
async fn a_call_has_at_most_five_hundred_records_of_a_stream() {
    let server = Server::start(|_| Act::Store).await;
    let targets = To::Both.targets(Some(&server.url()), None, None).unwrap();
    let summary = run(Options { targets, records_per_request: 600, ..options(&server, 600) }).await;
    assert_eq!((summary.records, summary.acknowledged), (3600, 3600), "{summary}");
    let (streams, topics): (Vec<_>, Vec<_>) = server.requests().into_iter().partition(Request::is_for_stream);
    assert!(topics.iter().all(|request| request.records() == 600));
    let mut counts: Vec<_> = streams.iter().map(Request::records).collect();
    counts.sort_unstable();
    assert_eq!(counts, [100, 100, 100, 500, 500, 500]);
}

#[tokio::test]
async fn a_stream_that_asks_for_time_is_given_it() {
    let server =
        Server::start(|n| if n == 0 { Act::Status(429, "Retry-After: 1\r\n") } else { Act::Store }).await;
    let summary = run(options(&server, 1)).await;
    assert_complete(&summary, 1);
    assert_eq!((summary.retried, summary.ambiguous), (1, 0));
    let requests = server.requests();
    // Never sooner, on any machine: without the header it would be 0.1 s at most.
    let waited = requests[1].at.duration_since(requests[0].at);
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test]
async fn failures_that_pass_are_retried_until_every_record_is_put() {
    let acts = [
        Act::Status(500, ""),
        Act::Status(503, "Retry-After: 0\r\n"),
        Act::Reset,
        Act::Close,
        // as the well-known templates pass it on
        Act::Say(200, r#"{"__type":"ProvisionedThroughputExceededException","message":"Rate exceeded"}"#),
        Act::Say(400, r#"{"__type":"ProvisionedThroughputExceededException","message":"Rate exceeded"}"#),
    ];
    let server = Server::start(move |n| acts.get(n).copied().unwrap_or(Act::Store)).await;
    let summary = run(options(&server, 1)).await;
    assert_complete(&summary, 1);
    assert_eq!((summary.retried, summary.ambiguous), (6, 1), "{:?}", summary.errors);
}

#[tokio::test]
async fn a_put_that_is_not_answered_in_time_is_ambiguous_and_tried_again() {
    let server = Server::start(|n| if n == 1 { Act::StoreInSilence } else { Act::Store }).await;
    let summary = run(Options { timeout: Duration::from_secs(5), ..options(&server, 1) }).await;
    assert_complete(&summary, 1);
    assert_eq!((summary.retried, summary.ambiguous), (1, 1));
    assert_eq!(server.stored(), 4, "the record that was stored in silence was stored again");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_own_words() {
    const WORDS: &str = r#"{"__type":"ValidationException","message":"the key is too long"}"#;
    let server = Server::start(|n| if n == 1 { Act::Say(400, WORDS) } else { Act::Store }).await;
    let summary = run(options(&server, 2)).await;
    assert_eq!((summary.records, summary.acknowledged, summary.unacknowledged), (6, 5, 1), "{summary}");
    assert_eq!(summary.retried, 0);
    let told = &summary.errors[0];
    assert!(
        told.starts_with("stream:streaming-1-geo, row 0: 400") && told.contains("the key is too long"),
        "{told}"
    );
}

#[tokio::test]
async fn a_gateway_without_the_stream_ends_the_run() {
    const WORDS: &str = r#"{"__type":"ResourceNotFoundException","message":"Stream s not found."}"#;
    for status in [200, 400, 404] {
        let server = Server::start(move |_| Act::Say(status, WORDS)).await;
        let summary = run(options(&server, 1_000_000)).await;
        assert!(!summary.is_complete() && summary.unacknowledged == summary.records, "{summary}");
        assert!(summary.events < 100, "{summary}");
        let why = summary.gave_up.unwrap_or_default();
        assert!(why.contains("Stream s not found."), "{status}: {why}");
    }
}

#[tokio::test]
async fn both_get_the_same_text_and_each_record_of_both_is_accounted_for() {
    // The second request is the first event's pin for its stream.
    let server = Server::start(|n| if n == 1 { Act::Status(422, "") } else { Act::Store }).await;
    let targets = To::Both.targets(Some(&server.url()), Some("me"), None).unwrap();
    let summary = run(Options { targets, ..options(&server, 3) }).await;
    assert_eq!((summary.events, summary.records), (3, 18), "{summary}");
    assert_eq!((summary.acknowledged, summary.unacknowledged), (17, 1), "{summary}");
    assert!(summary.errors[0].starts_with("stream:me-pin, row 0: 422"), "{:?}", summary.errors);
    assert_eq!(server.connections(), 1, "what is on one host shares a connection");
    let requests = server.requests();
    assert_eq!(requests.len(), 18);
    for (n, pair) in requests.chunks(2).enumerate() {
        let (table, id) = (Table::ALL[n % 3], n as u64 / 3);
        let row = row(table, id);
        assert_eq!(pair[0].line, format!("POST /topics/me.{table} HTTP/1.1"));
        assert_eq!(pair[0].body, format!("{{\"records\":[{{\"value\":{row}}}]}}"));
        assert_eq!(pair[1].line, format!("PUT /streams/me-{table}/record HTTP/1.1"));
        assert!(pair[1].body.contains(&format!("\"Data\":{row},")), "{}", pair[1].body);
    }
}

#[tokio::test]
async fn targets_may_be_on_hosts_of_their_own() {
    let topics = Server::start(|_| Act::Store).await;
    let streams = Server::start(|_| Act::Store).await;
    let targets =
        vec![Target::topics(&topics.url(), None).unwrap(), Target::streams(&streams.url(), None).unwrap()];
    let summary: Summary = run(Options { targets, ..options(&streams, 10) }).await;
    assert_eq!((summary.records, summary.acknowledged), (60, 60), "{summary}");
    assert_eq!((topics.stored(), streams.stored()), (30, 30));
    assert!(topics.requests().iter().all(|request| !request.is_for_stream()));
    assert!(streams.requests().iter().all(Request::is_for_stream));
}

#[tokio::test]
async fn a_run_without_a_target_is_refused() {
    let options = Options::new(Vec::new());
    let error = emulate(options, Arc::new(Generator::new(100)), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("nothing to post to"), "{error}");
}
