//! What nodes and leader say to each other, and what the shell is to do.

use crate::Unit;
use essaim_objects::{Node, NodeDescription, NodeId, TaskId};
use essaim_protocol::{Assignments, SessionId};
use std::sync::Arc;
use std::time::Duration;

/// What a node is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Its session began, or what it must know of itself changed.
    Session {
        /// The node, as the store has it.
        node: Arc<Node>,
        /// When the next heartbeat is due.
        heartbeat: Duration,
    },
    /// What it is to run.
    Assignments(Assignments),
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The node began another.
    Replaced,
    /// Its heartbeats were missed.
    HeartbeatMissed,
    /// The node is no member any more.
    NodeRemoved,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the node of a session.
    Send {
        /// The session.
        session: SessionId,
        /// The message.
        message: Message,
    },
    /// Commit these units, and say so by [`Dispatcher::committed`](super::Dispatcher::committed) whatever came of it.
    Commit(Vec<Unit>),
    /// End a session.
    CloseSession {
        /// The session.
        session: SessionId,
        /// Why.
        why: Closed,
    },
}

/// Why a node's call is refused; it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The node is no member.
    #[error("node {node} is not a member of the cluster; join again")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// It began too many sessions.
    #[error("node {node} began {found} sessions within 8 s, expected at most 3; wait before the next")]
    TooMany {
        /// The node.
        node: NodeId,
        /// How many, this one included.
        found: usize,
    },
    /// The session has ended.
    #[error("session is not valid any more; register again")]
    NoSession,
    /// A node reports a task that is not its own.
    #[error("task {task} is not on node {node}, which reports it")]
    NotItsTask {
        /// The task.
        task: TaskId,
        /// The node.
        node: NodeId,
    },
}

/// What a node says of itself as a session begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The node, from its certificate.
    pub node: NodeId,
    /// What it says of itself.
    pub description: NodeDescription,
    /// The address that it comes from.
    pub addr: Option<String>,
    /// The address of its VTEP, where that is another.
    pub data_path_addr: Option<String>,
}
