//! Where tasks failed lately.

use essaim_objects::{NodeId, ServiceId, Task, TaskState, Version};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// So many failures of a service on a node put it last.
const MANY: usize = 5;
/// What they are counted in.
const WINDOW: Duration = Duration::from_mins(5);

type Key = (ServiceId, Option<Version>, NodeId);

/// The failures of the last minutes. A new spec begins anew, and so does a new leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(BTreeMap<Key, VecDeque<Duration>>);

fn key(task: &Task, node: NodeId) -> Option<Key> {
    Some((task.service_id?, task.spec_version, node))
}

impl Failures {
    /// Notes a change of a task.
    pub(crate) fn note(&mut self, old: Option<&Task>, new: Option<&Task>, now: Duration) {
        let is_failed = |task: &Task| matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
        let (Some(old), Some(new)) = (old, new) else {
            return;
        };
        if let Some(key) = new.node_id.and_then(|node| key(new, node))
            && is_failed(new)
            && !is_failed(old)
        {
            let times = self.0.entry(key).or_default();
            times.push_back(now);
            if times.len() > MANY {
                times.pop_front();
            }
        }
    }

    /// Whether a node should come last for tasks like this.
    pub(crate) fn are_many(&self, task: &Task, node: NodeId, now: Duration) -> bool {
        let times = key(task, node).and_then(|key| self.0.get(&key));
        times.is_some_and(|times| {
            times.len() >= MANY && times.front().is_some_and(|first| now < *first + WINDOW)
        })
    }

    /// Drops what is past.
    pub(crate) fn forget(&mut self, now: Duration) {
        self.0
            .retain(|_, times| times.back().is_some_and(|last| now < *last + WINDOW));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
