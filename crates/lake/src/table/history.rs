//! What was done to a table, commit by commit, and how new its rows are.

use deltalake_core::kernel::Action;
use serde::Serialize;

use super::{CoveredRange, Table};
use crate::Result;

/// One commit of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// The Delta version it made.
    pub version: u64,
    /// When, in milliseconds since the Unix epoch, where the commit says so.
    pub timestamp_ms: Option<i64>,
    /// What was done, in Delta's words: `WRITE`, `OPTIMIZE`, `VACUUM END`.
    pub operation: String,
    /// Name of the run that did it.
    pub run: Option<String>,
    /// Files added.
    pub added: u64,
    /// Files removed.
    pub removed: u64,
    /// Rows in the files added, where the writers counted them.
    pub rows: u64,
    /// The records of the log that it settled.
    pub ranges: Vec<CoveredRange>,
}

impl Table {
    /// The latest commits, newest first: at most `limit`, and no older than Delta's clean-up has left.
    ///
    /// # Errors
    /// [`crate::Error::Delta`], [`crate::Error::TableLog`].
    pub async fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>> {
        let mut entries = Vec::new();
        for version in (0..=self.version()).rev().take(limit) {
            let Some(entry) = self.history_entry(version).await? else { break };
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The commits that were made at `since_ms` (milliseconds since the Unix epoch) or later, newest first.
    ///
    /// # Errors
    /// As [`Table::history`].
    pub async fn history_since(&self, since_ms: i64) -> Result<Vec<HistoryEntry>> {
        let mut entries = Vec::new();
        for version in (0..=self.version()).rev() {
            let Some(entry) = self.history_entry(version).await? else { break };
            if entry.timestamp_ms.is_some_and(|timestamp| timestamp < since_ms) {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    async fn history_entry(&self, version: u64) -> Result<Option<HistoryEntry>> {
        let Some(actions) = self.actions(version).await? else { return Ok(None) };
        let ours = self.entry_in(version, &actions)?;
        let mut entry = HistoryEntry {
            version,
            timestamp_ms: None,
            operation: String::new(),
            run: ours.as_ref().and_then(|ours| ours.run.clone()),
            added: 0,
            removed: 0,
            rows: 0,
            ranges: ours.map(|ours| ours.ranges).unwrap_or_default(),
        };
        for action in &actions {
            match action {
                Action::Add(add) => {
                    entry.added += 1;
                    entry.rows += rows(add.stats.as_deref()).unwrap_or_default();
                }
                Action::Remove(_) => entry.removed += 1,
                Action::CommitInfo(info) => {
                    entry.timestamp_ms = info.timestamp;
                    entry.operation = info.operation.clone().unwrap_or_default();
                }
                _ => {}
            }
        }
        Ok(Some(entry))
    }

    /// When the newest row was taken by the log, in milliseconds since the Unix epoch, by the files' statistics;
    /// `None` for a table without rows.
    ///
    /// # Errors
    /// [`crate::Error::Delta`].
    pub fn newest_ms(&self) -> Result<Option<i64>> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("list the files", e))?;
        Ok(state.log_data().iter().filter_map(|view| newest_in(&view.stats()?)).max())
    }
}

fn newest_in(stats: &str) -> Option<i64> {
    let stats: serde_json::Value = serde_json::from_str(stats).ok()?;
    let text = stats.get("maxValues")?.get("_ingested_at")?.as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
}

fn rows(stats: Option<&str>) -> Option<u64> {
    let stats: serde_json::Value = serde_json::from_str(stats?).ok()?;
    stats.get("numRecords")?.as_u64()
}
