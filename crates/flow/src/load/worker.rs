//! One worker of a dataset: chunks of raw lines in, rows of Parquet files out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pinmill_engine::{Cleaner, Decoder, Position, RawValue, Rejected, clean_parts};
use pinmill_lake::archive::{Chunk, RecordAt};
use pinmill_lake::quarantine::QuarantinedRecord;
use pinmill_lake::table::{TableWriter, WrittenFile, rows_hash};
use pinmill_lake::{RecordId, TopicPartition};
use pinmill_pipeline::Dataset;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};

use crate::warnings::{Warning, Warnings};
use crate::{Error, Result};

/// Rows of one Arrow batch: enough to make columns pay, few enough to stay in the processor's cache.
const BATCH_ROWS: usize = 8192;

/// A piece of one topic partition to be cleaned.
pub(super) struct Job {
    /// Ascends with the offsets within a step; tells which of several errors came first.
    pub(super) number: u64,
    pub(super) place: Arc<Place>,
    pub(super) chunk: Chunk,
}

/// The partition that a job is of.
#[derive(Debug)]
pub(super) struct Place {
    /// Its number among the dataset's partitions.
    pub(super) index: usize,
    pub(super) at: TopicPartition,
    /// Offsets that stand in quarantine already though the table has not come to them: a crash came between.
    pub(super) held: BTreeSet<u64>,
}

/// How many records of a partition went where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) clean: u64,
    pub(super) quarantined: u64,
    /// Wrapping sum of the hashes of the clean rows.
    pub(super) rows: u64,
}

/// What a worker made of its share of a step.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) tallies: BTreeMap<usize, Tally>,
    /// What was odd and passed all the same.
    pub(super) warnings: Warnings,
    pub(super) files: Vec<WrittenFile>,
    pub(super) rejected: Vec<QuarantinedRecord>,
}

/// A worker keeps its plan over all steps of a run.
#[derive(Debug)]
pub(super) struct Worker {
    dataset: String,
    run: String,
    decoder: Decoder,
    cleaner: Box<dyn Cleaner>,
    /// Memory of all records rejected in the step, by all its workers: they are held until the commit.
    rejected_bytes: Arc<AtomicU64>,
}

/// An error with the number of the job that met it.
pub(super) type Failed = (u64, Error);

impl Worker {
    pub(super) fn new(
        dataset: &Dataset,
        cleaner: Box<dyn Cleaner>,
        run: &str,
        rejected_bytes: Arc<AtomicU64>,
    ) -> Self {
        let (dataset, decoder) = (dataset.name.clone(), Decoder::new(dataset));
        Self { dataset, run: run.to_owned(), decoder, cleaner, rejected_bytes }
    }

    /// Cleans jobs until there are no more, then closes its files.
    pub(super) async fn work(
        mut self,
        mut writer: TableWriter,
        jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    ) -> (Option<Self>, Result<Share, Failed>) {
        let mut share = Share::default();
        let mut number = 0;
        loop {
            let Some(job) = jobs.lock().await.recv().await else { break };
            number = job.number;
            let handle = Handle::current();
            // Decoding, cleaning and encoding keep a core busy for many milliseconds.
            let done = tokio::task::spawn_blocking(move || {
                let result = self.process(&job, &mut writer, &mut share, &handle);
                (self, writer, share, result)
            });
            let result;
            (self, writer, share, result) = match done.await {
                Ok(done) => done,
                Err(error) => {
                    jobs.lock().await.close();
                    return (None, Err((number, Error::Internal(format!("a worker ended: {error}")))));
                }
            };
            if let Err(error) = result {
                // No new jobs; those that came before this one are still done, for one of them may fail too.
                jobs.lock().await.close();
                return (Some(self), Err((number, error)));
            }
        }
        match writer.finish().await {
            Ok(files) => (Some(self), Ok(Share { files, ..share })),
            Err(error) => (Some(self), Err((number, error.into()))),
        }
    }

