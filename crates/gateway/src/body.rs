//! Reading a request's body: no more of it than is allowed, for no longer, and not too many large ones at once.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Limits;
use crate::error::ApiError;

/// Bodies up to this size are read without asking for a share of the common memory.
const SMALL_BODY: usize = 64 * 1024;
const KIB: usize = 1024;

/// Reads bodies within [`Limits`].
#[derive(Debug)]
pub(crate) struct BodyReader {
    limit: usize,
    timeout: Duration,
    /// One permit a KiB of large bodies in memory.
    memory: Semaphore,
}

/// A body.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) bytes: Bytes,
    /// Its share of the memory for large bodies, to be kept as long as it or what was made of it.
    pub(crate) share: Option<SemaphorePermit<'a>>,
}

impl BodyReader {
    pub(crate) fn new(limits: &Limits) -> Self {
        let memory = Semaphore::new(limits.body_memory.div_ceil(KIB).min(Semaphore::MAX_PERMITS));
        Self { limit: limits.body_bytes, timeout: limits.body_timeout, memory }
    }

    /// Reads a body to its end. An error leaves the rest unread, so it ends the connection.
    ///
    /// Nearly every body is one chunk that came together with its head; what all others need is boxed, so that the
    /// future of a request stays small.
    pub(crate) async fn read(&self, mut body: Body) -> Result<Read<'_>, ApiError> {
        let promised = body.size_hint().exact();
        if promised.is_some_and(|promised| promised > self.limit as u64) {
            return Err(self.too_large());
        }
        let first = match at_once(next_chunk(&mut body)).await {
            Some(Ok(Some(first))) => first,
            Some(Ok(None)) => Bytes::new(),
            Some(Err(error)) => return Err(error),
            None => return Box::pin(self.read_in_time(Bytes::new(), body)).await,
        };
        if body.is_end_stream() && first.len() <= self.limit {
            return Ok(Read { bytes: first, share: None });
        }
        Box::pin(self.read_in_time(first, body)).await
    }

    async fn read_in_time(&self, first: Bytes, body: Body) -> Result<Read<'_>, ApiError> {
        let in_time = tokio::time::timeout(self.timeout, self.read_all(first, body));
        in_time.await.unwrap_or_else(|_| {
            let message = format!("the request's body did not come within {:?}", self.timeout);
            Err(ApiError::plain(StatusCode::REQUEST_TIMEOUT, message).closing())
        })
    }

    async fn read_all(&self, first: Bytes, mut body: Body) -> Result<Read<'_>, ApiError> {
        let rest = body.size_hint().exact().and_then(|rest| usize::try_from(rest).ok());
        let expected = rest.map(|rest| rest.saturating_add(first.len()).min(self.limit));
        let mut bytes = BytesMut::with_capacity(expected.unwrap_or(0).min(SMALL_BODY));
        let mut share = None;
        let mut chunk = Some(first);
        while let Some(part) = chunk {
            let size = bytes.len() + part.len();
            if size > self.limit {
                return Err(self.too_large());
            }
            if size > SMALL_BODY && share.is_none() {
                let most = expected.unwrap_or(self.limit);
                share = Some(self.share_of(most).await?);
                bytes.reserve(expected.unwrap_or(0).saturating_sub(bytes.len()));
            }
            bytes.extend_from_slice(&part);
            chunk = next_chunk(&mut body).await?;
        }
        Ok(Read { bytes: bytes.freeze(), share })
    }

    async fn share_of(&self, bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
        let permits = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        let share = self.memory.acquire_many(permits).await;
        share.map_err(|_| ApiError::unavailable("the gateway is closing"))
    }

    fn too_large(&self) -> ApiError {
        let message = format!("the request's body is over the limit of {} bytes", self.limit);
        ApiError::plain(StatusCode::PAYLOAD_TOO_LARGE, message).closing()
    }
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
async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let broke_off = |error| ApiError::bad_request(format!("the request's body broke off: {error}"));
        let frame = frame.map_err(|error| broke_off(error).closing())?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn reader(limit: usize) -> BodyReader {
        BodyReader::new(&Limits { body_bytes: limit, body_memory: limit, ..Limits::default() })
    }

    fn chunks(count: usize, size: usize) -> Body {
        let chunks =
            (0..count).map(move |_| Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; size])));
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_is_not() {
        for (limit, chunk) in [(100, 1), (100, 100), (300_000, 1000)] {
            let reader = reader(limit);
            let read = reader.read(chunks(limit / chunk, chunk)).await.unwrap();
            assert_eq!(read.bytes.len(), limit);
            drop(read);
            let error = reader.read(chunks(limit / chunk + 1, chunk)).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.close), (413, true));
            let error = reader.read(Body::from(vec![0; limit + 1])).await.unwrap_err();
            assert_eq!(error.status.as_u16(), 413);
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_given_up_at_the_limit() {
        let mut taken = 0_usize;
        let endless = stream::iter(std::iter::repeat_with(move || {
            taken += 1;
            assert!(taken <= 11, "read on after the limit");
            Ok::<_, std::convert::Infallible>(Bytes::from_static(&[0; 100]))
        }));
        let error = reader(1000).read(Body::from_stream(endless)).await.unwrap_err();
        assert_eq!(error.status.as_u16(), 413);
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let limits = Limits { body_timeout: Duration::from_millis(5), ..Limits::default() };
        let never = stream::pending::<Result<Bytes, std::convert::Infallible>>();
        let reader = BodyReader::new(&limits);
        let error = reader.read(Body::from_stream(never)).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.code, error.close), (408, 408, true));
    }

    #[tokio::test]
    async fn large_bodies_wait_for_memory_and_give_it_back() {
        let reader = reader(128 * 1024);
        let first = reader.read(chunks(100, 1024)).await.unwrap();
        let (small, waiting) = (chunks(60, 1024), reader.read(chunks(100, 1024)));
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending(), "there is memory for one only");
        assert_eq!(reader.read(small).await.unwrap().bytes.len(), 60 * 1024);
        drop(first);
        assert_eq!(waiting.await.unwrap().bytes.len(), 100 * 1024);
    }
}
