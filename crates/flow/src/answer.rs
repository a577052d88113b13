//! The pipeline's questions, and any other SQL, over the clean tables.
//!
//! Every dataset is registered from the snapshot of its table at one moment, so all answers of a run are about the
//! same rows. An answer is written to `answers/<name>` (from the streaming half to `live/<name>`) as a Delta table that
//! is replaced as a whole; where its rows are what they were, only a newer origin of them is noted. An answer notes the
//! version of each table that it was computed from, and never replaces one that was computed from a newer version of
//! any of them: two runs at once may come to the lake in any order ([`pinmill_lake::table::Origin`]). A crash in
//! between leaves some answers of this run and some of the one before, each whole; the next run writes the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::Schema;
use pinmill_engine::{Engine, ParquetFile, QueryResult, Rows};
use pinmill_lake::Lake;
use pinmill_lake::table::{Origin, Overwritten, Table, TableVersion, table_schema};
use pinmill_pipeline::{Answer, Dataset, Pipeline};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::crash::crash_point;
use crate::{Error, Half, Result, run_id};

/// How to answer.
#[derive(Debug, Clone)]
pub struct AnswerOptions {
    /// From the tables of which half.
    pub half: Half,
    /// Which answers; empty means all.
    pub names: Vec<String>,
    /// False: the answers are not written to the lake.
    pub write: bool,
    /// Name of the run in reports; `None` makes one.
    pub run: Option<String>,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self { half: Half::Batch, names: Vec::new(), write: true, run: None }
    }
}

/// What was answered, and from which versions of the tables.
#[derive(Debug, Clone)]
pub struct AnswerReport {
    /// Name of the run.
    pub run: String,
    /// Delta version of each dataset's table.
    pub tables: BTreeMap<String, u64>,
    /// The answers, in the order of their files.
    pub answers: Vec<AnswerResult>,
    /// What failed, in the order of their files. The others were given all the same.
    pub failures: Vec<AnswerFailure>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct AnswerResult {
    /// Its name: the file's stem.
    pub name: String,
    /// The comment on top of the file.
    pub title: String,
    /// Columns and rows, in the order that the query gives.
    pub rows: RecordBatch,
    /// How it was kept.
    pub kept: Kept,
}

/// An answer that could not be given, or that was given and could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerFailure {
    /// Its name: the file's stem.
    pub name: String,
    /// Its file in the pipeline folder.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

impl AnswerFailure {
    fn new(answer: &Answer, error: &Error) -> Self {
        Self { name: answer.name.clone(), file: answer.source.path.clone(), reason: error.chain() }
    }
}

impl fmt::Display for AnswerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

/// What became of an answer's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// Its rows were replaced.
    Written,
    /// It had these rows already.
    Unchanged,
    /// It has rows that another run computed from newer tables, and keeps them.
    Newer,
    /// It was not to be written.
    No,
}

/// Runs answers over the tables as they are now. One that fails does not keep the others:
/// [`AnswerReport::failures`] names it.
///
/// # Errors
/// [`Error::Unknown`] for a name that no answer has; [`Error::Engine`] and [`Error::Lake`] where a table cannot be read.
pub async fn answer(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    options: &AnswerOptions,
) -> Result<AnswerReport> {
    let started = Instant::now();
    let wanted = select(pipeline, &options.names)?;
    let read = register(pipeline, engine, lake, options.half).await?;
    engine.prepare(&wanted).await?;
    let run = options.run.clone().unwrap_or_else(run_id);
    let tables = versions(&read);
    let origin = Origin { run: Some(recorded(&run, &tables)), from: read.into_values().collect() };
    let (mut answers, mut failures) = (Vec::with_capacity(wanted.len()), Vec::new());
    let mut writing = JoinSet::new();
    for answer in &wanted {
        let rows = match engine.answer(answer).await {
            Ok(rows) => rows,
            Err(error) => {
                failures.push(AnswerFailure::new(answer, &Error::from(error)));
                continue;
            }
        };
        crash_point("flow::answer::computed")?;
        if options.write {
            // Others are computed while this one is written.
            let (lake, table, rows) = (lake.clone(), options.half.answer(&answer.name), rows.clone());
            let (origin, name) = (origin.clone(), answer.name.clone());
            writing.spawn(async move { (name, keep(&lake, &table, &rows, &origin).await) });
        }
        let (name, title) = (answer.name.clone(), answer.title.clone());
        answers.push(AnswerResult { name, title, rows, kept: Kept::No });
    }
    while let Some(done) = writing.join_next().await {
        let (name, kept) =
            done.map_err(|error| Error::Internal(format!("writing an answer ended: {error}")))?;
        match kept {
            Ok(kept) => {
                if let Some(answer) = answers.iter_mut().find(|answer| answer.name == name) {
                    answer.kept = kept;
                }
            }
            Err(error @ Error::Lake(_)) => {
                let failed = wanted.iter().filter(|answer| answer.name == name);
                failures.extend(failed.map(|answer| AnswerFailure::new(answer, &error)));
            }
            Err(error) => return Err(error),
        }
    }
    failures.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(AnswerReport { run, tables, answers, failures, seconds: started.elapsed().as_secs_f64() })
}

