//! `pinmill serve`: the gateway and both halves until told to stop.

use std::io::Write;
use std::sync::Arc;

use pinmill_broker::{EmbeddedLog, EventLog};
use pinmill_flow::{ArchiveReport, Archiver, CleanReport, Half, Parts, Runner};
use pinmill_gateway::Gateway;
use pinmill_lake::LateLake;
use pinmill_pipeline::Pipeline;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::drain::Drain;
use crate::error::{CONFIG, Failure, OrFail};
use crate::parts::{Announced, Shown};
use crate::settings::Span;
use crate::signals::cancel_on_signal;
use crate::streams::Streams;
use crate::{stderr, strays};

/// Serves until SIGTERM or ctrl-c; then open requests are finished, what is left is archived and committed as far as the
/// drain time-out allows, and the process ends.
pub(crate) async fn serve(context: &Context) -> Result<(), Failure> {
    let pipeline = context.pipeline()?;
    context.engine()?.validate(&pipeline).await.into_result().or_fail()?;
    let front = context.gateway_runtime()?;
    // First of all that a folder is made for: where the port is taken, nothing is left behind.
    let listening = front.run(Gateway::listen(context.gateway(context.listen()?))).await?;
    let listening = listening.map_err(|error| not_bound(&error))?;
    // Posts are taken also while the lake is out of reach: it is opened by those who need it.
    let lake = context.late_lake()?;
    let log = context.log()?;
    let streams = context.streams().await?;
    let topics: Arc<dyn EventLog> = Arc::<EmbeddedLog>::clone(&log);
    context.go_on_behind_readers(&pipeline, &lake, (Some(topics), streams.as_ref())).await;
    let stop = CancellationToken::new();
    cancel_on_signal(&stop)?;
    let parts = Parts::default();
    let shown = Arc::new(Shown::new(&parts));
    let mut gateway = listening.over(Arc::<EmbeddedLog>::clone(&log)).with_parts(Arc::<Shown>::clone(&shown));
    // The gateway's /metrics shows what both halves count.
    metrics::set_global_recorder(gateway.recorder()).or_fail()?;
    stderr::publish_dropped();
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
    let _announced = Announced::at(&context.data(), address, &shown);
    let mut logs = vec![(Half::Batch, Arc::<EmbeddedLog>::clone(&log) as Arc<dyn EventLog>)];
    if let Some(Streams { kinesis, .. }) = &streams {
        logs.push((Half::Stream, Arc::new(kinesis.shards_log())));
    }
    tokio::spawn(strays::tell(pipeline.clone(), logs, stop.clone()));

    let drain = Drain::after(&stop, context.settings.gateway.drain_timeout.0);
    let loops = Loops::start(context, pipeline, &lake, (&log, streams.as_ref()), &parts, (&stop, &drain))?;
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
    let served = front.run(gateway.serve_until(stop.clone(), drain.overdue.clone())).await;
    // Where the gateway has ended by itself, so does the process.
    stop.cancel();
    drain.requests_done();
    let ended = loops.end(&drain).await;
    let cut_short = drain.cut_short(&parts);
    let closed = drain.close(&log, streams.as_ref()).await;
    let cut = served?.cut;
    if cut > 0 {
        tracing::warn!("{cut} connections were cut: they did not end in time");
    }
    closed?;
    if let (Err(_), Err(also)) = (&ended, &cut_short) {
        tracing::warn!("{}", also.message);
    }
    ended.and(cut_short)
}

/// What runs beside the gateway.
struct Loops {
    archiving: AbortOnDropHandle<pinmill_flow::Result<ArchiveReport>>,
    streaming: Option<AbortOnDropHandle<pinmill_flow::Result<CleanReport>>>,
    batches: Option<AbortOnDropHandle<pinmill_flow::Result<()>>>,
}

impl Loops {
    /// Archiver and streamer outlive the gateway, so that what the last requests brought is archived and loaded too.
    fn start(
        context: &Context,
        pipeline: Pipeline,
        lake: &LateLake,
        (log, streams): (&Arc<EmbeddedLog>, Option<&Streams>),
        parts: &Parts,
        (stop, drain): (&CancellationToken, &Drain),
    ) -> Result<Self, Failure> {
        let topics: Arc<dyn EventLog> = Arc::<EmbeddedLog>::clone(log);
        let archiver = Archiver::new(Arc::clone(&topics), lake.clone(), context.archive_config());
        let archiver = Arc::new(archiver.with_parts(parts));
        let streamer = match streams {
            Some(streams) => Some(context.streamer(streams, Some(topics), lake.clone())?.with_parts(parts)),
            None => None,
        };
        let batches = match context.settings.batch_every.0 {
            Some(Span(every)) => {
                let (engine, archiver, options) =
                    (context.engine()?, Arc::clone(&archiver), context.clean_options());
                let runner = Runner::new(pipeline, engine, lake.clone(), archiver, options);
                Some((Arc::new(runner.with_parts(parts)), every))
            }
            None => None,
        };
        let wind_up = drain.wind_up.clone();
        let archiving = spawn({
            let wind_up = wind_up.clone();
            async move { archiver.supervised(wind_up).await }
        });
        let streaming = streamer.map(|streamer| spawn(async move { streamer.run(wind_up).await }));
        let stop = stop.clone();
        let batches = batches.map(|(runner, every)| spawn(async move { runner.every(every, stop).await }));
        Ok(Self { archiving, streaming, batches })
    }

    /// Waits for each part to finish its work, or for the drain time-out.
    ///
    /// # Errors
    /// The first one's error.
    async fn end(self, drain: &Drain) -> Result<(), Failure> {
        let Self { archiving, streaming, batches } = self;
        let (archived, streamed, ran) = futures::join!(
            drain.in_time(archiving),
            drain.in_time_if_any(streaming),
            drain.in_time_if_any(batches)
        );
        let (archived, streamed) = (archived?, streamed?);
        ran?;
        if let Some(archived) = archived {
            tracing::info!("{} records archived in {} objects", archived.records, archived.objects);
        }
        if let Some(streamed) = streamed {
            tracing::info!("{} records of streams loaded", streamed.records());
        }
        Ok(())
    }
}

fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
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
