//! The endpoint of a task: a pair of links, one end in the task's namespace.

use super::link::WantedLink;
use super::node::foreign;
use super::{Planner, is_made_by, link_in, overlay_mtu, task_routes};
use crate::observed::{LinkKind, ObservedLink, ObservedNetns, Route};
use crate::op::{LinkAction, LinkSettings, Place, VethPeer};
use crate::ownership::{attachment_alias, attachment_link};
use crate::{LinkProblem, NetlinkError, sysctl};
use essaim_abi::MacAddr;
use essaim_model::{AttachmentKey, AttachmentPlan};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// The loopback interface, which a new namespace has, turned off.
const LOOPBACK: &str = "lo";

impl Planner<'_> {
    pub(super) fn attachment(&mut self, key: &AttachmentKey, attachment: &AttachmentPlan) {
        let name = attachment_link(&self.desired.cluster.node, key);
        self.attachment_routes(key, attachment, &name);
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
        let alias = attachment_alias(&self.desired.cluster.node, key);
        let mtu = attachment.mtu.unwrap_or_else(|| {
            overlay_mtu(
                &self.desired.cluster,
                &self.observed.uplinks,
                attachment.encrypted,
            )
        });
        let mut near = self.node_link(name);
        let mut far = link_in(task, &attachment.interface).filter(|far| !self.goes_with_a_removed_link(far));
        if let Some(link) = near
            && !(link.kind == LinkKind::Veth && is_made_by(&self.desired.cluster.node, link))
        {
            return Err(foreign(name, link, &format!("a veth with the alias {alias}")));
        }
        if !are_one_pair(near, far) {
            if let Some(link) = far {
                let interface = format!("{} in netns {}", attachment.interface, attachment.netns);
                return Err(foreign(&interface, link, "nothing of that name"));
            }
            if near.is_some() {
                self.delete(&node_side, name);
            }
            (near, far) = (None, None);
            self.push(&node_side, create(attachment, name, mtu));
        }
        let mut wanted = self.node_side(name, MacAddr::GATEWAY, mtu);
        wanted.alias = Some(alias);
        self.settle(&node_side, &wanted, &self.observed.node, near);
        let neighbours: BTreeMap<_, _> = attachment
            .addresses
            .iter()
            .map(|address| (address.addr(), attachment.mac))
            .collect();
        self.neighbours(&node_side, name, near, &neighbours);
        self.task_side(key, attachment, task, far, mtu);
        Ok(())
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

fn create(attachment: &AttachmentPlan, name: &str, mtu: u32) -> LinkAction {
    LinkAction::CreateVeth {
        link: name.to_owned(),
        mac: MacAddr::GATEWAY,
        mtu,
        peer: VethPeer {
            link: attachment.interface.clone(),
            mac: attachment.mac,
            netns: Some(attachment.netns.clone()),
        },
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
