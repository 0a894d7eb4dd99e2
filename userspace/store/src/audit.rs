//! Looks for leaks and double holdings. The store makes them impossible; this is the second opinion, worked out from the
//! objects alone.

use crate::{Holding, Object, ObjectId, View, holding};
use essaim_objects::{NetworkId, NodeId, ServiceId, TaskId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Finding {
    /// Two objects have the same: a bug.
    #[error("{what} is held by both {one} and {other}")]
    Double {
        /// What they have.
        what: Holding,
        /// One.
        one: ObjectId,
        /// The other.
        other: ObjectId,
    },
    /// Something is taken for an object that does not have it: a bug.
    #[error("{what} is taken for {by}, which does not have it")]
    Leaked {
        /// What is taken.
        what: Holding,
        /// For whom.
        by: ObjectId,
    },
    /// Something is not taken that an object has: a bug.
    #[error("{what} of {by} is not taken")]
    Untaken {
        /// What it has.
        what: Holding,
        /// Who has it.
        by: ObjectId,
    },
    /// A subnet is taken that is no network's: a bug.
    #[error("subnet {subnet} is taken for network {network}, which does not have it")]
    LeakedSubnet {
        /// The subnet.
        subnet: IpNet,
        /// For whom.
        network: NetworkId,
    },
    /// Two networks share addresses: a bug.
    #[error("subnet {subnet} of network {network} overlaps {other}")]
    Overlap {
        /// One subnet.
        subnet: IpNet,
        /// Whose it is.
        network: NetworkId,
        /// The other.
        other: IpNet,
    },
    /// Indexes and objects differ: a bug.
    #[error("index of {what} has {found} entries, expected {expected}")]
    Index {
        /// Which.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many the objects make.
        expected: usize,
    },
    /// A place for searches is kept for a network that is gone: a bug.
    #[error("the last addresses of network {network} are kept, which does not exist")]
    Cursor {
        /// The network.
        network: NetworkId,
    },
    /// A task outlived its service; it should be stopped and removed.
    #[error("task {task} is of service {service}, which does not exist")]
    OfNoService {
        /// The task.
        task: TaskId,
        /// The service.
        service: ServiceId,
    },
    /// A task outlived its node; it should be removed.
    #[error("task {task} is on node {node}, which does not exist")]
    OfNoNode {
        /// The task.
        task: TaskId,
        /// The node.
        node: NodeId,
    },
    /// A service has a virtual address on a network that it is not on.
    #[error("service {service} has a virtual address on network {network}, which it is not on")]
    NeedlessVip {
        /// The service.
        service: ServiceId,
        /// The network.
        network: NetworkId,
    },
    /// A service has ports that it does not ask for.
    #[error("service {service} has {found} ports, expected the {expected} that it asks for")]
    NeedlessPorts {
        /// The service.
        service: ServiceId,
        /// How many it has.
        found: usize,
        /// How many it asks for.
        expected: usize,
    },
}

/// What should not be, sorted; nothing in a store that is well, but for tasks that are about to be removed with their
/// service or node.
pub fn audit(view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    holdings(view, &mut findings);
    subnets(view, &mut findings);
    tasks(view, &mut findings);
    services(view, &mut findings);
    let gone = view
        .cursors
        .keys()
        .filter(|network| view.network(**network).is_none());
    findings.extend(gone.map(|network| Finding::Cursor { network: *network }));
    findings.sort();
    findings
}

fn all(view: &View) -> impl Iterator<Item = Object> + '_ {
    let clusters = view.clusters.values().cloned().map(Object::Cluster);
    let nodes = view.nodes().cloned().map(Object::Node);
    let networks = view.networks().cloned().map(Object::Network);
    let services = view.services().cloned().map(Object::Service);
    let tasks = view.tasks().cloned().map(Object::Task);
    clusters.chain(nodes).chain(networks).chain(services).chain(tasks)
}

fn holdings(view: &View, findings: &mut Vec<Finding>) {
    let mut held: BTreeMap<Holding, ObjectId> = BTreeMap::new();
    for object in all(view) {
        let by = object.id();
        for what in holding::holdings(&object) {
            if let Some(one) = held.insert(what, by) {
                findings.push(Finding::Double { what, one, other: by });
            }
            if view.holders.get(&what) != Some(&by) {
                findings.push(Finding::Untaken { what, by });
            }
        }
    }
    for (what, by) in &view.holders {
        if held.get(what) != Some(by) {
            findings.push(Finding::Leaked { what: *what, by: *by });
        }
    }
}

fn subnets(view: &View, findings: &mut Vec<Finding>) {
    let networks = view
        .networks()
        .flat_map(|network| network.subnets().map(|subnet| (subnet.net, network.id)));
    let mut owned: Vec<(IpNet, NetworkId)> = networks.collect();
    owned.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    for pair in owned.windows(2) {
        if let [(other, _), (subnet, network)] = pair
            && other.contains(subnet)
        {
            findings.push(Finding::Overlap {
                subnet: *subnet,
                network: *network,
                other: *other,
            });
        }
    }
    let known: BTreeSet<_> = owned.iter().collect();
    let leaked = view.subnets.values().filter(|taken| !known.contains(taken));
    findings.extend(leaked.map(|&(subnet, network)| Finding::LeakedSubnet { subnet, network }));
    if view.subnets.len() < owned.len() {
        findings.push(Finding::Index {
            what: "subnets",
            found: view.subnets.len(),
            expected: owned.len(),
        });
    }
}

fn tasks(view: &View, findings: &mut Vec<Finding>) {
    for task in view.tasks() {
        if let Some(service) = task.service_id.filter(|service| view.service(*service).is_none()) {
            findings.push(Finding::OfNoService {
                task: task.id,
                service,
            });
        }
        if let Some(node) = task.node_id.filter(|node| view.node(*node).is_none()) {
            findings.push(Finding::OfNoNode { task: task.id, node });
        }
    }
    let count =
        |is_counted: fn(&essaim_objects::Task) -> bool| view.tasks().filter(|task| is_counted(task)).count();
    for (what, found, expected) in [
        ("tasks by state", view.tasks_by_state.len(), view.tasks.len()),
        (
            "tasks by slot",
            view.tasks_by_slot.len(),
            count(|task| task.service_id.is_some()),
        ),
        (
            "tasks by node",
            view.tasks_by_node.len(),
            count(|task| task.node_id.is_some()),
        ),
        (
            "names",
            view.names.len(),
            view.networks.len() + view.services.len() + view.secrets.len() + view.configs.len(),
        ),
    ] {
        if found != expected {
            findings.push(Finding::Index {
                what,
                found,
                expected,
            });
        }
    }
}

fn services(view: &View, findings: &mut Vec<Finding>) {
    for service in view.services() {
        let Some(endpoint) = &service.endpoint else {
            continue;
        };
        let asked: Vec<NetworkId> = service
            .spec
            .networks()
            .iter()
            .filter_map(|network| network.target.as_deref()?.parse().ok())
            .collect();
        let needless = endpoint
            .virtual_ips()
            .iter()
            .filter(|vip| !asked.contains(&vip.network_id));
        findings.extend(needless.map(|vip| Finding::NeedlessVip {
            service: service.id,
            network: vip.network_id,
        }));
        let expected = service
            .spec
            .endpoint_spec
            .as_ref()
            .map_or(0, |spec| spec.ports().len());
        let found = endpoint.ports().len();
        if found > expected {
            findings.push(Finding::NeedlessPorts {
                service: service.id,
                found,
                expected,
            });
        }
    }
}

#[cfg(test)]
mod tests;
