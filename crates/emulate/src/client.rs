//! One keep-alive HTTP/1.1 connection, made again when it is gone.
//!
//! Against the same bare server on two busy cores this posts 41,000 to 57,000 requests a second with the making of rows
//! included, and a client with a pool (reqwest) 26,000 to 35,000 without it. More to the point, a pool cannot tell whether
//! a request that failed was on its way already, and that decides whether a record may be stored although nobody said so.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower::ServiceExt;
use url::Url;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("pinmill-emulate/", env!("CARGO_PKG_VERSION")));

/// Longest answer that is read: 256 bytes for each of 10,000 records.
const LONGEST_ANSWER: usize = 2_560_000;

/// Makes connections to one host.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    connector: HttpsConnector<HttpConnector>,
    origin: Uri,
    host: HeaderValue,
    timeout: Duration,
}

/// A connection that may be there.
#[derive(Debug)]
pub(crate) struct Client {
    dialer: Dialer,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What a request is sent to.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: Uri,
    pub(crate) content_type: HeaderValue,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct SendError {
    /// The request, or a part of it, was sent: the gateway may have done what it says.
    pub(crate) maybe_received: bool,
    pub(crate) why: String,
}

impl Dialer {
    /// For the host of `origin`; `timeout` is for connecting, and again for each answer.
    pub(crate) fn new(origin: &Url, timeout: Duration) -> Result<Self, String> {
        let uri: Uri = origin.as_str().parse().map_err(|e| format!("{origin} is no address: {e}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(authority).map_err(|e| format!("{origin} is no address: {e}"))?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        // The provider is named because a build may have several, and then there is no default.
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?;
        let tls = match uri.scheme_str() {
            // A machine without certificates can still post to itself.
            Some("https") => tls
                .with_native_roots()
                .map_err(|e| format!("the system's certificates cannot be read: {e}"))?,
            _ => tls.with_root_certificates(rustls::RootCertStore::empty()),
        }
        .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self { connector, origin: uri, host, timeout })
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let dialing = async {
            let io = self.connector.clone().oneshot(self.origin.clone()).await.map_err(|e| chain(&*e))?;
            http1::handshake(io).await.map_err(|e| chain(&e))
        };
        let (sender, connection) = tokio::time::timeout(self.timeout, dialing)
            .await
            .map_err(|_| "connecting timed out".to_owned())??;
        // It ends with its sender; what goes wrong in it reaches the request that it goes wrong for.
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Client {
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self { dialer, sender: None }
    }

    /// Sends `body` and reads the whole answer.
    pub(crate) async fn send(&mut self, to: &Endpoint, body: Bytes) -> Result<Answer, SendError> {
        let timeout = self.dialer.timeout;
        // A connection that the other side closed while it was idle says so only when it is used: once more, then.
        for fresh in [false, true] {
            let mut sender = match self.sender.take() {
                Some(sender) if !fresh && !sender.is_closed() => sender,
                _ => self.dialer.dial().await.map_err(|why| SendError {
                    maybe_received: false,
                    why: format!("no connection to {}: {why}", self.dialer.origin),
                })?,
            };
            let request = self.request(to, body.clone());
            match tokio::time::timeout(timeout, exchange(&mut sender, request)).await {
                Ok(Ok(answer)) => {
                    self.sender = Some(sender);
                    return Ok(answer);
                }
                Ok(Err(Broken::Unsent(_))) if !fresh => {}
                Ok(Err(Broken::Unsent(why))) => return Err(SendError { maybe_received: false, why }),
                Ok(Err(Broken::Sent(why))) => return Err(SendError { maybe_received: true, why }),
                Err(_) => {
                    return Err(SendError {
                        maybe_received: true,
                        why: format!("no answer within {} s", timeout.as_secs_f32()),
                    });
                }
            }
        }
        Err(SendError { maybe_received: false, why: "the connection closed twice".to_owned() })
    }

    fn request(&self, to: &Endpoint, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = to.method.clone();
        *request.uri_mut() = to.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.dialer.host.clone());
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_TYPE, to.content_type.clone());
        request
    }
}

/// How an exchange broke.
enum Broken {
    /// Before a byte of the request was written.
    Unsent(String),
    Sent(String),
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Broken> {
    if let Err(error) = sender.ready().await {
        return Err(Broken::Unsent(chain(&error)));
    }
    match sender.try_send_request(request).await {
        Ok(response) => answer(response).await.map_err(Broken::Sent),
        Err(mut error) => {
            let why = chain(error.error());
            Err(if error.take_message().is_some() { Broken::Unsent(why) } else { Broken::Sent(why) })
        }
    }
}

async fn answer(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|e| chain(&*e))?.to_bytes();
    Ok(Answer { status: head.status, retry_after: head.headers.get(RETRY_AFTER).cloned(), body })
}

/// An error with its causes, as hyper keeps the telling part in them.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
