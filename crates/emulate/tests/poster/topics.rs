//! Posts to topics, against a server that fails in the ways that a test says, and remembers what it was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pinmill_emulate::{DateForm, DrawOrder, Generator, Jsonl, Options, Table, Target, emulate};
use tokio_util::sync::CancellationToken;

use crate::support::{Act, Request, Server};
use crate::{assert_complete, run};

fn options(server: &Server, posts: u64) -> Options {
    let target = Target::topics(&server.url(), Some("124df56aef51")).unwrap();
    Options { posts: Some(posts), draw: DrawOrder::Sequence, connections: 1, ..Options::new(target) }
}

#[tokio::test]
async fn an_event_is_three_requests_that_look_like_those_of_the_reference() {
    let server = Server::start(|_| Act::Store).await;
    let summary = run(options(&server, 2)).await;
    assert_complete(&summary, 2);
    assert_eq!((summary.requests, summary.retried, summary.ambiguous), (6, 0, 0));

    let requests = server.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(
        lines[..3],
        ["/topics/124df56aef51.pin", "/topics/124df56aef51.geo", "/topics/124df56aef51.user"]
            .map(|path| format!("POST {path} HTTP/1.1"))
    );
    let generator = Generator::new(100);
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(request.header("content-type"), Some("application/vnd.kafka.json.v2+json"));
        assert!(request.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")));
        let row = generator.json(Table::ALL[n % 3], n as u64 / 3, DateForm::Us).unwrap();
        assert_eq!(request.body, format!("{{\"records\":[{{\"value\":{row}}}]}}"));
    }
    assert_eq!(summary.bytes, requests.iter().map(|request| request.body.len() as u64).sum::<u64>());
    assert_eq!(server.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn failures_that_pass_are_retried_until_every_record_is_stored() {
    let acts = [
        Act::Status(500, ""),
        Act::Status(503, "Retry-After: 0\r\n"),
        Act::Status(429, "Retry-After: 0\r\n"),
        Act::Reset,
        Act::Close,
        Act::Status(502, ""),
    ];
    let server = Server::start(move |n| acts.get(n).copied().unwrap_or(Act::Store)).await;
    let summary = run(options(&server, 1)).await;
    assert_complete(&summary, 1);
    assert_eq!(summary.retried, 6, "{:?}", summary.errors);
    assert_eq!(summary.ambiguous, 1, "it is one record, however many of its tries are ambiguous");
    let pins = server.requests().iter().filter(|request| request.line.contains(".pin ")).count();
    assert_eq!(pins, 7);
}

#[tokio::test]
async fn a_refusal_before_storing_is_not_ambiguous() {
    let server =
        Server::start(|n| if n == 0 { Act::Status(503, "Retry-After: 0\r\n") } else { Act::Store }).await;
    let summary = run(options(&server, 1)).await;
    assert_complete(&summary, 1);
    assert_eq!((summary.retried, summary.ambiguous), (1, 0));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_ambiguous_and_retried() {
    let server = Server::start(|n| if n == 1 { Act::StoreInSilence } else { Act::Store }).await;
    let summary = run(Options { timeout: Duration::from_secs(5), ..options(&server, 1) }).await;
    assert_complete(&summary, 1);
    assert_eq!((summary.retried, summary.ambiguous), (1, 1));
    assert_eq!(server.stored(), 4, "the record that was stored in silence was stored again");
}

#[tokio::test]
async fn a_server_that_is_gone_for_a_while_costs_no_record() {
    let server = Server::start(|_| Act::Store).await;
    let mut options = options(&server, 200);
    options.connections = 4;
    let address = server.address();
    let posting = tokio::spawn(run(options));
    server.wait_for(50).await;
    let before = server.stop().await;
    let back = Server::start_on(address, |_| Act::Store).await;
    let summary = posting.await.unwrap();
    assert_complete(&summary, 200);
    assert!(before + back.stored() >= 600, "{before} and {}", back.stored());
    assert!(
        summary.ambiguous as usize >= before + back.stored() - 600,
        "what was stored twice was ambiguous: {summary}"
    );
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_no_failure() {
    let server = Server::start(|_| Act::StoreAndClose).await;
    let summary = run(options(&server, 5)).await;
    assert_complete(&summary, 5);
    assert_eq!((summary.retried, summary.ambiguous), (0, 0), "{:?}", summary.errors);
    assert_eq!(server.connections(), 15);
}

#[tokio::test]
async fn of_a_batch_only_the_records_that_failed_are_sent_again() {
    // error codes of the first request, record by record
    let server =
        Server::start(|n| if n == 0 { Act::PerRecord(&[0, 50003, 0, 50002, 2]) } else { Act::Store }).await;
    let summary = run(Options { records_per_request: 5, ..options(&server, 5) }).await;
    assert_eq!((summary.records, summary.acknowledged, summary.unacknowledged), (15, 14, 1), "{summary}");
    assert_eq!(summary.retried, 2);
    assert!(!summary.is_complete() && summary.gave_up.is_none());
    assert!(
        summary.errors.iter().any(|error| error.contains("124df56aef51.pin, row 3: error_code 50002")),
        "{:?}",
        summary.errors
    );
    let counts: Vec<_> = server.requests().iter().map(Request::records).collect();
    assert_eq!(counts, [5, 2, 5, 5]);
}

#[tokio::test]
async fn a_record_that_is_refused_is_unacknowledged_and_the_rest_goes_on() {
    let server = Server::start(|n| if n == 1 { Act::Status(422, "") } else { Act::Store }).await;
    let summary = run(options(&server, 2)).await;
    assert_eq!((summary.records, summary.acknowledged, summary.unacknowledged), (6, 5, 1), "{summary}");
    assert!(summary.errors[0].contains("124df56aef51.geo, row 0: 422"), "{:?}", summary.errors);
}

#[tokio::test]
async fn a_gateway_that_refuses_everything_ends_the_run() {
    for status in [401, 404, 415] {
        let server = Server::start(move |_| Act::Status(status, "")).await;
        let summary = run(options(&server, 1_000_000)).await;
        assert!(!summary.is_complete() && summary.unacknowledged == summary.records, "{summary}");
        assert!(summary.events < 100, "{summary}");
        assert!(
            summary.gave_up.as_ref().is_some_and(|why| why.contains(&status.to_string())),
            "{:?}",
            summary.gave_up
        );
    }
}

#[tokio::test]
async fn tries_come_to_an_end() {
    let server = Server::start(|_| Act::Status(503, "Retry-After: 0\r\n")).await;
    let summary = run(Options { retries: 2, ..options(&server, 1_000_000) }).await;
    assert!(
        summary.gave_up.as_ref().is_some_and(|why| why.contains("not stored in 3 tries")),
        "{:?}",
        summary.gave_up
    );
    assert_eq!(summary.acknowledged + summary.unacknowledged, summary.records);
    assert_eq!(summary.acknowledged, 0);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    let (_nobody, address) = pinmill_testkit::nobody();
    let nowhere = format!("http://{address}");
    let target = Target::topics(&nowhere, None).unwrap();
    let summary = run(Options { retries: 1, posts: Some(5), connections: 1, ..Options::new(target) }).await;
    assert!(summary.gave_up.as_ref().is_some_and(|why| why.contains("refused")), "{:?}", summary.gave_up);
    assert_eq!(summary.ambiguous, 0, "what was never sent cannot be stored");
}

#[tokio::test]
async fn a_run_without_end_ends_when_it_is_told_to() {
    let server = Server::start(|_| Act::Store).await;
    let stop = CancellationToken::new();
    let endless = Options { posts: None, connections: 3, ..options(&server, 0) };
    let posting = tokio::spawn({
        let stop = stop.clone();
        async move { emulate(endless, Arc::new(Generator::new(100)), &stop).await.unwrap() }
    });
    server.wait_for(30).await;
    stop.cancel();
    let summary = posting.await.unwrap();
    assert!(summary.is_complete() && summary.acknowledged >= 30, "{summary}");
    assert_eq!(summary.acknowledged, summary.events * 3);
    assert_eq!(server.stored() as u64, summary.acknowledged);
}

#[tokio::test]
async fn every_acknowledged_record_is_in_the_log_of_acknowledgements() {
    let dir = pinmill_testkit::temp_dir();
    let path = dir.path().join("acks.tsv");
    let server = Server::start(|n| if n % 7 == 3 { Act::Status(500, "") } else { Act::Store }).await;
    let options = Options { connections: 4, ack_log: Some(path.clone()), ..options(&server, 40) };
    assert_complete(&run(options).await, 40);

    let generator = Generator::new(100);
    let mut seen = BTreeSet::new();
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let [topic, partition, offset, id, hash]: [&str; 5] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let table = Table::ALL.into_iter().find(|table| topic == format!("124df56aef51.{table}")).unwrap();
        let row = generator.json(table, id.parse().unwrap(), DateForm::Us).unwrap();
        assert_eq!(hash, format!("{:016x}", twox_hash::XxHash3_64::oneshot(row.as_bytes())));
        assert_eq!(partition, "0");
        assert!(offset.parse::<i64>().is_ok());
        assert!(seen.insert((topic.to_owned(), id.to_owned())), "{line}");
    }
    assert_eq!(seen.len(), 120);
}

#[tokio::test]
async fn rows_that_the_source_lacks_are_counted_and_not_posted() {
    let dir = pinmill_testkit::temp_dir();
    std::fs::write(dir.path().join("pin.jsonl"), "{\"index\":0}\n{\"index\":2}\n").unwrap();
    std::fs::write(dir.path().join("geo.jsonl"), "{\"ind\":1}\n").unwrap();
    std::fs::write(dir.path().join("user.jsonl"), "").unwrap();
    let server = Server::start(|_| Act::Store).await;
    let options = Options { posts: None, ..options(&server, 0) };
    let source = Arc::new(Jsonl::open(dir.path()).unwrap());
    let summary = emulate(options, source, &CancellationToken::new()).await.unwrap();
    // a sequence ends where the source does
    assert_eq!(
        (summary.events, summary.records, summary.acknowledged, summary.missing),
        (3, 3, 3, 6),
        "{summary}"
    );
}

/// The reference's draws go up to 11,000, and would find next to nothing here.
#[tokio::test]
async fn draws_from_a_small_source_are_of_the_rows_that_it_has() {
    let dir = pinmill_testkit::temp_dir();
    for (table, key) in [("pin", "index"), ("geo", "ind"), ("user", "ind")] {
        let rows = [7, 4000].map(|id| format!("{{\"{key}\":{id}}}\n"));
        std::fs::write(dir.path().join(format!("{table}.jsonl")), rows.concat()).unwrap();
    }
    let server = Server::start(|_| Act::Store).await;
    let options = Options { draw: DrawOrder::Replacement, ..options(&server, 20) };
    let source = Arc::new(Jsonl::open(dir.path()).unwrap());
    let summary = emulate(options, source, &CancellationToken::new()).await.unwrap();
    assert_complete(&summary, 20);
    assert_eq!(summary.missing, 0, "{summary}");
}
