//! One link: from what it is to what it should be.

use super::{IPV6_MIN_MTU, Planner};
use crate::observed::{ObservedLink, ObservedNetns};
use crate::op::{LinkAction, LinkSettings, Place};
use crate::sysctl::Demand;
use essaim_abi::MacAddr;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a link should be like, once it exists.
pub(super) struct WantedLink {
    pub(super) link: String,
    pub(super) mac: MacAddr,
    pub(super) mtu: u32,
    pub(super) alias: Option<String>,
    pub(super) group: Option<u32>,
    pub(super) without_link_local: bool,
    pub(super) demands: Vec<Demand>,
    pub(super) addresses: BTreeSet<IpNet>,
}

impl Planner<'_> {
    /// Brings a link that exists, or was made a step before (`found` is `None`), to what it should be.
    pub(super) fn settle(
        &mut self,
        place: &Place,
        wanted: &WantedLink,
        netns: &ObservedNetns,
        found: Option<&ObservedLink>,
    ) {
        let settings = found.map_or_else(|| wanted.all_settings(), |found| wanted.settings_from(found));
        // Parameters first: they say what the kernel does when the link goes up.
        for demand in &wanted.demands {
            let is_new = found.is_none() && (self.has_ipv6(wanted.mtu) || !demand.sysctl.is_ipv6());
            self.demand(place, demand, netns, is_new);
        }
        if settings != LinkSettings::default() {
            self.push(
                place,
                LinkAction::SetLink {
                    link: wanted.link.clone(),
                    settings,
                },
            );
        }
        let none = BTreeSet::new();
        let present = found.map_or(&none, |found| &found.addresses);
        for address in present
            .iter()
            .filter(|address| !wanted.addresses.contains(address))
        {
            if !is_link_local(address.addr()) {
                let (link, address) = (wanted.link.clone(), *address);
                self.push(place, LinkAction::RemoveAddress { link, address });
            }
        }
        for address in wanted.addresses.difference(present) {
            let (link, address) = (wanted.link.clone(), *address);
            self.push(place, LinkAction::AddAddress { link, address });
        }
    }

    /// Sets a parameter that is not as it must be; a new one, of a link that is yet to be made, is not known to be.
    pub(super) fn demand(&mut self, place: &Place, demand: &Demand, netns: &ObservedNetns, is_new: bool) {
        let found = netns.sysctls.get(&demand.sysctl);
        if is_new || found.is_some_and(|found| demand.is_unmet_by(found)) {
            let (sysctl, value) = (demand.sysctl.clone(), demand.value.to_owned());
            self.push(place, LinkAction::SetSysctl { sysctl, value });
        }
    }

    /// Brings the permanent neighbours of a link in the node's namespace to what they should be.
    pub(super) fn neighbours(
        &mut self,
        place: &Place,
        link: &str,
        found: Option<&ObservedLink>,
        wanted: &BTreeMap<IpAddr, MacAddr>,
    ) {
        let present: BTreeMap<IpAddr, Option<MacAddr>> = found
            .map(|found| self.observed.permanent_neighbours(found.index).collect())
            .unwrap_or_default();
        for address in present.keys().filter(|address| !wanted.contains_key(address)) {
            self.push(
                place,
                LinkAction::RemoveNeighbour {
                    link: link.to_owned(),
                    address: *address,
                },
            );
        }
        for (address, mac) in wanted {
            if present.get(address) != Some(&Some(*mac)) {
                let (link, address, mac) = (link.to_owned(), *address, *mac);
                self.push(place, LinkAction::AddNeighbour { link, address, mac });
            }
        }
    }
}

impl WantedLink {
    /// What a new link needs beyond what it was made with.
    fn all_settings(&self) -> LinkSettings {
        LinkSettings {
            mac: None,
            mtu: None,
            alias: self.alias.clone(),
            group: None,
            without_link_local: self.without_link_local,
            up: true,
        }
    }

    fn settings_from(&self, found: &ObservedLink) -> LinkSettings {
        // A request that says anything of IPv6 is refused before it gives the link the MTU for it (EAFNOSUPPORT).
        let has_ipv6 = found.mtu >= IPV6_MIN_MTU;
        LinkSettings {
            mac: (found.mac != Some(self.mac)).then_some(self.mac),
            mtu: (found.mtu != self.mtu).then_some(self.mtu),
            alias: if found.alias == self.alias {
                None
            } else {
                self.alias.clone()
            },
            group: self.group.filter(|group| found.group != *group),
            without_link_local: self.without_link_local && !found.without_link_local && has_ipv6,
            up: !found.up,
        }
    }
}

/// Whether the kernel gives and takes the address by itself.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
