//! Does every stage hold what the stage before it held? Counts and hashes, range by range, for every topic partition.
//!
//! - *accepted*: what the log holds, and, for offsets that retention removed from it, what the archive holds;
//! - *archived*: the manifests of the archive's objects (`deep`: the objects themselves, line by line). What retention
//!   removed from the log must be there, from offset 0 on, and a manifest must have its object. An archive that another
//!   sink left may begin anywhere, and have gaps and repeats;
//! - *clean* and *quarantined*: the totals that each commit of a table carries, checked against the rows that the
//!   tables really hold, by number and by the hash of the rows that each commit notes, and that no record stands in one of
//!   them twice. Rows that pinmill 0.1 committed have no hash: [`AuditReport::counted_only`] names them.
//!
//! The streaming half has no archive: its streams are compared with the tables' own commits (see `stream`), and the rows
//! of the two halves with each other (see `halves`).
//!
//! **Balanced** means: everything compared is equal, and nothing is pending, that is, every accepted record is
//! archived and, where a dataset takes its topic, cleaned. A system at work always has something pending;
//! [`AuditOptions::allow_pending`] asks only whether what is done is done right. Topics that no dataset takes must be
//! archived, no more; they are named in [`AuditReport::unclaimed`].

mod archived;
mod balance;
mod facts;
mod halves;
mod hashes;
mod rows;
mod stream;
mod unread;

use std::collections::BTreeMap;

use pinmill_broker::{EventLog, Plane};
use pinmill_engine::Engine;
use pinmill_lake::Lake;
use pinmill_lake::archive::{Archive, Unread};
use pinmill_pipeline::Pipeline;
use serde::Serialize;

pub use self::balance::{PartitionAudit, Problem};
use self::facts::{Archiving, Looked, Tables};
pub use self::halves::{HalvesAudit, given_alike};
pub use self::stream::{ShardAudit, StreamAudit};
use crate::clean::{CleanOptions, Feeds, Look, is_directory};
use crate::lineage::Sources;
use crate::shrunk::{self, LogGap};
use crate::{Half, Result};

/// How to audit.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Read every archive object instead of trusting its manifest.
    pub deep: bool,
    /// Records that are not archived or not cleaned yet are no imbalance.
    pub allow_pending: bool,
    /// Where the raw objects are; `None` is the lake itself.
    pub archive: Option<Lake>,
    /// Directory of the topics in the archive's lake (`topics`).
    pub prefix: String,
    /// Compare the rows of both halves: reads both tables of every dataset.
    pub compare: bool,
    /// Both halves must hold the same rows: every post went to both.
    pub same_rows: bool,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            deep: false,
            allow_pending: false,
            archive: None,
            prefix: "topics".to_owned(),
            compare: true,
            same_rows: false,
        }
    }
}

/// The logs to be audited; `None` where there is none (an archive brought along).
#[derive(Debug, Clone, Copy, Default)]
pub struct Logs<'a> {
    /// Topics, for the batch half.
    pub topics: Option<&'a dyn EventLog>,
    /// Streams, for the streaming half.
    pub streams: Option<&'a dyn EventLog>,
}

impl AuditOptions {
    /// The archive that is named, and after it the lake's own: a table may have records of both.
    fn archives_of(&self, lake: &Lake) -> Vec<Archive> {
        let own = CleanOptions::default().archive_of(lake);
        let named = CleanOptions {
            archive: self.archive.clone(),
            prefix: self.prefix.clone(),
            ..CleanOptions::default()
        };
        let named = named.archive_of(lake);
        let both = named.place() != own.place();
        std::iter::once(named).chain(Some(own).filter(|_| both)).collect()
    }
}

