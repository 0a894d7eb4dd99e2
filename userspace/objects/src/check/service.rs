//! The checks of services.

use super::{Invalid, Problems};
use crate::{
    Constraint, EndpointSpec, FailureAction, Labels, NetworkTarget, NodeResources, Placement, Protocol,
    PublishMode, ResolutionMode, ResourceRequirements, RestartPolicy, Runtime, ServiceMode, ServiceSpec,
    SpreadKey, TaskSpec, UpdateConfig,
};
use essaim_model::{Cluster, MASQUERADE_PORTS};
use std::collections::BTreeSet;

/// Longest name of a service, in bytes: that of a DNS label.
const MAX_SERVICE_NAME: usize = 63;
/// The least share of a processor, in billionths.
const MIN_NANO_CPUS: i64 = 1_000_000;
/// The least memory, in bytes.
const MIN_MEMORY: i64 = 4 << 20;

impl ServiceSpec {
    /// Whether such a service can be made. That its networks, secrets and configs exist is the store's to say.
    ///
    /// # Errors
    /// Every member that cannot be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut problems = Problems::default();
        if !is_service_name(self.name()) {
            problems.text(
                "Name",
                self.name(),
                "1 to 63 letters, digits, '-' and '_', a letter or digit first and last",
            );
        }
        problems.labels("Labels", self.labels.as_ref());
        problems.within("TaskTemplate", |problems| task(problems, &self.task_template));
        if let Some(found) = &self.mode {
            problems.within("Mode", |problems| mode(problems, found));
        }
        let is_job = self.mode().is_job();
        for (name, config, is_rollback) in [
            ("UpdateConfig", &self.update_config, false),
            ("RollbackConfig", &self.rollback_config, true),
        ] {
            if let Some(config) = config {
                problems.within(name, |problems| update(problems, config, is_rollback));
                if is_job {
                    problems.add(name, "given", "none: a job is not updated task by task");
                }
            }
        }
        networks(&mut problems, "Networks", self.networks.as_deref());
        if let Some(found) = &self.endpoint_spec {
            problems.within("EndpointSpec", |problems| endpoint(problems, found));
        }
        problems.finish()
    }

    /// What is taken and kept, as Swarm does, and has no effect; a line for each member.
    pub fn without_effect(&self) -> Vec<String> {
        let mut problems = Problems::default();
        problems.within("TaskTemplate", |problems| {
            let placement = self.task_template.placement.as_ref();
            let preferences = placement.and_then(|placement| placement.preferences.as_deref());
            problems.within("Placement", |problems| {
                problems.each("Preferences", preferences, |problems, preference| {
                    let spread = preference.spread.as_ref();
                    let descriptor = spread.and_then(|spread| spread.spread_descriptor.as_deref());
                    let descriptor = descriptor.unwrap_or_default();
                    if let Err(error) = descriptor.parse::<SpreadKey>() {
                        problems.text("Spread.SpreadDescriptor", descriptor, error);
                    }
                });
            });
            let networks = self.task_template.networks.as_deref();
            problems.each("Networks", networks, |problems, network| {
                for name in network.driver_opts.iter().flat_map(Labels::keys) {
                    problems.text(
                        "DriverOpts",
                        name,
                        "none: a task's place on a network has no options",
                    );
                }
            });
        });
        let found = problems.found.iter();
        found
            .map(|problem| format!("{problem}; it has no effect"))
            .collect()
    }
}

