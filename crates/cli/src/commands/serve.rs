//! `pinmill serve`: the gateway and both halves until told to stop.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EmbeddedLog, EventLog};
use pinmill_flow::{AnswerOptions, ArchiveConfig, Archiver, CleanOptions, Half, answer, clean};
use pinmill_gateway::Gateway;
use pinmill_lake::Lake;
use pinmill_lake::archive::Compression;
use pinmill_pipeline::Pipeline;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{CONFIG, Failure, INTERRUPTED, OrFail};
use crate::settings::{self, Span};
use crate::strays;
use crate::streams::{Streams, close};

/// Serves until SIGTERM or ctrl-c; then open requests are finished, the rest is archived, and the process ends.
pub(crate) async fn serve(context: &Context) -> Result<(), Failure> {
    let pipeline = context.pipeline()?;
    context.engine()?.validate(&pipeline).await.into_result().or_fail()?;
    let front = context.gateway_runtime()?;
    // First of all that a folder is made for: where the port is taken, nothing is left behind.
    let listening = front.run(Gateway::listen(context.gateway(context.listen()?))).await?;
    let listening = listening.map_err(|error| not_bound(&error))?;
    let lake = context.lake()?;
    let log = context.log()?;
    let streams = context.streams().await?;
    let topics: Arc<dyn EventLog> = Arc::<EmbeddedLog>::clone(&log);
    context.go_on_behind_readers(&pipeline, &lake, (Some(topics), streams.as_ref())).await;
    let stop = CancellationToken::new();
    cancel_on_signal(&stop)?;
    let mut gateway = listening.over(Arc::<EmbeddedLog>::clone(&log));
    // What the halves count is told by the gateway's /metrics.
    metrics::set_global_recorder(gateway.recorder()).or_fail()?;
    if let Some(Streams { kinesis, log }) = &streams {
        gateway = gateway.with_routes(kinesis.facade_router()).with_native(kinesis.native_router());
        gateway = gateway.with_log(Arc::<EmbeddedLog>::clone(log));
        let (kinesis, stop) = (kinesis.clone(), stop.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            kinesis.end_subscriptions();
        });
    }
    let address = gateway.local_addr();
    {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "http://{address}")?;
        stdout.flush()?;
    }
    tracing::info!(
        "listening on {address}, data in {}, durability {:?}",
        context.data().display(),
        context.settings.durability
    );

    let mut logs = vec![(Half::Batch, Arc::<EmbeddedLog>::clone(&log) as Arc<dyn EventLog>)];
    if let Some(Streams { kinesis, .. }) = &streams {
        logs.push((Half::Stream, Arc::new(kinesis.shards_log())));
    }
    tokio::spawn(strays::tell(pipeline.clone(), logs, stop.clone()));

    // Archiver and streamer outlive the gateway, so that what the last requests brought is archived and loaded too.
    let archiver = Arc::new(Archiver::new(Arc::<EmbeddedLog>::clone(&log), &lake, archive_config(context)));
    let gateway_gone = CancellationToken::new();
    let archiving = tokio::spawn({
        let (archiver, gone) = (Arc::clone(&archiver), gateway_gone.clone());
        async move { archiver.run(gone).await }
    });
    let streaming = match &streams {
        Some(streams) => {
            let topics: Arc<dyn EventLog> = Arc::<EmbeddedLog>::clone(&log);
            let streamer = context.streamer(streams, Some(topics), &lake)?;
            let gone = gateway_gone.clone();
            Some(tokio::spawn(async move { streamer.run(gone).await }))
        }
        None => None,
    };
    let batch = match context.settings.batch_every.0 {
        Some(Span(every)) => {
            let half = Batch {
                pipeline,
                lake,
                archiver,
                engine: context.engine()?,
                options: clean_options(context),
            };
            Some((every, half))
        }
        None => None,
    };

    let batches = async {
        if let Some((every, half)) = batch {
            half.every(every, stop.clone()).await;
        }
    };
    let (drained, ()) = futures::join!(front.run(gateway.serve(stop.clone())), batches);
    let drained = drained?;
    if drained.cut > 0 {
        tracing::warn!("{} connections were cut: they did not end in time", drained.cut);
    }
    gateway_gone.cancel();
    // Both halves are drained and both logs closed, whatever became of the other.
    let archived = archiving.await.or_fail();
    let streamed = match streaming {
        Some(streaming) => Some(streaming.await.or_fail()),
        None => None,
    };
    let closed = close(&log).await;
    if let Some(Streams { log, .. }) = &streams {
        close(log).await?;
    }
    closed?;
    let archived = archived??;
    tracing::info!("stopped; {} records archived in {} objects", archived.records, archived.objects);
    if let Some(streamed) = streamed.transpose()?.transpose()? {
        tracing::info!("{} records of streams loaded", streamed.records());
    }
    Ok(())
}

