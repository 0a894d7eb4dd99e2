//! What should be: the cluster's nodes, networks, services and tasks, as one authority wrote them down.
//!
//! The types are plain so that tools can put a catalog together; [`Catalog::parse`] and [`Catalog::check`] hold
//! every rule. `docs/catalog.md` describes the file.

mod check;
mod delta;
mod errors;
mod health;
mod path;
mod read;
mod schema;
mod service;
mod values;
mod write;

pub use delta::{CatalogDelta, Changes, DeltaError};
pub use errors::{CatalogError, CatalogErrors, Place, Problem};
pub use health::{HealthCheck, HealthTest};
pub(crate) use service::mac_of_hash;
pub use service::{
    Affinity, Endpoint, Port, PortMode, ReturnPath, Service, ServiceDns, ServiceNetwork, Task,
};

use crate::{NetworkName, NodeName, ServiceName, TaskId, TaskState, Vni};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The node's ports that masqueraded flows of tasks are given, and that cannot be published.
pub const MASQUERADE_PORTS: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// How many earlier memberships of a service are remembered: a rolling replacement makes two for each task.
pub const HISTORY_GENERATIONS: usize = 16;
/// How many DNS servers a service can name: all are asked at once.
pub const SERVICE_MAX_DNS_SERVERS: usize = 8;
/// How many networks a task can be on.
pub const TASK_MAX_NETWORKS: usize = essaim_abi::NETNS_MAX_NETWORKS;

/// Everything that should be, with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// Grows with every change.
    pub revision: u64,
    /// `[cluster]`.
    pub cluster: Cluster,
    /// `[[nodes]]`.
    pub nodes: Vec<Node>,
    /// `[[networks]]`.
    pub networks: Vec<Network>,
    /// `[[services]]`.
    pub services: Vec<Service>,
}

impl Catalog {
    /// Checks every rule, for a catalog that was put together by a program.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), CatalogErrors> {
        let findings = check::findings(self, &std::collections::BTreeSet::new());
        if findings.is_empty() {
            return Ok(());
        }
        let name_of = |section: &str, index: usize| match section {
            "nodes" => self.nodes.get(index).map(|node| node.name.to_string()),
            "networks" => self.networks.get(index).map(|network| network.name.to_string()),
            "services" => self.services.get(index).map(|service| service.name.to_string()),
            _ => None,
        };
        let errors = findings.into_iter().map(|(path, problem)| CatalogError {
            place: None,
            path: path::render(&path, name_of),
            problem,
        });
        Err(CatalogErrors(errors.collect()))
    }

    /// The network that every catalog has: the nodes' own addresses, and the tasks of published services that are on
    /// no other.
    pub fn ingress_network(&self) -> Network {
        let Cluster {
            ingress_vni,
            ingress_subnets,
            ingress_gateways,
            ingress_mtu,
            ..
        } = &self.cluster;
        let mut network = Network::new(NetworkName::ingress(), *ingress_vni, ingress_subnets.clone());
        network.gateways.clone_from(ingress_gateways);
        network.mtu = *ingress_mtu;
        network
    }

    /// Remembers which tasks of the service are ready, before a change of them: flows that belong to a task by
    /// today's table then still find it. Does nothing where there is no such service, none of its tasks is ready, or
    /// the newest generation is the same.
    pub fn record_generation(&mut self, service: &ServiceName) {
        let down = |name: &NodeName| {
            let mut nodes = self.nodes.iter();
            nodes.any(|node| node.name == *name && node.state == NodeState::Down)
        };
        let Some(service) = self
            .services
            .iter_mut()
            .find(|candidate| candidate.name == *service)
        else {
            return;
        };
        let ready = service
            .tasks
            .iter()
            .filter(|task| task.state == TaskState::Ready && !down(&task.node));
        let generation: Vec<TaskId> = ready.map(|task| task.id.clone()).collect();
        if generation.is_empty() || service.history.first() == Some(&generation) {
            return;
        }
        service.history.insert(0, generation);
        service.history.truncate(HISTORY_GENERATIONS);
    }
}

/// What holds for every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// UDP and TCP port of gossip.
    pub gossip_port: u16,
    /// TCP port of the managers.
    pub manager_port: u16,
    /// The VNI between the edge and the backend's node.
    pub ingress_vni: Vni,
    /// The ingress network: the nodes' overlay addresses and the tasks of published services without a network.
    /// At most one subnet of a family.
    pub ingress_subnets: Vec<IpNet>,
    /// Its gateways, as those of a [`Network`].
    pub ingress_gateways: Vec<IpAddr>,
    /// Its MTU, as that of a [`Network`].
    pub ingress_mtu: Option<u32>,
}

impl Cluster {
    /// The usual ports and VNI, with these ingress subnets.
    pub const fn new(ingress_subnets: Vec<IpNet>) -> Self {
        Self {
            vxlan_port: 4789,
            gossip_port: 7946,
            manager_port: 2377,
            ingress_vni: Vni::INGRESS,
            ingress_subnets,
            ingress_gateways: Vec::new(),
            ingress_mtu: None,
        }
    }
}

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its VTEP: the underlay address it sends and receives VXLAN at.
    pub address: IpAddr,
    /// Its own addresses in the overlay, one in each ingress subnet.
    pub overlay: Vec<IpAddr>,
    /// Whether it runs, as far as the catalog's author knows.
    pub state: NodeState,
}

/// Whether a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It runs.
    #[default]
    Up,
    /// Its tasks count as gone.
    Down,
}

/// An overlay network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its VNI.
    pub vni: Vni,
    /// One or two subnets, one of a family.
    pub subnets: Vec<IpNet>,
    /// Its gateways, at most one of a family; where a family has none, the subnet's first host address is it.
    pub gateways: Vec<IpAddr>,
    /// Nothing leaves the network.
    pub internal: bool,
    /// Its traffic between nodes must be encrypted.
    pub encrypted: bool,
    /// MTU of its endpoints, in bytes; else it is derived from the underlay. Too high and full-size packets need
    /// fragments or are answered with "too big", too low and every packet carries less than it could.
    pub mtu: Option<u32>,
}

impl Network {
    /// A network with one or two subnets and no options.
    pub const fn new(name: NetworkName, vni: Vni, subnets: Vec<IpNet>) -> Self {
        Self {
            name,
            vni,
            subnets,
            gateways: Vec::new(),
            internal: false,
            encrypted: false,
            mtu: None,
        }
    }

    /// The gateway of each subnet: the one that was named, else the first host address.
    pub fn gateway_of(&self, subnet: IpNet) -> IpAddr {
        let named = self
            .gateways
            .iter()
            .copied()
            .find(|gateway| subnet.contains(gateway));
        named.unwrap_or_else(|| first_host(subnet))
    }
}

/// The address after the network's own.
pub(crate) fn first_host(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(address) => (u32::from(address) | 1).to_be_bytes().into(),
        IpAddr::V6(address) => (u128::from(address) | 1).to_be_bytes().into(),
    }
}
