//! Services of a number of tasks: which slots there are.

use super::context::Context;
use super::copy::{Copy, Instance};
use super::restart::{restart, should_restart};
use crate::Cluster;
use essaim_objects::{TaskState, UpdateState};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a copy has ended as its policy wants, so that only another spec begins it anew. A rollback begins all anew,
/// so that it always ends in the state it promises.
fn is_finished<C: Cluster>(copy: &Copy, context: &Context<'_, C>) -> bool {
    let state = context
        .service
        .update_status
        .as_ref()
        .and_then(|status| status.state);
    if copy.is_wanted() || state == Some(UpdateState::RollbackStarted) {
        return false;
    }
    copy.newest()
        .is_some_and(|newest| !should_restart(copy, newest, context.service))
}

/// Makes the number of slots what is asked; says which of them stay.
pub(crate) fn scale<C: Cluster>(
    copies: &mut BTreeMap<Instance, Copy>,
    replicas: u64,
    context: &mut Context<'_, C>,
) -> BTreeSet<Instance> {
    let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
    for copy in copies.values_mut() {
        restart(copy, matches!(copy.instance, Instance::Slot(_)), context);
    }
    let occupied = copies.values().filter(|copy| {
        matches!(copy.instance, Instance::Slot(_)) && (copy.is_wanted() || is_finished(copy, context))
    });
    let mut kept: BTreeSet<_> = occupied.map(|copy| copy.instance).collect();
    if kept.len() > replicas {
        kept = most_worth(&kept, copies).into_iter().take(replicas).collect();
    }
    let mut slot = 0;
    while kept.len() < replicas {
        slot += 1;
        let instance = Instance::Slot(slot);
        if kept.insert(instance) {
            let copy = copies
                .entry(instance)
                .or_insert_with(|| Copy::new(instance, Vec::new()));
            context.create(copy);
        }
    }
    for copy in copies.values_mut().filter(|copy| !kept.contains(&copy.instance)) {
        copy.remove_all();
    }
    kept
}

/// Slots in the order in which they are kept: those that run before those that do not, and of these the first of every
/// node before the second of any, so that the nodes with most tasks lose theirs first.
fn most_worth(slots: &BTreeSet<Instance>, copies: &BTreeMap<Instance, Copy>) -> Vec<Instance> {
    let of_slot = |slot: &Instance| {
        let copy = copies.get(slot);
        let mut running = copy.into_iter().flat_map(Copy::wanted);
        running
            .find(|task| task.status.state == TaskState::Running)
            .and_then(|task| task.node_id)
    };
    let mut on_node = BTreeMap::new();
    let mut ranked: Vec<_> = slots
        .iter()
        .map(|slot| match of_slot(slot) {
            Some(node) => {
                let count: &mut usize = on_node.entry(node).or_default();
                *count += 1;
                (*count, *slot)
            }
            None => (usize::MAX, *slot),
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, slot)| slot).collect()
}