fn not_bound(error: &pinmill_gateway::Error) -> Failure {
    match error {
        pinmill_gateway::Error::RemoteWithoutAuthentication(address) => {
            let what = "other machines could post to it, and nobody is asked for credentials";
            Failure::config(format!("setting `listen` means {address}: {what}")).hint(
                "say so with --allow-unauthenticated-remote, or put a proxy that asks for credentials in front",
            )
        }
        pinmill_gateway::Error::Bind { .. } => Failure::chain(error).hint(
            "is another `pinmill serve` running? name another address with --listen; port 0 takes a free one",
        ),
        pinmill_gateway::Error::Config { .. } => Failure { exit: CONFIG, ..Failure::chain(error) },
    }
}

/// The batch half by the clock.
struct Batch {
    pipeline: Pipeline,
    lake: Lake,
    archiver: Arc<Archiver>,
    engine: Arc<dyn pinmill_engine::Engine>,
    options: CleanOptions,
}

impl Batch {
    /// One run every `every`, the first after that time; a run that fails is told and tried again at the next tick.
    async fn every(self, every: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(failure) = self.once().await {
                tell(&failure);
            }
        }
    }

    async fn once(&self) -> Result<(), Failure> {
        // What cannot be archived of one topic must not keep what is in the archive from being cleaned.
        if let Err(error) = self.archiver.run_once().await {
            tell(&Failure::from(error));
        }
        // Nor must a dataset that cannot be cleaned keep answers about the others from being given.
        let is_new = match clean(&self.pipeline, &*self.engine, &self.lake, &self.options).await {
            Ok(mut report) => {
                // They are told of once, and not in every round.
                report.unclaimed.clear();
                crate::commands::clean::tell(&report);
                report.records() > 0
            }
            Err(error) => {
                tell(&Failure::from(error));
                true
            }
        };
        if is_new {
            let options = AnswerOptions::default();
            let answered = answer(&self.pipeline, &*self.engine, &self.lake, &options).await?;
            for failure in &answered.failures {
                tracing::error!("an answer failed: {failure}");
            }
        }
        Ok(())
    }
}

/// What a run of the batch half could not do.
fn tell(failure: &Failure) {
    tracing::error!("the batch half failed: {}", failure.message);
}

/// How records become archive objects, from the settings.
pub(crate) fn archive_config(context: &Context) -> ArchiveConfig {
    let archive = &context.settings.archive;
    ArchiveConfig {
        max_records: archive.max_records.get(),
        max_bytes: archive.max_bytes.in_memory(),
        max_age: archive.max_age.0,
        compression: match archive.compression {
            settings::Compression::None => Compression::None,
            settings::Compression::Gzip => Compression::Gzip,
            settings::Compression::Zstd => Compression::Zstd,
        },
        ..ArchiveConfig::default()
    }
}

/// How to clean, from the settings.
pub(crate) fn clean_options(context: &Context) -> CleanOptions {
    CleanOptions { workers: context.settings.engine.workers(), ..CleanOptions::default() }
}

/// Cancels `stop` at SIGTERM or ctrl-c; a second one ends the process at once, which is as safe as a kill -9.
#[allow(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "who asks twice wants nothing to be waited for, and what is durable needs no tidy end"
)]
pub(crate) fn cancel_on_signal(stop: &CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).or_fail()?;
    let mut interrupt = signal(SignalKind::interrupt()).or_fail()?;
    let stop = stop.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("stopping; once more ends the process at once");
                stop.cancel();
            } else {
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
    });
    Ok(())
}
