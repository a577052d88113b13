//! Clean + answer from a raw archive, cold, against DuckDB and Polars doing the same from the same files on the same two
//! cores.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::{Report, Target};
use super::{Context, Cost, measure, pinmill, text};
use crate::Result;
use crate::command::{cargo, root, run as run_command};
use crate::environments::Environment;

/// Records of one archive object; pinmill's own default.
const RECORDS_AN_OBJECT: u64 = 100_000;

/// Which events are in the archive.
#[derive(Clone, Copy)]
pub(super) enum Draw {
    /// Ids drawn with replacement from those of the reference, as its emulator does.
    Replacement,
    /// Every event another id.
    Distinct,
}

/// 1,000,000 drawn events.
pub(super) fn drawn(context: &Context) -> Result<Report> {
    large(context, Draw::Replacement)
}

/// 1,000,000 different events.
pub(super) fn distinct(context: &Context) -> Result<Report> {
    large(context, Draw::Distinct)
}

fn large(context: &Context, draw: Draw) -> Result<Report> {
    let bench = Setup::new(context, draw, context.scaled(1_000_000))?;
    let mut report = Report::default();
    report.add("raw JSON", bench.raw_bytes()? / 1e6, "MB", Target::None);

    // The middle of three, taken in turn: one run of a few seconds is too easily disturbed.
    let mut runs: [Vec<Cost>; 3] = Default::default();
    for _ in 0..3 {
        let [duckdb, polars, pinmill] = &mut runs;
        duckdb.push(bench.duckdb()?);
        polars.push(bench.polars()?);
        pinmill.push(bench.pinmill(&bench.archive)?);
        bench.same_answers()?;
    }
    let [duckdb, polars, first] = runs.map(middle);
    for (side, cost) in [("DuckDB", duckdb), ("Polars", polars), ("pinmill", first)] {
        report.add(format!("{side}, clean + answer, wall clock"), cost.seconds, "s", Target::None);
        report.add(format!("{side}, clean + answer, CPU"), cost.cpu_seconds, "s", Target::None);
        let most = if side == "pinmill" { Target::AtMost(2048.0) } else { Target::None };
        report.add(format!("{side}, most memory"), cost.max_rss_bytes / 1048576.0, "MiB", most);
    }
    let ratios = [("DuckDB", duckdb, Target::AtMost(0.8)), ("Polars", polars, Target::None)];
    for (side, cost, target) in ratios {
        report.add(format!("pinmill / {side}, CPU"), first.cpu_seconds / cost.cpu_seconds, "", target);
        report.add(format!("pinmill / {side}, wall clock"), first.seconds / cost.seconds, "", Target::None);
    }

    let second = bench.pinmill(&bench.archive_with_more)?;
    report.add("pinmill, a second run with 1 % more", second.seconds, "s", Target::None);
    report.add("second run / first run", second.seconds / first.seconds, "", Target::AtMost(0.1));
    Ok(report)
}

/// 11,154 events: what a process costs that has little to do.
pub(super) fn small(context: &Context) -> Result<Report> {
    let bench = Setup::new(context, Draw::Distinct, 11_154)?;
    let mut report = Report::default();
    let mut runs: [Vec<Cost>; 3] = Default::default();
    for _ in 0..5 {
        let [duckdb, polars, pinmill] = &mut runs;
        duckdb.push(bench.duckdb()?);
        polars.push(bench.polars()?);
        pinmill.push(bench.pinmill(&bench.archive)?);
        bench.same_answers()?;
    }
    let [duckdb, polars, ours] = runs.map(middle);
    for (side, cost) in [("DuckDB", duckdb), ("Polars", polars), ("pinmill", ours)] {
        let target = if side == "pinmill" { Target::AtMost(0.5) } else { Target::None };
        report.add(format!("{side}, clean + answer, middle of 5"), cost.seconds, "s", target);
        report.add(format!("{side}, CPU"), cost.cpu_seconds, "s", Target::None);
    }
    Ok(report)
}

/// The run that took the middle CPU time; of no runs, nothing that could be compared.
fn middle(mut runs: Vec<Cost>) -> Cost {
    runs.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
    let none = Cost { seconds: f64::NAN, cpu_seconds: f64::NAN, max_rss_bytes: f64::NAN };
    runs.get(runs.len() / 2).copied().unwrap_or(none)
}

/// The files of one comparison.
pub(super) struct Setup {
    program: PathBuf,
    archive: PathBuf,
    /// The same objects and one more of each topic, with a hundredth of the records.
    archive_with_more: PathBuf,
    work: PathBuf,
}

impl Setup {
    pub(super) fn new(context: &Context, draw: Draw, events: u64) -> Result<Self> {
        let program = pinmill()?;
        let kind = match draw {
            Draw::Replacement => "drawn",
            Draw::Distinct => "distinct",
        };
        let folder = context.data.join(format!("{kind}-{events}"));
        let archive = folder.join("archive");
        let archive_with_more = folder.join("archive-with-more");
        // Made last, so it is there only where all is.
        if !archive_with_more.is_dir() {
            let rows = folder.join("rows");
            dump(draw, events + events / 100, &rows)?;
            let unfinished = folder.join("unfinished");
            make_archive(&rows, events, &archive, &unfinished)?;
            fs::rename(&unfinished, &archive_with_more)
                .map_err(|e| format!("{}: {e}", unfinished.display()))?;
            let _ = fs::remove_dir_all(&rows);
        }
        // Both sides find the files in the page cache.
        for object in objects(&archive_with_more)? {
            fs::read(&object).map_err(|e| format!("{}: {e}", object.display()))?;
        }
        Ok(Self { program, archive, archive_with_more, work: folder.join("work") })
    }

