//! From the kernel's messages to our own words.

use crate::observed::{Certainty, LinkKind, ObservedLink, ObservedNeighbour, Route, VxlanSettings};
use crate::ownership::ROUTE_PROTOCOL;
use essaim_abi::MacAddr;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A link and its name; its addresses come by other messages.
pub(crate) fn link(message: &LinkMessage) -> Option<(String, ObservedLink)> {
    let mut name = None;
    let mut found = ObservedLink {
        index: message.header.index,
        kind: LinkKind::Other(String::new()),
        mac: None,
        mtu: 0,
        alias: None,
        group: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        without_link_local: false,
        peer: None,
        addresses: BTreeSet::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                found.mac = mac(bytes);
            }
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => found.alias = Some(alias.clone()),
            LinkAttribute::Group(group) => found.group = *group,
            LinkAttribute::Link(peer) => found.peer = Some(*peer),
            LinkAttribute::LinkInfo(infos) => found.kind = kind(infos),
            LinkAttribute::AfSpecUnspec(families) => {
                found.without_link_local = is_without_link_local(families);
            }
            _ => {}
        }
    }
    Some((name?, found))
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

fn kind(infos: &[LinkInfo]) -> LinkKind {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data.as_slice()),
        _ => None,
    });
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Veth) => LinkKind::Veth,
        Some(InfoKind::Vxlan) => LinkKind::Vxlan(vxlan(data.unwrap_or_default())),
        Some(other) => LinkKind::Other(other.to_string()),
        None => LinkKind::Other(String::new()),
    }
}

fn vxlan(data: &[InfoVxlan]) -> VxlanSettings {
    let mut settings = VxlanSettings::default();
    for info in data {
        match info {
            InfoVxlan::Port(port) => settings.port = *port,
            InfoVxlan::CollectMetadata(on) => settings.collect_metadata = *on,
            InfoVxlan::Learning(on) => settings.learning = *on,
            InfoVxlan::UDPZeroCsumRX(on) => settings.zero_checksum6_rx = *on,
            InfoVxlan::UDPZeroCsumTX(on) => settings.zero_checksum6_tx = *on,
            _ => {}
        }
    }
    settings
}

fn is_without_link_local(families: &[AfSpecUnspec]) -> bool {
    families.iter().any(|family| {
        matches!(family, AfSpecUnspec::Inet6(specs)
            if specs.contains(&AfSpecInet6::AddrGenMode(In6AddrGenMode::None)))
    })
}

/// An address with the length of its prefix.
pub(crate) fn address(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link `Address` is that of the other side, and `Local` is our own.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    };
    IpNet::new(local.or_else(other)?, message.header.prefix_len).ok()
}

/// A route that essaim made, in the main table.
pub(crate) fn own_route(message: &RouteMessage, links: &BTreeMap<u32, &str>) -> Option<Route> {
    if u8::from(message.header.protocol) != ROUTE_PROTOCOL
        || message.header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut link, mut gateway, mut source) = (unspecified, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = route_address(address)?,
            RouteAttribute::Oif(index) => link = links.get(index),
            RouteAttribute::Gateway(address) => gateway = route_address(address),
            RouteAttribute::PrefSource(address) => source = route_address(address),
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route {
        destination,
        link: (*link?).to_owned(),
        gateway,
        source,
    })
}

pub(crate) fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A neighbour, by link and address.
pub(crate) fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), ObservedNeighbour)> {
    let (mut address, mut found) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(destination)) => {
                address = Some((*destination).into());
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(destination)) => {
                address = Some((*destination).into());
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => found = mac(bytes),
            _ => {}
        }
    }
    let certainty = match message.header.state {
        NeighbourState::Permanent => Certainty::Permanent,
        NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe => Certainty::Fresh,
        NeighbourState::Stale => Certainty::Stale,
        _ => Certainty::Unknown,
    };
    Some((
        (message.header.ifindex, address?),
        ObservedNeighbour {
            mac: found,
            certainty,
        },
    ))
}
