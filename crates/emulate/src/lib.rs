//! Emulates the posts of a busy site: rows from a [`Source`] (the generator, files or a database) are posted to a gateway as
//! the reference system's scripts do, but with retries, statuses checked and every record accounted for.
//!
//! It knows sources and the posting loop, and nothing of what stands behind HTTP.

mod generator;
mod source;

pub use generator::{BLOCK, Generator, GeoRow, PinRow, UserRow};
pub use source::{DatabaseUrl, DateForm, Jsonl, Source, SourceError, SourceSpec, Table, open};
