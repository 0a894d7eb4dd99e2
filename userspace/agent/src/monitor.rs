//! What `essaim monitor` tells: changes of members, tasks and the catalog, as they happen.

use crate::control::AgentReply;
use essaim_gossip::Event;
use essaim_model::{NodeName, TaskId, TaskState};
use serde::{Deserialize, Serialize};
use std::fmt;
use tokio::sync::mpsc::Sender;

/// A change of what this node knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A node answers.
    MemberUp {
        /// The node.
        node: NodeName,
        /// Its run: the wall clock at its start, in milliseconds.
        epoch: u64,
    },
    /// A node does not answer, and may still contradict.
    MemberSuspect {
        /// The node.
        node: NodeName,
    },
    /// A node did not contradict in time: its tasks count as gone.
    MemberDown {
        /// The node.
        node: NodeName,
    },
    /// A node is not in the catalog any more.
    MemberLeft {
        /// The node.
        node: NodeName,
    },
    /// A task's node says how far it is.
    Task {
        /// The node.
        node: NodeName,
        /// The task.
        task: TaskId,
        /// How far; none where its node does not speak of it any more.
        state: Option<TaskState>,
    },
    /// A node has a revision of the catalog in its maps.
    CatalogApplied {
        /// The node.
        node: NodeName,
        /// The revision.
        revision: u64,
    },
    /// As many changes came too fast to be told.
    Missed {
        /// How many.
        count: u64,
    },
}

impl Change {
    /// What gossip tells; none for what concerns this node's own run only.
    pub(crate) fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::MemberUp { node, epoch } => Self::MemberUp {
                node,
                epoch: epoch.number(),
            },
            Event::MemberSuspect { node } => Self::MemberSuspect { node },
            Event::MemberDown { node } => Self::MemberDown { node },
            Event::MemberLeft { node } => Self::MemberLeft { node },
            Event::TaskChanged { node, task, state } => Self::Task { node, task, state },
            Event::CatalogApplied { node, revision } => Self::CatalogApplied { node, revision },
            Event::EpochRenewed { .. } => return None,
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemberUp { node, .. } => write!(f, "node {node} is up"),
            Self::MemberSuspect { node } => write!(f, "node {node} does not answer"),
            Self::MemberDown { node } => write!(f, "node {node} is down"),
            Self::MemberLeft { node } => write!(f, "node {node} has left the catalog"),
            Self::Task { node, task, state } => {
                let state = match state {
                    Some(TaskState::Starting) => "is starting",
                    Some(TaskState::Ready) => "is ready",
                    Some(TaskState::Draining) => "is draining",
                    Some(TaskState::Gone) => "is gone",
                    None => "is not spoken of any more",
                };
                write!(f, "task {task} on {node} {state}")
            }
            Self::CatalogApplied { node, revision } => {
                write!(f, "node {node} has applied revision {revision}")
            }
            Self::Missed { count } => write!(f, "{count} changes came too fast to be told"),
        }
    }
}

/// Whoever wants to be told.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    monitors: Vec<Monitor>,
}

#[derive(Debug)]
struct Monitor {
    answer: Sender<AgentReply>,
    missed: u64,
}

impl Monitors {
    /// Tells this one, too, from now on.
    pub(crate) fn add(&mut self, answer: Sender<AgentReply>) {
        self.monitors.push(Monitor { answer, missed: 0 });
    }

    /// Passes a change on.
    pub(crate) fn tell(&mut self, change: &Change) {
        self.monitors.retain(|monitor| !monitor.answer.is_closed());
        self.monitors.iter_mut().for_each(|monitor| monitor.tell(change));
    }
}

impl Monitor {
    /// A monitor that is slow misses changes, and is told how many.
    fn tell(&mut self, change: &Change) {
        let say = |change: Change| self.answer.try_send(AgentReply::Changed(change)).is_ok();
        if self.missed > 0 && say(Change::Missed { count: self.missed }) {
            self.missed = 0;
        }
        if !say(change.clone()) {
            self.missed += 1;
        }
    }
}
