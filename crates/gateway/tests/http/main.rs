//! The gateway over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod browsers;
mod drain;
mod golden;
mod limits;
mod malformed;
mod partial;
mod poisoned;
mod python;
mod routes;
mod slow;
mod support;
