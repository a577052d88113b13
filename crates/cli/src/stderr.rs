//! Writing to stderr without ever waiting for it, and without failing because of it.
//!
//! The reader of stderr may be gone, may have stopped reading, or may be a file on a full disk. None of that may change
//! what a command does. So everything that the program says goes into a bounded queue, which a thread of its own writes
//! out. A message that finds the queue full, or that the system does not take, is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How much may wait to be written.
const QUEUE_BYTES: usize = 1 << 20;
/// How long the end of the process waits for what is still in the queue.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Pause before another try where somebody has set stderr not to block.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// Messages that were not written.
const DROPPED: &str = "pinmill_log_lines_dropped_total";

static STDERR: LazyLock<Queue> = LazyLock::new(|| Queue::new(io::stderr()));

/// Says something on stderr, whole or not at all. Returns at once.
pub(crate) fn say(message: &[u8]) {
    STDERR.push(message);
}

/// Writes to stderr; each call of [`Write::write_all`] is one message. It never fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        say(message);
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits, for a second at most, until everything is written.
pub(crate) fn flush() {
    STDERR.flush(LAST_WAIT);
}

/// Calls [`flush`] when it is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct FlushAtEnd;

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// Publishes how many messages were dropped. From now on the metrics recorder of the process has the number.
pub(crate) fn publish_dropped() {
    metrics::describe_counter!(DROPPED, "Messages that stderr did not take, and that were dropped.");
    metrics::counter!(DROPPED).absolute(STDERR.0.dropped.load(Ordering::Relaxed));
}

/// Messages on their way to a writer that may block or fail.
#[derive(Debug, Clone)]
struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    /// Of all messages, with the one that is being written.
    bytes: usize,
}

impl Queue {
    fn new(writer: impl Write + Send + 'static) -> Self {
        let queue = Self(Arc::default());
        let shared = Arc::clone(&queue.0);
        let started = thread::Builder::new().name("stderr".to_owned()).spawn(move || shared.write(writer));
        if started.is_err() {
            // Nobody takes anything out, so the queue fills up and then drops and counts.
            queue.0.waiting.lock().bytes = QUEUE_BYTES;
        }
        queue
    }

    fn push(&self, message: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        // A message that is longer than the queue has its turn when nothing else waits.
        if waiting.bytes > 0 && waiting.bytes + message.len() > QUEUE_BYTES {
            drop(waiting);
            self.0.drop_one();
            return;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits until everything is written; false where it was not within `limit`.
    fn flush(&self, limit: Duration) -> bool {
        let mut waiting = self.0.waiting.lock();
        !self.0.changed.wait_while_for(&mut waiting, |waiting| waiting.bytes > 0, limit).timed_out()
    }
}

impl Shared {
    fn write(&self, mut writer: impl Write) {
        loop {
            let mut waiting = self.waiting.lock();
            self.changed.wait_while(&mut waiting, |waiting| waiting.messages.is_empty());
            let Some(message) = waiting.messages.pop_front() else { continue };
            drop(waiting);
            if write_patiently(&mut writer, &message).is_err() {
                self.drop_one();
            }
            self.waiting.lock().bytes -= message.len();
            self.changed.notify_all();
        }
    }

    fn drop_one(&self) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::counter!(DROPPED).absolute(dropped);
    }
}

/// [`Write::write_all`] that also waits for a writer that says that it would block.
fn write_patiently(writer: &mut impl Write, mut message: &[u8]) -> io::Result<()> {
    while !message.is_empty() {
        #[allow(clippy::disallowed_methods, reason = "the loop writes the rest")]
        match writer.write(message) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => message = message.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    /// Takes a message only when it is allowed to, and says so when somebody is there to hear it.
    struct Gate {
        allowed: Receiver<io::Result<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allowed.recv().unwrap_or(Ok(()))?;
            self.written.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_blocks_holds_nobody_up_and_what_does_not_fit_is_counted() {
        let (allow, allowed) = sync_channel(0);
        let written = Arc::default();
        let queue = Queue::new(Gate { allowed, written: Arc::clone(&written) });
        let message = [b'x'; 1 << 10];
        for _ in 0..3 * (QUEUE_BYTES >> 10) {
            queue.push(&message);
        }
        assert_eq!(queue.0.dropped.load(Ordering::Relaxed), 2 * (QUEUE_BYTES as u64 >> 10));
        assert!(!queue.flush(Duration::from_millis(1)));
        // The reader is back.
        drop(allow);
        assert!(queue.flush(Duration::from_secs(300)));
        assert_eq!(written.lock().len(), QUEUE_BYTES);
        queue.push(b"after");
        assert!(queue.flush(Duration::from_secs(300)));
        assert!(written.lock().ends_with(b"after"));
    }

    #[test]
    fn a_message_that_is_not_taken_is_counted_and_the_next_one_is_tried() {
        let (allow, allowed) = sync_channel(3);
        let written = Arc::default();
        let queue = Queue::new(Gate { allowed, written: Arc::clone(&written) });
        allow.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        allow.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        allow.send(Ok(())).unwrap();
        queue.push(b"lost");
        queue.push(b"kept");
        assert!(queue.flush(Duration::from_secs(300)));
        assert_eq!(queue.0.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(*written.lock(), b"kept");
    }
}
