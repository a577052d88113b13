//! Object storage: the raw archive, the Delta tables, and the quarantine beside them.
//!
//! - [`Lake`] is a place: a directory or an object store URL. [`LateLake`] is one that need not be there yet.
//! - [`archive`] keeps what was received, exactly, in the layout of the Confluent S3 sink.
//! - [`table`] keeps clean rows in Delta tables, each record once.
//! - [`quarantine`] keeps what could not be cleaned, with its reason and its raw bytes.
//! - [`lineage`] numbers the lives of a topic's name, so that a [`RecordId`] means one record for good.
//! - [`RangeSum`] is what log, archive and tables are compared by.
//!
//! Offsets are `u64` in this crate's API; in Delta (`txn` versions, `_offset`) they are BIGINT, so that an
//! offset above 2^63-1 is refused.

pub mod archive;
mod durable;
mod error;
#[cfg(feature = "failpoints")]
pub mod faults;
mod identity;
mod late;
pub mod lineage;
pub mod quarantine;
mod staging;
mod store;
mod sum;
pub mod table;

pub use error::{Error, Result, words};
pub use identity::{RecordId, TopicPartition};
pub use late::LateLake;
pub use store::{Lake, LakeOptions};
pub use sum::{RangeSum, record_hash};
