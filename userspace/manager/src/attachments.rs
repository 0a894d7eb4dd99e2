//! Containers of nodes that are not the cluster's on networks that are. Pure.
//!
//! Each is a task that nobody decides about: of no service, with the runtime `attachment`, held by its node. The node says
//! which it has, all of them every time ([`Attachments`]), and the store follows.

use essaim_objects::{
    Network, NetworkAttachment, NetworkAttachmentSpec, NetworkId, NetworkTarget, NodeId, Runtime, Task,
    TaskSpec, TaskState, Timestamp,
};
use essaim_protocol::{
    AttachedContainer, Attachments, AttachmentsHeld, ContainerInterface, ContainerNetwork,
    DEFAULT_ROUTE_OPTION, INTERFACE_OPTION, Place, RefusedContainer,
};
use essaim_store::{MAX_CHANGES, ObjectId, Transaction, View};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a container is not attached. The first two are Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAttached {
    #[error("network {network} not found")]
    NoNetwork { network: String },
    #[error("network {network} not manually attachable")]
    NotAttachable { network: String },
    #[error("address {address} is not in a subnet of network {network}; choose one of {subnets}")]
    Outside {
        address: IpAddr,
        network: String,
        subnets: String,
    },
    #[error("address {address} on network {network} is in use by {by}; choose another")]
    Taken {
        address: IpAddr,
        network: String,
        by: ObjectId,
    },
    #[error("task {task} is not an attachment of this node")]
    NotIts { task: essaim_objects::TaskId },
    #[error(
        "no address was named for network {network}, and one is chosen only for a new container's first network"
    )]
    NoAddress { network: String },
}

/// Whether a task is a container of a node that is not the cluster's.
pub(crate) fn is_attachment(task: &Task) -> bool {
    task.spec.runtime == Some(Runtime::Attachment)
}

/// The network of a name, an identity, or the only one whose identity begins so.
pub(crate) fn find_network<'a>(view: &'a View, text: &str) -> Option<&'a Arc<Network>> {
    let exact = text.parse().ok().and_then(|id| view.network(id));
    exact.or_else(|| view.network_by_name(text)).or_else(|| {
        let mut found = view
            .networks()
            .filter(|network| !text.is_empty() && network.id.as_str().starts_with(text));
        found.next().filter(|_| found.next().is_none())
    })
}

/// What makes the store hold what a node says it has, as far as one transaction goes: empty where it does. What goes comes
/// first, so that its addresses are free for what comes.
pub(crate) fn hold(view: &View, node: NodeId, said: &Attachments, now: Timestamp) -> Transaction {
    let mut transaction = Transaction::new();
    let own = || view.tasks_on_node(node).filter(|task| is_attachment(task));
    let wanted: BTreeMap<_, _> = said
        .containers
        .iter()
        .filter_map(|container| Some((container.task, wanted(view, node, said, container).ok()?)))
        .collect();
    for task in own().filter(|task| !wanted.contains_key(&task.id)) {
        transaction.remove(task.clone());
    }
    for (container, wanted) in said
        .containers
        .iter()
        .filter_map(|container| Some((container, wanted.get(&container.task)?)))
    {
        let old = view.task(container.task);
        let mut task = old.map_or_else(
            || Task::new(container.task, None, Arc::new(TaskSpec::default())),
            |old| Task::clone(old),
        );
        task.node_id = Some(node);
        if *task.spec != wanted.spec {
            task.spec = Arc::new(wanted.spec.clone());
        }
        // None of a new one: they are chosen as it is made.
        if !wanted.attachments.is_empty() {
            task.networks_attachments.clone_from(&wanted.attachments);
        }
        let state = if container.is_joined {
            TaskState::Running
        } else {
            TaskState::Ready
        };
        if task.status.state != state {
            task.status.state = state;
            task.status.timestamp = Some(now);
            task.status.message = Some(if container.is_joined { "attached" } else { "kept" }.to_owned());
        }
        match old {
            None => drop(transaction.create(task)),
            // States never go back: nodes have another task for what is kept.
            Some(old) if old.status.state > state => drop(transaction.remove(Arc::clone(old))),
            Some(old) if **old != task => drop(transaction.update(task)),
            Some(_) => {}
        }
    }
    transaction.changes.truncate(MAX_CHANGES);
    transaction
}

/// What a node's containers have, once the store follows.
pub(crate) fn held(view: &View, node: NodeId, said: &Attachments) -> AttachmentsHeld {
    let mut held = AttachmentsHeld::default();
    for container in &said.containers {
        let refused = |why: String| RefusedContainer {
            task: container.task,
            why,
        };
        if let Err(why) = wanted(view, node, said, container) {
            held.refused.push(refused(why.to_string()));
            continue;
        }
        let task = view.task(container.task);
        let attachments = task
            .map(|task| &task.networks_attachments[..])
            .unwrap_or_default();
        if attachments.is_empty() && !container.networks.is_empty() {
            let why = task.and_then(|task| task.status.err.clone());
            held.refused
                .push(refused(why.unwrap_or_else(|| "it has no address".to_owned())));
            continue;
        }
        held.places.extend(attachments.iter().map(|attachment| Place {
            task: container.task,
            network: attachment.network.id,
            addresses: attachment.addresses.clone(),
        }));
    }
    held
}

