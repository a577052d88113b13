//! `cargo xtask mutants`: do the tests notice when the code is wrong?
//!
//! Each file of testing/mutants is a patch that plants one bug, headed by what it breaks and the test that must fail:
//!
//! ```text
//! A flush of the log does nothing.
//! Test: --test power a_name_of_a_test
//!
//! diff --git …
//! ```
//!
//! A patch is applied to a clone of the last commit. It must apply, compile, and make its test fail. Anything else fails
//! the command, so that no patch outlives in silence the code it breaks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::command::{FEATURES, cache, cannot_start, cargo, output, root, run as run_command, shown};

const USAGE: &str = "cargo xtask mutants [--list] [NAME…]";

/// A test that a bug makes wait for ever is ended after so many seconds. Builds do not count.
const LIMIT: &str = "1200";
/// What `timeout` answers then.
const TIMED_OUT: i32 = 124;

/// The line that names the test.
const TEST: &str = "Test: ";

/// What the clone's crates have behind their version.
///
/// Cargo tells the crates of two clones apart by name and version only. With the same version, the broken crates would
/// take the place of the good ones in the target folder that both clones share.
const MARK: &str = "+mutants";

/// A planted bug.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    /// The file's name without its ending.
    name: String,
    patch: PathBuf,
    /// What it breaks: the first line.
    about: String,
    /// Which test binaries: `--lib`, or `--test` and a name.
    binary: Vec<String>,
    /// The path of the test in its binary.
    test: String,
}

/// What became of a planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Caught,
    Survived,
    NoSuchTest,
    DoesNotEnd,
    DoesNotApply,
    DoesNotCompile,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Survived => "SURVIVED: its test passed, or left itself out",
            Self::NoSuchTest => "NO SUCH TEST: name the test by its whole path",
            Self::DoesNotEnd => "DOES NOT END: name a test that says what is wrong",
            Self::DoesNotApply => "DOES NOT APPLY: the code has changed; make the patch anew",
            Self::DoesNotCompile => "DOES NOT COMPILE: a bug that the compiler finds needs no test",
        }
    }
}

/// Plants the bugs whose names contain one of those given (all, where none is), or lists them.
pub(crate) fn run(arguments: &[String]) -> Result {
    let (options, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| word.starts_with('-'));
    if let Some(option) = options.iter().find(|option| option.as_str() != "--list") {
        return Err(format!("there is no option `{option}`: {USAGE}"));
    }
    let mut mutants = read_all(&folder())?;
    mutants.retain(|mutant| names.is_empty() || names.iter().any(|name| mutant.name.contains(name.as_str())));
    if mutants.is_empty() {
        return Err("no patch in testing/mutants has such a name".to_owned());
    }
    if !options.is_empty() {
        mutants.iter().for_each(|mutant| println!("{:<40}{}", mutant.name, mutant.about));
        return Ok(());
    }
    let tree = Tree::at_the_last_commit()?;
    let mut outcomes = Vec::new();
    for mutant in &mutants {
        println!("\n== {}: {}", mutant.name, mutant.about);
        let outcome = tree.plant(mutant)?;
        println!("{}", outcome.words());
        outcomes.push((mutant.name.as_str(), outcome));
    }
    let (table, all_caught) = score(&outcomes);
    println!("\n{table}");
    if all_caught { Ok(()) } else { Err("not every planted bug was caught".to_owned()) }
}

/// The closing table, and whether every bug was caught.
fn score(outcomes: &[(&str, Outcome)]) -> (String, bool) {
    let caught = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Caught).count();
    let mut table: String =
        outcomes.iter().map(|(name, outcome)| format!("{name:<40}{}\n", outcome.words())).collect();
    table.push_str(&format!("\n{caught} of {} planted bugs caught", outcomes.len()));
    (table, caught == outcomes.len())
}

fn folder() -> PathBuf {
    root().join("testing/mutants")
}

