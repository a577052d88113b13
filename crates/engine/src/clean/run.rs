//! Running a [`CleanPlan`] over batches: failing rows are found by halving, violations are told by reason.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use pinmill_pipeline::Action;

use super::CleanPlan;
use crate::decode::{OFFSET, PARTITION, ROW_COLUMN, Rejected};
use crate::error::{Error, Result, shown};
use crate::{Cleaned, Cleaner, limits};

/// How much of the reason of SQL that failed is kept.
const REASON_CHARS: usize = 500;
/// Bytes that the rows of a batch may have together. A batch that gives more is cleaned in parts.
const MAX_BYTES: usize = 256 << 20;

/// Runs a plan.
#[derive(Debug)]
pub(crate) struct SqlCleaner {
    plan: CleanPlan,
    /// The plan's full schema, and a BOOLEAN for each expectation.
    judged: SchemaRef,
}

impl SqlCleaner {
    pub(crate) fn new(plan: CleanPlan) -> Self {
        let verdicts = plan.expectations.iter().enumerate();
        let verdicts = verdicts
            .map(|(index, _)| Arc::new(Field::new(format!("verdict {index}"), DataType::Boolean, true)));
        let judged = Schema::new(plan.full.fields().iter().cloned().chain(verdicts).collect::<Vec<_>>());
        Self { judged: Arc::new(judged), plan }
    }

    /// The full rows of a batch and the verdicts on them; one bad row fails them all.
    fn judge(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let judge = || {
            let rows = self.plan.steps.run(batch)?;
            let mut columns = Vec::with_capacity(self.judged.fields().len());
            for (column, field) in rows.columns().iter().zip(self.plan.full.fields()) {
                // A value that does not fit is an error, never NULL.
                let options = CastOptions { safe: false, ..CastOptions::default() };
                columns.push(match column.data_type() == field.data_type() {
                    true => Arc::clone(column),
                    false => cast_with_options(column, field.data_type(), &options)?,
                });
            }
            let full = RecordBatch::try_new(Arc::clone(&self.plan.full), columns)?;
            let mut columns = full.columns().to_vec();
            for verdict in &self.plan.expectations {
                columns.extend(verdict.steps.run(&full)?.columns().first().cloned());
            }
            Ok(RecordBatch::try_new(Arc::clone(&self.judged), columns)?)
        };
        match catch_unwind(AssertUnwindSafe(judge)) {
            Ok(result) => result.map_err(|error: datafusion::common::DataFusionError| {
                // It may name a value of any length.
                let why = shown(&error.find_root().strip_backtrace(), REASON_CHARS);
                format!("{} failed: {why}", self.plan.clean_file)
            }),
            Err(panic) => {
                let why = shown(&panic_message(panic.as_ref()), REASON_CHARS);
                Err(format!("{} failed: {why}", self.plan.clean_file))
            }
        }
    }

    /// Judges a batch; where that fails, its halves, down to the rows that fail by themselves (invariant I8).
    fn judge_all(&self, batch: &RecordBatch, rejected: &mut Vec<Rejected>) -> Result<RecordBatch> {
        let (mut good, mut bytes) = (Vec::new(), 0);
        let mut todo = vec![batch.clone()];
        while let Some(part) = todo.pop() {
            match self.judge(&part) {
                Ok(rows) => {
                    bytes += made_bytes(&rows);
                    if bytes > MAX_BYTES && batch.num_rows() > 1 {
                        return Err(Error::TooLarge { dataset: self.plan.dataset.clone() });
                    }
                    good.push(rows);
                }
                Err(reason) if part.num_rows() <= 1 => {
                    rejected.extend(
                        rows_of(&part)?.into_iter().map(|row| Rejected { row, reason: reason.clone() }),
                    );
                }
                Err(_) => {
                    let half = part.num_rows() / 2;
                    todo.push(part.slice(half, part.num_rows() - half));
                    todo.push(part.slice(0, half));
                }
            }
        }
        match good.as_slice() {
            [all] => Ok(all.clone()),
            parts => Ok(concat_batches(&self.judged, parts)?),
        }
    }

