//! What the HTTP services share: memory for bodies and answers within a bound, which idle clients cannot hold against
//! others, and one way to read a request's body.
//!
//! - [`Memory`] is a budget in bytes. What it holds for a client that has been idle for a second is taken back when others
//!   need it. A client that is slow, but does send or take something every second, keeps it until its time-out.
//! - [`BodyReader`] reads request bodies: no more than a limit, for no longer than a time-out, within a [`Memory`].
//! - [`Reserved`] marks an answer that already holds its memory.

mod body;
mod memory;
mod peers;

pub use body::{BodyError, BodyReader, Received, without_bom};
pub use memory::{Memory, Reservation, Reserved, SHORT, SMALL};
pub use peers::Peer;
