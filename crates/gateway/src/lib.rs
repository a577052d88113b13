//! pinmill's HTTP side: the produce and metadata calls of Kafka REST Proxy v2, on any [`EventLog`].
//!
//! ```no_run
//! # async fn example() -> Result<(), pinmill_gateway::Error> {
//! use std::sync::Arc;
//! use pinmill_gateway::{Gateway, GatewayConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! let log = Arc::new(pinmill_broker::MemoryLog::new());
//! let gateway = Gateway::bind(GatewayConfig::default(), log).await?;
//! let stop = CancellationToken::new();
//! gateway.serve(stop).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Routes
//!
//! | route | does |
//! | --- | --- |
//! | `POST /topics/{topic}`, `POST /topics/{topic}/partitions/{partition}` | stores records; the answer comes when the log has made them durable |
//! | `GET /topics`, `/topics/{topic}`, `/topics/{topic}/partitions`, `…/{partition}`, `…/{partition}/offsets`, `/brokers` | describe |
//! | `GET /`, `POST /` | `{}` |
//! | `GET /healthz` | 200 while the process answers |
//! | `GET /readyz` | 200 while records are taken and every other part of the process works, else 503; lists the parts and why. `?part=NAME` asks for one |
//! | `GET /metrics` | Prometheus text |
//!
//! One segment, a stage, may stand before every route but the root (`/dev/topics/x`), and slashes after it; several slashes
//! in a row count as one. OPTIONS is answered for every path. By default, pages of other origins may only post records
//! ([`Cors`]), and a loopback listener only answers to names of this machine ([`GatewayConfig::hosts`]). Every answer with a
//! body is JSON (but `/metrics`); an error is `{"error_code":…,"message":…}`.
//!
//! # Values
//!
//! A JSON key or value is stored as it was sent, without the white space between its tokens: the order of members and
//! the text of numbers stay. `null` is a tombstone. A value that readers would understand differently is refused
//! together with its request: a member twice in one object, half a surrogate pair, a number beyond a double, bytes that
//! are no UTF-8, nesting over the limit.
//!
//! # Threads
//!
//! The gateway runs on the caller's tokio runtime and never blocks it. The embedded log writes and flushes on threads of
//! its own: a runtime with one worker less than there are cores leaves it a core, and acknowledges more records a second
//! than one that takes them all.
//!
//! # Metrics
//!
//! | name | labels | counts |
//! | --- | --- | --- |
//! | `pinmill_gateway_requests_total` | `route` (`/topics/{topic}`, …, `preflight`, `other`), `status` | requests answered |
//! | `pinmill_gateway_records_total` | `outcome` (`stored`, `refused`) | records posted in requests that were understood |
//! | `pinmill_gateway_record_bytes_total` | | bytes of keys and values stored |
//! | `pinmill_gateway_ack_seconds` (histogram) | | from a produce request's whole body to its answer |
//! | `pinmill_gateway_connections` (gauge) | | connections open now |
//! | `pinmill_gateway_connections_accepted_total` | | connections accepted |

mod config;
mod conversation;
mod cors;
mod error;
mod gateway;
mod io;
mod json;
mod media;
mod metrics;
mod partition;
mod path;
mod produce;
mod ready;
mod routes;
mod server;
mod store;
mod topics;

#[cfg(doc)]
use pinmill_broker::EventLog;

pub use config::{Cors, GatewayConfig, Limits, MAX_JSON_DEPTH};
pub use error::{Error, Result};
pub use gateway::{Gateway, Listening};
pub use pinmill_http::Memory;
pub use ready::{PartReport, Readiness};
pub use server::{Drained, Server};
