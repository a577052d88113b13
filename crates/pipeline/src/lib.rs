//! The pipeline folder: what a pipeline is, in files a data engineer reads without knowing Rust.
//!
//! Knows datasets, raw fields, SQL texts and expectations, and checks all that needs no I/O beyond the folder
//! and no SQL planner. Planning against declared types is the engine's half of `pinmill validate`.
//!
//! ```text
//! pipeline.toml        datasets: raw fields and types, key, topic and stream names, expectations
//! clean/<dataset>.sql  SELECT … FROM raw_<dataset>: raw row in, clean row out
//! answers/<name>.sql   a comment on top is the title; the rest is one query
//! tests/*.test         raw rows in, expected rows out
//! ```

mod built_in;
mod limits;
mod load;
mod manifest;
pub mod model;
mod pattern;
mod problem;
pub mod sql;

pub use load::Files;
pub use model::*;
pub use problem::{Error, Problem, Problems, Result, nearest};
