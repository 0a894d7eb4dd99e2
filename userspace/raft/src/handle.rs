mod change;
mod start;

pub use change::ChangeError;
pub use start::{StartError, Started};

use crate::error::StorageError;
use crate::fault::Fault;
use crate::log::LogStore;
use crate::machine::{Machine, StateMachine};
use crate::metrics::Latencies;
use crate::receive::{self, Incoming};
use crate::settings::{LARGEST_PROPOSAL, PROPOSAL_TIMEOUT, PROPOSALS_UNDER_WAY, Settings};
use crate::status::{Metrics, Status};
use crate::tuning::Tuning;
use crate::types::{Blob, Member, NodeId, Proposal, Types};
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Raft on this manager. Copies are cheap and are the same Raft.
pub struct RaftHandle<S: StateMachine> {
    inner: Arc<Inner<S>>,
}

impl<S: StateMachine> Clone for RaftHandle<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<S: StateMachine> {
    node: NodeId,
    raft: Raft<Types, Machine<S>>,
    log: LogStore,
    fault: Fault,
    incoming: Incoming,
    settings: Settings,
    under_way: Semaphore,
    latencies: Latencies,
    status: watch::Receiver<Status>,
    /// Keeps the status up to date.
    observer: AbortHandle,
    /// What the keeper goes by.
    tuning: watch::Sender<Tuning>,
    /// Has snapshots made and the log shortened.
    keeper: AbortHandle,
    /// One change of the membership at a time.
    changing: tokio::sync::Mutex<()>,
}

impl<S: StateMachine> Drop for Inner<S> {
    fn drop(&mut self) {
        self.observer.abort();
        self.keeper.abort();
    }
}

/// A proposal that is committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index in the log.
    pub index: u64,
    /// What the state machine answered.
    pub response: Vec<u8>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAddress {
    /// The leader.
    pub id: NodeId,
    /// Its node and address.
    pub member: Member,
}

/// A proposal or a read did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// This manager does not lead. The proposal is not in the log; forward it to the leader.
    #[error("this manager is not the leader; the leader is {}", leader_name(leader.as_ref()))]
    NotLeader {
        /// Who leads; `None` while there is no leader, and on one that lost its quorum.
        leader: Option<LeaderAddress>,
    },
    /// Not decided in time. It may be committed yet: read before trying again.
    #[error("not decided within {} s; it may still be", PROPOSAL_TIMEOUT.as_secs())]
    TimedOut,
    /// The leader changed before it was decided. It may be committed, or not: read before trying again.
    #[error("the leader changed before it was decided")]
    LeaderChanged {
        /// Who leads now.
        leader: Option<LeaderAddress>,
    },
    /// Too many proposals are under way. It is not in the log; try again later.
    #[error("{PROPOSALS_UNDER_WAY} proposals are under way; try again later")]
    Overloaded,
    /// It is too large. It is not in the log.
    #[error("a proposal of {bytes} bytes is too large; {LARGEST_PROPOSAL} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Raft stopped on this manager. A proposal that was under way may be committed, or not.
    #[error("raft has stopped on this manager")]
    Stopped {
        /// Why, when its storage failed.
        #[source]
        cause: Option<Arc<StorageError>>,
    },
}

fn leader_name(leader: Option<&LeaderAddress>) -> String {
    leader.map_or_else(
        || "not known".to_owned(),
        |leader| format!("{} at {}", leader.id, leader.member.address),
    )
}

fn forward(to: ForwardToLeader<Types>) -> Option<LeaderAddress> {
    let id = to.leader_id?;
    let member = to.leader_node?;
    Some(LeaderAddress { id, member })
}

