//! What every command needs: the settings, and the rooms opened as they say.

use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pinmill_broker::EmbeddedLog;
use pinmill_emulate::SourceSpec;
use pinmill_engine::{EmbeddedEngine, Engine, EngineConfig};
use pinmill_flow::{ArchiveConfig, CleanOptions};
use pinmill_gateway::{GatewayConfig, Limits, Memory};
use pinmill_lake::archive::Compression;
use pinmill_lake::{Lake, LateLake};
use pinmill_log::{Durability, Log, LogConfig};
use pinmill_pipeline::Pipeline;
use tokio::runtime::Runtime;

use crate::args::Cli;
use crate::error::{CONFIG, Failure, OrFail};
use crate::settings::{self, Settings, Size, hint_for_variable};

/// The file that is read when `--config` names no other.
const CONFIG_FILE: &str = "pinmill.toml";

/// Settings and a few facts of the terminal.
#[derive(Debug)]
pub(crate) struct Context {
    /// All settings.
    pub(crate) settings: Settings,
    /// True where progress may be drawn.
    pub(crate) progress: bool,
    /// True where the user wants few words.
    pub(crate) quiet: bool,
    memory: SharedMemory,
}

/// Memory that all HTTP services of this process share; each part is made when it is first asked for.
#[derive(Debug, Default)]
struct SharedMemory {
    bodies: OnceLock<Memory>,
    answers: OnceLock<Memory>,
}

/// A runtime beside the command's own. It may be dropped where a plain one may not: inside of async code.
#[derive(Debug)]
pub(crate) struct GatewayRuntime(Option<Runtime>);

impl GatewayRuntime {
    /// Runs a future on it; what it gives comes back to the caller's runtime.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        match &self.0 {
            Some(runtime) => runtime.spawn(future).await.or_fail(),
            None => Err(Failure::internal("the gateway's runtime has ended")),
        }
    }
}

impl Drop for GatewayRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Context {
    /// Reads the configuration file, the environment and the command line.
    pub(crate) fn from_cli(cli: &Cli) -> Result<Self, Failure> {
        let file = config_file(cli.global.config.as_deref())?;
        let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        let settings = Settings::resolve(file, std::env::vars_os(), &cli.flags())?;
        for stray in &settings.strays {
            let hint = hint_for_variable(stray);
            tracing::warn!("the environment variable {stray} is not a setting and is ignored; {hint}");
        }
        let progress = !cli.global.no_progress && cli.global.quiet == 0 && std::io::stderr().is_terminal();
        Ok(Self { settings, progress, quiet: cli.global.quiet > 0, memory: SharedMemory::default() })
    }

