//! The socket of one client, as hyper sees it. It adds what hyper lacks:
//!
//! - a client that reads nothing of its answer is given up after a while;
//! - the bare answers that hyper itself gives to requests it cannot parse get a JSON body;
//! - the socket comes back when hyper is done with it, so that a last word can be said (see [`Socket`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::ApiError;

/// Longest head of an answer that hyper gives by itself.
const MAX_OWN_HEAD: usize = 256;

/// What is shared between a client's connection and hyper's end of its socket.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    received: AtomicUsize,
    returned: Mutex<Option<Returned>>,
}

/// A socket that hyper is done with.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) stream: TcpStream,
    /// Whether bytes came after the last answer: the beginning of a request.
    pub(crate) has_unanswered: bool,
}

impl Socket {
    /// Bytes received so far.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// The stream, once hyper has dropped its end.
    pub(crate) fn take(&self) -> Option<Returned> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// hyper's end.
#[derive(Debug)]
pub(crate) struct ClientIo {
    /// `None` only while it is dropped.
    stream: Option<TcpStream>,
    socket: Arc<Socket>,
    has_unanswered: bool,
    /// Bytes of our own still to be written before anything else.
    own: Vec<u8>,
    write_timeout: Duration,
    /// Runs while the client does not take what is written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, socket: Arc<Socket>, write_timeout: Duration) -> Self {
        Self {
            stream: Some(stream),
            socket,
            has_unanswered: false,
            own: Vec::new(),
            write_timeout,
            stalled: None,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lets a write pass, or fails it when the client has taken nothing for too long.
    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let deadline = Instant::now() + self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(stalled.as_mut().poll(cx));
        let message = format!("the client took nothing of its answer for {:?}", self.write_timeout);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }

    fn poll_write_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            let own = std::mem::take(&mut self.own);
            let written = self.stream()?.poll_write(cx, &own);
            self.own = own;
            let written = ready!(self.unless_stalled(cx, written))?;
            self.own.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// When `head` is an answer that hyper gives by itself, takes note of a better one. True when it did.
    fn replaces(&mut self, head: &[u8]) -> bool {
        let Some(status) = bare_error(head) else { return false };
        let body = ApiError::generic(status).body();
        let reason = status.canonical_reason().unwrap_or_default();
        self.own = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            status.as_u16(),
            body.len()
        )
        .into_bytes();
        true
    }
}

/// The status of an answer without a body that says that the request could not be parsed. The gateway's own errors
/// always have a body.
fn bare_error(head: &[u8]) -> Option<StatusCode> {
    if head.len() > MAX_OWN_HEAD || !head.starts_with(b"HTTP/1.") || head.get(8..10) != Some(b" 4") {
        return None;
    }
    let head = std::str::from_utf8(head).ok()?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && head.ends_with("\r\n\r\n");
    is_bare.then(|| head.get(9..12)?.parse().ok())?
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let returned = Returned { stream, has_unanswered: self.has_unanswered };
        *self.socket.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(this.stream()?.poll_read(cx, buffer))?;
        let received = buffer.filled().len() - before;
        if received > 0 {
            this.has_unanswered = true;
            this.socket.received.fetch_add(received, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_own(cx))?;
        this.has_unanswered = false;
        if let [head] = slices
            && this.replaces(head)
        {
            return Poll::Ready(Ok(head.len()));
        }
        let written = this.stream()?.poll_write_vectored(cx, slices);
        this.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_own(cx))?;
        this.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_own(cx))?;
        this.stream()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_own_answers_are_told_from_the_gateways() {
        let own =
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
                    date: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n";
        assert_eq!(bare_error(own), Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        for ours in [
            &b"HTTP/1.1 404 Not Found\r\ncontent-length: 49\r\n\r\n{\"error_code\":404}"[..],
            b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"",
        ] {
            assert_eq!(bare_error(ours), None);
        }
    }
}
