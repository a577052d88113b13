//! Emulates the posts of a busy site: rows from a [`Source`] (the generator, files or a database) are posted to a gateway as
//! the reference system's scripts do, but with retries, statuses checked and every record accounted for. An event goes to
//! topics (Kafka REST), to streams (the REST façade of Kinesis, ours or one in front of Amazon's), or to both.
//!
//! It knows sources and the posting loop, and nothing of what stands behind HTTP.
//!
//! ```no_run
//! use std::sync::Arc;
//! use pinmill_emulate::{Generator, Options, Target, emulate};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { posts: Some(1000), ..Options::new(Target::topics("http://localhost:8082", Some("124df56aef51"))?) };
//! let stop = tokio_util::sync::CancellationToken::new();
//! let summary = emulate(options, Arc::new(Generator::new(100)), &stop).await?;
//! assert!(summary.is_complete(), "{summary}");
//! # Ok(())
//! # }
//! ```

mod ack_log;
mod client;
mod creds;
mod fate;
mod generator;
mod ids;
mod open;
mod options;
mod outlet;
mod poster;
mod progress;
mod retry;
mod source;
mod summary;
mod target;

pub use creds::{Creds, CredsError};
pub use generator::{BLOCK, Generator, GeoRow, PinRow, UserRow};
pub use ids::{DrawOrder, IdsError, REFERENCE_ROWS, read_ids};
pub use open::open;
pub use options::{Options, Pace};
pub use poster::{EmulateError, MOST_CONNECTIONS, MOST_RECORDS, emulate};
pub use source::{DatabaseUrl, DateForm, Jsonl, Source, SourceError, SourceSpec, Table};
pub use summary::Summary;
pub use target::{Target, TargetError, To};
