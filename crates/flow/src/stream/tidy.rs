//! Keeping the streaming half's tables small: files put together, and what nobody needs any more removed.
//!
//! A commit a second makes 86,400 files and log entries a day. Every [`super::StreamConfig::tidy_every`] small files are
//! put together (see [`pinmill_lake::table::Table::compact`]); four times in [`super::StreamConfig::history`] a vacuum takes
//! those files that no version of that time needs. Checkpoints, and the removal of log entries behind them, come with the
//! commits themselves. One table is worked on at a time, so memory is bounded by one merge.

use std::time::Duration;

use pinmill_lake::Lake;
use pinmill_lake::table::{CompactPolicy, Compacted, Table};
use pinmill_pipeline::Pipeline;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{StreamConfig, Streamer};
use crate::{Half, Result};

impl Streamer {
    /// Tidies until told to stop. An error is told and tried again the next time: tables work as they are.
    pub(super) async fn keep_tidy(&self, stop: &CancellationToken) {
        let config = &self.config;
        let vacuum_every = (config.history / 4).max(config.tidy_every);
        let mut vacuum_due = Instant::now() + vacuum_every;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(config.tidy_every) => {}
            }
            let is_due = Instant::now() >= vacuum_due;
            if is_due {
                vacuum_due = Instant::now() + vacuum_every;
            }
            round(&self.pipeline, &self.lake, config, is_due).await;
        }
    }
}

/// Tidies all tables once, with a vacuum or without. What fails is reported: tables work as they are.
pub async fn round(pipeline: &Pipeline, lake: &Lake, config: &StreamConfig, vacuum: bool) {
    let vacuum = vacuum.then_some(config.history);
    for name in tables(pipeline, Half::Stream) {
        let (lake, table, policy) = (lake.clone(), name.clone(), config.compact);
        let runtime = Handle::current();
        // A merge keeps a core busy for up to seconds. The loops must not wait for it: they share this task.
        let tidying = spawn_blocking(move || runtime.block_on(tidy(&lake, &table, &policy, vacuum)));
        let failure = match tidying.await {
            Ok(tidied) => tidied.err().map(|error| error.chain()),
            Err(died) => Some(died.to_string()),
        };
        if let Some(error) = failure {
            tracing::warn!(table = name, error, "could not be tidied up, will be tried again");
        }
    }
}

/// The tables of a half, by their paths in the lake.
pub fn tables(pipeline: &Pipeline, half: Half) -> Vec<String> {
    let datasets = pipeline.datasets.iter().map(|dataset| half.table(&dataset.name));
    datasets.chain([half.quarantine()]).collect()
}

/// Puts a table's small files together, and removes files that were replaced longer ago than `vacuum`. Nothing where
/// there is no such table.
///
/// # Errors
/// [`crate::Error::Lake`]. The table is whole whatever happens.
pub async fn tidy(
    lake: &Lake,
    name: &str,
    policy: &CompactPolicy,
    vacuum: Option<Duration>,
) -> Result<Compacted> {
    let Some(mut table) = Table::open(lake, name).await? else { return Ok(Compacted::default()) };
    let compacted = table.compact(policy).await?;
    if compacted.commits > 0 {
        tracing::debug!(table = name, removed = compacted.removed, added = compacted.added, "compacted");
    }
    if let Some(retention) = vacuum {
        let vacuumed = table.vacuum(retention, false).await?;
        tracing::debug!(table = name, files = vacuumed.files.len(), "vacuumed");
    }
    Ok(compacted)
}
