use super::{PlanError, Planner};
use crate::maglev::{Membership, TableBuilder};
use crate::{
    AddressKind, AddressPlan, Affinity, AttachmentKey, AttachmentPlan, BackendKey, BackendPlan, Endpoint,
    GroupPlan, HISTORY_GENERATIONS, Network, NetworkName, Node, NodeState, Port, PortMode, PublishedPort,
    ReturnPath, Scope, Service, ServiceKey, ServiceNetwork, ServicePlan, Task, TaskId, TaskState, Vni,
};
use essaim_abi::MacAddr;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A task with what liveness says of it.
struct Member<'p> {
    task: &'p Task,
    node: &'p Node,
    state: TaskState,
    /// On this node.
    here: bool,
}

impl Member<'_> {
    /// Whether the catalog, without liveness, would have it take traffic.
    fn is_said_ready(&self) -> bool {
        self.task.state == TaskState::Ready && self.node.state == NodeState::Up
    }
}

/// Tasks of a group, with the network of the endpoint that each is reached through.
type Reached<'p> = BTreeMap<&'p TaskId, &'p NetworkName>;

/// Plans one service.
pub(super) struct ServicePlanner<'p> {
    planner: &'p Planner<'p>,
    service: &'p Service,
    members: Vec<Member<'p>>,
    tables: TableBuilder,
    plan: ServicePlan,
}

impl<'p> ServicePlanner<'p> {
    pub(super) fn new(planner: &'p Planner<'p>, service: &'p Service) -> Result<Self, PlanError> {
        let members = service.tasks.iter().map(|task| {
            let Some(node) = planner.nodes.get(&task.node).copied() else {
                return Err(PlanError::UnknownNode {
                    task: task.id.clone(),
                    node: task.node.clone(),
                });
            };
            let state = planner.liveness.state_of(task);
            Ok(Member {
                task,
                node,
                state,
                here: node.name == planner.node.name,
            })
        });
        Ok(Self {
            planner,
            service,
            members: members.collect::<Result<_, _>>()?,
            tables: TableBuilder::default(),
            plan: ServicePlan::default(),
        })
    }

    pub(super) fn plan(mut self) -> Result<ServicePlan, PlanError> {
        for member in std::mem::take(&mut self.members) {
            self.endpoints(&member)?;
            self.members.push(member);
        }
        let service = self.service;
        for network in &service.networks {
            self.vips(network)?;
        }
        self.ingress();
        self.host();
        Ok(self.plan)
    }

