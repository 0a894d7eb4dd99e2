//! What `essaim status` tells, as data.

use crate::holder::HeldPort;
use crate::ipsec::SaStatus;
use crate::ports::PortHold;
use essaim_gossip::{MemberState, MemberView, View};
use essaim_health::{Health, TaskHealth};
use essaim_model::{
    BackendKey, BackendPlan, Catalog, DesiredState, NetworkName, NodeName, PublishedPort, Scope, ServiceKey,
    ServiceName, ServicePlan, TaskId, TaskState, Vni,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

/// A node, as it is at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: NodeName,
    /// The agent; none where it is not running: what is said then comes from the maps and the last catalog.
    pub agent: Option<AgentStatus>,
    /// Revision of the catalog that was applied last.
    pub revision: u64,
    /// What is wrong at the moment; unknown without an agent.
    pub problems: Vec<String>,
    /// The networks.
    pub networks: Vec<NetworkStatus>,
    /// The services.
    pub services: Vec<ServiceStatus>,
    /// The ports published on this node.
    pub ports: Vec<PortStatus>,
    /// The members, as gossip knows them; none where there are no keys for it, or no agent runs.
    pub members: Option<MembersStatus>,
    /// The security associations of this node; never their keys.
    #[serde(default)]
    pub ipsec: Vec<SaStatus>,
    /// The checked tasks of this node.
    pub checks: BTreeMap<TaskId, CheckStatus>,
    /// The other nodes' VTEPs and this node's own.
    pub vteps: Vec<VtepStatus>,
    /// What the resolver of the tasks and gossip have counted since the agent's start; only what happened.
    pub counters: BTreeMap<String, u64>,
    /// Packets dropped, by reason; only those that happened.
    pub drops: Vec<DropStatus>,
    /// How full the maps are; those that are always full, or cannot be, are left out.
    pub maps: Vec<MapStatus>,
    /// Kernel memory that all maps take, in bytes.
    pub memory: u64,
}

/// An agent that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// How long it has run, in seconds.
    pub uptime_seconds: u64,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The holder's process, where one answers.
    pub holder_pid: Option<u32>,
}

/// The members of the cluster, by name.
pub type MembersStatus = BTreeMap<NodeName, MemberStatus>;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Whether it answers.
    pub state: MemberHealth,
    /// Its run: the wall clock at its start, in milliseconds; 0 where it was never heard of.
    pub epoch: u64,
    /// The revision of the catalog that it has in its maps.
    pub revision: Option<u64>,
}

/// Whether a member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberHealth {
    /// It does.
    Up,
    /// It does not, and may still contradict.
    Suspect,
    /// It does not: its tasks count as gone.
    Down,
    /// It was never heard of; the catalog speaks.
    Unheard,
}

/// How a task's health check goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// `starting`, `healthy` or `unhealthy`.
    pub health: String,
    /// Probes that have failed in a row.
    pub failing: u32,
    /// What the last probe that failed said.
    pub problem: Option<String>,
}

/// What the checks show.
pub(crate) fn checks(found: &BTreeMap<TaskId, TaskHealth>) -> BTreeMap<TaskId, CheckStatus> {
    let check = |task: &TaskHealth| {
        let failures = task
            .results
            .iter()
            .rev()
            .map_while(|probe| probe.result.as_ref().err());
        let health = match task.health {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy { .. } => "unhealthy",
        };
        let kept = failures.clone().count();
        CheckStatus {
            health: health.to_owned(),
            failing: match &task.health {
                Health::Unhealthy { failures, .. } => *failures,
                Health::Starting | Health::Healthy => u32::try_from(kept).unwrap_or(u32::MAX),
            },
            problem: failures.clone().next().map(ToString::to_string),
        }
    };
    found
        .iter()
        .map(|(task, found)| (task.clone(), check(found)))
        .collect()
}

