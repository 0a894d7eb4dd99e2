//! Who is on a network.

use crate::find::{hostname, task_name};
use essaim_objects::{Endpoint, Network, NodeId, Task, TaskState};
use essaim_store::{ObjectId, View, mac};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The running tasks on a network, each with its addresses there.
fn tasks<'a>(view: &'a View, network: &'a Network) -> impl Iterator<Item = (&'a Arc<Task>, &'a [IpNet])> {
    let holders = view
        .addresses_on(network.id)
        .filter_map(|(_, holder)| match holder {
            ObjectId::Task(id) => Some(id),
            _ => None,
        });
    let tasks: BTreeSet<_> = holders.collect();
    let tasks = tasks.into_iter().filter_map(|id| view.task(id));
    tasks
        .filter(|task| task.status.state == TaskState::Running)
        .filter_map(|task| {
            let attachments = task.networks_attachments.iter();
            let mut here = attachments.filter(|attachment| attachment.network.id == network.id);
            Some((task, here.next()?.addresses.as_slice()))
        })
}

fn of_family(addresses: &[IpNet], is_v6: bool) -> String {
    let found = addresses.iter().find(|address| address.addr().is_ipv6() == is_v6);
    found.map(ToString::to_string).unwrap_or_default()
}

/// Those of a node, by their containers.
pub(super) fn containers(view: &View, network: &Network, node: Option<NodeId>) -> Value {
    let mut containers = Map::new();
    for (task, addresses) in tasks(view, network).filter(|(task, _)| task.node_id == node) {
        let container = task.status.container_status.as_ref();
        let container = container.and_then(|container| container.container_id.clone());
        let attached = task.spec.network_attachment.as_ref();
        let container = container.or_else(|| attached.and_then(|attached| attached.container_id.clone()));
        // One that is not the cluster's is called what the node's engine calls it.
        let mut names = task
            .spec
            .networks
            .iter()
            .flatten()
            .flat_map(|network| network.aliases.iter().flatten());
        let name = names.next().filter(|_| attached.is_some()).cloned();
        let shown = json!({
            "Name": name.unwrap_or_else(|| task_name(task, view)),
            "EndpointID": task.id,
            "MacAddress": mac(addresses).to_string(),
            "IPv4Address": of_family(addresses, false),
            "IPv6Address": of_family(addresses, true),
        });
        containers.insert(container.unwrap_or_else(|| task.id.to_string()), shown);
    }
    Value::Object(containers)
}

/// The nodes that have tasks on it.
pub(super) fn peers(view: &View, network: &Network) -> Value {
    let nodes: BTreeSet<_> = tasks(view, network)
        .filter_map(|(task, _)| task.node_id)
        .collect();
    let nodes = nodes.into_iter().filter_map(|id| view.node(id));
    let shown = nodes
        .map(|node| json!({ "Name": hostname(node), "IP": node.status.addr.as_deref().unwrap_or_default() }));
    Value::Array(shown.collect())
}

/// Its services with their tasks, by name.
pub(super) fn services(view: &View, network: &Network) -> Value {
    let mut services = Map::new();
    for service in view.services_on_network(network.id) {
        let endpoint = service.endpoint.as_ref();
        let virtual_ips = endpoint.map(Endpoint::virtual_ips).unwrap_or_default();
        let virtual_ip = virtual_ips.iter().find(|vip| vip.network_id == network.id);
        let virtual_ip = virtual_ip.and_then(|vip| vip.addr);
        let own = tasks(view, network).filter(|(task, _)| task.service_id == Some(service.id));
        let own: Vec<_> = own
            .map(|(task, addresses)| shown(view, task, addresses))
            .collect();
        let shown = json!({
            "VIP": virtual_ip.map(|address| address.addr().to_string()).unwrap_or_default(),
            "Ports": [],
            "LocalLBIndex": 0,
            "Tasks": own,
        });
        services.insert(service.spec.name().to_owned(), shown);
    }
    Value::Object(services)
}

fn shown(view: &View, task: &Task, addresses: &[IpNet]) -> Value {
    let node = task.node_id.and_then(|id| view.node(id));
    let host = node
        .and_then(|node| node.status.addr.as_deref())
        .unwrap_or_default();
    let address = addresses.first().map(|address| address.addr().to_string());
    json!({
        "Name": task_name(task, view),
        "EndpointID": task.id,
        "EndpointIP": address.unwrap_or_default(),
        "Info": { "Host IP": host },
    })
}
