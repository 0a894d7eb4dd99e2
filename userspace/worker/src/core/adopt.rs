//! Tasks that were there before.

use super::entry::Stage;
use super::{Core, Now, RunnerState};
use essaim_objects::{TaskId, TaskState};

impl Core {
    pub(super) fn adopt(&mut self, id: TaskId, found: Option<&RunnerState>, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        match found {
            None => self.check_that_it_can_start(id, now),
            Some(RunnerState::Prepared) => entry.stage = Stage::Found,
            Some(RunnerState::Running(launch)) => {
                entry.stage = Stage::Running;
                entry.launch = Some(launch.clone());
                if entry.task.is_some() {
                    self.take_over(id, now);
                }
            }
            Some(RunnerState::Ended(end)) => {
                entry.stage = Stage::Running;
                self.ended(id, end, now);
            }
        }
    }

    /// A task that ran before this process did, or before it was known.
    pub(super) fn take_over(&mut self, id: TaskId, now: Now) {
        let Some((entry, launch)) = self.tasks.get_mut(&id).and_then(|entry| {
            let launch = entry.launch.clone().filter(|_| !entry.status.state.is_over())?;
            Some((entry, launch))
        }) else {
            return;
        };
        let was_running = entry.status.state == TaskState::Running;
        if !was_running && entry.set(TaskState::Starting, "starting", None, now) {
            self.unreported.insert(id);
            self.is_changed = true;
        }
        self.launched(id, &launch, was_running, now);
    }

    /// One of which there is nothing on the node must not have been further than prepared.
    pub(super) fn check_that_it_can_start(&mut self, id: TaskId, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        if entry.status.state >= TaskState::Starting && !entry.status.state.is_over() {
            let error = "task: it was started, and nothing of it is left on this node".to_owned();
            self.set(id, TaskState::Failed, "started", Some(error), now);
        }
    }
}
