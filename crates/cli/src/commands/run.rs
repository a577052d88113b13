//! `pinmill run`: the whole pipeline once, with its own emulator.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use pinmill_broker::{EmbeddedLog, EventLog};
use pinmill_emulate::{DrawOrder, Options, Summary, To};
use pinmill_flow::stream::{Freshness, freshness};
use pinmill_flow::{
    AnswerOptions, AnswerReport, Archiver, AuditOptions, AuditReport, CleanReport, Half, Logs, given_alike,
};
use pinmill_gateway::Gateway;
use pinmill_kinesis::Kinesis;
use pinmill_lake::LateLake;
use pinmill_pipeline::Pipeline;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::{Draw, Run};
use crate::commands::{answer, audit, clean, emulate};
use crate::context::Context;
use crate::error::{Failure, OrFail, UNBALANCED};
use crate::render::{Format, SCHEMA_VERSION, words_beside_rows, write_json};
use crate::signals::cancel_on_signal;
use crate::streams;

/// Posts, and meanwhile streams into tables; then archives, cleans, answers and audits.
pub(crate) async fn run(context: &Context, args: &Run) -> Result<(), Failure> {
    let started = Instant::now();
    let started_ms = chrono::Utc::now().timestamp_millis();
    let (pipeline, engine, lake) = (context.pipeline()?, context.engine()?, context.lake()?);
    let log = context.log()?;
    let streams = context.streams().await?;
    if streams.is_none() && args.to != To::Topics {
        return Err(Failure::config("the streams are switched off").hint("post with --to topics"));
    }

    let topics: Arc<dyn EventLog> = Arc::<EmbeddedLog>::clone(&log);
    context.go_on_behind_readers(&pipeline, &LateLake::from(&lake), (Some(topics), streams.as_ref())).await;
    let shards = streams.as_ref().map(|streams| streams.kinesis.shards_log());
    let logs = Logs { topics: Some(&*log), streams: shards.as_ref().map(|shards| shards as &dyn EventLog) };
    let same_rows = args.to == To::Both && can_compare(&pipeline, logs).await?;

    let stop = CancellationToken::new();
    let streaming = match &streams {
        Some(streams) => {
            let topics: Arc<dyn EventLog> = Arc::<EmbeddedLog>::clone(&log);
            let streamer = context.streamer(streams, Some(topics), &lake)?;
            let stop = stop.clone();
            Some(tokio::spawn(async move { streamer.run(stop).await }))
        }
        None => None,
    };
    let kinesis = streams.as_ref().map(|streams| streams.kinesis.clone());
    let interrupted = CancellationToken::new();
    cancel_on_signal(&interrupted)?;
    let posted = post(context, args, Arc::<EmbeddedLog>::clone(&log), kinesis, &interrupted).await;
    stop.cancel();
    let streamed = match streaming {
        Some(streaming) => Some(streaming.await.or_fail()??),
        None => None,
    };
    let posted = posted?;
    emulate::complete(&posted, Some(args.posts), &interrupted)?;
    let whole = emulate::whole(&posted, Some(args.posts), &interrupted);
    if let Err(failure) = &whole {
        tracing::warn!("{}; what follows is about these alone", failure.message);
    }
    let fresh = freshness(&pipeline, &*engine, &lake, started_ms).await?;

    Archiver::new(Arc::<EmbeddedLog>::clone(&log), &lake, context.archive_config()).run_once().await?;
    let cleaned = pinmill_flow::clean(&pipeline, &*engine, &lake, &context.clean_options()).await?;
    for report in [Some(&cleaned), streamed.as_ref()].into_iter().flatten() {
        clean::tell(report);
    }
    let half = if args.to == To::Streams { Half::Stream } else { Half::Batch };
    let options = AnswerOptions { half, ..AnswerOptions::default() };
    let answers = pinmill_flow::answer(&pipeline, &*engine, &lake, &options).await?;
    let options = AuditOptions { same_rows, ..AuditOptions::default() };
    let audit = pinmill_flow::audit(&pipeline, &*engine, logs, &lake, &options).await?;
    streams::close(&log).await?;
    if let Some(streams) = &streams {
        streams::close(&streams.log).await?;
    }

    let seconds = started.elapsed().as_secs_f64();
    let done =
        Done { posted, interrupted: whole.is_err(), cleaned, streamed, fresh, answers, audit, seconds };
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => done.write_json(&mut stdout)?,
        format => done.write(&mut stdout, format, context)?,
    }
    if done.audit.balanced && whole.is_ok() {
        return answer::complete(&done.answers);
    }
    for failure in &done.answers.failures {
        tracing::error!("an answer failed: {failure}");
    }
    if done.audit.balanced { whole } else { Err(Failure::told(UNBALANCED)) }
}

