//! Ways to upstream servers: from this node, or inside the namespace of a container that its engine resolves names for, too.

use crate::RESOLVER_ADDRESS;
use nix::sched::{CloneFlags, setns};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdTcpStream, UdpSocket as StdUdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};

/// How long a connection to the engine's resolver may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// A listening socket in `/proc/net/tcp` (`TCP_LISTEN` of `include/net/tcp_states.h`), and an unconnected one in
/// `/proc/net/udp` (`TCP_CLOSE`).
const LISTENS: [&str; 2] = ["0A", "07"];

/// The resolver that a container engine has in a container's namespace, at ports of 127.0.0.11 of its own choosing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineResolver {
    /// The file of the namespace.
    pub(crate) netns: PathBuf,
    /// The ports of our own sockets there, UDP and TCP.
    pub(crate) own: [u16; 2],
}

/// Where a question goes.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// To a server, from this node.
    Server(SocketAddr),
    /// To an engine's resolver, inside the container's namespace.
    Engine(Arc<EngineResolver>),
}

impl Way {
    /// A socket that takes datagrams of this server only, and hears when nobody listens there.
    pub(super) async fn udp(&self) -> io::Result<UdpSocket> {
        match self {
            Self::Server(server) => {
                let any: SocketAddr = if server.is_ipv4() {
                    (Ipv4Addr::UNSPECIFIED, 0).into()
                } else {
                    (Ipv6Addr::UNSPECIFIED, 0).into()
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(server).await?;
                Ok(socket)
            }
            Self::Engine(engine) => {
                let socket = engine.inside(|own| {
                    let port = port("/proc/thread-self/net/udp", own[0])?;
                    let socket = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                    socket.connect((RESOLVER_ADDRESS, port))?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                });
                UdpSocket::from_std(socket.await?)
            }
        }
    }

    pub(super) async fn tcp(&self) -> io::Result<TcpStream> {
        match self {
            Self::Server(server) => TcpStream::connect(server).await,
            Self::Engine(engine) => {
                let stream = engine.inside(|own| {
                    let port = port("/proc/thread-self/net/tcp", own[1])?;
                    let stream = StdTcpStream::connect_timeout(&(RESOLVER_ADDRESS, port).into(), CONNECT)?;
                    stream.set_nonblocking(true)?;
                    Ok(stream)
                });
                TcpStream::from_std(stream.await?)
            }
        }
    }
}

impl EngineResolver {
    /// Runs `open` in the namespace, on a thread of its own that ends with it.
    async fn inside<T: Send + 'static>(
        self: &Arc<Self>,
        open: impl FnOnce([u16; 2]) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let engine = Arc::clone(self);
        let run = move || {
            let netns = fs::File::open(&engine.netns)?;
            let inside = move || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                open(engine.own)
            };
            let thread = thread::Builder::new()
                .name("dns-engine".to_owned())
                .spawn(inside)?;
            let panicked = |_| Err(io::Error::other("the thread in the namespace panicked"));
            thread.join().unwrap_or_else(panicked)
        };
        tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?
    }
}

/// The port of 127.0.0.11 that somebody else listens at, of a table of the kernel's (`Documentation/networking/proc_net_tcp.rst`).
fn port(table: &str, own: u16) -> io::Result<u16> {
    let text = fs::read_to_string(table)?;
    let missing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            "the container's engine resolves no names there",
        )
    };
    listening(&text).find(|port| *port != own).ok_or_else(missing)
}

fn listening(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, state) = (words.next()?, words.next()?, words.next()?);
        let (address, port) = local.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?;
        let is_there = address == u32::from_ne_bytes(RESOLVER_ADDRESS.octets()) && LISTENS.contains(&state);
        u16::from_str_radix(port, 16).ok().filter(|_| is_there)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_ports_of_the_resolvers_address_are_read_from_the_kernels_table() {
        let table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B00007F:9C4F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
   1: 0B00007F:8001 0B00007F:9C4F 01 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
   2: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
   3: 0B00007F:1234 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
   broken";
        assert_eq!(listening(table).collect::<Vec<_>>(), [0x9c4f, 0x1234]);
    }

    #[tokio::test]
    async fn what_somebody_else_listens_at_is_asked_and_not_we_ourselves() {
        let own = StdUdpSocket::bind((RESOLVER_ADDRESS, 0)).unwrap();
        let engine = EngineResolver {
            netns: "/proc/thread-self/ns/net".into(),
            own: [own.local_addr().unwrap().port(), 0],
        };
        let way = Way::Engine(Arc::new(engine));
        assert_eq!(way.udp().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let other = StdUdpSocket::bind((RESOLVER_ADDRESS, 0)).unwrap();
        let socket = way.udp().await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), other.local_addr().unwrap());
        assert_eq!(way.tcp().await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
