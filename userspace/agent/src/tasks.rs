//! What this node says of its own tasks: pure, told from all sides.

use essaim_model::{NetworkName, NodeName, PortMode, Service, Task, TaskId, TaskState};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a health check says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not passed yet.
    Starting,
    /// It passes.
    Healthy,
    /// It has failed as often as it may.
    Unhealthy,
}

/// What was heard of a task beside the catalog, kept over a restart of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// How far it was told to be, by whoever runs it or by the end of its processes: `draining` or `gone`.
    pub told: Option<TaskState>,
    /// There was a process in its control group, or whoever runs it has said that it runs.
    pub has_run: bool,
    /// It has passed its health check.
    pub was_healthy: bool,
}

/// The tasks of this node, and what was heard of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnTasks {
    /// A task starts until whoever runs it says that it runs.
    are_announced: bool,
    heard: BTreeMap<TaskId, Heard>,
    health: BTreeMap<TaskId, Health>,
}

/// How far a task of this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnTask {
    /// The state, as its node sees it.
    pub state: TaskState,
    /// The networks whose nodes are told.
    pub networks: BTreeSet<NetworkName>,
}

impl From<&OwnTask> for essaim_gossip::OwnTask {
    fn from(task: &OwnTask) -> Self {
        let OwnTask { state, networks } = task.clone();
        Self { state, networks }
    }
}

/// A task that is asked for is not one of this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} is not one of this node; it has {known}")]
pub struct NotOwn {
    /// The task.
    pub task: TaskId,
    /// Those that are.
    pub known: String,
}

impl OwnTasks {
    /// Goes on from what an earlier agent has heard.
    pub(crate) fn new(are_announced: bool, heard: BTreeMap<TaskId, Heard>) -> Self {
        Self {
            are_announced,
            heard,
            health: BTreeMap::new(),
        }
    }

    /// What is to be kept for the next agent.
    pub(crate) fn heard(&self) -> &BTreeMap<TaskId, Heard> {
        &self.heard
    }

    /// Forgets tasks that the catalog does not have any more: their names are not given again.
    pub(crate) fn retain(&mut self, services: &[Service], node: &NodeName) {
        let known: BTreeSet<&TaskId> = own(services, node).map(|(_, task)| &task.id).collect();
        self.heard.retain(|task, _| known.contains(task));
        self.health.retain(|task, _| known.contains(task));
    }

    /// Whoever runs the task says that it is about to end, or has ended. Nothing leads back from there.
    pub(crate) fn tell(&mut self, task: &TaskId, state: TaskState) {
        let heard = self.heard.entry(task.clone()).or_default();
        heard.told = Some(heard.told.map_or(state, |before| before.and(state)));
    }

    /// Whoever runs the task says that it runs.
    pub(crate) fn runs(&mut self, task: &TaskId) {
        self.heard.entry(task.clone()).or_default().has_run = true;
    }

    /// Whether there is a process in the task's control group. A task whose last process has ended is gone; one that
    /// had none yet is not.
    pub(crate) fn populated(&mut self, task: &TaskId, is_populated: bool) {
        let heard = self.heard.entry(task.clone()).or_default();
        if is_populated {
            heard.has_run = true;
        } else if heard.has_run {
            heard.told = Some(TaskState::Gone);
        }
    }

    /// What the task's health check says.
    pub(crate) fn checked(&mut self, task: &TaskId, health: Health) {
        if health == Health::Healthy {
            self.heard.entry(task.clone()).or_default().was_healthy = true;
        }
        self.health.insert(task.clone(), health);
    }

