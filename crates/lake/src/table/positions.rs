//! How far a table is in each topic partition: `txn` actions of its log.

use super::Table;
use super::sequence::{self, Sequence};
use crate::{Result, TopicPartition};

impl Table {
    /// The last offset that the table covers of a topic partition, as of this view; `None` when it covers nothing.
    ///
    /// # Errors
    /// [`crate::Error::Delta`]; [`crate::Error::TableLog`] for a position that is no offset.
    pub async fn position(&mut self, place: &TopicPartition) -> Result<Option<u64>> {
        let app_id = Self::app_id(place);
        let version = self.txn(&app_id).await?;
        let offset = version.map(u64::try_from).transpose();
        offset.map_err(|_| self.log_error(format!("txn `{app_id}` has the negative version {version:?}")))
    }

    /// Reads many positions at once, from the totals, so that [`Table::position`] has them at hand: asked for one by one,
    /// each would be looked for in the table's log.
    ///
    /// # Errors
    /// As [`Table::totals`]; [`crate::Error::TableLog`] for a position that is no offset.
    pub async fn know_positions_of(&mut self, places: &[&TopicPartition]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let books = self.books().await?;
        if books.lacks_some {
            return Ok(());
        }
        // Where totals were folded, a place that has none may have a position all the same.
        let has_all = books.folded.is_empty();
        let last = |place: &TopicPartition| books.totals.get(place).map(|totals| totals.sum.last);
        let known: Vec<(&TopicPartition, Option<u64>)> = places
            .iter()
            .map(|place| (*place, last(place)))
            .filter(|(_, last)| has_all || last.is_some())
            .collect();
        for (place, last) in known {
            let last = last.map(i64::try_from).transpose();
            let last = last.map_err(|_| self.log_error(format!("the position of {place} is too large")))?;
            self.txns.entry(Self::app_id(place)).or_insert(last);
        }
        Ok(())
    }

    /// The sequence number of the last record that the table covers of a topic partition, where its commits gave one.
    ///
    /// # Errors
    /// As [`Table::position`].
    pub async fn sequence(&mut self, place: &TopicPartition) -> Result<Option<Sequence>> {
        let app_id = Self::app_id(place);
        let mut parts = Vec::new();
        for part in sequence::app_ids(&app_id) {
            parts.extend(self.txn(&part).await?);
        }
        match <[i64; 3]>::try_from(parts) {
            Err(parts) if parts.is_empty() => Ok(None),
            Ok(parts) if Sequence::from_parts(parts).is_some() => Ok(Sequence::from_parts(parts)),
            wrong => {
                Err(self.log_error(format!("the txns `{app_id}/seq/…` are no sequence number: {wrong:?}")))
            }
        }
    }

    async fn txn(&mut self, app_id: &str) -> Result<Option<i64>> {
        if let Some(&version) = self.txns.get(app_id) {
            return Ok(version);
        }
        let log_store = self.delta.log_store();
        let state = self.delta.snapshot().map_err(|e| self.delta_error("read a position", e))?;
        let version = state.transaction_version(log_store.as_ref(), app_id).await;
        let version = version.map_err(|e| self.delta_error("read a position", e))?;
        self.txns.insert(app_id.to_owned(), version);
        Ok(version)
    }
}
