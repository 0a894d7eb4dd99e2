//! Addresses within their networks, each with one owner.

use super::super::path::At;
use super::super::{Network, Problem};
use super::Checker;
use crate::{NodeName, ServiceName, TaskId};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// Who has an overlay address.
#[derive(Clone, Copy)]
pub(super) enum Owner<'c> {
    Node(&'c NodeName),
    Vip(&'c ServiceName),
    Task(&'c TaskId),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Vip(service) => write!(f, "service {service}"),
            Self::Task(task) => write!(f, "task {task}"),
        }
    }
}

impl Owner<'_> {
    const fn what(self) -> &'static str {
        match self {
            Self::Node(_) => "overlay address",
            Self::Vip(_) => "VIP",
            Self::Task(_) => "address",
        }
    }
}

pub(super) const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Whether it is an address of one interface, in all of the network.
pub(super) fn is_unicast(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(local || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

impl<'c> Checker<'c> {
    /// Addresses of one owner on one network: at most one of a family, each in a subnet, free and nobody else's.
    pub(super) fn claim(&mut self, at: At<'_>, network: &Network, owner: Owner<'c>, addresses: &[IpAddr]) {
        for (index, address) in addresses.iter().enumerate() {
            let here = at.index(index);
            let before = addresses.get(..index).unwrap_or_default();
            if before.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
                let found = address.to_string();
                self.found(
                    here,
                    Problem::FamilyTwice {
                        what: owner.what(),
                        found,
                        family: family(*address),
                    },
                );
            }
            self.within(here, network, owner.what(), *address);
            let first = self.addresses.entry(*address).or_insert(owner);
            // The very same entry, where the address is given twice in a list, was found above.
            if !std::ptr::eq(first.name(), owner.name())
                || std::mem::discriminant(first) != std::mem::discriminant(&owner)
            {
                let first = first.to_string();
                self.found(
                    here,
                    Problem::Duplicate {
                        what: "address",
                        value: address.to_string(),
                        first,
                    },
                );
            }
        }
    }

    /// The address is a host address of one of the network's subnets, and not the gateway.
    fn within(&mut self, at: At<'_>, network: &Network, what: &'static str, address: IpAddr) {
        let Some(subnet) = network
            .subnets
            .iter()
            .copied()
            .find(|subnet| subnet.contains(&address))
        else {
            if !self.broken.contains(network.name.as_str()) {
                let owner = format!("network {}", network.name);
                let expected = list(&network.subnets);
                self.found(
                    at,
                    Problem::OutsideSubnet {
                        what,
                        address,
                        owner,
                        expected,
                    },
                );
            }
            return;
        };
        let role = reserved(subnet, address).or((address == network.gateway_of(subnet)).then_some("gateway"));
        if let Some(role) = role {
            self.found(
                at,
                Problem::ReservedAddress {
                    what,
                    address,
                    role,
                    subnet,
                },
            );
        }
    }
}

impl<'c> Owner<'c> {
    /// The name, as a pointer to where it stands in the catalog.
    fn name(self) -> &'c str {
        match self {
            Self::Node(name) => name.as_str(),
            Self::Vip(name) => name.as_str(),
            Self::Task(name) => name.as_str(),
        }
    }
}

/// What the subnet needs the address for; in IPv6 the network address is the routers' anycast address (RFC 4291,
/// section 2.6.1).
pub(super) fn reserved(subnet: IpNet, address: IpAddr) -> Option<&'static str> {
    if address == subnet.network() {
        Some("network")
    } else if address.is_ipv4() && address == subnet.broadcast() {
        Some("broadcast")
    } else {
        None
    }
}

/// As a person would list them.
pub(super) fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(" or ")
    }
}
