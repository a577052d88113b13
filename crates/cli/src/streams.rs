//! Wiring of the streaming half: its log, the Kinesis API over it, and the loops into tables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pinmill_broker::{EmbeddedLog, EventLog};
use pinmill_flow::{SourceKind, StepLimit, StreamConfig, StreamSource, Streamer};
use pinmill_kinesis::{
    Credentials, Kinesis, KinesisConfig, LOG_BATCH_BYTES, LOG_PARTITIONS, LOG_RECORD_BYTES, Secret, ShardsLog,
};
use pinmill_lake::Lake;
use pinmill_log::{Log, LogConfig};

use crate::context::{Context, is_there};
use crate::error::{Failure, OrFail};

/// The streams, open for writing.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The log that keeps them.
    pub(crate) log: Arc<EmbeddedLog>,
    /// The API over it.
    pub(crate) kinesis: Kinesis,
}

impl Context {
    /// Folder of the streams' log.
    pub(crate) fn streams_dir(&self) -> PathBuf {
        self.data().join("streams")
    }

    /// Opens the streams; no other process may have them. `None` where they are switched off.
    pub(crate) async fn streams(&self) -> Result<Option<Streams>, Failure> {
        if self.settings.text("streams") == "off" {
            return Ok(None);
        }
        let config = LogConfig {
            max_record_bytes: LOG_RECORD_BYTES,
            max_batch_bytes: LOG_BATCH_BYTES.max(LogConfig::default().max_batch_bytes),
            max_partitions: LOG_PARTITIONS,
            ..self.log_config()?
        };
        let settings = self.kinesis()?;
        let log = self.open_log(&self.streams_dir(), config)?;
        let kinesis = Kinesis::open(Arc::<EmbeddedLog>::clone(&log), settings).await.or_fail()?;
        Ok(Some(Streams { log, kinesis }))
    }

    /// The streams as they are now, beside whoever owns them; `None` where there are none.
    pub(crate) async fn streams_to_read(&self) -> Result<Option<ShardsLog>, Failure> {
        if !is_there(&self.streams_dir())? {
            return Ok(None);
        }
        // A view keeps every change to itself, also what the catalog does when it is opened.
        let log = Arc::new(EmbeddedLog::new(Arc::new(Log::view(self.streams_dir()).or_fail()?)));
        let kinesis = Kinesis::open(log, self.kinesis()?).await.or_fail()?;
        Ok(Some(kinesis.shards_log()))
    }

    fn kinesis(&self) -> Result<KinesisConfig, Failure> {
        let settings = &self.settings;
        Ok(KinesisConfig {
            account_id: settings.text("kinesis.account-id").to_owned(),
            region: settings.text("kinesis.region").to_owned(),
            creation_delay: settings.duration("kinesis.creation-delay")?,
            shard_limit: settings.parsed("kinesis.shard-limit", "a number of shards")?,
            record_size_limit: self.size("kinesis.max-record")?,
            enforce_throughput: settings.flag("kinesis.enforce-throughput")?,
            body_timeout: settings.duration("gateway.body-timeout")?,
            credentials: credentials(settings.text("kinesis.credentials"))?,
            auto_create_streams: settings.flag("kinesis.auto-create-streams")?,
            facade_errors_are_200: settings.flag("kinesis.facade-errors-are-200")?,
            ..KinesisConfig::default()
        })
    }

    /// The streaming half over these logs, as far as it is to read them.
    pub(crate) fn streamer(
        &self,
        streams: &Streams,
        topics: Option<Arc<dyn EventLog>>,
        lake: &Lake,
    ) -> Result<Streamer, Failure> {
        let from = self.settings.text("stream.from");
        let mut sources = Vec::new();
        if ["streams", "both"].contains(&from) {
            let log = Arc::new(streams.kinesis.shards_log());
            sources.push(StreamSource { log, kind: SourceKind::Streams });
        }
        if let Some(log) = topics.filter(|_| ["topics", "both"].contains(&from)) {
            sources.push(StreamSource { log, kind: SourceKind::Topics });
        }
        let defaults = StreamConfig::default();
        let threads = self.size("engine.threads")?;
        let config = StreamConfig {
            commit_every: self.settings.duration("stream.commit-every")?,
            step: StepLimit {
                bytes: self.settings.bytes("stream.max-bytes")?,
                records: self.settings.parsed("stream.max-records", "a number of records")?,
                ..defaults.step
            },
            workers: Some(threads).filter(|threads| *threads > 0),
            history: self.settings.duration("stream.history")?,
            tidy_every: self.settings.duration("stream.tidy-every")?,
            ..defaults
        };
        Ok(Streamer::new(self.pipeline()?, self.engine()?, lake, sources, config))
    }
}

/// Whose requests the native protocol takes: anybody's, or those signed with a key of a file in the form of AWS's own
/// credentials file.
fn credentials(setting: &str) -> Result<Credentials, Failure> {
    if setting == "any" {
        return Ok(Credentials::AcceptAny);
    }
    let text = std::fs::read_to_string(setting).map_err(|error| {
        Failure::config(format!("kinesis.credentials: {setting} cannot be read: {error}"))
    })?;
    let keys = keys_in(&text).map_err(|why| Failure::config(why).within(setting))?;
    if keys.is_empty() {
        let what = format!(
            "kinesis.credentials: {setting} holds no aws_access_key_id with its aws_secret_access_key"
        );
        return Err(Failure::config(what));
    }
    Ok(Credentials::Verify(keys))
}

/// The keys of all profiles. Secrets are not part of any error.
fn keys_in(text: &str) -> Result<BTreeMap<String, Secret>, String> {
    let mut keys = BTreeMap::new();
    let mut id: Option<String> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {number} is no `name = value`"));
        };
        match (name.trim(), id.take()) {
            ("aws_access_key_id", _) => id = Some(value.trim().to_owned()),
            ("aws_secret_access_key", Some(id)) => {
                keys.insert(id, Secret::new(value.trim()));
            }
            ("aws_secret_access_key", None) => {
                return Err(format!("line {number}: a secret without the aws_access_key_id above it"));
            }
            (_, before) => id = before,
        }
    }
    Ok(keys)
}

/// Flushes and closes a log, so that the next start has nothing to recover.
pub(crate) async fn close(log: &EmbeddedLog) -> Result<(), Failure> {
    let log = Arc::clone(log.log());
    tokio::task::spawn_blocking(move || log.close()).await.or_fail()?.or_fail()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_profiles_of_a_credentials_file_are_taken() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key = s1\nregion = x\n\n; other\n[b]\n\
                    aws_access_key_id=B\noutput = json\naws_secret_access_key=s2=\n";
        let keys = keys_in(text).unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["A", "B"]);
        let why = keys_in("aws_secret_access_key = hidden").unwrap_err();
        assert!(why.contains("line 1") && !why.contains("hidden"), "{why}");
    }
}
