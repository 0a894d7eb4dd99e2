//! What becomes of each task: from what the managers assign and what happens on the node to what is to be done and
//! what is to be reported. Pure.

mod action;
mod adopt;
mod entry;
mod steps;

pub use action::{Action, Done, End, Failure, Launch, Now, Operation, RunnerState};
pub(crate) use entry::Entry;

use crate::Word;
use entry::Stage;
use essaim_objects::{Config, ConfigId, Secret, SecretId, Task, TaskId, TaskState, TaskStatus};
use essaim_protocol::{Assignment, AssignmentId, Assignments, Basis, TaskReport};
use essaim_runner::TaskHealth;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod tests;

/// From an operation that has to succeed some time and failed to its next try; doubled each time …
const RETRY: Duration = Duration::from_secs(1);
/// … up to this. Too low and a disk that is full is asked for nothing else, too high and what is left stays long after.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A task as it is kept on disk: what was assigned, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// As it was assigned last.
    pub task: Arc<Task>,
    /// How it is.
    pub status: TaskStatus,
    /// Whether it is still assigned; what is not is about to be removed.
    pub is_assigned: bool,
    /// Whether its end was begun.
    pub is_ending: bool,
}

/// The tasks of a node.
///
/// One operation at most is under way for each task; its outcome comes back with its number, so that one which was
/// abandoned meanwhile is passed over. States only go up.
#[derive(Debug)]
pub struct Core {
    tasks: BTreeMap<TaskId, Entry>,
    secrets: BTreeMap<SecretId, Arc<Secret>>,
    configs: BTreeMap<ConfigId, Arc<Config>>,
    /// Whether all that is assigned has been told in this process's life: what is not there then does not come.
    is_told: bool,
    /// Whose status the manager is to learn.
    unreported: BTreeSet<TaskId>,
    /// Whether what is kept on disk differs.
    is_changed: bool,
    next_number: u64,
    actions: VecDeque<Action>,
}

impl Core {
    /// With what was kept, and what the runner found of those tasks and others. Those others go on until the managers
    /// say what is assigned.
    pub fn new(kept: Vec<Kept>, found: &BTreeMap<TaskId, RunnerState>, now: Now) -> Self {
        let mut core = Self {
            tasks: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            is_told: false,
            unreported: BTreeSet::new(),
            is_changed: false,
            next_number: 0,
            actions: VecDeque::new(),
        };
        for kept in kept {
            let Kept {
                task,
                status,
                is_assigned,
                is_ending,
            } = kept;
            let id = task.id;
            let mut entry = Entry::new(Some(task), status);
            entry.is_assigned = is_assigned;
            entry.is_ending = is_ending;
            core.tasks.insert(id, entry);
        }
        for id in found.keys() {
            core.tasks
                .entry(*id)
                .or_insert_with(|| Entry::new(None, TaskStatus::default()));
        }
        let ids: Vec<TaskId> = core.tasks.keys().copied().collect();
        for id in ids {
            core.adopt(id, found.get(&id), now);
            core.step(id, now);
        }
        core
    }

    /// Takes what the managers assign.
    pub fn assign(&mut self, assignments: Assignments, now: Now) {
        let Assignments {
            basis,
            number: _,
            changed,
            removed,
        } = assignments;
        let mut touched = BTreeSet::new();
        if basis == Basis::Nothing {
            let kept: BTreeSet<AssignmentId> = changed.iter().map(Assignment::id).collect();
            self.secrets
                .retain(|id, _| kept.contains(&AssignmentId::Secret(*id)));
            self.configs
                .retain(|id, _| kept.contains(&AssignmentId::Config(*id)));
            for (id, entry) in &mut self.tasks {
                entry.is_assigned = kept.contains(&AssignmentId::Task(*id));
                touched.insert(*id);
            }
            self.is_told = true;
        }
        for assignment in changed {
            match assignment {
                Assignment::Secret(secret) => drop(self.secrets.insert(secret.id, secret)),
                Assignment::Config(config) => drop(self.configs.insert(config.id, config)),
                Assignment::Task(task) => {
                    touched.insert(task.id);
                    self.assign_task(task, now);
                }
            }
        }
        for id in removed {
            match id {
                AssignmentId::Secret(id) => drop(self.secrets.remove(&id)),
                AssignmentId::Config(id) => drop(self.configs.remove(&id)),
                AssignmentId::Task(id) => {
                    if let Some(entry) = self.tasks.get_mut(&id) {
                        entry.is_assigned = false;
                        touched.insert(id);
                    }
                }
            }
        }
        self.is_changed = true;
        for id in touched {
            self.step(id, now);
        }
    }

