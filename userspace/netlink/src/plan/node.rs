//! What a node has once: the VXLAN device, its own endpoint, the parameters of its kernel.

use super::link::WantedLink;
use super::{Planner, is_made_by, overlay_mtu};
use crate::observed::{LinkKind, ObservedLink, ObservedLinks, Route, VxlanSettings};
use crate::op::{LinkAction, Place, VethPeer};
use crate::ownership::{LINK_GROUP, NODE_LINK, NODE_PEER_LINK, VXLAN_LINK, node_alias};
use crate::{NetlinkError, sysctl};
use essaim_abi::MacAddr;
use essaim_model::{ClusterPlan, DesiredState};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// The MTU of the VXLAN device, in bytes: near the largest that the kernel takes. The programs say what fits.
const VXLAN_MTU: u32 = 65_000;

/// What must hold before anything may be changed.
///
/// # Errors
/// The node's underlay address is on no link, or a name or port that essaim needs is somebody else's.
pub(crate) fn check(desired: &DesiredState, observed: &ObservedLinks) -> Result<(), NetlinkError> {
    let cluster = &desired.cluster;
    let addresses: BTreeSet<IpAddr> = observed
        .node
        .links
        .values()
        .flat_map(|link| &link.addresses)
        .map(IpNet::addr)
        .collect();
    if !addresses.contains(&cluster.vtep) {
        let usable = addresses
            .iter()
            .filter(|address| !address.is_loopback())
            .map(ToString::to_string);
        return Err(NetlinkError::VtepNotConfigured {
            node: cluster.node.to_string(),
            vtep: cluster.vtep,
            existing: listed(usable),
        });
    }
    for (name, expected) in [
        (VXLAN_LINK, "a VXLAN device"),
        (NODE_LINK, "a veth"),
        (NODE_PEER_LINK, "a veth"),
    ] {
        let Some(link) = observed.node.links.get(name) else {
            continue;
        };
        let is_kind = match link.kind {
            LinkKind::Vxlan(_) => name == VXLAN_LINK,
            LinkKind::Veth => name != VXLAN_LINK,
            LinkKind::Other(_) => false,
        };
        if !is_kind || !is_made_by(&cluster.node, link) {
            return Err(foreign(
                name,
                link,
                &format!("{expected} with the alias {}", node_alias(&cluster.node)),
            ));
        }
    }
    let of_the_port = |(name, link): &(&String, &ObservedLink)| {
        name.as_str() != VXLAN_LINK
            && matches!(link.kind, LinkKind::Vxlan(settings) if settings.port == cluster.vxlan_port)
    };
    match observed.node.links.iter().find(of_the_port) {
        Some((name, _)) => Err(NetlinkError::VxlanPortInUse {
            port: cluster.vxlan_port,
            holder: format!("the VXLAN device {name}"),
        }),
        None => Ok(()),
    }
}

/// That a link is not what essaim would have made.
pub(super) fn foreign(name: &str, link: &ObservedLink, expected: &str) -> NetlinkError {
    let alias = link
        .alias
        .as_ref()
        .map(|alias| format!(" with the alias {alias}"))
        .unwrap_or_default();
    NetlinkError::ForeignLink {
        link: name.to_owned(),
        found: format!("{}{alias}", link.kind),
        expected: expected.to_owned(),
    }
}

