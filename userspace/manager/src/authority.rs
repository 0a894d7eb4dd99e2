//! Who belongs to the cluster, and in which role: what a manager does for it.
//!
//! | part | is |
//! |---|---|
//! | [`new_cluster`], [`update_cluster`], [`remove_node`] | pure: what the operator asks, as transactions |
//! | [`Authority::methods`] | what nodes call managers for: the root, certificates, the way into and out of the consensus |
//! | [`Authority::lead`] | what the leader sees to: roles, the managers' status, the end of a root's rotation, gossip's keys |
//!
//! Any manager issues certificates, or has an authority elsewhere issue them where the cluster's spec names one for the
//! root that issues; who is a node, and in which role, is in the store. A node's object is there before
//! its first certificate. A node that is removed goes on a list, which every manager asks before each call of a member
//! ([`Authority::still_counts`]).
//!
//! A refusal is logged with its reason; the caller learns only that it may not.

mod calls;
mod external;
mod found;
mod lead;
mod private;
mod remove;
mod report;
mod roles;
mod spec;
#[cfg(test)]
mod tests;

pub use found::{DEFAULT_DATA_PATH_PORT, FirstManager, check_init, new_cluster};
pub(crate) use private::{DataKey, data_keys};
pub use private::{PrivateError, gossip_keys, root_ca};
pub use remove::{RemoveNodeError, is_removed, may_demote, remove_node};
pub use report::report;
pub use spec::{Rotate, UpdateClusterError, unlock_key, update_cluster};

use crate::Replica;
use crate::links::RAFT;
use essaim_ca::{DesiredRoot, Entropy, Peer, Role, RootCa, Timestamp};
use essaim_objects::{ClusterSpec, NodeId, NodeRole};
use essaim_store::View;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;

/// What a manager does for the cluster's membership. Clones are the same.
#[derive(Clone)]
pub struct Authority {
    replica: Replica,
    time: Arc<dyn TimeProvider>,
}

impl Authority {
    /// On this copy of the store.
    pub fn new(replica: Replica, time: Arc<dyn TimeProvider>) -> Self {
        Self { replica, time }
    }

    fn now(&self) -> Timestamp {
        // A clock that says nothing issues nothing that anybody accepts.
        self.time
            .current_time()
            .map_or(Timestamp::from_unix(0), Timestamp::from)
    }

    /// Whether a member's certificate still counts for what is for members of this role; else why not. By this copy of
    /// the store, which may be a little behind.
    ///
    /// # Errors
    /// The node was removed, or is no manager any more.
    pub fn still_counts(&self, peer: &Peer, role: Role, method: &str) -> Result<(), String> {
        let status = self.replica.raft().status();
        let leads = status.leader == Some(status.node);
        still_counts(&self.replica.view(), peer, role, method == RAFT && !leads)
    }
}

/// See [`Authority::still_counts`].
fn still_counts(view: &View, peer: &Peer, role: Role, may_be_behind: bool) -> Result<(), String> {
    let Ok(id) = object_id(&peer.node_id) else {
        return Err(format!("{} is no node's identity", peer.node_id));
    };
    if is_removed(view, id) {
        return Err(format!("node {id} was removed from the cluster"));
    }
    // Who was removed never comes back. But who is a worker here may be a manager by what this copy has yet to learn, and
    // may be the leader that it would learn it from; only a leader knows that it is not so.
    if may_be_behind {
        return Ok(());
    }
    let is_now = view.node(id).and_then(|node| node.certificate_role);
    if role == Role::Manager && is_now == Some(NodeRole::Worker) {
        return Err(format!("node {id} was demoted, and its certificate is of before"));
    }
    Ok(())
}

/// The authority of a new cluster: with the root that the operator gives, or one that is made here.
///
/// # Errors
/// The root that is given cannot be used, or there is no randomness.
pub fn new_root_ca(
    spec: &ClusterSpec,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Result<RootCa, UpdateClusterError> {
    let given = spec::desired_root(None, spec, None, now)?;
    Ok(match given {
        Some(DesiredRoot::Given(root)) if root.has_key() => RootCa::with_root(*root, entropy)?,
        // One without its key issues nothing yet: the cluster begins with a root of its own, and rotates to it.
        Some(DesiredRoot::Given(_) | DesiredRoot::New) | None => RootCa::create(now, entropy)?,
    })
}

/// The store's name of a node.
fn object_id(id: &essaim_ca::NodeId) -> Result<NodeId, essaim_objects::IdError> {
    id.as_str().parse()
}

fn object_role(role: Role) -> NodeRole {
    match role {
        Role::Worker => NodeRole::Worker,
        Role::Manager => NodeRole::Manager,
    }
}

fn certificate_role(role: NodeRole) -> Role {
    match role {
        NodeRole::Worker => Role::Worker,
        NodeRole::Manager => Role::Manager,
    }
}
