//! The sockets of gossip.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Why the sockets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The UDP socket could not be bound.
    #[error("failed to bind gossip's UDP socket to {address}")]
    BindUdp {
        /// Where to.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The TCP socket could not be bound.
    #[error("failed to bind gossip's TCP socket to {address}")]
    BindTcp {
        /// Where to.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// A socket could not be handed to the runtime.
    #[error("failed to hand gossip's sockets to the runtime")]
    Register(#[source] io::Error),
}

/// An open UDP and TCP socket on the same port.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Opens both; port 0 takes any port that is free for both.
    ///
    /// # Errors
    /// One of them could not be bound; none is open then.
    pub fn bind(address: SocketAddr) -> Result<Self, ServiceError> {
        let bind_tcp = |source| ServiceError::BindTcp { address, source };
        let tcp = TcpListener::bind(address).map_err(bind_tcp)?;
        let address = tcp.local_addr().map_err(bind_tcp)?;
        let udp = UdpSocket::bind(address).map_err(|source| ServiceError::BindUdp { address, source })?;
        Ok(Self { udp, tcp })
    }

    /// Takes sockets that are open already, from a holder that keeps them over restarts.
    pub const fn from_open(udp: UdpSocket, tcp: TcpListener) -> Self {
        Self { udp, tcp }
    }

    /// A copy of the UDP socket, for whoever keeps it while nobody reads it here.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn copy_udp(&self) -> io::Result<UdpSocket> {
        self.udp.try_clone()
    }

    /// Hands both to the runtime.
    pub(super) fn register(self) -> Result<(tokio::net::UdpSocket, tokio::net::TcpListener), ServiceError> {
        let register = || {
            self.udp.set_nonblocking(true)?;
            self.tcp.set_nonblocking(true)?;
            Ok((
                tokio::net::UdpSocket::from_std(self.udp)?,
                tokio::net::TcpListener::from_std(self.tcp)?,
            ))
        };
        register().map_err(ServiceError::Register)
    }

    /// Where the UDP socket receives.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}
