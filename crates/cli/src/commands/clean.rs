//! `pinmill clean`.

use std::io::Write;

use pinmill_flow::{CleanReport, Half};
use pinmill_lake::archive::{Archive, ArchiveConfig};
use pinmill_lake::{Lake, LateLake};
use serde_json::{Value, json};

use crate::args::Clean;
use crate::context::{Context, is_there};
use crate::error::Failure;
use crate::render::{Format, Rows, SCHEMA_VERSION, write_json};
use crate::streams::close;

/// Cleans what is new in the archive, or in the streams.
pub(crate) async fn clean(context: &Context, args: &Clean) -> Result<(), Failure> {
    let report = match args.from {
        Half::Batch => from_archive(context, args).await?,
        Half::Stream => from_streams(context).await?,
    };
    tell(&report);
    let damaged = report.damaged().count();
    let mut stdout = std::io::stdout().lock();
    match args.output.format.unwrap_or_default() {
        Format::Json => write_json(&mut stdout, &to_json(&report))?,
        Format::Table => {
            rows(&report).write(&mut stdout, Format::Table)?;
            writeln!(stdout, "{} records in {:.2} s", report.records(), report.seconds)?;
        }
        format => rows(&report).write(&mut stdout, format)?,
    }
    match damaged {
        0 => Ok(()),
        count => Err(Failure::expected(format!("{count} objects of the archive cannot be read"))
            .hint("mend them, or move them away: `clean` then goes on behind them")),
    }
}

async fn from_archive(context: &Context, args: &Clean) -> Result<CleanReport, Failure> {
    let mut options = context.clean_options();
    // Only what is brought along may be the beginning of a data folder.
    let lake = match archive(args.archive.as_deref()).await? {
        None => context.lake_there()?,
        Some((archive, prefix)) => {
            options = pinmill_flow::CleanOptions { archive: Some(archive), prefix, ..options };
            context.lake()?
        }
    };
    let (pipeline, engine) = (context.pipeline()?, context.engine()?);
    Ok(pinmill_flow::clean(&pipeline, &*engine, &lake, &options).await?)
}

/// The archive that `--archive` names, and the directory of the topics in it: `topics`, or none where the folder of the
/// topics was named itself (`topics.dir` of a sink may be anything). It must exist; if it is empty, a warning says so.
pub(crate) async fn archive(location: Option<&str>) -> Result<Option<(Lake, String)>, Failure> {
    const WANTED: &str =
        "--archive wants the folder in which the topics are, or the one in which `topics/` is";
    let Some(location) = location else { return Ok(None) };
    let lake = Lake::open_existing(location).map_err(|error| match error {
        pinmill_lake::Error::Missing { location, reason } => {
            Failure::expected(format!("there is no archive at `{location}`: {reason}")).hint(WANTED)
        }
        error => error.into(),
    })?;
    for topics_dir in ["topics", ""].map(str::to_owned) {
        let config = ArchiveConfig { topics_dir: topics_dir.clone(), ..ArchiveConfig::default() };
        if Archive::new(&lake, config).has_topics().await? {
            return Ok(Some((lake, topics_dir)));
        }
    }
    tracing::warn!("no topic is in {}, so nothing is read: {WANTED}", lake.url());
    Ok(Some((lake, "topics".to_owned())))
}

/// What `serve` does all the time, once.
async fn from_streams(context: &Context) -> Result<CleanReport, Failure> {
    context.need_data()?;
    let dir = context.streams_dir();
    if !is_there(&dir)? {
        let missing = format!("there are no streams: `{}` is not there", dir.display());
        return Err(
            Failure::expected(missing).hint("`pinmill serve` makes it; --data names another data folder")
        );
    }
    let lake = context.lake()?;
    let Some(streams) = context.streams().await? else {
        return Err(Failure::config("the streams are switched off: there is nothing to be loaded"));
    };
    context.go_on_behind_readers(&context.pipeline()?, &LateLake::from(&lake), (None, Some(&streams))).await;
    let report = context.streamer(&streams, None, &lake)?.run_once().await;
    close(&streams.log).await?;
    Ok(report?)
}

/// The report as a document.
pub(crate) fn to_json(report: &CleanReport) -> Value {
    let mut document = json!(report);
    document["schema_version"] = json!(SCHEMA_VERSION);
    document["records"] = json!(report.records());
    document
}

/// Warnings go to stderr, whatever stdout holds.
pub(crate) fn tell(report: &CleanReport) {
    for warning in report.warnings() {
        tracing::warn!("{warning}");
    }
}

fn rows(report: &CleanReport) -> Rows {
    let mut rows = Rows::new(&["dataset", "records", "clean", "quarantined", "objects", "files", "version"]);
    for set in &report.datasets {
        rows.rows.push(vec![
            json!(set.dataset),
            json!(set.records),
            json!(set.clean),
            json!(set.quarantined),
            json!(set.objects),
            json!(set.files),
            json!(set.version),
        ]);
    }
    rows
}
