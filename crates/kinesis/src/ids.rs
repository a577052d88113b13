//! The names and numbers of Kinesis, as pure functions.

pub(crate) mod arn;
pub(crate) mod hash;
pub(crate) mod iterator;
pub(crate) mod sequence;
pub(crate) mod token;
