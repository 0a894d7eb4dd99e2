//! Nodes, networks and their subnets.

use super::super::path::At;
use super::super::{Network, Problem};
use super::Checker;
use super::addresses::{Owner, family, is_unicast, list, reserved};
use ipnet::IpNet;
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;

/// Who used a value first.
pub(super) fn duplicate<K: Hash + Eq, O: Copy + Display>(
    seen: &mut HashMap<K, O>,
    key: K,
    owner: O,
) -> Option<String> {
    match seen.entry(key) {
        std::collections::hash_map::Entry::Occupied(first) => Some(first.get().to_string()),
        std::collections::hash_map::Entry::Vacant(vacant) => {
            vacant.insert(owner);
            None
        }
    }
}

/// A subnet, where it stands and whose it is.
struct Subnet<'c> {
    range: IpNet,
    /// The network's index and the subnet's within it; no network: the ingress network.
    network: Option<usize>,
    index: usize,
    owner: &'c str,
}

impl Subnet<'_> {
    fn owner(&self) -> String {
        match self.network {
            Some(_) => format!("network {}", self.owner),
            None => "the ingress network".to_owned(),
        }
    }
}

impl<'c> Checker<'c> {
    pub(super) fn cluster(&mut self) {
        let cluster = &self.catalog.cluster;
        let root = At::ROOT.field("cluster");
        if cluster.vxlan_port == cluster.gossip_port {
            let value = cluster.gossip_port.to_string();
            let first = "vxlan_port".to_owned();
            self.found(
                root.field("gossip_port"),
                Problem::Duplicate {
                    what: "UDP port",
                    value,
                    first,
                },
            );
        }
        if cluster.manager_port == cluster.gossip_port {
            let value = cluster.manager_port.to_string();
            let first = "gossip_port".to_owned();
            self.found(
                root.field("manager_port"),
                Problem::Duplicate {
                    what: "TCP port",
                    value,
                    first,
                },
            );
        }
        if cluster.ingress_subnets.is_empty() && !self.broken.contains("ingress") {
            self.found(root.field("ingress_subnets"), Problem::Missing);
        }
        self.subnets(root.field("ingress_subnets"), &cluster.ingress_subnets);
        if !self.broken.contains("ingress") {
            let ingress = self.catalog.ingress_network();
            self.gateways(root.field("ingress_gateways"), &ingress);
            self.mtu(root.field("ingress_mtu"), &ingress);
        }
    }

    pub(super) fn networks(&mut self) {
        let catalog = self.catalog;
        let root = At::ROOT.field("networks");
        let mut names = HashMap::new();
        let mut vnis = HashMap::from([(catalog.cluster.ingress_vni, "the ingress network")]);
        for (index, network) in catalog.networks.iter().enumerate() {
            let at = root.index(index);
            if matches!(network.name.as_str(), "ingress" | "host") {
                self.found(
                    at.field("name"),
                    Problem::ReservedName {
                        found: network.name.to_string(),
                    },
                );
            } else if let Some(first) = duplicate(&mut names, &network.name, "another network") {
                let value = network.name.to_string();
                self.found(
                    at.field("name"),
                    Problem::Duplicate {
                        what: "network name",
                        value,
                        first,
                    },
                );
            }
            if let Some(first) = duplicate(&mut vnis, network.vni, network.name.as_str()) {
                let value = network.vni.to_string();
                self.found(
                    at.field("vni"),
                    Problem::Duplicate {
                        what: "VNI",
                        value,
                        first,
                    },
                );
            }
            if network.subnets.is_empty() {
                self.found(at.field("subnets"), Problem::Missing);
            }
            self.subnets(at.field("subnets"), &network.subnets);
            self.gateways(at.field("gateways"), network);
            self.mtu(at.field("mtu"), network);
        }
        self.overlaps();
    }

    fn mtu(&mut self, at: At<'_>, network: &Network) {
        let dual = network.subnets.iter().any(|subnet| subnet.addr().is_ipv6());
        if let Some(mtu) = network.mtu.filter(|mtu| dual && *mtu < 1280) {
            let [found, least, most] = [mtu, 1280, 65_465].map(|mtu| mtu.to_string());
            self.found(
                at,
                Problem::OutOfRange {
                    what: "MTU of an IPv6 network",
                    found,
                    least,
                    most,
                },
            );
        }
    }

    fn subnets(&mut self, at: At<'_>, subnets: &[IpNet]) {
        for (index, subnet) in subnets.iter().enumerate() {
            let here = at.index(index);
            let address = subnet.addr();
            let before = subnets.get(..index).unwrap_or_default();
            if before
                .iter()
                .any(|other| other.addr().is_ipv4() == address.is_ipv4())
            {
                let found = subnet.to_string();
                self.found(
                    here,
                    Problem::FamilyTwice {
                        what: "subnet",
                        found,
                        family: family(address),
                    },
                );
            }
            if !(is_unicast(subnet.network()) && is_unicast(subnet.broadcast())) {
                self.found(
                    here,
                    Problem::NotUnicast {
                        what: "a network",
                        address: subnet.to_string(),
                    },
                );
            }
        }
    }