    fn process(
        &mut self,
        job: &Job,
        writer: &mut TableWriter,
        share: &mut Share,
        handle: &Handle,
    ) -> Result<()> {
        let Job { place, chunk, .. } = job;
        self.decoder.chunk(chunk.data.clone());
        let lineage = i32::try_from(place.at.lineage).map_err(|_| too_large(place))?;
        self.decoder.topic(&place.at.topic, lineage);
        let mut pushed: Vec<&RecordAt> = Vec::with_capacity(BATCH_ROWS);
        for records in chunk.records.chunks(BATCH_ROWS) {
            pushed.clear();
            for record in records {
                if place.held.contains(&record.offset) {
                    share.tallies.entry(place.index).or_default().quarantined += 1;
                    continue;
                }
                self.decoder.push(raw_value(record), position(place, record)?);
                pushed.push(record);
            }
            let decoded = self.decoder.finish().map_err(|error| stopped(error, place))?;
            let (mut clean, mut hash, mut rejected) = (0, 0_u64, decoded.rejected);
            for cleaned in clean_parts(&mut *self.cleaner, &decoded.batch) {
                let cleaned = cleaned.map_err(|error| stopped(error, place))?;
                clean += cleaned.rows.num_rows();
                hash = hash.wrapping_add(rows_hash(&cleaned.rows).map_err(Error::Internal)?);
                handle.block_on(writer.write(&cleaned.rows))?;
                rejected.extend(cleaned.rejected);
                for (name, count) in cleaned.warned {
                    share.warnings.add(Warning::Other(format!("expectation `{name}` is violated")), count);
                }
            }
            let bad = rejected.len();
            if clean + bad != pushed.len() {
                return Err(Error::Internal(format!(
                    "{}: {} records became {clean} rows and {bad} rejections",
                    place.at,
                    pushed.len()
                )));
            }
            let tally = share.tallies.entry(place.index).or_default();
            tally.clean += clean as u64;
            tally.quarantined += bad as u64;
            tally.rows = tally.rows.wrapping_add(hash);
            for drift in decoded.drift {
                let what = Warning::Member { name: drift.field, kind: drift.kind };
                share.warnings.add(what, drift.count);
            }
            for Rejected { row, reason } in rejected {
                let Some(record) = pushed.get(row as usize) else {
                    return Err(Error::Internal(format!("row {row} of {} was rejected", pushed.len())));
                };
                share.rejected.push(self.rejected(place, chunk, record, reason));
            }
        }
        Ok(())
    }

    fn rejected(&self, place: &Place, chunk: &Chunk, record: &RecordAt, reason: String) -> QuarantinedRecord {
        // Copied, so that one bad record does not keep its whole chunk in memory.
        let raw = chunk.value(record).map(bytes::Bytes::copy_from_slice);
        let rejected = QuarantinedRecord {
            dataset: self.dataset.clone(),
            reason,
            id: RecordId::new(place.at.clone(), record.offset),
            ingested_at_us: record.ingested_at_us,
            raw,
            run: self.run.clone(),
            quarantined_at_us: chrono::Utc::now().timestamp_micros(),
        };
        self.rejected_bytes.fetch_add(rejected.memory() as u64, Ordering::Relaxed);
        rejected
    }
}

impl Share {
    /// Takes another worker's share in.
    pub(super) fn join(&mut self, other: Self) {
        for (index, tally) in other.tallies {
            let sum = self.tallies.entry(index).or_default();
            sum.clean += tally.clean;
            sum.quarantined += tally.quarantined;
            sum.rows = sum.rows.wrapping_add(tally.rows);
        }
        self.warnings.join(other.warnings);
        self.files.extend(other.files);
        self.rejected.extend(other.rejected);
    }
}

fn raw_value(record: &RecordAt) -> RawValue<'static> {
    match record.tombstone {
        true => RawValue::Tombstone,
        false => RawValue::Chunk(record.start as usize..record.end as usize),
    }
}

fn position(place: &Place, record: &RecordAt) -> Result<Position> {
    Ok(Position {
        partition: i32::try_from(place.at.partition).map_err(|_| too_large(place))?,
        offset: i64::try_from(record.offset).map_err(|_| too_large(place))?,
        sub: 0,
        ingested_at_us: record.ingested_at_us,
    })
}

fn too_large(place: &Place) -> Error {
    Error::Internal(format!("{} does not fit INT and BIGINT", place.at))
}

/// The engine knows partition and offset of what stopped it; the topic is known here.
fn stopped(error: pinmill_engine::Error, place: &Place) -> Error {
    let at = |dataset, offset: i64, reason| Error::Stopped {
        dataset,
        id: RecordId::new(place.at.clone(), u64::try_from(offset).unwrap_or_default()),
        reason,
    };
    match error {
        pinmill_engine::Error::Stopped { dataset, expectation, reason, offset, .. } => {
            at(dataset, offset, format!("expectation `{expectation}`: {reason}"))
        }
        pinmill_engine::Error::UnknownField { dataset, field, offset, .. } => at(
            dataset,
            offset,
            format!("the record has the member `{field}`, which no field is declared for"),
        ),
        other => other.into(),
    }
}
