//! The service: what every request works on.

use std::sync::Arc;

use axum::Router;
use pinmill_broker::EventLog;
use pinmill_http::{BodyReader, Memory, Reservation};
use tokio::sync::watch;

use crate::catalog::{Catalog, Live, TOPIC};
use crate::config::{KinesisConfig, MAX_BODY_BYTES};
use crate::error::{ApiError, OpenError};
use crate::http::LEAST_ANSWER_MEMORY;
use crate::ids::arn::{self, Arn};
use crate::model::{Mode, Pending, Status, StreamState};
use crate::ops::subscribe::Subscriptions;
use crate::shards_log::ShardsLog;
use crate::value::Value;

/// The Kinesis API over one event log. Cheap to clone; all clones are the same service.
#[derive(Debug, Clone)]
pub struct Kinesis {
    pub(crate) service: Arc<Service>,
}

impl Kinesis {
    /// Opens the streams that a log keeps. The log must be used by nothing else but readers of its streams. Its own limits
    /// should be at least [`LOG_RECORD_BYTES`](crate::LOG_RECORD_BYTES) and [`LOG_BATCH_BYTES`](crate::LOG_BATCH_BYTES).
    ///
    /// # Errors
    /// When a setting is out of its range, or the catalog cannot be read.
    pub async fn open(log: Arc<dyn EventLog>, config: KinesisConfig) -> Result<Self, OpenError> {
        check(&config)?;
        let catalog = Catalog::open(log).await?;
        let bodies = BodyReader::new(MAX_BODY_BYTES, config.body_timeout, config.body_memory.clone());
        let appends = Memory::new(config.body_memory.total());
        let subscriptions = Arc::default();
        let region = config.home_region().into();
        let config = Arc::new(config);
        Ok(Self { service: Arc::new(Service { catalog, config, region, subscriptions, bodies, appends }) })
    }

    /// The native protocol on every path, and the façade on `/streams…`: for a port of their own.
    pub fn router(&self) -> Router {
        crate::http::facade::router(&self.service).merge(self.native_router())
    }

    /// The native protocol alone, on every path.
    pub fn native_router(&self) -> Router {
        crate::http::native::router(&self.service)
    }

    /// The REST façade alone: `/streams` and what is below it.
    pub fn facade_router(&self) -> Router {
        crate::http::facade::router(&self.service)
    }

    /// All streams as they are now, by name.
    pub fn streams(&self) -> Vec<Arc<StreamState>> {
        self.service.catalog.all()
    }

    /// A stream as it is now.
    pub fn stream(&self, name: &str) -> Option<Arc<StreamState>> {
        self.service.catalog.get(name).map(|live| live.state())
    }

    /// Moves whenever a stream is made, changed or deleted.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.service.catalog.changes()
    }

    /// The log that keeps the streams: the topic of a stream is called like it, shard *n* is partition *n*.
    pub fn log(&self) -> &Arc<dyn EventLog> {
        self.service.catalog.log()
    }

    /// The streams as an event log to read from: topics are streams, partitions shards with their parents and ends.
    pub fn shards_log(&self) -> ShardsLog {
        ShardsLog::new(Arc::clone(&self.service.catalog))
    }

    /// Ends the event streams of all consumers, so that a server that stops need not wait minutes for them.
    pub fn end_subscriptions(&self) {
        self.service.subscriptions.end_all();
    }

    /// Makes a stream, as `CreateStream` does but without its delay.
    ///
    /// # Errors
    /// What `CreateStream` answers.
    pub async fn create_stream(&self, name: &str, shards: u32) -> Result<(), ApiError> {
        crate::ops::streams::create(&self.service, name, shards, Mode::Provisioned).await
    }

    /// True where anybody who reaches the native port may do anything (see [`Credentials`](crate::Credentials)).
    pub fn is_open_to_anybody(&self) -> bool {
        self.service.config.credentials.is_open()
    }
}

fn check(config: &KinesisConfig) -> Result<(), OpenError> {
    let wrong = |setting, value: String, reason: &str| {
        Err(OpenError::Setting { setting, value, reason: reason.to_owned() })
    };
    let account = &config.account_id;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong("account_id", account.clone(), "it must be twelve digits");
    }
    if !config.takes_any_region() && !is_region(&config.region) {
        return wrong("region", config.region.clone(), "it must be `any` or a name such as `us-east-1`");
    }
    let limit = config.record_size_limit;
    if limit == 0 || limit > crate::schema::operations::MAX_DATA_BYTES {
        return wrong("record_size_limit", limit.to_string(), "it must be 1 to 10,485,760 bytes");
    }
    let body = MAX_BODY_BYTES.div_ceil(7) * 8;
    for (setting, memory, least, largest) in [
        ("body_memory", &config.body_memory, body, "body could never be read"),
        (
            "answer_memory",
            &config.answer_memory,
            LEAST_ANSWER_MEMORY,
            "page of records could never be answered",
        ),
    ] {
        let total = memory.total();
        if total < least {
            let reason = format!("the largest {largest}: it must be {least} bytes or more");
            return wrong(setting, total.to_string(), &reason);
        }
    }
    Ok(())
}

