//! Sockets that answer both families on all addresses.

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Listens on a TCP port of all addresses.
pub(crate) fn tcp(port: u16) -> anyhow::Result<TcpListener> {
    let listen = || -> anyhow::Result<TcpListener> {
        let socket = TcpSocket::new_v6()?;
        // The default is a sysctl of the host's.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
        Ok(socket.listen(BACKLOG)?)
    };
    listen().with_context(|| format!("failed to listen on TCP port {port}"))
}

/// Binds a UDP port of all addresses.
pub(crate) async fn udp(port: u16) -> anyhow::Result<UdpSocket> {
    UdpSocket::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
        .await
        .with_context(|| format!("failed to bind UDP port {port}"))
}

/// A peer as people write it: IPv4 as IPv4, also where the socket is an IPv6 one.
pub(crate) fn canonical(peer: SocketAddr) -> SocketAddr {
    let address = match peer.ip() {
        IpAddr::V6(address) => address.to_canonical(),
        IpAddr::V4(address) => address.into(),
    };
    SocketAddr::new(address, peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_peer_is_written_as_ipv4() {
        assert_eq!(
            canonical("[::ffff:10.0.0.7]:80".parse().unwrap()).to_string(),
            "10.0.0.7:80"
        );
        assert_eq!(
            canonical("[fd00::7]:80".parse().unwrap()).to_string(),
            "[fd00::7]:80"
        );
    }
}
