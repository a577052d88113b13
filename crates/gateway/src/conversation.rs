//! What the connection of one client knows of its requests: whether it is idle, and whether the client takes its answers.
//!
//! An answer is sent in pieces of [`PIECE`] bytes. Each must be taken within the write time-out: a client that stops
//! reading, or reads a few bytes now and then, is hung up on. HTTP/2 needs that most, because there the client alone says
//! how much may be sent to it; what it does not ask for stays in memory. The whole connection is closed and not the one
//! stream, because the h2 crate keeps what was handed to it for a stream even after the stream was given up.
//!
//! The memory of an answer is reserved until its last piece is gone (see [`pinmill_http::Memory`]). Whatever there is too
//! little of, an answer is never replaced by another: what it acknowledges was done. Who may refuse does so before anything
//! is done, or is a read. A short answer over HTTP/1.1 needs none of this: there is one at a time on a connection, and the
//! socket's own time-out watches it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Response, Version};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use pinmill_http::{Memory, Peer, Reservation, Reserved, SHORT};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is handed to the connection at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// Deliveries after which those that are over are forgotten.
const MANY: usize = 256;

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    memory: Memory,
    /// Cancelled when this client is to be hung up on.
    pub(crate) hang_up: CancellationToken,
    started: Instant,
    /// Requests that are not answered to the end.
    open: AtomicUsize,
    /// Whether there was a request at all.
    began: AtomicBool,
    /// When the last request ended, in milliseconds after the start.
    quiet_since_ms: AtomicU64,
    deliveries: Mutex<Vec<Weak<Progress>>>,
}

impl Conversation {
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory,
            hang_up: CancellationToken::new(),
            started: Instant::now(),
            open: AtomicUsize::new(0),
            began: AtomicBool::new(false),
            quiet_since_ms: AtomicU64::new(0),
            deliveries: Mutex::default(),
        }
    }

    /// A request has begun. It ends when what is returned is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.began.store(true, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// How long there has been no request; `None` while there is one.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        let since = Duration::from_millis(self.quiet_since_ms.load(Ordering::Acquire));
        let is_quiet = self.open.load(Ordering::Acquire) == 0;
        is_quiet.then(|| self.started.elapsed().saturating_sub(since))
    }

    /// Whether the client has sent a whole request head yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.began.load(Ordering::Relaxed)
    }

    /// The longest time for which the client has taken nothing of an answer that is waiting for it.
    pub(crate) fn stalled_for(&self) -> Duration {
        let deliveries = self.deliveries();
        let waited = deliveries.iter().filter_map(Weak::upgrade).map(|progress| progress.client.silent_for());
        waited.max().unwrap_or_default()
    }

    /// Makes an answer one that is watched, and takes memory for it where that was not done.
    pub(crate) fn deliver(&self, answer: Response<Body>, over: Version, open: Open) -> Response<Body> {
        let size = answer.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        if over < Version::HTTP_2 && size.is_some_and(|size| size <= SHORT) {
            return answer;
        }
        let is_reserved = answer.extensions().get::<Reserved>().is_some();
        // Streams reserve for each of their pieces.
        let size = size.unwrap_or_default();
        let reservation = (size > 0 && !is_reserved).then(|| self.memory.charge(size));
        let client = self.memory.peer(self.hang_up.clone());
        client.holds(size);
        let progress =
            Arc::new(Progress { client, handed: Mutex::default(), _reservation: reservation, _open: open });
        let mut deliveries = self.deliveries();
        if deliveries.len() >= MANY {
            deliveries.retain(|progress| progress.strong_count() > 0);
        }
        deliveries.push(Arc::downgrade(&progress));
        answer.map(|body| Body::new(Delivery { body, rest: Bytes::new(), progress }))
    }

    fn deliveries(&self) -> MutexGuard<'_, Vec<Weak<Progress>>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is not answered to the end.
#[derive(Debug)]
pub(crate) struct Open(Arc<Conversation>);

