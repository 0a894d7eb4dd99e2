use super::{End, Launch, Now, Operation};
use crate::Word;
use essaim_objects::{ContainerStatus, Task, TaskState, TaskStatus};
use std::sync::Arc;
use std::time::Instant;

/// What there is of a task on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing.
    Nothing,
    /// An earlier agent has prepared it: the runner lacks the contents of its files.
    Found,
    /// It is prepared.
    Prepared,
    /// It is prepared, and its endpoints were waited for.
    Attached,
    /// It runs.
    Running,
    /// It has run; its logs are there.
    Ended,
}

/// What a task is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// It stays as it is.
    Stay,
    /// It is to be ready.
    Prepare,
    /// It is to run.
    Run,
    /// It is not to run.
    Stop,
    /// Nothing is to be left of it.
    Remove,
}

impl Goal {
    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::Stop | Self::Remove)
    }
}

/// A task.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug)]
pub(crate) struct Entry {
    /// As it was assigned last; none where only the runner knows it.
    pub(super) task: Option<Arc<Task>>,
    pub(super) is_assigned: bool,
    pub(super) status: TaskStatus,
    pub(super) stage: Stage,
    pub(super) busy: Option<(u64, Operation)>,
    pub(super) launch: Option<Launch>,
    pub(super) end: Option<End>,
    pub(super) is_attached: bool,
    pub(super) is_drained: bool,
    /// Whether its end was begun: there is no way back, since other nodes have been told of it.
    pub(super) is_ending: bool,
    pub(super) is_watched: bool,
    /// What its checks say, once they have failed too often.
    pub(super) unhealthy: Option<String>,
    pub(super) told: Option<Word>,
    /// Operations in a row that failed.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
}

impl Entry {
    pub(super) fn new(task: Option<Arc<Task>>, status: TaskStatus) -> Self {
        Self {
            task,
            is_assigned: true,
            status,
            stage: Stage::Nothing,
            busy: None,
            launch: None,
            end: None,
            is_attached: false,
            is_drained: false,
            is_ending: false,
            is_watched: false,
            unhealthy: None,
            told: None,
            failures: 0,
            retry_at: None,
        }
    }

    /// Whether the managers are told of it.
    pub(super) fn is_reported(&self) -> bool {
        self.task.is_some() && self.is_assigned && self.status.state >= TaskState::Accepted
    }

    pub(super) fn has_check(&self) -> bool {
        let container = self.task.as_ref().and_then(|task| task.spec.container.as_ref());
        let test = container
            .and_then(|container| container.healthcheck.as_ref())
            .and_then(|check| check.test.as_ref());
        test.and_then(|test| test.first())
            .is_some_and(|kind| kind != "NONE")
    }

    pub(super) fn goal(&self) -> Goal {
        if !self.is_assigned {
            return Goal::Remove;
        }
        let Some(task) = &self.task else {
            return Goal::Stay;
        };
        if self.is_ending
            || self.status.state.is_over()
            || self.unhealthy.is_some()
            || task.desired_state >= TaskState::Shutdown
        {
            Goal::Stop
        } else if task.desired_state >= TaskState::Running {
            // A job's tasks should be complete, and come there by running.
            Goal::Run
        } else if task.desired_state >= TaskState::Preparing {
            Goal::Prepare
        } else {
            Goal::Stay
        }
    }

    /// Takes the status up; whether it was lower. What is over stays as it is.
    pub(super) fn set(&mut self, state: TaskState, message: &str, error: Option<String>, now: Now) -> bool {
        let is_higher = state > self.status.state && !self.status.state.is_over();
        if is_higher {
            self.status.state = state;
            self.status.timestamp = Some(now.wall);
            self.status.message = Some(message.to_owned());
            self.status.err = error;
        }
        is_higher
    }

    pub(super) fn set_container(&mut self, change: impl FnOnce(&mut ContainerStatus)) {
        if self.status.state.is_over() {
            return;
        }
        let container = self.status.container_status.get_or_insert_default();
        let id = self.task.as_ref().map(|task| task.id.to_string());
        let of_engine = self.launch.as_ref().and_then(|launch| launch.container.clone());
        container.container_id = of_engine.or(id);
        change(container);
    }

    pub(super) fn set_launched(&mut self, launch: &Launch) {
        self.set_container(|container| container.pid = Some(launch.pid.into()));
    }

    /// What its end means, in Swarm's words.
    pub(super) fn how_it_ended(&self, end: &End) -> (TaskState, &'static str, Option<String>) {
        let is_wanted = self.is_assigned
            && (!self.is_ending || self.unhealthy.is_some())
            && self
                .task
                .as_ref()
                .is_some_and(|task| task.desired_state < TaskState::Shutdown);
        if !is_wanted {
            return (TaskState::Shutdown, "shutdown", None);
        }
        let reason = self
            .unhealthy
            .as_ref()
            .map(|why| format!("unhealthy container: {why}"))
            .or_else(|| end.reason.clone());
        let error = match (end.code, reason) {
            (Some(0), None) => return (TaskState::Complete, "finished", None),
            (None | Some(0), Some(reason)) => format!("task: {reason}"),
            (None, None) => "task: how it ended is not known".to_owned(),
            (Some(code), None) => format!("task: non-zero exit ({code})"),
            (Some(code), Some(reason)) => format!("task: non-zero exit ({code}): {reason}"),
        };
        (TaskState::Failed, "started", Some(error))
    }
}
