//! The managers' port: calls between nodes, over mutual TLS.
//!
//! A [`Server`] takes connections on the managers' port (TCP 2377) and serves the methods of a [`Methods`] table; a
//! [`Client`] calls them. Messages are opaque bytes: who calls what with which content is the concern of the parts above.
//! Underneath is gRPC (HTTP/2, by tonic), which brings many calls on one connection, flow control, deadlines and
//! keep-alive; the links are those of `essaim-ca`.
//!
//! **Who may call** is said by the table, method by method ([`Admission`]), and checked before a handler sees a byte, by
//! the certificate that the handshake has verified. A refusal is logged here with its reason; the caller learns only
//! that it may not.
//!
//! **A link lives no longer than the certificate** that it was made with: then it is closed, and the node shows another.
//! A peer that falls silent is found out by HTTP/2 pings within [`KEEP_ALIVE`] twice.
#![forbid(unsafe_code)]

mod client;
mod codec;
mod error;
mod link;
mod methods;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, Messages};
pub use error::{CallError, Code, chain};
pub use link::Caller;
pub use methods::{Admission, Methods};
pub use server::{Server, ServerError};

use std::time::Duration;

/// How often a silent connection is asked for a sign of life, and how long the answer may take. Too low and a stalled
/// machine loses its links, too high and calls to a dead manager hang for as long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The largest message, in bytes: more than Raft's largest, and less than what a manager can afford for each of a
/// thousand nodes.
pub const LARGEST_MESSAGE: usize = 8 << 20;
