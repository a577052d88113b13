//! What tests want that is no server and belongs to no clone: Python environments, and jars that Maven fetches.
//!
//! Each is a folder in the cache, made from one file of the clone. A copy of that file is written into the folder last:
//! where the two differ, the folder is half-made or of another time, and it is made again.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{cache, output_of_both, root, run as run_command, works};

/// The Java that Spark needs at least.
const JAVA: u32 = 17;

/// One such folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    /// The Python of tests and benches.
    Python,
    /// The Python of the programs that read tables back: large, and pinned apart from the other.
    Readers,
    /// Delta's jars for the Spark among those programs.
    DeltaJars,
}

impl Environment {
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::Readers, Self::DeltaJars];

    /// What it is called in lists, and its folder in the cache.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Readers => "readers",
            Self::DeltaJars => "delta-jars",
        }
    }

    /// The variable that tells tests where it is: a Python program, or the folder of the jars.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Python => "PINMILL_PYTHON",
            Self::Readers => "PINMILL_READERS_PYTHON",
            Self::DeltaJars => "PINMILL_DELTA_JARS",
        }
    }

    /// What it is made from, relative to the root.
    fn made_from(self) -> &'static str {
        match self {
            Self::Python => "testing/requirements.txt",
            Self::Readers => "testing/readers/requirements.txt",
            Self::DeltaJars => "testing/readers/pom.xml",
        }
    }

    /// What tests are told of, in the folder.
    fn place(self, folder: &Path) -> PathBuf {
        match self {
            Self::Python | Self::Readers => folder.join("bin/python"),
            Self::DeltaJars => folder.to_path_buf(),
        }
    }

    /// The one made earlier, if it was made from what this clone has.
    pub(crate) fn current(self) -> Result<PathBuf> {
        let folder = cache()?.join(self.name());
        let place = self.place(&folder);
        if self == Self::DeltaJars {
            // The jars alone are of no use.
            java()?;
        }
        if place.exists() && is_made_from(&folder, &root().join(self.made_from()))? {
            return Ok(place);
        }
        Err(format!("what {} names is not installed (cargo xtask services install)", self.made_from()))
    }

    /// The one made earlier, or a new one.
    pub(crate) fn made(self) -> Result<PathBuf> {
        self.current().or_else(|_| self.make())
    }

    fn make(self) -> Result<PathBuf> {
        let folder = cache()?.join(self.name());
        let source = root().join(self.made_from());
        match self {
            Self::Python | Self::Readers => make_python(&folder, &source)?,
            Self::DeltaJars => fetch_jars(&folder, &source)?,
        }
        // Written last: a half-made environment is made again.
        let stamp = stamp(&folder, &source);
        std::fs::write(&stamp, read(&source)?).map_err(|e| format!("{}: {e}", stamp.display()))?;
        Ok(self.place(&folder))
    }
}

/// The copy of `source` in `folder`.
fn stamp(folder: &Path, source: &Path) -> PathBuf {
    folder.join(source.file_name().unwrap_or_default())
}

fn is_made_from(folder: &Path, source: &Path) -> Result<bool> {
    let wanted = read(source)?;
    Ok(std::fs::read_to_string(stamp(folder, source)).is_ok_and(|made_from| made_from == wanted))
}

fn make_python(folder: &Path, requirements: &Path) -> Result {
    if !works(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        // Debian keeps both in a package of their own.
        apt_install("python3 python3-venv")?;
    }
    run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--requirement"];
    run_command(Command::new(folder.join("bin/python")).args(pip).arg(requirements))
}

/// Fetches the jars that a Maven project depends on.
fn fetch_jars(folder: &Path, project: &Path) -> Result {
    if !works(Command::new("mvn").arg("--version")) || java().is_err() {
        apt_install("default-jre-headless maven")?;
        java()?;
    }
    // Jars of another version must not stay beside the new ones.
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .map_err(|e| format!("{} cannot be emptied: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    let mut command = Command::new("mvn");
    command.args(["-B", "-q", "-f"]).arg(project).arg("dependency:copy-dependencies");
    run_command(command.arg(format!("-DoutputDirectory={}", folder.display())))
}

fn apt_install(packages: &str) -> Result {
    let install = format!("apt-get -q update && apt-get -q -y install {packages}");
    run_command(Command::new("sh").args(["-c", &install]).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Says why there is no Java that Spark can run on.
fn java() -> Result {
    let program = match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => PathBuf::from("java"),
    };
    let said = output_of_both(Command::new(program).args(["-XshowSettings:properties", "-version"]))
        .map_err(|why| format!("Java {JAVA} or newer is needed: {why}"))?;
    match java_version(&said) {
        Some(version) if version >= JAVA => Ok(()),
        Some(version) => Err(format!("Java {JAVA} or newer is needed, and this machine has Java {version}")),
        None => Err(format!("Java {JAVA} or newer is needed, and this one does not say its version: {said}")),
    }
}

/// The version in what Java says of its properties.
fn java_version(said: &str) -> Option<u32> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("java.specification.version = "))?;
    // Java 8 calls itself 1.8.
    let version = line.trim();
    version.strip_prefix("1.").unwrap_or(version).split('.').next()?.parse().ok()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_made_again_when_its_file_has_changed_or_was_never_copied() {
        let dir = std::env::temp_dir().join(format!("pinmill-xtask-{}", std::process::id()));
        let (folder, source) = (dir.join("made"), dir.join("pom.xml"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&source, "one").unwrap();
        let half_made = is_made_from(&folder, &source);
        std::fs::write(folder.join("pom.xml"), "one").unwrap();
        let made = is_made_from(&folder, &source);
        std::fs::write(&source, "two").unwrap();
        let changed = is_made_from(&folder, &source);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((half_made, made, changed), (Ok(false), Ok(true), Ok(false)));
    }

    #[test]
    fn the_version_of_java_is_read_in_its_new_form_and_its_old_one() {
        let said = |version: &str| {
            format!(
                "Property settings:\n    java.specification.version = {version}\n    java.vendor = X\n\nopenjdk"
            )
        };
        assert_eq!(java_version(&said("17")), Some(17));
        assert_eq!(java_version(&said("1.8")), Some(8));
        assert_eq!(java_version("openjdk"), None);
    }

    #[test]
    fn what_environments_are_made_from_is_in_the_clone() {
        for environment in Environment::ALL {
            assert!(root().join(environment.made_from()).is_file(), "{environment:?}");
        }
    }
}
