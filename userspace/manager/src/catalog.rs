//! The catalog of the nodes' data planes, out of the store. Pure.
//!
//! | the catalog's | is the store's |
//! |---|---|
//! | node | a node with an address, by its identity |
//! | network | a network of that name, with its VNI, subnets and gateways; the ingress network is [`Cluster`]'s |
//! | service | a service with its virtual addresses, ports and names |
//! | service of one task | a container of a node's own on one of the networks |
//! | task | a task that a node has and that is not over: *starting* until the store knows that it runs, *draining* once it is to stop |
//! | history | the sets of tasks that ran at once, as far as the store remembers them |
//!
//! What a data plane could not use is left out: a node that has not said where it is, a network that is about to be
//! allotted.

mod since;
#[cfg(test)]
mod tests;

pub use since::{Touched, catalog_after, catalog_since};

use crate::attachments::is_attachment;
use essaim_abi::Protocol;
use essaim_model::{
    Catalog, Cluster, ContainerId, Endpoint, HISTORY_GENERATIONS, HostName, InterfaceName, Network,
    NetworkName, Node, NodeName, NodeState, Port, PortMode, PortName, ResolverOption, Service, ServiceDns,
    ServiceName, ServiceNetwork, Task, TaskId, TaskState, Vni,
};
use essaim_objects as objects;
use essaim_objects::{MTU_OPTION, NetworkId, NodeId, PublishMode, ResolutionMode, Timestamp, VXLAN_OVERHEAD};
use essaim_protocol::{DEFAULT_ROUTE_OPTION, INTERFACE_OPTION};
use essaim_store::View;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The least MTU that a catalog can name, of an IPv4 network and of one with IPv6; and the most.
const LEAST_MTU: u32 = 576;
const LEAST_MTU_V6: u32 = 1280;
const MOST_MTU: u32 = 65_465;

/// The network namespace of a task, by its name in `/run/netns`: whoever runs the task makes it.
pub fn netns_of(task: objects::TaskId) -> String {
    format!("es-{task}")
}

/// That of a container that is not the cluster's. It has the name from the agent, once the node's engine has moved a link
/// there, or from the node's daemon before the agent makes one there.
pub fn handover_netns_of(task: objects::TaskId) -> String {
    format!("ec-{task}")
}

/// What the store says of the data planes.
pub fn catalog_of(view: &View) -> Catalog {
    let networks = networks(view);
    let nodes = nodes(view);
    let known = names_of(&nodes);
    let own = view
        .services()
        .filter_map(|service| self::service(view, service, &networks, &known));
    let attached = view
        .tasks()
        .filter_map(|task| attachment(view, task, &networks, &known));
    let services = own.chain(attached).collect();
    assembled(view, networks, services, nodes)
}

/// A catalog of what was made of a store, in a catalog's order.
fn assembled(
    view: &View,
    networks: BTreeMap<NetworkId, (NetworkName, Option<Network>)>,
    mut services: Vec<Service>,
    nodes: Vec<Node>,
) -> Catalog {
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let networks = networks.into_values().filter_map(|(_, network)| network);
    let mut networks: Vec<Network> = networks.collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Catalog {
        revision: view.index(),
        cluster: cluster(view),
        networks,
        services,
        nodes,
    }
}

fn names_of(nodes: &[Node]) -> BTreeSet<&NodeName> {
    nodes.iter().map(|node| &node.name).collect()
}

fn cluster(view: &View) -> Cluster {
    let ingress = view.ingress();
    let subnets = ingress.map(|network| network.subnets().map(|subnet| subnet.net).collect());
    let mut cluster = Cluster::new(subnets.unwrap_or_default());
    let port = view.cluster().and_then(|cluster| cluster.data_path_port);
    if let Some(port) = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
    {
        cluster.vxlan_port = port;
    }
    if let Some(ingress) = ingress {
        cluster.ingress_vni = vni(ingress).unwrap_or(cluster.ingress_vni);
        cluster.ingress_gateways = ingress.subnets().filter_map(|subnet| subnet.gateway).collect();
        cluster.ingress_mtu = mtu(ingress);
    }
    cluster
}

