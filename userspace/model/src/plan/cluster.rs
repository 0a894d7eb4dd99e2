use super::Planner;
use crate::catalog::mac_of_hash;
use crate::{AddressKind, AddressPlan, ClusterPlan, SubnetPlan};
use essaim_abi::MacAddr;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Planner<'_> {
    /// What does not belong to one service.
    pub(super) fn cluster(&self) -> ClusterPlan {
        let cluster = &self.catalog.cluster;
        let mut subnets = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for network in self.catalog.networks.iter().chain([&self.ingress]) {
            let (vni, internal, encrypted) = (network.vni, network.internal, network.encrypted);
            for subnet in &network.subnets {
                subnets.insert(
                    *subnet,
                    SubnetPlan {
                        vni,
                        internal,
                        encrypted,
                    },
                );
                let kind = AddressKind::Gateway;
                let gateway = AddressPlan {
                    vni,
                    kind,
                    mac: MacAddr::GATEWAY,
                    encrypted,
                };
                addresses.insert(network.gateway_of(*subnet), gateway);
            }
        }
        for node in &self.catalog.nodes {
            let this = node.name == self.node.name;
            for address in &node.overlay {
                let kind = if this {
                    AddressKind::ThisNode
                } else {
                    AddressKind::OtherNode(node.address)
                };
                let mac = match address {
                    IpAddr::V4(address) => MacAddr::of_ipv4(*address),
                    // The node's endpoint is one interface with one Ethernet address.
                    IpAddr::V6(_) => node
                        .overlay
                        .iter()
                        .find_map(of_ipv4)
                        .unwrap_or(mac_of_hash(address)),
                };
                let plan = AddressPlan {
                    vni: self.ingress_vni(),
                    kind,
                    mac,
                    encrypted: false,
                };
                addresses.insert(*address, plan);
            }
        }
        ClusterPlan {
            node: self.node.name.clone(),
            vtep: self.node.address,
            overlay: self
                .node
                .overlay
                .iter()
                .filter_map(|address| self.with_prefix(*address))
                .collect(),
            vxlan_port: cluster.vxlan_port,
            gossip_port: cluster.gossip_port,
            manager_port: cluster.manager_port,
            ingress_vni: cluster.ingress_vni,
            vteps: self
                .catalog
                .nodes
                .iter()
                .map(|node| (node.address, node.name.clone()))
                .collect(),
            subnets,
            addresses,
        }
    }

    fn with_prefix(&self, address: IpAddr) -> Option<IpNet> {
        let subnet = self
            .ingress
            .subnets
            .iter()
            .find(|subnet| subnet.contains(&address))?;
        IpNet::new(address, subnet.prefix_len()).ok()
    }
}

const fn of_ipv4(address: &IpAddr) -> Option<MacAddr> {
    match address {
        IpAddr::V4(address) => Some(MacAddr::of_ipv4(*address)),
        IpAddr::V6(_) => None,
    }
}
