//! Clients that hold what others need: memory for bodies and answers, and connections.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinmill_gateway::Memory;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Served, get, post_json, serve, within};

const MIB: usize = 1024 * 1024;
const LONG: Duration = Duration::from_secs(3600);

/// A client of HTTP/2 that takes so many bytes of each answer, and its connection.
async fn http2(
    served: &Served,
    window: u32,
) -> (http2::SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn ask_for(path: &str) -> http::Request<Full<Bytes>> {
    http::Request::get(format!("http://localhost{path}")).body(Full::default()).unwrap()
}

const HEAD: &str = "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

fn records(bytes: usize) -> String {
    format!("{{\"records\":[{{\"value\":\"{}\"}}]}}", "x".repeat(bytes))
}

/// Posts until there is memory for it, as a client does that is told to come again.
async fn post_until_taken(served: &Served, body: &str) {
    within(async {
        loop {
            let answer = served.ask(post_json("/topics/large", body)).await;
            if answer.status == 200 {
                return;
            }
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.head);
        }
    })
    .await;
}

async fn serve_bodies_within(memory: &Memory) -> Served {
    serve(|config| {
        config.limits.body_timeout = LONG;
        config.limits.body_bytes = 8 * MIB;
        config.limits.record_bytes = 8 * MIB;
        config.limits.body_memory = memory.clone();
    })
    .await
}

