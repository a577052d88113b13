//! `pinmill config` and `pinmill completions`.

use clap::CommandFactory;
use serde_json::json;

use crate::args::{Cli, Completions, ConfigCommand};
use crate::context::Context;
use crate::error::Failure;
use crate::render::Rows;
use crate::settings::variable_of;

/// Shows the settings.
pub(crate) fn config(context: &Context, command: &ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Show { origin, output } = command;
    let mut rows = Rows::new(if *origin {
        &["setting", "value", "origin"]
    } else {
        &["setting", "value", "variable", "meaning"]
    });
    for (key, value) in context.settings.all() {
        let shown = json!(without_password(&value.text));
        rows.rows.push(if *origin {
            vec![json!(key.name), shown, json!(value.origin.to_string())]
        } else {
            vec![json!(key.name), shown, json!(variable_of(key.name)), json!(key.help)]
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

/// A URL with its password hidden; any other text as it is.
fn without_password(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // Fails only for URLs that cannot have a password.
            let _ = url.set_password(Some("***"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(without_password("mysql://u:secret@h/db"), "mysql://u:***@h/db");
        assert_eq!(without_password("pinmill-data"), "pinmill-data");
    }
}