    /// Splits judged rows by the verdicts on them.
    fn split(
        &self,
        judged: &RecordBatch,
        rejected: &mut Vec<Rejected>,
    ) -> Result<(RecordBatch, Vec<(String, u64)>)> {
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        let mut warned = Vec::new();
        let first = self.plan.full.fields().len();
        for (index, verdict) in self.plan.expectations.iter().enumerate() {
            let condition = judged.column(first + index).as_boolean();
            let violated = violated(condition);
            match (verdict.action, violated.first()) {
                (_, None) => {}
                (Action::Warn, _) => warned.push((verdict.name.clone(), violated.len() as u64)),
                (Action::Stop, Some(row)) => return Err(self.stopped(verdict, judged, *row)),
                (Action::Quarantine, _) => {
                    for row in violated {
                        let reason = verdict.reason.fill(judged, row);
                        reasons
                            .entry(row)
                            .and_modify(|all| *all = format!("{all}; {reason}"))
                            .or_insert(reason);
                    }
                }
            }
        }
        let mut rows = judged.clone();
        if !reasons.is_empty() {
            let keep: BooleanArray =
                (0..rows.num_rows()).map(|row| Some(!reasons.contains_key(&row))).collect();
            let numbers = rows_of(judged)?;
            rejected.extend(
                reasons.into_iter().filter_map(|(index, reason)| {
                    numbers.get(index).map(|row| Rejected { row: *row, reason })
                }),
            );
            rows = filter_record_batch(&rows, &keep)?;
        }
        Ok((rows.project(&self.plan.stored)?, warned))
    }

    fn stopped(&self, verdict: &super::Verdict, judged: &RecordBatch, row: usize) -> Error {
        let partition = judged.column_by_name(PARTITION).map(|c| c.as_primitive::<Int32Type>().value(row));
        let offset = judged.column_by_name(OFFSET).map(|c| c.as_primitive::<Int64Type>().value(row));
        Error::Stopped {
            dataset: self.plan.dataset.clone(),
            expectation: verdict.name.clone(),
            reason: verdict.reason.fill(judged, row),
            partition: partition.unwrap_or(-1),
            offset: offset.unwrap_or(-1),
        }
    }
}

impl Cleaner for SqlCleaner {
    fn clean(&mut self, raw: &RecordBatch) -> Result<Cleaned> {
        if raw.schema_ref().fields() != self.plan.raw.fields() {
            return Err(Error::Shape(format!(
                "a batch is not of the raw schema of dataset `{}`",
                self.plan.dataset
            )));
        }
        let mut rejected = Vec::new();
        let judged = limits::with_large_stack(|| self.judge_all(raw, &mut rejected))?;
        if judged.num_rows() + rejected.len() != raw.num_rows() {
            let reason = format!("left out by {}", self.plan.clean_file);
            let known: Vec<u32> =
                rows_of(&judged)?.into_iter().chain(rejected.iter().map(|r| r.row)).collect();
            let known: std::collections::HashSet<u32> = known.into_iter().collect();
            let left_out = rows_of(raw)?.into_iter().filter(|row| !known.contains(row));
            rejected.extend(left_out.map(|row| Rejected { row, reason: reason.clone() }));
        }
        let (rows, warned) = self.split(&judged, &mut rejected)?;
        rejected.sort_by_key(|rejected| rejected.row);
        let rows = RecordBatch::try_new(Arc::clone(&self.plan.output), rows.columns().to_vec())?;
        Ok(Cleaned { rows, rejected, warned })
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

/// Bytes of a batch's rows. What views of text point into may be more: that is the raw batch's as well.
fn made_bytes(rows: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| match column.as_string_view_opt() {
        Some(text) => text.views().iter().map(|view| *view as u32 as usize).sum(),
        // An array whose size cannot be told has no buffers of its own.
        None => column.to_data().get_slice_memory_size().unwrap_or_default(),
    };
    rows.columns().iter().map(of_column).sum()
}

/// Rows for which a condition is FALSE; NULL passes, as in a CHECK.
fn violated(condition: &BooleanArray) -> Vec<usize> {
    if condition.null_count() == 0 && condition.true_count() == condition.len() {
        return Vec::new();
    }
    (0..condition.len()).filter(|row| condition.is_valid(*row) && !condition.value(*row)).collect()
}

/// The numbers of the pushes that rows came from.
fn rows_of(batch: &RecordBatch) -> Result<Vec<u32>, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("there is no column {ROW_COLUMN}"));
    let rows = batch.column_by_name(ROW_COLUMN).and_then(|rows| rows.as_primitive_opt::<UInt32Type>());
    Ok(rows.ok_or_else(missing)?.values().to_vec())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("for an unknown reason"))
}
