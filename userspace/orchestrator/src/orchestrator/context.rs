//! What the decisions about one service are made from.

use super::copy::{Copy, Instance};
use super::restart::iteration;
use crate::ports::{has_no_address_for_ports, has_ports_of, host_ports_of_service};
use crate::{Cluster, Now};
use essaim_objects::{Constraint, Node, Service, Task, TaskId, TaskSpec, TaskState};
use std::sync::Arc;

/// The service, the cluster, the time, and where identities come from.
pub(crate) struct Context<'a, C> {
    pub(crate) cluster: &'a C,
    pub(crate) service: &'a Service,
    pub(crate) now: Now,
    pub(crate) random: &'a mut dyn FnMut() -> u128,
}

impl<C: Cluster> Context<'_, C> {
    /// What a task should be once it may work.
    pub(crate) fn running(&self) -> TaskState {
        if self.service.spec.mode().is_job() {
            TaskState::Complete
        } else {
            TaskState::Running
        }
    }

    /// Adds a task of the current spec, held ready.
    pub(crate) fn create(&mut self, copy: &mut Copy) -> TaskId {
        let id = TaskId::from_bits((self.random)());
        let mut task = Task::new(id, Some(self.service.id), self.service.spec.task_template.clone());
        task.spec_version = self.service.spec_version;
        task.desired_state = TaskState::Ready;
        task.created_at = self.now.wall;
        task.updated_at = self.now.wall;
        task.status.timestamp = Some(self.now.wall);
        task.status.message = Some("created".to_owned());
        task.status.port_status = host_ports_of_service(self.service);
        task.job_iteration = iteration(self.service);
        match copy.instance {
            Instance::Slot(slot) => task.slot = Some(slot),
            Instance::Node(node) => task.node_id = Some(node),
        }
        copy.create(task);
        id
    }

    /// Whether a task is not what the service now asks for. Other constraints alone do not make it so while its node
    /// meets them; nor do ports that every node answers, which are the service's and not its tasks', unless a task was begun
    /// without any network; nor who asks the registry for an image that has come.
    pub(crate) fn is_dirty(&self, task: &Task) -> bool {
        let service = self.service;
        if task.spec_version.is_some() && task.spec_version == service.spec_version {
            return false;
        }
        if !has_ports_of(task, service) || has_no_address_for_ports(task, service) {
            return true;
        }
        let asked = &service.spec.task_template;
        if Arc::ptr_eq(asked, &task.spec) || *asked == task.spec {
            return false;
        }
        let mut rest = asked.without_constraints();
        if has_its_image(task)
            && let (Some(asked), Some(found)) = (&mut rest.container, &task.spec.container)
        {
            asked.pull_options.clone_from(&found.pull_options);
        }
        if rest != task.spec.without_constraints() {
            return true;
        }
        // One that has no node yet must be placed by what is asked now.
        task.node_id
            .is_none_or(|node| !self.cluster.node(node).is_some_and(|node| meets(node, asked)))
    }
}

/// Whether a task's image has been pulled, so that with whose credentials makes no difference any more (as in Swarm).
fn has_its_image(task: &Task) -> bool {
    let has_come = (TaskState::Ready..=TaskState::Running).contains(&task.status.state);
    has_come && task.desired_state <= TaskState::Running
}

/// Whether a node is what a spec's constraints ask for; one that cannot be read is met by none.
pub(crate) fn meets(node: &Node, spec: &TaskSpec) -> bool {
    let mut constraints = spec.constraints().iter().map(|text| text.parse::<Constraint>());
    constraints.all(|constraint| constraint.is_ok_and(|constraint| constraint.is_met_by(node)))
}
