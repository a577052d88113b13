//! The API over HTTP, as clients see it: a server in this process, spoken to in HTTP/1.1 and HTTP/2, in JSON and CBOR.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod clients;
mod consumers;
mod dry_run;
mod durable;
mod facade;
mod limits;
mod mounted;
mod pressure;
mod protocol;
mod records;
mod reshard;
mod rust_client;
mod settings;
mod signatures;
mod states;
mod streams;
mod world;