impl<S: StateMachine> RaftHandle<S> {
    /// This manager.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Puts a command into the log, and waits until the state machine here has applied it.
    ///
    /// When this returns `Ok`, the command is on the disks of a majority of the voters.
    ///
    /// # Errors
    /// [`ProposeError`], whose variants say whether the command may be in the log all the same.
    pub async fn propose(&self, command: Vec<u8>) -> Result<Committed, ProposeError> {
        if command.len() > LARGEST_PROPOSAL {
            return Err(ProposeError::TooLarge { bytes: command.len() });
        }
        let Ok(_permit) = self.inner.under_way.try_acquire() else {
            return Err(ProposeError::Overloaded);
        };
        let begun = Instant::now();
        let proposal = Proposal {
            at: (self.inner.settings.clock)(),
            command: Blob::from(command),
        };
        match timeout(PROPOSAL_TIMEOUT, self.inner.raft.client_write(proposal)).await {
            Ok(Ok(written)) => {
                self.inner.latencies.record(begun.elapsed());
                Ok(Committed {
                    index: written.log_id.index,
                    response: written.data.0.as_slice().to_vec(),
                })
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                Err(ProposeError::NotLeader { leader: forward(to) })
            }
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(to)))) => {
                Err(ProposeError::LeaderChanged { leader: forward(to) })
            }
            Ok(Err(RaftError::APIError(
                ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
            ))) => {
                // Only a change of the membership is answered so.
                Err(ProposeError::LeaderChanged { leader: None })
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(self.stopped(&fatal)),
            Err(_) => Err(ProposeError::TimedOut),
        }
    }

    /// Waits until the state machine here holds everything that was committed anywhere before the call. What is read
    /// from it afterwards is linearizable.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing may be read then.
    pub async fn read_barrier(&self) -> Result<u64, ProposeError> {
        let confirmed = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(PROPOSAL_TIMEOUT, confirmed).await {
            Ok(Ok(read)) => Ok(read.index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                Err(ProposeError::NotLeader { leader: forward(to) })
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(self.stopped(&fatal)),
            Err(_) => Err(ProposeError::TimedOut),
        }
    }

    fn stopped(&self, fatal: &Fatal<Types>) -> ProposeError {
        tracing::debug!(%fatal, "raft has stopped");
        ProposeError::Stopped {
            cause: self.inner.fault.get(),
        }
    }

    /// Answers a message that the transport of another manager sent to this one. The sender's right to send it has
    /// been checked.
    pub async fn receive(&self, message: &[u8]) -> Vec<u8> {
        let inner = &self.inner;
        receive::receive(inner.node, &inner.raft, &inner.log, &inner.incoming, message).await
    }

    /// This manager's view of the cluster, now.
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        Status::of(&metrics, self.failure().map(|failure| failure.to_string()))
    }

    /// The same as it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }

    /// Why the storage failed, if it did. Raft has then stopped on this manager, and nothing that it acknowledged is
    /// lost.
    pub fn failure(&self) -> Option<Arc<StorageError>> {
        self.inner.fault.get()
    }

    /// What this manager measures.
    pub fn metrics(&self) -> Metrics {
        let (log_entries, log_cached_bytes) = self.inner.log.size();
        Metrics {
            applied: self.status().applied,
            log_entries,
            log_cached_bytes,
            commits: self.inner.latencies.read(),
        }
    }

    /// Changes what this manager does about snapshots, at once and until it ends.
    pub fn tune(&self, tuning: Tuning) {
        self.inner.tuning.send_if_modified(|was| {
            let differs = *was != tuning;
            *was = tuning;
            differs
        });
    }

    /// What it goes by now.
    pub fn tuning(&self) -> Tuning {
        *self.inner.tuning.borrow()
    }

    /// Makes a snapshot now, whatever the interval says. It is done when [`Status::snapshot`] says so.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn make_snapshot(&self) -> Result<(), ProposeError> {
        let triggered = self.inner.raft.trigger().snapshot().await;
        triggered.map_err(|fatal| self.stopped(&fatal))
    }

    /// Stops Raft on this manager and closes its log. What was proposed and not yet answered may be committed or not.
    pub async fn shutdown(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not end as it should");
        }
        self.inner.observer.abort();
        self.inner.keeper.abort();
        self.inner.log.close().await;
    }
}
