//! Services, with their ports and tasks.

use super::HealthCheck;
use crate::{
    ContainerId, HostName, InterfaceName, NetworkName, NodeName, PortName, ResolverOption, ServiceName,
    TaskId, TaskState, Timeouts,
};
use essaim_abi::{MacAddr, Protocol};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::net::IpAddr;

/// Which backend a client gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Every connection is balanced on its own.
    #[default]
    None,
    /// A client address keeps its backend.
    Client,
}

/// A set of tasks that do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Which backend a client gets.
    pub affinity: Affinity,
    /// The network of its tasks' default routes, which published ports go to. Where it is not given:
    /// [`Service::default_endpoint`].
    pub default_network: Option<NetworkName>,
    /// Earlier sets of ready tasks, newest first, which every node derives the same earlier owners of a slot from.
    /// They may name tasks that are no more.
    pub history: Vec<Vec<TaskId>>,
    /// The networks it is on, with its VIPs.
    pub networks: Vec<ServiceNetwork>,
    /// Its published ports.
    pub ports: Vec<Port>,
    /// Idle times of its flows.
    pub timeouts: Timeouts,
    /// How its tasks resolve names.
    pub dns: ServiceDns,
    /// How its tasks are checked. Without a check a task takes traffic as soon as the catalog calls it ready.
    pub health: Option<HealthCheck>,
    /// Its tasks, those that have gone but whose address is not free again included.
    pub tasks: Vec<Task>,
}

impl Service {
    /// Whether its flows go by their hash to a slot of a table, and so need the table's earlier owners.
    pub(crate) fn has_slots(&self) -> bool {
        !self.ports.is_empty() || self.affinity == Affinity::Client
    }

    /// The endpoint of one of its tasks that published ports go to and the default routes are on: on the network that the
    /// service names, else on one that is not internal, else with addresses of most families, else the task's first. It
    /// is of the task alone: while the service moves to other networks, its tasks are on different ones, and stay.
    pub fn default_endpoint<'t>(
        &self,
        task: &'t Task,
        is_internal: impl Fn(&NetworkName) -> bool,
    ) -> Option<&'t Endpoint> {
        let rank = |endpoint: &&Endpoint| {
            (
                self.default_network.as_ref() != Some(&endpoint.network),
                is_internal(&endpoint.network),
                Reverse(endpoint.addresses.len()),
            )
        };
        task.endpoints.iter().min_by_key(rank)
    }

    /// Whether its tasks may ask for names of the outside: what it says itself, else whether one of its networks is
    /// not internal (or it is on none but the ingress network).
    pub fn resolves_outside(&self, is_internal: impl Fn(&NetworkName) -> bool) -> bool {
        let mut networks = self.networks.iter();
        self.dns.external.unwrap_or_else(|| {
            self.networks.is_empty() || networks.any(|network| !is_internal(&network.name))
        })
    }

    /// A service without networks, ports and tasks.
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            affinity: Affinity::None,
            default_network: None,
            history: Vec::new(),
            networks: Vec::new(),
            ports: Vec::new(),
            timeouts: Timeouts::default(),
            dns: ServiceDns::default(),
            health: None,
            tasks: Vec::new(),
        }
    }
}

/// A service's place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// The network.
    pub name: NetworkName,
    /// Its VIPs there, at most one of a family.
    pub vips: Vec<IpAddr>,
    /// Its other names there; several services may have one, which then stands for all of them.
    pub aliases: Vec<HostName>,
}

impl ServiceNetwork {
    /// A place on a network with these VIPs and no alias.
    pub const fn new(name: NetworkName, vips: Vec<IpAddr>) -> Self {
        Self {
            name,
            vips,
            aliases: Vec::new(),
        }
    }
}