/// Whether the halves hold the same posts before this run, so that they must hold the same after it.
async fn can_compare(pipeline: &Pipeline, logs: Logs<'_>) -> Result<bool, Failure> {
    let alike = given_alike(pipeline, logs).await?;
    if !alike {
        tracing::warn!(
            "one half was given posts earlier that the other was not: that their rows differ is no failure"
        );
    }
    Ok(alike)
}

/// Starts a gateway on a free port, posts the events to it, and drains it.
async fn post(
    context: &Context,
    args: &Run,
    log: Arc<dyn EventLog>,
    kinesis: Option<Kinesis>,
    interrupted: &CancellationToken,
) -> Result<Summary, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let front = context.gateway_runtime()?;
    let config = context.gateway(listen);
    let mut gateway = front.run(Gateway::bind(config, log)).await?.or_fail()?;
    if let Some(kinesis) = kinesis {
        gateway = gateway.with_routes(kinesis.facade_router()).with_native(kinesis.native_router());
    }
    let url = format!("http://{}", gateway.local_addr());
    let stop = CancellationToken::new();
    let source = pinmill_emulate::open(&context.source()?, args.seed).await.or_fail()?;
    let options = Options {
        draw: match args.draw {
            Draw::Replacement => DrawOrder::Replacement,
            Draw::Sequence => DrawOrder::Sequence,
        },
        posts: Some(args.posts),
        seed: args.seed,
        connections: args.connections,
        progress: context.progress,
        ..Options::new(args.to.targets(Some(&url), None, None).or_fail()?)
    };
    let posting = async {
        let posted = pinmill_emulate::emulate(options, source, interrupted).await;
        stop.cancel();
        posted
    };
    let (served, posted) = futures::join!(front.run(gateway.serve(stop.clone())), posting);
    served?;
    posted.or_fail()
}

/// What a run did.
struct Done {
    posted: Summary,
    interrupted: bool,
    cleaned: CleanReport,
    streamed: Option<CleanReport>,
    fresh: Option<Freshness>,
    answers: AnswerReport,
    audit: AuditReport,
    seconds: f64,
}

impl Done {
    fn write_json(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut document = json!({
            "schema_version": SCHEMA_VERSION,
            "answers": answer::to_json(&self.answers)?,
            "summary": {
                "seconds": self.seconds,
                "posted": self.posted,
                "interrupted": self.interrupted,
                "cleaned": clean::to_json(&self.cleaned),
                "streamed": self.streamed.as_ref().map(clean::to_json),
                "freshness": self.fresh,
                "answers_seconds": self.answers.seconds,
            },
            "audit": self.audit,
        });
        if let Some(errors) = answer::errors(&self.answers) {
            document["errors"] = errors;
        }
        write_json(out, &document)
    }

    fn write(&self, out: &mut dyn Write, format: Format, context: &Context) -> Result<(), Failure> {
        answer::write_answers(out, &self.answers, format)?;
        words_beside_rows(out, format, |out| self.write_summary(out, context))
    }

    fn write_summary(&self, out: &mut dyn Write, context: &Context) -> Result<(), Failure> {
        writeln!(out)?;
        audit::write_report(out, &self.audit, Format::Table)?;
        writeln!(out, "posted:   {}", self.posted)?;
        let records = self.cleaned.records();
        writeln!(
            out,
            "cleaned:  {records} records in {:.2} s ({:.0}/s)",
            self.cleaned.seconds,
            records as f64 / self.cleaned.seconds.max(1e-9)
        )?;
        if let (Some(streamed), Some(fresh)) = (&self.streamed, &self.fresh) {
            let commits: u64 = streamed.datasets.iter().map(|dataset| dataset.commits).sum();
            writeln!(
                out,
                "streamed: {} records in {commits} commits; in their table {:.2} s after they were accepted, \
                 99 % within {:.2} s",
                streamed.records(),
                fresh.p50_seconds,
                fresh.p99_seconds
            )?;
        }
        writeln!(out, "answered: {} questions in {:.2} s", self.answers.answers.len(), self.answers.seconds)?;
        writeln!(out, "in all:   {:.2} s, data in {}", self.seconds, context.data().display())?;
        Ok(())
    }
}
