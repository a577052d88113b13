//! Which requests of browsers are taken: from whose pages, and under which names of this machine.
//!
//! A page of another site cannot be kept from *sending*: a plain GET, or a POST of text, needs no preflight. So what it
//! may not do is refused before it is done, and the headers only say who may read the answer.
//!
//! By default a page may do what the stage of API Gateway that is replaced was used for: post records. It may not read,
//! make or delete anything.
//!
//! A stranger can let a name of his own lead to this machine (DNS rebinding). His page then calls this server by the very
//! name that the page came from. So a page counts as this server's own only under a name that cannot be given so: an
//! address, `localhost`, or one that is listed. On a loopback address, which nobody else should reach, requests under any
//! other name are refused altogether.
//!
//! This is the one place that decides about pages, for every route and protocol.

use std::net::IpAddr;

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HOST, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::config::Cors;
use crate::path;

/// The header by which a request of Amazon's JSON and CBOR protocols names its operation.
pub(crate) const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// The operations of Amazon's protocol that put records.
const PUTS: [&[u8]; 2] = [b"Kinesis_20131202.PutRecord", b"Kinesis_20131202.PutRecords"];

const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
const RECORD_METHODS: HeaderValue = HeaderValue::from_static("OPTIONS, POST, PUT");
/// Browsers ask again after this many seconds; none keeps an answer for longer than a day.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
const USUAL_HEADERS: HeaderValue = HeaderValue::from_static("accept, authorization, content-type");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("retry-after, x-amzn-requestid, x-amzn-errortype, x-amz-id-2, date");

/// What a page may do with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// The request comes from no page, or from one of this server's own.
    Own,
    /// The request is taken, and a page of this origin may read the answer.
    Allowed(HeaderValue),
    /// The request is refused.
    Refused,
}

/// Who may call, and under which names.
#[derive(Debug)]
pub(crate) struct Callers {
    /// What pages of other origins may do.
    pub(crate) cors: Cors,
    /// Names besides `localhost` and addresses that are this server's own; `*` is every name.
    pub(crate) hosts: Vec<String>,
    /// Whether it listens on a loopback address.
    pub(crate) on_loopback: bool,
}

impl Callers {
    /// Whether a request names this server by a name that it answers to. A request that names none comes from no browser.
    pub(crate) fn is_named_rightly<B>(&self, request: &Request<B>) -> bool {
        let is_right = |host: &str| is_listed(host, &self.hosts) || is_of_machine(host, IpAddr::is_loopback);
        !self.on_loopback || named_hosts(request).all(|host| host.is_some_and(is_right))
    }

    /// Decides about a request that is no preflight; `path` without its stage.
    pub(crate) fn judge<B>(&self, request: &Request<B>, path: &str) -> Page {
        let is_put = |target: &HeaderValue| PUTS.contains(&target.as_bytes());
        self.page(request, || match request.headers().get(TARGET) {
            Some(target) => request.method() == Method::POST && is_put(target),
            None => path::takes_records(request.method(), path),
        })
    }

    /// The answer to OPTIONS, which a browser sends before it dares the request itself; `None` where it is to be refused.
    pub(crate) fn preflight<B>(&self, request: &Request<B>, path: &str) -> Option<Response<Body>> {
        let headers = request.headers();
        let page = self.page(request, || {
            let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes);
            let Some(Ok(method)) = method.map(Method::from_bytes) else { return false };
            // Which operation it is will be seen when it comes.
            (names_target(headers) && method == Method::POST) || path::takes_records(&method, path)
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        let methods = if self.cors == Cors::Records { RECORD_METHODS } else { METHODS };
        match page {
            Page::Refused => return None,
            Page::Own => {
                answer.insert(ALLOW, METHODS);
            }
            Page::Allowed(_) => {
                answer.insert(ALLOW, methods.clone());
                page.share(answer);
                answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
                let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(USUAL_HEADERS));
                answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            }
        }
        Some(response)
    }

    fn page<B>(&self, request: &Request<B>, takes_records: impl FnOnce() -> bool) -> Page {
        let Some(origin) = request.headers().get(ORIGIN) else { return Page::Own };
        let is_listed = |listed: &String| origin.as_bytes() == listed.as_bytes();
        let any = || Page::Allowed(HeaderValue::from_static("*"));
        match &self.cors {
            Cors::AnyOrigin => any(),
            _ if self.is_own(origin, request) => Page::Own,
            Cors::Records if takes_records() => any(),
            Cors::Origins(listed) if listed.iter().any(is_listed) => Page::Allowed(origin.clone()),
            Cors::Records | Cors::Origins(_) | Cors::Off => Page::Refused,
        }
    }