/// `^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`, which is: letters, digits, `-` and `_`, the ends letters or digits.
fn is_service_name(name: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= MAX_SERVICE_NAME
        && alphanumeric(name.chars().next())
        && alphanumeric(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn mode(problems: &mut Problems, mode: &ServiceMode) {
    let given = [
        ("Replicated", mode.replicated.is_some()),
        ("Global", mode.global.is_some()),
        ("ReplicatedJob", mode.replicated_job.is_some()),
        ("GlobalJob", mode.global_job.is_some()),
    ];
    let given: Vec<_> = given
        .into_iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(name, _)| name)
        .collect();
    if given.len() > 1 {
        problems.add("", given.join(" and "), "one of them");
    }
}

fn task(problems: &mut Problems, spec: &TaskSpec) {
    let runtime = spec.runtime.unwrap_or(Runtime::Unset);
    if spec.plugin.is_some() {
        problems.add("PluginSpec", "given", "none: plugins are not run");
    }
    match runtime {
        Runtime::Unset | Runtime::Container => {}
        Runtime::Plugin | Runtime::Attachment => problems.add("Runtime", runtime, "container"),
    }
    if spec.network_attachment.is_some() {
        problems.add(
            "NetworkAttachmentSpec",
            "given",
            "none: a service's tasks are containers",
        );
    }
    match &spec.container {
        Some(container) => problems.within("ContainerSpec", |problems| {
            super::container::check(problems, container);
        }),
        None => problems.add("ContainerSpec", "absent", "a container"),
    }
    if let Some(found) = &spec.resources {
        problems.within("Resources", |problems| resources(problems, found));
    }
    if let Some(found) = &spec.restart_policy {
        problems.within("RestartPolicy", |problems| restart(problems, found));
    }
    if let Some(found) = &spec.placement {
        problems.within("Placement", |problems| placement(problems, found));
    }
    networks(problems, "Networks", spec.networks.as_deref());
}

fn resources(problems: &mut Problems, resources: &ResourceRequirements) {
    if let Some(limits) = &resources.limits {
        problems.within("Limits", |problems| {
            amounts(problems, limits.nano_cpus, limits.memory_bytes);
            problems.number("Pids", limits.pids, 0, i64::MAX);
        });
    }
    if let Some(reservations) = &resources.reservations {
        problems.within("Reservations", |problems| {
            amounts(problems, reservations.nano_cpus, reservations.memory_bytes);
            generic(problems, reservations);
        });
    }
    problems.number("SwapBytes", resources.swap_bytes, -1, i64::MAX);
    problems.number("MemorySwappiness", resources.memory_swappiness, -1, 100);
}

/// 0 is as good as not given.
fn amounts(problems: &mut Problems, nano_cpus: Option<i64>, memory: Option<i64>) {
    if let Some(found) = nano_cpus.filter(|found| *found != 0 && *found < MIN_NANO_CPUS) {
        problems.add(
            "NanoCPUs",
            found,
            format_args!("{MIN_NANO_CPUS} (0.001 of a processor) or more"),
        );
    }
    if let Some(found) = memory.filter(|found| *found != 0 && *found < MIN_MEMORY) {
        problems.add("MemoryBytes", found, format_args!("{MIN_MEMORY} (4 MiB) or more"));
    }
}

fn generic(problems: &mut Problems, resources: &NodeResources) {
    problems.each(
        "GenericResources",
        resources.generic_resources.as_deref(),
        |problems, resource| match (&resource.named, &resource.discrete) {
            (None, Some(discrete)) => {
                problems.number("DiscreteResourceSpec.Value", discrete.value, 1, i64::MAX);
            }
            (Some(_), _) => {}
            (None, None) => problems.add("", "empty", "a DiscreteResourceSpec or a NamedResourceSpec"),
        },
    );
}

fn restart(problems: &mut Problems, policy: &RestartPolicy) {
    problems.span("Delay", policy.delay);
    problems.span("Window", policy.window);
}

fn placement(problems: &mut Problems, placement: &Placement) {
    problems.each(
        "Constraints",
        placement.constraints.as_deref(),
        |problems, text| {
            if let Err(error) = text.parse::<Constraint>() {
                problems.text("", text, error);
            }
        },
    );
}

fn update(problems: &mut Problems, config: &UpdateConfig, is_rollback: bool) {
    problems.span("Delay", config.delay);
    problems.span("Monitor", config.monitor);
    problems.number(
        "MaxFailureRatio",
        config.max_failure_ratio.map(|ratio| ratio.0),
        0.0,
        1.0,
    );
    if is_rollback && config.failure_action == Some(FailureAction::Rollback) {
        problems.add(
            "FailureAction",
            "rollback",
            "pause or continue: a rollback is never rolled back",
        );
    }
}

fn networks(problems: &mut Problems, name: &str, networks: Option<&[NetworkTarget]>) {
    let mut seen = BTreeSet::new();
    problems.each(name, networks, |problems, network| {
        let target = network.target.as_deref().unwrap_or_default();
        if target.is_empty() {
            problems.text("Target", target, "the name or identity of a network");
        } else if !seen.insert(target.to_owned()) {
            problems.text("Target", target, "a network that is not given twice");
        }
        problems.each("Aliases", network.aliases.as_deref(), |problems, alias| {
            problems.host_name("", alias);
        });
    });
}

fn endpoint(problems: &mut Problems, spec: &EndpointSpec) {
    let mut seen = BTreeSet::new();
    problems.each("Ports", spec.ports.as_deref(), |problems, port| {
        let target = port.target_port.unwrap_or_default();
        problems.number("TargetPort", Some(target), 1, 65_535);
        problems.number("PublishedPort", port.published_port, 0, 65_535);
        let published = port.published();
        // What a data plane cannot publish would make its whole catalog invalid.
        let cluster = Cluster::new(Vec::new());
        let own = match port.protocol() {
            Protocol::Tcp | Protocol::Udp if published == cluster.gossip_port => Some("gossip"),
            Protocol::Tcp if published == cluster.manager_port => Some("the managers"),
            Protocol::Sctp | Protocol::Tcp | Protocol::Udp => None,
        };
        if let Some(own) = own {
            problems.add(
                "PublishedPort",
                format_args!("{published}/{}", port.protocol()),
                format_args!("another: this is the port of {own}"),
            );
        }
        if MASQUERADE_PORTS.contains(&published) {
            let (first, last) = (MASQUERADE_PORTS.start(), MASQUERADE_PORTS.end());
            problems.add(
                "PublishedPort",
                published,
                format_args!("another: {first} to {last} are for what tasks send to the world"),
            );
        }
        if port.protocol() == Protocol::Sctp && u32::from(published) != target {
            problems.add(
                "PublishedPort",
                published,
                format_args!("{target}, the target port: SCTP's checksum covers the ports"),
            );
        }
        if published != 0 && !seen.insert((published, port.protocol())) {
            problems.add(
                "PublishedPort",
                format_args!("{published}/{}", port.protocol()),
                "a port that is not given twice",
            );
        }
        if spec.mode() == ResolutionMode::Dnsrr && port.publish_mode() == PublishMode::Ingress {
            problems.add(
                "PublishMode",
                "ingress",
                "host: endpoint mode dnsrr has no virtual address for ingress",
            );
        }
    });
}
