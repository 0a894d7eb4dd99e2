//! Where an address leads, seen from a namespace.

use essaim_abi::{Addr, EndpointKind, NetnsFlags, NetnsInfo, Protocol, Service};

use super::call::Peer;
use crate::maps::ENDPOINT_BY_ADDR;
use crate::tables;

/// Port 53, in network order.
pub(super) const DNS_PORT: u16 = 53_u16.to_be();
/// Where tasks find their resolver: 127.0.0.11.
const RESOLVER: Addr = Addr::v4(0x7f00_000b_u32.to_be());

/// Whose namespace the socket is in.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// A task's.
    Task,
    /// The node's own.
    Node,
}

impl Side {
    /// The side of a namespace; none where it is neither.
    #[inline(always)]
    pub(super) fn of(info: &NetnsInfo) -> Option<Self> {
        if info.flags.has(NetnsFlags::TASK) {
            Some(Self::Task)
        } else if info.flags.has(NetnsFlags::NODE) {
            Some(Self::Node)
        } else {
            None
        }
    }
}

/// Where an address leads.
pub(super) enum Route {
    /// Nothing of ours: left as it is.
    Elsewhere,
    /// To the agent's resolver, at this port (network order) of the same address.
    Resolver {
        /// The port.
        port: u16,
    },
    /// To one backend of a group.
    Group {
        /// Index into `SERVICES`.
        index: u32,
        /// The group.
        service: &'static Service,
        /// The backend's port, in network order.
        port: u16,
        /// Whether a published port was asked for, not a VIP.
        published: bool,
    },
}

impl Route {
    /// Where `asked` leads.
    #[inline(always)]
    pub(super) fn of(side: Side, info: &NetnsInfo, protocol: Protocol, asked: &Peer) -> Self {
        match side {
            Side::Task => Self::of_task(info, protocol, asked),
            Side::Node => Self::of_node(protocol, asked),
        }
    }

    #[inline(always)]
    fn of_task(info: &NetnsInfo, protocol: Protocol, asked: &Peer) -> Self {
        if asked.addr.is_loopback() {
            return match resolver_port(info, protocol) {
                Some(port) if is_resolver(&asked.addr) && asked.port == DNS_PORT => Self::Resolver { port },
                _ => Self::Elsewhere,
            };
        }
        match vip(&asked.addr) {
            // A VIP of a foreign network is refused by `endpoint_tc`.
            Some((index, service)) if is_member(info, service.vni) => Self::Group {
                index,
                service,
                port: asked.port,
                published: false,
            },
            _ => Self::Elsewhere,
        }
    }

    #[inline(always)]
    fn of_node(protocol: Protocol, asked: &Peer) -> Self {
        // The array load costs less than the address test, and most ports are not published.
        if let Some(port) = tables::port(protocol, asked.port)
            && is_local(&asked.addr)
            && let Some(service) = tables::service(port.service)
        {
            return Self::Group {
                index: port.service,
                service,
                port: port.target_port,
                published: true,
            };
        }
        if asked.addr.is_loopback() {
            return Self::Elsewhere;
        }
        match vip(&asked.addr) {
            Some((index, service)) => Self::Group {
                index,
                service,
                port: asked.port,
                published: false,
            },
            None => Self::Elsewhere,
        }
    }
}

/// Whether this is the resolver's address.
#[inline(always)]
pub(super) fn is_resolver(addr: &Addr) -> bool {
    *addr == RESOLVER
}

/// The port of the agent's resolver for a namespace, in network order; none where it is not translated there.
#[inline(always)]
pub(super) fn resolver_port(info: &NetnsInfo, protocol: Protocol) -> Option<u16> {
    if !info.flags.has(NetnsFlags::TASK) {
        return None;
    }
    let port = match protocol {
        Protocol::Tcp => info.dns_tcp_port,
        Protocol::Udp => info.dns_udp_port,
        Protocol::Sctp => 0,
    };
    if port == 0 { None } else { Some(port) }
}

/// The service whose VIP this is.
#[inline(always)]
fn vip(addr: &Addr) -> Option<(u32, &'static Service)> {
    // SAFETY: an entry that is taken out meanwhile stays readable until the program ends.
    let endpoint = unsafe { ENDPOINT_BY_ADDR.get(addr) }?;
    if endpoint.kind != EndpointKind::Vip as u8 || endpoint.index == 0 {
        return None;
    }
    tables::service(endpoint.index).map(|service| (endpoint.index, service))
}

/// Whether the namespace is attached to the network.
#[inline(always)]
fn is_member(info: &NetnsInfo, vni: u32) -> bool {
    for own in &info.vnis {
        if *own == vni {
            return true;
        }
        if *own == 0 {
            return false;
        }
    }
    false
}

/// Whether the node itself answers at this address: the unspecified address means the loopback to Linux.
#[inline(always)]
fn is_local(addr: &Addr) -> bool {
    if addr.is_loopback() || addr.is_unspecified() || (addr.is_v4() && addr.v4_word() == 0) {
        return true;
    }
    tables::is_local(addr)
}