    fn network(&self, name: &NetworkName, what: impl FnOnce() -> String) -> Result<&'p Network, PlanError> {
        let unknown = || PlanError::UnknownNetwork {
            what: what(),
            network: name.clone(),
        };
        self.planner.network(name).ok_or_else(unknown)
    }

    /// The endpoint of a task's default routes.
    fn default_endpoint<'t>(&self, task: &'t Task) -> Option<&'t Endpoint> {
        let is_internal =
            |name: &NetworkName| self.planner.network(name).is_some_and(|network| network.internal);
        self.service.default_endpoint(task, is_internal)
    }

    /// The default routes' endpoint first, the others in their own order.
    fn in_order<'t>(&self, task: &'t Task) -> Vec<&'t Endpoint> {
        let default = self.default_endpoint(task).map(|default| &default.network);
        let mut endpoints: Vec<&Endpoint> = task.endpoints.iter().collect();
        endpoints.sort_by_key(|endpoint| Some(&endpoint.network) != default);
        endpoints
    }

    fn endpoints(&mut self, member: &Member<'_>) -> Result<(), PlanError> {
        let Member {
            task,
            node,
            state,
            here,
        } = *member;
        let endpoints = self.in_order(task);
        let networks = endpoints.iter().map(|endpoint| {
            let network = self.network(&endpoint.network, || format!("task {}", task.id))?;
            Ok(network.vni)
        });
        let networks = networks.collect::<Result<BTreeSet<Vni>, PlanError>>()?;
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let network = self.network(&endpoint.network, || format!("task {}", task.id))?;
            let key = BackendKey {
                task: task.id.clone(),
                network: endpoint.network.clone(),
            };
            let attachment = AttachmentKey {
                task: task.id.clone(),
                network: endpoint.network.clone(),
            };
            let attached = here && state != TaskState::Gone;
            let kind = match state {
                TaskState::Gone => AddressKind::Tombstone,
                TaskState::Starting | TaskState::Ready | TaskState::Draining if here => {
                    AddressKind::Local(attachment.clone(), key.clone())
                }
                TaskState::Starting | TaskState::Ready | TaskState::Draining => {
                    AddressKind::Remote(node.address, key.clone())
                }
            };
            let mac = endpoint.mac();
            for address in &endpoint.addresses {
                let kind = kind.clone();
                let plan = AddressPlan {
                    vni: network.vni,
                    kind,
                    mac,
                    encrypted: network.encrypted,
                };
                self.plan.addresses.insert(*address, plan);
            }
            if attached {
                let plan = attachment_plan(task, state, endpoint, network, index, &networks)?;
                self.plan.attachments.insert(attachment.clone(), plan);
            }
            let backend = BackendPlan {
                node: node.name.clone(),
                vtep: node.address,
                vni: network.vni,
                addresses: endpoint.addresses.clone(),
                mac,
                state,
                attachment: attached.then_some(attachment),
            };
            self.plan.backends.insert(key, backend);
        }
        Ok(())
    }

    fn vips(&mut self, member: &ServiceNetwork) -> Result<(), PlanError> {
        let network = self.network(&member.name, || format!("service {}", self.service.name))?;
        if member.vips.is_empty() {
            return Ok(());
        }
        let key = ServiceKey {
            service: self.service.name.clone(),
            scope: Scope::Network(member.name.clone()),
        };
        for vip in &member.vips {
            let kind = AddressKind::Vip(key.clone());
            // Packets to a VIP are rewritten wherever they are seen: no device has its address.
            let mac = MacAddr::GATEWAY;
            let plan = AddressPlan {
                vni: network.vni,
                kind,
                mac,
                encrypted: network.encrypted,
            };
            self.plan.addresses.insert(*vip, plan);
        }
        let maglev = self.service.affinity == Affinity::Client;
        let reached = self.reached(|task| {
            let mut endpoints = task.endpoints.iter();
            endpoints.find(|endpoint| endpoint.network == member.name)
        });
        self.group(key, member.vips.clone(), &reached, network.vni, maglev, |_| true);
        Ok(())
    }

    fn ingress(&mut self) {
        self.published(Scope::Ingress, PortMode::Ingress, |_| true);
    }

    /// Published where a task is, for the tasks that are there.
    fn host(&mut self) {
        if self
            .members
            .iter()
            .any(|member| member.here && member.state != TaskState::Gone)
        {
            self.published(Scope::HostPort, PortMode::Host, |member| member.here);
        }
    }

    fn published(&mut self, scope: Scope, mode: PortMode, include: impl Fn(&Member<'_>) -> bool) {
        let service = self.service;
        let mut ports = service.ports.iter().filter(|port| port.mode == mode).peekable();
        if ports.peek().is_none() {
            return;
        }
        let key = ServiceKey {
            service: service.name.clone(),
            scope,
        };
        for Port {
            published,
            target,
            protocol,
            mode,
            replies,
            name: _,
        } in ports.copied()
        {
            let port = PublishedPort {
                group: key.clone(),
                target,
                host: mode == PortMode::Host,
                dsr: replies == ReturnPath::Dsr,
            };
            self.plan.published.insert((protocol, published), port);
        }
        let reached = self.reached(|task| self.default_endpoint(task));
        self.group(
            key,
            Vec::new(),
            &reached,
            self.planner.ingress_vni(),
            true,
            include,
        );
    }

    /// The tasks that have such an endpoint, with its network.
    fn reached(&self, through: impl Fn(&'p Task) -> Option<&'p Endpoint>) -> Reached<'p> {
        let members = self.members.iter().map(|member| member.task);
        members
            .filter_map(|task| Some((&task.id, &through(task)?.network)))
            .collect()
    }

    fn group(
        &mut self,
        key: ServiceKey,
        vips: Vec<IpAddr>,
        reached: &Reached<'p>,
        vni: Vni,
        maglev: bool,
        include: impl Fn(&Member<'_>) -> bool,
    ) {
        let mut networks = reached.values().filter_map(|name| self.planner.network(name));
        let encrypted = networks.any(|network| network.encrypted);
        let membership = self.membership(reached, include);
        let maglev = maglev.then(|| Arc::new(self.tables.build(&membership)));
        let mut active = membership.active;
        active.sort_unstable();
        let group = GroupPlan {
            vips,
            vni,
            affinity: self.service.affinity == Affinity::Client,
            encrypted,
            timeouts: self.service.timeouts,
            active,
            maglev,
        };
        self.plan.groups.insert(key, group);
    }

    /// Who may own slots of a group of these tasks.
    fn membership(&self, reached: &Reached<'p>, include: impl Fn(&Member<'_>) -> bool) -> Membership {
        // A task that has left the catalog is taken to have been where one of those is that are left.
        let elsewhere = NetworkName::ingress();
        let left = reached.values().next().copied().unwrap_or(&elsewhere);
        let key = |task: &TaskId| BackendKey {
            task: task.clone(),
            network: reached.get(task).copied().unwrap_or(left).clone(),
        };
        let members = self
            .members
            .iter()
            .filter(|member| reached.contains_key(&member.task.id));
        let included: BTreeMap<&TaskId, bool> = members
            .clone()
            .map(|member| (&member.task.id, include(member)))
            .collect();
        let members: Vec<&Member<'_>> = members.filter(|member| include(member)).collect();
        let in_state = |state: TaskState| {
            let members = members.iter().filter(move |member| member.state == state);
            members.map(|member| &member.task.id)
        };
        let recorded = self.service.history.iter().take(HISTORY_GENERATIONS);
        let recorded: Vec<&Vec<TaskId>> = recorded.collect();
        let is_recorded = |task: &TaskId| recorded.iter().any(|generation| generation.contains(task));
        let ready: Vec<BackendKey> = in_state(TaskState::Ready).map(key).collect();
        // Nobody wrote down that these were ready: the likeliest past is today's set with them in it, the draining
        // ones first, because their flows live.
        let mut unrecorded = Vec::new();
        let mut past = ready.clone();
        for state in [TaskState::Draining, TaskState::Gone] {
            let before = past.len();
            past.extend(in_state(state).filter(|task| !is_recorded(task)).map(key));
            if past.len() > before {
                unrecorded.push(past.clone());
            }
        }
        let seen = self.planner.liveness.seen.get(&self.service.name);
        // A task that has left the catalog may have been of any group; one that is there and is of another is left out.
        let of_group = |task: &&TaskId| included.get(*task).copied().unwrap_or(!self.is_known(task));
        let of_groups = |generation: &Vec<TaskId>| generation.iter().filter(of_group).map(key).collect();
        let seen: Vec<Vec<BackendKey>> = seen.into_iter().flatten().map(of_groups).collect();
        let recorded = recorded.into_iter().map(of_groups);
        // Whom the catalog calls ready was ready, as far as all nodes know alike, until liveness said otherwise.
        let said = members.iter().filter(|member| member.is_said_ready());
        let said: Vec<BackendKey> = said.map(|member| key(&member.task.id)).collect();
        let written: Vec<Vec<BackendKey>> = std::iter::once(said).chain(recorded).collect();
        // Nobody writes down what liveness says: a set may have become smaller before the next was written. A node that
        // was there has seen it; for one that was not, it follows from what all know.
        let draining: BTreeSet<BackendKey> = in_state(TaskState::Draining).map(key).collect();
        let gone: BTreeSet<BackendKey> = in_state(TaskState::Gone).map(key).collect();
        let less = |generation: &Vec<BackendKey>, out: &[&BTreeSet<BackendKey>]| {
            let left = generation
                .iter()
                .filter(|task| !out.iter().any(|out| out.contains(task)));
            left.cloned().collect::<Vec<_>>()
        };
        let written = written.into_iter().flat_map(|generation| {
            [
                less(&generation, &[&draining, &gone]),
                less(&generation, &[&gone]),
                generation,
            ]
        });
        Membership {
            active: ready,
            draining: draining.iter().cloned().collect(),
            generations: seen.into_iter().chain(unrecorded).chain(written).collect(),
        }
    }

    fn is_known(&self, task: &TaskId) -> bool {
        self.members.iter().any(|member| member.task.id == *task)
    }
}

