//! What is done with a task next.

use super::entry::{Goal, Stage};
use super::{Action, Core, Now, Operation};
use crate::Word;
use essaim_objects::{TaskId, TaskState};

impl Core {
    pub(super) fn begin(&mut self, id: TaskId, operation: Operation) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            let number = self.next_number;
            self.next_number += 1;
            entry.busy = Some((number, operation));
            self.actions.push_back(Action::Begin {
                task: id,
                number,
                operation,
            });
        }
    }

    /// Takes a task as far as it can be taken now.
    pub(super) fn step(&mut self, id: TaskId, now: Now) {
        while self.advance(id, now) {}
    }

    /// One step; whether there may be another.
    fn advance(&mut self, id: TaskId, now: Now) -> bool {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return false;
        };
        let goal = entry.goal();
        if let Some((number, operation)) = entry.busy {
            let is_moot = match operation {
                Operation::Attach => goal.is_end(),
                Operation::Drain => entry.stage == Stage::Ended,
                Operation::Prepare | Operation::Start | Operation::Stop | Operation::Remove => false,
            };
            if is_moot {
                entry.busy = None;
                self.actions.push_back(Action::Abandon { task: id, number });
            }
            return is_moot;
        }
        if entry.retry_at.is_some() {
            return false;
        }
        match goal {
            Goal::Stay => false,
            Goal::Prepare | Goal::Run => self.forward(id, goal, now),
            Goal::Stop | Goal::Remove => self.back(id, goal, now),
        }
    }

    fn forward(&mut self, id: TaskId, goal: Goal, now: Now) -> bool {
        let Some(entry) = self.tasks.get(&id) else {
            return false;
        };
        match entry.stage {
            Stage::Nothing | Stage::Found => {
                self.set(id, TaskState::Accepted, "accepted", None, now);
                if !self.is_supplied(id) {
                    return false;
                }
                self.set(id, TaskState::Preparing, "preparing", None, now);
                self.begin(id, Operation::Prepare);
            }
            Stage::Prepared => {
                self.tell(id, Word::Starting);
                self.begin(id, Operation::Attach);
            }
            Stage::Attached if goal == Goal::Run => {
                self.set(id, TaskState::Starting, "starting", None, now);
                self.begin(id, Operation::Start);
            }
            Stage::Running if !entry.is_attached && entry.task.is_some() => self.begin(id, Operation::Attach),
            Stage::Attached | Stage::Running | Stage::Ended => {}
        }
        false
    }

    /// Whether its secrets and configs are there, or do not come.
    fn is_supplied(&self, id: TaskId) -> bool {
        let container = self.task(id).and_then(|task| task.spec.container.as_ref());
        self.is_told
            || container.is_none_or(|container| {
                let mut secrets = container.secrets().iter().filter_map(|it| it.secret_id);
                let mut configs = container.configs().iter().filter_map(|it| it.config_id);
                secrets.all(|id| self.secrets.contains_key(&id))
                    && configs.all(|id| self.configs.contains_key(&id))
            })
    }

    fn back(&mut self, id: TaskId, goal: Goal, now: Now) -> bool {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return false;
        };
        if std::mem::take(&mut entry.is_watched) {
            self.actions.push_back(Action::Unwatch { task: id });
        }
        self.is_changed |= !std::mem::replace(&mut entry.is_ending, true);
        match (entry.stage, goal) {
            (Stage::Running, _) if entry.is_drained => self.begin(id, Operation::Stop),
            (Stage::Running, _) => self.begin(id, Operation::Drain),
            (Stage::Found | Stage::Prepared | Stage::Attached, _) | (Stage::Ended, Goal::Remove) => {
                self.tell(id, Word::Gone);
                self.begin(id, Operation::Remove);
            }
            (Stage::Nothing, Goal::Remove) => {
                self.tasks.remove(&id);
                self.unreported.remove(&id);
                self.is_changed = true;
            }
            (Stage::Nothing, _) => self.set(id, TaskState::Shutdown, "shutdown", None, now),
            (Stage::Ended, _) => {}
        }
        false
    }
}
