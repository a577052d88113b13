//! What strangers can make grow, and for how long they can hold a connection.

use std::time::Duration;

use crate::support::{Client, Served, get, post_json, serve, within};

const SOCKETS: usize = 150;
const OPEN: &str = "pinmill_gateway_connections ";

/// Connects often, and sends each time what there is for that socket, before the next one: a socket that says nothing for
/// as long as a head may take is hung up on without a word.
async fn connect_many(served: &Served, beginning: impl Fn(usize) -> String) -> Vec<Client> {
    let mut clients = Vec::new();
    for index in 0..SOCKETS {
        let mut client = served.connect().await;
        client.send(beginning(index)).await;
        clients.push(client);
    }
    clients
}

/// A client that behaves is served meanwhile.
async fn post_ten(served: &Served) {
    for _ in 0..10 {
        assert_eq!(served.ask(post_json("/topics/good", r#"{"records":[{"value":1}]}"#)).await.status, 200);
    }
}

#[tokio::test]
async fn slow_heads_are_hung_up_on_with_a_word_and_others_are_served() {
    let served = serve(|config| config.limits.header_timeout = Duration::from_secs(3)).await;
    // Cut anywhere: in the method, where HTTP/2's preface is still possible, in a header.
    let heads = ["P", "PRI * HTTP/2.0\r\n", "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nX-Slow: "];
    let mut slow = connect_many(&served, |index| heads[index % 3].to_owned()).await;
    post_ten(&served).await;
    for (index, client) in slow.iter_mut().enumerate() {
        let answer = client.answer(false).await.unwrap_or_else(|| panic!("socket {index} got no word"));
        assert_eq!((answer.status, answer.error_code()), (408, 408));
        assert!(client.rest().await.is_empty());
    }
    // The one that asks is open while it asks.
    served.until_metric(OPEN, 1.0).await;
}

#[tokio::test]
async fn heads_that_drip_are_given_no_more_time_than_others() {
    let served = serve(|config| config.limits.header_timeout = Duration::from_millis(200)).await;
    let mut client = served.connect().await;
    within(async {
        // Each byte is new, and still the head is never whole.
        while tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"P").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let served = serve(|config| config.limits.header_timeout = Duration::from_millis(100)).await;
    assert!(served.connect().await.rest().await.is_empty());
    let mut kept_alive = served.connect().await;
    assert_eq!(kept_alive.ask(get("/topics")).await.status, 200);
    assert!(kept_alive.rest().await.is_empty(), "idle after a request");
}

#[tokio::test]
async fn slow_bodies_are_hung_up_on_with_a_word_and_others_are_served() {
    let served = serve(|config| config.limits.body_timeout = Duration::from_secs(3)).await;
    let mut slow = connect_many(&served, |index| {
        let framing = ["Content-Length: 100", "Transfer-Encoding: chunked"][index % 2];
        let head = format!(
            "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
        );
        head + if index % 2 == 0 { "{\"rec" } else { "5\r\n{\"rec\r\n" }
    })
    .await;
    post_ten(&served).await;
    for client in &mut slow {
        let answer = client.answer(false).await.expect("a word");
        assert_eq!((answer.status, answer.error_code()), (408, 408));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert!(served.log.records("t").is_empty());
}

#[tokio::test]
async fn clients_that_do_not_read_are_given_up() {
    let served = serve(|config| config.limits.write_timeout = Duration::from_millis(300)).await;
    for index in 0..400 {
        served.make_topic(&format!("{index}.{}", "x".repeat(200)), 1).await;
    }
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let mut client = served.connect().await;
        // The answers are far more than what the two systems buffer.
        let many = get("/topics").repeat(250);
        let sent = tokio::time::timeout(Duration::from_millis(50), async { client.send(many).await });
        let _ = sent.await;
        deaf.push(client);
    }
    post_ten(&served).await;
    served.until_metric(OPEN, 1.0).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_however_it_is_announced() {
    const LIMIT: usize = 300_000;
    let served = serve(|config| config.limits.body_bytes = LIMIT).await;
    let body = |bytes: usize| {
        let (start, end) = ("{\"records\":[{\"value\":\"", "\"}]}");
        format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    let chunked = |body: &str| {
        let mut request = b"POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                            Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
        for chunk in body.as_bytes().chunks(10_000) {
            request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend([chunk, b"\r\n"].concat());
        }
        request.extend(b"0\r\n\r\n");
        request
    };
    assert_eq!(served.ask(post_json("/topics/t", body(LIMIT))).await.status, 200);
    assert_eq!(served.ask(chunked(&body(LIMIT))).await.status, 200);
    for over in [post_json("/topics/t", body(LIMIT + 1)), chunked(&body(LIMIT + 1))] {
        let mut client = served.connect().await;
        let answer = client.ask(over).await;
        assert_eq!((answer.status, answer.error_code()), (413, 413));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    }
    assert_eq!(served.count("t"), 2);
}

#[tokio::test]
async fn an_announced_giant_is_refused_before_it_is_sent() {
    let served = serve(|_| {}).await;
    let head =
        "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
    // hyper itself does not take a length near 2^64.
    for (announced, status) in [("10485761", 413), ("10737418240", 413), ("18446744073709551615", 431)] {
        let answer = served.ask(format!("{head}{announced}\r\nExpect: 100-continue\r\n\r\n")).await;
        assert_eq!((answer.status, answer.error_code()), (status, u64::from(status)), "{announced}");
    }
    // One that fits is asked for.
    let mut client = served.connect().await;
    client.send(format!("{head}25\r\nExpect: 100-continue\r\n\r\n")).await;
    let go_on = client.answer(true).await.unwrap();
    assert_eq!(go_on.status, 100);
    assert_eq!(client.ask(r#"{"records":[{"value":1}]}"#).await.status, 200);
}

#[tokio::test]
async fn an_endless_body_is_given_up_soon_after_the_limit() {
    let served = serve(|config| config.limits.body_bytes = 100_000).await;
    let mut client = served.connect().await;
    client.send("POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("2710\r\n{}\r\n", "x".repeat(10_000)).into_bytes();
    // Enough to be over the limit; the answer comes though the body never ends.
    for _ in 0..12 {
        client.send(&chunk).await;
    }
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.error_code()), (413, 413));
    // What still comes is thrown away for a moment, then the connection is closed whatever comes.
    within(async { while tokio::io::AsyncWriteExt::write_all(&mut client.stream, &chunk).await.is_ok() {} })
        .await;
    served.until_metric(OPEN, 1.0).await;
}

#[tokio::test]
async fn a_length_that_lies_hurts_only_the_liar() {
    let served = serve(|config| config.limits.body_timeout = Duration::from_millis(200)).await;
    let body = r#"{"records":[{"value":1}]}"#;
    let with_length = |length: usize| {
        format!(
            "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let longer = served.ask(with_length(body.len() + 1)).await;
    assert_eq!((longer.status, longer.error_code()), (408, 408));
    let mut client = served.connect().await;
    let shorter = client.ask(with_length(body.len() - 1)).await;
    assert_eq!((shorter.status, shorter.error_code()), (400, 400));
    // The byte too many is no request.
    client.send("\r\n\r\n").await;
    let garbage = client.answer(false).await.expect("a word");
    assert_eq!((garbage.status, garbage.error_code()), (400, 400));
    assert!(served.log.records("t").is_empty());
}

#[tokio::test]
async fn large_heads_are_a_431_and_bad_ones_a_400_in_json() {
    let served = serve(|_| {}).await;
    let large = format!("GET /topics HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET /topics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: 1\r\n".repeat(500));
    for (request, status) in [
        (large.as_str(), 431),
        (many.as_str(), 431),
        ("GET /topics HTTP/1.1\r\nbad header\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        ("POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1} a TLS hello\r\n\r\n", 400),
    ] {
        let mut client = served.connect().await;
        let answer = client.ask(request).await;
        assert_eq!(answer.status, status, "{}", answer.head);
        assert_eq!(answer.error_code(), u64::from(status));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_closes() {
    let served = serve(|config| config.limits.connections = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = served.connect().await;
        assert_eq!(client.ask(get("/topics")).await.status, 200);
        open.push(client);
    }
    let mut waiting = served.connect().await;
    waiting.send(get("/topics")).await;
    let early = tokio::time::timeout(Duration::from_millis(50), waiting.answer(false)).await;
    assert!(early.is_err(), "the fourth is not served while three are open");
    open.pop();
    assert_eq!(waiting.answer(false).await.unwrap().status, 200);
}

#[tokio::test]
async fn records_of_the_limit_are_stored_and_one_byte_more_is_refused_by_itself() {
    let served = serve(|_| {}).await;
    let limit = 1024 * 1024;
    let record = |bytes: usize| format!("{{\"value\":\"{}\"}}", "x".repeat(bytes - 2));
    for (bytes, code) in [(limit - 1, None), (limit, None), (limit + 1, Some(50002))] {
        let body = format!("{{\"records\":[{},{{\"value\":1}}]}}", record(bytes));
        let answer = served.ask(post_json("/topics/t", body)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["offsets"][0]["error_code"].as_u64(), code, "{bytes} bytes");
        assert!(answer.json()["offsets"][1]["offset"].is_u64());
    }
    assert_eq!(served.count("t"), 5);
}
