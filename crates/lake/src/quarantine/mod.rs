//! The quarantine: records that could not be cleaned, with the reason and the raw bytes, so that they can be
//! looked at, and cleaned again when the pipeline has learned to.
//!
//! # Format
//!
//! A Delta table a half, `<half>/quarantine`: `dataset, reason, topic, partition INT, offset BIGINT, ingested_at
//! TIMESTAMP, raw BINARY (NULL for a tombstone), run, quarantined_at TIMESTAMP, lineage INT, sub INT`. A record, by its
//! [`RecordId`], is in it once. The last two columns were added after 0.1, whose rows have NULL there: 0. The `txn`
//! version of `pinmill/<topic>/<partition>` (as in [`crate::table`]) is the highest offset that was ever put in of that
//! partition: it tells cheaply that there is nothing beyond.
//!
//! # A record is in quarantine or in its table, never both, never neither
//!
//! The rejected records of a batch are committed here *before* the batch is committed to its clean table.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before this commit | nothing happened; the next run does the batch again |
//! | after this commit, before the clean table's | the next run reads the same records, perhaps in other batches and with other SQL. [`Quarantine::ahead`] tells it which are here already: they stay here and are left out of the clean rows. [`Quarantine::add`] passes over those that are here |
//! | after the clean table's commit | the batch is done |
//!
//! A replay takes records the other way: the clean table's commit takes the rows and names them
//! ([`crate::table::CommitPlan::replayed`]), then [`Quarantine::remove`] takes them from here. Between the two
//! they are in both; the name list in the table's log ([`crate::table::Table::replayed`]) lets the next run finish,
//! and nobody sees a record twice who asks only for what is not on that list.

mod rows;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::RecordBatch;
use bytes::Bytes;
use deltalake_core::kernel::{Action, LogicalFileView, Transaction};
use deltalake_core::protocol::SaveMode;
use object_store::ObjectStoreExt;
use tokio::sync::Mutex;

use crate::table::{CommitPlan, DataFile, Table, TableOptions, WriterOptions, WrittenFile, written};
use crate::{Error, Lake, RecordId, Result, TopicPartition};

/// How often adding or removing starts anew because somebody else changed the quarantine.
const ATTEMPTS: u32 = 5;

/// A record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRecord {
    /// The dataset that rejected it.
    pub dataset: String,
    /// Why, for a person.
    pub reason: String,
    /// Where it lies in the log.
    pub id: RecordId,
    /// When the log took it, in microseconds since the Unix epoch.
    pub ingested_at_us: i64,
    /// The value exactly as received; `None` is a tombstone.
    pub raw: Option<Bytes>,
    /// Name of the run that put it in.
    pub run: String,
    /// When it was put in, in microseconds since the Unix epoch.
    pub quarantined_at_us: i64,
}

impl QuarantinedRecord {
    /// About how much memory it takes, in bytes: of small records the identity and the reason take most.
    pub fn memory(&self) -> usize {
        // What the allocator keeps beside each of the texts.
        const ALLOCATION: usize = 16;
        let texts = [&self.dataset, &self.reason, &self.id.place.topic, &self.run];
        let texts: usize = texts.into_iter().map(|text| text.len() + ALLOCATION).sum();
        // The raw bytes are counted by a handle of their own.
        let raw = self.raw.as_ref().map_or(0, |raw| raw.len() + 3 * ALLOCATION);
        size_of::<Self>() + texts + raw
    }
}

/// Which records are meant; `None` means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this dataset.
    pub dataset: Option<String>,
    /// Of this topic.
    pub topic: Option<String>,
    /// Of this life of the topic's name.
    pub lineage: Option<u32>,
    /// Of this partition.
    pub partition: Option<u32>,
    /// With this offset.
    pub offset: Option<u64>,
    /// Whose reason contains this.
    pub reason: Option<String>,
}

