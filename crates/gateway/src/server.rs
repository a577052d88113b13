//! The HTTP server under a gateway: connections, their limits and time-outs, and a stop that cuts nobody off.
//!
//! HTTP/1.1 and, by prior knowledge, HTTP/2 are taken on one port. A connection can be held open without doing anything
//! for one time-out at most: hyper's for the head of a request over HTTP/1.1 (which also bounds idling), one of ours before
//! hyper knows which protocol it is, one for a connection without a request, the body reader's, and one for a client that
//! does not take its answers (see [`Conversation`]).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::header::CONNECTION;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::Limits;
use crate::conversation::Conversation;
use crate::error::{ApiError, Error, Result};
use crate::io::{ClientIo, Returned, Socket};
use crate::metrics::Metrics;

/// Bytes after which it is decided whether a connection speaks HTTP/1 or 2: the length of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;
/// HTTP/2: how often a silent peer is asked whether it lives, and how much of all bodies of one connection may come before
/// they are asked for.
const PING_EVERY: Duration = Duration::from_secs(20);
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How many times within its time-out it is looked whether a connection is idle or stalled, and how seldom at most.
const LOOKS: u32 = 4;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After an answer to a request that was not read to its end: how long, and how much, is still taken and thrown away, so
/// that the client gets to read the answer before its connection is reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 64 * 1024 * 1024;
/// Pause after accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound server that is not serving yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    drain_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections whose request did not end within the drain time-out and that were cut.
    pub cut: usize,
}

impl Server {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(address: SocketAddr, limits: Limits, drain_timeout: Duration) -> Result<Self> {
        Self::with_metrics(address, limits, drain_timeout, Arc::new(Metrics::new())).await
    }

    pub(crate) async fn with_metrics(
        address: SocketAddr,
        limits: Limits,
        drain_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, limits, drain_timeout, metrics })
    }

    /// The address that is listened on, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets requests in flight end, closes idle connections, and
    /// returns at the latest after the drain time-out.
    pub async fn serve<S>(self, service: S, stop: CancellationToken) -> Drained
    where
        S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let (timeout, stopped, cut) = (self.drain_timeout, stop.clone(), CancellationToken::new());
        let cutting = cut.clone();
        let serving = self.serve_until(service, stop, cut);
        let cuts = async {
            stopped.cancelled().await;
            tokio::time::sleep(timeout).await;
            cutting.cancel();
        };
        tokio::select! {
            biased;
            drained = serving => drained,
            // It waits for `serving` from here on, which ends soon.
            drained = async { cuts.await; std::future::pending().await } => drained,
        }
    }

    /// As [`serve`](Self::serve), but what does not end by itself after `stop` is cut when `cut` is cancelled, whenever
    /// that is: for a process that has one deadline for all of its parts.
    pub async fn serve_until<S>(self, service: S, stop: CancellationToken, cut: CancellationToken) -> Drained
    where
        S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let Self { listener, limits, metrics, .. } = self;
        let open = Arc::new(Semaphore::new(connection_limit(limits.connections)));
        // Of its own, so that connections are counted before they end.
        let cutting = CancellationToken::new();
        let client = Arc::new(Client {
            http: protocol(&limits),
            limits,
            service,
            stop: stop.clone(),
            cut: cutting.clone(),
        });
        let clients = TaskTracker::new();
        let upkeep = tokio::spawn(Metrics::keep_small(metrics.handle()));

        while let Some(room) = unless(&stop, Arc::clone(&open).acquire_owned()).await {
            let Some(accepted) = unless(&stop, listener.accept()).await else { break };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            let (client, connected) = (Arc::clone(&client), metrics.connected());
            clients.spawn(async move {
                client.serve(stream).await;
                drop((room, connected));
            });
        }

        drop(listener);
        clients.close();
        let mut drained = Drained::default();
        if unless(&cut, clients.wait()).await.is_none() {
            drained.cut = clients.len();
            tracing::warn!(
                connections = drained.cut,
                "connections were cut: their requests did not end in time"
            );
            cutting.cancel();
            clients.wait().await;
        }
        upkeep.abort();
        drained
    }
}

/// The result of `future`, or `None` when `stop` comes first.
async fn unless<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(future).await
}

/// Running out of descriptors ends when a connection does; anything else concerns the one client only.
async fn pause_after(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused => {
            tracing::debug!(%error, "a client went before it was accepted");
        }
        _ => {
            tracing::warn!(%error, "cannot accept connections, trying again");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// The limit, lowered so that a quarter of the descriptors stay for everything else.
fn connection_limit(wanted: usize) -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let room =
        descriptors.map_or(usize::MAX, |all| usize::try_from(all / 4 * 3).unwrap_or(usize::MAX)).max(1);
    if room < wanted {
        tracing::info!(
            connections = room,
            "limited by the file descriptors this process may open (ulimit -n)"
        );
    }
    wanted.min(room).min(Semaphore::MAX_PERMITS)
}

/// The protocols with their limits.
fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        // Without a timer hyper keeps its time-outs off, silently.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(limits.header_timeout);
    http
}

