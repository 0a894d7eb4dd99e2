//! What a node is to run, with the secrets and configs that its tasks use and no others.

use crate::Cluster;
use essaim_objects::{NodeId, Runtime, Task, TaskState};
use essaim_protocol::{Assignment, AssignmentId, Assignments, Basis};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a session was sent.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    number: u64,
    sent: Option<BTreeMap<AssignmentId, Assignment>>,
}

impl Assigned {
    /// The next message holds all.
    pub(crate) fn forget(&mut self) {
        self.sent = None;
    }

    /// The next message, where there is something to say.
    pub(crate) fn next<C: Cluster>(&mut self, node: NodeId, cluster: &C) -> Option<Assignments> {
        let wanted = assignments_of(node, cluster);
        let (basis, changed, removed) = match &self.sent {
            None => (Basis::Nothing, wanted.values().cloned().collect(), Vec::new()),
            Some(sent) => {
                let is_new = |(id, it): &(&AssignmentId, &Assignment)| {
                    sent.get(id).is_none_or(|sent| !is_same_to_the_node(sent, it))
                };
                let changed: Vec<_> = wanted.iter().filter(is_new).map(|(_, it)| it.clone()).collect();
                let removed: Vec<_> = sent
                    .keys()
                    .filter(|id| !wanted.contains_key(id))
                    .copied()
                    .collect();
                if changed.is_empty() && removed.is_empty() {
                    return None;
                }
                (Basis::Number(self.number), changed, removed)
            }
        };
        self.number += 1;
        self.sent = Some(wanted);
        Some(Assignments {
            basis,
            number: self.number,
            changed: changed.into_iter().map(|it| annotated(it, cluster)).collect(),
            removed,
        })
    }
}

/// A task with its service's name and labels, which its placeholders may ask for and its node has nowhere else from.
fn annotated<C: Cluster>(assignment: Assignment, cluster: &C) -> Assignment {
    let Assignment::Task(task) = assignment else {
        return assignment;
    };
    let Some(service) = task.service_id.and_then(|id| cluster.service(id)) else {
        return Assignment::Task(task);
    };
    let mut task = Task::clone(&task);
    let labels = service.spec.labels.clone().unwrap_or_default();
    let annotations = json!({"Name": service.spec.name(), "Labels": labels});
    task.extra.insert("ServiceAnnotations".to_owned(), annotations);
    Assignment::Task(Arc::new(task))
}

/// All that a node is to have.
fn assignments_of<C: Cluster>(node: NodeId, cluster: &C) -> BTreeMap<AssignmentId, Assignment> {
    let mut all = BTreeMap::new();
    for task in cluster
        .tasks_on_node(node)
        .filter(|task| task.status.state >= TaskState::Assigned)
        // The node has those of itself.
        .filter(|task| task.spec.runtime != Some(Runtime::Attachment))
    {
        all.insert(AssignmentId::Task(task.id), Assignment::Task(task.clone()));
        let container = task
            .spec
            .container
            .as_ref()
            .filter(|_| !task.status.state.is_over());
        let Some(container) = container else {
            continue;
        };
        let secrets = container
            .secrets()
            .iter()
            .filter_map(|it| cluster.secret(it.secret_id?));
        all.extend(secrets.map(|it| (AssignmentId::Secret(it.id), Assignment::Secret(it.clone()))));
        let configs = container
            .configs()
            .iter()
            .filter_map(|it| cluster.config(it.config_id?));
        all.extend(configs.map(|it| (AssignmentId::Config(it.id), Assignment::Config(it.clone()))));
    }
    all
}

/// Whether a node has nothing to learn: what it reported of a task itself is not sent back to it.
fn is_same_to_the_node(sent: &Assignment, now: &Assignment) -> bool {
    match (sent, now) {
        (Assignment::Task(sent), Assignment::Task(now)) => {
            sent.desired_state == now.desired_state
                && (Arc::ptr_eq(&sent.spec, &now.spec) || sent.spec == now.spec)
                && sent.networks_attachments == now.networks_attachments
                && sent.generic_resources == now.generic_resources
        }
        (Assignment::Secret(sent), Assignment::Secret(now)) => Arc::ptr_eq(sent, now) || sent == now,
        (Assignment::Config(sent), Assignment::Config(now)) => Arc::ptr_eq(sent, now) || sent == now,
        (Assignment::Task(_) | Assignment::Secret(_) | Assignment::Config(_), _) => false,
    }
}
