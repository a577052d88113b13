//! The batch half from end to end, in process.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod clean;
mod foreign;
mod golden;
mod poison;
mod quarantine;