/// Everything that serving one client needs.
struct Client<S> {
    http: auto::Builder<TokioExecutor>,
    limits: Limits,
    service: S,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl<S> Client<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    async fn serve(&self, stream: TcpStream) {
        // Answers are whole when they are written; waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a client went before it was served");
            return;
        }
        let socket = Arc::new(Socket::default());
        let unread = Arc::new(AtomicBool::new(false));
        let ended = self.converse(stream, &socket, &unread).await;
        let Some(Returned { stream, has_unanswered }) = socket.take() else { return };
        match ended {
            Ended::TimedOut if has_unanswered => say_too_slow(stream).await,
            Ended::Closed if unread.load(Ordering::Relaxed) => {
                unless(&self.cut, linger(stream)).await;
            }
            Ended::TimedOut | Ended::Closed | Ended::Cut => {}
        }
    }

    /// Speaks HTTP until one side has enough.
    async fn converse(&self, stream: TcpStream, socket: &Arc<Socket>, unread: &Arc<AtomicBool>) -> Ended {
        let io = TokioIo::new(ClientIo::new(stream, Arc::clone(socket), self.limits.write_timeout));
        let conversation = Arc::new(Conversation::new(self.limits.answer_memory.clone()));
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            let (open, over) = (conversation.request(), request.version());
            let (answer, unread) = (self.service.clone().oneshot(request), Arc::clone(unread));
            let conversation = Arc::clone(&conversation);
            async move {
                let answer = match answer.await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                if answer.headers().contains_key(CONNECTION) {
                    unread.store(true, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(conversation.deliver(answer, over, open))
            }
        });
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut stop = pin!(self.stop.cancelled());
        let mut protocol_due = pin!(tokio::time::sleep(self.limits.header_timeout));
        let mut looks = looks(&self.limits);
        let (mut stopping, mut protocol_known, mut closing_since) = (false, false, None);
        loop {
            tokio::select! {
                biased;
                result = connection.as_mut() => return Ended::from_hyper(result),
                () = stop.as_mut(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = protocol_due.as_mut(), if !protocol_known => {
                    if socket.received() < PREFACE_BYTES {
                        return Ended::TimedOut;
                    }
                    protocol_known = true;
                }
                () = self.cut.cancelled(), if stopping => return Ended::Cut,
                () = conversation.hang_up.cancelled() => return Ended::Cut,
                _ = looks.tick() => match self.verdict(&conversation, closing_since) {
                    Verdict::Stays => closing_since = None,
                    Verdict::Closing => {
                        closing_since.get_or_insert_with(Instant::now);
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Gone => return Ended::Cut,
                },
            }
        }
    }

    /// What is to become of a connection. `closing_since` is when it was first asked to close because it is idle.
    fn verdict(&self, conversation: &Conversation, closing_since: Option<Instant>) -> Verdict {
        if conversation.stalled_for() >= self.limits.write_timeout {
            tracing::debug!("hung up on a client that does not take its answers");
            return Verdict::Gone;
        }
        let patience = if conversation.has_begun() {
            self.limits.idle_timeout
        } else {
            // A little more than what a head over HTTP/1.1 has, whose client is told that it was too slow.
            self.limits.header_timeout + LINGER
        };
        match (conversation.quiet_for(), closing_since) {
            (Some(quiet), Some(since)) if quiet >= patience && since.elapsed() >= LINGER => Verdict::Gone,
            (Some(quiet), _) if quiet >= patience => Verdict::Closing,
            _ => Verdict::Stays,
        }
    }
}

/// When it is looked whether a connection is idle or stalled.
fn looks(limits: &Limits) -> tokio::time::Interval {
    let shortest = limits.write_timeout.min(limits.idle_timeout).min(limits.header_timeout);
    let every = (shortest / LOOKS).clamp(Duration::from_millis(1), LOOK_EVERY);
    let mut looks = tokio::time::interval_at(Instant::now() + every, every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    looks
}

/// What is to become of a connection.
enum Verdict {
    Stays,
    /// It is idle, and is asked to close.
    Closing,
    /// It is closed without another word.
    Gone,
}

/// Why a conversation ended.
enum Ended {
    Closed,
    TimedOut,
    Cut,
}

impl Ended {
    fn from_hyper(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let Err(error) = result else { return Self::Closed };
        tracing::debug!(error, "a connection ended early");
        let timed_out = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout);
        if timed_out { Self::TimedOut } else { Self::Closed }
    }
}

/// Tells a client whose request's head did not come why it is hung up on. It may not read: one try, no waiting.
async fn say_too_slow(mut stream: TcpStream) {
    let body = ApiError::generic(StatusCode::REQUEST_TIMEOUT).body();
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    if stream.try_write(answer.as_bytes()).is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// Takes what a client is still sending after its answer, for a while: closing at once would reset the connection, and
/// the client's system could throw the answer away unread.
async fn linger(stream: TcpStream) {
    let (mut rest, mut nowhere) = (stream.take(LINGER_BYTES), tokio::io::sink());
    let discard = tokio::io::copy(&mut rest, &mut nowhere);
    // Whether the client hung up in time makes no difference: the connection is closed either way.
    let _ = tokio::time::timeout(LINGER, discard).await;
}
