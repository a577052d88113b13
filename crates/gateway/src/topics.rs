//! What the gateway knows of topics between requests: how many partitions one has, and whose turn it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use pinmill_broker::{Error, EventLog, check_topic_name};

use crate::config::GatewayConfig;
use crate::error::ApiError;
use crate::media::Embedded;
use crate::{json, partition};

/// How old a partition count may be: partitions that are added get records at the latest after this.
const FRESH: Duration = Duration::from_secs(5);

/// A topic that exists.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) partitions: u32,
    /// Counts records without a key, so that they go round the partitions.
    turn: AtomicU32,
    described_at: Instant,
}

impl Topic {
    /// The partition of a record: by its key as Kafka's default partitioner does, or the next in turn.
    pub(crate) fn partition_of(&self, key: Option<&[u8]>, embedded: Embedded) -> u32 {
        match (key, embedded) {
            _ if self.partitions == 1 => 0,
            (Some(key), Embedded::Json) => partition::of_key(&json::canonical(key), self.partitions),
            (Some(key), Embedded::Binary) => partition::of_key(key, self.partitions),
            (None, _) => self.turn.fetch_add(1, Ordering::Relaxed) % self.partitions,
        }
    }
}

/// Topics by name. It holds no more names than the log has topics (and those deleted since they were last used).
#[derive(Debug)]
pub(crate) struct Topics {
    log: Arc<dyn EventLog>,
    known: RwLock<HashMap<String, Arc<Topic>>>,
    /// Held while a topic is made, so that the cap on their number holds.
    making: tokio::sync::Mutex<()>,
    auto_create: bool,
    default_partitions: u32,
    max_topics: usize,
    max_topic_name: usize,
}

impl Topics {
    pub(crate) fn new(log: Arc<dyn EventLog>, config: &GatewayConfig) -> Self {
        Self {
            log,
            known: RwLock::default(),
            making: tokio::sync::Mutex::default(),
            auto_create: config.auto_create_topics,
            default_partitions: config.default_partitions,
            max_topics: config.max_topics,
            max_topic_name: config.max_topic_name,
        }
    }

    /// The topic to produce to; it is made when it does not exist and may be made.
    pub(crate) async fn for_produce(&self, name: &str) -> Result<Arc<Topic>, ApiError> {
        match self.fresh(name) {
            Some(topic) => Ok(topic),
            // Boxed, so that the future of a request stays small.
            None => Box::pin(self.look_up(name)).await,
        }
    }

    async fn look_up(&self, name: &str) -> Result<Arc<Topic>, ApiError> {
        self.check_name(name)?;
        match self.describe(name).await {
            Err(Error::UnknownTopic(_)) if self.auto_create => self.make(name).await,
            described => Ok(described?),
        }
    }

