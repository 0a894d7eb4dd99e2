//! From what is desired and what is observed to the steps in between: pure.

mod attachment;
mod link;
mod node;

use crate::firewall::{DockerUserRules, Ruleset};
use crate::observed::{ObservedLink, ObservedLinks, ObservedNetns, Route};
use crate::op::{LinkAction, LinkOp, Place};
use crate::ownership::{
    LINK_GROUP, NODE_LINK, NODE_PEER_LINK, VXLAN_LINK, attachment_link, handover_link, is_alias_of,
};
use crate::{LinkProblem, sysctl};
use essaim_abi::{ESP_OVERHEAD, VXLAN_OVERHEAD_V4, VXLAN_OVERHEAD_V6};
use essaim_model::{AttachmentKey, AttachmentPlan, ClusterPlan, DesiredState, TaskState, Uplink};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(crate) use node::{check, listed};

/// The MTU of an underlay that is not known: that of Ethernet.
const ETHERNET_MTU: u32 = 1500;
/// The least MTU of a link with IPv6 (RFC 8200, section 5; `IPV6_MIN_MTU` of `net/ipv6.h`).
const IPV6_MIN_MTU: u32 = 1280;

/// The steps to what is desired, and what stands in the way of some of them.
#[derive(Debug, Default)]
pub struct LinkPlan {
    /// The steps, in the order in which they must be taken.
    pub ops: Vec<LinkOp>,
    /// What has to be left out, and why.
    pub problems: Vec<LinkProblem>,
}

/// Says what must be done so that the kernel holds what is desired; nothing where it does already.
///
/// An endpoint whose task's namespace is missing in `observed` is left as it is.
pub fn plan_links(desired: &DesiredState, observed: &ObservedLinks) -> LinkPlan {
    let mut planner = Planner::new(desired, observed);
    planner.remove_what_is_not_desired();
    planner.node_sysctls();
    planner.vxlan_device();
    planner.node_endpoint();
    for (key, attachment) in attachments(desired) {
        planner.attachment(key, attachment);
    }
    planner.node_routes();
    planner.firewall();
    planner.plan
}

/// The endpoints that should be on this node: those of tasks that have not ended.
pub(crate) fn attachments(desired: &DesiredState) -> impl Iterator<Item = (&AttachmentKey, &AttachmentPlan)> {
    desired
        .services
        .values()
        .flat_map(|service| &service.attachments)
        .filter(|(_, attachment)| attachment.state != TaskState::Gone)
}

/// The largest IP packet that fits into VXLAN on every uplink, in bytes.
pub(crate) fn overlay_mtu(cluster: &ClusterPlan, uplinks: &[Uplink], encrypted: bool) -> u32 {
    let underlay = uplinks
        .iter()
        .map(|uplink| uplink.mtu)
        .min()
        .unwrap_or(ETHERNET_MTU);
    let overhead = match cluster.vtep {
        IpAddr::V4(_) => VXLAN_OVERHEAD_V4,
        IpAddr::V6(_) => VXLAN_OVERHEAD_V6,
    };
    underlay.saturating_sub(overhead + if encrypted { ESP_OVERHEAD } else { 0 })
}