    /// How far the tasks of this node are.
    pub(crate) fn states(&self, services: &[Service], node: &NodeName) -> BTreeMap<TaskId, OwnTask> {
        let state = |service: &Service, task: &Task| {
            let heard = self.heard.get(&task.id);
            let told = heard.and_then(|heard| heard.told).unwrap_or(TaskState::Ready);
            let check = if service.health.is_some() {
                self.health_state(&task.id, heard.is_some_and(|heard| heard.was_healthy))
            } else {
                TaskState::Ready
            };
            let start = if self.are_announced && !heard.is_some_and(|heard| heard.has_run) {
                TaskState::Starting
            } else {
                TaskState::Ready
            };
            task.state.and(told).and(check).and(start)
        };
        let states = own(services, node).map(|(service, task)| {
            let networks = task.endpoints.iter().map(|endpoint| endpoint.network.clone());
            // Every node answers a published port, and so wants to know.
            let is_published = service.ports.iter().any(|port| port.mode == PortMode::Ingress);
            let networks = networks.chain(is_published.then(NetworkName::ingress));
            let state = state(service, task);
            (
                task.id.clone(),
                OwnTask {
                    state,
                    networks: networks.collect(),
                },
            )
        });
        states.collect()
    }

    /// A task gets traffic when it has passed, and no new flows once it fails; those that it has may still be served.
    fn health_state(&self, task: &TaskId, was_healthy: bool) -> TaskState {
        match (self.health.get(task), was_healthy) {
            // Right after the agent's start: what was, goes on until the check says otherwise.
            (Some(Health::Healthy), _) | (None | Some(Health::Starting), true) => TaskState::Ready,
            (None | Some(Health::Starting | Health::Unhealthy), false) => TaskState::Starting,
            (Some(Health::Unhealthy), true) => TaskState::Draining,
        }
    }

    /// Whether the task is one of this node.
    ///
    /// # Errors
    /// [`NotOwn`], with those that are.
    pub(crate) fn find<'s>(
        services: &'s [Service],
        node: &NodeName,
        task: &TaskId,
    ) -> Result<(&'s Service, &'s Task), NotOwn> {
        let found = own(services, node).find(|(_, own)| own.id == *task);
        found.ok_or_else(|| {
            let known: Vec<&str> = own(services, node).map(|(_, own)| own.id.as_str()).collect();
            NotOwn {
                task: task.clone(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            }
        })
    }
}