impl Filter {
    /// Whether the record is meant.
    pub fn takes(&self, record: &QuarantinedRecord) -> bool {
        let is = |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|wanted| wanted == have);
        is(&self.dataset, &record.dataset)
            && is(&self.topic, &record.id.place.topic)
            && self.lineage.is_none_or(|lineage| lineage == record.id.place.lineage)
            && self.partition.is_none_or(|partition| partition == record.id.place.partition)
            && self.offset.is_none_or(|offset| offset == record.id.offset)
            && self.reason.as_deref().is_none_or(|part| record.reason.contains(part))
    }
}

/// The quarantine of one half. Shared by the cleaners of all datasets; calls wait for each other.
#[derive(Debug)]
pub struct Quarantine {
    lake: Lake,
    table: Mutex<Table>,
}

impl Quarantine {
    /// Opens the quarantine of a half (`batch`, `stream`), or makes it.
    ///
    /// # Errors
    /// As [`Table::open_or_create`].
    pub async fn open(lake: &Lake, half: &str) -> Result<Self> {
        Self::open_with(lake, half, &TableOptions::default()).await
    }

    /// [`Quarantine::open`] with options for a table that is made.
    ///
    /// # Errors
    /// As [`Quarantine::open`].
    pub async fn open_with(lake: &Lake, half: &str, options: &TableOptions) -> Result<Self> {
        let name = format!("{half}/quarantine");
        let table = Table::open_or_create_with(lake, &name, &rows::schema(), options).await?;
        Ok(Self { lake: lake.clone(), table: Mutex::new(table) })
    }

    /// Offsets of a partition that are here and lie behind the clean table's position (`after`): what a
    /// crash between the two commits left.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Store`].
    pub async fn ahead(&self, place: &TopicPartition, after: Option<u64>) -> Result<BTreeSet<u64>> {
        let mut table = self.table.lock().await;
        table.refresh().await?;
        let from = after.map_or(0, |after| after.saturating_add(1));
        if table.position(place).await?.is_none_or(|highest| highest < from) {
            return Ok(BTreeSet::new());
        }
        let mut offsets = BTreeSet::new();
        self.scan(&table, from, |batch| {
            let mine = rows::ids(batch)?.into_iter().filter(|id| id.place == *place);
            offsets.extend(mine.map(|id| id.offset).filter(|&offset| offset >= from));
            Ok(())
        })
        .await?;
        Ok(offsets)
    }

    /// As [`Quarantine::ahead`], of many partitions at once: the quarantine is read once.
    ///
    /// # Errors
    /// As [`Quarantine::ahead`].
    pub async fn all_ahead(
        &self,
        after: &BTreeMap<TopicPartition, Option<u64>>,
    ) -> Result<BTreeMap<TopicPartition, BTreeSet<u64>>> {
        /// So many are asked for one by one: mostly there is nothing, and the position says so.
        const FEW: usize = 64;
        let mut ahead: BTreeMap<TopicPartition, BTreeSet<u64>> = BTreeMap::new();
        if after.len() <= FEW {
            for (place, &after) in after {
                ahead.insert(place.clone(), self.ahead(place, after).await?);
            }
            return Ok(ahead);
        }
        let mut table = self.table.lock().await;
        table.refresh().await?;
        self.scan(&table, 0, |batch| {
            for id in rows::ids(batch)? {
                if let Some(&after) = after.get(&id.place)
                    && after.is_none_or(|after| id.offset > after)
                {
                    ahead.entry(id.place).or_default().insert(id.offset);
                }
            }
            Ok(())
        })
        .await?;
        Ok(ahead)
    }

