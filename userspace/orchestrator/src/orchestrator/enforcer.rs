//! Tasks leave a node that is no longer what they need.

use super::context::meets;
use crate::scheduler::Available;
use crate::state::{holds_resources, is_wanted};
use crate::{Change, Cluster, Now};
use essaim_objects::{Availability, Node, Task, TaskState};
use std::sync::Arc;

/// The tasks that a node can no longer have: it is not what the constraints of their service ask for, or has less than
/// they reserve (the newest leave first). They are rejected, and their orchestrator replaces them.
pub(crate) fn evict<C: Cluster>(node: &Node, cluster: &C, now: Now) -> Vec<Change> {
    if node.spec.availability() == Availability::Drain {
        return Vec::new();
    }
    let Some(description) = &node.description else {
        return Vec::new();
    };
    let mut left = Available::of(description.resources.as_ref());
    let tasks = cluster
        .tasks_on_node(node.id)
        .filter(|task| holds_resources(task) && is_wanted(task));
    let mut tasks: Vec<&Arc<Task>> = tasks.collect();
    tasks.sort_by_key(|task| (task.created_at, task.id));
    let mut evicted = Vec::new();
    for task in tasks {
        let service = task.service_id.and_then(|id| cluster.service(id));
        // The service's own constraints: a change of these alone leaves its tasks with the old ones.
        let asked = service.map_or(&task.spec, |service| &service.spec.task_template);
        let reserved = task.spec.reservations();
        if meets(node, asked) && reserved.is_none_or(|reserved| left.fits(reserved)) {
            if let Some(reserved) = reserved {
                left.take_placed(reserved, task.generic_resources.as_deref().unwrap_or_default());
            }
            continue;
        }
        let mut task = Task::clone(task);
        task.status.state = TaskState::Rejected;
        task.status.timestamp = Some(now.wall);
        task.status.message = Some("task rejected by constraint enforcer".to_owned());
        task.status.err = Some("assigned node no longer meets constraints".to_owned());
        evicted.push(Change::UpdateTask(Arc::new(task)));
    }
    evicted
}
