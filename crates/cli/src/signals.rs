//! What SIGTERM and ctrl-c do.

use tokio_util::sync::CancellationToken;

use crate::error::{Failure, INTERRUPTED, OrFail};
use crate::stderr;

/// Cancels `stop` at SIGTERM or ctrl-c; a second one ends the process at once, which is as safe as a kill -9.
#[allow(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "who asks twice wants nothing to be waited for, and what is durable needs no tidy end"
)]
pub(crate) fn cancel_on_signal(stop: &CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).or_fail()?;
    let mut interrupt = signal(SignalKind::interrupt()).or_fail()?;
    let stop = stop.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("stopping; once more ends the process at once");
                stop.cancel();
            } else {
                stderr::flush();
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
    });
    Ok(())
}
