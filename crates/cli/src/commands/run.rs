//! `pinmill run`: the whole pipeline once, with its own emulator.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use pinmill_broker::{EmbeddedLog, EventLog};
use pinmill_emulate::{DrawOrder, Options, SourceSpec, Summary, Target};
use pinmill_flow::{AnswerOptions, AnswerReport, Archiver, AuditOptions, AuditReport, CleanReport};
use pinmill_gateway::{Gateway, GatewayConfig};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::{Draw, Run};
use crate::commands::{answer, audit, clean, emulate, serve};
use crate::context::Context;
use crate::error::{Failure, OrFail, UNBALANCED};
use crate::render::{Format, SCHEMA_VERSION, write_json};

/// Posts, archives, cleans, answers and audits.
pub(crate) async fn run(context: &Context, args: &Run) -> Result<(), Failure> {
    let started = Instant::now();
    let pipeline = context.pipeline()?;
    let engine = context.engine()?;
    let lake = context.lake()?;
    let log = context.log()?;

    let posted = post(context, args, Arc::<EmbeddedLog>::clone(&log)).await?;
    emulate::complete(&posted)?;
    Archiver::new(Arc::<EmbeddedLog>::clone(&log), &lake, serve::archive_config(context)?).run_once().await?;
    let cleaned = pinmill_flow::clean(&pipeline, &*engine, &lake, &serve::clean_options(context)?).await?;
    clean::tell(&cleaned);
    let answers = pinmill_flow::answer(&pipeline, &*engine, &lake, &AnswerOptions::default()).await?;
    let audit =
        pinmill_flow::audit(&pipeline, &*engine, Some(&*log), &lake, &AuditOptions::default()).await?;
    let log = Arc::clone(log.log());
    tokio::task::spawn_blocking(move || log.close()).await.or_fail()?.or_fail()?;

    let done = Done { posted, cleaned, answers, audit, seconds: started.elapsed().as_secs_f64() };
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => done.write_json(&mut stdout)?,
        format => done.write(&mut stdout, format, context)?,
    }
    if done.audit.balanced { Ok(()) } else { Err(Failure::told(UNBALANCED)) }
}

/// Starts a gateway on a free port, posts the events to it, and drains it.
async fn post(context: &Context, args: &Run, log: Arc<dyn EventLog>) -> Result<Summary, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let front = context.gateway_runtime()?;
    let config = GatewayConfig { listen, ..context.gateway()? };
    let gateway = front.run(Gateway::bind(config, log)).await?.or_fail()?;
    let url = format!("http://{}", gateway.local_addr());
    let stop = CancellationToken::new();
    let source: SourceSpec =
        context.settings.text("source").parse().map_err(|error| Failure::config(format!("{error}")))?;
    let source = pinmill_emulate::open(&source, args.seed).await.or_fail()?;
    let options = Options {
        draw: match args.draw {
            Draw::Replacement => DrawOrder::Replacement,
            Draw::Sequence => DrawOrder::Sequence,
        },
        posts: Some(args.posts),
        seed: args.seed,
        connections: args.connections,
        progress: context.progress,
        ..Options::new(Target::topics(&url, None).or_fail()?)
    };
    let interrupted = CancellationToken::new();
    serve::cancel_on_signal(&interrupted)?;
    let posting = async {
        let posted = pinmill_emulate::emulate(options, source, &interrupted).await;
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
    cleaned: CleanReport,
    answers: AnswerReport,
    audit: AuditReport,
    seconds: f64,
}

impl Done {
    fn write_json(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "answers": answer::to_json(&self.answers)?,
            "summary": {
                "seconds": self.seconds,
                "posted": self.posted,
                "cleaned": clean::to_json(&self.cleaned),
                "answers_seconds": self.answers.seconds,
            },
            "audit": self.audit,
        });
        write_json(out, &document)
    }

    fn write(&self, out: &mut dyn Write, format: Format, context: &Context) -> Result<(), Failure> {
        answer::write_answers(out, &self.answers, format)?;
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
        writeln!(out, "answered: {} questions in {:.2} s", self.answers.answers.len(), self.answers.seconds)?;
        writeln!(out, "in all:   {:.2} s, data in {}", self.seconds, context.data().display())?;
        Ok(())
    }
}
