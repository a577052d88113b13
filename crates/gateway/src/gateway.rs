//! The gateway: the routes on a server, and what is done for every request alike.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use futures::future::{BoxFuture, Either};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use pinmill_broker::EventLog;
use pinmill_http::Memory;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::config::GatewayConfig;
use crate::cors::{Callers, Page, TARGET};
use crate::error::{ApiError, NO_MEMORY_FOR_ANSWERS, RETRY_AFTER_SECONDS, Result};
use crate::metrics::{Metrics, Route, SharedRecorder};
use crate::path;
use crate::ready::Readiness;
use crate::routes::{self, App};
use crate::server::{Drained, Server};

/// A gateway that is bound and not serving yet.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
    config: GatewayConfig,
    log: Arc<dyn EventLog>,
    metrics: Arc<Metrics>,
    more: Router,
    native: Option<Router>,
    others: Vec<Arc<dyn EventLog>>,
    readiness: Option<Arc<dyn Readiness>>,
}

/// A place that is listened on, for a gateway whose log is not open yet: who takes the place first has made nothing where
/// it is taken. Clients that come meanwhile wait.
#[derive(Debug)]
pub struct Listening {
    server: Server,
    config: GatewayConfig,
    metrics: Arc<Metrics>,
}

impl Listening {
    /// The gateway here, for records to put into `log`.
    pub fn over(self, log: Arc<dyn EventLog>) -> Gateway {
        let Self { server, config, metrics } = self;
        let (more, others) = (Router::new(), Vec::new());
        Gateway { server, config, log, metrics, more, native: None, others, readiness: None }
    }
}

/// The media type of Amazon's JSON protocol.
const AMAZON_JSON: &str = "application/x-amz-json-1.1";
/// What a request of Amazon's protocol is told where nothing was given that takes it. The answer of any other route would
/// pass for that of a put.
const NO_STREAMS: &str = "nothing was done: this server has no streams (serve --streams off); use one that has, or \
                          post to topics";
const OTHER_ORIGIN: &str = "pages of other origins are not allowed to make this request; to allow it, change the setting gateway.cors";
const OTHER_HOST: &str = "this server listens on a loopback address and does not answer to this host name; use localhost, or add \
                          the name to the setting gateway.hosts";

impl Gateway {
    /// Listens, on the configured address, for records to put into `log`.
    ///
    /// # Errors
    /// A setting that cannot work, an address that others can reach without a word that this is meant, or one that cannot
    /// be listened on.
    pub async fn bind(config: GatewayConfig, log: Arc<dyn EventLog>) -> Result<Self> {
        Ok(Self::listen(config).await?.over(log))
    }

    /// The first half of [`bind`](Self::bind), which wants no log.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn listen(config: GatewayConfig) -> Result<Listening> {
        config.check()?;
        let metrics = Arc::new(Metrics::new());
        let server = Server::with_metrics(
            config.listen,
            config.limits.clone(),
            config.drain_timeout,
            Arc::clone(&metrics),
        )
        .await?;
        Ok(Listening { server, config, metrics })
    }

    /// The address that is listened on, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Serves these routes too, behind the same stages and cross-origin rules: the streams' façade. They must differ from the
    /// gateway's own, have no fallback, and bound what they read.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.more = self.more.merge(routes);
        self
    }

    /// Hands every request that has the header `X-Amz-Target` to these routes, whatever its path: the native protocol of
    /// Kinesis on the same port. They answer errors in their own shape. Which names and web pages may call is decided here,
    /// as for every route, and browsers' preflight requests never come to them. Without this call such requests are
    /// refused in Amazon's shape.
    #[must_use]
    pub fn with_native(mut self, routes: Router) -> Self {
        self.native = Some(routes);
        self
    }

    /// Asks this log too whether it takes writes, when `/readyz` is asked.
    #[must_use]
    pub fn with_log(mut self, log: Arc<dyn EventLog>) -> Self {
        self.others.push(log);
        self
    }

    /// Shows the other parts of the process too, when `/readyz` is asked.
    #[must_use]
    pub fn with_parts(mut self, parts: Arc<dyn Readiness>) -> Self {
        self.readiness = Some(parts);
        self
    }

    /// A recorder for the counters of the rest of the process, which `/metrics` then tells with the gateway's own.
    pub fn recorder(&self) -> impl metrics::Recorder + Send + Sync + use<> {
        SharedRecorder::new(Arc::clone(&self.metrics))
    }

    /// Serves until `stop` is cancelled; then takes no more connections, lets requests in flight end, closes idle
    /// connections, and returns at the latest after the drain time-out.
    pub async fn serve(self, stop: CancellationToken) -> Drained {
        let (server, front) = self.front(&stop);
        server.serve(front, stop).await
    }

    /// As [`serve`](Self::serve), but what does not end by itself after `stop` is cut when `cut` is cancelled, whenever
    /// that is: for a process that has one deadline for all of its parts.
    pub async fn serve_until(self, stop: CancellationToken, cut: CancellationToken) -> Drained {
        let (server, front) = self.front(&stop);
        server.serve_until(front, stop, cut).await
    }

    fn front(self, stop: &CancellationToken) -> (Server, Front) {
        let app = App::new(
            self.log,
            self.others,
            self.readiness,
            &self.config,
            Arc::clone(&self.metrics),
            stop.clone(),
        );
        let shared = Shared {
            router: routes::router(Arc::new(app)).merge(counted(self.more, &self.metrics)),
            native: self.native,
            callers: Callers {
                cors: self.config.cors,
                hosts: self.config.hosts,
                on_loopback: self.config.listen.ip().is_loopback(),
            },
            answers: self.config.limits.answer_memory,
            metrics: self.metrics,
        };
        (self.server, Front(Arc::new(shared)))
    }
}

