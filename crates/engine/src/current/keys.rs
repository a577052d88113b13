//! Reading the columns that decide which record is the newest.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, StringViewArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use super::winners::{Candidate, Winners, is_directory};
use crate::decode::{INGESTED_AT, LINEAGE, OFFSET, PARTITION, SUB, TOPIC};
use crate::table::Source;

/// A reservation in the session's memory pool.
pub(super) fn reservation(state: &SessionState, what: &str) -> MemoryReservation {
    MemoryConsumer::new(what).register(&state.runtime_env().memory_pool)
}

/// Bit masks of the newest row of each key, one a file or batch; `None` when the keys do not fit into memory.
pub(super) async fn choose(
    state: &SessionState,
    key: &str,
    all: &Arc<Source>,
    unnamed: Option<&str>,
) -> Result<Option<(Vec<BooleanBuffer>, MemoryReservation)>> {
    let schema = all.schema();
    let wanted = Wanted::of(&schema, key, unnamed)?;
    match schema.field_with_name(key)?.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            choose_by(state, all, &wanted, || Ok(integers)).await
        }
        other => {
            choose_by(state, all, &wanted, || {
                let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
                Ok(move |keys: &ArrayRef| encoded(&converter, keys))
            })
            .await
        }
    }
}

/// What is read to find out which rows are the newest.
#[derive(Debug, Clone)]
struct Wanted {
    /// Indices in the table: the key, partition, offset and time, then what is there of the others.
    columns: Vec<usize>,
    /// Where these stand in what is read; a table of 0.1 has none of them.
    topic: Option<usize>,
    lineage: Option<usize>,
    sub: Option<usize>,
    /// The topic of rows that name none.
    unnamed: Option<String>,
}

impl Wanted {
    fn of(schema: &SchemaRef, key: &str, unnamed: Option<&str>) -> Result<Self> {
        let columns: Result<Vec<usize>> = [key, PARTITION, OFFSET, INGESTED_AT]
            .into_iter()
            .map(|name| schema.index_of(name).map_err(DataFusionError::from))
            .collect();
        let mut columns = columns?;
        let mut add = |name: &str| {
            columns.push(schema.index_of(name).ok()?);
            Some(columns.len() - 1)
        };
        let (topic, lineage, sub) = (add(TOPIC), add(LINEAGE), add(SUB));
        Ok(Self { columns, topic, lineage, sub, unnamed: unnamed.map(str::to_owned) })
    }
}

fn integers(keys: &ArrayRef) -> Result<Vec<i64>> {
    let keys = cast(keys, &DataType::Int64)?;
    Ok(keys.as_primitive::<Int64Type>().values().to_vec())
}

fn encoded(converter: &RowConverter, keys: &ArrayRef) -> Result<Vec<OwnedRow>> {
    let rows = converter.convert_columns(&[Arc::clone(keys)])?;
    Ok(rows.iter().map(|row| row.owned()).collect())
}

/// Memory beside the table that one key may take.
const KEY_BYTES: usize = 64;

async fn choose_by<K, F, M>(
    state: &SessionState,
    all: &Arc<Source>,
    wanted: &Wanted,
    make: M,
) -> Result<Option<(Vec<BooleanBuffer>, MemoryReservation)>>
where
    K: std::hash::Hash + Eq + Send + 'static,
    F: Fn(&ArrayRef) -> Result<Vec<K>> + Send + 'static,
    M: Fn() -> Result<F>,
{
    let plan = all.parts(&wanted.columns)?;
    let parts = plan.count;
    let workers = state.config().target_partitions().clamp(1, parts.max(1));
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let (plan, context, keys) = (Arc::clone(&plan.plan), state.task_ctx(), make()?);
        let memory = reservation(state, "keys of a current view");
        let (mine, wanted) = ((worker..parts).step_by(workers).collect(), wanted.clone());
        tasks.spawn(async move { read_parts(plan, context, mine, (keys, wanted), memory).await });
    }
    let mut winners = Winners::new();
    let mut rows = vec![0; parts];
    let memory = reservation(state, "keys of a current view");
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| exec_datafusion_err!("reading keys ended: {error}"))??;
        let Some(found) = done else { return Ok(None) };
        for (part, count) in found.rows {
            if let Some(rows) = rows.get_mut(part) {
                *rows = count;
            }
        }
        winners.merge(found.winners);
        if memory.try_resize(winners.table_bytes()).is_err() {
            return Ok(None);
        }
    }
    let masks: Vec<BooleanBuffer> =
        winners.select(&rows).into_iter().map(super::winners::Rows::into_mask).collect();
    memory.resize(rows.iter().sum::<usize>() / 8);
    Ok(Some((masks, memory)))
}

