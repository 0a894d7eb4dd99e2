//! Names of the outside: asked of upstream servers, all at once.

mod accept;
mod exchange;
mod forwarder;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Accepted, Sent, accept};
pub(crate) use exchange::Patience;
pub(crate) use forwarder::{Ask, Forwarder};
pub(crate) use stored::Stored;

use std::net::SocketAddr;

/// A list of upstream servers, with a number that no other list has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(crate) number: u32,
    pub(crate) addresses: Vec<SocketAddr>,
}
