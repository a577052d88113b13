//! How a run goes, on stderr: a bar on a terminal, else a line every 10 s.
//!
//! A thread of its own writes it: a terminal that stands still, or a pipe that nobody reads, holds up nothing else.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::oneshot;

use crate::summary::Counters;

const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How long the end of a run waits for the bar to be taken away.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A thread that reports how it goes.
pub(crate) struct Reporter {
    /// Dropped to end it.
    running: SyncSender<()>,
    ended: oneshot::Receiver<()>,
}

impl Reporter {
    /// Takes the bar away.
    pub(crate) async fn finish(self) {
        drop(self.running);
        // A stderr that does not take the last of it is not waited for any longer.
        let _ = tokio::time::timeout(LAST_WAIT, self.ended).await;
    }
}

/// Starts to report; `events` is how many there will be, when that is known.
pub(crate) fn start(counters: Arc<Counters>, events: Option<u64>) -> Reporter {
    let (running, stop) = sync_channel(0);
    let (end, ended) = oneshot::channel();
    let report = move || {
        if std::io::stderr().is_terminal() {
            draw_bar(&counters, events, &stop);
        } else {
            write_lines(&counters, events, &stop);
        }
        // The run may have ended without waiting.
        let _ = end.send(());
    };
    // Where no thread can be started there is no report, and the run goes on.
    let _ = thread::Builder::new().name("progress".to_owned()).spawn(report);
    Reporter { running, ended }
}

fn draw_bar(counters: &Counters, events: Option<u64>, stop: &Receiver<()>) {
    let bar = events.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match events {
        Some(_) => "{wide_bar} {pos}/{len} events, {per_sec}, {eta} left{msg}",
        None => "{spinner} {pos} events, {per_sec}{msg}",
    };
    // the template is one of the two above
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    while !ended(stop, BAR_EVERY) {
        bar.set_position(counters.events.load(Relaxed));
        let retried = counters.retried.load(Relaxed);
        if retried > 0 {
            bar.set_message(format!(", {retried} retried"));
        }
        bar.tick();
    }
    bar.finish_and_clear();
}

fn write_lines(counters: &Counters, events: Option<u64>, stop: &Receiver<()>) {
    let start = Instant::now();
    while !ended(stop, LINE_EVERY) {
        let line = format!("{}\n", line(counters, events, start.elapsed()));
        // A report that nobody reads changes nothing.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn line(counters: &Counters, events: Option<u64>, elapsed: Duration) -> String {
    let of = events.map(|events| format!(" of {events}")).unwrap_or_default();
    let acknowledged = counters.acknowledged.load(Relaxed);
    format!(
        "{}{of} events, {acknowledged} records acknowledged ({:.0}/s), {} retried",
        counters.events.load(Relaxed),
        acknowledged as f64 / elapsed.as_secs_f64().max(0.001),
        counters.retried.load(Relaxed),
    )
}

fn ended(stop: &Receiver<()>, wait: Duration) -> bool {
    stop.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let counters = Counters::default();
        counters.events.store(20, Relaxed);
        counters.acknowledged.store(60, Relaxed);
        assert_eq!(
            line(&counters, Some(100), Duration::from_secs(2)),
            "20 of 100 events, 60 records acknowledged (30/s), 0 retried"
        );
    }
}
