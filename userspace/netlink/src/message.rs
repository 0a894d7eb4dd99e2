//! From our own words to the kernel's messages.

use crate::observed::{Route, VxlanSettings};
use crate::op::{LinkSettings, VethPeer};
use crate::ownership::{LINK_GROUP, ROUTE_PROTOCOL};
use essaim_abi::MacAddr;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) fn vxlan(link: &str, port: u16, mac: MacAddr, mtu: u32) -> LinkMessage {
    let VxlanSettings {
        port,
        collect_metadata,
        learning,
        zero_checksum6_rx,
        zero_checksum6_tx,
    } = VxlanSettings::at_port(port);
    let data = vec![
        InfoVxlan::CollectMetadata(collect_metadata),
        InfoVxlan::Learning(learning),
        InfoVxlan::Port(port),
        InfoVxlan::UDPZeroCsumTX(zero_checksum6_tx),
        InfoVxlan::UDPZeroCsumRX(zero_checksum6_rx),
    ];
    let mut message = new_link(link, mac, mtu);
    let info = vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ];
    message.attributes.push(LinkAttribute::LinkInfo(info));
    message
}

/// A pair of links; the peer is made in the namespace of the descriptor, where there is one.
pub(crate) fn veth(
    link: &str,
    mac: MacAddr,
    mtu: u32,
    peer: &VethPeer,
    netns: Option<BorrowedFd<'_>>,
) -> LinkMessage {
    let mut other = new_link(&peer.link, peer.mac, mtu);
    if let Some(netns) = netns {
        other.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    }
    let mut message = new_link(link, mac, mtu);
    let info = vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
    ];
    message.attributes.push(LinkAttribute::LinkInfo(info));
    message
}

/// The group is what the kernel takes at once with the new link, and so marks it as ours from the first moment.
fn new_link(link: &str, mac: MacAddr, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(link.to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Group(LINK_GROUP),
    ];
    message
}

/// The messages that change a link, in order: it goes up last, when it has no reason left to make itself an address.
pub(crate) fn link_changes(link: &str, settings: &LinkSettings) -> Vec<LinkMessage> {
    let LinkSettings {
        mac,
        mtu,
        alias,
        group,
        without_link_local,
        up,
    } = settings;
    let mut attributes = Vec::new();
    attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    attributes.extend(alias.clone().map(LinkAttribute::IfAlias));
    attributes.extend(group.map(LinkAttribute::Group));
    if *without_link_local {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
    }
    let mut messages = Vec::new();
    if !attributes.is_empty() {
        let mut message = named_link(link);
        message.attributes.extend(attributes);
        messages.push(message);
    }
    if *up {
        let mut message = named_link(link);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        messages.push(message);
    }
    messages
}

/// A link by its name, for requests about it.
pub(crate) fn named_link(link: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(link.to_owned()));
    message
}

/// All links of a group, for requests about them.
pub(crate) fn link_group(group: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    message
}

pub(crate) fn address(index: u32, address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    // `Nodad` means nothing to IPv4. Addresses are unique by construction.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
        .attributes
        .push(AddressAttribute::Flags(AddressFlags::Nodad));
    message
}

pub(crate) fn route(index: u32, route: &Route) -> RouteMessage {
    let Route {
        destination,
        link: _,
        gateway,
        source,
    } = route;
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: ROUTE_PROTOCOL.into(),
        // IPv6 has no scopes.
        scope: if gateway.is_none() && destination.addr().is_ipv4() {
            RouteScope::Link
        } else {
            RouteScope::Universe
        },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    if destination.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route_address(destination.network())));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message
        .attributes
        .extend(gateway.map(|gateway| RouteAttribute::Gateway(route_address(gateway))));
    message
        .attributes
        .extend(source.map(|source| RouteAttribute::PrefSource(route_address(source))));
    message
}

/// Asks how a destination is reached from a source.
pub(crate) fn route_query(destination: IpAddr, source: IpAddr) -> RouteMessage {
    let bits = if destination.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination),
        destination_prefix_length: bits,
        source_prefix_length: bits,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(route_address(destination)),
        RouteAttribute::Source(route_address(source)),
    ];
    message
}

/// An Ethernet address for good.
pub(crate) fn permanent_neighbour(index: u32, address: IpAddr, mac: MacAddr) -> NeighbourMessage {
    let mut message = neighbour(index, address);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}

/// Makes the kernel find out, or confirm, who has the address, as if a packet were to be sent there.
pub(crate) fn neighbour_in_use(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = neighbour(index, address);
    message.header.flags = NeighbourFlags::Use;
    message
}

pub(crate) fn neighbour(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.kind = RouteType::Unicast;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