    /// Whether a page comes from the place that it calls, under a name that no stranger can give this machine.
    fn is_own<B>(&self, origin: &HeaderValue, request: &Request<B>) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let Some(place) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
            return false;
        };
        let is_safe = |host: &str| is_listed(host, &self.hosts) || is_of_machine(host, |_| true);
        let is_own = |host: &str| host.eq_ignore_ascii_case(place) && is_safe(host);
        let mut named = named_hosts(request).peekable();
        named.peek().is_some() && named.all(|host| host.is_some_and(is_own))
    }
}

impl Page {
    /// Tells the browser whether the page may read this answer.
    pub(crate) fn share(&self, answer: &mut HeaderMap) {
        let Self::Allowed(origin) = self else { return };
        if origin != "*" {
            answer.insert(VARY, HeaderValue::from_static("origin"));
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.entry(ACCESS_CONTROL_EXPOSE_HEADERS).or_insert(EXPOSED);
    }
}

/// Whether a preflight asks for a request of Amazon's protocol.
fn names_target(headers: &HeaderMap) -> bool {
    let asked = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).into_iter();
    let mut names = asked.filter_map(|names| names.to_str().ok()).flat_map(|names| names.split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case(TARGET.as_str()))
}

/// What a request calls this server, with the port: in its URI, and in its header `Host`. `None` is unreadable.
fn named_hosts<B>(request: &Request<B>) -> impl Iterator<Item = Option<&str>> {
    let authority = request.uri().authority().map(|authority| Some(authority.as_str()));
    authority.into_iter().chain(request.headers().get_all(HOST).into_iter().map(|host| host.to_str().ok()))
}

/// Whether a host, its port aside, is `localhost` or such an address.
fn is_of_machine(host: &str, such: impl Fn(&IpAddr) -> bool) -> bool {
    let name = bare(host);
    let address = name.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| such(&address.to_canonical()))
}

/// Whether a host, its port aside, is one of `hosts`.
fn is_listed(host: &str, hosts: &[String]) -> bool {
    hosts.iter().any(|listed| listed == "*" || bare(listed).eq_ignore_ascii_case(bare(host)))
}

/// A host without its port and the dot of a name that is written in full.
fn bare(host: &str) -> &str {
    let name = without_port(host);
    name.strip_suffix('.').unwrap_or(name)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_cut_address(name) => name,
        _ => host,
    }
}

