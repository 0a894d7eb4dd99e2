//! The endpoint of a task: a pair of links, one end in the task's namespace.

use super::link::WantedLink;
use super::node::foreign;
use super::{Planner, is_made_by, link_in, overlay_mtu, task_routes};
use crate::observed::{LinkKind, ObservedLink, ObservedNetns, Route};
use crate::op::{LinkAction, LinkSettings, Place, VethPeer};
use crate::ownership::{attachment_alias, attachment_link, handover_link};
use crate::{LinkProblem, NetlinkError, sysctl};
use essaim_abi::MacAddr;
use essaim_model::{AttachmentKey, AttachmentPlan};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// The loopback interface, which a new namespace has, turned off.
const LOOPBACK: &str = "lo";

impl<'a> Planner<'a> {
    pub(super) fn attachment(&mut self, key: &AttachmentKey, attachment: &AttachmentPlan) {
        let name = attachment_link(&self.desired.cluster.node, key);
        self.attachment_routes(key, attachment, &name);
        if attachment.handover {
            if let Err(source) = self.handover(key, attachment, &name) {
                self.plan.problems.push(LinkProblem::Attachment {
                    attachment: key.clone(),
                    source,
                });
                self.give_up_routes(key);
            }
            return;
        }
        // A namespace that is missing was reported when it was looked for.
        let Some(task) = self.observed.tasks.get(key) else {
            let present = &self.observed.node.routes;
            return self
                .routes
                .retain(|route, place| place.attachment() != Some(key) || present.contains(route));
        };
        if task.cookie == self.observed.node.cookie {
            let (attachment, netns) = (key.clone(), attachment.netns.clone());
            self.plan
                .problems
                .push(LinkProblem::NodeNetns { attachment, netns });
            return self.give_up_routes(key);
        }
        if let Err(source) = self.pair(key, attachment, &name, task) {
            self.plan.problems.push(LinkProblem::Attachment {
                attachment: key.clone(),
                source,
            });
            self.give_up_routes(key);
        }
    }

    fn pair(
        &mut self,
        key: &AttachmentKey,
        attachment: &AttachmentPlan,
        name: &str,
        task: &ObservedNetns,
    ) -> Result<(), NetlinkError> {
        let node_side = Place::NodeSide(key.clone());
        let mtu = self.attachment_mtu(attachment);
        let mut near = self.own_veth(key, name)?;
        let mut far = link_in(task, &attachment.interface).filter(|far| !self.goes_with_a_removed_link(far));
        if !are_one_pair(near, far) {
            if let Some(link) = far {
                let interface = format!("{} in netns {}", attachment.interface, attachment.netns);
                return Err(foreign(&interface, link, "nothing of that name"));
            }
            if near.is_some() {
                self.delete(&node_side, name);
            }
            (near, far) = (None, None);
            let peer = VethPeer {
                link: attachment.interface.clone(),
                mac: attachment.mac,
                netns: Some(attachment.netns.clone()),
            };
            self.push(&node_side, create(name, mtu, peer));
        }
        self.near_side(key, attachment, name, near, mtu);
        self.task_side(key, attachment, task, far, mtu);
        Ok(())
    }

    /// The other end is the container engine's: it is made in the node's namespace, under a name of its own, and not
    /// looked at again.
    fn handover(
        &mut self,
        key: &AttachmentKey,
        attachment: &AttachmentPlan,
        name: &str,
    ) -> Result<(), NetlinkError> {
        let mtu = self.attachment_mtu(attachment);
        let near = self.own_veth(key, name)?;
        if near.is_none() {
            let peer = VethPeer {
                link: handover_link(&self.desired.cluster.node, key),
                mac: attachment.mac,
                netns: None,
            };
            self.push(&Place::NodeSide(key.clone()), create(name, mtu, peer));
        }
        self.near_side(key, attachment, name, near, mtu);
        Ok(())
    }

    fn attachment_mtu(&self, attachment: &AttachmentPlan) -> u32 {
        attachment.mtu.unwrap_or_else(|| {
            overlay_mtu(
                &self.desired.cluster,
                &self.observed.uplinks,
                attachment.encrypted,
            )
        })
    }

