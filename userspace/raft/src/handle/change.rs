use super::{LeaderAddress, RaftHandle, forward};
use crate::error::StorageError;
use crate::machine::StateMachine;
use crate::quorum::{self, QuorumLoss};
use crate::settings::{LEASE, REACHABLE_WITHIN};
use crate::status::{Reachability, Status};
use crate::types::{Member, NodeId, Types};
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::WaitError;
use openraft::{ChangeMembers, RaftMetrics};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// A learner this close to the leader becomes a voter: it has the rest within a message or two.
const CAUGHT_UP: u64 = 100;
/// How long a learner may take to catch up; a snapshot may have to travel.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a change waits for the one before it, and then for its own two commits.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A change of the managers did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// This manager does not lead; nothing was changed. Ask the leader.
    #[error("this manager is not the leader")]
    NotLeader {
        /// Who leads.
        leader: Option<LeaderAddress>,
    },
    /// No manager of that id; nothing was changed.
    #[error("manager {0} is not in the cluster")]
    NotMember(NodeId),
    /// Too few managers would be left; nothing was changed.
    #[error("the managers would lose their quorum")]
    QuorumLoss(#[source] QuorumLoss),
    /// Other changes were under way all the while; nothing was changed. Try again.
    #[error("another change of the managers is under way")]
    InProgress,
    /// It did not catch up in time. It stays a learner: promote it again, or remove it.
    #[error("manager {0} did not catch up within {timeout} s", timeout = CATCH_UP_TIMEOUT.as_secs())]
    NotCaughtUp(NodeId),
    /// Not decided in time, or the leader changed meanwhile. It may have happened: look at the members.
    #[error("not decided in time; it may still be")]
    Unknown,
    /// Raft stopped on this manager; the change may have happened.
    #[error("raft has stopped on this manager")]
    Stopped {
        /// Why, when its storage failed.
        #[source]
        cause: Option<Arc<StorageError>>,
    },
}

