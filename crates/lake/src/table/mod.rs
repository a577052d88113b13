//! Delta tables: each record's row once, whatever dies when.
//!
//! # What a commit holds
//!
//! One Delta commit carries the data files, one `txn` action a topic partition (app id
//! `pinmill/<topic>/<partition>`, with `/lineage/<n>` behind it from lineage 1 on; version = last offset covered), and
//! in its `commitInfo` under the key `pinmill`:
//!
//! ```text
//! {"version":2, "commit":"<uuid>", "actions":N, "run":"…"?,
//!  "ranges":[{"topic","lineage"?,"partition","generation"?,"after","first","last","count","hash","clean","quarantined",
//!             "rows":"<hash of the clean rows>"?,"lost":[{"first","last"}]?,"sequence":"…"?}]?,
//!  "totals":[{"topic","lineage"?,"partition","generation"?,"first","last","count","hash","clean","quarantined",
//!             "latest":{…},"rows":{"from","hash"}?,"lost"?,"retired_ms"?}],
//!  "replayed":[{"topic","lineage"?,"partition","offset","sub"?}]?, "settled":["<uuid of a replay's commit>"]?,
//!  "from":[{"table","id","version"}]?, "vacuum":{"before"}?,
//!  "all":[as totals]?, "folded":{"partitions","count","clean","quarantined"}?, "pending":{"<uuid>":[as replayed]}?}
//! ```
//!
//! `ranges` is what this commit covers, `totals` what all commits together have covered of the partitions that it touched.
//! The commit at which a checkpoint is made has `all` totals, and what else is still to be known beside them (see the module
//! `ledger`): who opens a table reads back to it. The position is the `txn` version: it lives in checkpoints too and every
//! Delta writer keeps it. The rest lives as long as the commit's JSON does. So the log is cleaned up only behind a commit
//! that has `all`; the property `delta.enableExpiredLogCleanup = false` keeps others from doing it after theirs.
//!
//! Where a log's own positions are no offsets, three more `txn` actions say the sequence number of the last record (see the
//! module `sequence`).
//!
//! `rows` sums up the hashes of the rows (see the module `rowhash`), `from` says what an answer was computed from (see
//! `origin`), `vacuum` begins a vacuum (see `vacuum`).
//!
//! # Invariants
//!
//! - Rows and position move in one atomic put of `_delta_log/<version>.json`, which fails when there is one
//!   (invariant I4).
//! - Delta does not refuse a `txn` version that is in the table already, so the table's position is compared with
//!   where the plan starts before each attempt, and again after any error ([`decide`]).
//! - A commit whose answer was lost is known again by its `commit` id.
//! - `actions` is how many actions the commit has beside its `commitInfo`, so that a file that was cut at the end of a
//!   line is found out.
//! - Data files are never deleted here after a commit was tried: it may have landed. What a crash leaves behind is
//!   seen by no reader, and [`Table::vacuum`] takes it once it is older than the retention. No commit names a file that
//!   a vacuum may have taken: see the module `vacuum`.
//!
//! # Crash points
//!
//! | the process dies | then |
//! | --- | --- |
//! | while data files are written, or before the commit's put | the files are orphans; the next run reads the position and does the work again |
//! | after the put, before its answer is seen | the rows are in, once; the next run reads the position and goes on behind it |
//! | while a checkpoint is written or old log files are removed | the commit stands; Delta readers take the commits, or the checkpoint before |

mod commit;
mod compact;
mod distinct;
mod history;
mod holdings;
mod ledger;
mod origin;
mod overwrite;
mod plan;
mod positions;
mod read;
mod rowhash;
mod schema;
mod sequence;
mod stats;
mod vacuum;
mod whole;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::{Action, LogicalFileView, Version};
use deltalake_core::logstore::{LogStore, LogStoreRef, StorageConfig, get_actions, logstore_with};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError, TableProperty};
use object_store::path::Path;
use serde_json::Value;

pub use commit::Committed;
pub(crate) use commit::written;
pub use compact::{CompactPolicy, Compacted};
pub use history::HistoryEntry;
pub use origin::{Origin, TableVersion};
pub use overwrite::Overwritten;
pub use plan::{
    CommitPlan, Conflict, ConflictReason, CoveredRange, Decision, FoldedTotals, LostRange, PartitionTotals,
    RowsHash, Totals, decide,
};
pub use read::RowsSum;
pub use rowhash::{row_hashes, rows_hash};
pub use schema::{system_columns, table_schema, timestamp};
pub use sequence::Sequence;
pub use vacuum::Vacuumed;
pub use writer::{TableWriter, WriterOptions, WrittenFile};

