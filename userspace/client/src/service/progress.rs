//! How far a service is on its way to what was asked: pure, told what the daemon shows and the time.

use crate::human::capital;
use essaim_objects::{
    Mode, Nanoseconds, NodeId, NodeState, Service, Task, TaskState, Timestamp, UpdateState,
};
use std::collections::{BTreeMap, BTreeSet};

/// At most so many tasks have a line each.
const LINES: usize = 20;
/// How long a service must stay as it is where it does not say.
const MONITOR: Nanoseconds = Nanoseconds::from_secs(5);

/// What is to be shown now: lines by name, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) lines: Vec<(String, String)>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not there yet.
    Going,
    /// There; with what is to be told.
    Converged(Option<String>),
    /// It will not get there by itself.
    Failed(String),
}

/// The way of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    converged_since: Option<Timestamp>,
    was_converged: bool,
    rolling_back: bool,
    message: Option<String>,
}

impl Progress {
    /// Takes in what the daemon shows.
    pub(crate) fn observe(
        &mut self,
        service: &Service,
        tasks: &[Task],
        up: &BTreeSet<NodeId>,
        now: Timestamp,
    ) -> (Step, Frame) {
        if let Some(step) = self.update_status(service) {
            return (step, Frame::default());
        }
        let mode = service.spec.mode();
        let counted = Counted::of(mode, service, tasks, up);
        let mut frame = Frame::default();
        if self.rolling_back
            && let Some(message) = &self.message
        {
            frame.lines.push(("rollback".to_owned(), message.clone()));
        }
        let total = counted.total;
        let known = !mode.is_global() || total > 0;
        let unit = if mode.is_job() { "complete" } else { "tasks" };
        let head = if mode.is_job() {
            "job progress"
        } else {
            "overall progress"
        };
        if !known {
            frame
                .lines
                .push((head.to_owned(), "waiting for new tasks".to_owned()));
            return (Step::Going, frame);
        }
        let done = counted.done;
        let count = format!("{done} out of {total} {unit}");
        frame.lines.push((head.to_owned(), count));
        if usize::try_from(total).is_ok_and(|total| total <= LINES) {
            frame.lines.extend(counted.lines);
        }
        let converged = done >= total;
        if converged && mode.is_job() {
            frame.lines.push(("job complete".to_owned(), String::new()));
            return (Step::Converged(None), frame);
        }
        (self.verify(service, converged, now, &mut frame), frame)
    }

    /// What the cluster says of an update that goes on or went wrong.
    fn update_status(&mut self, service: &Service) -> Option<Step> {
        let status = service.update_status.as_ref()?;
        let message = status.message.clone().unwrap_or_default();
        match status.state? {
            UpdateState::Updating => self.rolling_back = false,
            UpdateState::Completed => {}
            UpdateState::Paused => return Some(Step::Failed(format!("service update paused: {message}"))),
            UpdateState::RollbackPaused => {
                return Some(Step::Failed(format!("service rollback paused: {message}")));
            }
            UpdateState::RollbackStarted => {
                self.rolling_back = true;
                self.message = Some(message);
            }
            UpdateState::RollbackCompleted => self.message = Some(format!("rolled back: {message}")),
        }
        None
    }

    /// A service that is there must stay so for a while.
    fn verify(&mut self, service: &Service, converged: bool, now: Timestamp, frame: &mut Frame) -> Step {
        let say = |frame: &mut Frame, text: String| frame.lines.push(("verify".to_owned(), text));
        if !converged {
            self.converged_since = None;
            if self.was_converged {
                say(frame, "Detected task failure".to_owned());
            }
            return Step::Going;
        }
        self.was_converged = true;
        let since = *self.converged_since.get_or_insert(now);
        let monitor = service
            .spec
            .update_config
            .as_ref()
            .and_then(|config| config.monitor);
        let monitor = monitor.filter(|monitor| monitor.0 > 0).unwrap_or(MONITOR);
        let passed = now.duration_since(since).as_nanos();
        let left = i128::from(monitor.0) - passed;
        if left <= 0 {
            say(frame, format!("Service {} converged", service.id));
            return Step::Converged(self.message.take());
        }
        let seconds = (left + 999_999_999) / 1_000_000_000;
        say(
            frame,
            format!("Waiting {seconds} seconds to verify that tasks are stable..."),
        );
        Step::Going
    }
}

