//! Jobs of a number of tasks.

use super::context::Context;
use super::copy::{Copy, Instance};
use super::restart::{iteration, restart, should_restart};
use crate::Cluster;
use essaim_objects::TaskState;
use std::collections::BTreeMap;

/// Has the tasks of earlier runs removed.
pub(crate) fn remove_earlier_runs<C: Cluster>(
    copies: &mut BTreeMap<Instance, Copy>,
    context: &Context<'_, C>,
) {
    let run = iteration(context.service);
    for copy in copies.values_mut() {
        let earlier = copy.tasks().iter().filter(|task| task.job_iteration != run);
        for id in earlier.map(|task| task.id).collect::<Vec<_>>() {
            copy.desire(id, TaskState::Remove);
        }
    }
}

/// Begins as many of the slots that are still to complete as may run at a time.
pub(crate) fn run<C: Cluster>(
    copies: &mut BTreeMap<Instance, Copy>,
    max_concurrent: u64,
    total: u64,
    context: &mut Context<'_, C>,
) {
    let most = if max_concurrent == 0 {
        total
    } else {
        max_concurrent
    };
    let mut running = 0;
    for copy in copies.values_mut() {
        let is_of_job = matches!(copy.instance, Instance::Slot(slot) if (1..=total).contains(&slot));
        if !is_of_job {
            copy.remove_all();
            continue;
        }
        restart(copy, true, context);
        let is_running = copy.wanted().any(|task| task.status.state != TaskState::Complete);
        running += u64::from(is_running);
    }
    let run = iteration(context.service);
    for slot in 1..=total {
        if running >= most {
            break;
        }
        let instance = Instance::Slot(slot);
        let copy = copies
            .entry(instance)
            .or_insert_with(|| Copy::new(instance, Vec::new()));
        let is_given_up = copy.newest().is_some_and(|newest| {
            newest.job_iteration == run && !should_restart(copy, newest, context.service)
        });
        if !copy.is_wanted() && !is_given_up {
            context.create(copy);
            running += 1;
        }
    }
}