use crate::{Error, Lake, RecordId, Result, TopicPartition};
use ledger::{Books, Entry};
use schema::Evolution;
use vacuum::Vacuums;
use whole::LogFiles;
use writer::Place;

/// A checkpoint of the log is written each this many commits, so that opening a table reads no more than that.
const CHECKPOINT_INTERVAL: &str = "50";

/// The property that says of which topic the rows are that name none.
const UNNAMED_TOPIC: &str = "pinmill.topic";

/// A Delta table of a lake, as of the version it was last brought to.
pub struct Table {
    lake: Lake,
    /// Relative to the lake.
    name: String,
    root: Path,
    delta: DeltaTable,
    schema: SchemaRef,
    /// See [`Table::unnamed_topic`].
    unnamed: Option<String>,
    /// `txn` versions known at the table's version; an app id that is not in it was not asked for yet.
    txns: HashMap<String, Option<i64>>,
    /// What the entries of all commits say together; `None` is not read yet.
    books: Option<Books>,
    vacuums: Vacuums,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("version", &self.delta.version())
            .finish_non_exhaustive()
    }
}

/// How a table is made, where there is none yet.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    /// How long commits and replaced files are kept for readers of older versions, once a checkpoint stands for them;
    /// `None` leaves it to Delta's defaults (30 days and 7 days). Tables with a commit a second need it short.
    pub history: Option<Duration>,
}

impl TableOptions {
    fn properties(&self) -> Vec<(TableProperty, String)> {
        let mut properties = vec![
            (TableProperty::CheckpointInterval, CHECKPOINT_INTERVAL.to_owned()),
            // We clean up ourselves, after commits that have the totals.
            (TableProperty::EnableExpiredLogCleanup, "false".to_owned()),
        ];
        if let Some(history) = self.history {
            let interval = format!("interval {} seconds", history.as_secs().max(1));
            properties.push((TableProperty::LogRetentionDuration, interval.clone()));
            properties.push((TableProperty::DeletedFileRetentionDuration, interval));
        }
        properties
    }
}

/// A data file of a table, for an engine to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path in [`Lake::store`].
    pub path: Path,
    /// The same as a local file, where the lake is a directory.
    pub file: Option<PathBuf>,
    /// Bytes.
    pub size: u64,
    /// Rows, where the writer counted them.
    pub rows: Option<u64>,
}

impl Table {
    /// Opens a table, or makes it. `name` is its path in the lake (`batch/pin`). Columns that the table lacks are
    /// added; the table's schema is `schema` in the form of [`table_schema`].
    ///
    /// # Errors
    /// [`Error::Schema`] when the table has a column that `schema` lacks or has with another type; [`Error::Delta`].
    pub async fn open_or_create(lake: &Lake, name: &str, schema: &Schema) -> Result<Self> {
        Self::open_or_create_with(lake, name, schema, &TableOptions::default()).await
    }

    /// [`Table::open_or_create`] with options for a table that is made.
    ///
    /// # Errors
    /// As [`Table::open_or_create`].
    pub async fn open_or_create_with(
        lake: &Lake,
        name: &str,
        schema: &Schema,
        options: &TableOptions,
    ) -> Result<Self> {
        let wanted = table_schema(schema).map_err(|reason| schema_error(name, reason))?;
        let mut table = match Self::open(lake, name).await? {
            Some(table) => table,
            None => match Self::create(lake, name, &wanted, options).await {
                Ok(table) => table,
                // Another process may have made it at the same time.
                Err(error) => Self::open(lake, name).await?.ok_or(error)?,
            },
        };
        table.evolve(&wanted).await?;
        Ok(table)
    }

    /// Opens a table; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Delta`] when its log cannot be read, [`Error::TornCommit`] when a commit is incomplete.
    pub async fn open(lake: &Lake, name: &str) -> Result<Option<Self>> {
        let Some(delta) = whole::load(lake, name).await? else { return Ok(None) };
        let table = Self::of(lake, name, delta)?;
        table.refuse_torn_commits().await?;
        Ok(Some(table))
    }

