//! What the caller of the core has to do.

use essaim_model::NodeName;
use std::net::SocketAddr;

/// An effect, to be carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        datagram: Vec<u8>,
    },
    /// Open a stream to a member and exchange frames: send this one, hand each answer to
    /// [`crate::Gossip::handle_frame`] and send what that returns, until it returns nothing.
    Exchange {
        /// Where to.
        to: SocketAddr,
        /// The member.
        peer: NodeName,
        /// The first frame.
        frame: Vec<u8>,
    },
}
