//! The binary as a user meets it: started, posted to over HTTP, killed, asked for answers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod all_bad;
mod batch;
mod crash;
mod data;
mod drain;
mod flushed;
mod folder;
mod foreign;
mod full_disk;
mod generator;
mod golden;
mod kept;
mod lives;
mod metrics;
mod names;
mod paused;
mod read_only;
mod readers;
mod reference_client;
mod run;
mod said;
mod shrunk;
mod stderr;
mod stream;
mod stream_crash;
mod stream_load;
mod stream_tools;
mod survive;
mod usage;
mod world;
