//! Planned stops of the node's tasks, on behalf of whoever asks over the control socket.

use crate::control::{AgentReply, StopQuestion};
use crate::members::acknowledged;
use essaim_gossip::GossipHandle;
use essaim_health::{ProcessError, SignalError, StopPhase, StopSettings, TaskProcesses, stop_task};
use essaim_model::{TaskId, TaskState};
use essaim_netlink::{NetnsError, NetnsRef};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

/// From the last node's word that it sends the task nothing new to the signal. Most programs close their listeners when
/// they are asked to end, which resets handshakes that are under way. Too low, clients that are farther away meet such a
/// reset; too high, every stop takes that much longer.
pub(crate) const SETTLE: Duration = Duration::from_millis(200);

/// Why a stop was not begun; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StopRefused {
    /// The signal is none.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The task has no namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Its processes cannot be found.
    #[error(transparent)]
    Processes(#[from] ProcessError),
}

/// What the agent's loop is told of a task.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) task: TaskId,
    pub(crate) state: TaskState,
    /// Answered when it is in the maps of this node, and the other nodes are told.
    pub(crate) applied: oneshot::Sender<()>,
}

/// A stop, or only the drain that begins it.
#[derive(Debug)]
pub(crate) struct StopJob {
    task: TaskId,
    settings: StopSettings,
    /// None where the task is only drained.
    processes: Option<TaskProcesses>,
    gossip: Option<GossipHandle>,
    told: mpsc::Sender<Told>,
    answer: mpsc::Sender<AgentReply>,
}

impl StopJob {
    /// Makes ready to stop a task that runs in this namespace.
    pub(crate) fn new(
        question: &StopQuestion,
        netns: &str,
        gossip: Option<GossipHandle>,
        told: mpsc::Sender<Told>,
        answer: mpsc::Sender<AgentReply>,
    ) -> Result<Self, StopRefused> {
        let settings = StopSettings {
            drain_deadline: Duration::from_millis(question.drain_deadline_ms),
            signal: question.signal.parse()?,
            grace: Duration::from_millis(question.grace_ms),
        };
        let processes = if question.drain_only {
            None
        } else {
            Some(TaskProcesses::new(NetnsRef::open(netns)?)?)
        };
        Ok(Self {
            task: question.task.clone(),
            settings,
            processes,
            gossip,
            told,
            answer,
        })
    }

    /// Does it, and tells how far it is. It goes on when nobody listens any more.
    pub(crate) async fn run(self) {
        let last = match &self.processes {
            Some(processes) => self.stop(processes).await,
            None => self.drain().await,
        };
        self.say(last).await;
    }

    async fn drain(&self) -> AgentReply {
        self.say_phase(StopPhase::Draining);
        self.tell(TaskState::Draining).await;
        let pending = acknowledged(self.gossip.as_ref(), &self.task, self.settings.drain_deadline).await;
        AgentReply::Drained { pending }
    }

    async fn stop(&self, processes: &TaskProcesses) -> AgentReply {
        let (pending, nodes) = watch::channel(None);
        let (draining, told_draining) = oneshot::channel::<()>();
        let mut draining = Some(draining);
        let acknowledge = async {
            // It is dropped where the task ended before.
            if told_draining.await.is_ok() {
                self.tell(TaskState::Draining).await;
                let left = acknowledged(self.gossip.as_ref(), &self.task, self.settings.drain_deadline).await;
                sleep(SETTLE).await;
                pending.send_replace(Some(left));
            }
            // The sender stays: without it the drain would wait for its deadline.
            std::future::pending::<()>().await;
        };
        let stop = stop_task(processes, self.settings, nodes, |phase| {
            self.say_phase(phase);
            if phase == StopPhase::Draining
                && let Some(draining) = draining.take()
            {
                // It is received above.
                let _ = draining.send(());
            }
        });
        let outcome = tokio::select! {
            outcome = stop => outcome,
            () = acknowledge => return AgentReply::Error { message: "the drain was not waited for".to_owned() },
        };
        match outcome {
            Ok(report) => {
                self.tell(TaskState::Gone).await;
                AgentReply::Stopped {
                    pending: report.undrained.unwrap_or_default(),
                    killed: report.reached == StopPhase::Killed,
                    took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
                }
            }
            Err(error) => AgentReply::Error {
                message: crate::chain(&error),
            },
        }
    }

    /// Tells the agent's loop, and waits until it is done.
    async fn tell(&self, state: TaskState) {
        let (applied, done) = oneshot::channel();
        let told = Told {
            task: self.task.clone(),
            state,
            applied,
        };
        if self.told.send(told).await.is_ok() {
            // Dropped where the agent ends.
            let _ = done.await;
        }
    }

    fn say_phase(&self, phase: StopPhase) {
        let phase = match phase {
            StopPhase::Draining => "draining",
            StopPhase::Signalled => "signalled",
            StopPhase::Killed => "killed",
            StopPhase::Gone => "gone",
        };
        let task = self.task.clone();
        tracing::info!(%task, phase, "stopping a task");
        // Whoever asked may be slow, or have gone.
        let _ = self.answer.try_send(AgentReply::Stopping {
            phase: phase.to_owned(),
        });
    }

    async fn say(&self, reply: AgentReply) {
        let _ = self.answer.send(reply).await;
    }
}