/// Routes of others, with their answers counted.
fn counted(routes: Router, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    routes.layer(axum::middleware::map_response(move |answer: Response<Body>| {
        metrics.answered(Route::Streams, answer.status());
        ready(answer)
    }))
}

/// What stands before the routes: names of this server, browsers' cross-origin rules, stages and slashes.
#[derive(Debug, Clone)]
struct Front(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    router: Router,
    native: Option<Router>,
    callers: Callers,
    answers: Memory,
    metrics: Arc<Metrics>,
}

/// The answer of a route, which is nearly every one, or one that takes more steps.
type Answering = Either<RouteFuture<Infallible>, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        let shared = &self.0;
        let page = match shared.admit(&request) {
            ControlFlow::Continue(page) => page,
            ControlFlow::Break((route, answer)) => {
                shared.metrics.answered(route, answer.status());
                return Either::Right(Box::pin(ready(Ok(answer))));
            }
        };
        let is_native = is_native(&request);
        let must_wait = shared.answers.is_full() && !asks_how_it_is(&request);
        if !is_native && !must_wait && page == Page::Own {
            return Either::Left(shared.route(request));
        }
        let shared = Arc::clone(shared);
        Either::Right(Box::pin(async move {
            // Once something was done, its answer must be sent. So nothing is started while answers have no memory left.
            let mut answer = if must_wait && shared.answers.reserve(1).await.is_none() {
                let answer = refuse(&request, &OUT_OF_MEMORY);
                shared.metrics.answered(route_of(&request), answer.status());
                answer
            } else {
                let answer = shared.route(request).await?;
                if is_native {
                    shared.metrics.answered(Route::Kinesis, answer.status());
                }
                answer
            };
            page.share(answer.headers_mut());
            Ok(answer)
        }))
    }
}

impl Shared {
    /// What the page that sent a request may do, where the request is to go on to a route; else its answer: of preflights,
    /// and of what is refused.
    fn admit(&self, request: &Request<Incoming>) -> ControlFlow<(Route, Response<Body>), Page> {
        if !self.callers.is_named_rightly(request) {
            return ControlFlow::Break((Route::Other, refuse(request, &MISDIRECTED)));
        }
        let is_native = is_native(request);
        let from_page = request.headers().contains_key(ORIGIN);
        let path = || path::canonical(request.uri().path());
        if request.method() == Method::OPTIONS && (from_page || !is_native || self.native.is_none()) {
            let answer = self.callers.preflight(request, &path());
            return ControlFlow::Break((
                Route::Preflight,
                answer.unwrap_or_else(|| refuse(request, &OF_OTHER_PAGE)),
            ));
        }
        let page = if from_page { self.callers.judge(request, &path()) } else { Page::Own };
        if page == Page::Refused {
            return ControlFlow::Break((route_of(request), refuse(request, &OF_OTHER_PAGE)));
        }
        if is_native && self.native.is_none() {
            let error = ("UnknownOperationException", NO_STREAMS);
            let mut answer = amazons(StatusCode::BAD_REQUEST, AMAZON_JSON, error);
            page.share(answer.headers_mut());
            return ControlFlow::Break((Route::Kinesis, closing(request, answer)));
        }
        ControlFlow::Continue(page)
    }

