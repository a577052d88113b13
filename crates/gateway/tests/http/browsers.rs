//! What web pages of other origins may do, and by which names a server on a loopback address is called.

use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinmill_gateway::Cors;

use crate::support::{Answer, Served, get, serve};

const PAGE: &str = "https://page.example";

/// A request of a page, with a body of text: the kind that browsers send without asking first.
fn of_page(method: &str, path: &str, origin: &str) -> String {
    let body = r#"{"records":[{"value":1}]}"#;
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:8082\r\nOrigin: {origin}\r\n\
         Content-Type: application/vnd.kafka.json.v2+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn preflight(method: &str, path: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\nAccess-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: content-type\r\n\r\n"
    )
}

fn assert_refused(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.error_code()), (403, 403), "{what}: {}", answer.head);
    assert_eq!(answer.header("access-control-allow-origin"), None, "{what}");
}

#[tokio::test]
async fn by_default_a_page_may_post_records_and_do_nothing_else() {
    let served = serve(|_| {}).await;
    for path in ["/topics/t", "/dev/topics/t", "/dev//topics//t/", "/topics/t/partitions/0"] {
        let answer = served.ask(of_page("POST", path, PAGE)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")), "{path}");
    }
    assert_eq!(served.count("t"), 4);
    for (method, path) in [
        ("GET", "/topics"),
        ("GET", "/dev/topics/t"),
        ("POST", "/"),
        ("POST", "/brokers"),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("DELETE", "/topics/t"),
        ("PUT", "/topics/t"),
        ("GET", "/nothing"),
    ] {
        for origin in [PAGE, "null", "http://localhost:3000", "http://127.0.0.1:8082"] {
            assert_refused(
                &served.ask(of_page(method, path, origin)).await,
                &format!("{method} {path} of {origin}"),
            );
        }
    }
    for (method, path, status) in [
        ("POST", "/dev/topics/t", 204),
        ("GET", "/topics", 403),
        ("DELETE", "/topics/t", 403),
        ("PUT", "/topics/t", 403),
    ] {
        let answer = served.ask(preflight(method, path)).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let allowed = (status == 204).then_some("*");
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("access-control-allow-methods").is_some(), status == 204);
    }
    // A page of this server's own, and whatever is no page.
    assert_eq!(served.ask(of_page("GET", "/topics", "http://localhost:8082")).await.status, 200);
    assert_eq!(served.ask(get("/topics")).await.header("access-control-allow-origin"), None);
    let bare = "OPTIONS /topics/t HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(served.ask(bare).await.status, 204);
}

#[tokio::test]
async fn the_setting_allows_pages_more_or_less() {
    let any = serve(|config| config.cors = Cors::AnyOrigin).await;
    let listed = serve(|config| config.cors = Cors::Origins(vec![PAGE.to_owned()])).await;
    let off = serve(|config| config.cors = Cors::Off).await;
    let (read, post) = (of_page("GET", "/topics", PAGE), of_page("POST", "/topics/t", PAGE));
    for request in [&read, &post, &preflight("GET", "/topics"), &preflight("POST", "/topics/t")] {
        let answer = any.ask(request).await;
        assert!(answer.status < 300, "{request}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let answer = listed.ask(request).await;
        assert!(answer.status < 300, "{request}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
        assert_eq!(answer.header("vary"), Some("origin"));
        assert_refused(&off.ask(request).await, request);
    }
    let nowhere = any.ask(of_page("GET", "/nothing", PAGE)).await;
    assert_eq!(
        (nowhere.status, nowhere.header("access-control-allow-origin")),
        (404, Some("*")),
        "errors too"
    );
    assert_refused(&listed.ask(of_page("POST", "/topics/t", "https://b.example")).await, "not listed");
    assert_eq!((any.count("t"), listed.count("t")), (1, 1));
    assert!(off.log.records("t").is_empty(), "it is refused before it is done");
}

async fn called(served: &Served, host: &str) -> Answer {
    served.ask(format!("GET /topics HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

#[tokio::test]
async fn a_server_on_loopback_answers_to_names_that_no_page_can_give_it() {
    let served = serve(|config| config.hosts = vec!["gate.example".to_owned()]).await;
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8082", "127.1.2.3", "[::1]:8082", "gate.example:8082"]
    {
        assert_eq!(called(&served, host).await.status, 200, "{host}");
    }
    for host in
        ["evil.example", "evil.example:8082", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "x@localhost"]
    {
        let answer = called(&served, host).await;
        assert_eq!((answer.status, answer.error_code()), (421, 421), "{host}");
    }
    for path in ["/metrics", "/healthz", "/readyz", "/", "/nothing"] {
        let answer = served.ask(format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n")).await;
        assert_eq!(answer.status, 421, "{path}");
    }
    let absolute = "GET http://evil.example/topics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(served.ask(absolute).await.status, 421);
    let asked = "OPTIONS /topics/t HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(served.ask(asked).await.status, 421);
    assert_eq!(served.ask("GET /topics HTTP/1.0\r\n\r\n").await.status, 200, "no browser leaves it out");
}

#[tokio::test]
async fn over_http_2_the_authority_is_the_name() {
    let served = serve(|_| {}).await;
    let stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (uri, headers, status) in [
        ("http://localhost/topics", vec![], 200),
        ("http://evil.example/topics", vec![], 421),
        ("http://evil.example/topics", vec![("host", "localhost")], 421),
        ("http://localhost/topics", vec![("host", "evil.example")], 421),
        ("http://localhost/topics", vec![("origin", PAGE)], 403),
    ] {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer =
            sender.send_request(request.body(Full::<bytes::Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{uri}");
    }
}
