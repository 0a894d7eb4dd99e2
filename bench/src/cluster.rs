//! A cluster to measure in: eleven nodes, services of tasks that are spread over ten of them, and what the kernel of the
//! first node would say.

use essaim_abi::{MacAddr, Protocol};
use essaim_model::{
    AttachmentFacts, Catalog, Cluster, DesiredState, Endpoint, Liveness, Network, NetworkName, NextHop, Node,
    NodeFacts, NodeName, NodeState, Port, Service, ServiceName, ServiceNetwork, Task, TaskId, Uplink, Vni,
    plan,
};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nodes besides this one.
pub const OTHERS: u32 = 10;
/// The first interface index of a task on this node, where no real interface stands behind it.
const FIRST_IFINDEX: u32 = 100_000;
/// Addresses set aside for a service: its VIP and its tasks.
const STRIDE: u32 = 64;

/// What a cluster is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Services.
    pub services: u32,
    /// Tasks of each.
    pub tasks: u32,
    /// Every how many services one is published, at TCP and UDP ports from 1,024 on; 0: none.
    pub published_each: u32,
    /// Tasks of each service that are on this node.
    pub here: u32,
    /// The nodes' own addresses are IPv6.
    pub underlay_v6: bool,
    /// Networks have both families, else IPv4 alone.
    pub dual_stack: bool,
}

/// This node's name.
///
/// # Errors
/// Never: the name is well-formed.
pub fn this_node() -> anyhow::Result<NodeName> {
    Ok(NodeName::new("n0")?)
}

/// The underlay address of a node; 0 is this one.
pub fn vtep(node: u32, v6: bool) -> IpAddr {
    let low = u16::try_from(node + 1).unwrap_or(u16::MAX);
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low).into()
    } else {
        Ipv4Addr::from_bits(0xc000_0200 + u32::from(low)).into()
    }
}

/// An overlay address of network `app`.
pub fn overlay(number: u32, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(0xfd00_0001_u128 << 96 | u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }
}

/// The VIP of a service.
pub fn vip(service: u32, v6: bool) -> IpAddr {
    overlay((service + 1) * STRIDE, v6)
}

/// The address of a service's task.
pub fn task_address(service: u32, task: u32, v6: bool) -> IpAddr {
    overlay((service + 1) * STRIDE + 1 + task, v6)
}

/// The published port of a service.
pub fn published_port(service: u32) -> u16 {
    u16::try_from(1024 + service).unwrap_or(u16::MAX)
}

/// The network of all services.
///
/// # Errors
/// Never: the name is well-formed.
pub fn network_name() -> anyhow::Result<NetworkName> {
    Ok(NetworkName::new("app")?)
}

/// The name of a service.
///
/// # Errors
/// Never: the name is well-formed.
pub fn service_name(service: u32) -> anyhow::Result<ServiceName> {
    Ok(ServiceName::new(&format!("s{service}"))?)
}

/// The identity of a task.
///
/// # Errors
/// Never: the name is well-formed.
pub fn task_id(service: u32, task: u32) -> anyhow::Result<TaskId> {
    Ok(TaskId::new(&format!("s{service}.{task}"))?)
}

