//! `pinmill init`, `validate` and `test`: work on a pipeline folder.

use std::io::Write;

use pinmill_pipeline::{Error, Pipeline, Problem, Problems};
use serde_json::{Value, json};

use crate::args::{Folder, Init};
use crate::context::{Context, load_pipeline};
use crate::error::{EXPECTED, Failure, OrFail};
use crate::render::{SCHEMA_VERSION, write_json};

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
    let dir = context.pipeline_dir(args.dir.as_deref());
    let (pipeline, problems) = match load_pipeline(dir.as_deref()) {
        Ok(pipeline) => {
            let problems = context.engine()?.validate(&pipeline).await;
            (Some(pipeline), problems)
        }
        Err(Error::Invalid(problems)) => (None, problems),
        Err(error) => (None, Problems(vec![Problem::in_file(&dir.unwrap_or_default(), error.to_string())])),
    };
    let mut stdout = std::io::stdout().lock();
    if args.output.is_json() {
        write_json(&mut stdout, &to_json(&problems))?;
    } else if let Some(pipeline) = pipeline.filter(|_| problems.0.is_empty()) {
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

fn to_json(problems: &Problems) -> Value {
    let one = |problem: &Problem| {
        json!({
            "file": problem.file.display().to_string(),
            "line": problem.position.map(|(line, _)| line),
            "column": problem.position.map(|(_, column)| column),
            "message": problem.message,
            "hint": problem.hint,
        })
    };
    let listed: Vec<Value> = problems.0.iter().map(one).collect();
    json!({"schema_version": SCHEMA_VERSION, "valid": listed.is_empty(), "problems": listed})
}

/// Runs the folder's text cases.
pub(crate) async fn test(context: &Context, args: &Folder) -> Result<(), Failure> {
    let pipeline = context.pipeline_in(args.dir.as_deref())?;
    let report = pinmill_engine::run_tests(&pipeline, &*context.engine()?).await.or_fail()?;
    let mut stdout = std::io::stdout().lock();
    if args.output.is_json() {
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
