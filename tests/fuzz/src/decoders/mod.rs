//! What must hold of each decoder, for every input.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a target panics where a promise is broken"
)]

pub(crate) mod catalog;
pub(crate) mod compose;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod packet;
