//! Settings of a gateway: where it listens, what it allows, and its limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pinmill_http::Memory;

use crate::{Error, Result};

/// Deepest nesting that [`Limits::json_depth`] may be set to: serde_json itself stops at 128.
pub const MAX_JSON_DEPTH: usize = 120;
/// hyper's smallest buffer.
const MIN_HEADER_BYTES: usize = 8 * 1024;

/// Settings of a [`Gateway`](crate::Gateway). The default listens on 127.0.0.1:8082 and makes topics on first use.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Allows `listen` to be an address that other machines can reach, although the gateway authenticates nobody.
    pub allow_unauthenticated_remote: bool,
    /// Creates a topic when a record is posted to it and it does not exist.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created on first use.
    pub default_partitions: u32,
    /// Number of topics from which on no more are created on first use.
    pub max_topics: usize,
    /// Most characters of a topic's name, below what the log itself allows: what stands behind the log (an archive of
    /// files) must have room for it.
    pub max_topic_name: usize,
    /// What web pages of other origins may do.
    pub cors: Cors,
    /// Host names of this gateway besides `localhost` and IP addresses; `*` is every name. On a loopback address it answers
    /// to no others, and a web page counts as its own only under one of them.
    pub hosts: Vec<String>,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// How long requests in flight may take to end after a stop was requested.
    pub drain_timeout: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
            allow_unauthenticated_remote: false,
            auto_create_topics: true,
            default_partitions: 1,
            max_topics: 1_000,
            max_topic_name: pinmill_broker::MAX_TOPIC_NAME,
            cors: Cors::Records,
            hosts: Vec::new(),
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What web pages of other origins may do. Anything else is refused with 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Every page may post records to topics and streams, without credentials, and do nothing else.
    Records,
    /// Every page may do everything.
    AnyOrigin,
    /// Pages of these origins (`https://example.org`, compared byte by byte) may do everything, others nothing.
    Origins(Vec<String>),
    /// Pages of other origins may do nothing.
    Off,
}

/// Bounds on everything that a client can make grow (invariant I10).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, in bytes; over it the answer is 413.
    pub body_bytes: usize,
    /// Largest record, in bytes of key and value as they are stored; over it the record alone is refused.
    pub record_bytes: usize,
    /// Most records in one request; over it the answer is 422.
    pub records_per_request: usize,
    /// Deepest nesting of arrays and objects in a key or a value (at most 120); over it the answer is 422.
    pub json_depth: usize,
    /// Largest request head, in bytes (at least 8 KiB); over it the answer is 431. Also the read buffer of a connection.
    pub header_bytes: usize,
    /// How long a request head may take; after that the answer is 408. Over HTTP/1.1 also how long a connection without a
    /// request is kept, which is then closed without an answer.
    pub header_timeout: Duration,
    /// How long a request body may take; after that the answer is 408.
    pub body_timeout: Duration,
    /// How long a client may take to read each 64 KiB of an answer; after that the connection is closed.
    pub write_timeout: Duration,
    /// How long a connection without a request is kept. Until its first request it is kept for `header_timeout`; over
    /// HTTP/1.1 for the shorter of the two.
    pub idle_timeout: Duration,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Open connections. Further ones wait, unaccepted, until one closes. Lowered to three quarters of the file descriptors
    /// that the process may open, so that the log always has some.
    pub connections: usize,
    /// Memory for the request bodies of all connections; a body that gets none in time is refused with 503. Seven eighths of
    /// it must hold the largest body: the last eighth is for bodies of up to 64 KiB alone.
    pub body_memory: Memory,
    /// Memory for answers that clients have not read yet. When it is used up, reads with long answers, and posts of which
    /// nothing is stored yet, are refused with 503. Records that were stored are acknowledged all the same.
    pub answer_memory: Memory,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 10 * 1024 * 1024,
            record_bytes: 1024 * 1024,
            records_per_request: 100_000,
            json_depth: 64,
            header_bytes: 64 * 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            streams: 128,
            connections: 4_096,
            body_memory: Memory::new(256 * 1024 * 1024),
            answer_memory: Memory::new(256 * 1024 * 1024),
        }
    }
}

impl GatewayConfig {
    /// Checks what can be known to be wrong before anything is bound.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.listen.ip().is_loopback() && !self.allow_unauthenticated_remote {
            return Err(Error::RemoteWithoutAuthentication(self.listen));
        }
        let limits = &self.limits;
        let wrong = |setting, reason: String| Err(Error::Config { setting, reason });
        if self.default_partitions == 0 {
            return wrong("default_partitions", "a topic needs at least one partition".to_owned());
        }
        if limits.json_depth == 0 || limits.json_depth > MAX_JSON_DEPTH {
            return wrong("json_depth", format!("it is {}, not 1 to {MAX_JSON_DEPTH}", limits.json_depth));
        }
        if limits.header_bytes < MIN_HEADER_BYTES {
            return wrong("header_bytes", format!("it is {}, below {MIN_HEADER_BYTES}", limits.header_bytes));
        }
        if limits.body_memory.total() / 8 * 7 < limits.body_bytes {
            let least = limits.body_bytes.div_ceil(7).saturating_mul(8);
            return wrong(
                "body_memory",
                format!(
                    "the largest body could never be read; with body_bytes as it is, set at least {least}"
                ),
            );
        }
        if limits.connections == 0 || limits.records_per_request == 0 || limits.streams == 0 {
            return wrong("connections, streams or records_per_request", "0 would serve nobody".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_on_loopback() {
        GatewayConfig::default().check().unwrap();
    }

    #[test]
    fn listening_for_other_machines_without_authentication_needs_a_flag_that_says_so() {
        let mut config = GatewayConfig { listen: "0.0.0.0:8082".parse().unwrap(), ..Default::default() };
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:8082") && error.contains("allow_unauthenticated_remote"), "{error}");
        config.allow_unauthenticated_remote = true;
        config.check().unwrap();
    }

    #[test]
    fn limits_that_cannot_work_are_refused_by_name() {
        let with = |change: fn(&mut GatewayConfig)| {
            let mut config = GatewayConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(with(|c| c.limits.json_depth = 121).contains("json_depth"));
        assert!(with(|c| c.limits.header_bytes = 100).contains("header_bytes"));
        assert!(with(|c| c.limits.body_memory = Memory::new(c.limits.body_bytes)).contains("body_memory"));
        assert!(with(|c| c.default_partitions = 0).contains("default_partitions"));
        assert!(with(|c| c.limits.connections = 0).contains("connections"));
    }
}
