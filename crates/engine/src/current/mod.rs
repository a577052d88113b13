//! The current view: of all records, the newest of each key.
//!
//! Only the key and the narrow columns that say where a row comes from are read to find out which rows those are; the
//! columns that a query wants are then read of the chosen rows alone. Which rows they are is found once for a
//! registered table, and shared by all its queries. A table with too many keys for the memory pool is viewed by a plain
//! SQL query instead, which spills.

mod keys;
mod winners;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_datafusion_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder, col, lit, when};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use futures::StreamExt;
use parking_lot::RwLock;
use tokio::sync::OnceCell;

pub use self::winners::FIRST_DIRECTORY;
use crate::decode::{INGESTED_AT, LINEAGE, OFFSET, PARTITION, SUB, TOPIC};
use crate::table::{ParquetTable, Sharing, Source};

/// A view is kept in no more than one part in this many of the memory pool, so that queries have the most of it.
const KEPT_PART: usize = 8;

/// Bit masks of the chosen rows, one a file or batch; the memory for them is reserved while they live.
#[derive(Debug)]
struct Chosen {
    masks: Vec<BooleanBuffer>,
    _memory: MemoryReservation,
}

/// Columns of the view kept in memory.
#[derive(Debug)]
struct Kept {
    columns: Vec<usize>,
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

/// A dataset's current view.
#[derive(Debug)]
pub(crate) struct CurrentView {
    key: String,
    all: Arc<Source>,
    /// The topic of rows that name none.
    unnamed: Option<String>,
    /// `None` inside: too many keys for the memory there is.
    chosen: OnceCell<Option<Arc<Chosen>>>,
    kept: RwLock<Option<Arc<Kept>>>,
}

impl CurrentView {
    pub(crate) fn new(key: &str, all: Arc<Source>, unnamed: Option<&str>) -> Self {
        let (key, unnamed) = (key.to_owned(), unnamed.map(str::to_owned));
        Self { key, all, unnamed, chosen: OnceCell::new(), kept: RwLock::new(None) }
    }

    /// Reads columns of the view into memory, if they fit into a part of it: later queries of them read no file.
    pub(crate) async fn keep(&self, state: &SessionState, columns: &[usize]) -> Result<()> {
        if columns.is_empty() || self.kept_plan(columns)?.is_some() || self.chosen(state).await?.is_none() {
            return Ok(());
        }
        let plan = self.scan(state, Some(&columns.to_vec()), &[], None).await?;
        let memory = keys::reservation(state, "current view");
        let most = match state.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / KEPT_PART,
            _ => usize::MAX,
        };
        let mut batches = Vec::new();
        for mut stream in execute_stream_partitioned(plan, state.task_ctx())? {
            while let Some(batch) = stream.next().await.transpose()? {
                let batch = compact(&batch)?;
                let bytes = batch.get_array_memory_size();
                if memory.size() + bytes > most || memory.try_grow(bytes).is_err() {
                    tracing::debug!(key = %self.key, "a current view is too large to be kept in memory");
                    return Ok(());
                }
                batches.push(batch);
            }
        }
        *self.kept.write() = Some(Arc::new(Kept { columns: columns.to_vec(), batches, _memory: memory }));
        Ok(())
    }

