//! The batch half, a run at a time: archive what waits, clean what is new, answer again where something changed.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::pending;
use pinmill_engine::Engine;
use pinmill_lake::LateLake;
use pinmill_pipeline::Pipeline;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::supervise::{Part, Parts, supervise};
use crate::{
    AnswerOptions, AnswerReport, ArchiveReport, Archiver, Backoff, CleanOptions, CleanReport, Error, Result,
    answer, clean,
};

/// Shortest time between two runs.
const SHORTEST: Duration = Duration::from_millis(1);

/// Runs of the batch half. One at a time: a second caller waits.
#[derive(Debug)]
pub struct Runner {
    pipeline: Pipeline,
    engine: Arc<dyn Engine>,
    lake: LateLake,
    archiver: Arc<Archiver>,
    options: CleanOptions,
    retry: Backoff,
    part: Part,
    unanswered: Mutex<Unanswered>,
}

/// Which answers are older than the tables that they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unanswered {
    Nothing,
    /// Those that failed the last time.
    Some(Vec<String>),
    All,
}

/// What a run did. A step that failed does not keep the next ones from what they can do.
#[derive(Debug, Default)]
pub struct RunReport {
    /// What was archived.
    pub archived: Option<ArchiveReport>,
    /// What was cleaned.
    pub cleaned: Option<CleanReport>,
    /// What was answered; nothing where no table has changed since.
    pub answered: Option<AnswerReport>,
    /// Why a step failed, in order.
    pub errors: Vec<Error>,
}

impl RunReport {
    /// Every reason why not all was done, a line each.
    pub fn problems(&self) -> Vec<String> {
        let answers = self.answered.iter().flat_map(|report| &report.failures);
        let answers = answers.map(|failure| format!("an answer failed: {failure}"));
        self.errors.iter().map(Error::chain).chain(answers).collect()
    }
}

impl Runner {
    /// Runs that archive by `archiver` and clean into the tables of `lake`. Nothing is done yet.
    pub fn new(
        pipeline: Pipeline,
        engine: Arc<dyn Engine>,
        lake: impl Into<LateLake>,
        archiver: Arc<Archiver>,
        options: CleanOptions,
    ) -> Self {
        Self {
            pipeline,
            engine,
            lake: lake.into(),
            archiver,
            options,
            retry: Backoff::default(),
            part: Part::unwatched("batch"),
            unanswered: Mutex::new(Unanswered::Nothing),
        }
    }

    /// Shows how the schedule is as the part `batch`.
    #[must_use]
    pub fn with_parts(self, parts: &Parts) -> Self {
        Self { part: parts.add("batch"), ..self }
    }

    /// Archives, cleans and answers once.
    pub async fn once(&self) -> RunReport {
        let mut unanswered = self.unanswered.lock().await;
        let mut report = RunReport::default();
        match self.archiver.run_once().await {
            Ok(archived) => report.archived = Some(archived),
            Err(error) => report.errors.push(error),
        }
        if let Err(error) = self.clean_and_answer(&mut unanswered, &mut report).await {
            report.errors.push(error);
        }
        report
    }

    async fn clean_and_answer(&self, unanswered: &mut Unanswered, report: &mut RunReport) -> Result<()> {
        let lake = &self.lake.open().await?;
        match clean(&self.pipeline, &*self.engine, lake, &self.options).await {
            Ok(cleaned) => {
                if cleaned.records() > 0 {
                    *unanswered = Unanswered::All;
                }
                report.cleaned = Some(cleaned);
            }
            Err(error) => {
                // The datasets without an error were cleaned all the same.
                *unanswered = Unanswered::All;
                report.errors.push(error);
            }
        }
        let names = match &*unanswered {
            Unanswered::Nothing => return Ok(()),
            Unanswered::Some(names) => names.clone(),
            Unanswered::All => Vec::new(),
        };
        let options = AnswerOptions { names, ..AnswerOptions::default() };
        let answered = answer(&self.pipeline, &*self.engine, lake, &options).await?;
        let failed: Vec<String> = answered.failures.iter().map(|failure| failure.name.clone()).collect();
        *unanswered = if failed.is_empty() { Unanswered::Nothing } else { Unanswered::Some(failed) };
        report.answered = Some(answered);
        Ok(())
    }

    /// A run every `every`, the first after that time, until `stop`. After one that failed the next one comes sooner.
    ///
    /// # Errors
    /// A panic after `stop`.
    pub async fn every(self: &Arc<Self>, every: Duration, stop: CancellationToken) -> Result<()> {
        let mut again = false;
        let attempt = || {
            let (runner, stop) = (Arc::clone(self), stop.clone());
            let again = std::mem::replace(&mut again, true);
            async move { runner.runs(every, again, &stop).await }
        };
        supervise(&self.part, &stop, self.retry, |_| pending().boxed(), attempt).await
    }

    /// `again` is true after a panic: then the first run is due at once, and nothing works before it has.
    async fn runs(&self, every: Duration, again: bool, stop: &CancellationToken) -> Result<()> {
        let mut pause = None;
        let mut first = again.then_some(Duration::ZERO);
        if !again {
            self.part.works();
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(first.take().or(pause).unwrap_or(every).max(SHORTEST)) => {}
            }
            if pause.is_some() {
                self.part.begins_again();
            }
            let mut report = self.once().await;
            if let Some(cleaned) = &mut report.cleaned {
                // A server says once, and not in every run, what stays the same.
                cleaned.leave_out_old_news();
                for warning in cleaned.warnings() {
                    tracing::warn!("{warning}");
                }
            }
            let problems = report.problems();
            for problem in &problems {
                tracing::error!("the batch half failed: {problem}");
            }
            if let Some(first) = problems.first() {
                self.part.failed(first);
                pause = Some(self.retry.after(pause).min(every));
            } else {
                self.part.works();
                pause = None;
            }
        }
    }
}
