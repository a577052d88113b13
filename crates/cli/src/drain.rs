//! The end of a server: one time limit over open requests, the archive and commits together.

use std::time::Duration;

use pinmill_broker::EmbeddedLog;
use pinmill_flow::{PartState, Parts};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Failure, OrFail};
use crate::streams::{Streams, close};

/// What closing the logs may take when everything else has used up the time: only a disk that does not answer needs more.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The time that a server has from the request to stop to its end.
#[derive(Debug)]
pub(crate) struct Drain {
    limit: Duration,
    /// Cancelled when no more records come, or when there is just enough time left for those that are there: archiver and
    /// streamer then bring in what is left, and end.
    pub(crate) wind_up: CancellationToken,
    /// Cancelled when the drain time-out has passed.
    pub(crate) overdue: CancellationToken,
}

impl Drain {
    /// Begins when `stop` is cancelled, and has `limit` from then on.
    pub(crate) fn after(stop: &CancellationToken, limit: Duration) -> Self {
        let drain = Self { limit, wind_up: CancellationToken::new(), overdue: CancellationToken::new() };
        let (stop, wind_up, overdue) = (stop.clone(), drain.wind_up.clone(), drain.overdue.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            // A request that does not end must not take all of the time.
            tokio::time::sleep(limit * 3 / 4).await;
            wind_up.cancel();
            tokio::time::sleep(limit / 4).await;
            overdue.cancel();
        });
        drain
    }

    /// No more records come.
    pub(crate) fn requests_done(&self) {
        self.wind_up.cancel();
    }

    /// What a task gives; `None` where it has not ended in time, and then it is cut off.
    ///
    /// # Errors
    /// The task's error.
    pub(crate) async fn in_time<T>(
        &self,
        task: AbortOnDropHandle<pinmill_flow::Result<T>>,
    ) -> Result<Option<T>, Failure> {
        match self.overdue.run_until_cancelled(task).await {
            Some(ended) => Ok(Some(ended.or_fail()??)),
            None => Ok(None),
        }
    }

    /// [`Drain::in_time`] of a task that is not in every server.
    ///
    /// # Errors
    /// The task's error.
    pub(crate) async fn in_time_if_any<T>(
        &self,
        task: Option<AbortOnDropHandle<pinmill_flow::Result<T>>>,
    ) -> Result<Option<T>, Failure> {
        match task {
            Some(task) => self.in_time(task).await,
            None => Ok(None),
        }
    }

    /// Closes the logs, both whatever becomes of the other.
    ///
    /// # Errors
    /// The first log's error.
    pub(crate) async fn close(&self, log: &EmbeddedLog, streams: Option<&Streams>) -> Result<(), Failure> {
        let streams = async {
            match streams {
                Some(streams) => close(&streams.log).await,
                None => Ok(()),
            }
        };
        let closing = async { futures::join!(close(log), streams) };
        let overdue = async {
            self.overdue.cancelled().await;
            tokio::time::sleep(LAST_WAIT).await;
        };
        tokio::select! {
            (topics, streams) = closing => topics.and(streams),
            () = overdue => {
                Err(Failure::expected("the logs could not be closed in time; the next start recovers them"))
            }
        }
    }

    /// Fails where a part was cut off before it had done what was left.
    pub(crate) fn cut_short(&self, parts: &Parts) -> Result<(), Failure> {
        let ended = |state| matches!(state, PartState::Done | PartState::Stopped);
        let cut: Vec<String> =
            parts.status().into_iter().filter(|part| !ended(part.state)).map(|part| part.part).collect();
        if cut.is_empty() {
            return Ok(());
        }
        Err(Failure::expected(format!(
            "stopped before everything was done ({}): gateway.drain-timeout is {:?}; nothing is lost: what is left is \
             in the log, and the next start goes on with it",
            cut.join(", "),
            self.limit
        )))
    }
}
