//! The binary `pinmill`: arguments, configuration, wiring and exit codes. What it wires lives in the other crates.

mod args;
mod commands;
mod context;
mod crash;
mod drain;
mod error;
mod memory;
mod parts;
mod render;
mod settings;
mod signals;
mod stderr;
mod strays;
mod streams;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, LogFormat};
use crate::context::Context;
use crate::error::Failure;

fn main() -> ExitCode {
    memory::settle();
    let _flush = stderr::FlushAtEnd;
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return explain(&refused),
    };
    init_logging(&cli);
    log_panics();
    crash::arm();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let context = Context::from_cli(&cli)?;
    match cli.command {
        Command::Run(args) => context.block_on(commands::run::run(&context, &args)),
        Command::Serve(_) => context.block_on(commands::serve::serve(&context)),
        Command::Emulate(args) => context.block_on(commands::emulate::emulate(&context, &args)),
        Command::Clean(args) => context.block_on(commands::clean::clean(&context, &args)),
        Command::Answer(args) => context.block_on(commands::answer::answer(&context, &args)),
        Command::Sql(args) => context.block_on(commands::answer::sql(&context, &args)),
        Command::Audit(args) => context.block_on(commands::audit::audit(&context, &args)),
        Command::Status(args) => context.block_on(commands::status::status(&context, &args)),
        Command::Tail(args) => context.block_on(commands::tail::tail(&context, &args)),
        Command::Tables(args) => context.block_on(commands::tables::tables(&context, args.command)),
        Command::Quarantine(args) => context.block_on(commands::quarantine::quarantine(&context, args)),
        Command::Log(args) => commands::log::log(&context, args),
        Command::Init(args) => commands::folder::init(&args),
        Command::Validate(args) => context.block_on(commands::folder::validate(&context, &args)),
        Command::Test(args) => context.block_on(commands::folder::test(&context, &args)),
        Command::Config(args) => commands::config::config(&context, &args.command),
        Command::Completions(args) => commands::config::completions(&args),
    }
}

/// Prints what clap says: help on stdout, what is wrong with the arguments on stderr.
fn explain(refused: &clap::Error) -> ExitCode {
    if refused.use_stderr() {
        let text = refused.render();
        let text = if may_colour() { text.ansi().to_string() } else { text.to_string() };
        stderr::say(text.as_bytes());
    } else {
        // A reader of the help that has gone has read enough.
        let _ = refused.print();
    }
    ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(error::INTERNAL))
}

/// Prints a failure on stderr: what, why, and what to do.
fn tell(failure: &Failure) {
    if failure.silent {
        return;
    }
    let hints: String = failure.hints.iter().map(|hint| format!("  hint: {hint}\n")).collect();
    stderr::say(format!("error: {}\n{hints}", failure.message).as_bytes());
}

fn may_colour() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}

/// What is logged with so many `-v` less `-q`. Words of dependencies come at `-vv` only: every error that they log they
/// also return, and pinmill says it with the place and what becomes of it, or goes on because it is none (another commit
/// came first, a checkpoint is not there yet).
fn log_level(verbosity: i16) -> &'static str {
    match verbosity {
        ..=-2 => "off,pinmill=error",
        -1 => "off,pinmill=warn",
        0 => "off,pinmill=info",
        1 => "off,pinmill=debug",
        _ => "debug,pinmill=trace",
    }
}

/// Sends what the program logs to stderr.
fn init_logging(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    let level = log_level(i16::from(cli.global.verbose) - i16::from(cli.global.quiet));
    let filter = std::env::var("PINMILL_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(level)))
        .with_writer(|| stderr::Stderr)
        // It would print its own errors on stderr, and panic where that fails.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(may_colour());
    match cli.global.log_format {
        LogFormat::Text => log.compact().init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Logs panics like any other error. The standard hook would wait for a stderr that nobody reads.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let why = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(thread, place, "panicked, which is a defect in pinmill: {why}");
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            stderr::say(format!("{trace}").as_bytes());
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::sync::Mutex;

    use tracing_subscriber::EnvFilter;

    use super::*;

    /// What is logged at this verbosity when a dependency fails and pinmill tells the failure.
    fn told(verbosity: i16) -> String {
        let mut said = tempfile::tempfile().unwrap();
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(log_level(verbosity)))
            .with_ansi(false)
            .with_writer(Mutex::new(said.try_clone().unwrap()));
        tracing::subscriber::with_default(log.finish(), || {
            tracing::error!(target: "buoyant_kernel::snapshot", "theirs");
            tracing::error!(target: "pinmill_lake::table", "ours");
            tracing::debug!(target: "pinmill", "a step");
        });
        let mut text = String::new();
        said.rewind().unwrap();
        said.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_dependencys_words_come_with_two_v_only_and_our_own_errors_always() {
        for (verbosity, theirs, step) in
            [(-2, false, false), (0, false, false), (1, false, true), (2, true, true)]
        {
            let told = told(verbosity);
            assert!(told.contains("ours"), "{verbosity}: {told}");
            assert_eq!(told.contains("theirs"), theirs, "{verbosity}: {told}");
            assert_eq!(told.contains("a step"), step, "{verbosity}: {told}");
        }
    }
}
