//! Which nodes may have a task, in Swarm's order and words.

use super::node_info::NodeInfo;
use crate::Cluster;
use crate::ports::{HostPort, host_ports_of_task};
use essaim_objects::{
    Availability, Constraint, Node, NodeResources, NodeState, Platform, ServiceId, Task, TaskSpec,
};

/// Why a node may not have a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    /// It is not ready, or takes no new tasks.
    Ready,
    /// It has not enough left.
    Resource,
    /// It lacks a driver.
    Plugin,
    /// It is not what the constraints ask for.
    Constraint,
    /// The image is not built for it.
    Platform,
    /// Another task has the port there.
    HostPort,
    /// It has as many tasks of the service as a node may have.
    MaxReplicas,
}

impl Filter {
    /// All of them, in the order in which they are asked.
    const ALL: [Self; 7] = [
        Self::Ready,
        Self::Resource,
        Self::Plugin,
        Self::Constraint,
        Self::Platform,
        Self::HostPort,
        Self::MaxReplicas,
    ];

    fn explain(self, nodes: usize) -> String {
        let s = if nodes == 1 { "" } else { "s" };
        match self {
            Self::Ready => format!("{nodes} node{s} not available for new tasks"),
            Self::Resource => format!("insufficient resources on {nodes} node{s}"),
            Self::Plugin => format!("missing plugin on {nodes} node{s}"),
            Self::Constraint => format!("scheduling constraints not satisfied on {nodes} node{s}"),
            Self::Platform => format!("unsupported platform on {nodes} node{s}"),
            Self::HostPort => format!("host-mode port already in use on {nodes} node{s}"),
            Self::MaxReplicas => "max replicas per node limit exceed".to_owned(),
        }
    }
}

/// How many nodes each filter refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusals([usize; Filter::ALL.len()]);

impl Refusals {
    /// One node more.
    pub(super) fn count(&mut self, filter: Filter) {
        self.0[filter as usize] += 1;
    }

    /// In words: what refused most nodes first.
    pub(super) fn explain(&self) -> String {
        let mut refused: Vec<_> = Filter::ALL
            .into_iter()
            .zip(self.0)
            .filter(|(_, nodes)| *nodes > 0)
            .collect();
        refused.sort_by_key(|(_, nodes)| std::cmp::Reverse(*nodes));
        let words: Vec<_> = refused
            .into_iter()
            .map(|(filter, nodes)| filter.explain(nodes))
            .collect();
        words.join("; ")
    }
}

/// What a task, and all tasks that are made alike, ask of a node.
pub(crate) struct Requirements<'a> {
    pub(crate) service: Option<ServiceId>,
    pub(crate) reserved: Option<&'a NodeResources>,
    pub(crate) ports: Vec<HostPort>,
    plugins: Vec<(&'static str, String)>,
    /// `None` where one cannot be read: no node meets it.
    constraints: Option<Vec<Constraint>>,
    platforms: &'a [Platform],
    max_replicas: u64,
}

impl<'a> Requirements<'a> {
    pub(crate) fn of<C: Cluster>(task: &'a Task, cluster: &C) -> Self {
        let spec = &*task.spec;
        let placement = spec.placement.as_ref();
        let constraints = spec.constraints().iter().map(|text| text.parse());
        Self {
            service: task.service_id,
            reserved: spec.reservations(),
            ports: host_ports_of_task(task).collect(),
            plugins: plugins(spec, task, cluster),
            constraints: constraints.collect::<Result<_, _>>().ok(),
            platforms: placement
                .and_then(|it| it.platforms.as_deref())
                .unwrap_or_default(),
            max_replicas: placement.and_then(|it| it.max_replicas).unwrap_or_default(),
        }
    }

    /// The first filter that refuses a node.
    pub(crate) fn refuses(&self, info: &NodeInfo<'_>) -> Option<Filter> {
        let node = info.node;
        let is_refused = |filter: &Filter| match filter {
            Filter::Ready => !is_ready(node),
            Filter::Resource => self
                .reserved
                .is_some_and(|reserved| !info.available.fits(reserved)),
            Filter::Plugin => !has_plugins(node, &self.plugins),
            Filter::Constraint => !self
                .constraints
                .as_ref()
                .is_some_and(|all| all.iter().all(|one| one.is_met_by(node))),
            Filter::Platform => !self.platforms.is_empty() && !has_platform(node, self.platforms),
            Filter::HostPort => self.ports.iter().any(|port| info.ports.contains(port)),
            Filter::MaxReplicas => self.max_replicas > 0 && info.tasks_of(self.service) >= self.max_replicas,
        };
        Filter::ALL.into_iter().find(is_refused)
    }
}

/// Whether a node takes new tasks.
fn is_ready(node: &Node) -> bool {
    node.status.state == NodeState::Ready && node.spec.availability() == Availability::Active
}

/// The drivers that a task needs beyond those that every node has.
fn plugins<C: Cluster>(spec: &TaskSpec, task: &Task, cluster: &C) -> Vec<(&'static str, String)> {
    let mounts = spec
        .container
        .iter()
        .flat_map(|container| container.mounts.iter().flatten());
    let volumes = mounts
        .filter(|mount| mount.kind.as_deref() == Some("volume"))
        .filter_map(|mount| {
            let driver = mount.volume_options.as_ref()?.driver_config.as_ref()?;
            Some(("Volume", driver.name.clone()?))
        });
    let networks = task.networks_attachments.iter().filter_map(|attachment| {
        let network = cluster.network(attachment.network.id)?;
        Some(("Network", network.spec.driver.as_ref()?.name.clone()?))
    });
    let log = spec
        .log_driver
        .as_ref()
        .and_then(|driver| Some(("Log", driver.name.clone()?)));
    let is_builtin = |kind, name: &str| match kind {
        "Volume" => name == "local",
        "Network" => name == "overlay",
        _ => matches!(name, "none" | "json-file" | "local"),
    };
    let all = volumes.chain(networks).chain(log);
    all.filter(|(kind, name)| !name.is_empty() && !is_builtin(*kind, name))
        .collect()
}

/// Whether a node has the plugins; one that does not list any is not asked.
fn has_plugins(node: &Node, wanted: &[(&'static str, String)]) -> bool {
    let engine = node
        .description
        .as_ref()
        .and_then(|description| description.engine.as_ref());
    let Some(has) = engine.and_then(|engine| engine.plugins.as_ref()) else {
        return true;
    };
    wanted.iter().all(|(kind, name)| {
        let is_it = |found: &str| found == name || found.strip_suffix(":latest") == Some(name);
        has.iter()
            .any(|plugin| plugin.kind.as_deref() == Some(*kind) && plugin.name.as_deref().is_some_and(is_it))
    })
}

/// Whether a node is one of the platforms; a part that is left open fits all.
fn has_platform(node: &Node, wanted: &[Platform]) -> bool {
    fn normal(name: &str) -> String {
        match name.to_ascii_lowercase().as_str() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        }
    }
    let Some(has) = node
        .description
        .as_ref()
        .and_then(|description| description.platform.as_ref())
    else {
        return false;
    };
    let fits = |wanted: &Option<String>, has: &Option<String>| {
        let wanted = wanted.as_deref().unwrap_or_default();
        wanted.is_empty() || normal(wanted) == normal(has.as_deref().unwrap_or_default())
    };
    wanted
        .iter()
        .any(|it| fits(&it.os, &has.os) && fits(&it.architecture, &has.architecture))
}
