//! `pinmill config` and `pinmill completions`.

use clap::CommandFactory;
use serde_json::json;

use crate::args::{Cli, Completions, ConfigCommand};
use crate::context::Context;
use crate::error::Failure;
use crate::render::Rows;
use crate::settings::{Shown, variable_of};

/// Shows the settings.
pub(crate) fn config(context: &Context, command: &ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Show { origin, output } = command;
    let mut rows = Rows::new(if *origin {
        &["setting", "value", "origin"]
    } else {
        &["setting", "value", "variable", "meaning"]
    });
    for Shown { name, value, origin: from, help } in context.settings.all()? {
        let variable = variable_of(&name);
        rows.rows.push(if *origin {
            vec![json!(name), json!(value), json!(from)]
        } else {
            vec![json!(name), json!(value), json!(variable), json!(help)]
        });
    }
    rows.write(&mut std::io::stdout().lock(), output.format.unwrap_or_default())
}

/// Prints a completion script.
pub(crate) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pinmill", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(())
}
