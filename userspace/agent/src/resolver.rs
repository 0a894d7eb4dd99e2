//! The resolver of the node's tasks: its sockets in their namespaces, which the holder keeps over restarts, and what it
//! answers from.

use crate::follow::Plan;
use crate::holder::{HolderClient, HolderError};
use crate::plane::Plane;
use crate::state_dir::{StateDir, StateDirError};
use essaim_abi::{DnsAnswer, DnsKey};
use essaim_datapath::{AnswerStore, DatapathError};
use essaim_dns::{
    AskerId, AskerInfo, DnsServer, KernelAnswers, OpenError, ServerError, open_sockets, resolv_conf,
    upstreams_of,
};
use essaim_model::{AttachmentKey, NodeFacts, ResolverPorts, Service, Task, TaskId};
use essaim_netlink::{NetnsError, NetnsRef, netns_cookie};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Where the node's own upstream servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why a task has no resolver.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolverError {
    /// Its namespace cannot be entered.
    #[error("task {task} has no resolver")]
    Netns {
        /// The task.
        task: TaskId,
        /// Why.
        source: NetnsError,
    },
    /// Its sockets could not be opened.
    #[error("task {task} has no resolver")]
    Open {
        /// The task.
        task: TaskId,
        /// Why.
        source: OpenError,
    },
    /// Its sockets do not say where they are, or cannot be shared.
    #[error("task {task} has no resolver: its sockets do not serve")]
    Sockets {
        /// The task.
        task: TaskId,
        /// The system's reason.
        source: io::Error,
    },
    /// The server does not take it.
    #[error("task {task} has no resolver")]
    Server {
        /// The task.
        task: TaskId,
        /// Why.
        source: ServerError,
    },
    /// The kernel does not answer for it: all questions of the task go to its sockets.
    #[error("the questions of task {task} are all answered by the agent, none in the kernel")]
    Kernel {
        /// The task.
        task: TaskId,
        /// Why.
        source: DatapathError,
    },
    /// The holder does not keep its sockets: a restart of the agent would close them.
    #[error("the sockets of the tasks' resolver are not kept over a restart")]
    Holder(#[from] HolderError),
    /// A `resolv.conf` could not be written.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
}

/// The resolver, and the namespaces that it listens in.
#[derive(Debug)]
pub(crate) struct Resolver {
    server: DnsServer,
    /// By the cookie of the namespace.
    askers: BTreeMap<u64, Asker>,
    upstreams: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Asker {
    info: AskerInfo,
    ports: ResolverPorts,
    /// For a holder that has lost them.
    sockets: Sockets,
}

/// The answers that the kernel gives.
#[derive(Debug)]
struct InKernel(AnswerStore);

impl KernelAnswers for InKernel {
    fn generation(&self) -> io::Result<u64> {
        self.0.generation().map_err(io::Error::other)
    }

    fn set_generation(&self, generation: u64) -> io::Result<()> {
        self.0.set_generation(generation).map_err(io::Error::other)
    }

    fn renew(&self, lease: Duration) -> io::Result<()> {
        self.0.renew(lease).map_err(io::Error::other)
    }

    fn insert(&self, key: &DnsKey, answer: &DnsAnswer) -> io::Result<()> {
        self.0.insert(key, answer).map_err(io::Error::other)
    }
}

/// The sockets in one namespace.
#[derive(Debug)]
struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    fn ports(&self) -> io::Result<ResolverPorts> {
        Ok(ResolverPorts {
            udp: self.udp.local_addr()?.port(),
            tcp: self.tcp.local_addr()?.port(),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            udp: self.udp.try_clone()?,
            tcp: self.tcp.try_clone()?,
        })
    }
}

impl Resolver {
    /// Starts the server, with nobody to serve. It asks upstream servers from the calling thread's namespace.
    pub(crate) fn start() -> Result<Self, ServerError> {
        Ok(Self {
            server: DnsServer::start()?,
            askers: BTreeMap::new(),
            upstreams: Vec::new(),
        })
    }

    /// Hands answers to the kernel, from the first names on.
    pub(crate) fn answer_in_kernel(&self, answers: AnswerStore) {
        self.server.answer_in_kernel(Arc::new(InKernel(answers)));
    }

