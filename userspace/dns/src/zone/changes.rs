//! What changed between two states of liveness.

use essaim_model::{Liveness, NodeName, Service, TaskId};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// The tasks and nodes of which something else is said.
pub(super) struct Changes<'l> {
    tasks: BTreeSet<&'l TaskId>,
    nodes: BTreeSet<&'l NodeName>,
}

impl<'l> Changes<'l> {
    pub(super) fn between(before: &'l Liveness, now: &'l Liveness) -> Self {
        let mut tasks = BTreeSet::new();
        if !std::ptr::eq(before, now) {
            let mut old = before.tasks.iter().peekable();
            let mut new = now.tasks.iter().peekable();
            loop {
                let order = match (old.peek(), new.peek()) {
                    (Some((old, _)), Some((new, _))) => old.cmp(new),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => break,
                };
                let was = if order.is_le() { old.next() } else { None };
                let is = if order.is_ge() { new.next() } else { None };
                if was.map(|(_, state)| state) != is.map(|(_, state)| state) {
                    tasks.extend(was.or(is).map(|(task, _)| task));
                }
            }
        }
        Self {
            tasks,
            nodes: before.nodes_down.symmetric_difference(&now.nodes_down).collect(),
        }
    }

    /// Something else is said of one of the service's tasks.
    pub(super) fn touch(&self, service: &Service) -> bool {
        if self.tasks.is_empty() && self.nodes.is_empty() {
            return false;
        }
        let mut tasks = service.tasks.iter();
        tasks.any(|task| self.tasks.contains(&task.id) || self.nodes.contains(&task.node))
    }
}