fn read_all(folder: &Path) -> Result<Vec<Mutant>> {
    let failed = |e: std::io::Error| format!("{} cannot be read: {e}", folder.display());
    let mut mutants = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            mutants.push(read_one(&path, &text)?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn read_one(path: &Path, text: &str) -> Result<Mutant> {
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let head: Vec<&str> = text.lines().take_while(|line| !line.starts_with("diff ")).collect();
    let about = head.first().filter(|line| !line.is_empty() && !line.starts_with(TEST));
    let about = about.ok_or_else(|| wrong("the first line does not say what the patch breaks"))?;
    let test = head.iter().find_map(|line| line.strip_prefix(TEST));
    let words: Vec<&str> = test.unwrap_or_default().split_whitespace().collect();
    let (binary, test) = match words.as_slice() {
        ["--lib", test] => (vec!["--lib"], *test),
        ["--test", binary, test] => (vec!["--test", *binary], *test),
        _ => return Err(wrong("needs a line `Test: --lib NAME` or `Test: --test BINARY NAME`")),
    };
    let binary = binary.into_iter().map(str::to_owned).collect();
    Ok(Mutant { name, patch: path.to_path_buf(), about: (*about).to_owned(), binary, test: test.to_owned() })
}

/// A clone of this repository in pinmill's cache.
struct Tree {
    path: PathBuf,
    /// The target folder of this clone, where the dependencies are built already.
    target: PathBuf,
}

impl Tree {
    /// The clone, at the commit that is checked out here. What is not committed is not in it.
    fn at_the_last_commit() -> Result<Self> {
        let tree = Self { path: cache()?.join("mutants"), target: target_folder()? };
        let commit = output(Command::new("git").current_dir(root()).args(["rev-parse", "HEAD"]))?;
        if !tree.path.join(".git").exists() {
            run_command(
                Command::new("git").args(["clone", "--quiet", "--shared"]).arg(root()).arg(&tree.path),
            )?;
        }
        tree.git(&["fetch", "--quiet", &root().to_string_lossy(), commit.trim()])?;
        tree.git(&["checkout", "--quiet", "--force", "--detach", commit.trim()])?;
        tree.git(&["clean", "--quiet", "--force", "-d"])?;
        tree.mark()?;
        Ok(tree)
    }

    /// Gives the clone's crates a version of their own. It goes to git's index, from which [`Tree::restore`] takes files.
    fn mark(&self) -> Result {
        let manifest = self.path.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let text = marked(&text).ok_or_else(|| format!("{} has no version", manifest.display()))?;
        std::fs::write(&manifest, text).map_err(|e| format!("{}: {e}", manifest.display()))?;
        output(self.cargo().args(["update", "--quiet", "--workspace", "--offline"]))?;
        self.git(&["add", "--all"])
    }

    fn git(&self, arguments: &[&str]) -> Result {
        output(Command::new("git").current_dir(&self.path).args(arguments)).map(drop)
    }

    fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.path).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    fn restore(&self) -> Result {
        self.git(&["checkout", "--quiet", "--force", "--", "."])
    }

    /// Applies a patch, runs its test, and takes the patch back.
    fn plant(&self, mutant: &Mutant) -> Result<Outcome> {
        self.restore()?;
        if let Err(why) = self.git(&["apply", &mutant.patch.to_string_lossy()]) {
            println!("{why}");
            return Ok(Outcome::DoesNotApply);
        }
        let outcome = match run_command(self.test(mutant).arg("--no-run")) {
            Err(_) => Outcome::DoesNotCompile,
            Ok(()) => run_test(self.test(mutant).args(["--", "--exact", &mutant.test]))?,
        };
        self.restore()?;
        Ok(outcome)
    }

    /// `cargo test` of the binaries in question, with the features of all other tests: with others, the dependencies
    /// would be built anew.
    fn test(&self, mutant: &Mutant) -> Command {
        let mut command = self.cargo();
        command.args(["test", "--workspace", "--features", FEATURES]).args(&mutant.binary);
        command
    }
}

/// Where this clone's builds go.
fn target_folder() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target folder")?;
    Ok(PathBuf::from(target))
}

/// A manifest whose version, the first one, has the mark.
fn marked(manifest: &str) -> Option<String> {
    let start = manifest.find("\nversion = \"")? + "\nversion = \"".len();
    let end = start + manifest.get(start..)?.find('"')?;
    Some(format!("{}{MARK}{}", manifest.get(..end)?, manifest.get(end..)?))
}

/// Runs the test; shows what it printed unless it failed as it must.
fn run_test(command: &mut Command) -> Result<Outcome> {
    println!("$ {}", shown(command));
    let mut command = with_limit(command);
    let ended = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(&command, &e))?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let outcome = outcome(ended.status.code(), &said);
    if outcome != Outcome::Caught {
        println!("{said}{}", String::from_utf8_lossy(&ended.stderr));
    }
    Ok(outcome)
}

