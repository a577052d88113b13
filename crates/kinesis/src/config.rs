//! What an operator may set, and the clock that the rest of the crate asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinmill_http::Memory;

/// Largest request body, in bytes: 10 MiB of data in base64 with their JSON around them.
pub const MAX_BODY_BYTES: usize = 14 * 1024 * 1024;

/// What the log of the streams must take as one record (key, value and headers), in bytes, for the largest one of the API.
pub const LOG_RECORD_BYTES: usize = 10 * 1024 * 1024 + 1024;

/// What the log of the streams must take as one append, encoded, in bytes: the largest call of the API, all to one shard.
pub const LOG_BATCH_BYTES: usize = 12 * 1024 * 1024;

/// What the log of the streams must take as partitions of one topic: as many shards as there may be in all.
pub const LOG_PARTITIONS: u32 = 100_000;

/// Most open shards of one stream.
pub(crate) const MAX_OPEN_SHARDS: u32 = 10_000;

/// The region of those who do not sign, where any region is taken.
const HOME_REGION: &str = "us-east-1";

/// Settings of the Kinesis API.
#[derive(Debug, Clone)]
pub struct KinesisConfig {
    /// The account in ARNs and error messages: twelve digits.
    pub account_id: String,
    /// The region in ARNs, and the one that signatures must be scoped to when they are verified. With `any` each request
    /// has the region that it was signed for; the streams are the same in all of them.
    pub region: String,
    /// How long a stream shows `CREATING` or `DELETING`, a changed one `UPDATING`, a consumer `CREATING`. Zero: at once.
    pub creation_delay: Duration,
    /// Most open shards of all streams together. Each is a partition of the log.
    pub shard_limit: u32,
    /// Most shards of all streams together, closed ones included: at most [`LOG_PARTITIONS`]. Each is a folder of the log,
    /// until its stream is deleted.
    pub all_shards_limit: u32,
    /// Largest record (data and partition key together) of a stream that does not set its own, in bytes.
    pub record_size_limit: usize,
    /// Most enhanced fan-out consumers of one stream.
    pub consumer_limit: usize,
    /// Most streams in on-demand mode.
    pub on_demand_limit: u32,
    /// Most streams, and most consumers, that may show `CREATING` at a time.
    pub creating_limit: usize,
    /// Whether the limits of a real shard are kept: 1 MiB and 1,000 records a second in, 2 MiB and five reads a second out.
    pub enforce_throughput: bool,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// Memory for request bodies, and as much for records on their way into the log; a request that gets none is
    /// answered with 503.
    pub body_memory: Memory,
    /// Memory for answers with records, until their clients have taken them; a call that gets none is throttled.
    pub answer_memory: Memory,
    /// Whose requests are taken.
    pub credentials: Credentials,
    /// Whether a record put through the REST façade to a stream that does not exist makes that stream, with one shard.
    /// The native protocol never does: its clients expect `ResourceNotFoundException`.
    pub auto_create_streams: bool,
    /// Whether the façade answers errors with status 200, as the well-known API Gateway templates do.
    pub facade_errors_are_200: bool,
    /// The clock.
    pub clock: Clock,
}

impl Default for KinesisConfig {
    fn default() -> Self {
        Self {
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            creation_delay: Duration::ZERO,
            shard_limit: 1000,
            all_shards_limit: LOG_PARTITIONS,
            record_size_limit: 1024 * 1024,
            consumer_limit: 20,
            on_demand_limit: 50,
            creating_limit: 5,
            enforce_throughput: false,
            body_timeout: Duration::from_secs(30),
            body_memory: Memory::new(256 * 1024 * 1024),
            answer_memory: Memory::new(256 * 1024 * 1024),
            credentials: Credentials::AcceptAny,
            auto_create_streams: true,
            facade_errors_are_200: false,
            clock: Clock::system(),
        }
    }
}

impl KinesisConfig {
    /// True where each request says its region.
    pub(crate) fn takes_any_region(&self) -> bool {
        self.region == "any"
    }

    /// The region of requests that say none.
    pub(crate) fn home_region(&self) -> &str {
        if self.takes_any_region() { HOME_REGION } else { &self.region }
    }

    /// The delay in milliseconds.
    pub(crate) fn delay_ms(&self) -> i64 {
        i64::try_from(self.creation_delay.as_millis()).unwrap_or(i64::MAX / 4)
    }
}

/// Whose requests the native protocol takes.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Any signature of the right form, unchecked. Only for a listener on the loopback address.
    AcceptAny,
    /// Signatures are verified against these secrets, by access key id.
    Verify(BTreeMap<String, Secret>),
}

impl Credentials {
    /// True where anybody who reaches the port may do anything; such a port must listen on the loopback address only.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::AcceptAny)
    }
}

/// A secret access key; it is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret that was read from where it is referred to.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for signing.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the time comes from: the system, or a test's hand.
#[derive(Clone)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
    /// Where it stands, if it was stopped.
    stopped_at_ms: Option<i64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { manual: None, stopped_at_ms: None }
    }

    /// The system's clock shifted by the milliseconds in the cell, which a test may change as it goes.
    pub fn shifted(by_ms: Arc<AtomicI64>) -> Self {
        Self { manual: Some(by_ms), stopped_at_ms: None }
    }

    /// This clock, standing still from now on: only the cell of [`Clock::shifted`] still moves it.
    #[must_use]
    pub fn stopped(self) -> Self {
        Self { stopped_at_ms: Some(system_ms()), ..self }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        let now = self.stopped_at_ms.unwrap_or_else(system_ms);
        now + self.manual.as_ref().map_or(0, |shift| shift.load(Ordering::SeqCst))
    }
}

fn system_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX / 2)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.manual.is_some() { "Clock(shifted)" } else { "Clock(system)" })
    }
}
