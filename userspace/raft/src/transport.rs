use crate::types::NodeId;
use futures_util::future::BoxFuture;

/// Carries one message to another manager and its reply back: an RPC of the manager's port.
///
/// The bytes are opaque. Whoever receives them has checked that the sender is a manager of this cluster (the role in
/// its certificate), hands them to [`RaftHandle::receive`](crate::RaftHandle::receive), and sends back what it
/// returns. A message is at most [`LARGEST_MESSAGE`] long, unless one proposal alone is longer. Messages may be lost,
/// late, doubled and out of order; they must not be altered.
///
/// A call that no longer interests anybody is dropped. There is no need for a timeout in it.
pub trait Transport: Send + Sync + 'static {
    /// Sends `message` to the manager `to` at `address`.
    fn send(
        &self,
        to: NodeId,
        address: &str,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>>;
}

/// What a transport has to carry: some 1 MiB of entries or of a snapshot, with their headers.
pub const LARGEST_MESSAGE: usize = (2 << 20) + (64 << 10);

/// No reply came; whether the message arrived is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody answers at that address; calls to it are spaced out.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The call failed on the way, or was refused.
    #[error("call failed: {0}")]
    Failed(String),
}
