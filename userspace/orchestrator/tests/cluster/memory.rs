//! A store of plain maps: changes are applied together or not at all, each with the check of the version it read.

use essaim_objects::{
    ClusterSpec, Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId, Service, ServiceId,
    Task, TaskId, TaskState, Timestamp, Version,
};
use essaim_orchestrator::{Change, Cluster, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) index: u64,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(crate) services: BTreeMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: BTreeMap<TaskId, Arc<Task>>,
    pub(crate) secrets: BTreeMap<SecretId, Arc<Secret>>,
    pub(crate) configs: BTreeMap<ConfigId, Arc<Config>>,
    pub(crate) spec: ClusterSpec,
    by_service: BTreeSet<(ServiceId, TaskId)>,
    by_node: BTreeSet<(NodeId, TaskId)>,
    by_state: BTreeSet<(TaskState, TaskId)>,
}

impl Memory {
    /// Applies changes together, or not at all where one was decided from something older.
    pub(crate) fn apply(&mut self, changes: &[Change], time: Timestamp) -> Option<Vec<Event>> {
        let mut touched = BTreeSet::new();
        let is_current = |change: &Change| match change {
            Change::CreateTask(task) => !self.tasks.contains_key(&task.id),
            Change::UpdateTask(task) => self
                .tasks
                .get(&task.id)
                .is_some_and(|old| old.version == task.version),
            Change::RemoveTask(id, version) => self.tasks.get(id).is_some_and(|old| old.version == *version),
            Change::UpdateService(new) => self
                .services
                .get(&new.id)
                .is_some_and(|old| old.version == new.version),
            Change::UpdateNode(new) => self
                .nodes
                .get(&new.id)
                .is_some_and(|old| old.version == new.version),
        };
        for change in changes {
            let id = match change {
                Change::CreateTask(task) | Change::UpdateTask(task) => task.id.to_string(),
                Change::RemoveTask(id, _) => id.to_string(),
                Change::UpdateService(service) => service.id.to_string(),
                Change::UpdateNode(node) => node.id.to_string(),
            };
            assert!(
                touched.insert(id),
                "an object is changed twice in one transaction: {change:?}"
            );
        }
        if !changes.iter().all(is_current) {
            return None;
        }
        self.index += 1;
        Some(changes.iter().map(|change| self.change(change, time)).collect())
    }

    fn change(&mut self, change: &Change, time: Timestamp) -> Event {
        let version = Version { index: self.index };
        match change {
            Change::CreateTask(task) => {
                let mut task = Task::clone(task);
                task.created_at = time;
                // Nothing is allotted here.
                task.status.state = TaskState::Pending;
                self.put_task(task, time)
            }
            Change::UpdateTask(task) => self.put_task(Task::clone(task), time),
            Change::RemoveTask(id, _) => {
                let old = self.tasks.remove(id).unwrap();
                self.unindex(&old);
                Event::Task(Some(old), None)
            }
            Change::UpdateService(new) => {
                let mut new = Service::clone(new);
                new.version = version;
                new.updated_at = time;
                let new = Arc::new(new);
                Event::Service(self.services.insert(new.id, new.clone()), Some(new))
            }
            Change::UpdateNode(new) => {
                let mut new = Node::clone(new);
                new.version = version;
                new.updated_at = time;
                let new = Arc::new(new);
                Event::Node(self.nodes.insert(new.id, new.clone()), Some(new))
            }
        }
    }

    /// Puts a task, whatever was there.
    pub(crate) fn put_task(&mut self, mut task: Task, time: Timestamp) -> Event {
        task.version = Version { index: self.index };
        task.updated_at = time;
        let task = Arc::new(task);
        let old = self.tasks.insert(task.id, task.clone());
        if let Some(old) = &old {
            self.unindex(old);
        }
        self.by_service
            .extend(task.service_id.map(|service| (service, task.id)));
        self.by_node.extend(task.node_id.map(|node| (node, task.id)));
        self.by_state.insert((task.status.state, task.id));
        Event::Task(old, Some(task))
    }

    fn unindex(&mut self, old: &Task) {
        if let Some(service) = old.service_id {
            self.by_service.remove(&(service, old.id));
        }
        if let Some(node) = old.node_id {
            self.by_node.remove(&(node, old.id));
        }
        self.by_state.remove(&(old.status.state, old.id));
    }

    /// Puts a service as an operator does.
    pub(crate) fn put_service(&mut self, mut service: Service, time: Timestamp) -> Event {
        self.index += 1;
        service.version = Version { index: self.index };
        service.updated_at = time;
        let service = Arc::new(service);
        Event::Service(self.services.insert(service.id, service.clone()), Some(service))
    }

    /// Removes a service as an operator does.
    pub(crate) fn remove_service(&mut self, id: ServiceId) -> Event {
        self.index += 1;
        Event::Service(self.services.remove(&id), None)
    }

    /// Puts a node as an operator does.
    pub(crate) fn put_node(&mut self, mut node: Node, time: Timestamp) -> Event {
        self.index += 1;
        node.version = Version { index: self.index };
        node.updated_at = time;
        let node = Arc::new(node);
        Event::Node(self.nodes.insert(node.id, node.clone()), Some(node))
    }

    /// Removes a node as an operator does.
    pub(crate) fn remove_node(&mut self, id: NodeId) -> Event {
        self.index += 1;
        Event::Node(self.nodes.remove(&id), None)
    }
}

impl Cluster for Memory {
    fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let found = self.by_service.range((id, TaskId::MIN)..=(id, TaskId::MAX));
        found.filter_map(|(_, task)| self.tasks.get(task))
    }

    fn tasks_on_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        let found = self.by_node.range((id, TaskId::MIN)..=(id, TaskId::MAX));
        found.filter_map(|(_, task)| self.tasks.get(task))
    }

    fn tasks_in_state(&self, state: TaskState) -> impl Iterator<Item = &Arc<Task>> {
        let found = self.by_state.range((state, TaskId::MIN)..=(state, TaskId::MAX));
        found.filter_map(|(_, task)| self.tasks.get(task))
    }

    fn network(&self, _: NetworkId) -> Option<&Arc<Network>> {
        None
    }

    fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }

    fn config(&self, id: ConfigId) -> Option<&Arc<Config>> {
        self.configs.get(&id)
    }

    fn spec(&self) -> Option<&ClusterSpec> {
        Some(&self.spec)
    }
}
