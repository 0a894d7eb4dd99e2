//! What one node's data plane should hold: a pure function of catalog, liveness and the node's name.

mod cluster;
mod service;
#[cfg(test)]
mod tests;

use crate::{
    Catalog, DesiredState, Liveness, Network, NetworkName, Node, NodeName, Service, ServiceName, ServicePlan,
    TaskId, Vni,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// A catalog that breaks a rule; one that [`Catalog::parse`] or [`Catalog::check`] accepts has none but the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// This node is not in the catalog.
    #[error(
        "node {node} is not in the catalog (revision {revision}), add it to [[nodes]] or start the agent under another name"
    )]
    NotAMember {
        /// The node.
        node: NodeName,
        /// The catalog's revision.
        revision: u64,
    },
    /// A task on a node that is not in the catalog.
    #[error("task {task} runs on node {node}, which is not in the catalog")]
    UnknownNode {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
    },
    /// A service or task on a network that is not in the catalog.
    #[error("{what} is on network {network}, which is not in the catalog")]
    UnknownNetwork {
        /// The service or task.
        what: String,
        /// The network.
        network: NetworkName,
    },
    /// An address that no network has.
    #[error("address {address} of task {task} is in no subnet of network {network}")]
    OutsideSubnet {
        /// The task.
        task: TaskId,
        /// The address.
        address: IpAddr,
        /// The network.
        network: NetworkName,
    },
}

/// What the node's data plane should hold.
///
/// # Errors
/// The node is not in the catalog, or the catalog breaks a rule that [`Catalog::check`] would have told of.
pub fn plan(catalog: &Catalog, liveness: &Liveness, node: &NodeName) -> Result<DesiredState, PlanError> {
    let planner = Planner::new(catalog, liveness, node)?;
    let services = catalog.services.iter().map(|service| {
        let plan = planner.service(service)?;
        Ok((service.name.clone(), Arc::new(plan)))
    });
    let services = services.collect::<Result<BTreeMap<_, _>, PlanError>>()?;
    Ok(DesiredState {
        revision: catalog.revision,
        cluster: Arc::new(planner.cluster()),
        services,
    })
}

/// As [`plan`] of `now`, but shares every part with `previous`, the plan of `before` for the same node, whose inputs
/// are the same.
///
/// # Errors
/// As [`plan`].
pub fn replan(
    previous: &DesiredState,
    before: (&Catalog, &Liveness),
    now: (&Catalog, &Liveness),
    node: &NodeName,
) -> Result<DesiredState, PlanError> {
    let planner = Planner::new(now.0, now.1, node)?;
    let cluster = share(&previous.cluster, planner.cluster());
    let changed = Changes::between(before, now);
    let same_node = previous.cluster.node == *node;
    let old: HashMap<_, _> = before
        .0
        .services
        .iter()
        .map(|service| (&service.name, service))
        .collect();
    let services = now.0.services.iter().map(|service| {
        let was = old.get(&service.name).copied();
        let old_plan = previous.services.get(&service.name);
        let plan = match old_plan {
            Some(old_plan) if same_node && was == Some(service) && !changed.touch(service) => {
                old_plan.clone()
            }
            Some(old_plan) => share(old_plan, planner.service(service)?),
            None => Arc::new(planner.service(service)?),
        };
        Ok((service.name.clone(), plan))
    });
    let services = services.collect::<Result<BTreeMap<_, _>, PlanError>>()?;
    Ok(DesiredState {
        revision: now.0.revision,
        cluster,
        services,
    })
}

/// The old one where the new one is no other.
fn share<T: PartialEq>(old: &Arc<T>, new: T) -> Arc<T> {
    if **old == new { old.clone() } else { Arc::new(new) }
}

/// The node's view of a catalog, indexed.
struct Planner<'c> {
    catalog: &'c Catalog,
    liveness: &'c Liveness,
    node: &'c Node,
    nodes: HashMap<&'c NodeName, &'c Node>,
    networks: HashMap<&'c NetworkName, &'c Network>,
    ingress: Network,
}

impl<'c> Planner<'c> {
    fn new(catalog: &'c Catalog, liveness: &'c Liveness, node: &NodeName) -> Result<Self, PlanError> {
        let nodes: HashMap<_, _> = catalog.nodes.iter().map(|node| (&node.name, node)).collect();
        let Some(node) = nodes.get(node).copied() else {
            return Err(PlanError::NotAMember {
                node: node.clone(),
                revision: catalog.revision,
            });
        };
        let networks = catalog
            .networks
            .iter()
            .map(|network| (&network.name, network))
            .collect();
        Ok(Self {
            catalog,
            liveness,
            node,
            nodes,
            networks,
            ingress: catalog.ingress_network(),
        })
    }

    fn network(&self, name: &NetworkName) -> Option<&Network> {
        self.networks
            .get(name)
            .copied()
            .or((*name == self.ingress.name).then_some(&self.ingress))
    }

    fn ingress_vni(&self) -> Vni {
        self.catalog.cluster.ingress_vni
    }

    fn service(&self, service: &Service) -> Result<ServicePlan, PlanError> {
        service::ServicePlanner::new(self, service)?.plan()
    }
}

/// What differs between two moments, services' own entries left out.
struct Changes<'c> {
    /// Something that every service may depend on.
    everything: bool,
    nodes: BTreeSet<&'c NodeName>,
    tasks: BTreeSet<&'c TaskId>,
    /// Services of which other sets of ready tasks were seen.
    seen: BTreeSet<&'c ServiceName>,
}

impl<'c> Changes<'c> {
    fn between(before: (&'c Catalog, &'c Liveness), now: (&'c Catalog, &'c Liveness)) -> Self {
        let ((old, old_liveness), (new, new_liveness)) = (before, now);
        let vteps = |catalog: &'c Catalog| catalog.nodes.iter().map(|node| (&node.name, node.address));
        let everything = old.ingress_network() != new.ingress_network()
            || old.networks != new.networks
            || !vteps(old).eq(vteps(new));
        Self {
            everything,
            seen: differences(&old_liveness.seen, &new_liveness.seen),
            nodes: old_liveness
                .nodes_down
                .symmetric_difference(&new_liveness.nodes_down)
                .collect(),
            tasks: differences(&old_liveness.tasks, &new_liveness.tasks),
        }
    }

    fn touch(&self, service: &Service) -> bool {
        let touched = |name, id| self.nodes.contains(name) || self.tasks.contains(id);
        let none = self.nodes.is_empty() && self.tasks.is_empty();
        self.everything
            || self.seen.contains(&service.name)
            || !none && service.tasks.iter().any(|task| touched(&task.node, &task.id))
    }
}

/// The keys whose values differ, in one pass through both.
fn differences<'m, K: Ord, V: PartialEq>(
    one: &'m BTreeMap<K, V>,
    other: &'m BTreeMap<K, V>,
) -> BTreeSet<&'m K> {
    let mut differences = BTreeSet::new();
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return differences,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let left = order.is_le().then(|| left.next()).flatten();
        let right = order.is_ge().then(|| right.next()).flatten();
        if left.map(|(_, value)| value) != right.map(|(_, value)| value) {
            differences.extend(left.or(right).map(|(key, _)| key));
        }
    }
}