impl Drop for Open {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since_ms.store(now, Ordering::Release);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How far an answer has got. It lives as long as anything of the answer does.
#[derive(Debug)]
struct Progress {
    client: Peer,
    handed: Mutex<Handed>,
    _reservation: Option<Reservation>,
    _open: Open,
}

#[derive(Debug, Default)]
struct Handed {
    /// Pieces that the connection has and that are not sent.
    pieces: usize,
    /// Whether the connection asked for more than there is yet.
    is_wanted: bool,
}

impl Progress {
    fn note(&self, change: impl FnOnce(&mut Handed)) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut handed);
        if handed.pieces == 0 && handed.is_wanted {
            self.client.not_awaited();
        } else {
            self.client.moved_on();
        }
    }
}

/// The body of an answer that is watched.
#[derive(Debug)]
struct Delivery {
    body: Body,
    /// What is left of the body's last chunk.
    rest: Bytes,
    progress: Arc<Progress>,
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            let frame = Pin::new(&mut this.body).poll_frame(cx);
            if frame.is_pending() {
                this.progress.note(|handed| handed.is_wanted = true);
            }
            match ready!(frame) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if this.body.size_hint().exact().is_none() {
                            this.progress.client.holds(data.len());
                        }
                        this.rest = data;
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let bytes = this.rest.split_to(this.rest.len().min(PIECE));
        this.progress.note(|handed| *handed = Handed { pieces: handed.pieces + 1, is_wanted: false });
        let piece = Piece { bytes, progress: Arc::clone(&this.progress) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        match hint.exact() {
            Some(exact) => SizeHint::with_exact(exact + rest),
            None => {
                hint.set_lower(hint.lower() + rest);
                hint
            }
        }
    }
}

/// A part of an answer that the connection has.
struct Piece {
    bytes: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.progress.note(|handed| handed.pieces -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn conversation() -> Arc<Conversation> {
        Arc::new(Conversation::new(Memory::new(1024 * 1024)))
    }

    fn deliver(conversation: &Arc<Conversation>, body: Body) -> Response<Body> {
        let open = conversation.request();
        conversation.deliver(Response::new(body), Version::HTTP_2, open)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_its_memory_and_its_request_until_the_last_piece_is_sent() {
        let conversation = conversation();
        let mut answer = deliver(&conversation, Body::from(vec![7; PIECE + 1]));
        assert_eq!(answer.body().size_hint().exact(), Some(PIECE as u64 + 1));
        let mut pieces = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, 1]);
        drop(answer);
        assert_eq!(conversation.memory.used(), PIECE + 1);
        assert_eq!(conversation.quiet_for(), None);
        pieces.pop();
        tokio::time::advance(TIMEOUT).await;
        assert!(conversation.stalled_for() >= TIMEOUT, "a piece that is not sent is waited for");
        pieces.clear();
        assert_eq!((conversation.memory.used(), conversation.stalled_for()), (0, Duration::ZERO));
        assert_eq!(conversation.quiet_for(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_asks_for_is_stalled_and_one_that_has_no_more_yet_is_not() {
        let conversation = conversation();
        let endless = stream::pending::<Result<Bytes, Infallible>>();
        let mut waiting = deliver(&conversation, Body::from_stream(endless));
        assert!(futures::poll!(waiting.body_mut().frame()).is_pending());
        tokio::time::advance(TIMEOUT).await;
        assert_eq!(conversation.stalled_for(), Duration::ZERO);
        let _unread = deliver(&conversation, Body::from("x"));
        tokio::time::advance(TIMEOUT).await;
        assert!(conversation.stalled_for() >= TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_never_replaced_and_one_that_holds_its_own_memory_is_not_charged() {
        let conversation = conversation();
        let all = conversation.memory.charge(conversation.memory.total());
        let done = deliver(&conversation, Body::from(vec![0; 200_000]));
        assert_eq!((done.status().as_u16(), done.body().size_hint().exact()), (200, Some(200_000)));
        assert_eq!(conversation.memory.used(), all.bytes() + 200_000, "above the bound, but counted");
        let open = conversation.request();
        let mut reserved = Response::new(Body::from(vec![0; 200_000]));
        reserved.extensions_mut().insert(Reserved);
        let answer = conversation.deliver(reserved, Version::HTTP_11, open);
        assert_eq!(answer.status(), 200);
        drop((all, done));
        assert_eq!(conversation.memory.used(), 0);
    }
}
