//! The shell: sockets and threads.

mod sockets;

pub use sockets::{OpenError, open_sockets};

use crate::{AskerId, AskerInfo, Zone};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// Why the server did not start, or did not take an asker; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The kernel gave no thread or no descriptor.
    #[error("failed to start the DNS server")]
    Start(#[source] io::Error),
    /// An asker's socket cannot be waited for.
    #[error("failed to serve the sockets of asker {}", .asker.0)]
    Sockets {
        /// The asker.
        asker: AskerId,
        /// The kernel's word.
        source: io::Error,
    },
}

/// What has been counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {}

/// Answers the questions of all tasks of a node. It stops, and its descriptors close, when it is dropped.
#[derive(Debug)]
pub struct DnsServer {}

impl DnsServer {
    /// Starts the threads, without askers, names and upstream servers. Upstream servers are asked from the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no thread or descriptor.
    pub fn start() -> Result<Self, ServerError> {
        todo!()
    }

    /// Serves a task at these sockets; a former one with the same number is replaced. They are taken as they are:
    /// give duplicates of sockets that someone else keeps.
    ///
    /// # Errors
    /// The sockets cannot be waited for.
    pub fn add_asker(
        &self,
        _id: AskerId,
        _info: AskerInfo,
        _udp: UdpSocket,
        _tcp: TcpListener,
    ) -> Result<(), ServerError> {
        todo!()
    }

    /// Changes what a task's questions are answered by; does nothing where there is no such asker.
    pub fn set_asker(&self, _id: AskerId, _info: AskerInfo) {
        todo!()
    }

    /// Stops serving a task and closes the server's descriptors of its sockets.
    pub fn remove_asker(&self, _id: AskerId) {
        todo!()
    }

    /// Answers from these names from now on.
    pub fn set_zone(&self, _zone: Arc<Zone>) {
        todo!()
    }

    /// Asks these servers for names of the outside, for askers without servers of their own.
    pub fn set_upstreams(&self, _servers: Vec<SocketAddr>) {
        todo!()
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