    fn assign_task(&mut self, task: Arc<Task>, now: Now) {
        let id = task.id;
        let Some(entry) = self.tasks.get_mut(&id) else {
            let status = task.status.clone();
            self.tasks.insert(id, Entry::new(Some(task), status));
            self.check_that_it_can_start(id, now);
            return;
        };
        let was_unknown = entry.task.is_none();
        // Or the managers have given it up meanwhile, as one whose node was gone for too long.
        if was_unknown || (task.status.state.is_over() && !entry.status.state.is_over()) {
            entry.status = task.status.clone();
        }
        entry.is_assigned = true;
        entry.task = Some(task);
        match entry.stage {
            Stage::Running if was_unknown => self.take_over(id, now),
            Stage::Ended if was_unknown => {
                let end = entry.end.clone().unwrap_or_default();
                self.tell_end(id, &end, now);
            }
            Stage::Nothing
            | Stage::Found
            | Stage::Prepared
            | Stage::Attached
            | Stage::Running
            | Stage::Ended => {}
        }
    }

    /// A new session has begun: its manager learns everything once.
    pub fn session_began(&mut self) {
        let tasks = self.tasks.iter().filter(|(_, entry)| entry.is_reported());
        self.unreported.extend(tasks.map(|(id, _)| *id));
    }

    /// What is to be reported; afterwards it counts as known.
    pub fn take_reports(&mut self) -> Vec<TaskReport> {
        let ids = std::mem::take(&mut self.unreported);
        let reports = ids.into_iter().filter_map(|task| {
            let entry = self.tasks.get(&task).filter(|entry| entry.is_reported())?;
            let status = entry.status.clone();
            Some(TaskReport { task, status })
        });
        reports.collect()
    }

