//! Reading a request's body: no more of it than is allowed, for no longer, and all of them within one [`Memory`].

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio_util::sync::CancellationToken;

use crate::memory::{Memory, Reservation};

/// The first buffer of a body that does not come at once, in bytes.
const FIRST_BUFFER: usize = 4 * 1024;

/// Reads bodies up to a size, within a time-out and a [`Memory`].
#[derive(Debug, Clone)]
pub struct BodyReader {
    limit: usize,
    timeout: Duration,
    memory: Memory,
}

/// A body.
#[derive(Debug)]
pub struct Received {
    /// All of it.
    pub bytes: Bytes,
    /// Its memory, to be kept for as long as it or what was made of it.
    pub memory: Reservation,
}

/// Why a body was not read. The rest of it is left unread, so the connection must be closed after the answer.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the request's body is over the limit of {0} bytes")]
    TooLarge(usize),
    /// It did not come in time.
    #[error("the request's body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// Other bodies take up the memory there is for them.
    #[error("the server has no memory left for request bodies; try again later")]
    NoMemory,
    /// The client went away, or broke its own framing.
    #[error("the request's body broke off: {0}")]
    BrokeOff(#[source] axum::Error),
}

impl BodyError {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
            Self::BrokeOff(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl BodyReader {
    /// A reader of bodies of up to `limit` bytes that arrive within `timeout`.
    pub fn new(limit: usize, timeout: Duration, memory: Memory) -> Self {
        Self { limit, timeout, memory }
    }

    /// Reads a body to its end.
    ///
    /// Nearly every body is one chunk that came together with its head; what all others need is boxed, so that the
    /// future of a request stays small.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn read(&self, mut body: Body) -> Result<Received, BodyError> {
        let promised = body.size_hint().exact();
        if promised.is_some_and(|promised| promised > self.limit as u64) {
            return Err(BodyError::TooLarge(self.limit));
        }
        let first = match at_once(next_chunk(&mut body)).await {
            Some(Ok(Some(first))) => first,
            Some(Ok(None)) => Bytes::new(),
            Some(Err(error)) => return Err(error),
            None => return Box::pin(self.read_in_time(Bytes::new(), body)).await,
        };
        if body.is_end_stream()
            && first.len() <= self.limit
            && let Some(memory) = self.memory.try_reserve(first.len())
        {
            return Ok(Received { bytes: first, memory });
        }
        Box::pin(self.read_in_time(first, body)).await
    }

    async fn read_in_time(&self, first: Bytes, body: Body) -> Result<Received, BodyError> {
        let given_up = CancellationToken::new();
        tokio::select! {
            biased;
            () = given_up.cancelled() => Err(BodyError::NoMemory),
            read = tokio::time::timeout(self.timeout, self.read_all(first, body, &given_up)) => {
                read.unwrap_or(Err(BodyError::TooSlow(self.timeout)))
            }
        }
    }

    async fn read_all(
        &self,
        first: Bytes,
        mut body: Body,
        given_up: &CancellationToken,
    ) -> Result<Received, BodyError> {
        let client = self.memory.peer(given_up.clone());
        let rest = body.size_hint().exact().and_then(|rest| usize::try_from(rest).ok());
        let most = rest.map_or(self.limit, |rest| rest.saturating_add(first.len()).min(self.limit));
        let mut bytes = Vec::new();
        let mut memory = self.memory.try_reserve(0).ok_or(BodyError::NoMemory)?;
        let mut chunk = Some(first);
        while let Some(part) = chunk {
            client.moved_on();
            let size = bytes.len() + part.len();
            if size > self.limit {
                return Err(BodyError::TooLarge(self.limit));
            }
            if size > bytes.capacity() {
                let capacity = size.max((bytes.capacity() * 2).max(FIRST_BUFFER).min(most));
                let more = self.memory.grow(capacity - bytes.capacity(), capacity, Some(&client)).await;
                memory.merge(more.ok_or(BodyError::NoMemory)?);
                client.holds(memory.bytes());
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(&part);
            drop(part);
            chunk = next_chunk(&mut body).await?;
        }
        Ok(Received { bytes: bytes.into(), memory })
    }
}

/// A body without the byte order mark that some programs of Windows put before their text.
pub fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The result of `future`, or `None` when it is not ready at once.
///
/// It is asked twice: hyper hands a body over only after it was asked for, and one that came together with its head is
/// there when it is asked again. No timer is needed for that.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut asked = false;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// The next bytes of a body; trailers are skipped.
async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(BodyError::BrokeOff)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt as _, stream};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn reader(limit: usize, memory: usize) -> BodyReader {
        BodyReader::new(limit, Duration::from_secs(3600), Memory::new(memory))
    }

