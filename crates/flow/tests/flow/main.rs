//! Both halves from end to end, in process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod answer;
mod audit;
mod clean;
mod drift;
mod fence;
mod foreign;
mod golden;
mod layouts;
mod names;
mod parity;
mod poison;
mod quarantine;
mod reshard;
mod retention;
mod stream;
mod torn;