    /// Puts records in; those that are here already are passed over, with the reason they have. Returns how many
    /// were put in.
    ///
    /// # Errors
    /// As [`Table::commit`], without fencing: the quarantine is a set, in which order does not matter.
    pub async fn add(&self, records: &[QuarantinedRecord]) -> Result<u64> {
        if records.is_empty() {
            return Ok(0);
        }
        let mut table = self.table.lock().await;
        let highest = highest(records);
        for _ in 0..ATTEMPTS {
            table.refresh().await?;
            let positions = self.positions(&mut table, &highest).await?;
            let new = self.absent(&table, &positions, records).await?;
            if new.is_empty() {
                return Ok(0);
            }
            let plan = CommitPlan { files: write(&table, &new).await?, ..CommitPlan::default() };
            let actions = |table: &Table| -> Result<Vec<Action>> {
                if table.known_positions(positions.keys()) != positions {
                    return Err(moved(table));
                }
                let txns = highest.iter().map(|(place, &offset)| {
                    let before = positions.get(place).copied().flatten();
                    let version = i64::try_from(before.map_or(offset, |before| before.max(offset)));
                    let version = version.map_err(|_| moved(table))?;
                    Ok(Action::Txn(Transaction::new(Table::app_id(place), version)))
                });
                txns.collect()
            };
            match table.commit_actions(&plan, written(SaveMode::Append), actions).await {
                Ok(_) => return Ok(new.len() as u64),
                Err(Error::Fenced { .. } | Error::Stale { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(moved(&table))
    }

    /// The `limit` records that were put in first, oldest first. Twice as many are in memory at the most, besides those
    /// of one file.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Store`].
    pub async fn records(&self, filter: &Filter, limit: usize) -> Result<Vec<QuarantinedRecord>> {
        self.records_by(|record| filter.takes(&record).then_some(record), limit).await
    }

    /// [`Quarantine::records`] of those that `take` gives back, as it gives them.
    ///
    /// # Errors
    /// As [`Quarantine::records`].
    pub async fn records_by(
        &self,
        take: impl Fn(QuarantinedRecord) -> Option<QuarantinedRecord>,
        limit: usize,
    ) -> Result<Vec<QuarantinedRecord>> {
        let mut table = self.table.lock().await;
        table.refresh().await?;
        let mut oldest = Vec::new();
        self.scan(&table, 0, |batch| {
            oldest.extend(rows::records(batch)?.into_iter().filter_map(&take));
            if oldest.len() >= limit.saturating_mul(2) {
                keep_oldest(&mut oldest, limit);
            }
            Ok(())
        })
        .await?;
        keep_oldest(&mut oldest, limit);
        Ok(oldest)
    }

    /// Takes records out, after their rows were committed to the clean table. Returns how many were here.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Store`], [`Error::Contention`].
    pub async fn remove(&self, ids: &[RecordId]) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: HashSet<&RecordId> = ids.iter().collect();
        let mut table = self.table.lock().await;
        for _ in 0..ATTEMPTS {
            table.refresh().await?;
            let version = table.version();
            let (mut removed, mut replaced, mut kept) = (0, HashSet::new(), Vec::new());
            for file in table.files()? {
                let records = self.read(&file).await?;
                let all = records.len();
                let stay: Vec<_> = records.into_iter().filter(|record| !ids.contains(&record.id)).collect();
                if stay.len() < all {
                    removed += (all - stay.len()) as u64;
                    replaced.insert(file.path.filename().unwrap_or_default().to_owned());
                    kept.extend(write(&table, &stay.iter().collect::<Vec<_>>()).await?);
                }
            }
            if removed == 0 {
                return Ok(0);
            }
            let actions = |table: &Table| -> Result<Vec<Action>> {
                if table.version() != version {
                    return Err(moved(table));
                }
                table.removes(|view: &LogicalFileView| replaced.contains(view.path().as_ref()), true)
            };
            let plan = CommitPlan { files: kept, ..CommitPlan::default() };
            match table.commit_actions(&plan, written(SaveMode::Append), actions).await {
                Ok(_) => return Ok(removed),
                Err(Error::Fenced { .. } | Error::Stale { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(moved(&table))
    }

    /// The data files, for an engine to read.
    ///
    /// # Errors
    /// [`Error::Delta`].
    pub async fn files(&self) -> Result<Vec<DataFile>> {
        let mut table = self.table.lock().await;
        table.refresh().await?;
        table.files()
    }

    /// The table's columns.
    pub fn schema() -> arrow::datatypes::Schema {
        rows::schema()
    }

    async fn positions(&self, table: &mut Table, of: &Highest) -> Result<Positions> {
        let mut positions = BTreeMap::new();
        for place in of.keys() {
            positions.insert(place.clone(), table.position(place).await?);
        }
        Ok(positions)
    }

    /// Those of the records that are not here yet.
    async fn absent<'a>(
        &self,
        table: &Table,
        positions: &Positions,
        records: &'a [QuarantinedRecord],
    ) -> Result<Vec<&'a QuarantinedRecord>> {
        let may_be_here = |id: &RecordId| {
            let position = positions.get(&id.place).copied().flatten();
            position.is_some_and(|highest| id.offset <= highest)
        };
        let mut seen = HashSet::new();
        if let Some(lowest) =
            records.iter().map(|record| &record.id).filter(|id| may_be_here(id)).map(|id| id.offset).min()
        {
            self.scan(table, lowest, |batch| {
                seen.extend(rows::ids(batch)?);
                Ok(())
            })
            .await?;
        }
        // A record given twice is put in once.
        Ok(records.iter().filter(|record| seen.insert(record.id.clone())).collect())
    }

    /// Reads all files that may hold offsets from `from` on, batch by batch.
    async fn scan(
        &self,
        table: &Table,
        from: u64,
        mut take: impl FnMut(&RecordBatch) -> Result<(), String>,
    ) -> Result<()> {
        for file in table.files_within("offset", &(from..=u64::MAX))? {
            for batch in self.batches(&file).await? {
                take(&batch).map_err(|reason| Error::corrupt(&file.path, reason))?;
            }
        }
        Ok(())
    }

    async fn batches(&self, file: &DataFile) -> Result<Vec<RecordBatch>> {
        let got = async { self.lake.store().get(&file.path).await?.bytes().await };
        let bytes = got.await.map_err(|e| Error::store("read", self.lake.relative(&file.path), e))?;
        rows::decode(bytes).map_err(|reason| Error::corrupt(&file.path, reason))
    }

    /// The records of one data file (see [`Quarantine::files`]), so that all of them can be gone through in bounded
    /// memory.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub async fn read(&self, file: &DataFile) -> Result<Vec<QuarantinedRecord>> {
        let mut records = Vec::new();
        for batch in self.batches(file).await? {
            records.extend(rows::records(&batch).map_err(|reason| Error::corrupt(&file.path, reason))?);
        }
        Ok(records)
    }
}

type Highest = BTreeMap<TopicPartition, u64>;
type Positions = BTreeMap<TopicPartition, Option<u64>>;

/// The highest offset of each partition.
fn highest(records: &[QuarantinedRecord]) -> Highest {
    let mut highest = Highest::new();
    for RecordId { place, offset, .. } in records.iter().map(|record| &record.id) {
        let entry = highest.entry(place.clone()).or_insert(*offset);
        *entry = (*entry).max(*offset);
    }
    highest
}

/// Leaves the `limit` that were put in first, oldest first.
fn keep_oldest(records: &mut Vec<QuarantinedRecord>, limit: usize) {
    records.sort_by(|a, b| (a.quarantined_at_us, &a.id).cmp(&(b.quarantined_at_us, &b.id)));
    records.truncate(limit);
}

async fn write(table: &Table, records: &[&QuarantinedRecord]) -> Result<Vec<WrittenFile>> {
    const ROWS: usize = 8192;
    let mut writer = table.writer(WriterOptions::default());
    for part in records.chunks(ROWS) {
        let batch =
            rows::encode(part).map_err(|reason| Error::Schema { table: table.name().to_owned(), reason })?;
        writer.write(&batch).await?;
    }
    writer.finish().await
}

fn moved(table: &Table) -> Error {
    Error::fenced(table.name(), "it changed while records were put in or taken out")
}
