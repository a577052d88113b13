//! What the HTTP services share: memory for bodies within a bound that no client can hold against the others, and one
//! way to read a request's body.
//!
//! - [`Memory`] is a budget in bytes. What is held for a client that does not move on is taken back when others need it.
//! - [`BodyReader`] reads request bodies: no more than a limit, for no longer than a time-out, within a [`Memory`].
//! - [`Reserved`] marks an answer that already holds its memory.

mod body;
mod memory;

pub use body::{BodyError, BodyReader, Received, without_bom};
pub use memory::{Memory, Peer, Reservation, Reserved, SMALL};
