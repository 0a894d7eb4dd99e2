//! Looks at a node: for the agent's control socket, and for commands where no agent runs.

use crate::control::{TraceQuestion, TraceStep};
use crate::event::{interface_name, verdict_name};
use crate::follow::{CatalogRefused, Follower, Plan};
use crate::holder::{HeldPort, HolderClient, protocol_of};
use crate::ipsec::SaStatus;
use crate::ports::{PortFilter, PortHold, published_ports};
use crate::readings;
use crate::resolver::{fill_in, held_ports};
use crate::state_dir::{NodeRecord, StateDir, StateDirError};
use crate::status::{AgentStatus, CheckStatus, Known, MembersStatus, Status};
use crate::stops::StopRefused;
use crate::tasks::NotOwn;
use essaim_abi::{ConfigFlags, Hook, Protocol};
use essaim_datapath::{Datapath, DatapathError, TraceRequest};
use essaim_model::{DesiredState, NameError, NodeFacts, NodeName, PlanError, ResolverPorts, TaskId};
use essaim_netlink::{HostOptions, LinkOutcome, LinkReconciler, NetlinkError};
use nix::net::if_::if_nametoindex;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// No agent has ever run with this state directory.
    #[error("no agent has run with the state directory {}; name the right one with --state-dir", path.display())]
    NoAgent {
        /// The state directory.
        path: PathBuf,
    },
    /// No catalog was applied.
    #[error("no catalog was applied yet")]
    NoPlan,
    /// The state directory does not say.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The record in the state directory names no node.
    #[error("the state directory names no node")]
    Node(#[from] NameError),
    /// The copy of the catalog is none of this build's.
    #[error(transparent)]
    Catalog(#[from] CatalogRefused),
    /// The copy of the catalog cannot be planned.
    #[error("no plan for this node")]
    Plan(#[source] PlanError),
    /// No packet of that protocol can be traced.
    #[error("protocol {found:?} cannot be traced; expected tcp, udp or sctp")]
    Protocol {
        /// What was asked for.
        found: String,
    },
    /// No packet comes in there.
    #[error(
        "no program of this node hangs in interface {found:?}; name an uplink, an endpoint's interface, or `client`"
    )]
    Interface {
        /// What was asked for.
        found: String,
    },
    /// The task is not one of this node.
    #[error(transparent)]
    NotOwn(#[from] NotOwn),
    /// The task cannot be stopped.
    #[error(transparent)]
    Stop(#[from] StopRefused),
    /// The links do not say.
    #[error(transparent)]
    Links(#[from] NetlinkError),
    /// The maps do not say.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// Everything there is to see of a node.
pub(crate) struct Scene<'a> {
    /// What holds.
    pub(crate) plan: &'a Plan,
    /// The plan without the ports that other processes have.
    pub(crate) reduced: &'a DesiredState,
    pub(crate) links: &'a LinkReconciler,
    pub(crate) datapath: &'a mut Datapath,
    pub(crate) ports: &'a BTreeMap<HeldPort, PortHold>,
    /// Where the tasks' resolver listens, by the cookie of the namespace.
    pub(crate) resolvers: &'a BTreeMap<u64, ResolverPorts>,
    /// The members; none without gossip, or without an agent.
    pub(crate) members: Option<MembersStatus>,
    /// The security associations; none without an agent.
    pub(crate) ipsec: Vec<SaStatus>,
    /// What of IPsec is not as it should be; none without an agent.
    pub(crate) ipsec_differences: Vec<String>,
    /// The checked tasks; none without an agent.
    pub(crate) checks: BTreeMap<TaskId, CheckStatus>,
    /// What the resolver and gossip have counted; none without an agent.
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) problems: Vec<String>,
    pub(crate) agent: Option<AgentStatus>,
}

impl Scene<'_> {
    /// What the links and the resolver say of the node, and what is wrong with it.
    fn found(&self) -> Result<LinkOutcome, LookError> {
        let mut found = self.links.inspect(&self.plan.desired)?;
        fill_in(&mut found.facts, self.resolvers);
        // The links do not know; the agent has told the programs.
        let config = self.datapath.maps().config.read(0)?;
        found.facts.ipsec = config.flags.has(ConfigFlags::IPSEC);
        Ok(found)
    }
}

/// How the node is.
pub(crate) fn status(scene: &mut Scene<'_>) -> Result<Status, LookError> {
    let readings = readings::read(scene.datapath, &scene.plan.desired)?;
    let known = Known {
        agent: scene.agent.clone(),
        problems: scene.problems.clone(),
        ports: scene.ports.clone(),
        members: scene.members.clone(),
        ipsec: scene.ipsec.clone(),
        checks: scene.checks.clone(),
        counters: scene.counters.clone(),
        readings: Some(&readings),
    };
    Ok(Status::new(&scene.plan.catalog, &scene.plan.desired, known))
}

/// What differs from the plan: links, what the programs hang in, maps, held ports. Changes nothing.
pub(crate) fn verify(scene: &mut Scene<'_>) -> Result<Vec<String>, LookError> {
    let desired = &scene.plan.desired;
    let ops = scene.links.verify(desired)?;
    let found = scene.found()?;
    let mut differences: Vec<String> = ops.iter().map(|op| format!("links: to do: {op}")).collect();
    differences.extend(
        found
            .problems
            .iter()
            .map(|problem| format!("links: {}", crate::chain(problem))),
    );
    let maps = scene.datapath.verify(scene.reduced, &found.facts)?;
    differences.extend(maps.iter().map(|difference| format!("data plane: {difference}")));
    for port in published_ports(desired) {
        match scene.ports.get(&port) {
            Some(PortHold::Held | PortHold::Unsupported) => {}
            Some(hold) => differences.push(format!("ports: {port}: {hold}")),
            None => differences.push(format!("ports: {port}: not held")),
        }
    }
    differences.extend(scene.ipsec_differences.iter().cloned());
    Ok(differences)
}

/// What the programs would do with a packet. Nothing is sent, no state is written.
pub(crate) fn trace(scene: &mut Scene<'_>, question: &TraceQuestion) -> Result<Vec<TraceStep>, LookError> {
    let facts = scene.found()?.facts;
    let TraceQuestion {
        source,
        destination,
        protocol,
        port,
        from,
    } = question;
    let request = TraceRequest {
        source: *source,
        destination: *destination,
        protocol: protocol_of(protocol).ok_or_else(|| LookError::Protocol {
            found: protocol.clone(),
        })?,
        port: *port,
        source_port: TRACE_SOURCE_PORT,
        from: from.as_deref().map(|from| entrance(from, &facts)).transpose()?,
    };
    // The plan without the ports that are not served: so the programs have it.
    let steps = scene.datapath.trace(None, &request, scene.reduced, &facts)?;
    Ok(steps.into_iter().map(told).collect())
}

/// Any port does; always the same one, so that the same question finds the same backend.
const TRACE_SOURCE_PORT: u16 = 40_000;

/// Where a packet comes in that arrives at this interface.
fn entrance(from: &str, facts: &NodeFacts) -> Result<(Hook, u32), LookError> {
    if from == "client" {
        let uplink = facts.uplinks.first().ok_or_else(|| LookError::Interface {
            found: from.to_owned(),
        })?;
        return Ok((Hook::IngressXdp, uplink.ifindex));
    }
    let unknown = || LookError::Interface {
        found: from.to_owned(),
    };
    let ifindex = if_nametoindex(from).map_err(|_| unknown())?;
    let is_endpoint = || {
        facts
            .attachments
            .values()
            .any(|endpoint| endpoint.ifindex == ifindex)
    };
    let hook = if facts.uplinks.iter().any(|uplink| uplink.ifindex == ifindex) {
        Hook::IngressXdp
    } else if ifindex == facts.vxlan_ifindex {
        Hook::OverlayTc
    } else if ifindex == facts.node_ifindex || is_endpoint() {
        Hook::EndpointTc
    } else {
        return Err(unknown());
    };
    Ok((hook, ifindex))
}

fn told(step: essaim_datapath::TraceStep) -> TraceStep {
    let essaim_datapath::TraceStep {
        hook,
        ifindex,
        verdict,
        reason,
        service,
        backend,
        node,
        to_ifindex,
        vni,
        flow: _,
        text,
    } = step;
    TraceStep {
        program: hook.name().to_owned(),
        interface: interface_name(ifindex),
        verdict: verdict_name(verdict).to_owned(),
        reason: reason.map(|reason| reason.name().to_owned()),
        service: service.map(|key| key.to_string()),
        backend: backend.map(|key| key.to_string()),
        to_node: node.map(|node| node.to_string()),
        to_interface: to_ifindex.map(interface_name),
        vni,
        text,
    }
}

/// A node whose agent does not run: what its state directory, its pins and its holder say.
pub struct Offline {
    record: NodeRecord,
    plan: Plan,
    links: LinkReconciler,
    datapath: Datapath,
    ports: BTreeMap<HeldPort, PortHold>,
    resolvers: BTreeMap<u64, ResolverPorts>,
}

impl Offline {
    /// Opens what the last agent of this state directory left. Changes nothing.
    ///
    /// # Errors
    /// [`LookError`] where there is nothing, or this process may not look.
    pub fn open(state_dir: &StateDir) -> Result<Self, LookError> {
        let path = || state_dir.path().to_owned();
        let record = state_dir
            .record()?
            .ok_or_else(|| LookError::NoAgent { path: path() })?;
        let node = NodeName::new(&record.node)?;
        let (copy, text) = state_dir.catalog()?.ok_or(LookError::NoPlan)?;
        let mut follower = Follower::new(node.clone());
        follower.hear(state_dir.reported()?).map_err(LookError::Plan)?;
        follower.take(&copy, &text)?;
        let plan = follower.into_current().ok_or(LookError::NoPlan)?;
        let links = LinkReconciler::open(HostOptions {
            node,
            uplinks: record.uplinks.clone(),
        })?;
        let datapath = Datapath::open_existing(&record.pin_dir())?;
        // It outlives the agent.
        let mut holder = HolderClient::connect(&state_dir.holder_socket()).ok().flatten();
        let resolvers = holder.as_mut().and_then(|holder| held_ports(holder).ok());
        let ports = ports(holder, &plan.desired);
        Ok(Self {
            record,
            plan,
            links,
            datapath,
            ports,
            resolvers: resolvers.unwrap_or_default(),
        })
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn status(&mut self) -> Result<Status, LookError> {
        self.scene(status)
    }

    /// What differs from the plan.
    ///
    /// # Errors
    /// [`LookError`] where it cannot be told.
    pub fn verify(&mut self) -> Result<Vec<String>, LookError> {
        self.scene(verify)
    }

    /// What would become of a packet.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn trace(&mut self, question: &TraceQuestion) -> Result<Vec<TraceStep>, LookError> {
        self.scene(|scene| trace(scene, question))
    }

    /// How the agent was started.
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    fn scene<T>(
        &mut self,
        with: impl FnOnce(&mut Scene<'_>) -> Result<T, LookError>,
    ) -> Result<T, LookError> {
        let denied = self
            .ports
            .iter()
            .filter(|(_, hold)| !hold.is_served())
            .map(|(port, _)| *port)
            .collect();
        let reduced = PortFilter::default().reduce(&self.plan.desired, &denied);
        with(&mut Scene {
            plan: &self.plan,
            reduced: &reduced,
            links: &self.links,
            datapath: &mut self.datapath,
            ports: &self.ports,
            resolvers: &self.resolvers,
            members: None,
            ipsec: Vec::new(),
            ipsec_differences: Vec::new(),
            checks: BTreeMap::new(),
            counters: BTreeMap::new(),
            problems: Vec::new(),
            agent: None,
        })
    }
}

/// What the holder says of the ports.
fn ports(holder: Option<HolderClient>, desired: &DesiredState) -> BTreeMap<HeldPort, PortHold> {
    let held = holder
        .and_then(|mut holder| holder.list().ok())
        .unwrap_or_default();
    let state = |port: &HeldPort| {
        if held.contains(port) {
            PortHold::Held
        } else if port.protocol == Protocol::Sctp && !held.is_empty() {
            PortHold::Unsupported
        } else {
            PortHold::Unknown
        }
    };
    published_ports(desired)
        .into_iter()
        .map(|port| (port, state(&port)))
        .collect()
}
