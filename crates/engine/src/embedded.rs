//! The engine in this process: DataFusion.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::common::runtime::JoinSet;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use parking_lot::RwLock;
use pinmill_pipeline::{Answer, Dataset, Pipeline, Problems, sql};

use crate::clean::{CleanPlan, SqlCleaner};
use crate::current::CurrentView;
use crate::error::{Error, Result};
use crate::table::{Rows, Source, Table};
use crate::{Cleaner, Engine, QueryResult, answers, limits, session};

/// What an [`EmbeddedEngine`] may use.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Memory for queries, in bytes; what needs more is spilled to files. Default 1 GiB.
    pub memory_bytes: usize,
    /// Where spilled files go; `None` is the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
    /// How many threads a query may keep busy; `None` is one a core.
    pub parallelism: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, spill_dir: None, parallelism: None }
    }
}

/// DataFusion with Spark's functions, bounded memory, and spilling.
pub struct EmbeddedEngine {
    context: SessionContext,
    runtime: Arc<RuntimeEnv>,
    /// The current views that are registered, by dataset.
    views: RwLock<HashMap<String, Arc<CurrentView>>>,
}

impl std::fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedEngine").finish_non_exhaustive()
    }
}

impl EmbeddedEngine {
    /// An engine without tables.
    ///
    /// # Errors
    /// [`Error::Query`] when the spill folder cannot be used.
    pub fn new(config: &EngineConfig) -> Result<Self> {
        let spill = match &config.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let failed = |error| Error::query("cannot set up the engine", error);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(config.memory_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .build_arc()
            .map_err(failed)?;
        let parallelism =
            config.parallelism.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
        let state = session::spark_state(Arc::clone(&runtime), parallelism.unwrap_or(1)).map_err(failed)?;
        Ok(Self { context: SessionContext::new_with_state(state), runtime, views: RwLock::default() })
    }

    fn put(&self, name: &str, provider: Arc<dyn TableProvider>) -> Result<()> {
        let failed = |error| Error::query(format!("cannot register table `{name}`"), error);
        let reference = datafusion::common::TableReference::bare(name);
        self.context.deregister_table(reference.clone()).map_err(failed)?;
        self.context.register_table(reference, provider).map_err(failed)?;
        Ok(())
    }

    fn source(&self, schema: SchemaRef, rows: Rows) -> Result<Arc<Source>> {
        if let Rows::Parquet { url, store, .. } = &rows {
            self.runtime.register_object_store(url, Arc::clone(store));
        }
        Source::new(schema, rows).map(Arc::new)
    }

    async fn run(&self, text: &str, what: &str) -> Result<QueryResult> {
        let failed = |error| Error::query(what, error);
        let statement =
            sql::parse_statement(text).map_err(|error| failed(DataFusionError::Plan(error.message)))?;
        let state = self.context.state();
        let plan = session::plan(&state, statement).await.map_err(failed)?;
        let stream = limits::on_large_stack(async {
            let frame = self.context.execute_logical_plan(plan).await?;
            frame.execute_stream().await
        });
        let stream = stream.await.map_err(failed)?;
        let what = what.to_owned();
        let schema = stream.schema();
        let batches = stream.map_err(move |error| Error::query(what.clone(), error)).boxed();
        Ok(QueryResult { schema, batches })
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn cleaner(&self, dataset: &Dataset) -> Result<Box<dyn Cleaner>> {
        let state = session::spark_state(Arc::clone(&self.runtime), 1)
            .map_err(|error| Error::query("cannot set up the cleaner", error))?;
        let plan = CleanPlan::new(state, dataset).await.map_err(Error::Invalid)?;
        Ok(Box::new(SqlCleaner::new(plan)))
    }

    async fn validate(&self, pipeline: &Pipeline) -> Problems {
        crate::validate::validate(&self.runtime, pipeline).await
    }

    async fn register(&self, table: Table) -> Result<()> {
        self.put(&table.name, self.source(table.schema, table.rows)?)
    }

    async fn register_dataset(&self, dataset: &Dataset, schema: SchemaRef, rows: Rows) -> Result<()> {
        let all = self.source(schema, rows)?;
        self.put(&dataset.all_view(), Arc::clone(&all) as _)?;
        let current = Arc::new(CurrentView::new(&dataset.key, all));
        self.views.write().insert(dataset.name.clone(), Arc::clone(&current));
        self.put(&dataset.name, current)
    }

    async fn query(&self, sql: &str) -> Result<QueryResult> {
        self.run(sql, "the query failed").await
    }

    async fn answer(&self, answer: &Answer) -> Result<RecordBatch> {
        let what = format!("answer {} failed", answer.name);
        let QueryResult { schema, mut batches } = self.run(&answer.source.text, &what).await?;
        let columns =
            answers::columns(&schema).map_err(|misfit| Error::Shape(format!("{what}: {misfit}")))?;
        // An answer is held as a whole, so it counts as memory of the query.
        let held = MemoryConsumer::new("rows of an answer").register(&self.runtime.memory_pool);
        let mut rows = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            held.try_grow(get_record_batch_memory_size(&batch))
                .map_err(|error| Error::query(&what, error))?;
            rows.push(batch);
        }
        let rows = concat_batches(&schema, &rows)?;
        answers::given(&rows, &columns).map_err(|error| Error::Shape(format!("{what}: {error}")))
    }

    async fn prepare(&self, answers: &[&Answer]) -> Result<()> {
        let state = self.context.state();
        let mut wanted: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for answer in answers {
            // An answer that cannot be planned says so when it is asked for.
            let Ok(statement) = sql::parse_statement(&answer.source.text) else { continue };
            let Ok(plan) = session::plan(&state, statement).await else { continue };
            limits::on_large_stack(async {
                if let Ok(plan) = state.optimize(&plan) {
                    columns_read(&plan, &mut wanted);
                }
            })
            .await;
        }
        let mut tasks = JoinSet::new();
        for (name, columns) in wanted {
            let Some(view) = self.views.read().get(&name).map(Arc::clone) else { continue };
            let (state, columns) = (state.clone(), columns.into_iter().collect::<Vec<_>>());
            tasks.spawn(async move {
                let kept = view.keep(&state, &columns).await;
                kept.map_err(|error| Error::query(format!("cannot read the current view `{name}`"), error))
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| Error::Shape(format!("reading a current view ended: {error}")))??;
        }
        Ok(())
    }
}

/// The columns that an optimised plan reads of each table.
fn columns_read(plan: &LogicalPlan, columns: &mut BTreeMap<String, BTreeSet<usize>>) {
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let all = || (0..scan.source.schema().fields().len()).collect();
            let read = scan.projection.clone().unwrap_or_else(all);
            columns.entry(scan.table_name.table().to_owned()).or_default().extend(read);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}
