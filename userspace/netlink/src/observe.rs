//! Reads what the kernel of a node holds.

pub(crate) mod decode;

use crate::netns::{NetnsRef, in_netns, own_cookie};
use crate::observed::{ObservedLink, ObservedLinks, ObservedNetns, Route};
use crate::ownership::{LINK_GROUP, ROUTE_PROTOCOL};
use crate::plan::{attachments, listed};
use crate::session::Session;
use crate::sysctl::{self, Demand};
use crate::{LinkProblem, NetlinkError, NetnsError};
use essaim_model::{AttachmentPlan, DesiredState, Uplink};
use ipnet::IpNet;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};

/// Reads everything that a plan is compared with, but for the firewall; what cannot be read of one task is a problem of that task.
pub(crate) fn observe(
    session: &mut Session,
    desired: &DesiredState,
    uplinks: &[String],
) -> Result<(ObservedLinks, Vec<LinkProblem>), NetlinkError> {
    let mut node = netns(session)?;
    let uplinks = find_uplinks(uplinks, &node.links)?;
    let own_links = node.links.iter().filter(|(_, link)| link.group == LINK_GROUP);
    let demands = sysctl::of_node(&uplinks)
        .into_iter()
        .chain(own_links.flat_map(|(name, _)| sysctl::of_node_link(name)))
        .collect::<Vec<Demand>>();
    node.sysctls = read_sysctls(demands);
    let mut problems = Vec::new();
    let mut tasks = BTreeMap::new();
    for (key, attachment) in attachments(desired) {
        match task(attachment) {
            Ok(task) => {
                tasks.insert(key.clone(), task);
            }
            // It comes into being when its container starts.
            Err(NetlinkError::Netns(NetnsError::Missing { .. })) if attachment.handover => {}
            Err(source) => problems.push(LinkProblem::Attachment {
                attachment: key.clone(),
                source,
            }),
        }
    }
    let neighbours = neighbours(session)?;
    Ok((
        ObservedLinks {
            uplinks,
            node,
            neighbours,
            firewall: None,
            tasks,
        },
        problems,
    ))
}

/// What the namespace of the session, and of the calling thread, holds; no parameters.
pub(crate) fn netns(session: &mut Session) -> Result<ObservedNetns, NetlinkError> {
    let cookie = own_cookie().map_err(|source| NetnsError::Cookie {
        path: "/proc/thread-self/ns/net".into(),
        source,
    })?;
    let links = links(session)?;
    let routes = routes(session, &links)?;
    Ok(ObservedNetns {
        cookie,
        links,
        routes,
        sysctls: BTreeMap::new(),
    })
}

/// The links of the session's namespace with their addresses.
pub(crate) fn links(session: &mut Session) -> Result<BTreeMap<String, ObservedLink>, NetlinkError> {
    let mut request = LinkMessage::default();
    request
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut links = BTreeMap::new();
    for message in session.dump("list the links", &RouteNetlinkMessage::GetLink(request))? {
        if let RouteNetlinkMessage::NewLink(message) = message
            && let Some((name, link)) = decode::link(&message)
        {
            links.insert(name, link);
        }
    }
    let mut addresses: BTreeMap<u32, BTreeSet<IpNet>> = BTreeMap::new();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in session.dump("list the addresses", &request)? {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(address) = decode::address(&message)
        {
            addresses.entry(message.header.index).or_default().insert(address);
        }
    }
    for link in links.values_mut() {
        link.addresses = addresses.remove(&link.index).unwrap_or_default();
    }
    Ok(links)
}

/// A link in a namespace, with its addresses; `None` where there is none of that name.
///
/// # Errors
/// The namespace cannot be entered, or the kernel does not answer.
pub fn link_of(netns: &NetnsRef, link: &str) -> Result<Option<ObservedLink>, NetlinkError> {
    in_netns(netns, || {
        let mut session = Session::open()?;
        Ok(links(&mut session)?.remove(link))
    })?
}

/// The routes of essaim; the kernel leaves out the others, of which there may be a million.
fn routes(
    session: &mut Session,
    links: &BTreeMap<String, ObservedLink>,
) -> Result<BTreeSet<Route>, NetlinkError> {
    let names: BTreeMap<u32, &str> = links
        .iter()
        .map(|(name, link)| (link.index, name.as_str()))
        .collect();
    let mut routes = BTreeSet::new();
    for address_family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header = RouteHeader {
            address_family,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: ROUTE_PROTOCOL.into(),
            ..RouteHeader::default()
        };
        for message in session.dump("list the routes", &RouteNetlinkMessage::GetRoute(request))? {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                routes.extend(decode::own_route(&message, &names));
            }
        }
    }
    Ok(routes)
}

fn neighbours(
    session: &mut Session,
) -> Result<BTreeMap<(u32, std::net::IpAddr), crate::observed::ObservedNeighbour>, NetlinkError> {
    let mut neighbours = BTreeMap::new();
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    for message in session.dump("list the neighbours", &request)? {
        if let RouteNetlinkMessage::NewNeighbour(message) = message {
            neighbours.extend(decode::neighbour(&message));
        }
    }
    Ok(neighbours)
}

/// What the namespace of a task holds.
fn task(attachment: &AttachmentPlan) -> Result<ObservedNetns, NetlinkError> {
    let namespace = NetnsRef::open(&attachment.netns)?;
    in_netns(&namespace, || {
        let mut session = Session::open()?;
        let mut found = netns(&mut session)?;
        if found.links.contains_key(&attachment.interface) {
            found.sysctls = read_sysctls(sysctl::of_task_link(&attachment.interface));
        }
        Ok(found)
    })?
}

fn read_sysctls(demands: Vec<Demand>) -> BTreeMap<sysctl::Sysctl, String> {
    let read = |demand: Demand| demand.sysctl.read().map(|value| (demand.sysctl, value));
    demands.into_iter().filter_map(read).collect()
}

fn find_uplinks(
    names: &[String],
    links: &BTreeMap<String, ObservedLink>,
) -> Result<Vec<Uplink>, NetlinkError> {
    let find = |name: &String| {
        let link = links.get(name).ok_or_else(|| NetlinkError::UplinkNotFound {
            uplink: name.clone(),
            existing: listed(links.keys().cloned()),
        })?;
        let mac = link
            .mac
            .ok_or_else(|| NetlinkError::UplinkNotEthernet { uplink: name.clone() })?;
        Ok(Uplink {
            name: name.clone(),
            ifindex: link.index,
            mtu: link.mtu,
            mac,
        })
    };
    names.iter().map(find).collect()
}
