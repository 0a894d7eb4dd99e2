//! What is, as opposed to what the catalog says should be.

use crate::{Catalog, NodeName, NodeState, Task, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};

/// Which nodes are down and how far each task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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

    /// What holds where nodes have spoken, too: a node that the author or the others call down is down, and a task is as
    /// far as the author and its node let it be ([`TaskState::and`]). Tasks that the catalog does not have are left out.
    #[must_use]
    pub fn and(mut self, reported: &Self) -> Self {
        self.nodes_down.extend(reported.nodes_down.iter().cloned());
        for (task, state) in &mut self.tasks {
            if let Some(said) = reported.tasks.get(task) {
                *state = state.and(*said);
            }
        }
        self
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
    fn what_nodes_say_can_only_keep_traffic_away() {
        use TaskState::{Draining, Gone, Ready, Starting};
        let catalog = Catalog::parse(example()).unwrap();
        let task = &catalog.services[0].tasks[0];
        for (author, node, holds) in [
            (Ready, Starting, Starting),
            (Ready, Draining, Draining),
            (Starting, Ready, Starting),
            (Draining, Ready, Draining),
            (Draining, Starting, Draining),
            (Gone, Ready, Gone),
            (Ready, Gone, Gone),
            (Ready, Ready, Ready),
        ] {
            let mut written = Liveness::of(&catalog);
            written.tasks.insert(task.id.clone(), author);
            let reported = Liveness {
                nodes_down: BTreeSet::new(),
                tasks: BTreeMap::from([(task.id.clone(), node)]),
            };
            assert_eq!(
                written.and(&reported).state_of(task),
                holds,
                "{author:?} {node:?}"
            );
        }
        let foreign = TaskId::new("foreign.1").unwrap();
        let reported = Liveness {
            nodes_down: BTreeSet::from([task.node.clone()]),
            tasks: BTreeMap::from([(foreign.clone(), Ready)]),
        };
        let both = Liveness::of(&catalog).and(&reported);
        assert_eq!(both.state_of(task), Gone);
        assert!(!both.tasks.contains_key(&foreign));
    }

    #[test]
    fn the_catalog_speaks_for_a_task_that_nobody_reported() {
        let catalog = Catalog::parse(example()).unwrap();
        let task = &catalog.services[0].tasks[0];
        assert_eq!(Liveness::default().state_of(task), task.state);
    }
}
