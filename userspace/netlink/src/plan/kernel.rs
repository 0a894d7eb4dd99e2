//! A kernel of a few lines, for the tests: takes the steps of a plan on what was observed.

use crate::firewall::ObservedFirewall;
use crate::fixture::{net, uplink};
use crate::observed::{
    Certainty, LinkKind, ObservedLink, ObservedLinks, ObservedNeighbour, ObservedNetns, VxlanSettings,
};
use crate::op::{LinkAction, LinkOp, LinkSettings, Place};
use crate::ownership::LINK_GROUP;
use crate::plan::IPV6_MIN_MTU;
use crate::sysctl::{self, Demand};
use essaim_abi::MacAddr;
use essaim_model::{AttachmentKey, DesiredState};
use std::collections::{BTreeMap, BTreeSet};

/// A node that essaim never ran on, and the empty namespaces of the tasks.
pub(super) struct Kernel {
    pub(super) observed: ObservedLinks,
    netns_of: BTreeMap<AttachmentKey, String>,
    next_index: u32,
}

fn link(index: u32, kind: LinkKind, mac: Option<MacAddr>, mtu: u32) -> ObservedLink {
    ObservedLink {
        index,
        kind,
        mac,
        mtu,
        alias: None,
        group: 0,
        up: false,
        without_link_local: false,
        peer: None,
        addresses: BTreeSet::new(),
    }
}

fn namespace(cookie: u64) -> ObservedNetns {
    let loopback = link(1, LinkKind::Other(String::new()), None, 65_536);
    ObservedNetns {
        cookie,
        links: BTreeMap::from([("lo".to_owned(), loopback)]),
        ..ObservedNetns::default()
    }
}

impl Kernel {
    pub(super) fn of(desired: &DesiredState) -> Self {
        let mut node = namespace(1);
        let uplink = uplink();
        let mut device = link(
            uplink.ifindex,
            LinkKind::Other(String::new()),
            Some(uplink.mac),
            uplink.mtu,
        );
        device.addresses = [net("192.0.2.1/24")].into();
        node.links.insert(uplink.name.clone(), device);
        for demand in sysctl::of_node(std::slice::from_ref(&uplink)) {
            node.sysctls
                .insert(demand.sysctl, demand.only_from.unwrap_or("0").to_owned());
        }
        let attachments = crate::plan::attachments(desired);
        let netns_of: BTreeMap<_, _> = attachments
            .map(|(key, plan)| (key.clone(), plan.netns.clone()))
            .collect();
        let tasks = netns_of
            .keys()
            .zip(2..)
            .map(|(key, cookie)| (key.clone(), namespace(cookie)))
            .collect();
        let firewall = Some(ObservedFirewall::default());
        let observed = ObservedLinks {
            uplinks: vec![uplink],
            node,
            neighbours: BTreeMap::new(),
            firewall,
            tasks,
        };
        Self {
            observed,
            netns_of,
            next_index: 100,
        }
    }

    pub(super) fn take_all(&mut self, ops: &[LinkOp]) {
        for op in ops {
            self.take(op);
        }
    }

