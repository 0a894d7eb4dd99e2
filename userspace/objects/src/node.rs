//! Nodes.

use crate::object::{always_written, object, spec, words};
use crate::{Labels, NetworkAttachment, NodeId, Timestamp, TlsInfo, Version};

object! {
    /// A machine of the cluster.
    Node {
        /// Its identity.
        "ID" id: NodeId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it joined.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// What the operator asks of it.
        "Spec" spec: NodeSpec,
        /// What it says of itself.
        "Description" description: Option<NodeDescription>,
        /// How it is.
        "Status" status: NodeStatus,
        /// Its part among the managers; absent for a worker.
        "ManagerStatus" manager_status: Option<ManagerStatus>,
        /// Its own addresses on networks: the ingress network's, from which its traffic towards tasks comes. Not part of
        /// Docker's API.
        "Attachments" attachments: Vec<NetworkAttachment>,
        /// The role in its current certificate, which follows the one asked for. Not part of Docker's API.
        "CertificateRole" certificate_role: Option<NodeRole>,
        /// What it shows and trusts, as it has said itself after taking over a certificate. Not part of Docker's API.
        "Certificate" certificate: Option<TlsInfo>,
    }
}

impl Node {
    /// A node of which nothing is known yet; the store gives it version and times.
    pub fn new(id: NodeId, spec: NodeSpec) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
            description: None,
            status: NodeStatus::default(),
            manager_status: None,
            attachments: Vec::new(),
            certificate_role: None,
            certificate: None,
            extra: crate::Extra::new(),
        }
    }
}

spec! {
    /// What the operator asks of a node.
    NodeSpec {
        /// A name beside its host name.
        "Name" name: Option<String>,
        /// Its labels, `node.labels.X` in constraints.
        "Labels" labels: Option<Labels>,
        /// The role it should have.
        "Role" role: Option<NodeRole>,
        /// Whether it takes tasks.
        "Availability" availability: Option<Availability>,
    }
}

impl NodeSpec {
    /// The role it should have; worker where nothing is said.
    pub fn role(&self) -> NodeRole {
        self.role.unwrap_or(NodeRole::Worker)
    }

    /// Whether it takes tasks; active where nothing is said.
    pub fn availability(&self) -> Availability {
        self.availability.unwrap_or(Availability::Active)
    }
}

words! {
    /// What a node is in the cluster.
    NodeRole {
        /// Runs tasks.
        "worker" Worker,
        /// Runs tasks and holds the cluster's state.
        "manager" Manager,
    }
}

words! {
    /// Whether a node takes tasks.
    Availability {
        /// New tasks may be placed on it.
        "active" Active,
        /// No new ones; those it has stay.
        "pause" Pause,
        /// None; those it has move away.
        "drain" Drain,
    }
}

spec! {
    /// What a node says of itself.
    NodeDescription {
        /// Its host name.
        "Hostname" hostname: Option<String>,
        /// Its architecture and operating system.
        "Platform" platform: Option<Platform>,
        /// What it has for tasks.
        "Resources" resources: Option<NodeResources>,
        /// Its engine.
        "Engine" engine: Option<EngineDescription>,
        /// Its certificate's issuer.
        "TLSInfo" tls_info: Option<TlsInfo>,
    }
}

spec! {
    /// An architecture and an operating system.
    Platform {
        /// Such as `x86_64`.
        "Architecture" architecture: Option<String>,
        /// Such as `linux`.
        "OS" os: Option<String>,
    }
}

spec! {
    /// What a node has for tasks, or what a task takes of it.
    NodeResources {
        /// Billionths of a processor.
        "NanoCPUs" nano_cpus: Option<i64>,
        /// Bytes of memory.
        "MemoryBytes" memory_bytes: Option<i64>,
        /// Resources of the operator's own kinds.
        "GenericResources" generic_resources: Option<Vec<GenericResource>>,
    }
}

spec! {
    /// A resource of the operator's own kind: counted, or named one by one.
    GenericResource {
        /// One of the named.
        "NamedResourceSpec" named: Option<NamedResource>,
        /// So many.
        "DiscreteResourceSpec" discrete: Option<DiscreteResource>,
    }
}

spec! {
    /// One resource with a name, such as a graphics card's identity.
    NamedResource {
        /// The kind.
        "Kind" kind: Option<String>,
        /// The one.
        "Value" value: Option<String>,
    }
}

spec! {
    /// A number of resources that are alike.
    DiscreteResource {
        /// The kind.
        "Kind" kind: Option<String>,
        /// How many.
        "Value" value: Option<i64>,
    }
}

spec! {
    /// A node's engine.
    EngineDescription {
        /// Its version.
        "EngineVersion" engine_version: Option<String>,
        /// Its labels, `engine.labels.X` in constraints.
        "Labels" labels: Option<Labels>,
        /// What it can be asked for by name.
        "Plugins" plugins: Option<Vec<Plugin>>,
    }
}

spec! {
    /// Something that an engine can be asked for by name.
    Plugin {
        /// The kind, such as `Network`, `Volume` or `Log`.
        "Type" kind: Option<String>,
        /// The name.
        "Name" name: Option<String>,
    }
}

words! {
    /// How a node is.
    #[derive(Default)]
    NodeState {
        /// Nothing is known of it: its manager is new.
        #[default]
        "unknown" Unknown,
        /// Its heartbeats are missed.
        "down" Down,
        /// It is there.
        "ready" Ready,
        /// It left, or holds no session any more.
        "disconnected" Disconnected,
    }
}

always_written!(NodeState);

spec! {
    /// How a node is.
    NodeStatus {
        /// In a word.
        "State" state: NodeState,
        /// In a sentence.
        "Message" message: Option<String>,
        /// The address that managers see it at.
        "Addr" addr: Option<String>,
        /// The address that it sends and receives VXLAN at. Not part of Docker's API.
        "DataPathAddr" data_path_addr: Option<String>,
    }
}

words! {
    /// Whether the other managers reach a manager.
    #[derive(Default)]
    Reachability {
        /// Nothing is known of it.
        #[default]
        "unknown" Unknown,
        /// They do not.
        "unreachable" Unreachable,
        /// They do.
        "reachable" Reachable,
    }
}

always_written!(Reachability);

spec! {
    /// A manager's part among the managers.
    ManagerStatus {
        /// Whether it leads them.
        "Leader" leader: Option<bool>,
        /// Whether the others reach it.
        "Reachability" reachability: Reachability,
        /// Where it listens, with the port.
        "Addr" addr: Option<String>,
        /// Its number in the consensus. Not part of Docker's API.
        "RaftID" raft_id: Option<u64>,
    }
}

/// How a node is by its own word, as `docker info` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalNodeState {
    /// In no cluster.
    #[default]
    Inactive,
    /// On its way into one.
    Pending,
    /// In one.
    Active,
    /// A manager whose keys wait for the unlock key.
    Locked,
    /// In one, and not able to go on.
    Error,
}

impl LocalNodeState {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Locked => "locked",
            Self::Error => "error",
        }
    }
}
