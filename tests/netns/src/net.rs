//! Sockets of the test's own inside a namespace. They belong to no control group of the lab, so the socket programs do
//! not see them: their packets to a VIP are balanced one by one.

use anyhow::Context as _;
use essaim_lab::{Cluster, netns};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// How long a receive may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects from inside the namespace of a machine or task.
///
/// # Errors
/// Those of connect(2), as [`std::io::Error`].
pub fn connect(
    cluster: &Cluster,
    at: &str,
    to: SocketAddr,
    timeout: Duration,
) -> anyhow::Result<TcpStream> {
    netns::inside(&cluster.netns(at), || {
        let stream = TcpStream::connect_timeout(&to, timeout)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
    .with_context(|| format!("{at} to {to}"))
}

/// Opens a UDP socket inside the namespace of a machine or task; receiving takes 5 s at most. With port 0 the kernel
/// chooses address and port; else it is bound to just this address.
///
/// # Errors
/// Those of bind(2).
pub fn udp(cluster: &Cluster, at: &str, address: IpAddr, port: u16) -> anyhow::Result<UdpSocket> {
    let own: IpAddr = match address {
        _ if port != 0 => address,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    netns::inside(&cluster.netns(at), || {
        let socket = UdpSocket::bind((own, port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })
    .with_context(|| format!("failed to open UDP port {port} of {own} at {at}"))
}