    /// Runs a command's future on a runtime of its own.
    pub(crate) fn block_on<T>(
        &self,
        command: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::internal(format!("the async runtime cannot start: {error}")))?;
        let result = runtime.block_on(command);
        // A blocked reader must not hold the process after its work is done.
        runtime.shutdown_background();
        result
    }

    /// A runtime for the gateway alone, so that SQL never holds up an answer. It leaves a core to the log's flushing
    /// threads: with a worker on every core they wait for one, and fewer records are acknowledged.
    pub(crate) fn gateway_runtime(&self) -> Result<GatewayRuntime, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.saturating_sub(1).max(1))
            .thread_name("gateway")
            .enable_all()
            .build()
            .map(|runtime| GatewayRuntime(Some(runtime)))
            .map_err(|error| Failure::internal(format!("the gateway's runtime cannot start: {error}")))
    }

    /// Folder of the embedded parts.
    pub(crate) fn data(&self) -> PathBuf {
        PathBuf::from(&self.settings.data.0)
    }

    /// Folder of the embedded log.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.data().join("log")
    }

    /// The pipeline that the settings name.
    pub(crate) fn pipeline(&self) -> Result<Pipeline, Failure> {
        self.pipeline_in(None)
    }

    /// The pipeline of a folder, else the one that the settings name.
    pub(crate) fn pipeline_in(&self, folder: Option<&Path>) -> Result<Pipeline, Failure> {
        let folder = self.pipeline_dir(folder);
        load_pipeline(folder.as_deref()).map_err(|error| match &folder {
            Some(folder) => Failure::chain(&error).within(&folder.display().to_string()),
            None => Failure::chain(&error),
        })
    }

    /// The folder, else the one that the settings name; `None` is the built-in pipeline.
    pub(crate) fn pipeline_dir(&self, folder: Option<&Path>) -> Option<PathBuf> {
        let named =
            Some(PathBuf::from(&self.settings.pipeline.0)).filter(|path| !path.as_os_str().is_empty());
        folder.map(Path::to_owned).or(named)
    }

    /// Opens the embedded log of the topics; no other process may have it.
    pub(crate) fn log(&self) -> Result<Arc<EmbeddedLog>, Failure> {
        let config =
            LogConfig { max_record_bytes: self.settings.gateway.max_record.in_memory(), ..self.log_config() };
        self.open_log(&self.log_dir(), config)
    }

    /// What the settings say of every embedded log.
    pub(crate) fn log_config(&self) -> LogConfig {
        let log = &self.settings.log;
        LogConfig {
            durability: match self.settings.durability {
                settings::Durability::Fsync => Durability::Fsync,
                settings::Durability::Os => Durability::Os,
            },
            segment_bytes: log.segment_bytes.bytes(),
            segment_age: log.segment_age.0,
            retention_bytes: log.retention_bytes.0.map(Size::bytes),
            retention_age: log.retention_age.0.map(|age| age.0),
            ..LogConfig::default()
        }
    }

    /// Opens a log, and tells what its recovery cut.
    pub(crate) fn open_log(&self, dir: &Path, config: LogConfig) -> Result<Arc<EmbeddedLog>, Failure> {
        let (log, report) = Log::open(dir, config).or_fail()?;
        for cut in &report.cuts {
            tracing::warn!(
                "{}: cut {} unacknowledged bytes at {}: {}",
                cut.file.display(),
                cut.bytes,
                cut.position,
                cut.reason
            );
        }
        Ok(Arc::new(EmbeddedLog::new(Arc::new(log))))
    }

    /// The embedded log as it is now, without taking it from the process that owns it; `None` when there is none.
    pub(crate) fn log_to_read(&self) -> Result<Option<Arc<EmbeddedLog>>, Failure> {
        self.view(&self.log_dir())
    }

    /// A log as it is now, without taking it from the process that owns it; `None` when there is none.
    pub(crate) fn view(&self, dir: &Path) -> Result<Option<Arc<EmbeddedLog>>, Failure> {
        if !is_there(dir)? {
            return Ok(None);
        }
        Ok(Some(Arc::new(EmbeddedLog::new(Arc::new(Log::view(dir).or_fail()?)))))
    }

    /// Opens the lake, and makes it where there is none: for commands that begin something.
    pub(crate) fn lake(&self) -> Result<Lake, Failure> {
        let location = self.lake_location()?;
        let open = || {
            Lake::check_tables_at(&location)?;
            Lake::open(&location)
        };
        open().map_err(|error| self.unusable_lake(error))
    }

    /// The lake of a server, which starts also while the lake is out of reach.
    pub(crate) fn late_lake(&self) -> Result<LateLake, Failure> {
        LateLake::at(&self.lake_location()?).map_err(|error| self.unusable_lake(error))
    }

    fn unusable_lake(&self, error: pinmill_lake::Error) -> Failure {
        match self.settings.lake.is_empty() {
            true => error.into(),
            false => Failure { exit: CONFIG, ..Failure::from(error).within("setting `lake`") },
        }
    }

    /// Opens the lake for a command that works on what is there. Nothing is made: a mistyped folder is an error, and
    /// not a lake in which all is well.
    pub(crate) fn lake_there(&self) -> Result<Lake, Failure> {
        self.need_data()?;
        let location = self.lake_location()?;
        let open = || {
            Lake::check_tables_at(&location)?;
            Lake::open_existing(&location)
        };
        open().map_err(|error| match error {
            pinmill_lake::Error::Missing { location, reason } => {
                no_data(format!("there is no lake at `{location}`: {reason}"))
            }
            error => self.unusable_lake(error),
        })
    }

    /// Fails where the data folder is not there, unless nobody named one and the lake is elsewhere.
    pub(crate) fn need_data(&self) -> Result<(), Failure> {
        let data = self.data();
        let is_wanted = self.settings.lake.is_empty() || self.settings.is_set("data");
        if !is_wanted || is_there(&data)? {
            return Ok(());
        }
        Err(no_data(format!("there is no data folder `{}`", data.display())))
    }

    fn lake_location(&self) -> Result<String, Failure> {
        if self.settings.lake.is_empty() {
            return Ok(self.data().join("lake").to_string_lossy().into_owned());
        }
        self.settings.lake.reveal().map_err(|error| Failure::config(error).within("setting `lake`"))
    }

    /// Where the emulator's rows come from, with its password.
    pub(crate) fn source(&self) -> Result<SourceSpec, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::config(error).within("setting `source`");
        let text = self.settings.source.reveal().map_err(|error| failed(&error))?;
        text.parse().map_err(|error| failed(&error))
    }

    /// The engine that runs the SQL.
    pub(crate) fn engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        let config = EngineConfig {
            memory_bytes: self.settings.engine.memory.in_memory(),
            parallelism: self.settings.engine.workers(),
            ..EngineConfig::default()
        };
        Ok(Arc::new(EmbeddedEngine::new(&config).or_fail()?))
    }

    /// The gateway's settings, to listen on this address.
    pub(crate) fn gateway(&self, listen: SocketAddr) -> GatewayConfig {
        let gateway = &self.settings.gateway;
        let defaults = GatewayConfig::default();
        GatewayConfig {
            listen,
            allow_unauthenticated_remote: self.settings.allow_unauthenticated_remote.0,
            auto_create_topics: gateway.auto_create_topics.0,
            default_partitions: gateway.default_partitions.get(),
            max_topics: gateway.max_topics.get(),
            max_topic_name: pinmill_lake::archive::max_topic_name(),
            drain_timeout: gateway.drain_timeout.0,
            cors: gateway.cors.0.clone(),
            hosts: gateway.hosts.0.clone(),
            limits: Limits {
                body_bytes: gateway.max_body.in_memory(),
                record_bytes: gateway.max_record.in_memory(),
                json_depth: gateway.max_json_depth.get(),
                header_timeout: gateway.header_timeout.0,
                body_timeout: gateway.body_timeout.0,
                write_timeout: gateway.write_timeout.0,
                idle_timeout: gateway.idle_timeout.0,
                connections: gateway.max_connections.get(),
                streams: gateway.max_streams.get(),
                body_memory: self.body_memory(),
                answer_memory: self.answer_memory(),
                ..defaults.limits
            },
        }
    }

    /// Memory for request bodies: topics and streams share it.
    pub(crate) fn body_memory(&self) -> Memory {
        let size = self.settings.gateway.body_memory.in_memory();
        self.memory.bodies.get_or_init(|| Memory::new(size)).clone()
    }

    /// Memory for answers: topics and streams share it.
    pub(crate) fn answer_memory(&self) -> Memory {
        let size = self.settings.gateway.answer_memory.in_memory();
        self.memory.answers.get_or_init(|| Memory::new(size)).clone()
    }

    /// How records become archive objects, from the settings.
    pub(crate) fn archive_config(&self) -> ArchiveConfig {
        let archive = &self.settings.archive;
        ArchiveConfig {
            max_records: archive.max_records.get(),
            max_bytes: archive.max_bytes.in_memory(),
            max_age: archive.max_age.0,
            compression: match archive.compression {
                settings::Compression::None => Compression::None,
                settings::Compression::Gzip => Compression::Gzip,
                settings::Compression::Zstd => Compression::Zstd,
            },
            ..ArchiveConfig::default()
        }
    }

    /// How to clean, from the settings.
    pub(crate) fn clean_options(&self) -> CleanOptions {
        CleanOptions { workers: self.settings.engine.workers(), ..CleanOptions::default() }
    }

    /// The address that `listen` says. Of a name's addresses it is one that other machines reach, where there is one: the
    /// gateway then asks for the flag that allows it, whatever else the name stands for. Else it is the one of IPv4, which
    /// every client tries.
    pub(crate) fn listen(&self) -> Result<SocketAddr, Failure> {
        let what = "an address such as 127.0.0.1:8082 or localhost:8082";
        let bad = || self.settings.bad("listen", what);
        let found = self.settings.listen.0.to_socket_addrs();
        let found = found.map_err(|error| bad().because(&error))?;
        found.min_by_key(|address| (address.ip().is_loopback(), address.is_ipv6())).ok_or_else(bad)
    }
}

