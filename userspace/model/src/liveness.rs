//! What is, as opposed to what the catalog says should be.

use crate::{
    Catalog, HISTORY_GENERATIONS, NodeName, NodeState, Service, ServiceName, Task, TaskId, TaskState,
};
use std::collections::{BTreeMap, BTreeSet};

/// Which nodes are down and how far each task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Liveness {
    /// The nodes that are down; every other node of the catalog is up.
    pub nodes_down: BTreeSet<NodeName>,
    /// The tasks' states; for a task that is not here the catalog's word counts.
    pub tasks: BTreeMap<TaskId, TaskState>,
    /// The sets of ready tasks that this node has planned with, of services whose flows have slots: the newest, today's,
    /// first. The catalog's author writes down what he changes; what liveness changes, each node remembers for itself.
    #[serde(default)]
    pub seen: BTreeMap<ServiceName, Vec<Vec<TaskId>>>,
}

impl Liveness {
    /// What the catalog itself says, for a cluster without gossip.
    pub fn of(catalog: &Catalog) -> Self {
        let down = catalog.nodes.iter().filter(|node| node.state == NodeState::Down);
        let tasks = catalog.services.iter().flat_map(|service| &service.tasks);
        Self {
            nodes_down: down.map(|node| node.name.clone()).collect(),
            tasks: tasks.map(|task| (task.id.clone(), task.state)).collect(),
            seen: BTreeMap::new(),
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

    /// Remembers today's sets of ready tasks, and no more of services that are no more.
    pub fn remember(&mut self, catalog: &Catalog) {
        let slotted = catalog.services.iter().filter(|service| service.has_slots());
        let now: BTreeMap<&ServiceName, Vec<TaskId>> = slotted
            .map(|service| (&service.name, self.ready(service)))
            .collect();
        self.seen.retain(|service, _| now.contains_key(service));
        for (service, ready) in now {
            let seen = self.seen.entry(service.clone()).or_default();
            if seen.first() != Some(&ready) {
                seen.retain(|earlier| *earlier != ready);
                seen.insert(0, ready);
                seen.truncate(HISTORY_GENERATIONS);
            }
        }
    }

    fn ready(&self, service: &Service) -> Vec<TaskId> {
        let tasks = service.tasks.iter();
        let ready = tasks.filter(|task| self.state_of(task) == TaskState::Ready);
        ready.map(|task| task.id.clone()).collect()
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
                tasks: BTreeMap::from([(task.id.clone(), node)]),
                ..Liveness::default()
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
            ..Liveness::default()
        };
        let both = Liveness::of(&catalog).and(&reported);
        assert_eq!(both.state_of(task), Gone);
        assert!(!both.tasks.contains_key(&foreign));
    }

    #[test]
    fn sets_of_ready_tasks_are_remembered_newest_first() {
        use TaskState::{Draining, Gone};
        let mut catalog = Catalog::parse(example()).unwrap();
        let web = catalog.services[0].name.clone();
        let tasks: Vec<TaskId> = catalog.services[0]
            .tasks
            .iter()
            .map(|task| task.id.clone())
            .collect();
        let [first, second, third] = &tasks[..] else {
            panic!("three tasks")
        };
        let mut liveness = Liveness::of(&catalog);
        liveness.remember(&catalog);
        liveness.remember(&catalog);
        assert_eq!(liveness.seen[&web], std::slice::from_ref(&tasks));
        liveness.tasks.insert(first.clone(), Draining);
        liveness.remember(&catalog);
        liveness.tasks.insert(first.clone(), Gone);
        liveness.remember(&catalog);
        let fewer = vec![second.clone(), third.clone()];
        assert_eq!(liveness.seen[&web], [fewer.clone(), tasks.clone()]);
        liveness.tasks.insert(first.clone(), TaskState::Ready);
        liveness.remember(&catalog);
        assert_eq!(liveness.seen[&web], [tasks.clone(), fewer]);
        for ready in 0..40 {
            let state = if ready % 2 == 0 {
                Draining
            } else {
                TaskState::Ready
            };
            liveness.tasks.insert(tasks[ready % 3].clone(), state);
            liveness.remember(&catalog);
        }
        assert!(liveness.seen[&web].len() <= HISTORY_GENERATIONS);
        catalog.services.clear();
        liveness.remember(&catalog);
        assert!(liveness.seen.is_empty());
    }

    #[test]
    fn the_catalog_speaks_for_a_task_that_nobody_reported() {
        let catalog = Catalog::parse(example()).unwrap();
        let task = &catalog.services[0].tasks[0];
        assert_eq!(Liveness::default().state_of(task), task.state);
    }
}