/// What a view of gossip shows of the members.
pub(crate) fn members(view: &View) -> MembersStatus {
    let member = |member: &MemberView| MemberStatus {
        state: match member.state {
            MemberState::Down => MemberHealth::Down,
            MemberState::Suspect => MemberHealth::Suspect,
            MemberState::Alive if member.epoch.is_heard() => MemberHealth::Up,
            MemberState::Alive => MemberHealth::Unheard,
        },
        epoch: member.epoch.number(),
        revision: member.catalog_applied,
    };
    let members = view.members.iter();
    members
        .map(|(node, found)| (node.clone(), member(found)))
        .collect()
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: NetworkName,
    /// Its VNI.
    pub vni: Vni,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// Nothing leaves it.
    pub internal: bool,
    /// Endpoints on this node.
    pub endpoints_here: usize,
}

/// Packets counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// New flows.
    pub flows: u64,
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            packets: sum.packets + count.packets,
            bytes: sum.bytes + count.bytes,
            flows: sum.flows + count.flows,
        })
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// The ways to reach it.
    pub groups: Vec<GroupStatus>,
    /// Its tasks' endpoints.
    pub backends: Vec<BackendStatus>,
}

/// A way to reach a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// `ingress`, `host`, or the network's name.
    pub through: String,
    /// Its VIPs.
    pub vips: Vec<IpAddr>,
    /// Backends that take new flows.
    pub active: usize,
    /// What went through, on this node.
    pub count: Count,
}

/// A task's endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// The task.
    pub task: TaskId,
    /// The network.
    pub network: NetworkName,
    /// The task's state.
    pub state: TaskState,
    /// Its node.
    pub node: NodeName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What this node sent to it.
    pub count: Count,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The port.
    pub port: HeldPort,
    /// The service.
    pub service: ServiceName,
    /// The tasks' port.
    pub target: u16,
    /// Only for tasks of this node.
    pub host: bool,
    /// Replies go straight to the client.
    pub dsr: bool,
    /// Whether it is this node's.
    pub hold: PortHold,
}

/// A VTEP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VtepStatus {
    /// Its node.
    pub node: NodeName,
    /// Its underlay address.
    pub address: IpAddr,
    /// How it is reached.
    pub way: VtepWay,
}

/// How a VTEP is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VtepWay {
    /// It is this node.
    Own,
    /// Next hop and interface are known: straight from the programs.
    Resolved,
    /// They are not: through the VXLAN device of the kernel.
    Unresolved,
}

/// Packets dropped for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropStatus {
    /// The reason's name.
    pub reason: String,
    /// What it means.
    pub text: String,
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapStatus {
    /// Its name.
    pub map: String,
    /// Entries in use.
    pub used: u64,
    /// Entries that fit.
    pub capacity: u64,
    /// Kernel memory that it takes, in bytes.
    pub bytes: u64,
}

/// What was counted and found in the maps.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// By group of backends.
    pub groups: BTreeMap<ServiceKey, Count>,
    /// By backend.
    pub backends: BTreeMap<BackendKey, Count>,
    /// By reason.
    pub drops: Vec<DropStatus>,
    /// VTEPs with a known way.
    pub resolved: BTreeSet<IpAddr>,
    /// How full the maps are.
    pub maps: Vec<MapStatus>,
    /// Kernel memory that all maps take, in bytes.
    pub memory: u64,
}

/// What is known beside the plan.
#[derive(Debug, Default)]
pub struct Known<'k> {
    /// The agent.
    pub agent: Option<AgentStatus>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// How the published ports are held.
    pub ports: BTreeMap<HeldPort, PortHold>,
    /// The members.
    pub members: Option<MembersStatus>,
    /// The security associations.
    pub ipsec: Vec<SaStatus>,
    /// The checked tasks.
    pub checks: BTreeMap<TaskId, CheckStatus>,
    /// What the resolver and gossip have counted.
    pub counters: BTreeMap<String, u64>,
    /// What the maps say; none where they cannot be read.
    pub readings: Option<&'k Readings>,
}