    /// Answers from these names, and asks the upstream servers that the node has now.
    pub(crate) fn set_names(&mut self, plan: &Plan) {
        self.server.set_zone(Arc::clone(&plan.zone));
        // Unreadable is as good as empty: names of the outside fail, and are found again when the file is there.
        let upstreams = upstreams_of(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
        if upstreams != self.upstreams {
            tracing::info!(
                ?upstreams,
                "names of the outside are asked for at the node's servers"
            );
            self.server.set_upstreams(upstreams.clone());
            self.upstreams = upstreams;
        }
    }

    /// Listens in the namespaces of the tasks that have an interface, and says in `facts` where. What fails for one
    /// task does not keep the others from being served.
    pub(crate) fn serve(
        &mut self,
        plan: &Plan,
        facts: &mut NodeFacts,
        mut holder: Option<&mut HolderClient>,
        state_dir: &StateDir,
        plane: &mut Plane,
    ) -> Vec<ResolverError> {
        let mut errors = Vec::new();
        let own = facts.node_netns_cookie;
        let tasks = tasks(plan);
        let mut texts = BTreeMap::new();
        for (key, attachment) in &mut facts.attachments {
            let Some((service, task)) = tasks.get(&key.task) else {
                continue;
            };
            let info = || AskerInfo::of(&plan.catalog, service, task);
            let cookie = attachment.netns_cookie;
            if cookie == 0 {
                continue;
            }
            if !texts.contains_key(&task.id) {
                let outcome = self.ensure(cookie, info(), task, holder.as_deref_mut());
                errors.extend(outcome.err());
                // A task in the node's own namespace shares its loopback with everybody's.
                if let Some(asker) = self.askers.get(&cookie).filter(|_| cookie != own) {
                    errors.extend(answer_in(plane, cookie, task, asker).err());
                }
                texts.insert(task.id.clone(), resolv_conf(&service.dns));
            }
            attachment.resolver = self.askers.get(&cookie).map(|asker| asker.ports);
        }
        let present: BTreeSet<u64> = facts
            .attachments
            .values()
            .map(|found| found.netns_cookie)
            .collect();
        self.askers.retain(|cookie, _| {
            let stays = present.contains(cookie);
            if !stays {
                self.server.remove_asker(AskerId(*cookie));
            }
            stays
        });
        errors.extend(
            holder
                .and_then(|holder| self.keep(holder).err())
                .map(ResolverError::from),
        );
        errors.extend(
            state_dir
                .write_resolv_confs(&texts)
                .err()
                .map(ResolverError::from),
        );
        errors
    }

    /// Serves the tasks whose sockets the holder has kept for an earlier agent, before anything else is looked at: their
    /// questions wait in the sockets. What fails is met again, and told, when [`Resolver::serve`] comes to it.
    pub(crate) fn adopt(&mut self, plan: &Plan, state_dir: &StateDir) {
        let Ok(Some(mut holder)) = HolderClient::connect(&state_dir.holder_socket()) else {
            return;
        };
        let kept: BTreeSet<u64> = holder
            .names()
            .unwrap_or_default()
            .iter()
            .filter_map(|name| cookie_of(name))
            .collect();
        for (service, task) in tasks(plan).into_values() {
            let cookie = NetnsRef::open(&task.netns).and_then(|netns| netns_cookie(&netns));
            if let Ok(cookie) = cookie
                && kept.contains(&cookie)
            {
                let info = AskerInfo::of(&plan.catalog, service, task);
                let outcome = self.ensure(cookie, info, task, Some(&mut holder));
                outcome.unwrap_or_else(|error| tracing::debug!(error = crate::chain(&error), "not adopted"));
            }
        }
    }

    /// Listens in namespaces that were found just now, and says in `facts` where.
    pub(crate) fn open_for(&mut self, plan: &Plan, facts: &mut NodeFacts, found: &BTreeSet<AttachmentKey>) {
        let tasks = tasks(plan);
        for key in found {
            let (Some((service, task)), Some(attachment)) =
                (tasks.get(&key.task), facts.attachments.get_mut(key))
            else {
                continue;
            };
            let Ok(cookie) = NetnsRef::open(&task.netns).and_then(|netns| netns_cookie(&netns)) else {
                continue;
            };
            let info = AskerInfo::of(&plan.catalog, service, task);
            if let Err(error) = self.ensure(cookie, info, task, None) {
                tracing::debug!(error = crate::chain(&error), "a container has no resolver yet");
            }
            attachment.netns_cookie = cookie;
            attachment.resolver = self.askers.get(&cookie).map(|asker| asker.ports);
        }
    }

    /// Serves a namespace, at the sockets that the holder has kept where it has.
    fn ensure(
        &mut self,
        cookie: u64,
        info: AskerInfo,
        task: &Task,
        holder: Option<&mut HolderClient>,
    ) -> Result<(), ResolverError> {
        if let Some(asker) = self.askers.get_mut(&cookie) {
            if asker.info != info {
                self.server.set_asker(AskerId(cookie), info.clone());
                asker.info = info;
            }
            return Ok(());
        }
        let kept = holder.map(|holder| fetch(holder, cookie)).transpose()?.flatten();
        let sockets = match kept {
            Some(kept) => kept,
            None => open(task)?,
        };
        let failed = |source| ResolverError::Sockets {
            task: task.id.clone(),
            source,
        };
        let ports = sockets.ports().map_err(failed)?;
        let Sockets { udp, tcp } = sockets.try_clone().map_err(failed)?;
        self.server
            .add_asker(AskerId(cookie), info.clone(), udp, tcp)
            .map_err(|source| ResolverError::Server {
                task: task.id.clone(),
                source,
            })?;
        self.askers.insert(cookie, Asker { info, ports, sockets });
        Ok(())
    }

    /// Has the holder keep the sockets of exactly the namespaces that are served: a socket keeps its namespace alive.
    fn keep(&self, holder: &mut HolderClient) -> Result<(), HolderError> {
        let held = holder.names()?;
        for name in &held {
            if cookie_of(name).is_some_and(|cookie| !self.askers.contains_key(&cookie)) {
                holder.forget(name)?;
            }
        }
        for (cookie, Asker { sockets, .. }) in &self.askers {
            let [udp, tcp] = names(*cookie);
            if !held.contains(&udp) || !held.contains(&tcp) {
                holder.store(&udp, sockets.udp.as_fd())?;
                holder.store(&tcp, sockets.tcp.as_fd())?;
            }
        }
        Ok(())
    }

    /// Where it listens, by the cookie of the namespace.
    pub(crate) fn ports(&self) -> BTreeMap<u64, ResolverPorts> {
        let ports = self.askers.iter().map(|(cookie, asker)| (*cookie, asker.ports));
        ports.collect()
    }

    /// What was counted since the agent's start.
    pub(crate) fn counted(&self) -> BTreeMap<String, u64> {
        let counters = self.server.counters();
        let named = counters
            .iter()
            .map(|(name, count)| (format!("resolver {}", name.replace('_', " ")), count));
        named.collect()
    }
}

/// Where the resolver of an agent that does not run listens, as the sockets that its holder keeps say.
pub(crate) fn held_ports(holder: &mut HolderClient) -> Result<BTreeMap<u64, ResolverPorts>, HolderError> {
    let mut found = BTreeMap::new();
    let cookies: BTreeSet<u64> = holder
        .names()?
        .iter()
        .filter_map(|name| cookie_of(name))
        .collect();
    for cookie in cookies {
        if let Some(sockets) = fetch(holder, cookie)?
            && let Ok(ports) = sockets.ports()
        {
            found.insert(cookie, ports);
        }
    }
    Ok(found)
}

/// Says in facts of the links where the resolver listens.
pub(crate) fn fill_in(facts: &mut NodeFacts, ports: &BTreeMap<u64, ResolverPorts>) {
    for attachment in facts.attachments.values_mut() {
        attachment.resolver = ports.get(&attachment.netns_cookie).copied();
    }
}

fn tasks(plan: &Plan) -> BTreeMap<TaskId, (&Service, &Task)> {
    let attached: BTreeSet<&TaskId> = plan
        .desired
        .services
        .values()
        .flat_map(|service| service.attachments.keys())
        .map(|AttachmentKey { task, .. }| task)
        .collect();
    let services = plan.catalog.services.iter();
    let tasks = services.flat_map(|service| service.tasks.iter().map(move |task| (service, task)));
    tasks
        .filter(|(_, task)| attached.contains(&task.id))
        .map(|(service, task)| (task.id.clone(), (service, task)))
        .collect()
}

/// Has the kernel answer in the namespace of a task that is served.
fn answer_in(plane: &mut Plane, cookie: u64, task: &Task, asker: &Asker) -> Result<(), ResolverError> {
    let netns = NetnsRef::open(&task.netns).map_err(|source| ResolverError::Netns {
        task: task.id.clone(),
        source,
    })?;
    let answered = plane
        .datapath_mut()
        .answer_task(cookie, netns.as_fd(), asker.sockets.udp.as_fd());
    answered.map_err(|source| ResolverError::Kernel {
        task: task.id.clone(),
        source,
    })
}

fn open(task: &Task) -> Result<Sockets, ResolverError> {
    let netns = NetnsRef::open(&task.netns).map_err(|source| ResolverError::Netns {
        task: task.id.clone(),
        source,
    })?;
    let opened = open_sockets(netns.as_fd()).map_err(|source| ResolverError::Open {
        task: task.id.clone(),
        source,
    });
    opened.map(|(udp, tcp)| Sockets { udp, tcp })
}

/// The names that the holder keeps a namespace's sockets under.
fn names(cookie: u64) -> [String; 2] {
    ["udp", "tcp"].map(|protocol| format!("{PREFIX}{protocol}/{cookie}"))
}

const PREFIX: &str = "resolver/";

fn cookie_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split_once('/')?.1.parse().ok()
}

fn fetch(holder: &mut HolderClient, cookie: u64) -> Result<Option<Sockets>, HolderError> {
    let [udp, tcp] = names(cookie).map(|name| holder.fetch(&name));
    Ok(match (udp?, tcp?) {
        (Some(udp), Some(tcp)) => Some(Sockets {
            udp: udp.into(),
            tcp: tcp.into(),
        }),
        // Half of a pair, from an agent that was killed between the two: opened anew.
        (_, _) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets_read_back_and_others_are_left_alone() {
        for name in names(u64::MAX) {
            assert_eq!(cookie_of(&name), Some(u64::MAX));
        }
        for other in ["gossip/udp", "resolver/udp", "resolver/udp/x", "pipe"] {
            assert_eq!(cookie_of(other), None, "{other}");
        }
    }
}