    /// A scan of kept columns, if they are all kept.
    fn kept_plan(&self, columns: &[usize]) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(kept) = self.kept.read().clone() else { return Ok(None) };
        let places: Option<Vec<usize>> =
            columns.iter().map(|column| kept.columns.iter().position(|kept| kept == column)).collect();
        let Some(places) = places else { return Ok(None) };
        let schema = Arc::new(self.all.schema().project(&kept.columns)?);
        Ok(Some(MemorySourceConfig::try_new_exec(std::slice::from_ref(&kept.batches), schema, Some(places))?))
    }

    async fn chosen(&self, state: &SessionState) -> Result<Option<Arc<Chosen>>> {
        let find = || async {
            let found = keys::choose(state, &self.key, &self.all, self.unnamed.as_deref()).await?;
            Ok::<_, DataFusionError>(found.map(|(masks, memory)| Arc::new(Chosen { masks, _memory: memory })))
        };
        self.chosen.get_or_try_init(find).await.cloned()
    }

    /// The same rows by a plain query, which spills where memory is short.
    async fn plain(&self, state: &SessionState, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.all.schema();
        let column = |name: &str| col(datafusion::common::Column::from_name(name));
        let (key, partition, ingested_at) = (column(&self.key), column(PARTITION), column(INGESTED_AT));
        // A table of 0.1 has none of these; its rows in a table of today are NULL there.
        let or = |name: &str, default: Expr| match schema.index_of(name) {
            Ok(_) => coalesce(vec![column(name), default]),
            Err(_) => default,
        };
        let lineage = or(LINEAGE, lit(0));
        // As `winners` has it: directories of another sink rank alike, in a place of their own.
        let is_directory = lineage.clone().gt_eq(lit(FIRST_DIRECTORY));
        let life = when(is_directory.clone(), lit(0)).otherwise(lineage.clone())?;
        let computed = [
            (or(TOPIC, lit(ScalarValue::Utf8(self.unnamed.clone()))), "_place_topic"),
            (is_directory, "_place_directory"),
            (life, "_place_life"),
            (or(SUB, lit(0)), "_place_sub"),
            (lineage, "_place_lineage"),
        ];
        // Columns of their own: DataFusion 55 does not always know an expression again that it has sorted by.
        let given = schema.fields().iter().map(|field| column(field.name()));
        let given = given.chain(computed.map(|(expr, name)| expr.alias(name)));
        let newest = |by: &[&Expr], order: &[&Expr]| {
            let order = order.iter().map(|expr| (*expr).clone().sort(false, false)).collect();
            row_number().partition_by(by.iter().map(|expr| (*expr).clone()).collect()).order_by(order).build()
        };
        let (topic, directory) = (column("_place_topic"), column("_place_directory"));
        let (life, offset, sub) = (column("_place_life"), column(OFFSET), column("_place_sub"));
        let in_place = newest(
            &[&key, &topic, &partition, &directory],
            &[&life, &offset, &sub, &ingested_at, &column("_place_lineage")],
        )?;
        let overall = newest(&[&key], &[&ingested_at, &topic, &partition, &directory])?;
        let one = |name: &str| col(name).eq(lit(1_u64));
        let wanted = columns.iter().map(|index| column(schema.field(*index).name()));
        let all: Arc<dyn TableProvider> = Arc::clone(&self.all) as _;
        let plan = LogicalPlanBuilder::scan("all", provider_as_source(all), None)?
            .filter(key.clone().is_not_null())?
            .project(given)?
            .window(vec![in_place.alias("_rank_in_place")])?
            .filter(one("_rank_in_place"))?
            .window(vec![overall.alias("_rank")])?
            .filter(one("_rank"))?
            .project(wanted)?
            .build()?;
        state.create_physical_plan(&plan).await
    }
}

#[async_trait]
impl TableProvider for CurrentView {
    fn schema(&self) -> SchemaRef {
        self.all.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema().fields().len()).collect());
        if let Some(plan) = self.kept_plan(&columns)? {
            return Ok(plan);
        }
        let state = state
            .as_any()
            .downcast_ref::<SessionState>()
            .ok_or_else(|| plan_datafusion_err!("a current view needs a DataFusion session"))?;
        let Some(chosen) = self.chosen(state).await? else { return self.plain(state, &columns).await };
        match self.all.as_ref() {
            Source::Parquet(table) => scan_chosen(table, &columns, &chosen.masks),
            Source::Memory(table) => {
                let filtered: Result<Vec<RecordBatch>> = table
                    .batches
                    .iter()
                    .zip(&chosen.masks)
                    .map(|(batch, mask)| {
                        let batch = batch.project(&columns)?;
                        Ok(filter_record_batch(&batch, &BooleanArray::new(mask.clone(), None))?)
                    })
                    .collect();
                let schema = Arc::new(self.schema().project(&columns)?);
                Ok(MemorySourceConfig::try_new_exec(&[filtered?], schema, None)?)
            }
        }
    }
}

/// The same rows without the rest of the pages that their text lay in.
fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let compacted = batch.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(texts) => Arc::new(texts.gc()) as ArrayRef,
        None => Arc::clone(column),
    });
    Ok(RecordBatch::try_new(batch.schema(), compacted.collect())?)
}

/// A scan of the chosen rows of Parquet files; files without one are left out.
fn scan_chosen(
    table: &ParquetTable,
    columns: &[usize],
    masks: &[BooleanBuffer],
) -> Result<Arc<dyn ExecutionPlan>> {
    let files = table.files.iter().zip(masks).filter(|(_, mask)| mask.count_set_bits() > 0);
    let files = files.map(|(file, mask)| file.partitioned_of_rows(mask.clone())).collect();
    table.scan_files(vec![files], columns, Sharing::WhereIdle)
}