    /// The node's side of an endpoint, where it is there.
    fn own_veth(&self, key: &AttachmentKey, name: &str) -> Result<Option<&'a ObservedLink>, NetlinkError> {
        let near = self.node_link(name);
        match near
            .filter(|link| !(link.kind == LinkKind::Veth && is_made_by(&self.desired.cluster.node, link)))
        {
            Some(link) => {
                let alias = attachment_alias(&self.desired.cluster.node, key);
                Err(foreign(name, link, &format!("a veth with the alias {alias}")))
            }
            None => Ok(near),
        }
    }

    fn near_side(
        &mut self,
        key: &AttachmentKey,
        attachment: &AttachmentPlan,
        name: &str,
        near: Option<&ObservedLink>,
        mtu: u32,
    ) {
        let node_side = Place::NodeSide(key.clone());
        let mut wanted = self.node_side(name, MacAddr::GATEWAY, mtu);
        wanted.alias = Some(attachment_alias(&self.desired.cluster.node, key));
        self.settle(&node_side, &wanted, &self.observed.node, near);
        let neighbours: BTreeMap<_, _> = attachment
            .addresses
            .iter()
            .map(|address| (address.addr(), attachment.mac))
            .collect();
        self.neighbours(&node_side, name, near, &neighbours);
    }

    fn task_side(
        &mut self,
        key: &AttachmentKey,
        attachment: &AttachmentPlan,
        task: &ObservedNetns,
        far: Option<&ObservedLink>,
        mtu: u32,
    ) {
        let place = Place::TaskSide(key.clone());
        if link_in(task, LOOPBACK).is_some_and(|loopback| !loopback.up) {
            let settings = LinkSettings {
                up: true,
                ..LinkSettings::default()
            };
            self.push(
                &place,
                LinkAction::SetLink {
                    link: LOOPBACK.to_owned(),
                    settings,
                },
            );
        }
        let wanted = WantedLink {
            link: attachment.interface.clone(),
            mac: attachment.mac,
            mtu,
            alias: None,
            group: None,
            without_link_local: false,
            demands: sysctl::of_task_link(&attachment.interface),
            addresses: attachment.addresses.iter().copied().collect(),
        };
        self.settle(&place, &wanted, task, far);
        let routes: BTreeSet<Route> = task_routes(attachment).collect();
        let present: BTreeSet<&Route> = task
            .routes
            .iter()
            .filter(|route| far.is_some() && route.link == attachment.interface)
            .collect();
        for route in present.iter().filter(|route| !routes.contains(**route)) {
            self.push(&place, LinkAction::RemoveRoute((*route).clone()));
        }
        for route in routes.iter().filter(|route| !present.contains(route)) {
            self.push(&place, LinkAction::AddRoute(route.clone()));
        }
    }

    /// Replies from the world, which the kernel forwards, find the endpoint by these.
    fn attachment_routes(&mut self, key: &AttachmentKey, attachment: &AttachmentPlan, link: &str) {
        for address in &attachment.addresses {
            let destination = IpNet::from(address.addr());
            let source = self.node_source(&destination);
            let route = Route {
                destination,
                link: link.to_owned(),
                gateway: None,
                source,
            };
            self.routes.insert(route, Place::NodeSide(key.clone()));
        }
    }

    /// Whether this is the other end of a link that this plan removes: it will be gone as well.
    fn goes_with_a_removed_link(&self, far: &ObservedLink) -> bool {
        let removed = self
            .removed
            .iter()
            .filter_map(|link| self.observed.node.links.get(link));
        far.kind == LinkKind::Veth
            && removed
                .map(|link| link.index)
                .any(|index| far.peer == Some(index))
    }

    /// No route leads to an endpoint that cannot be made.
    fn give_up_routes(&mut self, key: &AttachmentKey) {
        self.routes.retain(|_, place| place.attachment() != Some(key));
    }
}

fn create(name: &str, mtu: u32, peer: VethPeer) -> LinkAction {
    LinkAction::CreateVeth {
        link: name.to_owned(),
        mac: MacAddr::GATEWAY,
        mtu,
        peer,
    }
}

/// Whether these are the two ends of one veth; their numbers are those of their own namespaces.
fn are_one_pair(near: Option<&ObservedLink>, far: Option<&ObservedLink>) -> bool {
    match (near, far) {
        (Some(near), Some(far)) => {
            far.kind == LinkKind::Veth && near.peer == Some(far.index) && far.peer == Some(near.index)
        }
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}
