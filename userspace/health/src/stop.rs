use crate::StopSignal;
use essaim_model::NodeName;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

#[cfg(test)]
mod against_a_model;
#[cfg(test)]
mod tests;

/// From one SIGKILL to the next: a process that was made while the others were looked for has not got the first.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// How a task is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSettings {
    /// Longest wait for the nodes to take the task out of their tables; 5 s.
    ///
    /// Too low, a node that is busy still sends new connections to a task that no longer takes them; too high, one that
    /// hangs without being found down holds up every stop for as long.
    pub drain_deadline: Duration,
    /// What the task is asked to stop with; `SIGTERM`.
    pub signal: StopSignal,
    /// From that signal to SIGKILL; 10 s, Swarm's stop grace period.
    ///
    /// Too low, requests in progress are cut off; too high, a task that ignores the signal holds up every update.
    pub grace: Duration,
}

impl Default for StopSettings {
    fn default() -> Self {
        Self {
            drain_deadline: Duration::from_secs(5),
            signal: StopSignal::TERM,
            grace: Duration::from_secs(10),
        }
    }
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopPhase {
    /// The nodes are told to send the task nothing new; it still runs as ever.
    Draining,
    /// It was asked to stop.
    Signalled,
    /// It was killed, and its end is waited for.
    Killed,
    /// None of its processes is left.
    Gone,
}

/// What a [`Stop`] wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAction {
    /// Tell every node that the task is draining.
    TellDraining,
    /// Send this signal to the task's processes.
    Signal(StopSignal),
    /// Send SIGKILL to the task's processes; asked for again and again until they have ended.
    Kill,
    /// Tell every node that the task is gone.
    TellGone,
}

/// The planned stop of one task, so that no request fails.
///
/// The task is draining until every node that may send to it, and can be reached, has said that it has taken the task
/// out, which takes the place of Swarm's blind two seconds. Nothing is waited for after the last of them: its word
/// left after the last packet that it sent, and comes by the same way. Then the stop signal, the grace period, SIGKILL.
/// A task that ends by itself is gone at once, wherever the stop was.
#[derive(Debug)]
pub struct Stop {
    settings: StopSettings,
    phase: StopPhase,
    /// When the phase ends by itself.
    due: Option<Instant>,
    /// The nodes that have not applied the drain; not known before they are told.
    pending: Option<BTreeSet<NodeName>>,
    actions: VecDeque<StopAction>,
}

impl Stop {
    /// Begins to stop a task: it is draining from now on.
    pub fn new(settings: StopSettings, now: Instant) -> Self {
        Self {
            settings,
            phase: StopPhase::Draining,
            due: now.checked_add(settings.drain_deadline),
            pending: None,
            actions: VecDeque::from([StopAction::TellDraining]),
        }
    }

    /// How far the stop has come.
    pub fn phase(&self) -> StopPhase {
        self.phase
    }

    /// The nodes that had not applied the drain when the task was asked to stop, or now, while it is draining; `None`
    /// where nobody ever said which they were.
    pub fn pending(&self) -> Option<&BTreeSet<NodeName>> {
        self.pending.as_ref()
    }

    /// When [`Stop::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the nodes that may send to the task, can be reached, and have not applied the drain yet.
    ///
    /// None left ends the drain. A node that is found down no longer counts, and one that comes back does again.
    pub fn drain_pending(&mut self, nodes: &BTreeSet<NodeName>, now: Instant) {
        match self.phase {
            StopPhase::Draining => {
                self.pending = Some(nodes.clone());
                if nodes.is_empty() {
                    self.ask(now);
                }
            }
            StopPhase::Signalled | StopPhase::Killed | StopPhase::Gone => {}
        }
    }

    /// Does what is due by now; nothing where it is called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        match self.phase {
            StopPhase::Draining => self.ask(now),
            StopPhase::Signalled | StopPhase::Killed => {
                self.phase = StopPhase::Killed;
                self.due = now.checked_add(KILL_AGAIN);
                self.actions.push_back(StopAction::Kill);
            }
            StopPhase::Gone => {}
        }
    }

    /// Takes note that none of the task's processes is left.
    pub fn processes_ended(&mut self) {
        match self.phase {
            StopPhase::Draining | StopPhase::Signalled | StopPhase::Killed => {
                self.phase = StopPhase::Gone;
                self.due = None;
                // There is nobody left to signal, but whoever was to hear of the drain still learns the end.
                self.actions.clear();
                self.actions.push_back(StopAction::TellGone);
            }
            StopPhase::Gone => {}
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_action(&mut self) -> Option<StopAction> {
        self.actions.pop_front()
    }

    fn ask(&mut self, now: Instant) {
        self.phase = StopPhase::Signalled;
        self.due = now.checked_add(self.settings.grace);
        self.actions.push_back(StopAction::Signal(self.settings.signal));
    }
}
