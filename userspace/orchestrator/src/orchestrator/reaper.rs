//! Which tasks are forgotten.

use super::copy::Copy;
use crate::Cluster;
use crate::state::{is_stopped, is_wanted};
use essaim_objects::{Task, TaskState};

/// Whether a task is past: it has stopped, or will never begin.
fn is_past<C: Cluster>(task: &Task, cluster: &C) -> bool {
    let is_homeless = task.node_id.is_some_and(|node| cluster.node(node).is_none());
    !is_wanted(task) && (is_stopped(task) || is_homeless)
}

/// Deletes a copy's tasks that are to be removed and have stopped, and the oldest of more than are kept. A negative
/// limit keeps all; a limit of attempts keeps as many as are needed to count them.
pub(crate) fn reap<C: Cluster>(copy: &mut Copy, limit: i64, cluster: &C) {
    let past = |task: &Task| is_past(task, cluster);
    let is_removed = |task: &Task| task.desired_state == TaskState::Remove && past(task);
    let mut gone: Vec<_> = copy
        .tasks()
        .iter()
        .filter(|task| is_removed(task))
        .map(|task| task.id)
        .collect();
    if let Ok(limit) = usize::try_from(limit) {
        let newest = copy
            .newest()
            .map(|task| (task.id, task.spec.restart().max_attempts));
        let attempts = newest
            .map(|(_, attempts)| attempts)
            .filter(|attempts| *attempts > 0);
        let to_count = attempts
            .and_then(|attempts| usize::try_from(attempts).ok())
            .unwrap_or_default();
        let limit = if to_count > 0 {
            limit.max(to_count.saturating_add(1))
        } else {
            limit
        };
        // The last one says what became of the copy.
        let kept = newest.map(|(id, _)| id);
        let old = copy
            .tasks()
            .iter()
            .filter(|task| !is_removed(task) && past(task) && Some(task.id) != kept);
        let excess = (copy.tasks().len() - gone.len()).saturating_sub(limit);
        let old: Vec<_> = old.take(excess).map(|task| task.id).collect();
        gone.extend(old);
    }
    for id in gone {
        copy.delete(id);
    }
}