/// How the tasks of a service resolve names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceDns {
    /// The servers asked for names of the outside; none: those of the node.
    pub servers: Vec<IpAddr>,
    /// The domains that the tasks' resolvers try after a short name.
    pub search: Vec<HostName>,
    /// Further options of the tasks' resolvers.
    pub options: Vec<ResolverOption>,
    /// Whether names of the outside are asked for at all. Where it is not given: [`Service::resolves_outside`].
    pub external: Option<bool>,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// What clients of the nodes' addresses use.
    pub published: u16,
    /// What the tasks listen at.
    pub target: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Which nodes answer.
    pub mode: PortMode,
    /// How replies travel.
    pub replies: ReturnPath,
    /// Its name in SRV questions, beside its target's number.
    pub name: Option<PortName>,
}

impl Port {
    /// A TCP port on every node, with replies through the edge.
    pub const fn new(published: u16, target: u16) -> Self {
        Self {
            published,
            target,
            protocol: Protocol::Tcp,
            mode: PortMode::Ingress,
            replies: ReturnPath::Tunnel,
            name: None,
        }
    }
}

/// Which nodes answer a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortMode {
    /// Every node.
    #[default]
    Ingress,
    /// The nodes that run a task, each for its own tasks.
    Host,
}

/// How replies to clients of a published port travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnPath {
    /// Back through the node that the client asked.
    #[default]
    Tunnel,
    /// Straight from the task's node to the client, for networks that do not filter source addresses.
    Dsr,
}

/// A running copy of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// The node that runs it.
    pub node: NodeName,
    /// Its network namespace: a name under `/run/netns`, or a path.
    pub netns: String,
    /// How far it is, as far as the catalog's author knows.
    pub state: TaskState,
    /// Its number among the copies; kept by the task that replaces it.
    pub slot: Option<u32>,
    /// The host name it was given.
    pub hostname: Option<HostName>,
    /// The container it runs in.
    pub container: Option<ContainerId>,
    /// The folder of its control group (version 2). Once a process was in it and none is left, the task is gone.
    pub cgroup: Option<String>,
    /// The node's container engine moves its interfaces into its namespace, which comes into being later, and sets
    /// their names, addresses and routes there.
    pub handover: bool,
    /// Its endpoints, in the order of its interfaces (the default route's always comes first).
    pub endpoints: Vec<Endpoint>,
}

impl Task {
    /// A ready task without endpoints, in the namespace `netns`.
    pub fn new(id: TaskId, node: NodeName, netns: impl Into<String>) -> Self {
        Self {
            id,
            node,
            netns: netns.into(),
            state: TaskState::Ready,
            slot: None,
            hostname: None,
            container: None,
            cgroup: None,
            handover: false,
            endpoints: Vec::new(),
        }
    }
}

/// A task's attachment to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The network; `ingress` for the ingress network.
    pub network: NetworkName,
    /// At most one address of a family.
    pub addresses: Vec<IpAddr>,
    /// Its Ethernet address; else it is derived from its first address.
    pub mac: Option<MacAddr>,
    /// Its other names there.
    pub aliases: Vec<HostName>,
    /// What its interface is called; else `eth0`, `eth1`, … in the task's order.
    pub interface: Option<InterfaceName>,
    /// Whether the task's default route may lead through it; it does so for one of its endpoints.
    pub default_route: bool,
}

impl Endpoint {
    /// An endpoint with these addresses, and the Ethernet address, interface and default route that follow from them and
    /// the task's others.
    pub const fn new(network: NetworkName, addresses: Vec<IpAddr>) -> Self {
        Self {
            network,
            addresses,
            mac: None,
            aliases: Vec::new(),
            interface: None,
            default_route: true,
        }
    }

    /// Its Ethernet address: the one that was given, else `02:42` with the IPv4 address, else `02:42` with a hash of
    /// the IPv6 address.
    pub fn mac(&self) -> MacAddr {
        if let Some(mac) = self.mac {
            return mac;
        }
        let v4 = self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        v4.map_or_else(
            || self.addresses.first().map_or(MacAddr::default(), mac_of_hash),
            MacAddr::of_ipv4,
        )
    }
}

/// The Ethernet address of a node or task that has no IPv4 address.
pub(crate) fn mac_of_hash(address: &IpAddr) -> MacAddr {
    let [a, b, c, d, ..] = crate::stable_id(&address.to_string()).to_be_bytes();
    MacAddr([0x02, 0x42, a, b, c, d])
}
