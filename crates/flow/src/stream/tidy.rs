//! Keeping the streaming half's tables small: files put together, and what nobody needs any more removed.
//!
//! A commit a second makes 86,400 files and log entries a day. Every [`super::StreamConfig::tidy_every`] small files are
//! put together (see [`pinmill_lake::table::Table::compact`]); four times in [`super::StreamConfig::history`] a vacuum takes
//! those files that no version of that time needs. Checkpoints, and the removal of log entries behind them, come with the
//! commits themselves. One table is worked on at a time, so memory is bounded by one merge.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::pending;
use pinmill_lake::Lake;
use pinmill_lake::table::{CompactPolicy, Compacted, Table};
use pinmill_pipeline::Pipeline;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Inner, StreamConfig, Streamer, TIDY};
use crate::supervise::{Part, supervise};
use crate::{Half, Result};

impl Streamer {
    /// Tidies until `stop` is cancelled, as a part of its own.
    pub(super) async fn keep_tidy(&self, stop: &CancellationToken) {
        let part = self.parts.add(TIDY);
        let attempt = || {
            let (inner, part, stop) = (Arc::clone(&self.inner), part.clone(), stop.clone());
            async move { inner.tidy_until(&part, &stop).await }
        };
        let supervised =
            supervise(&part, stop, self.inner.config.retry, |_| pending().boxed(), attempt).await;
        // It fails only by a panic after `stop`, of which everything is said already.
        drop(supervised);
    }
}

impl Inner {
    /// An error of a table is reported, and its next turn is the next try: tables work as they are.
    async fn tidy_until(&self, part: &Part, stop: &CancellationToken) -> Result<()> {
        let config = &self.config;
        let vacuum_every = (config.history / 4).max(config.tidy_every);
        let mut vacuum_due = Instant::now() + vacuum_every;
        let mut pause = None;
        part.works();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause.unwrap_or(config.tidy_every)) => {}
            }
            if pause.is_some() {
                part.begins_again();
            }
            let is_due = Instant::now() >= vacuum_due;
            let failure = match self.lake.open().await {
                Ok(lake) => round(&self.pipeline, &lake, config, is_due).await,
                Err(error) => Some(crate::Error::from(error).chain()),
            };
            match failure {
                None => {
                    pause = None;
                    part.works();
                    if is_due {
                        vacuum_due = Instant::now() + vacuum_every;
                    }
                }
                Some(why) => {
                    pause = Some(config.retry.after(pause).min(config.tidy_every));
                    part.failed(&why);
                }
            }
        }
    }
}

/// Tidies all tables once, with a vacuum or without, and gives the first failure: tables work as they are.
pub async fn round(pipeline: &Pipeline, lake: &Lake, config: &StreamConfig, vacuum: bool) -> Option<String> {
    let vacuum = vacuum.then_some(config.history);
    let mut failure = None;
    for name in tables(pipeline, Half::Stream) {
        let (lake, table, policy) = (lake.clone(), name.clone(), config.compact);
        let runtime = Handle::current();
        // A merge keeps a core busy for up to seconds: not on a thread that others need.
        let tidying = spawn_blocking(move || runtime.block_on(tidy(&lake, &table, &policy, vacuum)));
        let failed = match tidying.await {
            Ok(tidied) => tidied.err().map(|error| error.chain()),
            Err(died) => Some(died.to_string()),
        };
        if let Some(error) = failed {
            tracing::warn!(table = name, error, "tidying failed, retrying later");
            failure.get_or_insert(format!("{name}: {error}"));
        }
    }
    failure
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
