//! `pinmill log verify` and `repair`.

use std::io::Write;

use pinmill_log::{Lost, Problem};
use serde_json::{Value, json};

use crate::args::{Log, LogCommand};
use crate::context::Context;
use crate::error::{EXPECTED, Failure, OrFail};
use crate::render::{SCHEMA_VERSION, write_json};

/// Checks or repairs a log of the data folder.
pub(crate) fn log(context: &Context, args: Log) -> Result<(), Failure> {
    let dir = if args.streams { context.streams_dir() } else { context.log_dir() };
    let mut stdout = std::io::stdout().lock();
    match args.command {
        LogCommand::Verify { output } => {
            let report = pinmill_log::verify(&dir).or_fail()?;
            if output.is_json() {
                let document = json!({
                    "schema_version": SCHEMA_VERSION,
                    "sound": report.is_sound(),
                    "topics": report.topics,
                    "partitions": report.partitions,
                    "segments": report.segments,
                    "batches": report.batches,
                    "records": report.records,
                    "positions": report.positions,
                    "bytes": report.bytes,
                    "problems": problems(&report.problems),
                    "lost": lost(&report.lost),
                });
                write_json(&mut stdout, &document)?;
            } else {
                writeln!(
                    stdout,
                    "{}: {} topics, {} partitions, {} segments, {} records, {} positions, {} bytes",
                    dir.display(),
                    report.topics,
                    report.partitions,
                    report.segments,
                    report.records,
                    report.positions,
                    report.bytes
                )?;
                tell(&mut stdout, &report.problems, &report.lost)?;
            }
            if report.is_sound() { Ok(()) } else { Err(Failure::told(EXPECTED)) }
        }
        LogCommand::Repair { to, output } => {
            let report = pinmill_log::repair(&dir, &to).or_fail()?;
            if output.is_json() {
                let document = json!({
                    "schema_version": SCHEMA_VERSION,
                    "topics": report.topics,
                    "records": report.records,
                    "positions": report.positions,
                    "problems": problems(&report.problems),
                    "lost": lost(&report.lost),
                    "rebuilt": report.rebuilt,
                    "unreadable": report.unreadable,
                });
                write_json(&mut stdout, &document)?;
            } else {
                writeln!(
                    stdout,
                    "wrote {}: {} topics, {} records, {} positions",
                    to.display(),
                    report.topics,
                    report.records,
                    report.positions
                )?;
                tell(&mut stdout, &report.problems, &report.lost)?;
                for path in &report.unreadable {
                    writeln!(stdout, "  {} could not be read at all", path.display())?;
                }
            }
            Ok(())
        }
    }
}

fn tell(out: &mut dyn Write, problems: &[Problem], lost: &[Lost]) -> Result<(), Failure> {
    for problem in problems {
        writeln!(
            out,
            "  {} at byte {}: {} ({:?})",
            problem.file.display(),
            problem.position,
            problem.what,
            problem.damage
        )?;
    }
    for lost in lost {
        match lost.to {
            Some(to) => {
                writeln!(out, "  lost: {}/{} from offset {} to {to}", lost.topic, lost.partition, lost.from)?;
            }
            None => writeln!(
                out,
                "  lost: {}/{} from offset {} on, how many is not known",
                lost.topic, lost.partition, lost.from
            )?,
        }
    }
    Ok(())
}

fn problems(problems: &[Problem]) -> Value {
    let one = |problem: &Problem| {
        json!({
            "file": problem.file.display().to_string(),
            "position": problem.position,
            "what": problem.what,
            "damage": format!("{:?}", problem.damage),
        })
    };
    problems.iter().map(one).collect()
}

fn lost(lost: &[Lost]) -> Value {
    lost.iter().map(|lost| json!({"topic": lost.topic, "partition": lost.partition, "from": lost.from, "to": lost.to})).collect()
}
