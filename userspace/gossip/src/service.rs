//! The shell: the core on a UDP and a TCP socket, driven by tokio.

mod handle;
mod sockets;

pub use handle::{GossipHandle, Stopped};
pub use sockets::{ServiceError, Sockets};

use crate::Start;

/// A running gossip core. It ends when all its handles are dropped.
pub struct GossipService {
    _todo: (),
}

impl GossipService {
    /// Prepares a node on these sockets; [`GossipService::run`] drives it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A socket could not be handed to the runtime.
    pub fn new(start: Start, sockets: Sockets) -> Result<(Self, GossipHandle), ServiceError> {
        todo!()
    }

    /// Runs until every handle is dropped.
    pub async fn run(self) {
        todo!()
    }
}