/// What a container's task is to be.
struct Wanted {
    spec: TaskSpec,
    /// None where they are to be chosen.
    attachments: Vec<NetworkAttachment>,
}

fn wanted(
    view: &View,
    node: NodeId,
    said: &Attachments,
    container: &AttachedContainer,
) -> Result<Wanted, NotAttached> {
    let old = view.task(container.task);
    if old.is_some_and(|old| !is_attachment(old) || old.node_id != Some(node)) {
        return Err(NotAttached::NotIts { task: container.task });
    }
    let has = old.map(|old| &old.networks_attachments[..]).unwrap_or_default();
    let mut attachments = Vec::new();
    for asked in &container.networks {
        let network = usable(view, node, asked)?;
        let addresses = if asked.addresses.is_empty() {
            let kept = has.iter().find(|attachment| attachment.network.id == network.id);
            match kept {
                Some(kept) => kept.addresses.clone(),
                None if container.networks.len() == 1 => continue,
                None => {
                    let network = network.name().to_owned();
                    return Err(NotAttached::NoAddress { network });
                }
            }
        } else {
            named(view, node, said, container, (network, asked))?
        };
        attachments.push(NetworkAttachment::new(network.id, addresses));
    }
    let options = |interface: &ContainerInterface| {
        let default = (DEFAULT_ROUTE_OPTION.to_owned(), interface.is_default.to_string());
        BTreeMap::from([(INTERFACE_OPTION.to_owned(), interface.name.clone()), default])
    };
    let target = |asked: &ContainerNetwork| NetworkTarget {
        target: Some(asked.network.to_string()),
        aliases: Some(asked.names.clone()).filter(|names| !names.is_empty()),
        driver_opts: asked.interface.as_ref().map(options),
        ..NetworkTarget::default()
    };
    let spec = TaskSpec {
        runtime: Some(Runtime::Attachment),
        network_attachment: Some(NetworkAttachmentSpec {
            container_id: container.container.clone(),
            ..NetworkAttachmentSpec::default()
        }),
        networks: Some(container.networks.iter().map(target).collect()),
        ..TaskSpec::default()
    };
    Ok(Wanted { spec, attachments })
}

/// The network, where containers may be on it, or one of the node's is.
fn usable<'a>(
    view: &'a View,
    node: NodeId,
    asked: &ContainerNetwork,
) -> Result<&'a Arc<Network>, NotAttached> {
    let Some(network) = view.network(asked.network) else {
        let network = asked.network.to_string();
        return Err(NotAttached::NoNetwork { network });
    };
    let is_open = network.spec.attachable == Some(true)
        && !network.is_ingress()
        && network.spec.config_only != Some(true);
    // What has been let in stays.
    if !is_open && !has_place(view, node, network.id) {
        let network = network.name().to_owned();
        return Err(NotAttached::NotAttachable { network });
    }
    Ok(network)
}

fn has_place(view: &View, node: NodeId, network: NetworkId) -> bool {
    let mut own = view.tasks_on_node(node).filter(|task| is_attachment(task));
    own.any(|task| {
        task.networks_attachments
            .iter()
            .any(|attachment| attachment.network.id == network)
    })
}

/// The addresses that were named, with their subnets' prefixes, where nobody else has them. Of several containers that name
/// one, the first gets it; what another of the node's attachments had, and does not name any more, is free.
fn named(
    view: &View,
    node: NodeId,
    said: &Attachments,
    container: &AttachedContainer,
    asked: (&Network, &ContainerNetwork),
) -> Result<Vec<IpNet>, NotAttached> {
    let (network, asked) = asked;
    let name = || network.name().to_owned();
    let taken = |address, by| NotAttached::Taken {
        address,
        network: name(),
        by,
    };
    let place_of = |other: &AttachedContainer| {
        let mut places = other.networks.iter();
        places.find(|place| place.network == asked.network).cloned()
    };
    let names = |other: &&AttachedContainer, address| {
        place_of(other).is_some_and(|place| place.addresses.contains(&address))
    };
    let gives_up = |holder| {
        let own = view.task(holder).filter(|task| is_attachment(task));
        let mut others = said.containers.iter();
        let keeps = others.any(|other| {
            other.task == holder && place_of(other).is_some_and(|place| place.addresses.is_empty())
        });
        own.is_some_and(|task| task.node_id == Some(node)) && !keeps
    };
    asked
        .addresses
        .iter()
        .map(|&address| {
            let mut subnets = network.subnets();
            let subnet = subnets.find(|subnet| subnet.net.contains(&address));
            let subnet = subnet.ok_or_else(|| NotAttached::Outside {
                address,
                network: name(),
                subnets: network
                    .subnets()
                    .map(|subnet| subnet.net.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
            let first = said.containers.iter().find(|other| names(other, address));
            if let Some(other) = first.filter(|first| first.task != container.task) {
                return Err(taken(address, other.task.into()));
            }
            match view.holder_of_address(network.id, address) {
                None => {}
                Some(ObjectId::Task(holder)) if holder == container.task || gives_up(holder) => {}
                Some(by) => return Err(taken(address, by)),
            }
            Ok(IpNet::new(address, subnet.net.prefix_len()).unwrap_or_else(|_| address.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
