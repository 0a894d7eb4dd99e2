//! The holder: a small process of its own that keeps sockets open while agents come and go.
//!
//! It has every published port of the node bound, so that nothing else takes one and a restart of the agent frees
//! none, and it keeps descriptors under names for whoever must not lose them. It decides nothing: the agent names
//! the whole set of ports, the holder says which could not be had, and who has them. While its agent is away it answers
//! the other nodes' gossip for it, so that a restart is no death, and who connects to a socket that it keeps waits, so that a
//! restart is no refusal: both for a limited time.
//!
//! A holder that starts while another serves the same state directory takes over all of its descriptors, then ends
//! it. `hello`, `hand-over` and `exit` therefore keep their meaning in every version of the protocol.

mod channel;
mod client;
mod launch;
mod owner;
mod port;
mod presence;
mod protocol;
mod server;
mod sockets;
mod tending;

pub use channel::ChannelError;
pub use client::{HolderClient, HolderError};
pub use launch::{HolderLauncher, LaunchError};
pub use port::{HeldPort, PortDiff, PortSyntaxError, protocol_name, protocol_of};
pub use protocol::{
    Charge, GOSSIP_SOCKET, HOLDER_PROTOCOL, HolderIdentity, Label, PortOwner, Refusal, Reply, Request,
};
pub use server::{HoldError, serve_holder};