    async fn create(lake: &Lake, name: &str, schema: &Schema, options: &TableOptions) -> Result<Self> {
        let columns = schema::to_delta(schema).map_err(|reason| schema_error(name, reason))?;
        let mut create = CreateBuilder::new()
            .with_log_store(log_store(lake, name)?)
            .with_save_mode(SaveMode::Ignore)
            .with_columns(columns);
        for (property, value) in options.properties() {
            create = create.with_configuration_property(property, Some(value));
        }
        let delta = create.await.map_err(|e| delta_error(name, "create the table", e))?;
        Self::of(lake, name, delta)
    }

    fn of(lake: &Lake, name: &str, delta: DeltaTable) -> Result<Self> {
        let root = lake.path(name);
        let empty = Arc::new(Schema::empty());
        let (lake, name) = (lake.clone(), name.to_owned());
        let vacuums = Vacuums::since(delta.version().unwrap_or_default());
        let (schema, unnamed, txns, books) = (empty, None, HashMap::new(), None);
        let mut table = Self { lake, name, root, delta, schema, unnamed, txns, books, vacuums };
        table.read_schema()?;
        Ok(table)
    }

    fn read_schema(&mut self) -> Result<()> {
        self.schema = self.current_schema()?;
        let state = self.delta.snapshot().map_err(|e| self.delta_error("read the properties", e))?;
        self.unnamed = state.metadata().configuration().get(UNNAMED_TOPIC).cloned();
        Ok(())
    }

    /// The columns as of this view's version.
    fn current_schema(&self) -> Result<SchemaRef> {
        let delta = self.delta.snapshot().map_err(|e| self.delta_error("read the schema", e))?.schema();
        schema::to_arrow(&delta).map_err(|reason| schema_error(&self.name, reason))
    }

    /// Adds the columns that rows of this schema have and the table has not, in one commit.
    async fn evolve(&mut self, rows: &Schema) -> Result<()> {
        let missing = schema::evolution(&self.schema, rows);
        let Evolution::Add(columns) = missing.map_err(|reason| schema_error(&self.name, reason))? else {
            return Ok(());
        };
        let adds_topic = columns.iter().any(|column| column.name() == schema::TOPIC);
        let fields = schema::to_delta(&Schema::new(columns)).map_err(|e| schema_error(&self.name, e))?;
        let unnamed = if adds_topic { self.only_topic().await? } else { None };
        let actions = |table: &Self| {
            let there = table.current_schema()?;
            let added = schema::evolution(&there, rows).map_err(|e| schema_error(&table.name, e))?;
            let Evolution::Add(columns) = added else {
                return Err(Error::fenced(&table.name, "the columns have been added"));
            };
            let columns = there.fields().iter().cloned().chain(columns.into_iter().map(Arc::new));
            let property = unnamed.as_deref().map(|topic| (UNNAMED_TOPIC, topic));
            Ok(vec![table.metadata_with(&Schema::new(columns.collect::<Vec<_>>()), property)?])
        };
        let operation = DeltaOperation::AddColumn { fields };
        match self.commit_actions(&CommitPlan::default(), operation, actions).await {
            // Another process was quicker.
            Ok(_) | Err(Error::Fenced { .. }) => self.read_schema(),
            Err(error) => Err(error),
        }
    }

    /// The topic that all rows are of, where there is one.
    async fn only_topic(&mut self) -> Result<Option<String>> {
        let totals = self.totals().await?;
        let topics: BTreeSet<&str> = totals.keys().map(|place| place.topic.as_str()).collect();
        let mut topics = topics.into_iter();
        Ok(topics.next().filter(|_| topics.next().is_none()).map(str::to_owned))
    }

    /// The topic of the rows whose `_topic` is NULL, which 0.1 wrote: that of the table's positions, where it was one when
    /// the column was added. The property `pinmill.topic` keeps it.
    pub fn unnamed_topic(&self) -> Option<&str> {
        self.unnamed.as_deref()
    }