fn attachment_plan(
    task: &Task,
    state: TaskState,
    endpoint: &Endpoint,
    network: &Network,
    index: usize,
    networks: &BTreeSet<Vni>,
) -> Result<AttachmentPlan, PlanError> {
    let with_subnet = endpoint.addresses.iter().map(|address| {
        let subnet = network
            .subnets
            .iter()
            .copied()
            .find(|subnet| subnet.contains(address));
        let outside = || PlanError::OutsideSubnet {
            task: task.id.clone(),
            address: *address,
            network: network.name.clone(),
        };
        let subnet = subnet.ok_or_else(outside)?;
        Ok((
            IpNet::new(*address, subnet.prefix_len()).unwrap_or(subnet),
            network.gateway_of(subnet),
        ))
    });
    let (addresses, gateways) = with_subnet.collect::<Result<(Vec<_>, Vec<_>), PlanError>>()?;
    Ok(AttachmentPlan {
        task: task.id.clone(),
        netns: task.netns.clone(),
        handover: task.handover,
        interface: endpoint
            .interface
            .as_ref()
            .map_or_else(|| format!("eth{index}"), ToString::to_string),
        addresses,
        gateways,
        default_route: index == 0 && endpoint.default_route,
        mac: endpoint.mac(),
        vni: network.vni,
        internal: network.internal,
        encrypted: network.encrypted,
        mtu: network.mtu,
        task_networks: networks.clone(),
        state,
    })
}
