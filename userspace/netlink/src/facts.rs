//! From what was observed to what the data plane must know.

use crate::NetlinkError;
use crate::message;
use crate::observe::decode::route_address;
use crate::observed::{Certainty, ObservedLinks, ObservedNetns};
use crate::ownership::{LINK_GROUP, NODE_PEER_LINK, VXLAN_LINK, attachment_link};
use crate::plan::attachments;
use crate::session::{Mode, Session};
use essaim_model::{AttachmentFacts, AttachmentKey, DesiredState, NextHop, NodeFacts};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteType};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is known, but for the ways to other VTEPs.
pub(crate) fn facts(desired: &DesiredState, observed: &ObservedLinks) -> NodeFacts {
    let index = |link: &str| observed.node.links.get(link).map_or(0, |link| link.index);
    NodeFacts {
        uplinks: observed.uplinks.clone(),
        local_addresses: local_addresses(observed),
        vxlan_ifindex: index(VXLAN_LINK),
        node_ifindex: index(NODE_PEER_LINK),
        next_hops: BTreeMap::new(),
        attachments: attachments(desired)
            .filter_map(|(key, plan)| {
                let found = if plan.handover {
                    handed_over(desired, observed, key)
                } else {
                    attachment(desired, observed, key, &plan.interface)
                };
                Some((key.clone(), found?))
            })
            .collect(),
        node_netns_cookie: observed.node.cookie,
        ipsec: false,
    }
}

/// An endpoint, where both of its ends are there.
fn attachment(
    desired: &DesiredState,
    observed: &ObservedLinks,
    key: &AttachmentKey,
    interface: &str,
) -> Option<AttachmentFacts> {
    let near = observed
        .node
        .links
        .get(&attachment_link(&desired.cluster.node, key))?;
    let task = observed.tasks.get(key)?;
    let far = task.links.get(interface)?;
    let is_pair = near.peer == Some(far.index) && far.peer == Some(near.index);
    is_pair.then_some(AttachmentFacts {
        ifindex: near.index,
        netns_cookie: task.cookie,
        mtu: far.mtu,
        resolver: None,
    })
}

/// An endpoint whose other end the node's container engine places, wherever that end is now.
fn handed_over(
    desired: &DesiredState,
    observed: &ObservedLinks,
    key: &AttachmentKey,
) -> Option<AttachmentFacts> {
    let near = observed
        .node
        .links
        .get(&attachment_link(&desired.cluster.node, key))?;
    let task = observed.tasks.get(key);
    let is_there = |task: &&ObservedNetns| {
        let mut links = task.links.values();
        links.any(|far| near.peer == Some(far.index) && far.peer == Some(near.index))
    };
    Some(AttachmentFacts {
        ifindex: near.index,
        netns_cookie: task.filter(is_there).map_or(0, |task| task.cookie),
        mtu: near.mtu,
        resolver: None,
    })
}

/// The addresses that somebody else may send to. Those on the loopback interface count where they are no loopback
/// addresses: that is where an address lives that a router is told about.
fn local_addresses(observed: &ObservedLinks) -> BTreeSet<IpAddr> {
    let links = observed
        .node
        .links
        .values()
        .filter(|link| link.group != LINK_GROUP);
    let addresses = links.flat_map(|link| &link.addresses).map(ipnet::IpNet::addr);
    addresses
        .filter(|address| match address {
            IpAddr::V4(address) => !address.is_loopback(),
            IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
        })
        .collect()
}

/// A way whose neighbour should be asked for, or confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Probe {
    pub(crate) ifindex: u32,
    pub(crate) neighbour: IpAddr,
}

/// The ways to the other nodes' VTEPs, and which neighbours the kernel should be made to ask for.
pub(crate) fn next_hops(
    session: &mut Session,
    desired: &DesiredState,
    observed: &ObservedLinks,
) -> Result<(BTreeMap<IpAddr, NextHop>, BTreeSet<Probe>), NetlinkError> {
    let (mut hops, mut probes) = (BTreeMap::new(), BTreeSet::new());
    let own = desired.cluster.vtep;
    for vtep in desired
        .cluster
        .vteps
        .keys()
        .filter(|vtep| **vtep != own && vtep.is_ipv4() == own.is_ipv4())
    {
        let request = RouteNetlinkMessage::GetRoute(message::route_query(*vtep, own));
        if let Some(RouteNetlinkMessage::NewRoute(route)) =
            session.query("look up the route to a VTEP", request)?
        {
            let (hop, probe) = next_hop(&route, *vtep, own, observed);
            hops.extend(hop.map(|hop| (*vtep, hop)));
            probes.extend(probe);
        }
    }
    Ok((hops, probes))
}

/// Makes the kernel ask; the answers come as changes of the neighbour tables.
pub(crate) fn probe(session: &mut Session, probes: &BTreeSet<Probe>) {
    for Probe { ifindex, neighbour } in probes {
        let message = message::neighbour_in_use(*ifindex, *neighbour);
        if let Err(error) = session.set(Mode::Replace, RouteNetlinkMessage::NewNeighbour(message)) {
            tracing::debug!(ifindex, %neighbour, ?error, "neighbour cannot be probed");
        }
    }
}

/// One way: the uplink, the neighbour that the route names, and that neighbour's Ethernet address.
fn next_hop(
    route: &RouteMessage,
    vtep: IpAddr,
    own: IpAddr,
    observed: &ObservedLinks,
) -> (Option<NextHop>, Option<Probe>) {
    let (mut ifindex, mut neighbour, mut mtu) = (None, vtep, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(gateway) => neighbour = route_address(gateway).unwrap_or(neighbour),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| {
                    if let RouteMetric::Mtu(mtu) = metric {
                        Some(*mtu)
                    } else {
                        None
                    }
                });
            }
            _ => {}
        }
    }
    let uplink = observed
        .uplinks
        .iter()
        .find(|uplink| Some(uplink.ifindex) == ifindex);
    let (RouteType::Unicast, Some(uplink)) = (route.header.kind, uplink) else {
        return (None, None);
    };
    let known = observed.neighbours.get(&(uplink.ifindex, neighbour));
    let certainty = known.map_or(Certainty::Unknown, |known| known.certainty);
    let destination_mac = known
        .and_then(|known| known.mac)
        .filter(|_| certainty != Certainty::Unknown);
    let probe = matches!(certainty, Certainty::Unknown | Certainty::Stale);
    let hop = destination_mac.map(|destination_mac| NextHop {
        ifindex: uplink.ifindex,
        source: own,
        source_mac: uplink.mac,
        destination_mac,
        mtu: mtu.unwrap_or(uplink.mtu).min(uplink.mtu),
    });
    (
        hop,
        probe.then_some(Probe {
            ifindex: uplink.ifindex,
            neighbour,
        }),
    )
}

#[cfg(test)]
#[path = "facts/tests.rs"]
mod tests;
