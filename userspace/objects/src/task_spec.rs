//! What tasks are made of.

use crate::object::{spec, words};
use crate::{ContainerSpec, GenericResource, Labels, Nanoseconds, NodeResources, Platform};

spec! {
    /// What a task is made of.
    TaskSpec {
        /// The container.
        "ContainerSpec" container: Option<ContainerSpec>,
        /// An engine plugin in a container's place.
        "PluginSpec" plugin: Option<crate::Extra>,
        /// The attachment of a container that is not the cluster's.
        "NetworkAttachmentSpec" network_attachment: Option<NetworkAttachmentSpec>,
        /// What it may use and what it needs.
        "Resources" resources: Option<ResourceRequirements>,
        /// Whether it is started again.
        "RestartPolicy" restart_policy: Option<RestartPolicy>,
        /// Where it may run.
        "Placement" placement: Option<Placement>,
        /// The networks it is on.
        "Networks" networks: Option<Vec<NetworkTarget>>,
        /// Where its output goes.
        "LogDriver" log_driver: Option<Driver>,
        /// Counted up to make new tasks of an unchanged spec.
        "ForceUpdate" force_update: Option<u64>,
        /// What runs it: `container`, `plugin` or `attachment`.
        "Runtime" runtime: Option<Runtime>,
    }
}

impl TaskSpec {
    /// What it is beside its placement constraints: a change of those alone replaces no task that meets them.
    #[must_use]
    pub fn without_constraints(&self) -> Self {
        let mut spec = self.clone();
        if let Some(placement) = &mut spec.placement {
            placement.constraints = None;
            if *placement == Placement::default() {
                spec.placement = None;
            }
        }
        spec
    }

    /// Where it may run, in constraints.
    pub fn constraints(&self) -> &[String] {
        let placement = self.placement.as_ref();
        placement
            .and_then(|placement| placement.constraints.as_deref())
            .unwrap_or_default()
    }

    /// Whether it is started again, with the defaults.
    pub fn restart(&self) -> Restart {
        let set = self.restart_policy.clone().unwrap_or_default();
        Restart {
            condition: match set.condition {
                None | Some(RestartCondition::Unset) => RestartCondition::Any,
                Some(condition) => condition,
            },
            delay: set.delay.unwrap_or(Nanoseconds::from_secs(5)),
            max_attempts: set.max_attempts.unwrap_or_default(),
            window: set.window.unwrap_or_default(),
        }
    }

    /// The resources that a node must have left for it.
    pub fn reservations(&self) -> Option<&NodeResources> {
        self.resources.as_ref()?.reservations.as_ref()
    }
}

words! {
    /// What runs a task.
    Runtime {
        /// What the default says: a container.
        "" Unset,
        /// A container.
        "container" Container,
        /// An engine plugin.
        "plugin" Plugin,
        /// Nothing: a container that is not the cluster's gets an address.
        "attachment" Attachment,
    }
}

spec! {
    /// The attachment of a container that is not the cluster's.
    NetworkAttachmentSpec {
        /// The container.
        "ContainerID" container_id: Option<String>,
    }
}

spec! {
    /// What a task may use and what it needs.
    ResourceRequirements {
        /// At most this.
        "Limits" limits: Option<ResourceLimits>,
        /// A node must have this left.
        "Reservations" reservations: Option<NodeResources>,
        /// Swap beside the memory, in bytes; -1 without limit.
        "SwapBytes" swap_bytes: Option<i64>,
        /// How readily its memory is swapped out, 0 to 100; -1 as the node does.
        "MemorySwappiness" memory_swappiness: Option<i64>,
    }
}

spec! {
    /// What a task may use at most.
    ResourceLimits {
        /// Billionths of a processor.
        "NanoCPUs" nano_cpus: Option<i64>,
        /// Bytes of memory.
        "MemoryBytes" memory_bytes: Option<i64>,
        /// Processes and threads; 0 without limit.
        "Pids" pids: Option<i64>,
        /// Kept for clients that give reservations' members here.
        "GenericResources" generic_resources: Option<Vec<GenericResource>>,
    }
}

spec! {
    /// Whether a task is started again.
    RestartPolicy {
        /// When.
        "Condition" condition: Option<RestartCondition>,
        /// The pause before.
        "Delay" delay: Option<Nanoseconds>,
        /// At most so often within the window; 0 without limit.
        "MaxAttempts" max_attempts: Option<u64>,
        /// What the attempts are counted in; 0 for ever.
        "Window" window: Option<Nanoseconds>,
    }
}

words! {
    /// When a task is started again.
    RestartCondition {
        /// What the default says.
        "" Unset,
        /// Never.
        "none" None,
        /// Once it fails.
        "on-failure" OnFailure,
        /// Whenever it ends.
        "any" Any,
    }
}

/// Whether a task is started again, with the defaults in place of what was left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When; never unset.
    pub condition: RestartCondition,
    /// The pause before.
    pub delay: Nanoseconds,
    /// At most so often within the window; 0 without limit.
    pub max_attempts: u64,
    /// What the attempts are counted in; 0 for ever.
    pub window: Nanoseconds,
}

spec! {
    /// Where a task may run.
    Placement {
        /// What the node must be; see [`Constraint`](crate::Constraint).
        "Constraints" constraints: Option<Vec<String>>,
        /// What the tasks are spread over.
        "Preferences" preferences: Option<Vec<PlacementPreference>>,
        /// At most so many tasks of the service on a node; 0 without limit.
        "MaxReplicas" max_replicas: Option<u64>,
        /// What the image is built for.
        "Platforms" platforms: Option<Vec<Platform>>,
    }
}

spec! {
    /// A preference.
    PlacementPreference {
        /// To spread.
        "Spread" spread: Option<SpreadOver>,
    }
}

spec! {
    /// What tasks are spread over.
    SpreadOver {
        /// `node.labels.X` or `engine.labels.X`.
        "SpreadDescriptor" spread_descriptor: Option<String>,
    }
}

spec! {
    /// A network that a task is on.
    NetworkTarget {
        /// Its name or identity; the managers resolve a name as the spec is accepted.
        "Target" target: Option<String>,
        /// Further names there.
        "Aliases" aliases: Option<Vec<String>>,
        /// Options of the attachment.
        "DriverOpts" driver_opts: Option<Labels>,
    }
}

spec! {
    /// A driver with its options.
    Driver {
        /// Its name.
        "Name" name: Option<String>,
        /// Its options.
        "Options" options: Option<Labels>,
    }
}
