//! A node: it takes assignments, runs tasks, and reports.

use essaim_objects::{Task, TaskId, TaskState, TaskStatus};
use essaim_protocol::{Assignment, AssignmentId, Assignments, Basis, SessionId};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A task on its node.
pub(crate) struct Local {
    pub(crate) task: Arc<Task>,
    pub(crate) state: TaskState,
    /// When its state changes next, in milliseconds.
    pub(crate) at: u64,
}

#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) session: Option<SessionId>,
    pub(crate) number: Option<u64>,
    pub(crate) tasks: BTreeMap<TaskId, Local>,
    /// When it next speaks to the leader, in milliseconds.
    pub(crate) speaks_at: u64,
    pub(crate) wants_all: bool,
    /// The greatest number of a message of this session, taken or not.
    pub(crate) seen: u64,
}

impl Agent {
    /// The machine lost its power: nothing is left.
    pub(crate) fn crash(&mut self) {
        *self = Self::default();
    }

    /// Takes a message, if it builds on what it has.
    pub(crate) fn take(&mut self, message: Assignments, now: u64) {
        self.seen = self.seen.max(message.number);
        match message.basis {
            // Overtaken by one that builds on it.
            Basis::Nothing if message.number < self.seen => {
                self.wants_all = true;
                return;
            }
            Basis::Nothing => {
                let kept: Vec<_> = message
                    .changed
                    .iter()
                    .filter_map(|it| {
                        if let Assignment::Task(task) = it {
                            Some(task.id)
                        } else {
                            None
                        }
                    })
                    .collect();
                self.tasks.retain(|id, _| kept.contains(id));
            }
            Basis::Number(number) if self.number == Some(number) => {}
            Basis::Number(_) => {
                self.wants_all = true;
                return;
            }
        }
        // One that built on this came before it, and was not taken.
        self.wants_all = message.number < self.seen;
        self.number = Some(message.number);
        for removed in message.removed {
            if let AssignmentId::Task(id) = removed {
                self.tasks.remove(&id);
            }
        }
        for changed in message.changed {
            let Assignment::Task(task) = changed else {
                continue;
            };
            let local = self.tasks.entry(task.id).or_insert_with(|| Local {
                // What it ran before it crashed, it does not run now.
                state: match task.status.state {
                    state if state.is_over() => state,
                    TaskState::Assigned => TaskState::Accepted,
                    _ => TaskState::Failed,
                },
                task: task.clone(),
                at: now,
            });
            local.task = task;
            local.at = local.at.min(now + 50);
        }
    }

    /// Lets tasks go on; gives what there is to report.
    pub(crate) fn run(&mut self, now: u64, is_calm: bool, rng: &mut StdRng) -> Vec<(TaskId, TaskStatus)> {
        let mut reports = Vec::new();
        for (id, local) in &mut self.tasks {
            if local.at > now {
                continue;
            }
            let before = local.state;
            let wanted = local.task.desired_state;
            let image = local
                .task
                .spec
                .container
                .as_ref()
                .and_then(|it| it.image.clone())
                .unwrap_or_default();
            local.at = now + rng.random_range(20..1_500);
            local.state = match before {
                state if state.is_over() => state,
                _ if wanted > TaskState::Complete => TaskState::Shutdown,
                TaskState::Accepted => TaskState::Preparing,
                TaskState::Ready if wanted >= TaskState::Running => TaskState::Starting,
                TaskState::Preparing | TaskState::Ready => TaskState::Ready,
                TaskState::Starting if image.starts_with("bad") => TaskState::Failed,
                TaskState::Starting => TaskState::Running,
                TaskState::Running if wanted == TaskState::Complete => match rng.random_range(0..4) {
                    0 if !is_calm => TaskState::Failed,
                    _ => TaskState::Complete,
                },
                TaskState::Running if !is_calm && rng.random_range(0..40) == 0 => {
                    if rng.random() {
                        TaskState::Failed
                    } else {
                        TaskState::Complete
                    }
                }
                state => state,
            };
            if local.state.is_over() || local.state == TaskState::Ready && wanted < TaskState::Running {
                local.at = u64::MAX;
            } else if local.state == TaskState::Running {
                local.at = now + rng.random_range(2_000..20_000);
            }
            if local.state != before || before == TaskState::Accepted {
                reports.push((*id, status(local.state)));
            }
        }
        reports
    }

    /// Everything that it knows.
    pub(crate) fn all(&self) -> Vec<(TaskId, TaskStatus)> {
        self.tasks
            .iter()
            .map(|(id, local)| (*id, status(local.state)))
            .collect()
    }

    /// When it has something to do.
    pub(crate) fn next(&self) -> u64 {
        let tasks = self
            .tasks
            .values()
            .map(|local| local.at)
            .min()
            .unwrap_or(u64::MAX);
        tasks.min(self.speaks_at)
    }
}

fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state,
        message: Some(state.as_str().to_owned()),
        ..TaskStatus::default()
    }
}
