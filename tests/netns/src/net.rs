//! Sockets of the test's own inside a namespace. They belong to no control group of the lab, so the socket programs do
//! not see them: their packets to a VIP are balanced one by one.

use anyhow::Context as _;
use essaim_lab::{Cluster, Family, netns};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// How long a receive may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects from inside the namespace of a machine or task.
///
/// # Errors
/// Those of connect(2), as [`std::io::Error`].
pub fn connect(cluster: &Cluster, at: &str, to: SocketAddr, timeout: Duration) -> anyhow::Result<TcpStream> {
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

/// Sets an integer option of a socket, for which the standard library has no word.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> std::io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(std::io::Error::other)?;
    // SAFETY: the value lives during the call, and its size is given.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Reads an integer option of a socket.
///
/// # Errors
/// Those of getsockopt(2).
pub fn option(socket: &UdpSocket, level: i32, name: i32) -> std::io::Result<i32> {
    let mut value = 0_i32;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).map_err(std::io::Error::other)?;
    // SAFETY: value and length live during the call, and the length is the value's.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Has the kernel report every ICMP error to a socket, also those that it takes for passing.
///
/// # Errors
/// Those of setsockopt(2).
pub fn report_errors(socket: &UdpSocket, family: Family) -> std::io::Result<()> {
    match family {
        Family::V4 => set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        Family::V6 => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}