/// Whether there is such a folder. One that cannot be looked at is not one that is missing.
pub(crate) fn is_there(folder: &Path) -> Result<bool, Failure> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(Failure::expected(format!("{} is no folder", folder.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::expected(format!("{} cannot be looked at: {error}", folder.display()))),
    }
}

/// Reads a pipeline folder; `None` is the built-in pipeline.
pub(crate) fn load_pipeline(folder: Option<&Path>) -> pinmill_pipeline::Result<Pipeline> {
    match folder {
        Some(folder) => Pipeline::load(folder),
        None => Pipeline::built_in(),
    }
}

/// Nothing is where data was said to be.
fn no_data(what: String) -> Failure {
    Failure::expected(what).hint(
        "`pinmill run` and `pinmill serve` make a data folder; --data names another one, and --lake another lake",
    )
}

fn config_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, Failure> {
    let path = named.unwrap_or(Path::new(CONFIG_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::config(format!("{} cannot be read: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Context {
        let settings = Settings::resolve(None, [], &[(key.to_owned(), value.to_owned())]).unwrap();
        Context { settings, progress: false, quiet: true, memory: SharedMemory::default() }
    }

    #[test]
    fn the_gateway_may_be_told_a_name() {
        let listen = with("listen", "localhost:8082").listen().unwrap();
        assert!(listen.ip().is_loopback() && listen.port() == 8082, "{listen}");
        for address in ["127.0.0.1:1", "[::1]:2"] {
            assert_eq!(with("listen", address).listen().unwrap().to_string(), address);
        }
        for wrong in ["localhost", "localhost:port", ""] {
            let failure = with("listen", wrong).listen().unwrap_err();
            assert_eq!(failure.exit, CONFIG);
            assert!(failure.message.contains("such as 127.0.0.1:8082"), "{}", failure.message);
        }
    }

    #[test]
    fn a_lake_that_cannot_be_is_a_configuration_that_cannot_be_used() {
        let failure = with("lake", "s3://bucket/x").lake().unwrap_err();
        assert_eq!(failure.exit, CONFIG);
        assert!(failure.message.starts_with("setting `lake`: `s3://bucket/x`"), "{}", failure.message);
    }
}