/// True for what may stand in an ARN as a region.
fn is_region(text: &str) -> bool {
    let is_of_a_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_of_a_name)
}

/// What the operations share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) config: Arc<KinesisConfig>,
    /// The region in ARNs and messages: the request's own, where any is taken.
    pub(crate) region: Arc<str>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) bodies: BodyReader,
    /// Memory for records on their way into the log.
    appends: Memory,
}

impl Service {
    pub(crate) fn now_ms(&self) -> i64 {
        self.config.clock.now_ms()
    }

    /// Reserves memory for so many bytes of records. They have it until it is dropped: the log may still hold them when
    /// their request, and the memory of its body, are gone.
    pub(crate) async fn memory_to_append(&self, bytes: usize) -> Result<Reservation, ApiError> {
        self.appends.reserve(bytes).await.ok_or_else(|| ApiError {
            status: 503,
            kind: "ServiceUnavailable",
            message: Some("The log cannot keep up with the writes. Try again later.".to_owned()),
        })
    }

    /// The service as a request that was signed for a region sees it.
    pub(crate) fn in_region(self: &Arc<Self>, region: Option<&str>) -> Arc<Self> {
        match region.filter(|region| self.config.takes_any_region() && is_region(region)) {
            Some(region) if *region != *self.region => {
                Arc::new(Self { region: region.into(), ..Self::clone(self) })
            }
            _ => Arc::clone(self),
        }
    }

    /// The name of the stream that a request is about, by its name, its ARN, or both where they agree.
    pub(crate) fn stream_name<'v>(&self, input: &'v Value<'_>) -> Result<&'v str, ApiError> {
        let of_arn = input.str("StreamARN").map(|arn| self.stream_of(arn)).transpose()?;
        match (input.str("StreamName"), of_arn) {
            (Some(name), Some(other)) if name != other => Err(ApiError::invalid(format!(
                "StreamName {name} and StreamARN {} do not name the same stream.",
                self.stream_arn(other)
            ))),
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => Err(ApiError::invalid("Either StreamName or StreamARN should be provided.")),
        }
    }

    /// The name in the ARN of a stream.
    pub(crate) fn stream_of<'v>(&self, given: &'v str) -> Result<&'v str, ApiError> {
        let arn = arn::parse(given).filter(|arn| arn.consumer.is_none());
        let arn = arn.ok_or_else(|| ApiError::invalid(format!("{given} is not the ARN of a stream.")))?;
        self.check_is_ours(&arn)?;
        Ok(arn.stream)
    }

    /// Other accounts and regions have no streams here.
    pub(crate) fn check_is_ours(&self, arn: &Arn<'_>) -> Result<(), ApiError> {
        let is_here = self.config.takes_any_region() || *arn.region == *self.region;
        if is_here && arn.account == self.config.account_id {
            return Ok(());
        }
        Err(self.no_stream_in(arn.stream, arn.account))
    }

    /// Refuses what may not be done to a stream in its present state.
    pub(crate) fn check_status(&self, state: &StreamState, allowed: &[Status]) -> Result<(), ApiError> {
        let status = state.status(self.now_ms());
        if allowed.contains(&status) {
            return Ok(());
        }
        Err(ApiError::in_use(format!(
            "Stream {} under account {} not ACTIVE, instead in state {}",
            state.name,
            self.config.account_id,
            status.name()
        )))
    }

    /// Lets a stream that was changed show `UPDATING` for the delay.
    pub(crate) fn begin_update(&self, state: &mut StreamState) {
        if self.config.delay_ms() > 0 {
            let until_ms = self.now_ms() + self.config.delay_ms();
            state.pending = Some(Pending { status: Status::Updating, until_ms });
        }
    }

    /// The stream that a request is about.
    pub(crate) fn live(&self, input: &Value<'_>) -> Result<Arc<Live>, ApiError> {
        let name = self.stream_name(input)?;
        self.catalog.get(name).ok_or_else(|| self.no_stream(name))
    }

    pub(crate) fn no_stream(&self, name: &str) -> ApiError {
        self.no_stream_in(name, &self.config.account_id)
    }

    fn no_stream_in(&self, name: &str, account: &str) -> ApiError {
        ApiError::not_found(format!("Stream {name} under account {account} not found."))
    }

    /// The stream as messages name it.
    pub(crate) fn named(&self, stream: &str) -> String {
        format!("stream {stream} under account {}", self.config.account_id)
    }

    pub(crate) fn stream_arn(&self, name: &str) -> String {
        arn::stream(&self.region, &self.config.account_id, name)
    }

    /// Largest record of a stream, data and partition key together, in bytes.
    pub(crate) fn record_size_limit(&self, state: &StreamState) -> usize {
        state.record_size_limit.unwrap_or(self.config.record_size_limit)
    }

    /// Whether a stream may be called so: Amazon's rules are checked before, these are ours.
    pub(crate) fn check_new_name(&self, name: &str) -> Result<(), ApiError> {
        if name == TOPIC || pinmill_broker::check_topic_name(name).is_err() {
            return Err(ApiError::invalid(format!("Stream name {name} is reserved.")));
        }
        Ok(())
    }
}
