//! The indexes of tasks and services.

use crate::{Object, View};
use essaim_objects::{ConfigId, NetworkId, NodeId, SecretId, Service, ServiceId, Task, TaskId, TaskState};
use std::collections::BTreeSet;

impl View {
    /// Puts an object into the indexes.
    pub(super) fn index_in(&mut self, object: &Object) {
        match object {
            Object::Task(task) => {
                let Keys { slot, node, state } = Keys::of(task);
                slot.map(|key| self.tasks_by_slot.insert(key));
                node.map(|key| self.tasks_by_node.insert(key));
                self.tasks_by_state.insert(state);
            }
            Object::Service(service) => {
                let uses = Uses::of(service);
                self.services_by_network
                    .extend(uses.networks.into_iter().map(|id| (id, service.id)));
                self.services_by_secret
                    .extend(uses.secrets.into_iter().map(|id| (id, service.id)));
                self.services_by_config
                    .extend(uses.configs.into_iter().map(|id| (id, service.id)));
            }
            Object::Cluster(_)
            | Object::Node(_)
            | Object::Network(_)
            | Object::Secret(_)
            | Object::Config(_) => {}
        }
    }

    /// Takes an object out of the indexes.
    pub(super) fn index_out(&mut self, object: &Object) {
        match object {
            Object::Task(task) => {
                let Keys { slot, node, state } = Keys::of(task);
                slot.map(|key| self.tasks_by_slot.remove(&key));
                node.map(|key| self.tasks_by_node.remove(&key));
                self.tasks_by_state.remove(&state);
            }
            Object::Service(service) => {
                let uses = Uses::of(service);
                for id in uses.networks {
                    self.services_by_network.remove(&(id, service.id));
                }
                for id in uses.secrets {
                    self.services_by_secret.remove(&(id, service.id));
                }
                for id in uses.configs {
                    self.services_by_config.remove(&(id, service.id));
                }
            }
            Object::Cluster(_)
            | Object::Node(_)
            | Object::Network(_)
            | Object::Secret(_)
            | Object::Config(_) => {}
        }
    }
}

/// A task's places in the indexes.
struct Keys {
    slot: Option<(ServiceId, u64, TaskId)>,
    node: Option<(NodeId, TaskId)>,
    state: (TaskState, TaskId),
}

impl Keys {
    fn of(task: &Task) -> Self {
        let slot = task.slot.unwrap_or_default();
        Self {
            slot: task.service_id.map(|service| (service, slot, task.id)),
            node: task.node_id.map(|node| (node, task.id)),
            state: (task.status.state, task.id),
        }
    }
}

/// What a service uses.
pub(super) struct Uses {
    pub(super) networks: BTreeSet<NetworkId>,
    pub(super) secrets: BTreeSet<SecretId>,
    pub(super) configs: BTreeSet<ConfigId>,
}

impl Uses {
    pub(super) fn of(service: &Service) -> Self {
        let asked = service.spec.networks().iter();
        let asked = asked.filter_map(|network| network.target.as_deref()?.parse().ok());
        let endpoint = service.endpoint.iter();
        let allotted = endpoint
            .flat_map(essaim_objects::Endpoint::virtual_ips)
            .map(|vip| vip.network_id);
        let container = service.spec.task_template.container.as_ref();
        let secrets = container
            .map(essaim_objects::ContainerSpec::secrets)
            .unwrap_or_default();
        let configs = container
            .map(essaim_objects::ContainerSpec::configs)
            .unwrap_or_default();
        Self {
            networks: asked.chain(allotted).collect(),
            secrets: secrets.iter().filter_map(|secret| secret.secret_id).collect(),
            configs: configs.iter().filter_map(|config| config.config_id).collect(),
        }
    }
}
