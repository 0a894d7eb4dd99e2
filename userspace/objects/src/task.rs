//! Tasks.

use crate::object::{Member, always_written, object, spec};
use crate::{
    GenericResource, Labels, Network, NetworkId, NodeId, PortConfig, ServiceId, TaskId, TaskSpec, Timestamp,
    Version,
};
use ipnet::IpNet;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

object! {
    /// One running copy of a service, or a container's attachment.
    Task {
        /// Its identity.
        "ID" id: TaskId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it was made.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// Its name, where it has one of its own.
        "Name" name: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// What it is made of, shared with its service and the other tasks.
        "Spec" spec: Arc<TaskSpec>,
        /// The log index of the service's spec that it was made of. Not part of Docker's API.
        "SpecVersion" spec_version: Option<Version>,
        /// Its service; none for an attachment.
        "ServiceID" service_id: Option<ServiceId>,
        /// Its number among the copies; none for the tasks of a global service.
        "Slot" slot: Option<u64>,
        /// Where it is placed.
        "NodeID" node_id: Option<NodeId>,
        /// How it is.
        "Status" status: TaskStatus,
        /// How it should be.
        "DesiredState" desired_state: TaskState,
        /// Its addresses.
        "NetworksAttachments" networks_attachments: Vec<NetworkAttachment>,
        /// The operator's own resources that it was given.
        "GenericResources" generic_resources: Option<Vec<GenericResource>>,
        /// Which run of a job it belongs to.
        "JobIteration" job_iteration: Option<Version>,
        /// When the managers learnt that it runs. Not part of Docker's API.
        "RunningSince" running_since: Option<Timestamp>,
        /// When the managers learnt that it runs no more. Not part of Docker's API.
        "RunningUntil" running_until: Option<Timestamp>,
    }
}

impl Task {
    /// A new task, which should run; the store gives it version and times.
    pub fn new(id: TaskId, service_id: Option<ServiceId>, spec: Arc<TaskSpec>) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            name: None,
            labels: None,
            spec,
            spec_version: None,
            service_id,
            slot: None,
            node_id: None,
            status: TaskStatus::default(),
            desired_state: TaskState::Running,
            networks_attachments: Vec::new(),
            generic_resources: None,
            job_iteration: None,
            running_since: None,
            running_until: None,
            extra: crate::Extra::new(),
        }
    }

    /// As the API gives it: with the networks that `network` finds in place of their identities alone.
    ///
    /// # Errors
    /// None that a task can cause; serialising is the JSON library's.
    pub fn to_api(
        &self,
        mut network: impl FnMut(NetworkId) -> Option<Arc<Network>>,
    ) -> serde_json::Result<serde_json::Value> {
        let mut value = serde_json::to_value(self)?;
        let attachments = value
            .get_mut("NetworksAttachments")
            .and_then(serde_json::Value::as_array_mut);
        for (written, attachment) in attachments.into_iter().flatten().zip(&self.networks_attachments) {
            if let Some(network) = network(attachment.network.id) {
                written["Network"] = serde_json::to_value(&*network)?;
            }
        }
        Ok(value)
    }
}

/// How far a task is, in Swarm's order; what is observed only goes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum TaskState {
    /// Made; nothing is allotted yet.
    #[default]
    New = 0,
    /// Everything is allotted; it waits for a node.
    Pending = 64,
    /// It has a node.
    Assigned = 192,
    /// The node has it.
    Accepted = 256,
    /// The node prepares it.
    Preparing = 320,
    /// It could start.
    Ready = 384,
    /// It starts.
    Starting = 448,
    /// It runs.
    Running = 512,
    /// It ended well.
    Complete = 576,
    /// It was stopped.
    Shutdown = 640,
    /// It ended badly.
    Failed = 704,
    /// The node cannot run it.
    Rejected = 768,
    /// To be removed with its slot (only as what should be).
    Remove = 800,
    /// Its node was gone for too long.
    Orphaned = 832,
}

impl TaskState {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// Their words.
    const WORDS: &[&str] = &[
        Self::New.as_str(),
        Self::Pending.as_str(),
        Self::Assigned.as_str(),
        Self::Accepted.as_str(),
        Self::Preparing.as_str(),
        Self::Ready.as_str(),
        Self::Starting.as_str(),
        Self::Running.as_str(),
        Self::Complete.as_str(),
        Self::Shutdown.as_str(),
        Self::Failed.as_str(),
        Self::Rejected.as_str(),
        Self::Remove.as_str(),
        Self::Orphaned.as_str(),
    ];

    /// Swarm's number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether it will never run again.
    pub fn is_over(self) -> bool {
        self > Self::Running
    }

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for TaskState {
    type Err = crate::WordError;

    fn from_str(text: &str) -> Result<Self, crate::WordError> {
        let found = Self::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| crate::WordError {
            what: "task state",
            found: text.to_owned(),
            expected: Self::WORDS,
        })
    }
}

impl Serialize for TaskState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TaskState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::object::text(deserializer)
    }
}

always_written!(TaskState);

spec! {
    /// How a task is.
    TaskStatus {
        /// When this was seen.
        "Timestamp" timestamp: Option<Timestamp>,
        /// How far it is.
        "State" state: TaskState,
        /// In a sentence.
        "Message" message: Option<String>,
        /// What went wrong, or why it waits.
        "Err" err: Option<String>,
        /// Its container.
        "ContainerStatus" container_status: Option<Box<ContainerStatus>>,
        /// The ports that it has on its node.
        "PortStatus" port_status: Option<PortStatus>,
    }
}

spec! {
    /// A task's container.
    ContainerStatus {
        /// Its identity.
        "ContainerID" container_id: Option<String>,
        /// Its first process.
        "PID" pid: Option<i64>,
        /// How it ended.
        "ExitCode" exit_code: Option<i64>,
    }
}

spec! {
    /// The ports that a task has on its node.
    PortStatus {
        /// Them.
        "Ports" ports: Option<Vec<PortConfig>>,
    }
}

object! {
    /// An attachment to a network.
    NetworkAttachment {
        /// The network.
        "Network" network: AttachedNetwork,
        /// At most one address of a family, with the length of the subnet's prefix.
        "Addresses" addresses: Vec<IpNet>,
    }
}

impl NetworkAttachment {
    /// An attachment with these addresses.
    pub fn new(network: NetworkId, addresses: Vec<IpNet>) -> Self {
        Self {
            network: AttachedNetwork { id: network },
            addresses,
            extra: crate::Extra::new(),
        }
    }
}

/// The network of an attachment: only its identity is kept, so that a change of the network changes no task.
/// [`Task::to_api`] puts the whole network in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedNetwork {
    /// Its identity.
    pub id: NetworkId,
}

impl Serialize for AttachedNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("ID", &self.id)?;
        map.end()
    }
}

object! {
    /// What is read of an attachment's network.
    IdentityOfNetwork {
        /// Its identity.
        "ID" id: NetworkId,
    }
}

impl<'de> Deserialize<'de> for AttachedNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IdentityOfNetwork::deserialize(deserializer).map(|network| Self { id: network.id })
    }
}

impl Member for AttachedNetwork {
    fn absent() -> Option<Self> {
        None
    }

    fn is_absent(&self) -> bool {
        false
    }
}