/// Names for a message.
pub(crate) fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Planner<'_> {
    pub(super) fn node_sysctls(&mut self) {
        for demand in sysctl::of_node(&self.observed.uplinks) {
            self.demand(&Place::Node, &demand, &self.observed.node, false);
        }
    }

    pub(super) fn vxlan_device(&mut self) {
        let port = self.desired.cluster.vxlan_port;
        if let Some(link) = self.node_link(VXLAN_LINK)
            && link.kind != LinkKind::Vxlan(VxlanSettings::at_port(port))
        {
            self.delete(&Place::Node, VXLAN_LINK);
        }
        let found = self.node_link(VXLAN_LINK);
        if found.is_none() {
            let (link, mac) = (VXLAN_LINK.to_owned(), MacAddr::VXLAN_DEVICE);
            self.push(
                &Place::Node,
                LinkAction::CreateVxlan {
                    link,
                    port,
                    mac,
                    mtu: VXLAN_MTU,
                },
            );
        }
        let wanted = self.node_side(VXLAN_LINK, MacAddr::VXLAN_DEVICE, VXLAN_MTU);
        self.settle(&Place::Node, &wanted, &self.observed.node, found);
    }

    pub(super) fn node_endpoint(&mut self) {
        let cluster = &self.desired.cluster;
        let mtu = overlay_mtu(cluster, &self.observed.uplinks, false);
        let mac = node_mac(cluster);
        self.remove_broken_node_pair();
        let (link, peer) = (self.node_link(NODE_LINK), self.node_link(NODE_PEER_LINK));
        if link.is_none() {
            let peer = VethPeer {
                link: NODE_PEER_LINK.to_owned(),
                mac: MacAddr::GATEWAY,
                netns: None,
            };
            self.push(
                &Place::Node,
                LinkAction::CreateVeth {
                    link: NODE_LINK.to_owned(),
                    mac,
                    mtu,
                    peer,
                },
            );
        }
        let wanted = self.node_side(NODE_PEER_LINK, MacAddr::GATEWAY, mtu);
        self.settle(&Place::Node, &wanted, &self.observed.node, peer);
        let mut wanted = self.node_side(NODE_LINK, mac, mtu);
        wanted.addresses = cluster
            .overlay
            .iter()
            .map(|own| IpNet::from(own.addr()))
            .collect();
        self.settle(&Place::Node, &wanted, &self.observed.node, link);
        for subnet in cluster.subnets.keys() {
            let route = Route {
                destination: subnet.trunc(),
                link: NODE_LINK.to_owned(),
                gateway: None,
                source: self.node_source(subnet),
            };
            self.routes.insert(route, Place::Node);
        }
    }

    /// Removes the node's pair unless both ends are there and belong together.
    fn remove_broken_node_pair(&mut self) {
        let (link, peer) = (self.node_link(NODE_LINK), self.node_link(NODE_PEER_LINK));
        if let (Some(link), Some(peer)) = (link, peer)
            && link.peer == Some(peer.index)
            && peer.peer == Some(link.index)
        {
            return;
        }
        for name in [NODE_LINK, NODE_PEER_LINK] {
            if self.node_link(name).is_some() {
                self.delete(&Place::Node, name);
            }
        }
    }

    /// A link of essaim in the node's namespace.
    pub(super) fn node_side(&self, link: &str, mac: MacAddr, mtu: u32) -> WantedLink {
        WantedLink {
            link: link.to_owned(),
            mac,
            mtu,
            alias: Some(node_alias(&self.desired.cluster.node)),
            group: Some(LINK_GROUP),
            without_link_local: self.has_ipv6(mtu),
            demands: sysctl::of_node_link(link),
            addresses: BTreeSet::new(),
        }
    }
}

/// The Ethernet address of the node's own endpoint: made from its IPv4 overlay address, or from the last bytes of the
/// IPv6 one where it has no other.
fn node_mac(cluster: &ClusterPlan) -> MacAddr {
    let own = |is_v4: bool| {
        cluster
            .overlay
            .iter()
            .map(IpNet::addr)
            .find(|address| address.is_ipv4() == is_v4)
    };
    match own(true).or_else(|| own(false)) {
        Some(IpAddr::V4(address)) => MacAddr::of_ipv4(address),
        Some(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            MacAddr::of_ipv4(Ipv4Addr::new(a, b, c, d))
        }
        None => MacAddr::of_ipv4(Ipv4Addr::UNSPECIFIED),
    }
}
