//! What the scheduler knows of a node: gathered in one pass, and kept as tasks are placed.

use super::filter::Requirements;
use super::resources::Available;
use crate::Cluster;
use crate::ports::{HostPort, host_ports_of_task};
use crate::state::{holds_resources, is_wanted};
use essaim_objects::{GenericResource, Node, NodeId, ServiceId, Task};
use std::collections::{BTreeMap, BTreeSet};

/// A node and what its tasks leave of it.
pub(crate) struct NodeInfo<'a> {
    pub(crate) node: &'a Node,
    pub(crate) available: Available,
    pub(crate) ports: BTreeSet<HostPort>,
    /// Tasks that should do their work, by service.
    by_service: BTreeMap<ServiceId, u64>,
    pub(crate) tasks: u64,
}

impl NodeInfo<'_> {
    pub(crate) fn tasks_of(&self, service: Option<ServiceId>) -> u64 {
        let count = service.and_then(|service| self.by_service.get(&service));
        count.copied().unwrap_or_default()
    }

    fn count(&mut self, service: Option<ServiceId>) {
        self.tasks += 1;
        if let Some(service) = service {
            *self.by_service.entry(service).or_default() += 1;
        }
    }

    /// Notes a task that is there.
    fn add(&mut self, task: &Task) {
        if let Some(reserved) = task.spec.reservations() {
            let given = task.generic_resources.as_deref().unwrap_or_default();
            self.available.take_placed(reserved, given);
        }
        self.ports.extend(host_ports_of_task(task));
        if is_wanted(task) {
            self.count(task.service_id);
        }
    }

    /// Notes a task that is being placed, and says which of the operator's own resources it gets.
    pub(crate) fn place(&mut self, asked: &Requirements<'_>) -> Option<Vec<GenericResource>> {
        let given = asked.reserved.map(|reserved| self.available.take(reserved));
        self.ports.extend(asked.ports.iter().copied());
        self.count(asked.service);
        given.filter(|given| !given.is_empty())
    }
}

/// All nodes, by identity, and the place of each.
pub(crate) struct Nodes<'a> {
    pub(crate) infos: Vec<NodeInfo<'a>>,
    places: BTreeMap<NodeId, usize>,
}

impl<'a> Nodes<'a> {
    pub(crate) fn gather<C: Cluster>(cluster: &'a C) -> Self {
        let infos: Vec<_> = cluster
            .nodes()
            .map(|node| NodeInfo {
                node,
                available: Available::of(node.description.as_ref().and_then(|it| it.resources.as_ref())),
                ports: BTreeSet::new(),
                by_service: BTreeMap::new(),
                tasks: 0,
            })
            .collect();
        let places = infos
            .iter()
            .enumerate()
            .map(|(place, info)| (info.node.id, place))
            .collect();
        let mut nodes = Self { infos, places };
        for task in cluster.tasks().filter(|task| holds_resources(task)) {
            if let Some(info) = task.node_id.and_then(|id| nodes.of_mut(id)) {
                info.add(task);
            }
        }
        nodes
    }

    pub(crate) fn of_mut(&mut self, id: NodeId) -> Option<&mut NodeInfo<'a>> {
        self.infos.get_mut(*self.places.get(&id)?)
    }
}