impl Shape {
    fn families(&self) -> &'static [bool] {
        if self.dual_stack { &[false, true] } else { &[false] }
    }

    /// The catalog.
    ///
    /// # Errors
    /// Never: all names and subnets are well-formed.
    pub fn catalog(&self) -> anyhow::Result<Catalog> {
        let subnets = |v4: &str, v6: &str| -> anyhow::Result<Vec<IpNet>> {
            let mut subnets = vec![v4.parse()?];
            if self.dual_stack {
                subnets.push(v6.parse()?);
            }
            Ok(subnets)
        };
        let node = |number: u32| -> anyhow::Result<Node> {
            let low = number + 2;
            let mut overlay = vec![IpAddr::from(Ipv4Addr::from_bits(0xac10_0000 + low))];
            if self.dual_stack {
                overlay.push(Ipv6Addr::from_bits(0xfd00_ffff_u128 << 96 | u128::from(low)).into());
            }
            let name = NodeName::new(&format!("n{number}"))?;
            Ok(Node {
                name,
                address: vtep(number, self.underlay_v6),
                overlay,
                state: NodeState::Up,
            })
        };
        let network = Network::new(
            network_name()?,
            Vni::new(4097)?,
            subnets("10.0.0.0/8", "fd00:1::/64")?,
        );
        Ok(Catalog {
            revision: 1,
            cluster: Cluster::new(subnets("172.16.0.0/16", "fd00:ffff::/64")?),
            nodes: (0..=OTHERS).map(node).collect::<anyhow::Result<_>>()?,
            networks: vec![network],
            services: (0..self.services)
                .map(|number| self.service(number))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    fn service(&self, number: u32) -> anyhow::Result<Service> {
        let mut service = Service::new(service_name(number)?);
        let vips = self.families().iter().map(|v6| vip(number, *v6)).collect();
        service.networks = vec![ServiceNetwork::new(network_name()?, vips)];
        service.tasks = (0..self.tasks)
            .map(|task| self.task(number, task))
            .collect::<anyhow::Result<_>>()?;
        if self.published_each != 0 && number.is_multiple_of(self.published_each) {
            let port = Port::new(published_port(number), 80);
            service.ports = vec![
                port,
                Port {
                    protocol: Protocol::Udp,
                    ..port
                },
            ];
        }
        Ok(service)
    }

    fn task(&self, service: u32, number: u32) -> anyhow::Result<Task> {
        let node = if number < self.here {
            0
        } else {
            1 + number % OTHERS
        };
        let addresses = self
            .families()
            .iter()
            .map(|v6| task_address(service, number, *v6))
            .collect();
        let id = task_id(service, number)?;
        let netns = id.to_string();
        Ok(Task {
            endpoints: vec![Endpoint::new(network_name()?, addresses)],
            ..Task::new(id, NodeName::new(&format!("n{node}"))?, netns)
        })
    }

    /// What this node's data plane should hold.
    ///
    /// # Errors
    /// Where the catalog contradicts itself.
    pub fn desired(&self) -> anyhow::Result<DesiredState> {
        let catalog = self.catalog()?;
        planned(&catalog, &Liveness::of(&catalog))
    }

    /// What the kernel would say: every VTEP reached through the uplink `uplink`, tasks on interfaces that are not there.
    pub fn facts(&self, desired: &DesiredState, uplink: Uplink) -> NodeFacts {
        let hop = |node: u32| NextHop {
            ifindex: uplink.ifindex,
            source: vtep(0, self.underlay_v6),
            source_mac: uplink.mac,
            destination_mac: MacAddr([2, 0, 0, 0, 1, u8::try_from(node).unwrap_or(u8::MAX)]),
            mtu: uplink.mtu,
        };
        let keys = desired.services.values().flat_map(|plan| plan.attachments.keys());
        let attached = |(ifindex, key): (u32, &essaim_model::AttachmentKey)| {
            (
                key.clone(),
                AttachmentFacts {
                    ifindex,
                    netns_cookie: u64::from(ifindex),
                    mtu: 1430,
                    resolver: None,
                },
            )
        };
        let attachments: BTreeMap<_, _> = (FIRST_IFINDEX..).zip(keys).map(attached).collect();
        NodeFacts {
            local_addresses: [vtep(0, false), vtep(0, true)].into(),
            vxlan_ifindex: 0,
            node_ifindex: 0,
            next_hops: (1..=OTHERS)
                .map(|node| (vtep(node, self.underlay_v6), hop(node)))
                .collect(),
            attachments,
            node_netns_cookie: 1,
            ipsec: false,
            uplinks: vec![uplink],
        }
    }
}

/// This node's plan of a catalog.
///
/// # Errors
/// Where the catalog contradicts itself.
pub fn planned(catalog: &Catalog, liveness: &Liveness) -> anyhow::Result<DesiredState> {
    Ok(plan(catalog, liveness, &this_node()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_breaks_no_rule() {
        let shape = Shape {
            services: 30,
            tasks: 10,
            published_each: 10,
            here: 1,
            underlay_v6: false,
            dual_stack: true,
        };
        let catalog = shape.catalog().unwrap();
        catalog.check().unwrap();
        let desired = shape.desired().unwrap();
        assert_eq!(
            desired
                .services
                .values()
                .filter(|plan| !plan.published.is_empty())
                .count(),
            3
        );
        assert_eq!(
            desired
                .services
                .values()
                .map(|plan| plan.attachments.len())
                .sum::<usize>(),
            30
        );
    }
}