fn vni(network: &objects::Network) -> Option<Vni> {
    Vni::try_from(network.vni()?).ok()
}

/// The MTU of a network's endpoints, where one is asked for: the option is the underlay's, as it is Docker's.
fn mtu(network: &objects::Network) -> Option<u32> {
    let underlay: u32 = network.option(MTU_OPTION)?.parse().ok()?;
    let is_v6 = network.subnets().any(|subnet| subnet.net.addr().is_ipv6());
    // A network that takes its configuration from another has been checked without it.
    let least = if is_v6 { LEAST_MTU_V6 } else { LEAST_MTU };
    Some(underlay.saturating_sub(VXLAN_OVERHEAD).clamp(least, MOST_MTU))
}

/// The nodes that have said where they are, in the order of their names. Of several at one address, as after a node came
/// back under another identity, the one that is not down, or came last.
fn nodes(view: &View) -> Vec<Node> {
    let ingress = view.ingress().map(|network| network.id);
    let mut at: BTreeMap<IpAddr, (bool, Timestamp, Node)> = BTreeMap::new();
    for node in view.nodes() {
        let Some(address) = address_of(node) else { continue };
        let Ok(name) = NodeName::new(node.id.as_str()) else {
            continue;
        };
        let own = node
            .attachments
            .iter()
            .filter(|attachment| Some(attachment.network.id) == ingress);
        let overlay: Vec<IpAddr> = own
            .flat_map(|own| own.addresses.iter().map(IpNet::addr))
            .collect();
        if overlay.is_empty() && ingress.is_some() {
            continue;
        }
        let is_up = node.status.state != objects::NodeState::Down;
        let found = Node {
            name,
            address,
            overlay,
            state: if is_up { NodeState::Up } else { NodeState::Down },
        };
        let counts = (is_up, node.created_at);
        match at.get(&address) {
            Some((was_up, created, _)) if (*was_up, *created) > counts => {}
            Some(_) | None => drop(at.insert(address, (is_up, node.created_at, found))),
        }
    }
    let mut nodes: Vec<Node> = at.into_values().map(|(_, _, node)| node).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// The address of a node's VTEP.
fn address_of(node: &objects::Node) -> Option<IpAddr> {
    let status = &node.status;
    let given = status.data_path_addr.as_deref().filter(|given| !given.is_empty());
    let text = given.or(status.addr.as_deref())?;
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    text.parse().or_else(|_| with_port()).ok()
}

/// The networks by identity, with their names in the catalog; the ingress network has its place elsewhere.
fn networks(view: &View) -> BTreeMap<NetworkId, (NetworkName, Option<Network>)> {
    let network = |network: &objects::Network| {
        let subnets: Vec<_> = network.subnets().collect();
        if network.is_ingress() {
            return Some((NetworkName::ingress(), None));
        }
        if subnets.is_empty() {
            return None;
        }
        let name = NetworkName::new(network.name()).or_else(|_| NetworkName::new(network.id.as_str()));
        let own = Network {
            name: name.ok()?,
            vni: vni(network)?,
            gateways: subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
            subnets: subnets.iter().map(|subnet| subnet.net).collect(),
            internal: network.spec.internal == Some(true),
            encrypted: network.option("encrypted").is_some_and(|value| value != "false"),
            mtu: mtu(network),
        };
        Some((own.name.clone(), Some(own)))
    };
    let all = view
        .networks()
        .filter(|network| network.spec.config_only != Some(true));
    all.filter_map(|found| Some((found.id, network(found)?)))
        .collect()
}

fn service(
    view: &View,
    service: &objects::Service,
    networks: &BTreeMap<NetworkId, (NetworkName, Option<Network>)>,
    nodes: &BTreeSet<&NodeName>,
) -> Option<Service> {
    let mut own = Service::new(ServiceName::new(service.spec.name()).ok()?);
    let name_of = |id: NetworkId| networks.get(&id).map(|(name, _)| name.clone());
    let endpoint = service.endpoint.as_ref();
    let has_vips = service
        .spec
        .endpoint_spec
        .as_ref()
        .is_none_or(|spec| spec.mode() == ResolutionMode::Vip);
    for target in service.spec.networks() {
        let id = target
            .target
            .as_deref()
            .and_then(|id| id.parse::<NetworkId>().ok());
        let Some((id, name)) = id.and_then(|id| Some((id, name_of(id)?))) else {
            continue;
        };
        let vips = endpoint.into_iter().flat_map(objects::Endpoint::virtual_ips);
        let vips = vips.filter(|vip| has_vips && vip.network_id == id);
        let mut network = ServiceNetwork::new(name, vips.filter_map(|vip| Some(vip.addr?.addr())).collect());
        let aliases = target.aliases.iter().flatten();
        network.aliases = aliases.filter_map(|alias| HostName::new(alias).ok()).collect();
        if network.name == NetworkName::ingress() {
            network.vips.clear();
        }
        own.networks.push(network);
    }
    own.ports = endpoint
        .map(|endpoint| endpoint.ports().iter().filter_map(port).collect())
        .unwrap_or_default();
    own.dns = dns(&service.spec.task_template);
    let tasks: Vec<_> = view.tasks_of_service(service.id).collect();
    let mut live: Vec<Task> = tasks
        .iter()
        .filter_map(|task| self::task(task, &name_of, nodes))
        .collect();
    // Tasks of an earlier spec may be on networks that the service has left.
    for task in &live {
        for endpoint in &task.endpoints {
            let is_new = endpoint.network != NetworkName::ingress()
                && own
                    .networks
                    .iter()
                    .all(|network| network.name != endpoint.network);
            if is_new {
                own.networks
                    .push(ServiceNetwork::new(endpoint.network.clone(), Vec::new()));
            }
        }
    }
    if !own.ports.is_empty() {
        // Of a spec that published nothing, and on no network: they are about to be replaced.
        live.retain(|task| !task.endpoints.is_empty());
        own.history = history(&tasks);
    }
    own.tasks = live;
    Some(own)
}

/// A container that is not the cluster's, as a service of its own without virtual addresses, once it takes part in its
/// networks. Its name is its task's identity, which no service that is made later has: that one comes first.
fn attachment(
    view: &View,
    task: &objects::Task,
    networks: &BTreeMap<NetworkId, (NetworkName, Option<Network>)>,
    nodes: &BTreeSet<&NodeName>,
) -> Option<Service> {
    let is_joined = is_attachment(task) && task.status.state == objects::TaskState::Running;
    if !is_joined || view.service_by_name(task.id.as_str()).is_some() {
        return None;
    }
    let name_of = |id: NetworkId| networks.get(&id).map(|(name, _)| name.clone());
    let mut own = Service::new(ServiceName::new(task.id.as_str()).ok()?);
    let mut live = self::task(task, &name_of, nodes)?;
    live.netns = handover_netns_of(task.id);
    let container = task.spec.network_attachment.as_ref();
    let container = container.and_then(|spec| spec.container_id.as_deref());
    live.container = container.and_then(|id| ContainerId::new(id).ok());
    for target in task.spec.networks.iter().flatten() {
        let id = target.target.as_deref().and_then(|id| id.parse().ok());
        let Some(name) = id.and_then(name_of) else {
            continue;
        };
        let names = target.aliases.iter().flatten();
        let names = names.filter_map(|name| HostName::new(name).ok()).collect();
        let mut endpoints = live.endpoints.iter_mut();
        if let Some(endpoint) = endpoints.find(|endpoint| endpoint.network == name) {
            endpoint.aliases = names;
            let option = |option| {
                target
                    .driver_opts
                    .as_ref()
                    .and_then(|options| options.get(option))
            };
            let interface = option(INTERFACE_OPTION).and_then(|interface| InterfaceName::new(interface).ok());
            if interface.is_some() {
                endpoint.default_route = option(DEFAULT_ROUTE_OPTION).is_some_and(|value| value == "true");
                if endpoint.default_route {
                    own.default_network.get_or_insert_with(|| name.clone());
                }
            }
            live.handover |= interface.is_none();
            endpoint.interface = interface;
            own.networks.push(ServiceNetwork::new(name, Vec::new()));
        }
    }
    own.tasks = vec![live];
    Some(own)
}

fn port(port: &objects::PortConfig) -> Option<Port> {
    let published = port.published();
    let mut own = Port::new(published, port.target());
    own.protocol = match port.protocol() {
        objects::Protocol::Tcp => Protocol::Tcp,
        objects::Protocol::Udp => Protocol::Udp,
        objects::Protocol::Sctp => Protocol::Sctp,
    };
    own.mode = match port.publish_mode() {
        PublishMode::Ingress => PortMode::Ingress,
        PublishMode::Host => PortMode::Host,
    };
    own.name = port.name.as_deref().and_then(|name| PortName::new(name).ok());
    (published != 0).then_some(own)
}

fn dns(spec: &objects::TaskSpec) -> ServiceDns {
    let config = spec
        .container
        .as_ref()
        .and_then(|container| container.dns_config.as_ref());
    let Some(config) = config else {
        return ServiceDns::default();
    };
    ServiceDns {
        servers: config
            .nameservers
            .iter()
            .flatten()
            .filter_map(|server| server.parse().ok())
            .collect(),
        search: config
            .search
            .iter()
            .flatten()
            .filter_map(|domain| HostName::new(domain).ok())
            .collect(),
        options: config
            .options
            .iter()
            .flatten()
            .filter_map(|option| ResolverOption::new(option).ok())
            .collect(),
        external: None,
    }
}

fn task(
    task: &objects::Task,
    name_of: &impl Fn(NetworkId) -> Option<NetworkName>,
    nodes: &BTreeSet<&NodeName>,
) -> Option<Task> {
    let state = task.status.state;
    let node = NodeName::new(task.node_id.as_ref().map(NodeId::as_str)?).ok()?;
    if state < objects::TaskState::Assigned || state.is_over() || !nodes.contains(&node) {
        return None;
    }
    let mut own = Task::new(TaskId::new(task.id.as_str()).ok()?, node, netns_of(task.id));
    own.state = if task.desired_state > objects::TaskState::Complete {
        TaskState::Draining
    } else if state == objects::TaskState::Running {
        TaskState::Ready
    } else {
        TaskState::Starting
    };
    own.slot = task.slot.and_then(|slot| u32::try_from(slot).ok());
    let hostname = task
        .spec
        .container
        .as_ref()
        .and_then(|container| container.hostname.as_deref());
    own.hostname = hostname.and_then(|name| HostName::new(name).ok());
    for attachment in &task.networks_attachments {
        let addresses: Vec<IpAddr> = attachment.addresses.iter().map(IpNet::addr).collect();
        let Some(network) = name_of(attachment.network.id).filter(|_| !addresses.is_empty()) else {
            continue;
        };
        own.endpoints.push(Endpoint::new(network, addresses));
    }
    Some(own)
}

/// The sets of tasks that ran at once, newest first and without the one that runs now.
fn history(tasks: &[&std::sync::Arc<objects::Task>]) -> Vec<Vec<TaskId>> {
    // (when, whether it ended, which): who came and who went at one moment are taken one after the other.
    let mut events: Vec<(Timestamp, bool, objects::TaskId)> = Vec::new();
    for task in tasks {
        let Some(since) = task.running_since else { continue };
        events.push((since, false, task.id));
        events.extend(task.running_until.map(|until| (until.max(since), true, task.id)));
    }
    events.sort_unstable();
    let mut running = BTreeSet::new();
    let mut sets: Vec<Vec<TaskId>> = Vec::new();
    for (_, has_ended, id) in events {
        let set: Vec<TaskId> = running
            .iter()
            .filter_map(|id: &objects::TaskId| TaskId::new(id.as_str()).ok())
            .collect();
        if !set.is_empty() && sets.last() != Some(&set) {
            sets.push(set);
        }
        if has_ended {
            running.remove(&id);
        } else {
            running.insert(id);
        }
    }
    sets.reverse();
    sets.truncate(HISTORY_GENERATIONS);
    sets
}
