//! The gateway over real sockets.

mod drain;
mod golden;
mod limits;
mod malformed;
mod partial;
mod python;
mod routes;
mod support;