    fn raw_bytes(&self) -> Result<f64> {
        let mut bytes = 0;
        for object in objects(&self.archive)? {
            bytes += fs::metadata(&object).map_err(|e| format!("{}: {e}", object.display()))?.len();
        }
        #[allow(clippy::cast_precision_loss, reason = "a file of 2^53 bytes does not fit this bench")]
        Ok(bytes as f64)
    }

    /// DuckDB into an empty folder.
    fn duckdb(&self) -> Result<Cost> {
        self.peer("duckdb")
    }

    /// Polars into an empty folder.
    fn polars(&self) -> Result<Cost> {
        self.peer("polars")
    }

    /// The script `bench/<name>_batch.py` into an empty folder.
    fn peer(&self, name: &str) -> Result<Cost> {
        let tables = self.fresh(name)?;
        let python = Environment::Python.made()?;
        let script = root().join(format!("bench/{name}_batch.py"));
        let command = [text(&python)?, text(&script)?, text(&self.archive)?, text(&tables)?];
        measure(&command, &self.answers_of(name))
    }

    /// pinmill: cold into an empty folder, or, with the longer archive, on top of what the run before left.
    fn pinmill(&self, archive: &Path) -> Result<Cost> {
        let data = if archive == self.archive { self.fresh("pinmill")? } else { self.work.join("pinmill") };
        let cleaned = self.clean(archive, &data)?;
        let program = text(&self.program)?;
        let answer =
            [program, "answer", "--format", "json", "--data", text(&data)?, "--no-progress", "--quiet"];
        Ok(cleaned.then(measure(&answer, &self.answers_of("pinmill"))?))
    }

    /// Only the cleaning, cold into an empty folder; and where that is.
    pub(super) fn clean_only(&self) -> Result<(Cost, PathBuf)> {
        let data = self.fresh("pinmill")?;
        Ok((self.clean(&self.archive, &data)?, data))
    }

    fn clean(&self, archive: &Path, data: &Path) -> Result<Cost> {
        let archive = self.at_one_place(archive)?;
        let clean = [
            text(&self.program)?,
            "clean",
            "--archive",
            text(&archive)?,
            "--format",
            "json",
            "--data",
            text(data)?,
            "--no-progress",
            "--quiet",
        ];
        measure(&clean, &self.work.join("clean.json"))
    }

    /// A folder that shows an archive, the same for all of them: tables go on only with the archive they began with, and
    /// know it by its place.
    fn at_one_place(&self, archive: &Path) -> Result<PathBuf> {
        let place = self.fresh("archive")?;
        let failed = |e: std::io::Error| format!("{}: {e}", archive.display());
        let topics = archive.join("topics").canonicalize().map_err(failed)?;
        std::os::unix::fs::symlink(topics, place.join("topics")).map_err(failed)?;
        Ok(place)
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        if folder.is_dir() {
            fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    fn answers_of(&self, side: &str) -> PathBuf {
        self.work.join(format!("{side}.json"))
    }

    /// A fast wrong answer is worth nothing.
    fn same_answers(&self) -> Result {
        let read = |side: &str| -> Result<Value> {
            let path = self.answers_of(side);
            let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let value: Value = serde_json::from_reader(BufReader::new(file))
                .map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(value.get("answers").cloned().unwrap_or_default())
        };
        let ours = read("pinmill")?;
        for peer in ["duckdb", "polars"] {
            if read(peer)? != ours {
                let work = self.work.display();
                return Err(format!("the answers differ: compare pinmill.json and {peer}.json in {work}"));
            }
        }
        Ok(())
    }
}

/// The generator's rows as one file a dataset.
fn dump(draw: Draw, events: u64, to: &Path) -> Result {
    let _ = fs::remove_dir_all(to);
    let order = match draw {
        Draw::Replacement => "replacement",
        Draw::Distinct => "sequence",
    };
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "pinmill-emulate", "--example", "dump", "--"]);
    run_command(command.arg(to).arg(events.to_string()).arg(order))
}

/// Cuts the rows into objects as an S3 sink would: the first `events` of each into `archive` and into `with_more`, the
/// rest into one more object of `with_more`.
fn make_archive(rows: &Path, events: u64, archive: &Path, with_more: &Path) -> Result {
    for folder in [archive, with_more] {
        let _ = fs::remove_dir_all(folder);
    }
    for dataset in ["pin", "geo", "user"] {
        let rows = rows.join(format!("{dataset}.jsonl"));
        cut(&rows, dataset, events, archive, with_more).map_err(|e| format!("{}: {e}", rows.display()))?;
    }
    Ok(())
}

fn cut(rows: &Path, dataset: &str, events: u64, archive: &Path, with_more: &Path) -> std::io::Result<()> {
    let topic = format!("bench.{dataset}");
    let partition = format!("topics/{topic}/partition=0");
    fs::create_dir_all(archive.join(&partition))?;
    fs::create_dir_all(with_more.join(&partition))?;
    let mut rows = BufReader::with_capacity(1 << 20, File::open(rows)?);
    let mut line = Vec::new();
    let mut offset = 0;
    while !rows.fill_buf()?.is_empty() {
        let object = format!("{partition}/{topic}+0+{offset:010}.json");
        let more = offset >= events;
        let path = if more { with_more } else { archive }.join(&object);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        let end = if more { u64::MAX } else { events.min(offset + RECORDS_AN_OBJECT) };
        while offset < end {
            line.clear();
            if rows.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            file.write_all(&line)?;
            offset += 1;
        }
        file.flush()?;
        if !more {
            fs::hard_link(&path, with_more.join(&object))?;
        }
    }
    Ok(())
}

/// Every object of an archive made here.
fn objects(archive: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![archive.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries.flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
