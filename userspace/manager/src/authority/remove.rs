//! Nodes that are removed, and whose certificates count no more.

use super::private::{PrivateError, removed, set_removed};
use crate::attachments::is_attachment;
use essaim_ca::{RENEWAL_GRACE, Timestamp};
use essaim_objects::{Cluster, NodeId, NodeState, Reachability};
use essaim_orchestrator::{Member, RoleError, may_leave};
use essaim_store::{MAX_CHANGES, Transaction, View};

/// Why a node is not removed; nothing is done. The texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum RemoveNodeError {
    /// There is no such node.
    #[error("node {0} not found")]
    NotFound(NodeId),
    /// It is a member of the consensus.
    #[error(
        "node {0} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before \
         removal"
    )]
    Member(NodeId),
    /// It is there.
    #[error("node {0} is not down and can't be removed; stop it first, or force the removal")]
    NotDown(NodeId),
    /// The cluster object is damaged, or there is none.
    #[error(transparent)]
    Private(#[from] PrivateError),
}

/// Removes a node, whose certificate opens nothing from then on.
///
/// # Errors
/// It is not down and `force` is not set, or it is a manager, which has to be demoted first.
pub fn remove_node(
    view: &View,
    id: NodeId,
    force: bool,
    now: Timestamp,
) -> Result<Transaction, RemoveNodeError> {
    let node = view.node(id).ok_or(RemoveNodeError::NotFound(id))?;
    if node.manager_status.is_some() {
        return Err(RemoveNodeError::Member(id));
    }
    if node.status.state == NodeState::Ready && !force {
        return Err(RemoveNodeError::NotDown(id));
    }
    let cluster = view.cluster().ok_or(PrivateError::Missing("ca"))?;
    let mut cluster = Cluster::clone(cluster);
    let mut list = removed(&cluster)?;
    // Its certificate may have been issued just now.
    let until = now
        .unix()
        .saturating_add(list.longest_life)
        .saturating_add(RENEWAL_GRACE.as_secs());
    list.nodes.retain(|_, until| *until >= now.unix());
    list.nodes.insert(id, until);
    set_removed(&mut cluster, &list);
    let mut transaction = Transaction::new();
    transaction.update(cluster).remove(node.clone());
    // Nobody else would: a new node knows nothing of them.
    let attachments = view.tasks_on_node(id).filter(|task| is_attachment(task));
    for task in attachments.take(MAX_CHANGES - transaction.changes.len()) {
        transaction.remove(task.clone());
    }
    Ok(transaction)
}

/// Whether a manager may be demoted, by what the store says of the managers; one that is no member of the consensus may
/// always. The leader looks again when it does it.
///
/// # Errors
/// Why not, in Docker's words.
pub fn may_demote(view: &View, id: NodeId) -> Result<(), RoleError> {
    let members: Vec<_> = view
        .nodes()
        .filter_map(|node| {
            let status = node.manager_status.as_ref()?;
            Some(Member {
                node: node.id,
                is_reachable: status.reachability == Reachability::Reachable,
            })
        })
        .collect();
    may_leave(id, &members)
}

/// Whether a node was removed. One that cannot be told of is taken for removed.
pub fn is_removed(view: &View, id: NodeId) -> bool {
    let list = view.cluster().map(|cluster| removed(cluster));
    match list {
        Some(Ok(list)) => list.nodes.contains_key(&id),
        Some(Err(_)) => true,
        None => false,
    }
}
