//! What is, as opposed to what the catalog says should be.

use crate::{Catalog, NodeName, NodeState, Task, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};

/// Which nodes are down and how far each task is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The nodes that are down; every other node of the catalog is up.
    pub nodes_down: BTreeSet<NodeName>,
    /// The tasks' states; for a task that is not here the catalog's word counts.
    pub tasks: BTreeMap<TaskId, TaskState>,
}

impl Liveness {
    /// What the catalog itself says, for a cluster without gossip.
    pub fn of(catalog: &Catalog) -> Self {
        let down = catalog.nodes.iter().filter(|node| node.state == NodeState::Down);
        let tasks = catalog.services.iter().flat_map(|service| &service.tasks);
        Self {
            nodes_down: down.map(|node| node.name.clone()).collect(),
            tasks: tasks.map(|task| (task.id.clone(), task.state)).collect(),
        }
    }

    /// How far the task is; `Gone` where its node is down.
    pub fn state_of(&self, task: &Task) -> TaskState {
        if self.nodes_down.contains(&task.node) {
            return TaskState::Gone;
        }
        self.tasks.get(&task.id).copied().unwrap_or(task.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn a_task_on_a_node_that_is_down_is_gone() {
        let catalog = Catalog::parse(example()).unwrap();
        let mut liveness = Liveness::of(&catalog);
        let task = &catalog.services[0].tasks[0];
        assert_eq!(liveness.state_of(task), TaskState::Ready);
        liveness.nodes_down.insert(task.node.clone());
        assert_eq!(liveness.state_of(task), TaskState::Gone);
    }

    #[test]
    fn the_catalog_speaks_for_a_task_that_nobody_reported() {
        let catalog = Catalog::parse(example()).unwrap();
        let task = &catalog.services[0].tasks[0];
        assert_eq!(Liveness::default().state_of(task), task.state);
    }
}