/// How everything stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AuditReport {
    /// Everything is equal, and nothing is pending (or may be).
    pub balanced: bool,
    /// Every topic of the log and the archive, by name.
    pub topics: BTreeMap<String, TopicAudit>,
    /// Every stream, by name.
    pub streams: BTreeMap<String, StreamAudit>,
    /// The datasets that have rows in both halves.
    pub halves: Vec<HalvesAudit>,
    /// What does not balance. Empty when `balanced`.
    pub problems: Vec<Problem>,
    /// Records accepted and not yet archived.
    pub pending_archive: u64,
    /// Records archived and not yet cleaned.
    pub pending_clean: u64,
    /// Records accepted by streams and not yet in a table.
    pub pending_stream: u64,
    /// Topics and streams that no dataset takes.
    pub unclaimed: Vec<String>,
    /// Records that a log lost after they were read. A gap alone is not a problem; `problems` has one where no later
    /// stage has the records either.
    pub gaps: Vec<LogGap>,
    /// What lies among the topics of the archive and is not read.
    pub unread: Vec<Unread>,
    /// Ranges whose rows were compared with their commits by number alone, as pinmill 0.1 noted no hash of them.
    pub counted_only: Vec<String>,
}

impl AuditReport {
    /// Records that some stage has not come to yet.
    pub fn pending(&self) -> u64 {
        self.pending_archive + self.pending_clean + self.pending_stream
    }
}

/// How one topic stands: the numbers of its partitions together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicAudit {
    /// The dataset that takes it.
    pub dataset: Option<String>,
    /// Records accepted.
    pub accepted: u64,
    /// Records in the archive.
    pub archived: u64,
    /// Rows in the table.
    pub clean: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Accepted, but not archived yet.
    pub pending_archive: u64,
    /// Archived, but not cleaned yet.
    pub pending_clean: u64,
    /// Its partitions, ascending, those of earlier lives of the name first.
    pub partitions: Vec<PartitionAudit>,
}

/// Where the stages behind the logs stand: the tables of both halves, and the end of the archive.
///
/// It is noted before a log is opened to be compared with it. Records go from the log to the stages behind, so a log that
/// is opened later holds all that was noted, and what it holds beyond that is pending. The other way round, what a server
/// hands on in between would be missing from the log.
#[derive(Debug)]
pub struct Stages {
    batch: Tables,
    stream: Tables,
    archive_ends: BTreeMap<Archiving, u64>,
}

impl Stages {
    /// Where they stand now.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn now(
        pipeline: &Pipeline,
        engine: &dyn Engine,
        lake: &Lake,
        options: &AuditOptions,
    ) -> Result<Self> {
        // The archive after the tables that are made from it.
        let batch = facts::tables(pipeline, engine, lake, Half::Batch).await?;
        let stream = facts::tables(pipeline, engine, lake, Half::Stream).await?;
        let archive_ends = facts::archive_ends(&options.archives_of(lake), lake).await?;
        Ok(Self { batch, stream, archive_ends })
    }

    /// Compares them with each other and with the logs, which are to be as new as they are, or newer.
    ///
    /// # Errors
    /// As [`audit()`].
    pub async fn against(
        self,
        pipeline: &Pipeline,
        logs: Logs<'_>,
        lake: &Lake,
        options: &AuditOptions,
    ) -> Result<AuditReport> {
        let mut report = AuditReport::default();
        let Self { batch, stream: tables, archive_ends } = self;
        batch_half(pipeline, logs.topics, (batch, &archive_ends), lake, options, &mut report).await?;
        let (streams, problems) = stream::audit(pipeline, logs, lake, &tables).await?;
        report.pending_stream = streams.values().map(|stream| stream.pending).sum();
        let unclaimed = streams.iter().filter(|(_, stream)| stream.dataset.is_none());
        report.unclaimed.extend(unclaimed.map(|(name, _)| name.clone()));
        report.streams = streams;
        for (plane, log) in [(Plane::Topics, logs.topics), (Plane::Streams, logs.streams)] {
            if let Some(log) = log {
                report.gaps.extend(shrunk::gaps(plane, log).await?);
            }
        }
        report.problems.extend(problems.into_iter().chain(tables.problems));
        report.counted_only.extend(tables.counted_only);
        if options.compare {
            report.halves = halves::compare(pipeline, lake).await?;
        }
        if options.same_rows {
            let differ = report.halves.iter().filter(|halves| !halves.same);
            report.problems.extend(differ.map(HalvesAudit::problem));
        }
        report.balanced = report.problems.is_empty() && (options.allow_pending || report.pending() == 0);
        Ok(report)
    }
}