impl<S: StateMachine> RaftHandle<S> {
    /// Adds a manager without a vote. It is known from then on, and is sent the log.
    ///
    /// A manager that is in the cluster keeps its vote and gets that address. It must be the same manager with the
    /// same log: one that lost its log joins under a new id.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_learner(&self, id: NodeId, member: Member) -> Result<(), ChangeError> {
        let known = self.status().members.contains_key(&id);
        let nodes = BTreeMap::from([(id, member)]);
        let change = if known {
            ChangeMembers::SetNodes(nodes)
        } else {
            ChangeMembers::AddNodes(nodes)
        };
        self.change(change, true).await
    }

    /// Gives a learner a vote, when it has caught up with the log.
    ///
    /// # Errors
    /// [`ChangeError`]; a learner that does not catch up stays one.
    pub async fn promote(&self, id: NodeId) -> Result<(), ChangeError> {
        if !self.status().members.contains_key(&id) {
            return Err(ChangeError::NotMember(id));
        }
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        while !self.has_caught_up(id)? {
            if Instant::now() > deadline {
                return Err(ChangeError::NotCaughtUp(id));
            }
            sleep(LOOK_EVERY).await;
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
            .await
    }

    /// Takes a manager's vote; it stays a learner. The leader hands over its leadership first.
    ///
    /// # Errors
    /// [`ChangeError::QuorumLoss`] when the reachable voters that are left would be no majority, unless `force`.
    pub async fn demote(&self, id: NodeId, force: bool) -> Result<(), ChangeError> {
        self.check_leaving(id, force).await?;
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), true)
            .await
    }

    /// Takes a manager out of the cluster, learner or voter. Its id must not come back.
    ///
    /// # Errors
    /// [`ChangeError::QuorumLoss`] when the reachable voters that are left would be no majority, unless `force`.
    pub async fn remove(&self, id: NodeId, force: bool) -> Result<(), ChangeError> {
        let ids = BTreeSet::from([id]);
        if self.status().voters().contains(&id) {
            self.check_leaving(id, force).await?;
            self.change(ChangeMembers::RemoveVoters(ids), false).await
        } else if self.status().members.contains_key(&id) {
            self.change(ChangeMembers::RemoveNodes(ids), false).await
        } else {
            Err(ChangeError::NotMember(id))
        }
    }

    /// Hands the leadership to another voter, and waits until this manager follows.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`] when it still leads after a while.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), ChangeError> {
        let status = self.leading()?;
        if !status.voters().contains(&to) {
            return Err(ChangeError::NotMember(to));
        }
        if to == status.node {
            return Ok(());
        }
        let asked = self.inner.raft.trigger().transfer_leader(to).await;
        asked.map_err(|_| self.has_stopped())?;
        let deadline = Instant::now() + LEASE * 2;
        while self.status().leader == Some(self.inner.node) {
            if Instant::now() > deadline {
                return Err(ChangeError::Unknown);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Hands the leadership to the reachable voter that is furthest along.
    ///
    /// # Errors
    /// [`ChangeError::QuorumLoss`] when there is none.
    pub async fn step_down(&self) -> Result<(), ChangeError> {
        let status = self.leading()?;
        let mut others = status.voters();
        others.retain(|id| *id != status.node && status.with(Reachability::Reachable).contains(id));
        let furthest = others.iter().max_by_key(|id| self.matched(**id)).copied();
        match furthest {
            Some(to) => self.transfer_leadership(to).await,
            None => Err(ChangeError::QuorumLoss(QuorumLoss {
                reachable: 0,
                voters: status.voters().len().saturating_sub(1),
                needed: 1,
            })),
        }
    }

    /// The last entry that a manager is known to have, by the leader.
    fn matched(&self, id: NodeId) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?;
        Some(matched.index)
    }

    fn has_caught_up(&self, id: NodeId) -> Result<bool, ChangeError> {
        let status = self.leading()?;
        let last = status.last_log.unwrap_or(0);
        let matched = self.matched(id);
        Ok(id == status.node || matched.is_some_and(|matched| matched + CAUGHT_UP >= last))
    }

    fn leading(&self) -> Result<Status, ChangeError> {
        let status = self.status();
        if status.failure.is_some() {
            return Err(self.has_stopped());
        }
        if status.leader == Some(status.node) {
            return Ok(status);
        }
        let leader = status.leader.and_then(|id| {
            let member = status.members.get(&id)?.member.clone();
            Some(LeaderAddress { id, member })
        });
        Err(ChangeError::NotLeader { leader })
    }

    fn has_stopped(&self) -> ChangeError {
        ChangeError::Stopped {
            cause: self.inner.fault.get(),
        }
    }

    /// Swarm's rule. A new leader does not know yet who answers, so it waits a little for those it knows nothing of.
    async fn check_leaving(&self, id: NodeId, force: bool) -> Result<(), ChangeError> {
        let deadline = Instant::now() + REACHABLE_WITHIN;
        loop {
            let status = self.leading()?;
            let voters = status.voters();
            if !voters.contains(&id) {
                return Err(ChangeError::NotMember(id));
            }
            let verdict = quorum::may_leave(&voters, &status.with(Reachability::Reachable), id);
            match verdict {
                Ok(()) => return Ok(()),
                Err(_) if force && voters.len() > 1 => return Ok(()),
                Err(loss) => {
                    let unknown = status.with(Reachability::Unknown);
                    if voters.is_disjoint(&unknown) || Instant::now() > deadline {
                        return Err(ChangeError::QuorumLoss(loss));
                    }
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Changes the members when the change before is done.
    async fn change(&self, change: ChangeMembers<NodeId, Member>, keep: bool) -> Result<(), ChangeError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        let Ok(_changing) = timeout(CHANGE_TIMEOUT, self.inner.changing.lock()).await else {
            return Err(ChangeError::InProgress);
        };
        loop {
            let changed = self.inner.raft.change_membership(change.clone(), keep);
            let error = match timeout_at(deadline, changed).await {
                Ok(Ok(done)) => {
                    // The status is told a moment after the change is done, and who asked goes by the status next.
                    let told = |metrics: &RaftMetrics<Types>| {
                        metrics
                            .membership_config
                            .log_id()
                            .is_some_and(|at| at >= done.log_id)
                    };
                    let wait = self.inner.raft.wait(Some(CHANGE_TIMEOUT));
                    return match wait.metrics(told, "the changed membership is told").await {
                        Ok(_) => Ok(()),
                        Err(WaitError::Timeout(..)) => Err(ChangeError::Unknown),
                        Err(WaitError::ShuttingDown) => Err(self.has_stopped()),
                    };
                }
                Ok(Err(RaftError::APIError(error))) => refused(error),
                Ok(Err(RaftError::Fatal(_))) => self.has_stopped(),
                Err(_) => ChangeError::Unknown,
            };
            // A new leader first commits the membership that it found.
            if !matches!(error, ChangeError::InProgress) || Instant::now() > deadline {
                return Err(error);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn refused(error: ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(to) => ChangeError::NotLeader { leader: forward(to) },
        ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_) => {
            ChangeError::Unknown
        }
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                ChangeError::InProgress
            }
            ChangeMembershipError::LearnerNotFound(missing) => ChangeError::NotMember(missing.node_id),
            ChangeMembershipError::EmptyMembership(_) => ChangeError::QuorumLoss(QuorumLoss {
                reachable: 0,
                voters: 0,
                needed: 1,
            }),
            error @ (ChangeMembershipError::UnsupportedMembershipTransition(_)
            | ChangeMembershipError::NodeMetadataChanged(_)) => {
                tracing::warn!(%error, "a change of the managers was refused");
                ChangeError::Unknown
            }
        },
    }
}
