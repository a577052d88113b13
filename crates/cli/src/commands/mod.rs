//! One module a command.

pub(crate) mod answer;
pub(crate) mod audit;
pub(crate) mod clean;
pub(crate) mod config;
pub(crate) mod emulate;
pub(crate) mod folder;
pub(crate) mod log;
pub(crate) mod quarantine;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tables;
pub(crate) mod tail;