/// What one task found.
struct Found<K> {
    winners: Winners<K>,
    rows: Vec<(usize, usize)>,
    _memory: MemoryReservation,
}

/// Reads some parts in order; `None` when the memory does not suffice.
async fn read_parts<K: std::hash::Hash + Eq>(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    parts: Vec<usize>,
    (keys, wanted): (impl Fn(&ArrayRef) -> Result<Vec<K>>, Wanted),
    memory: MemoryReservation,
) -> Result<Option<Found<K>>> {
    let mut winners = Winners::new();
    let mut rows = Vec::with_capacity(parts.len());
    for part in parts {
        let mut stream = plan.execute(part, Arc::clone(&context))?;
        let mut row = 0;
        while let Some(batch) = stream.next().await.transpose()? {
            add(&mut winners, &batch, &wanted, (part, row), &keys)?;
            row += batch.num_rows();
            if memory.try_resize(winners.table_bytes() + winners.len() * KEY_BYTES).is_err() {
                return Ok(None);
            }
        }
        rows.push((part, row));
    }
    Ok(Some(Found { winners, rows, _memory: memory }))
}

fn add<K: std::hash::Hash + Eq>(
    winners: &mut Winners<K>,
    batch: &RecordBatch,
    wanted: &Wanted,
    (part, first_row): (usize, usize),
    keys: &impl Fn(&ArrayRef) -> Result<Vec<K>>,
) -> Result<()> {
    let [key, partitions, offsets, times, ..] = batch.columns() else {
        return Err(exec_datafusion_err!("a table has no key or no position columns"));
    };
    let partitions = partitions.as_primitive::<Int32Type>().values();
    let offsets = offsets.as_primitive::<Int64Type>().values();
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let topics = Topics::of(wanted.topic.map(|column| batch.column(column)))?;
    let number =
        |column: Option<usize>| column.map(|column| batch.column(column).as_primitive::<Int32Type>());
    let (lineages, subs) = (number(wanted.lineage), number(wanted.sub));
    let too_large = || exec_datafusion_err!("a file of a table has too many rows");
    let part = u32::try_from(part).map_err(|_| too_large())?;
    let first_row =
        u32::try_from(first_row + batch.num_rows()).map_err(|_| too_large())? as usize - batch.num_rows();
    let positions = partitions.iter().zip(offsets).zip(times);
    // Rows of one place mostly stand together.
    let mut last: Option<(Option<&str>, i32, bool, u32)> = None;
    for (row, (found, ((partition, offset), time))) in keys(key)?.into_iter().zip(positions).enumerate() {
        // A record without a key is about nothing.
        if key.is_null(row) {
            continue;
        }
        let topic = topics.name(row).or(wanted.unnamed.as_deref());
        let (lineage, sub) = (or_zero(lineages, row), or_zero(subs, row));
        let directory = is_directory(lineage);
        let place = match last {
            Some((known, of, beside, place)) if (known, of, beside) == (topic, *partition, directory) => {
                place
            }
            _ => winners.places.number(topic, *partition, directory),
        };
        last = Some((topic, *partition, directory, place));
        #[allow(clippy::cast_possible_truncation, reason = "first_row and the batch's rows fit together")]
        let row = (first_row + row) as u32;
        winners.add(found, place, Candidate { lineage, offset: *offset, sub, ingested_at: *time, part, row });
    }
    Ok(())
}

fn or_zero(column: Option<&Int32Array>, row: usize) -> i32 {
    column.filter(|column| column.is_valid(row)).map_or(0, |column| column.value(row))
}

/// The names of the topics that rows are of, in whichever form they come.
enum Topics {
    None,
    Plain(StringArray),
    Views(StringViewArray),
}

impl Topics {
    fn of(column: Option<&ArrayRef>) -> Result<Self> {
        let Some(column) = column else { return Ok(Self::None) };
        if let Some(names) = column.as_string_opt::<i32>() {
            return Ok(Self::Plain(names.clone()));
        }
        Ok(Self::Views(cast(column, &DataType::Utf8View)?.as_string_view().clone()))
    }

    fn name(&self, row: usize) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Plain(names) => names.is_valid(row).then(|| names.value(row)),
            Self::Views(names) => names.is_valid(row).then(|| names.value(row)),
        }
    }
}
