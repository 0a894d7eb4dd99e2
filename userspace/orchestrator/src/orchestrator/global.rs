//! Services and jobs with a task on every node.

use super::context::{Context, meets};
use super::copy::{Copy, Instance};
use super::restart::{is_lost, iteration, restart, should_restart};
use crate::Cluster;
use essaim_objects::{Availability, TaskState};
use std::collections::{BTreeMap, BTreeSet};

/// Makes every node that may have one have one; says which stay and may be updated.
pub(crate) fn spread<C: Cluster>(
    copies: &mut BTreeMap<Instance, Copy>,
    context: &mut Context<'_, C>,
) -> BTreeSet<Instance> {
    let mut kept = BTreeSet::new();
    for node in context.cluster.nodes() {
        let instance = Instance::Node(node.id);
        if is_lost(Some(node)) || !meets(node, &context.service.spec.task_template) {
            continue;
        }
        // A paused node keeps what it has, and gets nothing new.
        if node.spec.availability() == Availability::Pause {
            if let Some(copy) = copies.get_mut(&instance) {
                restart(copy, false, context);
            }
            continue;
        }
        kept.insert(instance);
        let copy = copies
            .entry(instance)
            .or_insert_with(|| Copy::new(instance, Vec::new()));
        restart(copy, true, context);
        if !copy.is_wanted() && !is_finished(copy, context) {
            context.create(copy);
        }
    }
    for copy in copies.values_mut().filter(|copy| !kept.contains(&copy.instance)) {
        let node = match copy.instance {
            Instance::Node(id) => context.cluster.node(id),
            // A task that waits for no node is none of a global service.
            Instance::Slot(_) => None,
        };
        let is_paused = |node: &essaim_objects::Node| {
            node.spec.availability() == Availability::Pause
                && !is_lost(Some(node))
                && meets(node, &context.service.spec.task_template)
        };
        match node {
            None => copy.remove_all(),
            Some(node) if is_paused(node) => {}
            Some(_) => copy.shut_down_all_but(None),
        }
    }
    kept
}

/// Whether the task of a node ended by itself, and its policy leaves it so.
fn is_finished<C: Cluster>(copy: &Copy, context: &Context<'_, C>) -> bool {
    let of_run = iteration(context.service);
    copy.newest().is_some_and(|newest| {
        let by_itself = matches!(
            newest.status.state,
            TaskState::Complete | TaskState::Failed | TaskState::Rejected
        );
        by_itself && newest.job_iteration == of_run && !should_restart(copy, newest, context.service)
    })
}
