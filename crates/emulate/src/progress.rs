//! How a run goes, said on stderr: a bar on a terminal, else a line every 10 s.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::summary::Counters;

const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR_EVERY: Duration = Duration::from_millis(200);

/// A task that tells how it goes.
pub(crate) struct Reporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Takes the bar away.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        // a reporter that failed has nothing more to say
        let _ = self.task.await;
    }
}

/// Starts to tell; `events` is how many there will be, when that is known.
pub(crate) fn start(counters: Arc<Counters>, events: Option<u64>) -> Reporter {
    let stop = CancellationToken::new();
    let terminal = std::io::stderr().is_terminal();
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            if terminal {
                draw_bar(&counters, events, &stop).await;
            } else {
                write_lines(&counters, events, &stop).await;
            }
        }
    });
    Reporter { stop, task }
}

async fn draw_bar(counters: &Counters, events: Option<u64>, stop: &CancellationToken) {
    let bar = events.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match events {
        Some(_) => "{wide_bar} {pos}/{len} events, {per_sec}, {eta} left{msg}",
        None => "{spinner} {pos} events, {per_sec}{msg}",
    };
    // the template is one of the two above
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    while !ended(stop, BAR_EVERY).await {
        bar.set_position(counters.events.load(Relaxed));
        let retried = counters.retried.load(Relaxed);
        if retried > 0 {
            bar.set_message(format!(", {retried} retried"));
        }
        bar.tick();
    }
    bar.finish_and_clear();
}

async fn write_lines(counters: &Counters, events: Option<u64>, stop: &CancellationToken) {
    let start = Instant::now();
    while !ended(stop, LINE_EVERY).await {
        let line = line(counters, events, start.elapsed());
        // nobody is left to be told that nobody reads stderr
        let _ = writeln!(std::io::stderr(), "{line}");
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

async fn ended(stop: &CancellationToken, wait: Duration) -> bool {
    tokio::time::timeout(wait, stop.cancelled()).await.is_ok()
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