/// The tasks of a node with their services.
pub(crate) fn own<'s>(
    services: &'s [Service],
    node: &NodeName,
) -> impl Iterator<Item = (&'s Service, &'s Task)> {
    let node = node.clone();
    let tasks = services
        .iter()
        .flat_map(|service| service.tasks.iter().map(move |task| (service, task)));
    tasks.filter(move |(_, task)| task.node == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Catalog, HealthCheck, HealthTest, example};

    const N1: &str = "n1";

    fn id(text: &str) -> TaskId {
        TaskId::new(text).unwrap()
    }

    fn services(is_checked: bool) -> Vec<Service> {
        let mut services = Catalog::parse(example()).unwrap().services;
        for service in services.iter_mut().filter(|_| is_checked) {
            service.health = Some(HealthCheck::new(HealthTest::Tcp(80)));
        }
        services
    }

    fn state(tasks: &OwnTasks, services: &[Service], task: &str) -> TaskState {
        tasks.states(services, &NodeName::new(N1).unwrap())[&id(task)].state
    }

    #[test]
    fn a_node_speaks_of_its_own_tasks_to_their_networks_and_of_published_ones_to_all() {
        let states = OwnTasks::default().states(&services(false), &NodeName::new(N1).unwrap());
        let of: Vec<(&str, Vec<&str>)> = states
            .iter()
            .map(|(task, own)| {
                (
                    task.as_str(),
                    own.networks.iter().map(NetworkName::as_str).collect(),
                )
            })
            .collect();
        assert_eq!(of, [("api.1", vec!["app"]), ("web.1", vec!["app", "ingress"])]);
    }

    #[test]
    fn what_was_told_does_not_go_back() {
        use TaskState::{Draining, Gone, Ready};
        let services = services(false);
        let mut tasks = OwnTasks::default();
        assert_eq!(state(&tasks, &services, "web.1"), Ready);
        for (told, holds) in [(Draining, Draining), (Gone, Gone), (Draining, Gone)] {
            tasks.tell(&id("web.1"), told);
            assert_eq!(state(&tasks, &services, "web.1"), holds);
        }
        let next = OwnTasks::new(false, tasks.heard().clone());
        assert_eq!(state(&next, &services, "web.1"), Gone);
    }

    #[test]
    fn a_task_whose_last_process_has_ended_is_gone() {
        let services = services(false);
        let mut tasks = OwnTasks::default();
        for (is_populated, holds) in [
            (false, TaskState::Ready),
            (true, TaskState::Ready),
            (false, TaskState::Gone),
            (true, TaskState::Gone),
        ] {
            tasks.populated(&id("web.1"), is_populated);
            assert_eq!(state(&tasks, &services, "web.1"), holds);
        }
    }

    #[test]
    fn a_task_that_is_announced_takes_traffic_once_it_runs() {
        let services = services(false);
        let mut tasks = OwnTasks::new(true, BTreeMap::new());
        assert_eq!(state(&tasks, &services, "web.1"), TaskState::Starting);
        tasks.runs(&id("web.1"));
        assert_eq!(state(&tasks, &services, "web.1"), TaskState::Ready);
        let mut tasks = OwnTasks::new(true, tasks.heard().clone());
        assert_eq!(state(&tasks, &services, "web.1"), TaskState::Ready);
        tasks.tell(&id("web.1"), TaskState::Gone);
        tasks.runs(&id("web.1"));
        assert_eq!(state(&tasks, &services, "web.1"), TaskState::Gone);
    }

    #[test]
    fn a_task_with_a_check_takes_traffic_once_it_has_passed() {
        use Health::{Healthy, Starting, Unhealthy};
        let services = services(true);
        let mut tasks = OwnTasks::default();
        assert_eq!(state(&tasks, &services, "web.1"), TaskState::Starting);
        for (health, holds) in [
            (Starting, TaskState::Starting),
            (Unhealthy, TaskState::Starting),
            (Healthy, TaskState::Ready),
            (Unhealthy, TaskState::Draining),
            (Healthy, TaskState::Ready),
        ] {
            tasks.checked(&id("web.1"), health);
            assert_eq!(state(&tasks, &services, "web.1"), holds, "{health:?}");
        }
    }

    #[test]
    fn a_healthy_task_keeps_its_traffic_over_a_restart_of_the_agent() {
        let services = services(true);
        let mut before = OwnTasks::default();
        before.checked(&id("web.1"), Health::Healthy);
        let mut after = OwnTasks::new(false, before.heard().clone());
        assert_eq!(state(&after, &services, "web.1"), TaskState::Ready);
        after.checked(&id("web.1"), Health::Starting);
        assert_eq!(state(&after, &services, "web.1"), TaskState::Ready);
        after.checked(&id("web.1"), Health::Unhealthy);
        assert_eq!(state(&after, &services, "web.1"), TaskState::Draining);
    }

    #[test]
    fn tasks_that_left_the_catalog_are_forgotten() {
        let mut services = services(false);
        let mut tasks = OwnTasks::default();
        tasks.tell(&id("web.1"), TaskState::Draining);
        tasks.tell(&id("api.1"), TaskState::Draining);
        services.retain(|service| service.name.as_str() == "api");
        tasks.retain(&services, &NodeName::new(N1).unwrap());
        assert_eq!(tasks.heard().keys().collect::<Vec<_>>(), [&id("api.1")]);
    }

    #[test]
    fn a_task_of_another_node_is_refused_with_those_that_are_known() {
        let services = services(false);
        let node = NodeName::new(N1).unwrap();
        assert!(OwnTasks::find(&services, &node, &id("web.1")).is_ok());
        let error = OwnTasks::find(&services, &node, &id("web.2"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("web.2") && error.contains("web.1, api.1"),
            "{error}"
        );
    }
}
