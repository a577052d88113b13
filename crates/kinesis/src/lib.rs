//! The Kinesis API over an event log: Amazon's native protocol (JSON 1.1 and CBOR 1.1) and the REST façade of the
//! well-known API Gateway templates.
//!
//! A stream is a topic of its own [`EventLog`](pinmill_broker::EventLog) instance, called like the stream; shard *n* of the
//! stream is partition *n* of the topic, closed shards included. Streams therefore must not share an instance with the
//! topics of Kafka REST. What a stream is besides its records (shards and their parents, tags, consumers, retention, mode) is
//! kept in a topic of the same log: see [`catalog`].
//!
//! | module | knows |
//! | --- | --- |
//! | `ids` | hash keys, sequence numbers, iterators, tokens, ARNs: pure |
//! | `value`, `schema` | JSON and CBOR, what an operation takes, type errors and validation errors: pure |
//! | `model`, `reshard` | a stream and its shards; what a split, a merge or a new shard count makes of them: pure |
//! | [`catalog`] | the streams that there are, durably |
//! | `ops` | one function an operation |
//! | `sigv4` | signatures: pure |
//! | `http` | headers, the order of checks, routes |
//! | `shards_log` | the streams as an event log whose partitions have parents and ends, for those who read them |
//!
//! ```no_run
//! # async fn serve(log: std::sync::Arc<dyn pinmill_broker::EventLog>) -> Result<(), Box<dyn std::error::Error>> {
//! use pinmill_kinesis::{Kinesis, KinesisConfig};
//! let kinesis = Kinesis::open(log, KinesisConfig::default()).await?;
//! let router = kinesis.router(); // native protocol and façade, for a port of their own
//! let facade = kinesis.facade_router(); // `/streams…` alone, to be merged into another port's router
//! # Ok(()) }
//! ```

pub mod catalog;
mod config;
mod error;
mod http;
mod ids;
mod model;
mod ops;
mod reshard;
mod schema;
mod service;
mod shards_log;
mod sigv4;
mod throttle;
mod value;

pub use config::{
    Clock, Credentials, KinesisConfig, LOG_BATCH_BYTES, LOG_PARTITIONS, LOG_RECORD_BYTES, MAX_BODY_BYTES,
    Secret,
};
pub use error::{ApiError, OpenError};
pub use http::LEAST_ANSWER_MEMORY;
pub use ids::hash::HashRange;
pub use ids::sequence::{sequence_number, shard_id};
pub use model::{Closed, Consumer, Mode, Shard, Status, StreamState};
pub use schema::operations::MAX_DATA_BYTES;
pub use service::Kinesis;
pub use shards_log::ShardsLog;
