//! `pinmill init`, `validate` and `test`: work on a pipeline folder.

use std::io::Write;

use pinmill_pipeline::Pipeline;
use serde_json::json;

use crate::args::{Folder, Init};
use crate::context::Context;
use crate::error::{EXPECTED, Failure, OrFail};
use crate::render::{Format, SCHEMA_VERSION, write_json};

/// Writes the built-in folder out.
pub(crate) fn init(args: &Init) -> Result<(), Failure> {
    Pipeline::built_in().or_fail()?.write_to(&args.dir, args.force).or_fail()?;
    let dir = args.dir.display();
    writeln!(
        std::io::stdout().lock(),
        "wrote {dir}; next:\n  pinmill validate {dir}\n  pinmill test {dir}\n  pinmill run --pipeline {dir}"
    )?;
    Ok(())
}

/// Plans every file.
pub(crate) async fn validate(context: &Context, args: &Folder) -> Result<(), Failure> {
    let pipeline = context.pipeline_in(args.dir.as_deref())?;
    let problems = context.engine()?.validate(&pipeline).await;
    let mut stdout = std::io::stdout().lock();
    if args.output.format == Some(Format::Json) {
        let listed: Vec<_> = problems
            .0
            .iter()
            .map(|problem| {
                json!({
                    "file": problem.file.display().to_string(),
                    "line": problem.position.map(|(line, _)| line),
                    "column": problem.position.map(|(_, column)| column),
                    "message": problem.message,
                    "hint": problem.hint,
                })
            })
            .collect();
        write_json(
            &mut stdout,
            &json!({"schema_version": SCHEMA_VERSION, "valid": listed.is_empty(), "problems": listed}),
        )?;
    } else if problems.0.is_empty() {
        writeln!(
            stdout,
            "{}: {} datasets and {} answers are valid",
            pipeline.name,
            pipeline.datasets.len(),
            pipeline.answers.len()
        )?;
    } else {
        writeln!(stdout, "{problems}")?;
    }
    if problems.0.is_empty() { Ok(()) } else { Err(Failure::told(EXPECTED)) }
}

/// Runs the folder's text cases.
pub(crate) async fn test(context: &Context, args: &Folder) -> Result<(), Failure> {
    let pipeline = context.pipeline_in(args.dir.as_deref())?;
    let report = pinmill_engine::run_tests(&pipeline, &*context.engine()?).await.or_fail()?;
    let mut stdout = std::io::stdout().lock();
    if args.output.format == Some(Format::Json) {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "passed": report.passed(),
            "failed": report.failures().map(|case| json!({"case": case.name, "difference": case.difference})).collect::<Vec<_>>(),
        });
        write_json(&mut stdout, &document)?;
    } else {
        write!(stdout, "{report}")?;
    }
    if report.all_passed() { Ok(()) } else { Err(Failure::told(EXPECTED)) }
}