struct Planner<'a> {
    desired: &'a DesiredState,
    observed: &'a ObservedLinks,
    /// Whether the kernel has IPv6.
    ipv6: bool,
    /// Links of the node's namespace that this plan removes: what was observed of them no longer counts.
    removed: BTreeSet<String>,
    /// The routes that should be in the node's namespace, and for whom.
    routes: BTreeMap<Route, Place>,
    plan: LinkPlan,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a DesiredState, observed: &'a ObservedLinks) -> Self {
        Self {
            desired,
            observed,
            ipv6: observed.node.sysctls.contains_key(&sysctl::ipv6_forwarding()),
            removed: BTreeSet::new(),
            routes: BTreeMap::new(),
            plan: LinkPlan::default(),
        }
    }

    /// Whether the kernel has IPv6 on a link: neither parameters nor addresses of it are there where the MTU is too small.
    const fn has_ipv6(&self, mtu: u32) -> bool {
        self.ipv6 && mtu >= IPV6_MIN_MTU
    }

    fn push(&mut self, place: &Place, action: LinkAction) {
        self.plan.ops.push(LinkOp {
            place: place.clone(),
            action,
        });
    }

    fn delete(&mut self, place: &Place, link: &str) {
        self.removed.insert(link.to_owned());
        self.push(
            place,
            LinkAction::DeleteLink {
                link: link.to_owned(),
            },
        );
    }

    /// A link of the node's namespace, unless this plan has removed it.
    fn node_link(&self, link: &str) -> Option<&'a ObservedLink> {
        if self.removed.contains(link) {
            None
        } else {
            self.observed.node.links.get(link)
        }
    }

    /// First of all, so that names and addresses are free for what is made.
    fn remove_what_is_not_desired(&mut self) {
        let node = &self.desired.cluster.node;
        let mut expected: BTreeSet<String> = attachments(self.desired)
            .map(|(key, _)| attachment_link(node, key))
            .collect();
        let handed_over = attachments(self.desired).filter(|(_, attachment)| attachment.handover);
        expected.extend(handed_over.map(|(key, _)| handover_link(node, key)));
        expected.extend([VXLAN_LINK, NODE_LINK, NODE_PEER_LINK].map(str::to_owned));
        for (name, link) in &self.observed.node.links {
            if !expected.contains(name) && is_made_by(node, link) {
                self.delete(&Place::Node, name);
            }
        }
    }

    /// The address of the node's own that a packet to this destination gets.
    fn node_source(&self, destination: &IpNet) -> Option<IpAddr> {
        let own = self.desired.cluster.overlay.iter().map(IpNet::addr);
        own.into_iter()
            .find(|address| address.is_ipv4() == destination.addr().is_ipv4())
    }

    /// The routes of the node's namespace, once it is known which there should be.
    fn node_routes(&mut self) {
        let routes = std::mem::take(&mut self.routes);
        for route in &self.observed.node.routes {
            if !routes.contains_key(route) && !self.removed.contains(&route.link) {
                self.push(&Place::Node, LinkAction::RemoveRoute(route.clone()));
            }
        }
        for (route, place) in routes {
            if self.removed.contains(&route.link) || !self.observed.node.routes.contains(&route) {
                self.push(&place, LinkAction::AddRoute(route));
            }
        }
    }

    fn firewall(&mut self) {
        let Some(observed) = &self.observed.firewall else {
            return;
        };
        let cluster = &self.desired.cluster;
        let ruleset = Ruleset::of(cluster, &self.observed.uplinks);
        if !ruleset.is_met_by(observed) {
            self.push(&Place::Node, LinkAction::ReplaceFirewall(ruleset));
        }
        for (family, found) in &observed.docker_user {
            if let Some(rules) = DockerUserRules::missing(cluster, *family, found) {
                self.push(&Place::Node, LinkAction::ReplaceDockerUserRules(rules));
            }
        }
    }
}

/// Whether the node's essaim made this link, or began to: a link gets its alias a moment after its group.
pub(crate) fn is_made_by(node: &essaim_model::NodeName, link: &ObservedLink) -> bool {
    match &link.alias {
        Some(alias) => is_alias_of(alias, node),
        None => link.group == LINK_GROUP,
    }
}

/// The routes of a task: its default routes, where it has any through this endpoint.
fn task_routes(attachment: &AttachmentPlan) -> impl Iterator<Item = Route> {
    let has_family_of = |gateway: &IpAddr| {
        attachment
            .addresses
            .iter()
            .any(|own| own.addr().is_ipv4() == gateway.is_ipv4())
    };
    let gateways = attachment
        .gateways
        .iter()
        .filter(move |gateway| attachment.default_route && has_family_of(gateway));
    gateways.map(|gateway| Route {
        destination: if gateway.is_ipv4() {
            IpNet::V4(ipnet::Ipv4Net::default())
        } else {
            IpNet::V6(ipnet::Ipv6Net::default())
        },
        link: attachment.interface.clone(),
        gateway: Some(*gateway),
        source: None,
    })
}

/// What is not in a namespace that does not exist.
fn link_in<'a>(netns: &'a ObservedNetns, link: &str) -> Option<&'a ObservedLink> {
    netns.links.get(link)
}

#[cfg(test)]
mod tests;
