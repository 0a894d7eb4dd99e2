//! What the API needs of the daemon behind it.

use essaim_manager::Replica;
use essaim_manager::authority::Rotate;
pub use essaim_objects::LocalNodeState as LocalState;
use essaim_objects::{
    ClusterSpec, InitRequest, JoinRequest, NodeId, NodeResources, Platform, Sensitive, Version,
};
use essaim_protocol::{LogMessage, LogSubscription, ManagerAddress};
use futures_util::stream::BoxStream;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;

/// The daemon that the API is the front door of. Clones are the same daemon.
///
/// What a manager's store can do alone, the API does by itself through [`Engine::replica`]; what needs more than the store
/// is here.
pub trait Engine: Clone + Send + Sync + 'static {
    /// What this node is, now. Called for nearly every request: it must not wait.
    fn local(&self) -> Local;

    /// This manager's copy of the store; `None` on a worker, without a cluster, and while it is locked.
    fn replica(&self) -> Option<Replica>;

    /// Makes a cluster. The API has checked the request's members and that this node is in none (unless
    /// `ForceNewCluster` is set); a request may still come second to another.
    fn init(&self, request: InitRequest) -> impl Future<Output = Result<NodeId, EngineError>> + Send;

    /// Joins a cluster; returns once the node is in it.
    fn join(&self, request: JoinRequest) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Leaves the cluster. The API has refused what needs `force` and has it not, as far as this manager knew.
    fn leave(&self, force: bool) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Unlocks a manager that is locked.
    fn unlock(&self, key: Sensitive) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The key that unlocks managers; empty where they are not locked when they stop.
    fn unlock_key(&self) -> impl Future<Output = Result<Sensitive, EngineError>> + Send;

    /// Changes what is asked of the cluster, if it still is as it was read at `version`, and replaces tokens and keys. The
    /// API has checked the spec's members.
    fn update_swarm(
        &self,
        version: Version,
        spec: ClusterSpec,
        rotate: Rotate,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a node from the cluster. The API has checked that it is there, is no manager, and is down or `force` is
    /// set.
    fn remove_node(&self, id: NodeId, force: bool) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Has the node's Docker Engine be ready for a container on a network of the cluster, which is named by name or
    /// identity: what the engine calls it; nothing where the cluster has no such network, or the engine one of its own.
    fn prepare_network(&self, name: &str)
    -> impl Future<Output = Result<Option<String>, EngineError>> + Send;

    /// The logs of tasks, from the nodes that run them, until they end or the stream is dropped. `what.id` is the
    /// engine's to draw.
    fn logs(&self, what: LogSubscription) -> impl Future<Output = Result<LogStream, EngineError>> + Send;
}

/// Lines of logs as they come.
pub type LogStream = BoxStream<'static, Result<LogMessage, EngineError>>;

/// What this node is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// Its identity, once it has one.
    pub node_id: Option<NodeId>,
    /// Whether it is in a cluster.
    pub state: LocalState,
    /// Whether it can view and change the cluster: a manager that is not locked.
    pub control_available: bool,
    /// The address that it is known at, without a port.
    pub node_addr: Option<String>,
    /// The managers that it knows of.
    pub remote_managers: Vec<ManagerAddress>,
    /// Why it is in [`LocalState::Error`].
    pub error: Option<String>,
    /// Its host name.
    pub hostname: String,
    /// This software's version.
    pub version: String,
    /// Its architecture and operating system, such as `x86_64` and `linux`.
    pub platform: Platform,
    /// What it has for tasks.
    pub resources: NodeResources,
    /// Labels of its engine, `NAME=VALUE`.
    pub labels: Vec<String>,
    /// The operating system's name for people, such as `Debian GNU/Linux 12`.
    pub operating_system: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// The folder of its state.
    pub state_dir: String,
    /// Where its Docker Engine listens; it may be absent, and come and go.
    pub docker_socket: PathBuf,
}

/// The kind of an error, each with its status in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense, or not as things are: 400.
    Invalid,
    /// A key or token is wrong: 401.
    Unauthorized,
    /// It is never allowed: 403.
    Forbidden,
    /// It is not there: 404.
    NotFound,
    /// Something else is there already, or is in the way: 409.
    Conflict,
    /// The body is too large: 413.
    TooLarge,
    /// This software does not do that: 501.
    NotImplemented,
    /// This node cannot do it now: it is no manager, is locked, or nobody leads: 503.
    Unavailable,
    /// Something failed, or was not as the client thought it is; Docker's status for an update out of sequence: 500.
    Internal,
}

/// Why something was not done; nothing was changed unless the message says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// Its kind.
    pub kind: ErrorKind,
    /// What the client is told. Docker's own words where clients look for them.
    pub message: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $kind:ident,)*) => {
        $($(#[$doc])*
        pub fn $name(message: impl fmt::Display) -> Self {
            Self { kind: ErrorKind::$kind, message: message.to_string() }
        })*
    };
}

impl EngineError {
    kinds! {
        /// The request makes no sense, or not as things are.
        invalid Invalid,
        /// A key or token is wrong.
        unauthorized Unauthorized,
        /// It is never allowed.
        forbidden Forbidden,
        /// It is not there.
        not_found NotFound,
        /// Something is in the way.
        conflict Conflict,
        /// This software does not do that.
        not_implemented NotImplemented,
        /// This node cannot do it now.
        unavailable Unavailable,
        /// Something failed.
        internal Internal,
    }

    /// The request does not go with what is there, in the words of Swarm's managers.
    pub fn failed_precondition(why: impl fmt::Display) -> Self {
        Self::invalid(format_args!("rpc error: code = FailedPrecondition desc = {why}"))
    }

    /// The object was changed since the client read it. Clients look for these words.
    pub fn out_of_sequence() -> Self {
        Self::internal("rpc error: code = Unknown desc = update out of sequence")
    }

    /// This node is in a cluster already.
    pub fn already_in_swarm() -> Self {
        Self::unavailable(
            "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another \
             one.",
        )
    }

    /// This node is in no cluster.
    pub fn not_in_swarm() -> Self {
        Self::unavailable("This node is not part of a swarm")
    }

    /// The manager waits for its key.
    pub fn locked() -> Self {
        Self::unavailable(
            "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" \
             to unlock it.",
        )
    }

    /// The manager waits for no key.
    pub fn not_locked() -> Self {
        Self::conflict("swarm is not locked")
    }

    /// The key does not unlock the manager.
    pub fn wrong_key() -> Self {
        Self::unauthorized("swarm could not be unlocked: invalid key provided")
    }

    /// The token lets nobody join.
    pub fn wrong_token() -> Self {
        Self::internal("invalid join token")
    }

    /// No manager leads.
    pub fn no_leader() -> Self {
        Self::unavailable(
            "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers \
             are online. Make sure more than half of the managers are online.",
        )
    }

    /// Why this node cannot be asked about the cluster.
    pub fn no_manager(local: &Local) -> Self {
        match local.state {
            LocalState::Locked => Self::locked(),
            LocalState::Active if local.control_available => Self::no_leader(),
            LocalState::Active => Self::unavailable(
                "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. \
                 Please run this command on a manager node or promote the current node to a manager.",
            ),
            LocalState::Inactive | LocalState::Pending | LocalState::Error => Self::unavailable(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                 node to swarm and try again.",
            ),
        }
    }
}
