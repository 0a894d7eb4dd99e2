//! The daemon behind the API.

use crate::DaemonOptions;
use crate::machine::Machine;
use crate::parts::Parts;
use crate::plugin::PluginHost;
use essaim_api::{Engine, EngineError, Local, LocalState, LogStream, Rotate};
use essaim_ca::Role;
use essaim_manager::{Replica, UpdateError};
use essaim_node::{Node, NodeError};
use essaim_objects::{ClusterSpec, InitRequest, JoinRequest, NodeId, NodeState, Sensitive, Version};
use essaim_plugin::{Plugin, PluginError};
use essaim_protocol::{LogSubscription, LogSubscriptionId};
use essaim_rpc::chain;
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How long `init` waits at most for the node to be ready.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What the API asks.
#[derive(Clone)]
pub(crate) struct Daemon {
    node: Node,
    parts: Arc<Parts>,
    options: Arc<DaemonOptions>,
    machine: Arc<Machine>,
    plugin: Plugin<PluginHost>,
}

impl Daemon {
    pub(crate) fn new(
        node: Node,
        parts: Arc<Parts>,
        plugin: Plugin<PluginHost>,
        options: Arc<DaemonOptions>,
    ) -> Self {
        Self {
            machine: Arc::new(Machine::look(&options.generic_resources)),
            node,
            parts,
            plugin,
            options,
        }
    }
}

impl Daemon {
    /// Waits until the cluster calls this node ready, as Docker's `init` does: whoever reads the node next can change it
    /// without another change coming between. A node that takes longer is in its cluster all the same.
    async fn is_ready(&self, id: NodeId) {
        let Some(replica) = self.node.replica() else {
            return;
        };
        let mut notices = replica.notices();
        let is_ready = || {
            let view = replica.view();
            let node = view.node(id);
            node.is_some_and(|node| node.status.state == NodeState::Ready && !node.attachments.is_empty())
        };
        let ready = async {
            // A notice that was missed is as good as any: the view has what it told.
            while !is_ready() && !matches!(notices.recv().await, Err(RecvError::Closed)) {}
        };
        let _ = tokio::time::timeout(READY_WITHIN, ready).await;
    }
}

impl Engine for Daemon {
    fn local(&self) -> Local {
        let own = self.node.local();
        Local {
            node_id: own.node,
            state: own.state,
            control_available: own.state == LocalState::Active && own.role == Some(Role::Manager),
            node_addr: own.address.map(|address| address.to_string()),
            remote_managers: own.managers,
            error: own.error,
            hostname: self.options.hostname.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: self.machine.platform.clone(),
            resources: self.machine.resources.clone(),
            labels: self
                .options
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            operating_system: self.machine.operating_system.clone(),
            kernel_version: self.machine.kernel_version.clone(),
            state_dir: self.options.data_dir.display().to_string(),
            docker_socket: self.options.docker_socket.clone(),
        }
    }

    fn replica(&self) -> Option<Replica> {
        self.node.replica()
    }

    async fn init(&self, request: InitRequest) -> Result<NodeId, EngineError> {
        let id = self.node.init(request).await.map_err(|error| told(&error))?;
        self.is_ready(id).await;
        Ok(id)
    }

    async fn join(&self, request: JoinRequest) -> Result<(), EngineError> {
        self.node.join(request).await.map_err(|error| told(&error))
    }

    async fn leave(&self, force: bool) -> Result<(), EngineError> {
        self.node.leave(force).await.map_err(|error| told(&error))
    }

    async fn unlock(&self, key: Sensitive) -> Result<(), EngineError> {
        self.node.unlock(&key.0).await.map_err(|error| told(&error))
    }

    async fn unlock_key(&self) -> Result<Sensitive, EngineError> {
        let key = self.node.unlock_key().await.map_err(|error| told(&error))?;
        Ok(Sensitive(key.unwrap_or_default()))
    }

    async fn update_swarm(
        &self,
        version: Version,
        spec: ClusterSpec,
        rotate: Rotate,
    ) -> Result<(), EngineError> {
        let updated = self.node.update_swarm(version, &spec, rotate).await;
        updated.map_err(|error| told(&error))
    }

    async fn remove_node(&self, id: NodeId, force: bool) -> Result<(), EngineError> {
        self.node
            .remove_node(id, force)
            .await
            .map_err(|error| told(&error))
    }

    async fn prepare_network(&self, name: &str) -> Result<Option<String>, EngineError> {
        if self.node.local().state != LocalState::Active {
            return Ok(None);
        }
        self.plugin.prepare(name).await.map_err(|error| match &error {
            PluginError::NotAttachable { .. } => EngineError::forbidden(error),
            PluginError::Managers(_) => EngineError::unavailable(error),
            // It is asked again for the container itself, and says so in its own words.
            PluginError::Engine(_) | PluginError::File { .. } => EngineError::internal(error),
        })
    }

    async fn logs(&self, what: LogSubscription) -> Result<LogStream, EngineError> {
        let leadership = self.parts.leadership().filter(|_| self.replica().is_some());
        let leadership = leadership.ok_or_else(|| EngineError::no_manager(&self.local()))?;
        let id = getrandom::u64().map_err(EngineError::internal)?;
        let id = LogSubscriptionId(id);
        let lines = leadership.logs(LogSubscription { id, ..what }).await;
        let lines = lines.map_err(EngineError::unavailable)?;
        Ok(lines.map(|line| line.map_err(EngineError::internal)).boxed())
    }
}

/// What a client is told of a node's refusal; Docker's own words are in it already.
fn told(error: &NodeError) -> EngineError {
    let text = chain(error);
    match error {
        NodeError::AlreadyMember
        | NodeError::NotMember
        | NodeError::Inactive
        | NodeError::Worker
        | NodeError::Locked
        | NodeError::LastManager
        | NodeError::Quorum(_)
        | NodeError::NoManager(_)
        | NodeError::Refused(_)
        | NodeError::JoinTimeout
        | NodeError::Closed => EngineError::unavailable(text),
        NodeError::NotLocked => EngineError::not_locked(),
        NodeError::WrongUnlockKey => EngineError::wrong_key(),
        NodeError::Token(_) | NodeError::NoRemote | NodeError::Invalid { .. } | NodeError::Address(_) => {
            EngineError::invalid(text)
        }
        NodeError::Cluster(_)
        | NodeError::Update(UpdateError::Refused(_))
        | NodeError::Remove(UpdateError::Refused(_)) => EngineError::failed_precondition(text),
        NodeError::Update(UpdateError::NoLeader(_)) | NodeError::Remove(UpdateError::NoLeader(_)) => {
            EngineError::no_leader()
        }
        NodeError::Listen { .. }
        | NodeError::Record(_)
        | NodeError::Store(_)
        | NodeError::Identity(_)
        | NodeError::NoDataKeys
        | NodeError::Key(_)
        | NodeError::Entropy(_)
        | NodeError::Link(_)
        | NodeError::Open(_)
        | NodeError::Start(_)
        | NodeError::Force(_)
        | NodeError::Server(_)
        | NodeError::Update(_)
        | NodeError::Remove(_)
        | NodeError::Directory { .. }
        | NodeError::Damaged { .. } => EngineError::internal(text),
    }
}
