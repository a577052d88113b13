//! Reading the columns that decide which record is the newest.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use super::winners::{Candidate, Winners};
use crate::decode::POSITION_COLUMNS;
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
) -> Result<Option<(Vec<BooleanBuffer>, MemoryReservation)>> {
    let schema = all.schema();
    let columns: Result<Vec<usize>> = std::iter::once(key)
        .chain(POSITION_COLUMNS)
        .map(|name| schema.index_of(name).map_err(DataFusionError::from))
        .collect();
    let columns = columns?;
    let key_type = columns.first().map(|column| schema.field(*column).data_type().clone());
    match key_type {
        Some(DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            choose_by(state, all, &columns, || Ok(integers)).await
        }
        Some(other) => {
            choose_by(state, all, &columns, || {
                let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
                Ok(move |keys: &ArrayRef| encoded(&converter, keys))
            })
            .await
        }
        None => Ok(None),
    }
}

fn integers(keys: &ArrayRef) -> Result<Vec<i64>> {
    let keys = arrow::compute::cast(keys, &DataType::Int64)?;
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
    columns: &[usize],
    make: M,
) -> Result<Option<(Vec<BooleanBuffer>, MemoryReservation)>>
where
    K: std::hash::Hash + Eq + Send + 'static,
    F: Fn(&ArrayRef) -> Result<Vec<K>> + Send + 'static,
    M: Fn() -> Result<F>,
{
    let plan = all.parts(columns)?;
    let parts = plan.count;
    let workers = state.config().target_partitions().clamp(1, parts.max(1));
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let (plan, context, keys) = (Arc::clone(&plan.plan), state.task_ctx(), make()?);
        let memory = reservation(state, "keys of a current view");
        let mine = (worker..parts).step_by(workers).collect();
        tasks.spawn(async move { read_parts(plan, context, mine, keys, memory).await });
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
    keys: impl Fn(&ArrayRef) -> Result<Vec<K>>,
    memory: MemoryReservation,
) -> Result<Option<Found<K>>> {
    let mut winners = Winners::new();
    let mut rows = Vec::with_capacity(parts.len());
    for part in parts {
        let mut stream = plan.execute(part, Arc::clone(&context))?;
        let mut row = 0;
        while let Some(batch) = stream.next().await.transpose()? {
            add(&mut winners, &batch, part, row, &keys)?;
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
    part: usize,
    first_row: usize,
    keys: &impl Fn(&ArrayRef) -> Result<Vec<K>>,
) -> Result<()> {
    let [key, partitions, offsets, times] = batch.columns() else {
        return Err(exec_datafusion_err!("a table has no key or no position columns"));
    };
    let partitions = partitions.as_primitive::<Int32Type>().values();
    let offsets = offsets.as_primitive::<Int64Type>().values();
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let too_large = || exec_datafusion_err!("a file of a table has too many rows");
    let part = u32::try_from(part).map_err(|_| too_large())?;
    let first_row =
        u32::try_from(first_row + batch.num_rows()).map_err(|_| too_large())? as usize - batch.num_rows();
    let positions = partitions.iter().zip(offsets).zip(times);
    for (row, (found, ((partition, offset), time))) in keys(key)?.into_iter().zip(positions).enumerate() {
        // A record without a key is about nothing.
        if key.is_valid(row) {
            #[allow(clippy::cast_possible_truncation, reason = "first_row and the batch's rows fit together")]
            let row = (first_row + row) as u32;
            winners.add(found, *partition, Candidate { offset: *offset, ingested_at: *time, part, row });
        }
    }
    Ok(())
}
