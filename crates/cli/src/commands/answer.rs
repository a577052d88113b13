//! `pinmill answer` and `pinmill sql`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use pinmill_flow::{AnswerOptions, AnswerReport};
use pinmill_pipeline::Pipeline;
use serde_json::{Map, Value, json};

use crate::args::{Answer, Sql};
use crate::context::Context;
use crate::error::{Failure, OrFail};
use crate::render::{Format, Rows, SCHEMA_VERSION, write_json};

/// Gives the answers.
pub(crate) async fn answer(context: &Context, args: &Answer) -> Result<(), Failure> {
    let pipeline = context.pipeline()?;
    let names = args.names.iter().map(|name| full_name(&pipeline, name)).collect::<Result<Vec<_>, _>>()?;
    if args.output_file.is_some() && names.len() != 1 {
        return Err(Failure::internal("a file holds one answer")
            .hint("name the answer: pinmill answer 06 -o six.parquet"));
    }
    let options = AnswerOptions { names, half: args.from, ..AnswerOptions::default() };
    let (engine, lake) = (context.engine()?, context.lake_there()?);
    let report = pinmill_flow::answer(&pipeline, &*engine, &lake, &options).await?;
    match (&args.output_file, report.answers.first()) {
        (Some(file), Some(answer)) => {
            write_file(file, &answer.rows.schema(), std::slice::from_ref(&answer.rows))?;
        }
        // It failed, which is said below.
        (Some(_), None) => {}
        (None, _) => {
            let format = args.output.format.unwrap_or_default();
            write_answers(&mut std::io::stdout().lock(), &report, format)?;
        }
    }
    complete(&report)
}

/// Fails where an answer did, and says which and why.
pub(crate) fn complete(report: &AnswerReport) -> Result<(), Failure> {
    if report.failures.is_empty() {
        return Ok(());
    }
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    let what = if failures.len() == 1 { "an answer" } else { "some answers" };
    Err(Failure::expected(format!("{what} failed:\n  {}", failures.join("\n  "))))
}

/// What failed, by name, for a document; `None` where nothing did.
pub(crate) fn errors(report: &AnswerReport) -> Option<Value> {
    let errors = report.failures.iter().map(|failure| (failure.name.clone(), json!(failure.reason)));
    let errors: Map<String, Value> = errors.collect();
    (!errors.is_empty()).then_some(Value::Object(errors))
}

/// Runs one query.
pub(crate) async fn sql(context: &Context, args: &Sql) -> Result<(), Failure> {
    let mut query = args.query.clone();
    if query == "-" {
        query.clear();
        std::io::stdin().read_to_string(&mut query)?;
    }
    let engine = context.engine()?;
    let result = {
        let (pipeline, lake) = (context.pipeline()?, context.lake_there()?);
        pinmill_flow::sql(&pipeline, &*engine, &lake, args.from, &query).await?
    };
    let schema = result.schema;
    let batches: Vec<RecordBatch> = result.batches.try_collect().await.or_fail()?;
    match &args.output_file {
        Some(file) => write_file(file, &schema, &batches),
        None => Rows::from_batches(&schema, &batches)?
            .write(&mut std::io::stdout().lock(), args.output.format.unwrap_or_default()),
    }
}

/// The answer that a name, or the beginning of one up to an underscore, means.
fn full_name(pipeline: &Pipeline, name: &str) -> Result<String, Failure> {
    let exact = |answer: &&pinmill_pipeline::Answer| {
        answer.name == name || answer.name.split('_').next() == Some(name)
    };
    if let Some(answer) = pipeline.answers.iter().find(exact) {
        return Ok(answer.name.clone());
    }
    let known: Vec<&str> = pipeline.answers.iter().map(|answer| answer.name.as_str()).collect();
    Err(Failure::internal(format!("there is no answer `{name}`"))
        .hint(format!("there are {}", known.join(", "))))
}

/// `{"01_…": {"columns": […], "rows": [[…]]}, …}`.
pub(crate) fn to_json(report: &AnswerReport) -> Result<Value, Failure> {
    let mut answers = Map::new();
    for answer in &report.answers {
        let rows = Rows::from_batches(&answer.rows.schema(), std::slice::from_ref(&answer.rows))?;
        answers.insert(answer.name.clone(), rows.to_json());
    }
    Ok(Value::Object(answers))
}

/// All answers, one after the other.
pub(crate) fn write_answers(
    out: &mut dyn Write,
    report: &AnswerReport,
    format: Format,
) -> Result<(), Failure> {
    if format == Format::Json {
        let mut document = json!({
            "schema_version": SCHEMA_VERSION,
            "run": report.run,
            "tables": report.tables,
            "answers": to_json(report)?,
        });
        if let Some(errors) = errors(report) {
            document["errors"] = errors;
        }
        return write_json(out, &document);
    }
    for (index, answer) in report.answers.iter().enumerate() {
        let rows = Rows::from_batches(&answer.rows.schema(), std::slice::from_ref(&answer.rows))?;
        let gap = if index == 0 { "" } else { "\n" };
        match format {
            Format::Table => writeln!(out, "{gap}{} ({})", answer.title, answer.name)?,
            Format::Markdown => writeln!(out, "{gap}## {}\n", answer.title)?,
            // One answer is a file as it is; several have their names between them.
            Format::Csv if report.answers.len() > 1 => writeln!(out, "{gap}# {}", answer.name)?,
            _ => {}
        }
        // Lines of all answers follow each other, so each says whose it is.
        let rows = if format == Format::Ndjson { rows.labelled("answer", &answer.name) } else { rows };
        rows.write(out, format)?;
    }
    Ok(())
}

/// Writes rows to a file whose ending decides the form.
fn write_file(path: &Path, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), Failure> {
    let place = path.display().to_string();
    let create = || File::create(path).map_err(|error| Failure::from(error).within(&place));
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("parquet") => {
            let mut writer = ArrowWriter::try_new(create()?, Arc::clone(schema), None).or_fail()?;
            for batch in batches {
                writer.write(batch).or_fail()?;
            }
            writer.close().or_fail()?;
            return Ok(());
        }
        Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        Some("ndjson" | "jsonl") => Format::Ndjson,
        Some("md") => Format::Markdown,
        _ => {
            return Err(Failure::internal(format!("{place}: its ending says no form"))
                .hint("use .parquet, .csv, .json, .ndjson or .md"));
        }
    };
    let mut out = BufWriter::new(create()?);
    Rows::from_batches(schema, batches)?.write(&mut out, format)?;
    out.flush().map_err(|error| Failure::from(error).within(&place))
}
