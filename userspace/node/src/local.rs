use essaim_ca::Role;
pub use essaim_objects::LocalNodeState as LocalState;
use essaim_objects::{ClusterId, Node, NodeId};
use essaim_protocol::ManagerAddress;
use std::net::IpAddr;
use std::sync::Arc;

/// What the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// In a word.
    pub state: LocalState,
    /// Its identity, once it has one.
    pub node: Option<NodeId>,
    /// Its cluster's.
    pub cluster: Option<ClusterId>,
    /// The role in its certificate; not known while it is locked.
    pub role: Option<Role>,
    /// The address that others reach it at.
    pub address: Option<IpAddr>,
    /// The address that it sends and receives VXLAN at, where another was asked for.
    pub data_path: Option<IpAddr>,
    /// The managers that it knows.
    pub managers: Vec<ManagerAddress>,
    /// Why it cannot go on, or what it waits for.
    pub error: Option<String>,
}

/// What the managers tell the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Its object.
    Node(Arc<Node>),
    /// All managers.
    Managers(Vec<ManagerAddress>),
    /// The roots to trust, in PEM.
    TrustRoots(String),
    /// A manager has refused a call: whether the node still is in the cluster is to be found out.
    Refused,
    /// It was removed from the cluster.
    Removed,
}