    fn chunks(count: usize, size: usize) -> Body {
        let chunks = (0..count).map(move |_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; size])));
        Body::from_stream(stream::iter(chunks))
    }

    /// A body that never ends after these bytes.
    fn stuck_after(bytes: usize) -> Body {
        let sent = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes]))]);
        Body::from_stream(sent.chain(stream::pending()))
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_is_not() {
        for (limit, chunk) in [(100, 1), (100, 100), (300_000, 1000)] {
            let reader = reader(limit, MIB);
            let read = reader.read(chunks(limit / chunk, chunk)).await.unwrap();
            assert_eq!(read.bytes.len(), limit);
            assert!(read.memory.bytes() >= limit && read.memory.bytes() <= limit.max(FIRST_BUFFER));
            drop(read);
            for over in [chunks(limit / chunk + 1, chunk), Body::from(vec![0; limit + 1])] {
                let error = reader.read(over).await.unwrap_err();
                assert!(matches!(error, BodyError::TooLarge(at) if at == limit), "{error}");
            }
            assert_eq!(reader.memory.used(), 0);
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_given_up_at_the_limit() {
        let mut taken = 0_usize;
        let endless = stream::iter(std::iter::repeat_with(move || {
            taken += 1;
            assert!(taken <= 11, "read on after the limit");
            Ok::<_, Infallible>(Bytes::from_static(&[0; 100]))
        }));
        let error = reader(1000, MIB).read(Body::from_stream(endless)).await.unwrap_err();
        assert_eq!(error.status(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let error = reader(1000, MIB).read(stuck_after(0)).await.unwrap_err();
        assert!(matches!(error, BodyError::TooSlow(after) if after == Duration::from_secs(3600)));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_bodies_that_fill_the_memory_give_way_to_one_that_comes() {
        let reader = reader(10 * MIB, 64 * MIB);
        let idle: Vec<_> = (0..6)
            .map(|_| {
                let reader = reader.clone();
                tokio::spawn(async move { reader.read(stuck_after(9 * MIB)).await.map(drop) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(reader.memory.used() > 50 * MIB, "they hold what there is: {}", reader.memory.used());
        // Small ones need not even wait.
        let now = tokio::time::Instant::now();
        assert_eq!(reader.read(chunks(4, 1024)).await.unwrap().bytes.len(), 4096);
        assert_eq!(now.elapsed(), Duration::ZERO);
        assert_eq!(reader.read(chunks(10, MIB)).await.unwrap().bytes.len(), 10 * MIB);
        assert!(reader.memory.used() <= reader.memory.total());
        for idle in idle {
            idle.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_bodies_that_wait_for_each_other_the_first_goes_on_and_the_last_comes_again() {
        let reader = reader(6 * MIB, 8 * MIB);
        // Both are half read before either can be whole.
        let half_by_half = || {
            let chunks = stream::iter(0..6).then(|_| async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Bytes::from(vec![b'x'; MIB]))
            });
            Body::from_stream(chunks)
        };
        let now = tokio::time::Instant::now();
        let reads = (0..2).map(|_| async {
            let read = reader.read(half_by_half()).await;
            read.map(|read| read.bytes.len())
        });
        let (read, refused): (Vec<_>, Vec<_>) =
            futures::future::join_all(reads).await.into_iter().partition(Result::is_ok);
        assert_eq!(read.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [6 * MIB]);
        assert!(matches!(refused.as_slice(), [Err(BodyError::NoMemory)]), "{refused:?}");
        assert!(now.elapsed() < Duration::from_secs(2), "{:?}", now.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_sent_little_hold_little() {
        let reader = reader(10 * MIB, 16 * MIB);
        for sent in [0, 1, 5000] {
            let idle: Vec<_> = (0..1000)
                .map(|_| {
                    let reader = reader.clone();
                    tokio::spawn(async move { reader.read(stuck_after(sent)).await.map(drop) })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(reader.memory.used() <= 1000 * sent.max(FIRST_BUFFER), "{}", reader.memory.used());
            idle.iter().for_each(tokio::task::JoinHandle::abort);
            for idle in idle {
                assert!(idle.await.is_err());
            }
            assert_eq!(reader.memory.used(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_memory_in_use_and_not_for_ever() {
        let reader = reader(10 * MIB, 16 * MIB);
        let in_use = reader.read(chunks(10, MIB)).await.unwrap();
        let error = reader.read(chunks(10, MIB)).await.unwrap_err();
        assert!(matches!(error, BodyError::NoMemory) && error.status() == 503);
        let waits = reader.read(chunks(10, MIB));
        let frees = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(in_use);
        };
        let (read, ()) = tokio::join!(waits, frees);
        assert_eq!(read.unwrap().bytes.len(), 10 * MIB);
    }

    #[test]
    fn only_a_byte_order_mark_at_the_start_is_left_out() {
        assert_eq!(without_bom(b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(without_bom(b"{\xef\xbb\xbf}"), b"{\xef\xbb\xbf}");
        assert_eq!(without_bom(b"\xef\xbb"), b"\xef\xbb");
    }
}