/// Compares what every stage of both halves holds. For logs that grow while they are open; for views of logs, which do
/// not, there is [`Stages`].
///
/// # Errors
/// What cannot be read. What does not balance is no error, but in the report.
pub async fn audit(
    pipeline: &Pipeline,
    engine: &dyn Engine,
    logs: Logs<'_>,
    lake: &Lake,
    options: &AuditOptions,
) -> Result<AuditReport> {
    Stages::now(pipeline, engine, lake, options).await?.against(pipeline, logs, lake, options).await
}

async fn batch_half(
    pipeline: &Pipeline,
    log: Option<&dyn EventLog>,
    (tables, archive_ends): (Tables, &BTreeMap<Archiving, u64>),
    lake: &Lake,
    options: &AuditOptions,
    report: &mut AuditReport,
) -> Result<()> {
    let archives = options.archives_of(lake);
    let mut looked = Vec::with_capacity(archives.len());
    for archive in &archives {
        let (sources, feeds) = (Sources::new(archive, lake), Feeds::of(archive, lake, Look::See).await?);
        looked.push(Looked { archive, sources, feeds });
    }
    for (place, holders) in facts::partitions(log, &looked, &tables).await? {
        let end = holders.archived.as_ref().and_then(|archived| archive_ends.get(archived)).copied();
        let until = if is_directory(&place) { u64::MAX } else { end.unwrap_or_default() };
        let dataset = pipeline.dataset_for_topic(&place.topic).map(|dataset| dataset.name.clone());
        let extent = (until, options.deep);
        let at = (&place, &holders);
        let facts = facts::partition(log, &looked, &tables, dataset.as_deref(), at, extent).await?;
        let (audit, problems) = balance::balance(&place, &facts);
        report.problems.extend(problems);
        if facts.log_beginning.is_some() && archives.iter().any(|archive| !archive.can_hold(&place)) {
            report.problems.push(balance::no_room(&place));
        }
        report
            .topics
            .entry(place.topic)
            .or_insert_with(|| TopicAudit { dataset, ..TopicAudit::default() })
            .add(audit);
    }
    for topic in report.topics.values() {
        report.pending_archive += topic.pending_archive;
        report.pending_clean += topic.pending_clean;
    }
    report.unclaimed =
        report.topics.iter().filter(|(_, t)| t.dataset.is_none()).map(|(name, _)| name.clone()).collect();
    report.problems.extend(tables.problems);
    report.counted_only.extend(tables.counted_only);
    for Looked { archive, feeds, .. } in looked {
        not_read(lake, archive, feeds, report).await?;
    }
    Ok(())
}

/// Names what lies in an archive and is not read.
async fn not_read(lake: &Lake, archive: &Archive, feeds: Feeds, report: &mut AuditReport) -> Result<()> {
    report.problems.extend(feeds.refused.iter().map(|error| Problem::of("archive", error.chain())));
    report.problems.extend(unread::problems(&feeds.unread));
    // What the latest clean could not read: manifests alone do not show it.
    let mut noted = Unread::noted(lake).await?.remove(&archive.place()).unwrap_or_default();
    noted.retain(|noted| !feeds.unread.iter().any(|unread| unread.path == noted.path));
    report.problems.extend(unread::problems(&noted));
    report.unread.extend(feeds.unread);
    Ok(())
}

impl TopicAudit {
    fn add(&mut self, partition: PartitionAudit) {
        self.accepted += partition.accepted.count;
        self.archived += partition.archived.count;
        self.clean += partition.clean;
        self.quarantined += partition.quarantined;
        self.pending_archive += partition.pending_archive;
        self.pending_clean += partition.pending_clean;
        self.partitions.push(partition);
    }
}
