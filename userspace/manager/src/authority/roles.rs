//! What the members of the consensus mean for the nodes' objects. Pure.

use essaim_objects::{ManagerStatus, Node, NodeId, Reachability};
use essaim_raft::Status;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a manager must be seen otherwise before it is written: one that comes and goes writes nothing.
const DAMPING: Duration = Duration::from_secs(1);

/// How long a leader may take to hear of a manager for the first time: several of Raft's heartbeats.
const UNHEARD: Duration = Duration::from_secs(3);

/// The node of a member; `None` where its name is no node's.
pub(super) fn node_of(member: &essaim_raft::MemberStatus) -> Option<NodeId> {
    member.member.node.parse().ok()
}

/// What the consensus says of each manager, by the leader's own view of it.
pub(super) fn statuses(status: &Status) -> BTreeMap<NodeId, ManagerStatus> {
    let members = status.members.iter().filter_map(|(id, member)| {
        let reachability = match member.reachability {
            essaim_raft::Reachability::Unknown => Reachability::Unknown,
            essaim_raft::Reachability::Reachable => Reachability::Reachable,
            essaim_raft::Reachability::Unreachable => Reachability::Unreachable,
        };
        let of = ManagerStatus {
            leader: (status.leader == Some(*id)).then_some(true),
            reachability,
            addr: Some(member.member.address.clone()),
            raft_id: Some(id.number()),
            ..ManagerStatus::default()
        };
        Some((node_of(member)?, of))
    });
    members.collect()
}

/// What was seen of managers that is not written yet, and since when.
#[derive(Debug, Default)]
pub(super) struct Damper {
    seen: BTreeMap<NodeId, (Reachability, Duration)>,
}

impl Damper {
    /// What a node's object is to say now of its part among the managers; `now` is any monotonic time.
    pub(super) fn settled(
        &mut self,
        node: &Node,
        found: Option<&ManagerStatus>,
        now: Duration,
    ) -> Option<ManagerStatus> {
        let Some(found) = found else {
            self.seen.remove(&node.id);
            return None;
        };
        let Some(written) = &node.manager_status else {
            return Some(found.clone());
        };
        // A new leader does not know at once; whom it has not heard for long after that it does not reach.
        let (reachability, damping) = match found.reachability {
            Reachability::Unknown => (Reachability::Unreachable, UNHEARD),
            known @ (Reachability::Reachable | Reachability::Unreachable) => (known, DAMPING),
        };
        let is_due = if reachability == written.reachability {
            self.seen.remove(&node.id);
            false
        } else {
            let (seen, since) = self.seen.entry(node.id).or_insert((reachability, now));
            if *seen != reachability {
                (*seen, *since) = (reachability, now);
            }
            now.saturating_sub(*since) >= damping
        };
        Some(ManagerStatus {
            reachability: if is_due {
                reachability
            } else {
                written.reachability
            },
            ..found.clone()
        })
    }
}
