//! Names of the outside: asked of upstream servers, all at once.

mod accept;
mod exchange;
mod forwarder;
mod stored;
#[cfg(test)]
mod tests;
mod way;

pub(crate) use accept::{Accepted, Sent, accept};
pub(crate) use exchange::Patience;
pub(crate) use forwarder::{Ask, Forwarder};
pub(crate) use stored::Stored;
pub(crate) use way::EngineResolver;

use std::net::SocketAddr;
use std::sync::Arc;

/// A list of upstream servers, with a number that no other list has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(crate) number: u32,
    pub(crate) addresses: Vec<SocketAddr>,
    /// A container engine's own resolver in these servers' place. What it says is not kept: its names go with their
    /// containers, and it says that they live for minutes.
    pub(crate) engine: Option<Arc<EngineResolver>>,
}

impl Servers {
    /// These servers.
    pub(crate) const fn at(number: u32, addresses: Vec<SocketAddr>) -> Self {
        Self {
            number,
            addresses,
            engine: None,
        }
    }
}
