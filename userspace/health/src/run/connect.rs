use crate::{FailureCause, TaskPlace};
use essaim_netlink::{NetnsRef, in_netns};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::spawn_blocking;

/// Connects to a port of the task, from within its namespace; tells the address that took the connection.
///
/// Its addresses are tried in order: it need not listen on all of them.
pub(super) async fn connect(
    place: &TaskPlace,
    port: NonZeroU16,
) -> Result<(TcpStream, IpAddr), FailureCause> {
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let addresses = if place.addresses.is_empty() {
        loopback.to_vec()
    } else {
        place.addresses.clone()
    };
    let mut reason = String::new();
    for (address, socket) in sockets(&place.netns, addresses).await? {
        let target = SocketAddr::new(address, port.get());
        let connected = match socket {
            Ok(socket) => socket.connect(target).await,
            // A kernel without IPv6 has no socket of it.
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => reason = format!("{target}: {error}"),
        }
    }
    Err(FailureCause::Connect { reason })
}

/// A socket for each address, made in the namespace: it stays there, whichever thread uses it.
async fn sockets(
    netns: &str,
    addresses: Vec<IpAddr>,
) -> Result<Vec<(IpAddr, io::Result<TcpSocket>)>, FailureCause> {
    let netns = netns.to_owned();
    let inside = move || {
        let netns = NetnsRef::open(&netns)?;
        in_netns(&netns, || {
            let pairs = addresses.into_iter().map(|address| (address, socket(address)));
            pairs.collect()
        })
    };
    let made = spawn_blocking(inside).await.map_err(|error| not_run(&error))?;
    made.map_err(|error| not_run(&error))
}

fn socket(address: IpAddr) -> io::Result<TcpSocket> {
    let domain = if address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// The whole chain of reasons, in one line.
pub(super) fn not_run(error: &dyn std::error::Error) -> FailureCause {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    FailureCause::NotRun { reason }
}
