//! Restart policy: whether a task that ended is started again, and when. All of it follows from what the store holds, so
//! that a new leader goes on where the last one stopped.

use super::context::Context;
use super::copy::Copy;
use crate::state::{is_stopped, is_wanted};
use crate::{Cluster, Now};
use essaim_objects::{Availability, Node, NodeState, RestartCondition, Service, Task, TaskId, TaskState};
use std::collections::BTreeMap;
use std::time::Duration;

/// A task waits for the one before it to stop, but no longer than this.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// Whether a node cannot have tasks at all.
pub(crate) fn is_lost(node: Option<&Node>) -> bool {
    node.is_none_or(|node| {
        node.status.state == NodeState::Down || node.spec.availability() == Availability::Drain
    })
}

/// Whether two tasks are of the same spec, or runs of the same job.
fn is_of_same_spec(a: &Task, b: &Task) -> bool {
    a.job_iteration == b.job_iteration && (a.spec_version == b.spec_version || a.spec == b.spec)
}

/// Whether a task that ended, or whose node is lost, is replaced.
pub(crate) fn should_restart(copy: &Copy, task: &Task, service: &Service) -> bool {
    let policy = task.spec.restart();
    let is_job = service.spec.mode().is_job();
    if is_job && task.job_iteration != iteration(service) {
        return false;
    }
    match policy.condition {
        RestartCondition::None => return false,
        RestartCondition::Any | RestartCondition::Unset if !is_job => {}
        RestartCondition::OnFailure | RestartCondition::Any | RestartCondition::Unset => {
            if task.status.state == TaskState::Complete {
                return false;
            }
        }
    }
    if policy.max_attempts == 0 {
        return true;
    }
    // Every task of the spec but the first was an attempt.
    let same = copy.tasks().iter().filter(|other| is_of_same_spec(other, task));
    let attempts = same.skip(1).filter(|attempt| {
        let age = task.updated_at.duration_since(attempt.created_at);
        let age = Duration::try_from(age).unwrap_or_default();
        policy.window.0 == 0 || age < policy.window.to_duration()
    });
    u64::try_from(attempts.count()).unwrap_or(u64::MAX) < policy.max_attempts
}

/// Which run a job's tasks belong to.
pub(crate) fn iteration(service: &Service) -> Option<essaim_objects::Version> {
    let is_job = service.spec.mode().is_job();
    is_job.then(|| {
        service
            .job_status
            .as_ref()
            .map(|status| status.job_iteration)
            .unwrap_or_default()
    })
}

/// When a task that is held ready may start.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Not before this.
    earliest: Duration,
    /// And after this even though the one before it has not stopped.
    latest: Duration,
}

/// The starts of the tasks that are held ready, by the clock that does not jump.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts(BTreeMap<TaskId, Start>);

impl Starts {
    /// Starts the tasks that have waited long enough; says when there is more to do.
    pub(crate) fn start<C: Cluster>(
        &mut self,
        copy: &mut Copy,
        context: &Context<'_, C>,
    ) -> Option<Duration> {
        let now = context.now;
        let held = copy
            .wanted()
            .filter(|task| task.desired_state == TaskState::Ready);
        let mut wake: Option<Duration> = None;
        for id in held.map(|task| task.id).collect::<Vec<_>>() {
            let start = *self.0.entry(id).or_insert_with(|| start_of(copy, id, context));
            let is_blocked = copy.tasks().iter().any(|other| {
                let node = other.node_id.map(|id| context.cluster.node(id));
                let is_on_dead_node =
                    node.is_some_and(|node| node.is_none_or(|it| it.status.state == NodeState::Down));
                !is_wanted(other) && !is_stopped(other) && !is_on_dead_node
            });
            let due = if is_blocked {
                start.earliest.max(start.latest)
            } else {
                start.earliest
            };
            if now.monotonic >= due {
                copy.desire(id, context.running());
            } else {
                wake = Some(wake.map_or(due, |earlier| earlier.min(due)));
            }
        }
        wake
    }

    /// Forgets a task that is gone or has started.
    pub(crate) fn forget(&mut self, id: TaskId) {
        self.0.remove(&id);
    }
}

fn start_of<C: Cluster>(copy: &Copy, id: TaskId, context: &Context<'_, C>) -> Start {
    let now: Now = context.now;
    let Some(task) = copy.task(id) else {
        let at_once = now.monotonic;
        return Start {
            earliest: at_once,
            latest: at_once,
        };
    };
    let before = copy
        .tasks()
        .iter()
        .rfind(|other| (other.created_at, other.id) < (task.created_at, task.id) && !is_wanted(other));
    let delay = before.map_or(Duration::ZERO, |before| {
        let node = before.node_id.and_then(|node| context.cluster.node(node));
        let is_drained = node.is_some_and(|node| node.spec.availability() == Availability::Drain);
        let is_restart = before.desired_state == TaskState::Shutdown && is_of_same_spec(before, task);
        if is_restart && !is_drained {
            task.spec.restart().delay.to_duration()
        } else {
            Duration::ZERO
        }
    });
    Start {
        earliest: now.monotonic + now.left_of(delay, task.created_at),
        latest: now.monotonic + now.left_of(STOP_TIMEOUT, task.created_at),
    }
}

/// Gives up the tasks that ended or whose node is lost, and replaces them as their policy says. `may_replace` is false
/// where the copy itself has no place any more.
pub(crate) fn restart<C: Cluster>(copy: &mut Copy, may_replace: bool, context: &mut Context<'_, C>) {
    let ended = copy.wanted().filter(|task| {
        let is_lost = task
            .node_id
            .is_some_and(|node| is_lost(context.cluster.node(node).map(|node| &**node)));
        let is_done = task.status.state == TaskState::Complete && task.desired_state == TaskState::Complete;
        // One that failed before it was to start has its delay left: else a node that refuses it would be asked without a pause.
        let is_held = task.desired_state == TaskState::Ready;
        !is_done && (is_lost || task.status.state.is_over() && !is_held)
    });
    let ended: Vec<_> = ended.cloned().collect();
    for task in ended {
        let again = should_restart(copy, &task, context.service);
        copy.desire(task.id, TaskState::Shutdown);
        // One of the current spec is replaced beside an old one that still works; an old one beside none.
        let is_old = context.is_dirty(&task);
        let has_other = copy.wanted().any(|other| is_old || !context.is_dirty(other));
        if again && may_replace && !has_other {
            context.create(copy);
        }
    }
}
