//! `pinmill emulate`: the reference's posting emulation, for any gateway.

use std::io::Write;

use pinmill_emulate::{
    Creds, DateForm, DrawOrder, Options, Pace, SourceSpec, Summary, TargetError, read_ids,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::{Draw, Emulate};
use crate::context::Context;
use crate::error::{EXPECTED, Failure, INTERRUPTED, OrFail};
use crate::render::{SCHEMA_VERSION, write_json};

/// Posts until it is through, or until ctrl-c.
pub(crate) async fn emulate(context: &Context, args: &Emulate) -> Result<(), Failure> {
    let creds = args.creds.as_deref().map(Creds::read).transpose().or_fail()?;
    let source = source(context, creds.as_ref())?;
    let options = options(context, args, creds.as_ref())?;
    let source = pinmill_emulate::open(&source, args.seed).await.or_fail()?;
    let stop = CancellationToken::new();
    crate::signals::cancel_on_signal(&stop)?;
    let summary = pinmill_emulate::emulate(options, source, &stop).await.or_fail()?;
    let mut stdout = std::io::stdout().lock();
    if args.output.is_json() {
        write_json(&mut stdout, &json!({"schema_version": SCHEMA_VERSION, "summary": summary}))?;
    } else {
        writeln!(stdout, "{summary}")?;
    }
    complete(&summary, args.posts, &stop)?;
    whole(&summary, args.posts, &stop)
}

/// Fails when records stayed unacknowledged, or nothing was posted though something was asked for.
pub(crate) fn complete(
    summary: &Summary,
    posts: Option<u64>,
    interrupted: &CancellationToken,
) -> Result<(), Failure> {
    if summary.is_complete() {
        let is_enough = summary.records > 0 || posts == Some(0) || interrupted.is_cancelled();
        return if is_enough { Ok(()) } else { Err(nothing_posted(summary.events)) };
    }
    for error in &summary.errors {
        tracing::error!("{error}");
    }
    if let Some(why) = &summary.gave_up {
        return Err(Failure::expected(format!("gave up: {why}")));
    }
    Err(Failure {
        exit: EXPECTED,
        ..Failure::expected(format!("{} records were not acknowledged", summary.unacknowledged))
    })
}

fn nothing_posted(events: u64) -> Failure {
    if events == 0 {
        return Failure::expected("nothing was posted: there are no ids, or the source has no rows");
    }
    Failure::expected(format!("nothing was posted: the source has none of the {events} ids"))
        .hint("--draw sequence goes through all its rows; --ids posts those that a file names")
}

/// Fails where a signal ended the posting before all that was asked for was posted.
pub(crate) fn whole(
    summary: &Summary,
    posts: Option<u64>,
    interrupted: &CancellationToken,
) -> Result<(), Failure> {
    let Some(posts) = posts.filter(|posts| interrupted.is_cancelled() && summary.events < *posts) else {
        return Ok(());
    };
    let what = format!("interrupted: {} of {posts} events were posted", summary.events);
    Err(Failure { exit: INTERRUPTED, ..Failure::expected(what) })
}

/// An explicit `--source` wins over the database that the credentials name.
fn source(context: &Context, creds: Option<&Creds>) -> Result<SourceSpec, Failure> {
    match creds {
        Some(creds) if !context.settings.is_set("source") => {
            creds.database_url().map(SourceSpec::MySql).map_err(Failure::config)
        }
        _ => context.source(),
    }
}

fn options(context: &Context, args: &Emulate, creds: Option<&Creds>) -> Result<Options, Failure> {
    let targets = args.to.targets(args.url.as_deref(), args.prefix.as_deref(), creds);
    let targets = targets.map_err(|error| match error {
        TargetError::Missing(_) => Failure::internal(error)
            .hint("name one with --url, or a db_creds.yaml with a URL (streams: STREAMING_URL) by --creds"),
        error => Failure::chain(&error),
    })?;
    let draw = match (&args.ids, args.draw) {
        (Some(file), _) => DrawOrder::Ids(read_ids(file).or_fail()?),
        (None, Draw::Replacement) => DrawOrder::Replacement,
        (None, Draw::Sequence) => DrawOrder::Sequence,
    };
    Ok(Options {
        date_form: args.date_form.parse::<DateForm>().map_err(Failure::internal)?,
        draw,
        rows: args.rows,
        posts: args.posts,
        seed: args.seed,
        pace: args.pace.parse::<Pace>().map_err(Failure::internal)?,
        records_per_request: args.records_per_request,
        connections: args.connections,
        ack_log: args.ack_log.clone(),
        progress: context.progress || !context.quiet,
        ..Options::new(targets)
    })
}
