//! Wiring of the streaming half: its log, the Kinesis API over it, and the loops into tables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EmbeddedLog, EventLog, Plane};
use pinmill_flow::{StepLimit, StreamConfig, StreamSource, Streamer, go_on_behind_readers};
use pinmill_kinesis::{
    Credentials, Kinesis, KinesisConfig, LOG_BATCH_BYTES, LOG_PARTITIONS, LOG_RECORD_BYTES, Secret, ShardsLog,
};
use pinmill_lake::LateLake;
use pinmill_lake::archive::{Archive, ArchiveConfig};
use pinmill_log::LogConfig;
use pinmill_pipeline::Pipeline;

use crate::context::Context;
use crate::error::{Failure, OrFail};
use crate::settings;

/// How long the start of a server waits for the lake, to compare the logs with it.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(20);

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
        if self.settings.streams == settings::Streams::Off {
            return Ok(None);
        }
        let config = LogConfig {
            max_record_bytes: LOG_RECORD_BYTES,
            max_batch_bytes: LOG_BATCH_BYTES.max(LogConfig::default().max_batch_bytes),
            max_partitions: LOG_PARTITIONS,
            ..self.log_config()
        };
        let settings = self.kinesis()?;
        let log = self.open_log(&self.streams_dir(), config)?;
        let kinesis = Kinesis::open(Arc::<EmbeddedLog>::clone(&log), settings).await.or_fail()?;
        Ok(Some(Streams { log, kinesis }))
    }

    /// The streams as they are now, beside whoever owns them; `None` where there are none.
    pub(crate) async fn streams_to_read(&self) -> Result<Option<ShardsLog>, Failure> {
        let Some(log) = self.view(&self.streams_dir())? else { return Ok(None) };
        Ok(Some(ShardsLog::view(log).await.or_fail()?))
    }

    /// Has logs that lost records go on behind what was read of them, before they take new ones. Where the lake cannot be
    /// read now, the halves make up for it when it can.
    pub(crate) async fn go_on_behind_readers(
        &self,
        pipeline: &Pipeline,
        lake: &LateLake,
        (topics, streams): (Option<Arc<dyn EventLog>>, Option<&Streams>),
    ) {
        let topics = topics.map(|log| StreamSource { log, plane: Plane::Topics });
        let streams = streams.map(|streams| StreamSource {
            log: Arc::new(streams.kinesis.shards_log()),
            plane: Plane::Streams,
        });
        let sources: Vec<_> = topics.into_iter().chain(streams).collect();
        let compare = async {
            let archive = Archive::new(&lake.open().await?, ArchiveConfig::default());
            go_on_behind_readers(pipeline, &sources, &archive).await.map_err(Failure::from)
        };
        // Posts must not wait for a lake that does not answer.
        let compared = tokio::time::timeout(COMPARE_TIMEOUT, compare).await;
        let compared = compared.unwrap_or_else(|_| Err(Failure::expected("it does not answer")));
        if let Err(Failure { message: why, .. }) = compared {
            tracing::warn!(
                "the logs could not be compared with the lake, which shows whether they lost records: {why}"
            );
        }
    }

    fn kinesis(&self) -> Result<KinesisConfig, Failure> {
        let settings = &self.settings.kinesis;
        Ok(KinesisConfig {
            account_id: settings.account_id.0.clone(),
            region: settings.region.0.clone(),
            creation_delay: settings.creation_delay.0,
            shard_limit: settings.shard_limit.get(),
            record_size_limit: settings.max_record.in_memory(),
            enforce_throughput: settings.enforce_throughput.0,
            body_timeout: self.settings.gateway.body_timeout.0,
            body_memory: self.body_memory(),
            answer_memory: self.answer_memory(),
            credentials: credentials(&settings.credentials.0)?,
            auto_create_streams: settings.auto_create_streams.0,
            facade_errors_are_200: settings.facade_errors_are_200.0,
            ..KinesisConfig::default()
        })
    }

    /// The streaming half over these logs, as far as it is to read them.
    pub(crate) fn streamer(
        &self,
        streams: &Streams,
        topics: Option<Arc<dyn EventLog>>,
        lake: impl Into<LateLake>,
    ) -> Result<Streamer, Failure> {
        let stream = &self.settings.stream;
        let mut sources = Vec::new();
        if stream.from.has_streams() {
            let log = Arc::new(streams.kinesis.shards_log());
            sources.push(StreamSource { log, plane: Plane::Streams });
        }
        if let Some(log) = topics.filter(|_| stream.from.has_topics()) {
            sources.push(StreamSource { log, plane: Plane::Topics });
        }
        let defaults = StreamConfig::default();
        let config = StreamConfig {
            commit_every: stream.commit_every.0,
            step: StepLimit {
                bytes: stream.max_bytes.bytes(),
                records: stream.max_records.get(),
                ..defaults.step
            },
            workers: self.settings.engine.workers(),
            history: stream.history.0,
            tidy_every: stream.tidy_every.0,
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