    /// What the log takes and nobody behind it could keep is refused too, before anything is made or stored.
    fn check_name(&self, name: &str) -> Result<(), ApiError> {
        check_topic_name(name)?;
        if name.len() > self.max_topic_name {
            let (is, most) = (name.len(), self.max_topic_name);
            let message = format!("the topic's name has {is} characters; the archive has room for {most}");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, 40002, message));
        }
        Ok(())
    }

    /// Forgets a topic that turned out to be another than was known.
    pub(crate) fn forget(&self, name: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn fresh(&self, name: &str) -> Option<Arc<Topic>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).filter(|topic| topic.described_at.elapsed() < FRESH).cloned()
    }

    async fn describe(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let described = self.log.describe(name).await;
        if matches!(described, Err(Error::UnknownTopic(_))) {
            self.forget(name);
        }
        let partitions = u32::try_from(described?.partitions.len()).unwrap_or(u32::MAX);
        if partitions == 0 {
            return Err(Error::UnknownPartition { topic: name.to_owned(), partition: 0 });
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let turn = known.get(name).map_or(0, |topic| topic.turn.load(Ordering::Relaxed));
        let topic = Arc::new(Topic { partitions, turn: AtomicU32::new(turn), described_at: Instant::now() });
        known.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    async fn make(&self, name: &str) -> Result<Arc<Topic>, ApiError> {
        let _one_at_a_time = self.making.lock().await;
        // Another request may have made it while this one waited.
        if let Some(topic) = self.fresh(name) {
            return Ok(topic);
        }
        let topics = self.log.topics().await?.len();
        if topics >= self.max_topics {
            let message = format!(
                "topic {name} is not made: there are {topics} topics, the limit is {}",
                self.max_topics
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, 40002, message));
        }
        match self.log.create_topic(name, self.default_partitions).await {
            Ok(()) => {
                tracing::info!(topic = name, partitions = self.default_partitions, "topic made on first use");
            }
            Err(Error::TopicExists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.describe(name).await?)
    }
}

#[cfg(test)]
mod tests {
    use pinmill_broker::MemoryLog;

    use super::*;

    fn topics(log: &Arc<MemoryLog>, config: &GatewayConfig) -> Topics {
        let log: Arc<dyn EventLog> = Arc::<MemoryLog>::clone(log);
        Topics::new(log, config)
    }

    #[tokio::test]
    async fn records_without_a_key_go_round_and_those_with_one_stay_together() {
        let log = Arc::new(MemoryLog::new());
        log.create_topic("t", 3).await.unwrap();
        let topic = topics(&log, &GatewayConfig::default()).for_produce("t").await.unwrap();
        let round: Vec<_> = (0..6).map(|_| topic.partition_of(None, Embedded::Json)).collect();
        assert_eq!(round, [0, 1, 2, 0, 1, 2]);
        assert_eq!(topic.partition_of(Some(b"abc"), Embedded::Binary), 479_470_107 % 3);
        let json = |key: &str| topic.partition_of(Some(key.as_bytes()), Embedded::Json);
        assert_eq!(json(r#""\u0061""#), json(r#""a""#));
    }

    #[tokio::test]
    async fn a_topic_is_made_once_by_many_that_need_it_and_never_over_the_cap() {
        let log = Arc::new(MemoryLog::new());
        let config = GatewayConfig { max_topics: 3, default_partitions: 2, ..GatewayConfig::default() };
        let topics = topics(&log, &config);
        let names: Vec<_> = (0..40).map(|n| format!("t{}", n % 5)).collect();
        let made = futures::future::join_all(names.iter().map(|name| topics.for_produce(name))).await;
        assert_eq!(log.topics().await.unwrap().len(), 3);
        for (name, topic) in names.iter().zip(made) {
            match topic {
                Ok(topic) => assert_eq!(topic.partitions, 2),
                Err(error) => assert_eq!((error.status.as_u16(), error.code), (400, 40002), "{name}"),
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_made_when_that_is_switched_off() {
        let log = Arc::new(MemoryLog::new());
        let config = GatewayConfig { auto_create_topics: false, ..GatewayConfig::default() };
        let error = topics(&log, &config).for_produce("t").await.unwrap_err();
        assert_eq!(error, ApiError::topic_not_found());
        assert!(log.topics().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_for_which_the_archive_has_no_room_is_refused_and_nothing_is_made() {
        let log = Arc::new(MemoryLog::new());
        let config = GatewayConfig { max_topic_name: 188, ..GatewayConfig::default() };
        let topics = topics(&log, &config);
        topics.for_produce(&"x".repeat(188)).await.unwrap();
        // Also to one that was made before there was a limit.
        log.create_topic(&"y".repeat(189), 1).await.unwrap();
        for name in ["x".repeat(189), "y".repeat(189), "x".repeat(249)] {
            let error = topics.for_produce(&name).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, 40002), "{}", error.message);
        }
        assert_eq!(log.topics().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn names_that_kafka_refuses_are_refused() {
        let log = Arc::new(MemoryLog::new());
        for name in ["..", "a/b", "../../etc/passwd", "a b", ""] {
            let error = topics(&log, &GatewayConfig::default()).for_produce(name).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, 40002), "{name}");
        }
    }
}
