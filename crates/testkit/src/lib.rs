//! What tests of every crate share: seeds and numbers of turns, free ports, temporary directories, child processes that
//! die with the test, the folder of real sample rows, and real database servers. It depends on no other crate of the
//! workspace.

mod process;
pub mod services;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use proptest::test_runner::{Config, RngSeed};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use process::KillOnDrop;

/// The root of the workspace (the folder of the top `Cargo.toml`).
pub fn workspace_root() -> PathBuf {
    // Cargo says where the crate under test is; this program may have been built in another clone with the same target.
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = told.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.ancestors().nth(2).unwrap_or(&here).to_path_buf()
}

/// The folder with real rows and golden answers: `PINMILL_SHARED`, else `shared` beside the workspace root.
///
/// `None` when there is none, as in a stranger's clone; the test then returns, and this has said on stderr that it was
/// left out and why. The folder has `data/{pin,geo,user}.jsonl` and `golden/*.json`.
pub fn shared_dir() -> Option<PathBuf> {
    let dir = match std::env::var_os("PINMILL_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => workspace_root().parent()?.join("shared"),
    };
    if dir.join("data/pin.jsonl").is_file() {
        return Some(dir);
    }
    left_out("there are no real rows here (PINMILL_SHARED names their folder)");
    None
}

/// The Python that has `duckdb` and `requests`: `PINMILL_PYTHON`, which `cargo xtask test` sets.
///
/// `None` when it is not set; the test then returns, and this has said that it was left out.
pub fn python() -> Option<PathBuf> {
    told("PINMILL_PYTHON", "it needs a Python with duckdb and requests (`cargo xtask test` makes one)")
}

/// The Python that runs testing/readers: `PINMILL_READERS_PYTHON`, which `cargo xtask test` sets.
///
/// `None` when it is not set; the test then returns, and this has said that it was left out.
pub fn readers_python() -> Option<PathBuf> {
    let why = "it needs a Python with chdb, polars and deltalake (`cargo xtask test` makes one)";
    told("PINMILL_READERS_PYTHON", why)
}

/// The folder of Delta's jars, with which the Python of [`readers_python`] can start Spark: `PINMILL_DELTA_JARS`, which
/// `cargo xtask test` sets where there is Java.
///
/// `None` when it is not set; the test then goes without Spark, and this has said that it was left out.
pub fn delta_jars() -> Option<PathBuf> {
    told(
        "PINMILL_DELTA_JARS",
        "it needs Java 17 and Delta's jars for Spark (`cargo xtask test` fetches them)",
    )
}

/// The path in a variable; where it is not set, the test is left out.
fn told(variable: &str, why_left_out: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        left_out(why_left_out);
    }
    path
}

/// Says that the calling test is left out, and why.
///
/// The line goes to stderr and to the file named by `PINMILL_LEFT_OUT`, from which `cargo xtask test` repeats it at its
/// end: cargo shows what a test prints only when the test fails.
#[expect(
    clippy::print_stderr,
    reason = "a test that is left out must say so where the reader of its output looks"
)]
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: left out, because {why}", thread.name().unwrap_or("a test"));
    eprintln!("{line}");
    if let Some(file) = std::env::var_os("PINMILL_LEFT_OUT") {
        let said = OpenOptions::new().create(true).append(true).open(&file);
        if let Err(error) = said.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
            eprintln!("{} cannot be written: {error}", Path::new(&file).display());
        }
    }
}

/// The seed of a randomised test: `PINMILL_SEED` when it is set, else a fresh one. It is printed, and so shown when the
/// test fails.
///
/// # Panics
/// When `PINMILL_SEED` is set to something that is no `u64`.
#[expect(clippy::print_stderr, reason = "a failing randomised test is of no use without its seed")]
#[expect(clippy::panic, reason = "a mistyped seed must not be replaced by another one in silence")]
pub fn seed() -> u64 {
    let seed = match std::env::var("PINMILL_SEED") {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| {
            panic!("PINMILL_SEED is `{text}`, but it must be a whole number from 0 to 2^64-1")
        }),
        Err(_) => rand::random(),
    };
    let thread = std::thread::current();
    eprintln!("{}: PINMILL_SEED={seed}", thread.name().unwrap_or("a test"));
    seed
}

/// A random number generator that starts from [`seed`].
pub fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed())
}

/// How the tests of a `proptest!` block run: on so many cases, which are drawn from [`seed`]. No failure is kept in a file
/// beside the source, as the seed repeats it.
pub fn property(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(seed()), failure_persistence: None, ..Config::default() }
}

/// How often a test repeats what it repeats: the number in a variable, such as `PINMILL_ROUNDS`, else `otherwise`.
///
/// # Panics
/// When the variable is set to something that is no whole number from 1 on.
#[expect(clippy::panic, reason = "a mistyped number must not be replaced by another one in silence")]
pub fn count(variable: &str, otherwise: usize) -> usize {
    let Ok(text) = std::env::var(variable) else { return otherwise };
    match text.trim().parse() {
        Ok(count) if count > 0 => count,
        _ => panic!("{variable} is `{text}`, but it must be a whole number from 1 on"),
    }
}

/// An address of the loopback at which everybody is refused for as long as the socket lives: it is bound, so that no other
/// program gets the port, and does not listen.
///
/// # Panics
/// When the system has no port left.
#[expect(clippy::unwrap_used, reason = "a test cannot go on without")]
pub fn nobody() -> (tokio::net::TcpSocket, std::net::SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A TCP port of the loopback address that was free a moment ago.
///
/// Prefer to bind port 0 and ask for the address; this is for programs that take only a number.
///
/// # Panics
/// When the system has no free port.
#[expect(
    clippy::expect_used,
    reason = "a test cannot go on without a port, and the system's error says why there is none"
)]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port of the loopback address");
    listener.local_addr().expect("the address of a bound listener").port()
}

/// A fresh temporary directory, removed when the value is dropped.
///
/// # Panics
/// When the system's temporary directory cannot be written.
#[expect(
    clippy::expect_used,
    reason = "a test cannot go on without its directory, and the system's error says why"
)]
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("pinmill-test-").tempdir().expect("a temporary directory")
}

#[cfg(test)]
mod tests {
    use proptest::arbitrary::any;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn the_workspace_root_holds_the_top_manifest() {
        let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_seed_gives_the_same_cases_again_and_another_one_others() {
        let drawn = |config: &Config| -> Vec<u64> {
            let mut runner = TestRunner::new(config.clone());
            (0..10).map(|_| any::<u64>().new_tree(&mut runner).unwrap().current()).collect()
        };
        let config = property(7);
        assert_eq!(drawn(&config), drawn(&config));
        let RngSeed::Fixed(seed) = config.rng_seed else { panic!("the seed is not fixed") };
        let other = Config { rng_seed: RngSeed::Fixed(seed ^ 1), ..config.clone() };
        assert_ne!(drawn(&config), drawn(&other));
    }

    #[test]
    fn a_free_port_can_be_bound() {
        TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    }

    #[test]
    fn a_temporary_directory_goes_with_its_value() {
        let dir = temp_dir();
        let path = dir.path().to_path_buf();
        assert!(path.is_dir());
        drop(dir);
        assert!(!path.exists());
    }
}
