//! The posting loop: against a server that fails as a test says, and against the real one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

mod real;
mod streams;
mod support;
mod topics;

use std::sync::Arc;

use pinmill_emulate::{Generator, Options, Summary, emulate};
use tokio_util::sync::CancellationToken;

/// Posts rows of the generator.
async fn run(options: Options) -> Summary {
    emulate(options, Arc::new(Generator::new(100)), &CancellationToken::new()).await.unwrap()
}

/// All records of one target were stored, and the books balance.
#[track_caller]
fn assert_complete(summary: &Summary, events: u64) {
    assert!(summary.is_complete(), "{summary} {:?}", summary.errors);
    assert_eq!(
        (summary.events, summary.records, summary.acknowledged),
        (events, events * 3, events * 3),
        "{summary}"
    );
}