async fn until_used(memory: &Memory, bytes: usize) {
    within(async {
        while memory.used() < bytes {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn idle_bodies_never_keep_out_those_that_come() {
    let memory = Memory::new(16 * MIB);
    let served = serve_bodies_within(&memory).await;
    // Each lacks one byte of a mebibyte, and never sends it.
    let mut idle = Vec::new();
    for _ in 0..13 {
        let mut client = served.connect().await;
        client.send(format!("{HEAD}Content-Length: {MIB}\r\n\r\n{}", "x".repeat(MIB - 1))).await;
        idle.push(client);
    }
    until_used(&memory, 13 * MIB).await;
    assert_eq!(served.ask(post_json("/topics/small", records(4096))).await.status, 200);
    post_until_taken(&served, &records(6 * MIB)).await;
    assert!(memory.used() <= memory.total());
    // Those that gave way were told to come again: as many as were in the way, and whichever was silent for longest.
    let told = futures::future::select_all(idle.iter_mut().map(|client| Box::pin(client.answer(false))));
    let refused = within(told).await.0.expect("a word");
    assert_eq!((refused.status, refused.error_code()), (503, 50302));
    assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("1"), Some("close")));
}

#[tokio::test]
async fn bodies_that_wait_for_memory_and_never_end_do_not_keep_out_a_large_one() {
    let memory = Memory::new(16 * MIB);
    let served = serve_bodies_within(&memory).await;
    let mut endless = Vec::new();
    for _ in 0..40 {
        let mut client = served.connect().await;
        let chunk = format!("{MIB:x}\r\n{}\r\n", "x".repeat(MIB));
        client.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunk}")).await;
        endless.push(client);
    }
    until_used(&memory, 8 * MIB).await;
    post_until_taken(&served, &records(6 * MIB)).await;
    assert!(memory.used() <= memory.total());
}

#[tokio::test]
async fn what_was_done_is_never_answered_by_a_refusal_and_what_is_refused_was_not_done() {
    let memory = Memory::new(MIB);
    let served = serve(|config| config.limits.answer_memory = memory.clone()).await;
    for index in 0..100 {
        served.make_topic(&format!("{index}.{}", "x".repeat(200)), 1).await;
    }
    let many = format!("{{\"records\":[{}]}}", vec![r#"{"value":1}"#; 1000].join(","));
    // One byte is left.
    let held = memory.charge(MIB - 1);
    let (mut sender, _connection) = http2(&served, 65_535).await;
    let post = http::Request::post("http://localhost/topics/one").header("content-type", "application/json");
    let post = post.body(Full::from(r#"{"records":[{"value":1}]}"#)).unwrap();
    let answer = within(sender.send_request(post)).await.unwrap();
    assert_eq!(answer.status(), 200, "its record is stored");
    drop(answer);
    assert_eq!(served.count("one"), 1);
    // What has a long answer is refused before anything is done.
    let (refused_post, refused_read, health) = tokio::join!(
        served.ask(post_json("/topics/many", &many)),
        served.ask(get("/topics")),
        served.ask(get("/healthz")),
    );
    for refused in [&refused_post, &refused_read] {
        assert_eq!((refused.status, refused.error_code()), (503, 50302), "{}", refused.head);
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!((served.count("many"), health.status), (0, 200));
    for route in ["/topics/{topic}", "/topics"] {
        let line = format!("pinmill_gateway_requests_total{{route=\"{route}\",status=\"503\"}} ");
        assert_eq!(served.metric(&line).await, Some(1.0), "{route}");
    }
    drop(held);
    assert_eq!(served.ask(post_json("/topics/many", &many)).await.status, 200);
    assert_eq!(served.count("many"), 1000);
}

#[tokio::test]
async fn nothing_is_begun_while_answers_use_more_than_their_memory() {
    let memory = Memory::new(MIB);
    let served = serve(|config| config.limits.answer_memory = memory.clone()).await;
    let held = memory.charge(MIB);
    let one = r#"{"records":[{"value":1}]}"#;
    let native = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nX-Amz-Target: Kinesis_20131202.PutRecord\r\n\r\n{}";
    let (posted, sorry, health) = tokio::join!(
        served.ask(post_json("/topics/t", one)),
        served.ask("PUT /streams/s/record HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"),
        served.ask(get("/healthz")),
    );
    assert_eq!((posted.status, posted.error_code()), (503, 50302));
    assert_eq!((sorry.status, sorry.json()["__type"].as_str()), (503, Some("ServiceUnavailable")));
    for refused in [&posted, &sorry] {
        assert_eq!(refused.header("retry-after"), Some("1"), "{}", refused.head);
    }
    assert_eq!((health.status, served.count("t")), (200, 0));
    let line = "pinmill_gateway_requests_total{route=\"other\",status=\"503\"} ";
    assert_eq!(served.metric(line).await, Some(1.0));
    // Who waits is served as soon as there is memory again.
    let (waited, ()) = tokio::join!(served.ask(post_json("/topics/t", one)), async { drop(held) });
    assert_eq!(waited.status, 200);
    assert_eq!(served.ask(native).await.status, 400, "there are no streams here");
}

#[tokio::test]
async fn a_client_of_http_2_that_takes_nothing_of_its_answers_is_hung_up_on() {
    for window in [0, 1, 20] {
        let memory = Memory::new(MIB);
        let served = serve(|config| {
            config.limits.write_timeout = Duration::from_millis(200);
            config.limits.answer_memory = memory.clone();
        })
        .await;
        served.make_topic(&"t".repeat(200), 1).await;
        let (mut deaf, connection) = http2(&served, window).await;
        let mut answers = Vec::new();
        for _ in 0..100 {
            let answer = within(deaf.send_request(ask_for("/topics"))).await;
            let Ok(answer) = answer else { break };
            answers.push(answer);
        }
        assert!(!answers.is_empty());
        let _ = within(connection).await.unwrap();
        served.until_metric("pinmill_gateway_connections ", 1.0).await;
        // The one who asks is gone soon too.
        within(async {
            while memory.used() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn short_answers_that_nobody_takes_count_too() {
    let memory = Memory::new(MIB);
    let served = serve(|config| {
        config.limits.write_timeout = LONG;
        config.limits.answer_memory = memory.clone();
    })
    .await;
    served.make_topic(&"t".repeat(200), 1).await;
    let (mut deaf, _connection) = http2(&served, 0).await;
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(within(deaf.send_request(ask_for("/topics"))).await.unwrap());
    }
    assert_eq!(memory.used(), 10 * 204);
}

#[tokio::test]
async fn a_client_that_takes_its_answer_piece_by_piece_gets_all_of_it() {
    let served = serve(|_| {}).await;
    for index in 0..1000 {
        served.make_topic(&format!("{index}.{}", "x".repeat(200)), 1).await;
    }
    let expected = served.ask(get("/topics")).await.body;
    assert!(expected.len() > 200_000);
    let (mut sender, _connection) = http2(&served, 100).await;
    let answer = sender.send_request(ask_for("/topics")).await.unwrap();
    assert_eq!(answer.headers()["content-length"], expected.len().to_string());
    let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_closed() {
    let served = serve(|config| {
        config.limits.idle_timeout = Duration::from_millis(100);
        config.limits.header_timeout = Duration::from_millis(100);
    })
    .await;
    let (mut used, closed) = http2(&served, 65_535).await;
    let answer = used.send_request(ask_for("/topics")).await.unwrap();
    answer.into_body().collect().await.unwrap();
    let (_never_used, never) = http2(&served, 65_535).await;
    for connection in [closed, never] {
        within(connection).await.unwrap().expect("it is closed in good order");
    }
    // Nor does one that begins a request's head and never ends it stay.
    let mut stuck = served.connect().await;
    stuck.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    stuck.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    stuck.send([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]).await;
    stuck.rest().await;
}

#[tokio::test]
async fn a_connection_with_a_request_is_not_idle() {
    let served = serve(|config| config.limits.idle_timeout = Duration::from_millis(50)).await;
    served.make_topic("t", 1).await;
    served.log.hold_appends(true);
    let (mut sender, connection) = http2(&served, 65_535).await;
    let post = http::Request::post("http://localhost/topics/t").header("content-type", "application/json");
    let post = post.body(Full::from(r#"{"records":[{"value":1}]}"#)).unwrap();
    let answer = tokio::spawn(sender.send_request(post));
    let mut idle = served.connect().await;
    assert_eq!(idle.ask(get("/topics")).await.status, 200);
    assert!(idle.rest().await.is_empty(), "over HTTP/1.1 too");
    served.log.hold_appends(false);
    assert_eq!(within(answer).await.unwrap().unwrap().status(), 200);
    within(connection).await.unwrap().expect("it is closed in good order");
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_no_more() {
    let served = serve(|config| config.limits.streams = 7).await;
    let mut client = served.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut head = [0; 9];
    within(client.stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    within(client.stream.read_exact(&mut settings)).await.unwrap();
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("a limit of streams");
    assert_eq!(streams[2..], [0, 0, 0, 7]);
}
