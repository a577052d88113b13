//! The binary `pinmill`: arguments, configuration, wiring and exit codes. What it wires lives in the other crates.

mod args;
mod commands;
mod context;
mod crash;
mod error;
mod memory;
mod render;
mod settings;
mod strays;
mod streams;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, LogFormat};
use crate::context::Context;
use crate::error::Failure;

fn main() -> ExitCode {
    memory::settle();
    let cli = Cli::parse();
    say_words_on_stderr(&cli);
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

/// Prints a failure on stderr: what, why, and what to do.
fn tell(failure: &Failure) {
    if failure.silent {
        return;
    }
    let mut stderr = std::io::stderr().lock();
    // Nothing is left to tell anybody when stderr itself is gone.
    let _ = writeln!(stderr, "error: {}", failure.message);
    for hint in &failure.hints {
        let _ = writeln!(stderr, "  hint: {hint}");
    }
}

fn say_words_on_stderr(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    let level = match i16::from(cli.global.verbose) - i16::from(cli.global.quiet) {
        ..=-2 => "error",
        -1 => "warn",
        0 => "warn,pinmill=info",
        1 => "info,pinmill=debug",
        _ => "debug,pinmill=trace",
    };
    let filter = std::env::var("PINMILL_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let colours =
        std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let words = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(level)))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colours);
    match cli.global.log_format {
        LogFormat::Text => words.compact().init(),
        LogFormat::Json => words.json().init(),
    }
}