/// A task's slot, the first of which is 1; those of jobs begin with 0, which is not written.
fn slot_of(mode: Mode, task: &Task) -> Option<u64> {
    if mode.is_job() {
        Some(task.slot.unwrap_or_default() + 1)
    } else {
        task.slot
    }
}

/// The tasks that count.
struct Counted {
    done: u64,
    total: u64,
    lines: Vec<(String, String)>,
}

impl Counted {
    fn of(mode: Mode, service: &Service, tasks: &[Task], up: &BTreeSet<NodeId>) -> Self {
        let iteration = service.job_status.as_ref().map(|status| status.job_iteration);
        let of_this_run =
            |task: &&Task| !mode.is_job() || task.job_iteration.is_none() || task.job_iteration == iteration;
        let mut best: BTreeMap<String, &Task> = BTreeMap::new();
        for task in tasks.iter().filter(of_this_run) {
            // A task of a node that is down is about to be replaced.
            if !mode.is_job() && task.node_id.is_some_and(|node| !up.contains(&node)) {
                continue;
            }
            let place = match (mode.is_global(), slot_of(mode, task), task.node_id) {
                (false, Some(slot), _) => format!("{slot:020}"),
                (_, _, Some(node)) => node.to_string(),
                _ => continue,
            };
            let better = |known: &&Task| {
                (known.desired_state, std::cmp::Reverse(known.status.state))
                    <= (task.desired_state, std::cmp::Reverse(task.status.state))
            };
            if !best.get(&place).is_some_and(better) {
                best.insert(place, task);
            }
        }
        let is_done = |task: &&&Task| {
            if mode.is_job() {
                task.status.state == TaskState::Complete
            } else {
                !task.desired_state.is_over() && task.status.state == TaskState::Running
            }
        };
        let done = best.values().filter(is_done).count() as u64;
        let total = match mode {
            Mode::Replicated { replicas } => replicas,
            Mode::ReplicatedJob {
                total_completions, ..
            } => total_completions,
            Mode::Global | Mode::GlobalJob => best
                .values()
                .filter(|task| mode.is_job() || task.desired_state <= TaskState::Running)
                .count() as u64,
        };
        let lines = best.values().enumerate().map(|(at, task)| {
            let name = match (mode.is_global(), task.node_id) {
                (true, Some(node)) => crate::human::short(node.as_str()),
                _ => format!("{}/{total}", slot_of(mode, task).unwrap_or(at as u64 + 1)),
            };
            (name, state_line(task))
        });
        Self {
            done: done.min(total),
            total,
            lines: lines.collect(),
        }
    }
}

fn state_line(task: &Task) -> String {
    match task.status.err.as_deref().filter(|error| !error.is_empty()) {
        Some(error) => error.replace('\n', " "),
        None => task.status.state.as_str().to_owned(),
    }
}

/// The nodes that are there.
pub(crate) fn nodes_up(nodes: &[essaim_objects::Node]) -> BTreeSet<NodeId> {
    nodes
        .iter()
        .filter(|node| node.status.state != NodeState::Down)
        .map(|node| node.id)
        .collect()
}

impl Frame {
    /// The lines as text: on a terminal with a bar for each task.
    pub(crate) fn text(&self, terminal: bool) -> Vec<String> {
        let line = |(name, text): &(String, String)| {
            if !terminal || !name.contains('/') {
                return if text.is_empty() {
                    name.clone()
                } else {
                    format!("{name}: {text}")
                };
            }
            let filled = text.parse::<TaskState>().map(bar);
            filled.map_or_else(
                |_| format!("{name}: {text}"),
                |bar| format!("{name}: {} {bar}", capital(text)),
            )
        };
        self.lines.iter().map(line).collect()
    }
}

fn bar(state: TaskState) -> String {
    const WIDTH: usize = 36;
    let steps = TaskState::ALL
        .iter()
        .position(|known| *known == state)
        .unwrap_or_default();
    let last = TaskState::ALL
        .iter()
        .position(|known| *known == TaskState::Running)
        .unwrap_or(1);
    let filled = (steps.min(last) * WIDTH) / last;
    format!("[{}>{}]", "=".repeat(filled), " ".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests;
