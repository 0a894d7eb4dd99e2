use crate::metrics::Histogram;
use crate::settings::{LEASE, REACHABLE_WITHIN};
use crate::types::{Member, NodeId, Types};
use openraft::{Instant, RaftMetrics, ServerState};
use std::collections::{BTreeMap, BTreeSet};

/// What a manager is in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes the log, but has no vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It stands for election.
    Candidate,
    /// It leads, though perhaps without a quorum: see [`Status::leader`].
    Leader,
}

/// Whether the leader hears from a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Only the leader knows, and a new one not at once.
    Unknown,
    /// It answered lately.
    Reachable,
    /// It does not answer.
    Unreachable,
}

/// A manager as the membership and the leader know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its node and address.
    pub member: Member,
    /// Whether it has a vote.
    pub voter: bool,
    /// Whether the leader hears from it.
    pub reachability: Reachability,
}

/// A manager's view of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This manager.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as this manager knows. A leader that lost its quorum does not name itself.
    pub leader: Option<NodeId>,
    /// All managers, this one included.
    pub members: BTreeMap<NodeId, MemberStatus>,
    /// The last entry that was applied.
    pub applied: Option<u64>,
    /// The last entry that this manager knows to be committed.
    pub committed: Option<u64>,
    /// The last entry of the log.
    pub last_log: Option<u64>,
    /// The last entry that the newest snapshot holds.
    pub snapshot: Option<u64>,
    /// Why Raft stopped on this manager, if it did.
    pub failure: Option<String>,
}

impl Status {
    pub(crate) fn of(metrics: &RaftMetrics<Types>, failure: Option<String>) -> Self {
        let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        let leads = metrics.state == ServerState::Leader && stopped.is_none();
        let voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().collect();
        let alone = voters.len() == 1 && voters.contains(&metrics.id);
        let has_quorum = alone
            || metrics
                .last_quorum_acked
                .as_ref()
                .is_some_and(|acked| acked.elapsed() < LEASE);
        let leader = metrics
            .current_leader
            .filter(|leader| stopped.is_none() && (*leader != metrics.id || has_quorum));
        let reachability = |id: NodeId| {
            if !leads {
                return Reachability::Unknown;
            }
            if id == metrics.id {
                return Reachability::Reachable;
            }
            let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id));
            match heard {
                Some(Some(at)) if at.elapsed() < REACHABLE_WITHIN => Reachability::Reachable,
                Some(Some(_)) => Reachability::Unreachable,
                Some(None) | None => Reachability::Unknown,
            }
        };
        let members = metrics.membership_config.nodes().map(|(id, member)| {
            let status = MemberStatus {
                member: member.clone(),
                voter: voters.contains(id),
                reachability: reachability(*id),
            };
            (*id, status)
        });
        Self {
            node: metrics.id,
            role: match metrics.state {
                ServerState::Learner | ServerState::Shutdown => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
            },
            term: metrics.current_term,
            leader,
            members: members.collect(),
            applied: metrics.last_applied.map(|id| id.index),
            committed: metrics.local_committed.map(|id| id.index),
            last_log: metrics.last_log_index,
            snapshot: metrics.snapshot.map(|id| id.index),
            failure: failure.or(stopped),
        }
    }

    /// The managers that have a vote.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.members
            .iter()
            .filter(|(_, member)| member.voter)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn with(&self, reachability: Reachability) -> BTreeSet<NodeId> {
        self.members
            .iter()
            .filter(|(_, member)| member.reachability == reachability)
            .map(|(id, _)| *id)
            .collect()
    }
}

/// What a manager measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The last entry that was applied.
    pub applied: Option<u64>,
    /// How many entries the log holds.
    pub log_entries: u64,
    /// How many bytes of the log are kept in memory.
    pub log_cached_bytes: u64,
    /// How long this manager's proposals took, while it led.
    pub commits: Histogram,
}
