//! How tasks' states may change.

use essaim_objects::{Task, TaskState, TaskStatus};

/// Who changes a task's observed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// What allots addresses.
    Allocator,
    /// What places it on a node.
    Scheduler,
    /// Its node.
    Agent,
    /// The leader, for a node that cannot have it or is gone.
    Leader,
}

impl Actor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allocator, Self::Scheduler, Self::Agent, Self::Leader];
}

/// Whether a task's observed state may go from one to another. It never goes back; staying is always allowed, so that
/// messages can change.
pub fn may_become(from: TaskState, to: TaskState, by: Actor) -> bool {
    use TaskState as S;
    if to < from || to == S::Remove {
        return false;
    }
    if to == from {
        return true;
    }
    match by {
        Actor::Allocator => from == S::New && to == S::Pending,
        Actor::Scheduler => from == S::Pending && to == S::Assigned,
        Actor::Agent => match from {
            S::Assigned | S::Accepted | S::Preparing | S::Ready | S::Starting | S::Running => {
                to <= S::Rejected
            }
            S::New
            | S::Pending
            | S::Complete
            | S::Shutdown
            | S::Failed
            | S::Rejected
            | S::Remove
            | S::Orphaned => false,
        },
        Actor::Leader => match from {
            S::New
            | S::Pending
            | S::Assigned
            | S::Accepted
            | S::Preparing
            | S::Ready
            | S::Starting
            | S::Running => to == S::Rejected || to == S::Orphaned,
            S::Complete | S::Shutdown | S::Failed | S::Rejected | S::Remove | S::Orphaned => false,
        },
    }
}

/// Whether what a task should be may go from one state to another: it is held ready, runs (a job's completes), is shut
/// down, is removed, and never comes back.
pub fn may_desire(from: TaskState, to: TaskState) -> bool {
    use TaskState as S;
    let is_desired = |state| {
        matches!(
            state,
            S::Ready | S::Running | S::Complete | S::Shutdown | S::Remove
        )
    };
    is_desired(from) && is_desired(to) && to >= from && (from, to) != (S::Running, S::Complete)
}

/// Whether a task should still do its work.
pub(crate) fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

/// Whether a task takes a node's resources: it was placed, and its end was not seen.
pub(crate) fn holds_resources(task: &Task) -> bool {
    (TaskState::Assigned..=TaskState::Running).contains(&task.status.state)
}

/// Whether a task has stopped for good, or will never begin.
pub(crate) fn is_stopped(task: &Task) -> bool {
    task.status.state.is_over() || !is_wanted(task) && task.status.state < TaskState::Assigned
}

/// A task's status after its node reported another; `None` where the report says nothing new, or goes back.
pub fn observe(task: &Task, report: &TaskStatus) -> Option<TaskStatus> {
    let now = &task.status;
    if !may_become(now.state, report.state, Actor::Agent) {
        return None;
    }
    let mut next = report.clone();
    // A node that does not speak of the ports has not given them up.
    next.port_status = next.port_status.or_else(|| now.port_status.clone());
    next.container_status = next.container_status.or_else(|| now.container_status.clone());
    (next != *now).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskState as S;
    use essaim_objects::{ContainerStatus, TaskId};

    #[test]
    fn each_actor_makes_its_own_steps_and_none_goes_back() {
        let mut allowed = Vec::new();
        for by in Actor::ALL {
            for from in S::ALL {
                for to in S::ALL {
                    if may_become(from, to, by) && from != to {
                        assert!(to > from, "{from} to {to} by {by:?}");
                        allowed.push((by, from, to));
                    }
                }
            }
        }
        let of = |actor| allowed.iter().filter(|(by, ..)| *by == actor).count();
        assert_eq!(of(Actor::Allocator), 1);
        assert_eq!(of(Actor::Scheduler), 1);
        // From 6 states, to the later ones of Accepted … Running and to 4 ends.
        assert_eq!(of(Actor::Agent), 5 + 4 + 3 + 2 + 1 + 6 * 4);
        // From 8 states to 2.
        assert_eq!(of(Actor::Leader), 16);
        assert!(allowed.iter().all(|(_, _, to)| *to != S::Remove));
    }

    #[test]
    fn an_agent_moves_only_what_was_placed_and_is_not_over() {
        for from in S::ALL {
            let moves = S::ALL
                .iter()
                .any(|to| *to != from && may_become(from, *to, Actor::Agent));
            assert_eq!(moves, from >= S::Assigned && from <= S::Running, "{from}");
        }
    }

    #[test]
    fn what_should_be_never_comes_back() {
        let mut allowed = Vec::new();
        for from in S::ALL {
            for to in S::ALL {
                if from != to && may_desire(from, to) {
                    allowed.push((from, to));
                }
            }
        }
        assert_eq!(
            allowed,
            [
                (S::Ready, S::Running),
                (S::Ready, S::Complete),
                (S::Ready, S::Shutdown),
                (S::Ready, S::Remove),
                (S::Running, S::Shutdown),
                (S::Running, S::Remove),
                (S::Complete, S::Shutdown),
                (S::Complete, S::Remove),
                (S::Shutdown, S::Remove),
            ]
        );
    }

    #[test]
    fn a_late_report_changes_nothing_and_ports_outlive_reports_without_them() {
        let mut task = Task::new(TaskId::MIN, None, std::sync::Arc::default());
        task.status.state = S::Running;
        task.status.port_status = Some(essaim_objects::PortStatus::default());
        let report = |state| TaskStatus {
            state,
            container_status: Some(Box::new(ContainerStatus::default())),
            ..TaskStatus::default()
        };
        assert_eq!(observe(&task, &report(S::Starting)), None);
        let next = observe(&task, &report(S::Failed)).unwrap();
        assert!(next.port_status.is_some() && next.container_status.is_some());
        task.status = next;
        assert_eq!(observe(&task, &report(S::Failed)), None);
        assert_eq!(observe(&task, &report(S::Running)), None);
    }
}