/// Runs a query over the tables and views as they are now.
///
/// # Errors
/// [`Error::Engine`] when it cannot be planned; [`Error::Lake`].
pub async fn sql(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    half: Half,
    query: &str,
) -> Result<QueryResult> {
    register_tables(pipeline, engine, lake, half).await?;
    Ok(engine.query(query).await?)
}

/// Registers `<dataset>_all` and `<dataset>` for every dataset, and gives the version of each table. A dataset that
/// was never cleaned is an empty table.
///
/// # Errors
/// [`Error::Engine`], [`Error::Lake`].
pub async fn register_tables(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    half: Half,
) -> Result<BTreeMap<String, u64>> {
    register(pipeline, engine, lake, half).await.map(|read| versions(&read))
}

/// [`register_tables`], with what tells each table from one that is made again under its name.
async fn register(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    lake: &Lake,
    half: Half,
) -> Result<BTreeMap<String, TableVersion>> {
    let mut read = BTreeMap::new();
    for dataset in &pipeline.datasets {
        let version = register_table(dataset, engine, lake, half).await?;
        read.extend(version.map(|version| (dataset.name.clone(), version)));
    }
    Ok(read)
}

fn versions(read: &BTreeMap<String, TableVersion>) -> BTreeMap<String, u64> {
    read.iter().map(|(dataset, table)| (dataset.clone(), table.version)).collect()
}

async fn register_table(
    dataset: &Dataset,
    engine: &dyn Engine,
    lake: &Lake,
    half: Half,
) -> Result<Option<TableVersion>> {
    let Some(table) = Table::open(lake, &half.table(&dataset.name)).await? else {
        let schema = engine.cleaner(dataset).await?.schema();
        engine.register_dataset(dataset, schema, Rows::Memory(Vec::new()), None).await?;
        return Ok(None);
    };
    register_rows(dataset, engine, lake, &table).await?;
    Ok(Some(table.as_origin()?))
}

/// Registers a dataset over the rows that its table has as of this view.
pub(crate) async fn register_rows(
    dataset: &Dataset,
    engine: &dyn Engine,
    lake: &Lake,
    table: &Table,
) -> Result<()> {
    let mut files = Vec::new();
    for file in table.files()? {
        let Some(rows) = file.rows else {
            return Err(Error::NoStatistics { table: table.name().to_owned(), file: file.path.to_string() });
        };
        files.push(ParquetFile { path: file.path, size: file.size, rows });
    }
    let mut url = lake.url().clone();
    url.set_path("/");
    let rows = Rows::Parquet { url, store: Arc::clone(lake.store()), files };
    engine.register_dataset(dataset, Arc::clone(table.schema()), rows, table.unnamed_topic()).await?;
    Ok(())
}

fn select<'a>(pipeline: &'a Pipeline, names: &[String]) -> Result<Vec<&'a Answer>> {
    if names.is_empty() {
        return Ok(pipeline.answers.iter().collect());
    }
    for name in names {
        if pipeline.answer(name).is_none() {
            let known: Vec<&str> = pipeline.answers.iter().map(|answer| answer.name.as_str()).collect();
            return Err(Error::Unknown { kind: "answer", name: name.clone(), known: known.join(", ") });
        }
    }
    Ok(pipeline.answers.iter().filter(|answer| names.contains(&answer.name)).collect())
}

/// What an answer's history says of where its rows come from: the run, and the version of each table.
fn recorded(run: &str, tables: &BTreeMap<String, u64>) -> String {
    let versions: Vec<String> = tables.iter().map(|(name, version)| format!("{name}@{version}")).collect();
    match versions.is_empty() {
        true => run.to_owned(),
        false => format!("{run} from {}", versions.join(", ")),
    }
}

/// How often an answer is looked at again because another run replaced it meanwhile.
const ATTEMPTS: u32 = 5;

/// Replaces an answer's table, unless it holds these rows already, or newer ones.
async fn keep(lake: &Lake, name: &str, rows: &RecordBatch, origin: &Origin) -> Result<Kept> {
    for _ in 0..ATTEMPTS {
        let Some(mut table) = Table::open(lake, name).await? else { break };
        if !holds(&table, rows).await? {
            break;
        }
        match table.confirm(origin).await {
            Ok(()) => return Ok(Kept::Unchanged),
            Err(pinmill_lake::Error::Fenced { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let batches = std::slice::from_ref(rows);
    let kept = match Table::overwrite_from(lake, name, rows.schema_ref(), batches, origin).await? {
        Overwritten::Written(_) => Kept::Written,
        Overwritten::Newer(_) => Kept::Newer,
    };
    crash_point("flow::answer::written")?;
    Ok(kept)
}

/// Whether a table has these rows and no others.
async fn holds(table: &Table, rows: &RecordBatch) -> Result<bool> {
    let Some(plain) = plain(rows, table.schema()) else { return Ok(false) };
    let there = concat_batches(table.schema(), &table.rows().await?);
    Ok(there.is_ok_and(|there| there == plain))
}

/// The rows in the types that a table has them in; `None` where the table has other columns.
fn plain(rows: &RecordBatch, table: &Arc<Schema>) -> Option<RecordBatch> {
    let wanted = table_schema(rows.schema_ref()).ok()?;
    if wanted.fields() != table.fields() {
        return None;
    }
    let columns =
        rows.columns().iter().zip(table.fields()).map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(table), columns.collect::<Result<_, _>>().ok()?).ok()
}
