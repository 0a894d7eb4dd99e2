//! The seam's other side: the managers' replicated store.

use crate::{Change, Cluster, Event};
use essaim_objects::{
    ClusterSpec, Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId, Service, ServiceId,
    Task, TaskId, TaskState,
};
use essaim_store::{Object, ObjectId, View};
use std::sync::Arc;

impl Cluster for View {
    fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        View::node(self, id)
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        View::nodes(self)
    }

    fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        View::service(self, id)
    }

    fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        View::services(self)
    }

    fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        View::task(self, id)
    }

    fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        View::tasks(self)
    }

    fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        View::tasks_of_service(self, id)
    }

    fn tasks_on_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        View::tasks_on_node(self, id)
    }

    fn tasks_in_state(&self, state: TaskState) -> impl Iterator<Item = &Arc<Task>> {
        View::tasks_in_state(self, state)
    }

    fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        View::network(self, id)
    }

    fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        View::secret(self, id)
    }

    fn config(&self, id: ConfigId) -> Option<&Arc<Config>> {
        View::config(self, id)
    }

    fn spec(&self) -> Option<&ClusterSpec> {
        View::cluster(self).map(|cluster| &cluster.spec)
    }
}

impl From<Change> for essaim_store::Change {
    fn from(change: Change) -> Self {
        match change {
            Change::CreateTask(task) => Self::Create(task.into()),
            Change::UpdateTask(task) => Self::update(task),
            Change::RemoveTask(id, version) => Self::Remove(id.into(), version),
            Change::UpdateService(service) => Self::update(service),
            Change::UpdateNode(node) => Self::update(node),
        }
    }
}

impl Event {
    /// What the store tells, where it is about something that is watched here.
    pub fn of(event: &essaim_store::Event) -> Option<Self> {
        let (old, new) = match event {
            essaim_store::Event::Created(new) => (None, Some(new)),
            essaim_store::Event::Updated { old, new } => (Some(old), Some(new)),
            essaim_store::Event::Removed(old) => (Some(old), None),
        };
        macro_rules! both {
            ($kind:ident) => {{
                let of = |object: Option<&Object>| match object {
                    Some(Object::$kind(it)) => Some(it.clone()),
                    _ => None,
                };
                Some(Self::$kind(of(old), of(new)))
            }};
        }
        match event.id() {
            ObjectId::Node(_) => both!(Node),
            ObjectId::Service(_) => both!(Service),
            ObjectId::Task(_) => both!(Task),
            ObjectId::Cluster(_) | ObjectId::Network(_) | ObjectId::Secret(_) | ObjectId::Config(_) => None,
        }
    }
}
