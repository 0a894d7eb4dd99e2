use super::port::HeldPort;
use essaim_abi::Protocol;
use nix::errno::Errno;
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Binds a port of all addresses, IPv4 and IPv6, and takes nothing from it.
///
/// TCP and SCTP: bound and not listening, so the kernel refuses what reaches it. UDP: a filter drops every datagram
/// before it is queued.
///
/// # Errors
/// The kernel's: `EADDRINUSE` where another socket has the port on any address, `EPROTONOSUPPORT` where the kernel
/// lacks the protocol. Nothing is held then.
pub(crate) fn hold(port: HeldPort) -> io::Result<OwnedFd> {
    match bind(
        port,
        Domain::IPV6,
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.port)),
    ) {
        // A kernel without IPv6, or with it disabled on every interface.
        Err(error)
            if [
                Some(Errno::EAFNOSUPPORT as i32),
                Some(Errno::EADDRNOTAVAIL as i32),
            ]
            .contains(&error.raw_os_error()) =>
        {
            bind(
                port,
                Domain::IPV4,
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.port)),
            )
        }
        other => other,
    }
}

fn bind(port: HeldPort, domain: Domain, address: SocketAddr) -> io::Result<OwnedFd> {
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
        Protocol::Sctp => (
            Type::STREAM,
            socket2::Protocol::from(i32::from(Protocol::Sctp.ip())),
        ),
    };
    let socket = Socket::new(domain, kind.cloexec(), Some(protocol))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    if port.protocol == Protocol::Udp {
        // Before the bind: not one datagram is to be queued.
        socket.attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)])?;
        socket.set_recv_buffer_size(1)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// `BPF_RET | BPF_K` of a classic filter: accept as many bytes as the constant says, here none.
const RETURN_CONSTANT: u16 = 0x06;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    fn free_port(protocol: Protocol) -> HeldPort {
        let port = match protocol {
            Protocol::Tcp => TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port(),
            Protocol::Udp | Protocol::Sctp => UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap().port(),
        };
        HeldPort { protocol, port }
    }

    #[test]
    fn a_held_tcp_port_is_refused_to_others_and_to_clients() {
        let port = free_port(Protocol::Tcp);
        let held = hold(port).unwrap();
        for address in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
            let address = SocketAddr::new(address.parse().unwrap(), port.port);
            assert_eq!(
                TcpListener::bind(address).unwrap_err().kind(),
                io::ErrorKind::AddrInUse,
                "{address}"
            );
            let refused = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{address}");
        }
        drop(held);
        TcpListener::bind(("127.0.0.1", port.port)).unwrap();
    }

    #[test]
    fn a_port_in_use_on_one_address_is_not_held() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = HeldPort {
            protocol: Protocol::Tcp,
            port: listener.local_addr().unwrap().port(),
        };
        assert_eq!(
            hold(port).unwrap_err().raw_os_error(),
            Some(Errno::EADDRINUSE as i32)
        );
    }

    #[test]
    fn a_held_udp_port_queues_nothing() {
        let port = free_port(Protocol::Udp);
        let held: UdpSocket = hold(port).unwrap().into();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", ("127.0.0.1", port.port)).unwrap();
        held.set_nonblocking(true).unwrap();
        assert_eq!(
            held.recv(&mut [0; 8]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(
            UdpSocket::bind(("0.0.0.0", port.port)).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