impl Status {
    /// Puts together what a catalog, its plan and the maps say.
    pub fn new(catalog: &Catalog, desired: &DesiredState, known: Known<'_>) -> Self {
        let nothing = Readings::default();
        let Known {
            agent,
            problems,
            ports,
            members,
            ipsec,
            checks,
            counters,
            readings,
        } = known;
        let readings = readings.unwrap_or(&nothing);
        Self {
            node: desired.cluster.node.clone(),
            agent,
            revision: desired.revision,
            problems,
            networks: networks(catalog, desired),
            services: desired
                .services
                .iter()
                .map(|(name, plan)| service(name, plan, readings))
                .collect(),
            ports: published(desired, &ports),
            members,
            ipsec,
            checks,
            counters,
            vteps: vteps(desired, readings),
            drops: readings.drops.clone(),
            maps: readings.maps.clone(),
            memory: readings.memory,
        }
    }
}

fn networks(catalog: &Catalog, desired: &DesiredState) -> Vec<NetworkStatus> {
    let attachments = || {
        desired
            .services
            .values()
            .flat_map(|service| service.attachments.keys())
    };
    let status = |network: &essaim_model::Network| NetworkStatus {
        name: network.name.clone(),
        vni: network.vni,
        subnets: network.subnets.clone(),
        internal: network.internal,
        endpoints_here: attachments().filter(|key| key.network == network.name).count(),
    };
    catalog.networks.iter().map(status).collect()
}

fn service(name: &ServiceName, plan: &ServicePlan, readings: &Readings) -> ServiceStatus {
    let group = |(key, group): (&ServiceKey, &essaim_model::GroupPlan)| GroupStatus {
        through: match &key.scope {
            Scope::Network(network) => network.to_string(),
            Scope::Ingress => "ingress".to_owned(),
            Scope::HostPort => "host".to_owned(),
        },
        vips: group.vips.clone(),
        active: group.active.len(),
        count: readings.groups.get(key).copied().unwrap_or_default(),
    };
    let backend = |(key, backend): (&BackendKey, &BackendPlan)| BackendStatus {
        task: key.task.clone(),
        network: key.network.clone(),
        state: backend.state,
        node: backend.node.clone(),
        addresses: backend.addresses.clone(),
        count: readings.backends.get(key).copied().unwrap_or_default(),
    };
    ServiceStatus {
        name: name.clone(),
        groups: plan.groups.iter().map(group).collect(),
        backends: plan.backends.iter().map(backend).collect(),
    }
}

fn published(desired: &DesiredState, holds: &BTreeMap<HeldPort, PortHold>) -> Vec<PortStatus> {
    let ports = desired
        .services
        .iter()
        .flat_map(|(service, plan)| plan.published.iter().map(move |of| (service, of)));
    let status = |(service, ((protocol, port), plan)): (&ServiceName, (&(_, u16), &PublishedPort))| {
        let port = HeldPort {
            protocol: *protocol,
            port: *port,
        };
        PortStatus {
            port,
            service: service.clone(),
            target: plan.target,
            host: plan.host,
            dsr: plan.dsr,
            hold: holds.get(&port).cloned().unwrap_or(PortHold::Unknown),
        }
    };
    let mut ports: Vec<PortStatus> = ports.map(status).collect();
    ports.sort_by_key(|port| port.port);
    ports
}

fn vteps(desired: &DesiredState, readings: &Readings) -> Vec<VtepStatus> {
    let way = |address: &IpAddr| {
        if *address == desired.cluster.vtep {
            VtepWay::Own
        } else if readings.resolved.contains(address) {
            VtepWay::Resolved
        } else {
            VtepWay::Unresolved
        }
    };
    let vteps = desired.cluster.vteps.iter();
    let mut vteps: Vec<VtepStatus> = vteps
        .map(|(address, node)| VtepStatus {
            node: node.clone(),
            address: *address,
            way: way(address),
        })
        .collect();
    vteps.sort_by(|one, other| one.node.cmp(&other.node));
    vteps
}