    pub(super) fn take(&mut self, op: &LinkOp) {
        match &op.action {
            LinkAction::CreateVxlan {
                link: name,
                port,
                mac,
                mtu,
            } => {
                self.next_index += 1;
                let kind = LinkKind::Vxlan(VxlanSettings::at_port(*port));
                self.insert(None, name, link(self.next_index, kind, Some(*mac), *mtu));
            }
            LinkAction::CreateVeth {
                link: name,
                mac,
                mtu,
                peer,
            } => {
                self.next_index += 2;
                let (near, far) = (self.next_index, self.next_index + 1);
                let end = |index, other, mac| ObservedLink {
                    peer: Some(other),
                    ..link(index, LinkKind::Veth, Some(mac), *mtu)
                };
                self.insert(None, name, end(near, far, *mac));
                self.insert(peer.netns.as_deref(), &peer.link, end(far, near, peer.mac));
                self.next_index += 1;
            }
            LinkAction::DeleteLink { link } => self.delete(link),
            LinkAction::SetLink { link, settings } => self.set(&op.place, link, settings),
            LinkAction::AddAddress { link, address } => {
                assert!(
                    self.link(&op.place, link).addresses.insert(*address),
                    "{op}: there already"
                );
            }
            LinkAction::RemoveAddress { link, address } => {
                assert!(
                    self.link(&op.place, link).addresses.remove(address),
                    "{op}: not there"
                );
            }
            LinkAction::AddRoute(route) => {
                assert!(self.link(&op.place, &route.link).up, "{op}: network is down");
                assert!(
                    self.netns(&op.place).routes.insert(route.clone()),
                    "{op}: there already"
                );
            }
            LinkAction::RemoveRoute(route) => {
                assert!(self.netns(&op.place).routes.remove(route), "{op}: not there");
            }
            LinkAction::AddNeighbour { link, address, mac } => {
                let index = self.link(&op.place, link).index;
                let entry = ObservedNeighbour {
                    mac: Some(*mac),
                    certainty: Certainty::Permanent,
                };
                self.observed.neighbours.insert((index, *address), entry);
            }
            LinkAction::RemoveNeighbour { link, address } => {
                let index = self.link(&op.place, link).index;
                assert!(
                    self.observed.neighbours.remove(&(index, *address)).is_some(),
                    "{op}: not there"
                );
            }
            LinkAction::SetSysctl { sysctl, value } => {
                let old = self
                    .netns(&op.place)
                    .sysctls
                    .insert(sysctl.clone(), value.clone());
                assert!(old.is_some(), "{op}: no such parameter");
            }
            LinkAction::ReplaceFirewall(ruleset) => {
                let table = ruleset.marks();
                self.observed.firewall = Some(ObservedFirewall {
                    table,
                    ..ObservedFirewall::default()
                });
            }
            LinkAction::ReplaceDockerUserRules(_) => panic!("{op}: there is no such chain here"),
        }
    }

    /// Removes a link of the node's namespace, the other end of it, and all that leads over either.
    pub(super) fn delete(&mut self, name: &str) {
        let link = self
            .observed
            .node
            .links
            .remove(name)
            .unwrap_or_else(|| panic!("no link {name}"));
        for netns in std::iter::once(&mut self.observed.node).chain(self.observed.tasks.values_mut()) {
            netns.links.retain(|_, other| link.peer != Some(other.index));
            let links = &netns.links;
            netns.routes.retain(|route| links.contains_key(&route.link));
        }
        self.observed
            .neighbours
            .retain(|(index, _), _| *index != link.index && Some(*index) != link.peer);
    }

    fn insert(&mut self, netns: Option<&str>, name: &str, mut link: ObservedLink) {
        link.group = LINK_GROUP;
        let (namespace, demands) = match netns {
            None => (&mut self.observed.node, sysctl::of_node_link(name)),
            Some(netns) => {
                let key = self
                    .netns_of
                    .iter()
                    .find(|(_, of_task)| *of_task == netns)
                    .unwrap()
                    .0;
                (
                    self.observed.tasks.get_mut(key).unwrap(),
                    sysctl::of_task_link(name),
                )
            }
        };
        let has_ipv6 = link.mtu >= IPV6_MIN_MTU;
        let demands = demands
            .into_iter()
            .filter(|demand| has_ipv6 || !demand.sysctl.is_ipv6());
        for Demand { sysctl, value, .. } in demands {
            namespace
                .sysctls
                .insert(sysctl, if value == "0" { "1" } else { "0" }.to_owned());
        }
        assert!(
            namespace.links.insert(name.to_owned(), link).is_none(),
            "{name} exists already"
        );
    }

    fn set(&mut self, place: &Place, name: &str, settings: &LinkSettings) {
        let LinkSettings {
            mac,
            mtu,
            alias,
            group,
            without_link_local,
            up,
        } = settings.clone();
        let link = self.link(place, name);
        assert!(
            !without_link_local || link.mtu >= IPV6_MIN_MTU,
            "{name} has no IPv6"
        );
        link.mac = mac.or(link.mac);
        link.mtu = mtu.unwrap_or(link.mtu);
        link.alias = alias.or(link.alias.take());
        link.group = group.unwrap_or(link.group);
        link.without_link_local |= without_link_local;
        link.up |= up;
    }

    fn netns(&mut self, place: &Place) -> &mut ObservedNetns {
        match place {
            Place::Node | Place::NodeSide(_) => &mut self.observed.node,
            Place::TaskSide(key) => self.observed.tasks.get_mut(key).unwrap(),
        }
    }

    fn link(&mut self, place: &Place, name: &str) -> &mut ObservedLink {
        self.netns(place)
            .links
            .get_mut(name)
            .unwrap_or_else(|| panic!("no link {name}"))
    }
}
