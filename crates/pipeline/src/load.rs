//! From files to a [`Pipeline`], and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::model::{Answer, Pipeline, SourceFile};
use crate::problem::{Error, Problem, Problems, Result, nearest};
use crate::{manifest, sql};

/// Name of the file that declares a pipeline.
pub(crate) const MANIFEST: &str = "pipeline.toml";

/// No file of a pipeline is as large as this; one that is was not meant to be read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The files of a folder, by path relative to it with `/` between its parts.
pub type Files = BTreeMap<String, String>;

impl Pipeline {
    /// Reads a pipeline folder.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::Invalid`] with every problem found.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::from_files(&read_folder(folder)?)
    }

    /// Makes a pipeline of files given as text.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem found.
    pub fn from_files(files: &Files) -> Result<Self> {
        let mut problems = Problems::default();
        let pipeline = assemble(files, &mut problems);
        problems.into_result()?;
        pipeline.ok_or_else(|| Problem::in_file(Path::new(MANIFEST), "it cannot be read").into())
    }

    /// Writes the folder's files. Files that are there already are overwritten with `force` only.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when the folder holds files and `force` is false, [`Error::Io`].
    pub fn write_to(&self, folder: &Path, force: bool) -> Result<()> {
        write_files(&self.files(), folder, force)
    }

    /// The files that this pipeline was made of.
    pub fn files(&self) -> Files {
        let cleans = self.datasets.iter().map(|dataset| &dataset.clean);
        let answers = self.answers.iter().map(|answer| &answer.source);
        std::iter::once(&self.manifest)
            .chain(cleans)
            .chain(answers)
            .chain(&self.tests)
            .map(|file| (file.path.to_string_lossy().replace('\\', "/"), file.text.clone()))
            .collect()
    }
}

/// Writes files under a folder; see [`Pipeline::write_to`].
pub(crate) fn write_files(files: &Files, folder: &Path, force: bool) -> Result<()> {
    let holds_files = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(source) => return Err(Error::Io { action: "list", path: folder.to_owned(), source }),
    };
    if holds_files && !force {
        return Err(Error::NotEmpty(folder.to_owned()));
    }
    for (path, text) in files {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|source| Error::Io { action: "write", path, source })?;
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    let manifest = folder.join(MANIFEST);
    files.insert(MANIFEST.to_owned(), read_text(&manifest)?);
    for (sub, extensions) in [("clean", &["sql"][..]), ("answers", &["sql"]), ("tests", &["test", "md"])] {
        let dir = folder.join(sub);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Io { action: "list", path: dir, source }),
        };
        for entry in entries {
            let path =
                entry.map_err(|source| Error::Io { action: "list", path: dir.clone(), source })?.path();
            let wanted = path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted));
            if let (true, Some(name)) = (wanted, path.file_name()) {
                files.insert(format!("{sub}/{}", name.to_string_lossy()), read_text(&path)?);
            }
        }
    }
    Ok(files)
}

fn read_text(path: &Path) -> Result<String> {
    let error = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(error)?.len();
    if size > MAX_FILE_BYTES {
        let reason = format!("it has {size} bytes, which is over the limit of {MAX_FILE_BYTES}");
        return Err(error(std::io::Error::other(reason)));
    }
    fs::read_to_string(path).map_err(error)
}

fn source(path: &str, text: &str) -> SourceFile {
    SourceFile { path: PathBuf::from(path), text: text.to_owned() }
}

fn assemble(files: &Files, problems: &mut Problems) -> Option<Pipeline> {
    let Some(text) = files.get(MANIFEST) else {
        problems.0.push(
            Problem::in_file(Path::new(MANIFEST), "it is missing")
                .with_hint("a pipeline folder has it on top; `pinmill init DIR` writes an example"),
        );
        return None;
    };
    let manifest = source(MANIFEST, text);
    let mut parsed = manifest::parse(&manifest, problems)?;
    for dataset in &mut parsed.datasets {
        let path = format!("clean/{}.sql", dataset.name);
        match files.get(&path) {
            Some(text) => dataset.clean.text.clone_from(text),
            None => problems.0.push(
                Problem::new(
                    &manifest.path,
                    dataset.position,
                    format!("dataset `{}` has no {path}", dataset.name),
                )
                .with_hint(format!("write SELECT … FROM {} into it", dataset.raw_table())),
            ),
        }
    }
    orphans(files, &parsed.datasets.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), problems);
    let answers = files.iter().filter_map(|(path, text)| answer(path, text, problems)).collect();
    let tests = files.iter().filter(|(path, _)| path.starts_with("tests/"));
    Some(Pipeline {
        name: parsed.name,
        datasets: parsed.datasets,
        answers,
        tests: tests.map(|(path, text)| source(path, text)).collect(),
        manifest,
    })
}

/// Names files under `clean/` that belong to no dataset: they would be left out without a word.
fn orphans(files: &Files, datasets: &[&str], problems: &mut Problems) {
    for path in files.keys() {
        let Some(stem) = path.strip_prefix("clean/").and_then(|name| name.strip_suffix(".sql")) else {
            continue;
        };
        if !datasets.contains(&stem) {
            let hint = match nearest(stem, datasets.iter().copied()) {
                Some(meant) => format!("did you mean clean/{meant}.sql?"),
                None => "declare it as a [[dataset]] in pipeline.toml, or remove the file".to_owned(),
            };
            let message = format!("no dataset is called `{stem}`");
            problems.0.push(Problem::in_file(Path::new(path), message).with_hint(hint));
        }
    }
}

fn answer(path: &str, text: &str, problems: &mut Problems) -> Option<Answer> {
    let name = path.strip_prefix("answers/")?.strip_suffix(".sql")?;
    let title = sql::leading_comment(text);
    if title.is_empty() {
        problems.0.push(
            Problem::new(Path::new(path), (1, 1), "it has no title")
                .with_hint("begin the file with a comment that says what the query answers: -- …"),
        );
    }
    Some(Answer { name: name.to_owned(), title, source: source(path, text) })
}
