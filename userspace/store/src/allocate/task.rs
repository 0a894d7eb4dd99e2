//! The addresses of tasks and nodes.

use super::addresses::{Purpose, pick};
use super::{NotAllocated, Why, wants_to_run};
use crate::View;
use essaim_objects::{Network, NetworkAttachment, NetworkId, Node, Task, TaskState};
use ipnet::IpNet;
use std::sync::Arc;

/// The message of a task that has everything but a node. Swarm's.
const PENDING: &str = "pending task scheduling";

/// The network of an identity, which has addresses.
pub(super) fn network<'a>(
    work: &'a View,
    target: &str,
    what: impl FnOnce() -> String,
) -> Result<&'a Arc<Network>, NotAllocated> {
    let found = target.parse::<NetworkId>().ok().and_then(|id| work.network(id));
    match found {
        None => Err(NotAllocated {
            what: what(),
            why: Box::new(Why::NoNetwork {
                network: target.to_owned(),
            }),
        }),
        Some(found) if found.spec.config_only == Some(true) => Err(NotAllocated {
            what: what(),
            why: Box::new(Why::ConfigOnly {
                network: found.name().to_owned(),
            }),
        }),
        Some(found) => Ok(found),
    }
}

/// Whether a task waits for what it needs.
pub(super) fn is_due(work: &View, task: &Task) -> bool {
    let is_new = task.status.state == TaskState::New;
    let lacks = || task.networks_attachments.is_empty() && !targets(work, task).is_empty();
    wants_to_run(task) && !task.status.state.is_over() && (is_new || lacks())
}

/// Completes a task: an address of each family on each of its networks, and it waits for a node. All or nothing.
pub(super) fn complete(work: &View, task: &mut Task) -> Result<(), NotAllocated> {
    match attachments(work, task) {
        Ok(attachments) => {
            task.networks_attachments.extend(attachments);
            if task.status.state == TaskState::New {
                task.status.state = TaskState::Pending;
                task.status.message = Some(PENDING.to_owned());
                task.status.err = None;
            }
            Ok(())
        }
        Err(error) => {
            task.status.err = Some(error.to_string());
            Err(error)
        }
    }
}

fn attachments(work: &View, task: &Task) -> Result<Vec<NetworkAttachment>, NotAllocated> {
    let mut attachments: Vec<NetworkAttachment> = Vec::new();
    for target in targets(work, task) {
        let network = network(work, &target, || format!("an address to task {}", task.id))?;
        let mut has = task.networks_attachments.iter().chain(&attachments);
        if !has.any(|attachment| attachment.network.id == network.id) {
            attachments.push(NetworkAttachment::new(network.id, addresses(work, network)?));
        }
    }
    Ok(attachments)
}

/// An address of each family.
fn addresses(work: &View, network: &Network) -> Result<Vec<IpNet>, NotAllocated> {
    network
        .subnets()
        .map(|subnet| pick(work, network, &subnet, Purpose::Task))
        .collect()
}

/// The networks that a task is on, by identity: those of its spec, else of its service's; else, where its service
/// publishes ports, the ingress network. (With networks of its own, published ports reach it there.)
fn targets(work: &View, task: &Task) -> Vec<String> {
    let named = task.spec.networks.as_deref().unwrap_or_default();
    let service = task.service_id.and_then(|id| work.service(id));
    let named = match service {
        Some(service) if named.is_empty() => service.spec.networks.as_deref().unwrap_or_default(),
        _ => named,
    };
    if named.is_empty() {
        let is_published = service.is_some_and(|service| service.spec.publishes());
        let ingress = work.ingress().filter(|_| is_published);
        return ingress
            .map(|network| network.id.to_string())
            .into_iter()
            .collect();
    }
    named
        .iter()
        .filter_map(|network| network.target.clone())
        .collect()
}

/// Whether a node lacks its address on the ingress network, or has one on a network that is no more.
pub(super) fn is_node_due(work: &View, node: &Node) -> bool {
    let ingress = work.ingress().map(|network| network.id);
    let has = |id| {
        node.attachments
            .iter()
            .any(|attachment| attachment.network.id == id)
    };
    let is_stray = |attachment: &NetworkAttachment| work.network(attachment.network.id).is_none();
    ingress.is_some_and(|id| !has(id)) || node.attachments.iter().any(is_stray)
}

/// Completes a node: an address of each family on the ingress network.
pub(super) fn complete_node(work: &View, node: &mut Node) -> Result<(), NotAllocated> {
    node.attachments
        .retain(|attachment| work.network(attachment.network.id).is_some());
    let Some(ingress) = work.ingress() else {
        return Ok(());
    };
    if node
        .attachments
        .iter()
        .all(|attachment| attachment.network.id != ingress.id)
    {
        let addresses = addresses(work, ingress)?;
        node.attachments
            .push(NetworkAttachment::new(ingress.id, addresses));
    }
    Ok(())
}
