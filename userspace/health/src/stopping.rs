use crate::{ProcessError, Stop, StopAction, StopPhase, StopSettings, StopSignal, TaskProcesses};
use essaim_model::NodeName;
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep_until;

/// How a stop went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// The nodes that had not applied the drain when the task was asked to stop; `None` where nobody ever said which
    /// they were, or the task ended by itself before.
    pub undrained: Option<BTreeSet<NodeName>>,
    /// How far the task let it come before it was gone.
    pub reached: StopPhase,
    /// From the drain's begin to the end of the last process.
    pub took: Duration,
}

/// Stops a task: drives a [`Stop`] until none of its processes is left.
///
/// `pending` holds the nodes that may send to the task, can be reached, and have not applied the drain yet; `None` until
/// that is known. `tell` is called at the begin of each phase, in order, and must not wait: on [`StopPhase::Draining`]
/// the nodes are to be told, on [`StopPhase::Gone`] again. Dropped half-way, it leaves the task as it is then.
///
/// # Errors
/// [`ProcessError`] where the task's end cannot be seen; it may still run, and the stop may be tried again. A signal
/// that is refused is logged, and SIGKILL repeated.
pub async fn stop_task(
    processes: &TaskProcesses,
    settings: StopSettings,
    mut pending: watch::Receiver<Option<BTreeSet<NodeName>>>,
    mut tell: impl FnMut(StopPhase),
) -> Result<StopReport, ProcessError> {
    let started = Instant::now();
    let mut stop = Stop::new(settings, started);
    let mut reached = stop.phase();
    let mut ended = pin!(processes.ended());
    let mut speaks = true;
    pending.mark_changed();
    loop {
        while let Some(action) = stop.poll_action() {
            match action {
                StopAction::TellDraining => tell(StopPhase::Draining),
                StopAction::Signal(signal) => {
                    reached = StopPhase::Signalled;
                    tell(reached);
                    send(processes, signal);
                }
                StopAction::Kill => {
                    if reached != StopPhase::Killed {
                        reached = StopPhase::Killed;
                        tell(reached);
                    }
                    send(processes, StopSignal::KILL);
                }
                StopAction::TellGone => {
                    tell(StopPhase::Gone);
                    let undrained = stop.pending().filter(|_| reached != StopPhase::Draining);
                    return Ok(StopReport {
                        undrained: undrained.cloned(),
                        reached,
                        took: started.elapsed(),
                    });
                }
            }
        }
        let due = stop.poll_timeout();
        tokio::select! {
            biased;
            result = &mut ended => {
                result?;
                stop.processes_ended();
            }
            changed = pending.changed(), if speaks => match changed {
                Ok(()) => if let Some(nodes) = &*pending.borrow_and_update() {
                    stop.drain_pending(nodes, Instant::now());
                },
                // Nobody will say that the drain is applied: its deadline ends it.
                Err(_) => speaks = false,
            },
            () = at(due) => stop.handle_timeout(Instant::now()),
        }
    }
}

/// Waits for a time; for ever where there is none.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn send(processes: &TaskProcesses, signal: StopSignal) {
    match processes.signal(signal) {
        Ok(count) => {
            tracing::debug!(netns = %processes.netns().path().display(), %signal, count, "signalled a task");
        }
        Err(error) => {
            tracing::warn!(
                netns = %processes.netns().path().display(),
                %signal,
                error = &error as &dyn std::error::Error,
                "failed to signal a task"
            );
        }
    }
}