    fn gateways(&mut self, at: At<'_>, network: &Network) {
        for (index, gateway) in network.gateways.iter().copied().enumerate() {
            let here = at.index(index);
            let before = network.gateways.get(..index).unwrap_or_default();
            if before.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                let found = gateway.to_string();
                self.found(
                    here,
                    Problem::FamilyTwice {
                        what: "gateway",
                        found,
                        family: family(gateway),
                    },
                );
            }
            let Some(subnet) = network
                .subnets
                .iter()
                .copied()
                .find(|subnet| subnet.contains(&gateway))
            else {
                let owner = format!("network {}", network.name);
                let (what, expected) = ("gateway", list(&network.subnets));
                self.found(
                    here,
                    Problem::OutsideSubnet {
                        what,
                        address: gateway,
                        owner,
                        expected,
                    },
                );
                continue;
            };
            if let Some(role) = reserved(subnet, gateway) {
                self.found(
                    here,
                    Problem::ReservedAddress {
                        what: "gateway",
                        address: gateway,
                        role,
                        subnet,
                    },
                );
            }
        }
    }

    /// Every subnet of the catalog, by first address, the widest first.
    fn all_subnets(&self) -> Vec<Subnet<'c>> {
        let catalog = self.catalog;
        let ingress = catalog.cluster.ingress_subnets.iter().enumerate();
        let ingress = ingress.map(|(index, subnet)| Subnet {
            range: *subnet,
            network: None,
            index,
            owner: "ingress",
        });
        let others = catalog.networks.iter().enumerate().flat_map(|(network, of)| {
            let subnets = of.subnets.iter().enumerate();
            let owner = of.name.as_str();
            subnets.map(move |(index, subnet)| Subnet {
                range: *subnet,
                network: Some(network),
                index,
                owner,
            })
        });
        let mut all: Vec<Subnet<'c>> = ingress.chain(others).collect();
        all.sort_by_key(|subnet| {
            (
                subnet.range.network(),
                subnet.range.prefix_len(),
                subnet.network,
                subnet.index,
            )
        });
        all
    }

    fn overlaps(&mut self) {
        let all = self.all_subnets();
        // Subnets nest or are apart, and the wider one comes first: these are apart.
        let mut apart: Vec<&Subnet<'_>> = Vec::new();
        for subnet in &all {
            match apart.last() {
                Some(outer) if outer.range.contains(&subnet.range) => self.overlap(outer, subnet),
                Some(_) | None => apart.push(subnet),
            }
        }
        let root = At::ROOT.field("nodes");
        for (index, node) in self.catalog.nodes.iter().enumerate() {
            let before = apart.partition_point(|subnet| subnet.range.network() <= node.address);
            let last = before.checked_sub(1).and_then(|index| apart.get(index));
            if let Some(subnet) = last.filter(|subnet| subnet.range.contains(&node.address)) {
                let (address, subnet, owner) = (node.address, subnet.range, subnet.owner());
                let at = root.index(index);
                self.found(
                    at.field("address"),
                    Problem::VtepInSubnet {
                        address,
                        subnet,
                        owner,
                    },
                );
            }
        }
    }

    /// Blames the one that comes later in the catalog.
    fn overlap(&mut self, one: &Subnet<'_>, another: &Subnet<'_>) {
        let place = |subnet: &Subnet<'_>| (subnet.network, subnet.index);
        let (first, second) = if place(one) < place(another) {
            (one, another)
        } else {
            (another, one)
        };
        let problem = Problem::SubnetsOverlap {
            subnet: second.range,
            other: first.range,
            owner: first.owner(),
        };
        let (networks, cluster) = (At::ROOT.field("networks"), At::ROOT.field("cluster"));
        match second.network {
            Some(network) => {
                let at = networks.index(network);
                self.found(at.field("subnets").index(second.index), problem);
            }
            None => self.found(cluster.field("ingress_subnets").index(second.index), problem),
        }
    }

    pub(super) fn nodes(&mut self) {
        let catalog = self.catalog;
        let root = At::ROOT.field("nodes");
        let ingress = catalog.ingress_network();
        let mut names = HashMap::new();
        let mut vteps: HashMap<IpAddr, &str> = HashMap::new();
        let mut numbers: HashMap<u32, &str> = HashMap::new();
        for (index, node) in catalog.nodes.iter().enumerate() {
            let at = root.index(index);
            if let Some(first) = duplicate(&mut names, &node.name, "another node") {
                let value = node.name.to_string();
                self.found(
                    at.field("name"),
                    Problem::Duplicate {
                        what: "node name",
                        value,
                        first,
                    },
                );
            }
            if !is_unicast(node.address) {
                let address = node.address.to_string();
                self.found(
                    at.field("address"),
                    Problem::NotUnicast {
                        what: "a node",
                        address,
                    },
                );
            }
            if let Some(first) = duplicate(&mut vteps, node.address, node.name.as_str()) {
                let value = node.address.to_string();
                let first = format!("node {first}");
                self.found(
                    at.field("address"),
                    Problem::Duplicate {
                        what: "underlay address",
                        value,
                        first,
                    },
                );
            }
            self.claim(
                at.field("overlay"),
                &ingress,
                Owner::Node(&node.name),
                &node.overlay,
            );
            if let Some(number) = node_number(&node.overlay)
                && let Some(first) = duplicate(&mut numbers, number, node.name.as_str())
            {
                let (value, first) = (number.to_string(), format!("node {first}"));
                self.found(
                    at.field("overlay"),
                    Problem::Duplicate {
                        what: "node number (the low 16 bits of the overlay address)",
                        value,
                        first,
                    },
                );
            }
            for subnet in &ingress.subnets {
                if !node
                    .overlay
                    .iter()
                    .any(|address| address.is_ipv4() == subnet.addr().is_ipv4())
                {
                    self.found(at.field("overlay"), Problem::NoOverlayAddress { subnet: *subnet });
                }
            }
        }
    }
}

/// The number that names a node to the programs, as [`essaim_abi::Vtep::number`] says; `None` without an address.
fn node_number(overlay: &[IpAddr]) -> Option<u32> {
    let address = overlay.iter().min()?;
    Some(match address {
        IpAddr::V4(address) => address.to_bits() & 0xffff,
        IpAddr::V6(address) => u32::from(address.segments()[7]),
    })
}
