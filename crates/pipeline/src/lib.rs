//! The pipeline folder: what a pipeline is, in files a data engineer reads without knowing Rust.
//!
//! Knows datasets, raw fields, SQL texts and expectations, and checks all that needs no I/O beyond the folder
//! and no SQL planner. Planning against declared types is the engine's half of `pinmill validate`.

pub mod model;
