//! The embedded durable log: topics of partitions, each an ordered sequence of records in segment files.
//!
//! ```no_run
//! # async fn example() -> Result<(), pinmill_log::Error> {
//! use pinmill_log::{Log, LogConfig, Record};
//!
//! let (log, report) = Log::open("data/log", LogConfig::default())?;
//! println!("{} torn tails cut", report.cuts.len());
//! log.create_topic("124df56aef51.pin", 1)?;
//! let record = Record { value: Some("{}".into()), ..Record::default() };
//! let appended = log.append("124df56aef51.pin", 0, vec![record]).await?;
//! let records = log.read("124df56aef51.pin", 0, appended.base_offset, 1 << 20)?;
//! # Ok(()) }
//! ```
//!
//! # Invariants
//!
//! - **L1** An append answers `Ok` only after its bytes were written and, with [`Durability::Fsync`], flushed.
//! - **L2** Readers see offsets below the published end only, and only bytes that fit their checksums.
//! - **L3** An offset that was acknowledged, or passed by a reader, or consumed outside of the log ([`Log::skip_to`]), is
//!   never given to another record.
//! - **L4** Recovery cuts only what was never acknowledged; everything else that is wrong is an error, and changes nothing.
//! - **L5** After a failed fsync nothing is acknowledged until a restart.
//! - **L6** Names are durable before what depends on them: a folder is synced after a file is made in it and before a
//!   record in that file is acknowledged.
//! - **L7** Offsets and time stamps of a partition never go backwards.
//! - **L8** Retention removes whole segments from the front, none that a registered reader has not passed.
//!
//! The bytes are described in the modules that write them: `format` (segments), `index`, `start`, `topics`,
//! `positions`, `clean` and `folder`; what a crash leaves at each point, in `partition` and `recovery`.

mod clean;
mod committer;
mod config;
mod disk;
mod error;
mod folder;
mod follow;
mod format;
mod health;
mod index;
mod inner;
mod keeper;
mod log;
mod partition;
mod positions;
mod read;
mod record;
mod recovery;
mod repair;
mod retention;
mod scan;
mod shared;
#[cfg(feature = "sim")]
pub mod sim;
mod start;
mod survey;
mod topics;
mod verify;
mod view;

pub use config::{Clock, Durability, LogConfig};
pub use disk::{Disk, DiskFile, Entry, LockGuard, Open, RealDisk};
pub use error::{Error, Result};
pub use health::{Health, Stats};
pub use log::Log;
pub use positions::ReaderPosition;
pub use record::{Appended, OffsetRange, Record, StoredRecord};
pub use recovery::{Cut, RecoveryReport, Skipped};
pub use repair::{RepairReport, repair, repair_on};
pub use survey::{Damage, Lost, Problem};
pub use topics::{MAX_TOPIC_NAME, TopicMeta, check_name as check_topic_name};
pub use verify::{VerifyReport, verify, verify_on};
