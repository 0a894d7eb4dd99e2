//! A node's session with the leader.

use crate::{Assignments, LogSubscription, LogSubscriptionId};
use essaim_objects::{Data, Node, NodeDescription, NodeId, TaskId, TaskStatus};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A session of a node with the leader, drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = u128::from_str_radix(&text, 16);
        bits.map(Self).map_err(serde::de::Error::custom)
    }
}

/// Begins a session. Who calls is in the certificate, where from in the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// What the node says of itself.
    pub description: NodeDescription,
    /// The address of its VTEP, where that is not the one that it calls from.
    pub data_path: Option<IpAddr>,
    /// The revision of the catalog that it holds.
    pub holds: Option<u64>,
}

/// What a node is told in its session. The first message is [`ToNode::Session`]; the last, where the leader ends it,
/// the end of the stream or its error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    /// The session has begun, or the node is not any more as it was told.
    Session {
        /// The session.
        session: SessionId,
        /// The node, as the store has it: its role (`CertificateRole`: a node whose certificate says otherwise renews
        /// it), its availability.
        node: Arc<Node>,
        /// When the next heartbeat is due.
        heartbeat_ms: u64,
    },
    /// All managers, the leader first.
    Managers(Vec<ManagerAddress>),
    /// The keys of gossip, the one to send with first.
    GossipKeys(Vec<GossipKey>),
    /// The keys of encrypted networks, in any order: a node encrypts with none of them, it derives others.
    DataKeys(Vec<DataKey>),
    /// The roots to trust, in PEM: a node that trusts others renews its certificate.
    TrustRoots(String),
    /// What it is to run.
    Assignments(Assignments),
    /// The catalog of its data plane. It is at least as new as the assignments that follow it.
    Catalog(CatalogUpdate),
    /// Send these logs.
    Logs(LogSubscription),
    /// Send them no more.
    EndLogs(LogSubscriptionId),
}

/// A manager, and where it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerAddress {
    /// The node.
    pub node: NodeId,
    /// `ADDRESS:PORT`, a v6 address in brackets.
    pub address: String,
}

/// A key of gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKey {
    /// 32 bytes. Not shown by `Debug`.
    pub key: Data,
}

/// A key of encrypted networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    /// Its generation; a later key has a greater one.
    pub generation: u64,
    /// 32 bytes. Not shown by `Debug`.
    pub key: Data,
}

/// The catalog, or how it differs from one that the node has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogUpdate {
    /// The revision that it leads to.
    pub revision: u64,
    /// The revision that it builds on; none for a whole catalog. A node that has another begins a new session.
    pub basis: Option<u64>,
    /// As `essaim-model` writes it: the whole catalog, or the difference.
    pub text: String,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The session.
    pub session: SessionId,
}

/// When the next one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// In so many milliseconds.
    pub next_ms: u64,
}

/// How tasks are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The session.
    pub session: SessionId,
    /// Each with its newest status.
    pub tasks: Vec<TaskReport>,
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// How it is.
    pub status: TaskStatus,
}
