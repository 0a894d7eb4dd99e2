//! What the files ask for, after variables, short forms and several files are one.

use crate::place::At;
use essaim_objects::{
    Driver, FileTarget, HealthConfig, Labels, Mount, Nanoseconds, NodeResources, PortConfig, ResolutionMode,
    ResourceLimits, RestartPolicy, UpdateConfig,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a stack's files ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stack {
    /// The version that the first file says.
    pub(crate) version: Option<String>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) secrets: BTreeMap<String, FileObject>,
    pub(crate) configs: BTreeMap<String, FileObject>,
    /// The operator's own keys, `x-…`.
    pub(crate) own: BTreeMap<String, Value>,
    /// The names of the files.
    pub(crate) files: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) at: At,
    pub(crate) image: Option<String>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) command: Option<Vec<String>>,
    /// With those of its files; without a value where the operator has none either.
    pub(crate) environment: BTreeMap<String, Option<String>>,
    pub(crate) labels: Labels,
    pub(crate) hostname: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) stop_grace_period: Option<Nanoseconds>,
    pub(crate) isolation: Option<String>,
    pub(crate) tty: Option<bool>,
    pub(crate) stdin_open: Option<bool>,
    pub(crate) init: Option<bool>,
    pub(crate) read_only: Option<bool>,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    /// `NAME:ADDRESS`.
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) sysctls: Labels,
    /// Soft and hard limits by name.
    pub(crate) ulimits: BTreeMap<String, (i64, i64)>,
    pub(crate) oom_score_adj: Option<i64>,
    pub(crate) healthcheck: Option<Health>,
    pub(crate) logging: Option<Driver>,
    pub(crate) ports: Vec<PortConfig>,
    pub(crate) networks: BTreeMap<String, Attachment>,
    pub(crate) secrets: Vec<FileUse>,
    pub(crate) configs: Vec<FileUse>,
    pub(crate) volumes: Vec<MountUse>,
    /// The policy of `restart:`, which counts where `deploy` has none.
    pub(crate) restart: Option<RestartPolicy>,
    pub(crate) deploy: Deploy,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    pub(crate) disable: Option<bool>,
    pub(crate) config: HealthConfig,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Deploy {
    pub(crate) mode: Option<DeployMode>,
    pub(crate) replicas: Option<u64>,
    pub(crate) endpoint_mode: Option<ResolutionMode>,
    pub(crate) labels: Labels,
    pub(crate) update: Option<UpdateConfig>,
    pub(crate) rollback: Option<UpdateConfig>,
    pub(crate) limits: Option<ResourceLimits>,
    pub(crate) reservations: Option<NodeResources>,
    pub(crate) restart: Option<RestartPolicy>,
    pub(crate) constraints: Vec<String>,
    /// What tasks are spread over.
    pub(crate) preferences: Vec<String>,
    pub(crate) max_replicas: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeployMode {
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

impl DeployMode {
    pub(crate) const ALL: [Self; 4] = [
        Self::Replicated,
        Self::Global,
        Self::ReplicatedJob,
        Self::GlobalJob,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }
}

/// A network that a service is on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) at: At,
    pub(crate) aliases: Vec<String>,
    pub(crate) driver_opts: Labels,
}

/// A secret or config that a service has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileUse {
    pub(crate) at: At,
    pub(crate) source: String,
    /// As it was given; without a name it is the source's.
    pub(crate) file: FileTarget,
}

/// Something mounted; its source is the name that the file has for a volume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MountUse {
    pub(crate) at: At,
    pub(crate) mount: Mount,
}

/// A network of the stack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    pub(crate) at: At,
    pub(crate) name: Option<String>,
    pub(crate) external: bool,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: Labels,
    pub(crate) ipam_driver: Option<String>,
    pub(crate) subnets: Vec<String>,
    pub(crate) internal: Option<bool>,
    pub(crate) attachable: Option<bool>,
    pub(crate) labels: Labels,
}

/// A volume of the stack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Volume {
    pub(crate) name: Option<String>,
    pub(crate) external: bool,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: Labels,
    pub(crate) labels: Labels,
}

/// A secret or config of the stack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileObject {
    pub(crate) at: At,
    pub(crate) name: Option<String>,
    pub(crate) external: bool,
    /// Where its bytes are, from the files' folder.
    pub(crate) file: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: Labels,
    pub(crate) template_driver: Option<String>,
    pub(crate) labels: Labels,
}
