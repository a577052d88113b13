//! Delta tables: every row once, whatever dies when and whoever else writes.
#![allow(clippy::unwrap_used, reason = "a test that fails there has failed")]

#[path = "../common/mod.rs"]
mod common;
mod support;

mod ambiguous;
mod columns;
mod commits;
mod damage;
mod rivals;
mod statistics;
mod tidy;
mod waiting;