    /// Path relative to the lake.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns, in the form of [`table_schema`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The Delta version this is a view of.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or_default()
    }

    /// Brings the view to the newest version.
    ///
    /// # Errors
    /// [`Error::Delta`]; the view stays as it was.
    pub async fn refresh(&mut self) -> Result<()> {
        let (before, state) = (self.version(), self.delta.state.clone());
        if let Err(error) = self.delta.update_incremental(None).await {
            let files = LogFiles::list(&self.lake, &self.name).await.unwrap_or_default();
            return Err(whole::explain(&self.lake, &self.name, &files, error).await);
        }
        if self.version() == before {
            return Ok(());
        }
        let followed = self.follow_from(before).await;
        if !matches!(followed, Ok(true)) {
            // What was known of positions and totals must be read anew.
            self.forget();
        }
        if followed.is_err() {
            // Or the next call would find nothing new, and go on with what this one refused.
            self.delta.state = state;
            self.read_schema()?;
        }
        followed.map(drop)
    }

    /// Keeps what is known of positions and totals up with the commits after `before`; false when one of them was
    /// cleaned up.
    async fn follow_from(&mut self, before: Version) -> Result<bool> {
        self.read_schema()?;
        for version in before + 1..=self.version() {
            let Some(actions) = self.actions(version).await? else { return Ok(false) };
            self.refuse_torn(version, &actions)?;
            self.follow(version, &actions)?;
        }
        Ok(true)
    }

    /// The actions of one commit; `None` when its file was cleaned up.
    async fn actions(&self, version: Version) -> Result<Option<Vec<Action>>> {
        let entry = self.delta.log_store().read_commit_entry(version).await;
        let Some(bytes) = entry.map_err(|e| self.delta_error("read a commit", e))? else { return Ok(None) };
        get_actions(version, &bytes).map(Some).map_err(|e| self.delta_error("read a commit", e))
    }

    fn follow(&mut self, version: Version, actions: &[Action]) -> Result<()> {
        for action in actions {
            if let Action::Txn(txn) = action {
                self.txns.insert(txn.app_id.clone(), Some(txn.version));
            }
        }
        if let Some(before_ms) = self.vacuum_in(version, actions)? {
            self.vacuums.note(version, before_ms);
        }
        if let Some(entry) = self.entry_in(version, actions)?
            && let Some(books) = &mut self.books
        {
            books.apply(version, &entry);
        }
        Ok(())
    }

    fn entry_in(&self, version: Version, actions: &[Action]) -> Result<Option<Entry>> {
        let value = actions.iter().find_map(|action| match action {
            Action::CommitInfo(info) => info.info.get(ledger::KEY),
            _ => None,
        });
        let read = value.map(Entry::from_value).transpose();
        read.map_err(|reason| Error::TableLog { table: self.name.clone(), version, reason })
    }

    fn forget(&mut self) {
        self.txns.clear();
        self.books = None;
        self.vacuums = Vacuums::since(self.version());
    }

    /// What all commits together have covered, as of this view. Partitions that are gone for long are in
    /// [`Table::folded`].
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::TableLog`].
    pub async fn totals(&mut self) -> Result<&Totals> {
        Ok(&self.books().await?.totals)
    }

    /// What was covered of partitions whose totals are not kept one by one any longer.
    ///
    /// # Errors
    /// As [`Table::totals`].
    pub async fn folded(&mut self) -> Result<FoldedTotals> {
        Ok(self.books().await?.folded)
    }

    /// Records that replays took from the quarantine and that may still be there.
    ///
    /// # Errors
    /// As [`Table::totals`].
    pub async fn replayed(&mut self) -> Result<Vec<RecordId>> {
        Ok(self.books().await?.replayed())
    }

    /// What all entries say together. They are read backwards, down to one that says all.
    async fn books(&mut self) -> Result<&Books> {
        if self.books.is_none() {
            let (mut entries, mut lacks_some) = (Vec::new(), false);
            for version in (0..=self.version()).rev() {
                let Some(actions) = self.actions(version).await? else {
                    lacks_some = true;
                    break;
                };
                let Some(entry) = self.entry_in(version, &actions)? else { continue };
                let is_whole = entry.is_whole();
                entries.push((version, entry));
                if is_whole {
                    break;
                }
            }
            self.books = Some(Books::of(&entries, lacks_some));
        }
        Ok(self.books.get_or_insert_default())
    }

    /// This version of this table, for the answers that are computed from it.
    ///
    /// # Errors
    /// [`Error::Delta`].
    pub fn as_origin(&self) -> Result<TableVersion> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("read the metadata", e))?;
        let metadata = serde_json::to_value(state.metadata());
        let id = metadata.ok().and_then(|metadata| Some(metadata.get("id")?.as_str()?.to_owned()));
        Ok(TableVersion { table: self.name.clone(), id: id.unwrap_or_default(), version: self.version() })
    }

    /// The data files of this view.
    ///
    /// # Errors
    /// [`Error::Delta`].
    pub fn files(&self) -> Result<Vec<DataFile>> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("list the files", e))?;
        Ok(state.log_data().iter().map(|view| self.data_file(&view)).collect())
    }

    /// A writer of new data files. Needs a tokio runtime.
    pub fn writer(&self, options: WriterOptions) -> TableWriter {
        let (store, root) = (Arc::clone(self.lake.store()), self.root.clone());
        let place = Place { table: self.name.clone(), root, since: self.version() };
        TableWriter::new(place, store, Arc::clone(&self.schema), options)
    }

    /// The `txn` app id of a topic partition.
    pub(crate) fn app_id(place: &TopicPartition) -> String {
        let TopicPartition { topic, lineage, partition } = place;
        match lineage {
            0 => format!("pinmill/{topic}/{partition}"),
            lineage => format!("pinmill/{topic}/{partition}/lineage/{lineage}"),
        }
    }

    /// Positions that were asked for at this version before; one that was not is left out.
    pub(crate) fn known_positions<'a>(
        &self,
        of: impl Iterator<Item = &'a TopicPartition>,
    ) -> BTreeMap<TopicPartition, Option<u64>> {
        let known = |key: &'a TopicPartition| {
            let version = *self.txns.get(&Self::app_id(key))?;
            Some((key.clone(), version.and_then(|version| u64::try_from(version).ok())))
        };
        of.filter_map(known).collect()
    }

    /// The data files that may hold rows whose column `name` lies within these offsets.
    pub(crate) fn files_within(&self, name: &str, offsets: &RangeInclusive<u64>) -> Result<Vec<DataFile>> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("list the files", e))?;
        let may = |view: &LogicalFileView| {
            let stats = view.stats().and_then(|stats| serde_json::from_str::<Value>(&stats).ok());
            let bound = |which: &str| stats.as_ref()?.get(which)?.get(name)?.as_u64();
            bound("maxValues").is_none_or(|highest| highest >= *offsets.start())
                && bound("minValues").is_none_or(|lowest| lowest <= *offsets.end())
        };
        Ok(state.log_data().iter().filter(may).map(|view| self.data_file(&view)).collect())
    }

    /// Remove actions of the files that `which` says yes to.
    /// `data_change` is false where their rows stay in the table, in other files.
    pub(crate) fn removes(
        &self,
        which: impl Fn(&LogicalFileView) -> bool,
        data_change: bool,
    ) -> Result<Vec<Action>> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("replace rows", e))?;
        let remove = |view: LogicalFileView| Action::Remove(view.remove_action(data_change));
        Ok(state.log_data().iter().filter(|view| which(view)).map(remove).collect())
    }

    fn data_file(&self, view: &LogicalFileView) -> DataFile {
        let path = view.object_store_path().parts().fold(self.root.clone(), |path, part| path.join(part));
        let file = self.lake.local_file(&path);
        DataFile { path, file, size: view.size().unsigned_abs(), rows: view.num_records().map(|n| n as u64) }
    }

    fn delta_error(&self, doing: &'static str, source: DeltaTableError) -> Error {
        delta_error(&self.name, doing, source)
    }

    fn log_error(&self, reason: String) -> Error {
        Error::TableLog { table: self.name.clone(), version: self.version(), reason }
    }
}

fn log_store(lake: &Lake, name: &str) -> Result<LogStoreRef> {
    let mut url = lake.url().clone();
    let no_path =
        |()| Error::Location { location: name.to_owned(), reason: "its lake has no path".to_owned() };
    url.path_segments_mut().map_err(no_path)?.pop_if_empty().extend(name.split('/')).push("");
    logstore_with(Arc::clone(lake.store()), &url, StorageConfig::default())
        .map_err(|e| delta_error(name, "open the table", e))
}

fn delta_error(table: &str, doing: &'static str, source: DeltaTableError) -> Error {
    Error::Delta { table: table.to_owned(), doing, source: Box::new(source) }
}

fn schema_error(table: &str, reason: String) -> Error {
    Error::Schema { table: table.to_owned(), reason }
}