/// The command under `timeout`, which also ends what it has started.
fn with_limit(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=10", LIMIT]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    limited
}

/// What the end of `cargo test` means, when no other test was to be run.
///
/// A test that takes its process with it prints no result: that it was started is enough.
fn outcome(code: Option<i32>, said: &str) -> Outcome {
    let started: u64 = said
        .lines()
        .filter_map(|line| line.strip_prefix("running ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    match (started, code) {
        (0, _) => Outcome::NoSuchTest,
        (_, Some(0)) => Outcome::Survived,
        (_, Some(TIMED_OUT)) => Outcome::DoesNotEnd,
        _ => Outcome::Caught,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_applies_to_this_tree_and_names_a_test_that_exists() {
        let mutants = read_all(&folder()).unwrap();
        assert!(!mutants.is_empty());
        for mutant in mutants {
            let git = |arguments: &[&str]| {
                let mut command = Command::new("git");
                command.current_dir(root()).args(arguments);
                output(&mut command)
            };
            let applies = git(&["apply", "--check", &mutant.patch.to_string_lossy()]);
            assert!(applies.is_ok(), "{}: {}", mutant.name, applies.unwrap_err());
            let function = format!("fn {}(", mutant.test.rsplit("::").next().unwrap());
            let found =
                git(&["grep", "--quiet", "--untracked", "--fixed-strings", &function, "--", "crates"]);
            assert!(found.is_ok(), "{}: there is no test {}", mutant.name, mutant.test);
        }
    }

    #[test]
    fn a_patch_says_what_it_breaks_and_which_test_must_fail() {
        let read = |text: &str| read_one(Path::new("a.patch"), text);
        let whole = "It loses records.\nTest: --test power cuts::a_test\n\ndiff --git a/x b/x\n";
        let mutant = read(whole).unwrap();
        assert_eq!((mutant.name.as_str(), mutant.about.as_str()), ("a", "It loses records."));
        assert_eq!(mutant.binary, ["--test", "power"]);
        assert_eq!(mutant.test, "cuts::a_test");
        assert_eq!(read("x\nTest: --lib a::b\n").unwrap().binary, ["--lib"]);
        for text in [
            "It loses records.\n",
            "It loses records.\nTest: --test power\n",
            "It loses records.\nTest: -p pinmill-log --lib a\n",
            "\nTest: --lib a\n",
            "Test: --lib a\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read("x\ndiff --git a/x b/x\nTest: --lib b\n").is_err(), "the line is part of the patch");
    }

    #[test]
    fn only_a_test_that_was_started_and_did_not_pass_catches_a_bug() {
        let none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed\n";
        let failed = format!("{none}running 1 test\ntest a ... FAILED\n");
        assert_eq!(outcome(Some(101), &failed), Outcome::Caught);
        assert_eq!(outcome(Some(101), "running 1 test\n"), Outcome::Caught);
        assert_eq!(outcome(Some(0), "running 1 test\ntest a ... ok\n"), Outcome::Survived);
        assert_eq!(outcome(Some(124), "running 1 test\n"), Outcome::DoesNotEnd);
        assert_eq!(outcome(Some(0), none), Outcome::NoSuchTest);
        assert_eq!(outcome(Some(101), ""), Outcome::NoSuchTest);
    }

    #[test]
    fn a_limit_changes_nothing_else_about_a_command() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $PINMILL_WORD; pwd"]).env("PINMILL_WORD", "said").current_dir("/");
        assert_eq!(output(&mut with_limit(&command)).unwrap(), "said\n/\n");
    }

    #[test]
    fn one_bug_that_is_not_caught_spoils_the_score() {
        let (table, all) = score(&[("a", Outcome::Caught), ("b", Outcome::DoesNotApply)]);
        assert!(!all && table.ends_with("\n1 of 2 planted bugs caught"), "{table}");
        assert!(score(&[("a", Outcome::Caught)]).1);
    }

    #[test]
    fn the_clones_crates_have_a_version_of_their_own() {
        let manifest = "[workspace.package]\nversion = \"0.2.0-dev\"\n\nx = { version = \"1\" }\n";
        assert_eq!(
            marked(manifest).unwrap(),
            "[workspace.package]\nversion = \"0.2.0-dev+mutants\"\n\nx = { version = \"1\" }\n"
        );
        assert_eq!(marked("[workspace]\n"), None);
    }
}