    fn route(&self, mut request: Request<Incoming>) -> RouteFuture<Infallible> {
        match &self.native {
            Some(native) if is_native(&request) => native.clone().call(request),
            _ => {
                to_route(request.uri_mut());
                self.router.clone().call(request)
            }
        }
    }
}

fn is_native(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(TARGET)
}

fn is_facades(request: &Request<Incoming>) -> bool {
    path::canonical(request.uri().path()).starts_with("/streams")
}

/// Whether an operator asks how the process is, which is answered whatever there is too little of.
fn asks_how_it_is(request: &Request<Incoming>) -> bool {
    let path = path::canonical(request.uri().path());
    !is_native(request)
        && [Route::Healthz, Route::Readyz, Route::Metrics].iter().any(|route| route.path() == path)
}

/// What a request is counted as that came to no route.
fn route_of(request: &Request<Incoming>) -> Route {
    if is_native(request) {
        Route::Kinesis
    } else if is_facades(request) {
        Route::Streams
    } else {
        Route::Other
    }
}

/// Why a request comes to no route, in both protocols' terms.
struct Refusal {
    status: StatusCode,
    why: &'static str,
    /// Kafka REST's code, and Amazon's exception.
    code: u32,
    exception: &'static str,
}

const MISDIRECTED: Refusal = Refusal {
    status: StatusCode::MISDIRECTED_REQUEST,
    why: OTHER_HOST,
    code: 421,
    exception: "AccessDeniedException",
};
const OF_OTHER_PAGE: Refusal = Refusal {
    status: StatusCode::FORBIDDEN,
    why: OTHER_ORIGIN,
    code: 403,
    exception: "AccessDeniedException",
};
const OUT_OF_MEMORY: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    why: NO_MEMORY_FOR_ANSWERS,
    code: 50302,
    exception: "ServiceUnavailable",
};

/// A refusal in the shape in which the client looks for errors.
fn refuse(request: &Request<Incoming>, refusal: &Refusal) -> Response<Body> {
    let Refusal { status, why, code, exception } = *refusal;
    let answer = if is_native(request) {
        amazons(status, AMAZON_JSON, (exception, why))
    } else if is_facades(request) {
        amazons(status, "application/json", (exception, why))
    } else {
        ApiError::new(status, code, why).into_response()
    };
    closing(request, answer)
}

/// An error as Amazon's SDKs look for it.
fn amazons(status: StatusCode, media: &'static str, (kind, why): (&'static str, &str)) -> Response<Body> {
    let body = serde_json::json!({"__type": kind, "message": why});
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    answer
}

/// Ends the connection after an answer where the request goes on.
fn closing(request: &Request<Incoming>, mut answer: Response<Body>) -> Response<Body> {
    if !request.body().is_end_stream() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Rewrites a path to what the routes expect, where it is not that already.
fn to_route(uri: &mut Uri) {
    let canonical = path::canonical(uri.path());
    if canonical.len() == uri.path().len() {
        return;
    }
    let wanted = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{canonical}?{query}")),
        None => PathAndQuery::try_from(&*canonical),
    };
    // A part of a valid path is a valid path; if it ever were not, the path stays and finds no route.
    if let Ok(wanted) = wanted {
        *uri = Uri::from(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_cut_from_every_form_of_uri_and_the_query_stays() {
        for (sent, expected) in [
            ("/dev/topics/a%2Fb/?x=1&y=/z/", "/topics/a%2Fb?x=1&y=/z/"),
            ("/topics/a?x", "/topics/a?x"),
            ("/dev//topics/x?y=//", "/topics/x?y=//"),
            ("http://host:80/dev/topics", "/topics"),
            ("*", "*"),
        ] {
            let mut uri = sent.parse().unwrap();
            to_route(&mut uri);
            assert_eq!(uri.to_string(), expected);
        }
    }
}