    /// What is to be kept on disk, where that has changed since it was asked last.
    pub fn take_kept(&mut self) -> Option<Vec<Kept>> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let kept = self.tasks.values().filter_map(|entry| {
            Some(Kept {
                task: entry.task.clone()?,
                status: entry.status.clone(),
                is_assigned: entry.is_assigned,
                is_ending: entry.is_ending,
            })
        });
        Some(kept.collect())
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Core::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tasks.values().filter_map(|entry| entry.retry_at).min()
    }

    /// Tries again what failed.
    pub fn handle_timeout(&mut self, now: Now) {
        let is_due = |entry: &Entry| entry.retry_at.is_some_and(|at| at <= now.monotonic);
        let due: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, entry)| is_due(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(entry) = self.tasks.get_mut(&id) {
                entry.retry_at = None;
            }
            self.step(id, now);
        }
    }

    /// A task as it was assigned.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)?.task.as_ref()
    }

    /// How a task is.
    pub fn status(&self, id: TaskId) -> Option<&TaskStatus> {
        Some(&self.tasks.get(&id)?.status)
    }

    /// The secrets that are assigned.
    pub fn secrets(&self) -> &BTreeMap<SecretId, Arc<Secret>> {
        &self.secrets
    }

    /// The configs that are assigned.
    pub fn configs(&self) -> &BTreeMap<ConfigId, Arc<Config>> {
        &self.configs
    }

    /// The tasks that are assigned and have said something, or may.
    pub fn with_logs(&self) -> impl Iterator<Item = &Arc<Task>> {
        let ran = |entry: &&Entry| matches!(entry.stage, Stage::Running | Stage::Ended);
        self.tasks
            .values()
            .filter(ran)
            .filter_map(|entry| entry.task.as_ref())
    }

    /// Whether nothing of any task is on the node.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// An operation is over.
    pub fn done(&mut self, id: TaskId, number: u64, outcome: Result<Done, Failure>, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some((_, operation)) = entry.busy.take_if(|(busy, _)| *busy == number) else {
            return;
        };
        if outcome.is_ok() {
            entry.failures = 0;
        }
        match (operation, outcome) {
            (Operation::Prepare, Ok(_)) => entry.stage = Stage::Prepared,
            (Operation::Attach, Ok(_)) => {
                entry.is_attached = true;
                if entry.stage == Stage::Prepared {
                    entry.stage = Stage::Attached;
                    self.set(id, TaskState::Ready, "prepared", None, now);
                }
            }
            (Operation::Start, Ok(Done::Started(launch))) => self.started(id, &launch, now),
            (Operation::Drain, _) => entry.is_drained = true,
            (Operation::Stop, Ok(Done::Ended(end))) => self.ended(id, &end, now),
            (Operation::Remove, Ok(_)) => entry.stage = Stage::Nothing,
            (Operation::Prepare, Err(failure)) => {
                // What an earlier agent had prepared is still there, and is removed.
                self.set(id, TaskState::Rejected, "preparing", Some(failure.reason), now);
            }
            (Operation::Attach, Err(failure)) => {
                entry.is_attached = true;
                // What runs goes on: the data plane itself tries again.
                if entry.stage == Stage::Prepared {
                    entry.stage = Stage::Attached;
                    self.set(id, TaskState::Rejected, "preparing", Some(failure.reason), now);
                }
            }
            (Operation::Start, Err(failure)) => self.not_started(id, failure, now),
            // Of another operation, which is a bug of the shell's; it is tried again.
            (Operation::Start | Operation::Stop, Ok(_)) | (Operation::Stop | Operation::Remove, Err(_)) => {
                let delay = RETRY
                    .saturating_mul(1 << entry.failures.min(10))
                    .min(LONGEST_RETRY);
                entry.failures = entry.failures.saturating_add(1);
                entry.retry_at = now.monotonic.checked_add(delay);
            }
        }
        self.step(id, now);
    }

    fn started(&mut self, id: TaskId, launch: &Launch, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.launch = Some(launch.clone());
        entry.set_launched(launch);
        match entry.end.clone() {
            // It ended before its start was told.
            Some(end) if entry.stage == Stage::Ended => self.tell_end(id, &end, now),
            _ => {
                entry.stage = Stage::Running;
                self.launched(id, launch, false, now);
            }
        }
    }

    /// It runs: from now on it is watched, or takes traffic.
    fn launched(&mut self, id: TaskId, launch: &Launch, was_healthy: bool, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.set_launched(launch);
        let is_checked = launch.health.is_some() || entry.has_check();
        entry.is_watched |= is_checked;
        if is_checked && launch.health.is_none() {
            self.actions.push_back(Action::Watch {
                task: id,
                launch: launch.clone(),
                was_healthy,
            });
        }
        if !is_checked || was_healthy {
            self.running(id, launch, now);
        } else {
            self.tell(id, Word::Starting);
        }
        if let Some(health) = launch.health {
            self.runner_health(id, health, now);
        }
    }

    /// What the checks say that a task's runner has run.
    pub fn runner_health(&mut self, id: TaskId, health: TaskHealth, now: Now) {
        match health {
            TaskHealth::Starting => {}
            TaskHealth::Healthy => self.health_changed(id, Ok(()), now),
            TaskHealth::Unhealthy { failures } => {
                let why = format!("{failures} checks in a row have failed");
                self.health_changed(id, Err(why), now);
            }
        }
    }

    fn running(&mut self, id: TaskId, launch: &Launch, now: Now) {
        self.tell(id, Word::Running { pid: launch.pid });
        self.set(id, TaskState::Running, "started", None, now);
    }

    fn not_started(&mut self, id: TaskId, failure: Failure, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        if failure.is_end {
            entry.stage = Stage::Ended;
        }
        entry.set_container(|container| container.exit_code = failure.exit_code.map(i64::from));
        self.set(id, TaskState::Failed, "starting", Some(failure.reason), now);
        self.tell(id, Word::Gone);
    }

    /// A task has ended, as the runner says.
    pub fn runner_ended(&mut self, id: TaskId, end: &End, now: Now) {
        self.ended(id, end, now);
        self.step(id, now);
    }

    fn ended(&mut self, id: TaskId, end: &End, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        match entry.stage {
            Stage::Ended | Stage::Nothing => return,
            Stage::Found | Stage::Prepared | Stage::Attached | Stage::Running => {}
        }
        entry.stage = Stage::Ended;
        entry.end = Some(end.clone());
        entry.retry_at = None;
        if std::mem::take(&mut entry.is_watched) {
            self.actions.push_back(Action::Unwatch { task: id });
        }
        // How the start went is about to be said, and knows more.
        if !matches!(entry.busy, Some((_, Operation::Start))) && entry.task.is_some() {
            self.tell_end(id, end, now);
        }
    }

    fn tell_end(&mut self, id: TaskId, end: &End, now: Now) {
        self.tell(id, Word::Gone);
        let Some(entry) = self.tasks.get_mut(&id) else {
            return;
        };
        entry.set_container(|container| container.exit_code = end.code.map(i64::from));
        let (state, message, error) = entry.how_it_ended(end);
        self.set(id, state, message, error, now);
    }

    /// What its checks say of a task.
    pub fn health_changed(&mut self, id: TaskId, health: Result<(), String>, now: Now) {
        let Some(entry) = self.tasks.get_mut(&id).filter(|entry| entry.is_watched) else {
            return;
        };
        match (health, entry.launch.clone()) {
            (Ok(()), Some(launch)) if entry.unhealthy.is_none() => self.running(id, &launch, now),
            (Ok(()), _) => {}
            (Err(why), _) => {
                entry.unhealthy.get_or_insert(why);
                self.tell(id, Word::Unhealthy);
            }
        }
        self.step(id, now);
    }

    fn set(&mut self, id: TaskId, state: TaskState, message: &str, error: Option<String>, now: Now) {
        let entry = self.tasks.get_mut(&id);
        if entry.is_some_and(|entry| entry.set(state, message, error, now)) {
            self.unreported.insert(id);
            self.is_changed = true;
        }
    }

    /// Nothing is said twice, and nothing after that it is gone.
    fn tell(&mut self, id: TaskId, word: Word) {
        if let Some(entry) = self.tasks.get_mut(&id)
            && entry.told != Some(word)
            && entry.told != Some(Word::Gone)
        {
            entry.told = Some(word);
            self.actions.push_back(Action::Tell { task: id, word });
        }
    }
}