/// Whether the colon that was found belongs to an IPv6 address.
fn is_cut_address(name: &str) -> bool {
    name.contains(':') && !name.ends_with(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://page.example";

    fn callers(cors: Cors) -> Callers {
        Callers { cors, hosts: Vec::new(), on_loopback: true }
    }

    fn request(method: &str, origin: Option<&str>, more: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri("/").header("host", "localhost:8082");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn by_default_any_page_may_put_records_and_nothing_else() {
        for (method, path, is_allowed) in [
            ("POST", "/topics/a", true),
            ("POST", "/topics/a/partitions/0", true),
            ("PUT", "/streams/s/record", true),
            ("PUT", "/streams/s/records", true),
            ("GET", "/topics/a", false),
            ("GET", "/topics", false),
            ("POST", "/streams/s", false),
            ("DELETE", "/streams/s", false),
            ("GET", "/streams/s/records", false),
            ("GET", "/metrics", false),
            ("POST", "/", false),
            ("DELETE", "/topics/a", false),
            ("HEAD", "/streams", false),
        ] {
            for origin in [PAGE, "null", "http://localhost:3000", "http://127.0.0.1:8082", "file://"] {
                let judged = callers(Cors::Records).judge(&request(method, Some(origin), &[]), path);
                assert_eq!(judged != Page::Refused, is_allowed, "{method} {path} of {origin}");
            }
            for (cors, origin) in [
                (Cors::Records, None),
                (Cors::Off, None),
                (Cors::Off, Some("http://localhost:8082")),
                (Cors::Records, Some("http://LOCALHOST:8082")),
            ] {
                assert_eq!(callers(cors).judge(&request(method, origin, &[]), path), Page::Own);
            }
            assert_eq!(callers(Cors::Off).judge(&request(method, Some(PAGE), &[]), path), Page::Refused);
            assert!(matches!(
                callers(Cors::AnyOrigin).judge(&request(method, Some(PAGE), &[]), path),
                Page::Allowed(_)
            ));
        }
    }

    #[test]
    fn of_amazons_operations_only_puts_are_a_pages() {
        for (target, is_allowed) in [
            ("Kinesis_20131202.PutRecord", true),
            ("Kinesis_20131202.PutRecords", true),
            ("Kinesis_20131202.DeleteStream", false),
            ("Kinesis_20131202.GetRecords", false),
            ("Kinesis_20131202.PutRecord.DeleteStream", false),
            ("", false),
        ] {
            let put = request("POST", Some(PAGE), &[("x-amz-target", target)]);
            // The path says nothing then.
            let judged = callers(Cors::Records).judge(&put, "/topics/a");
            assert_eq!(judged != Page::Refused, is_allowed, "{target}");
        }
    }

    #[test]
    fn listed_pages_may_do_everything_and_no_other_anything() {
        let listed = callers(Cors::Origins(vec![PAGE.to_owned()]));
        let judged = listed.judge(&request("DELETE", Some(PAGE), &[]), "/streams/s");
        assert_eq!(judged, Page::Allowed(HeaderValue::from_static(PAGE)));
        let mut answer = HeaderMap::new();
        judged.share(&mut answer);
        assert_eq!(
            (&answer[ACCESS_CONTROL_ALLOW_ORIGIN], &answer[VARY]),
            (&PAGE.parse().unwrap(), &"origin".parse().unwrap())
        );
        for other in ["https://b.example", "null", "https://page.example.evil", "http://page.example"] {
            assert_eq!(listed.judge(&request("POST", Some(other), &[]), "/topics/a"), Page::Refused);
        }
    }

    #[test]
    fn a_preflight_is_answered_for_what_may_be_done() {
        let ask = |cors: Cors, method: &str, names: &str, path: &str| {
            let more = [("access-control-request-method", method), ("access-control-request-headers", names)];
            callers(cors).preflight(&request("OPTIONS", Some(PAGE), &more), path)
        };
        let answer = ask(Cors::Records, "POST", "content-type,x-trace", "/topics/a").unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-trace");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_METHODS], "OPTIONS, POST, PUT");
        assert!(ask(Cors::Records, "PUT", "content-type", "/streams/s/record").is_some());
        assert!(ask(Cors::Records, "POST", "content-type, X-Amz-Target", "/").is_some());
        for (method, path) in
            [("DELETE", "/streams/s"), ("POST", "/streams/s"), ("PUT", "/topics/a"), ("", "/topics/a")]
        {
            assert!(ask(Cors::Records, method, "", path).is_none(), "{method} {path}");
            assert!(ask(Cors::Off, method, "", path).is_none());
            assert!(ask(Cors::AnyOrigin, method, "", path).is_some());
        }
        let plain = callers(Cors::Off).preflight(&request("OPTIONS", None, &[]), "/streams/s").unwrap();
        assert!(plain.headers().contains_key(ALLOW));
        assert!(!plain.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }

    #[test]
    fn a_loopback_listener_answers_to_its_own_names_alone() {
        let listed = ["gate.example".to_owned(), "other.example:9000".to_owned()];
        let is_right =
            |host: &str, hosts: &[String]| is_listed(host, hosts) || is_of_machine(host, IpAddr::is_loopback);
        for host in [
            "localhost",
            "localhost:8082",
            "LocalHost.",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.8.9.10:80",
            "[::1]",
            "[::1]:8082",
            "[::ffff:127.0.0.1]:1",
            "gate.example",
            "GATE.example:8082",
            "other.example",
        ] {
            assert!(is_right(host, &listed), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8082",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil@localhost",
            "localhost@evil.example",
            "10.0.0.1",
            "0.0.0.0:8082",
            "[::]",
            "::2",
            "2130706433",
            "localhost:8082:evil",
            "localhost:x",
            "notgate.example",
        ] {
            assert!(!is_right(host, &listed), "{host}");
        }
        assert!(is_right("anything", &["*".to_owned()]));
    }

    #[test]
    fn every_name_that_a_request_uses_must_be_safe() {
        let of = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            callers(Cors::Records).is_named_rightly(&request.body(()).unwrap())
        };
        assert!(of("/", &[]) && of("/", &["localhost"]) && of("http://127.0.0.1:1/", &["localhost"]));
        assert!(!of("/", &["localhost", "evil.example"]));
        assert!(!of("http://evil.example/", &["localhost"]));
        assert!(!of("http://localhost/", &["evil.example"]));
    }

    #[test]
    fn off_loopback_a_page_is_this_servers_own_only_under_a_name_that_no_stranger_can_give_it() {
        let judged = |host: &str, hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let callers = Callers { cors: Cors::Records, hosts, on_loopback: false };
            let request = Request::delete("/streams/s").header(HOST, host);
            let request = request.header(ORIGIN, format!("http://{host}")).body(()).unwrap();
            assert!(callers.is_named_rightly(&request), "others may call it what they like");
            callers.judge(&request, "/streams/s")
        };
        for host in [
            "192.168.1.5:8082",
            "[fe80::1]:8082",
            "10.0.0.1",
            "localhost:8082",
            "127.0.0.1",
            "gate.example:1",
        ] {
            assert_eq!(judged(host, &["gate.example"]), Page::Own, "{host}");
        }
        // A name of a stranger's own that leads here.
        for host in ["evil.example:8082", "192.168.1.5.evil.example", "localhost.evil.example"] {
            assert_eq!(judged(host, &["gate.example"]), Page::Refused, "{host}");
        }
        assert_eq!(judged("any.example", &["*"]), Page::Own);
    }
}
